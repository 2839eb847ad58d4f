"""
Tests for L{twisted_peercred.kernels.base}.
"""

import os
import socket
import struct
from contextlib import contextmanager
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerCredentials,
)
from twisted_peercred.kernels import Kernel, Message, base
from twisted_peercred.kernels.base import BaseKernel

from .recorded import SOL_SOCKET, Record, RecordedConnection
from .support import openDescriptors

STAMP = (SOL_SOCKET, 5, b"stamp")


def ourselves(**changes) -> PeerCredentials:
    """
    This process.
    """
    numbers = {"uid": os.geteuid(), "gid": os.getegid(), **changes}
    return PeerCredentials(**numbers)


class Stamping(BaseKernel):
    """
    A kernel that vouches for everybody as this very process.
    """

    name = "Stamping"
    scmCredentials = 5
    answer = ourselves()
    lack = None

    def lacks(self, capture):
        return self.lack if capture is Capture.EVERY_MESSAGE else None

    def connectionCredentials(self, sock):
        return self.answer

    def askForMessages(self, sock):
        sock.setsockopt(1, 2, 3)

    def decodeMessage(self, data, capture):
        assert data == b"stamp"
        return self.answer


class ReadingTests(SynchronousTestCase):
    """
    Tests for C{peekMessage} and C{receiveMessage}.
    """

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.kernel = Stamping()

    def connection(self, *records):
        """
        Our end, with what comes in.
        """
        return RecordedConnection(self.ours, {}, records)

    def send(self, data: bytes = b"hello", descriptors: int = 0) -> None:
        """
        Something to read.
        """
        rights = struct.pack("i", self.theirs.fileno()) * descriptors
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.theirs.sendmsg([data], control)

    def test_message(self) -> None:
        """
        The stamp is found by level and type, among others and in any order
        (THREATS K5); the same stamp twice is one.
        """
        self.send()
        recorded = self.connection(
            Record(5, [(0, 5, b"?"), (SOL_SOCKET, 7, b"?"), STAMP, STAMP])
        )
        message = self.kernel.peekMessage(recorded, Capture.FIRST_MESSAGE)
        self.assertEqual(message, Message(b"h", self.kernel.answer, []))
        message = self.kernel.receiveMessage(recorded, 9, False, Capture.EVERY_MESSAGE)
        self.assertEqual(message, Message(b"hello", self.kernel.answer, []))

    def test_noneOrSeveral(self) -> None:
        """
        No stamp, and two that are not the same, are no identity.
        """
        for control in ([], [STAMP, (SOL_SOCKET, 5, b"other")]):
            self.send()
            recorded = self.connection(Record(5, control))
            self.assertRaises(
                CredentialsUnavailable,
                self.kernel.peekMessage,
                recorded,
                Capture.FIRST_MESSAGE,
            )
            self.assertRaises(
                CredentialsUnavailable,
                self.kernel.receiveMessage,
                recorded,
                9,
                True,
                Capture.EVERY_MESSAGE,
            )

    def test_endOfFile(self) -> None:
        """
        The end of the stream is nobody's, whatever comes with it (THREATS K1).
        """

        class Ended:
            def recvmsg(self, *arguments):
                return b"", [STAMP], 0, None

        for message in (
            self.kernel.peekMessage(Ended(), Capture.FIRST_MESSAGE),
            self.kernel.receiveMessage(Ended(), 9, True, Capture.EVERY_MESSAGE),
        ):
            self.assertEqual(message, Message(b"", None, []))

    def test_truncated(self) -> None:
        """
        Where some control data was lost nothing is taken from the rest of it,
        in each way to read; the descriptors that did come are closed (THREATS
        K4).
        """
        before = openDescriptors()
        truncated = Record(None, [STAMP], socket.MSG_CTRUNC)
        self.send(descriptors=2)
        recorded = self.connection(truncated)
        self.assertRaises(
            CredentialsTruncated,
            self.kernel.peekMessage,
            recorded,
            Capture.FIRST_MESSAGE,
        )
        for descriptors in (True, False):
            for capture in (None, Capture.EVERY_MESSAGE):
                self.send(descriptors=2)
                self.assertRaises(
                    CredentialsTruncated,
                    self.kernel.receiveMessage,
                    recorded,
                    5,
                    descriptors,
                    capture,
                )
        self.assertEqual(openDescriptors(), before)

    def test_descriptors(self) -> None:
        """
        Descriptors are given to those who want them, and closed otherwise, or
        where their sender is not known (THREATS A8).
        """
        before = openDescriptors()
        for wanted, capture, control, count in (
            (True, None, [], 3),
            (True, Capture.EVERY_MESSAGE, [STAMP], 3),
            (False, Capture.EVERY_MESSAGE, [STAMP], 0),
            (False, None, [], 0),
        ):
            self.send(descriptors=3)
            recorded = self.connection(Record(5, control))
            message = self.kernel.receiveMessage(recorded, 9, wanted, capture)
            self.assertEqual(len(message.descriptors), count)
            self.assertEqual(openDescriptors(), before + count)
            base.closeAll(message.descriptors)
        self.send(descriptors=3)
        self.assertRaises(
            CredentialsUnavailable,
            self.kernel.receiveMessage,
            self.connection(Record(5)),
            9,
            True,
            Capture.EVERY_MESSAGE,
        )
        self.assertEqual(openDescriptors(), before)

    def test_peekedDescriptors(self) -> None:
        """
        What a peek shows in place of descriptors are pointers of the kernel's,
        and is not closed: the number may be that of an open file.
        """
        self.send(descriptors=3)
        recorded = self.connection(Record(5, [STAMP]))
        message = self.kernel.peekMessage(recorded, Capture.FIRST_MESSAGE)
        self.assertEqual(message.descriptors, [])
        os.fstat(self.ours.fileno())

    def test_cutDescriptors(self) -> None:
        """
        A list of descriptors that ends within one has one less.
        """
        received = os.dup(self.ours.fileno())

        class Cut:
            def recvmsg(self, *arguments):
                payload = struct.pack("i", received) + b"\1\2"
                return b"x", [(SOL_SOCKET, 1, payload)], 0, None

        message = self.kernel.receiveMessage(Cut(), 9, True, None)
        self.assertEqual(message.descriptors, [received])
        os.close(received)


class CheckTests(SynchronousTestCase):
    """
    Tests for C{checkCapture}.
    """

    def setUp(self) -> None:
        self.kernel = Stamping()
        self.listeners = []
        self.records = [Record(None, [STAMP])]
        self.options = {(1, 2): b""}
        self.patch(base, "connection", self.connection)
        self.patch(
            os,
            "uname",
            lambda: SimpleNamespace(release="9.8", machine="vax", sysname="?"),
        )

    @contextmanager
    def connection(self, prepare=None):
        """
        One on which the records are read.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            recorded = RecordedConnection(ours, self.options, self.records)
            if prepare:
                prepare(recorded)
                self.listeners.append(recorded.sets)
            yield recorded, theirs

    def refusal(self, capture) -> str:
        """
        What is said of a capture that is not to be had.
        """
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.kernel.checkCapture(capture)
        return str(raised.exception)

    def test_available(self) -> None:
        """
        A capture that works is found to work, the option being set on the
        listener.
        """
        for capture in Capture:
            self.kernel.checkCapture(capture)
        self.assertEqual(self.listeners, [[(1, 2, 3)], [(1, 2, 3)]])

    def test_lacking(self) -> None:
        """
        The error names the kernel, its release, the reason, and what there is
        instead (THREATS K16).
        """
        self.kernel.lack = "it has a hole"
        self.assertEqual(
            self.refusal(Capture.EVERY_MESSAGE),
            "Stamping 9.8 (vax) does not give credentials at every-message to this"
            " process: it has a hole; use Capture.CONNECT or Capture.FIRST_MESSAGE",
        )

    def test_refusedOption(self) -> None:
        """
        So it does where the option cannot be set.
        """
        self.options = {}
        self.assertIn("ENOPROTOOPT", self.refusal(Capture.FIRST_MESSAGE))
        self.kernel.checkCapture(Capture.CONNECT)

    def test_unstamped(self) -> None:
        """
        And where it can be set, and does nothing.
        """
        self.records = [Record()]
        self.assertIn("without credentials", self.refusal(Capture.FIRST_MESSAGE))

    def test_noSockets(self) -> None:
        """
        What could not be tried is not promised.
        """

        def connection(prepare):
            raise FileNotFoundError(2, "No usable temporary directory")

        self.patch(base, "connection", connection)
        self.assertIn("temporary directory", self.refusal(Capture.CONNECT))

    def test_somebodyElse(self) -> None:
        """
        A kernel that takes this process for another has another structure
        than the one that is known.
        """
        self.kernel.answer = ourselves(uid=os.geteuid() + 1)
        self.assertIn("please report", self.refusal(Capture.CONNECT))


class BareTests(SynchronousTestCase):
    """
    Tests for a kernel that vouches for nobody.
    """

    def setUp(self) -> None:
        self.kernel = BaseKernel()
        self.kernel.name = "Bare"

    def test_protocol(self) -> None:
        """
        It has every method that a server calls.
        """
        for name in vars(Kernel):
            if not name.startswith("_"):
                self.assertTrue(callable(getattr(self.kernel, name)), name)

    def test_nothing(self) -> None:
        """
        It gives nothing, and says so.
        """
        self.assertRaises(
            CredentialsUnavailable, self.kernel.connectionCredentials, None
        )
        self.assertRaises(
            CredentialsUnavailable, self.kernel.decodeMessage, b"", Capture.CONNECT
        )
        self.assertRaises(CredentialsUnsupported, self.kernel.askForMessages, None)
        self.assertEqual(self.kernel.probes(), ())
        self.assertIsNone(self.kernel.setDescriptorsWanted(None, False))
        for capture in Capture:
            self.assertRaises(CredentialsUnsupported, self.kernel.checkCapture, capture)

    def test_noneInstead(self) -> None:
        """
        Where nothing weaker is left to recommend, nothing is recommended.
        """
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.kernel.checkCapture(Capture.CONNECT)
        self.assertIn("look for a jail or a sandbox", str(raised.exception))

    def test_credentialsToSend(self) -> None:
        """
        A sender attaches nothing, and cannot choose who it is.
        """
        self.assertEqual(self.kernel.credentialsToSend(), [])
        for chosen in ({"pid": 1}, {"uid": 0}, {"gid": 0}):
            with self.assertRaises(CredentialsUnsupported) as raised:
                self.kernel.credentialsToSend(**chosen)
            self.assertIn("Bare", str(raised.exception))
