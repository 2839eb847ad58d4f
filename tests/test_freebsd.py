"""
Tests for L{twisted_peercred.kernels.freebsd}.
"""

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import base
from twisted_peercred.kernels.freebsd import (
    LOCAL_CREDS,
    LOCAL_CREDS_PERSISTENT,
    FreeBSD,
    decodeSockcred,
    decodeSockcred2,
)

from .recorded import (
    SOL_SOCKET,
    Record,
    RecordedConnection,
    RecordedKernel,
    payload,
    vector,
)

FIRST = Capture.FIRST_MESSAGE
EVERY = Capture.EVERY_MESSAGE

#: The options of FreeBSD from 13, and before.
OPTIONS = {(0, LOCAL_CREDS): 0, (0, LOCAL_CREDS_PERSISTENT): 0}
OLD_OPTIONS = {(0, LOCAL_CREDS): 0}


def sockcred2(uid=1002, groups=(7,), version=0, order="=", pid=8) -> bytes:
    """
    C{struct sockcred2}.
    """
    return struct.pack(
        f"{order}Ii4Ii{len(groups)}I",
        *(version, pid, 1001, uid, 2001, 2002, len(groups)),
        *groups,
    )


def sockcred(groups=(7,), order="=") -> bytes:
    """
    C{struct sockcred}.
    """
    return struct.pack(
        f"{order}4Ii{len(groups)}I", 1001, 1002, 2001, 2002, len(groups), *groups
    )


class DecoderTests(SynchronousTestCase):
    """
    Tests for L{decodeSockcred} and L{decodeSockcred2}.
    """

    def test_fields(self) -> None:
        """
        Effective and real IDs, and the effective gid among the groups whether
        the kernel lists it or not, in either byte order.
        """
        for order in "<>":
            for groups in ((7,), (2002, 7), (7, 2002)):
                for known, pid in (
                    (decodeSockcred(sockcred(groups, order), FIRST, order), None),
                    (
                        decodeSockcred2(
                            sockcred2(groups=groups, order=order), FIRST, order
                        ),
                        8,
                    ),
                ):
                    self.assertEqual((known.uid, known.gid), (1002, 2002))
                    self.assertEqual((known.realUID, known.realGID), (1001, 2001))
                    self.assertEqual((known.groups, known.pid), ((7, 2002), pid))
                    self.assertIs(known.capture, FIRST)

    def test_manyGroups(self) -> None:
        """
        16 groups are not known to be all (THREATS K12a).
        """
        for count, complete in ((0, True), (15, True), (16, False), (17, False)):
            groups = range(1, count + 1)
            for known in (
                decodeSockcred(sockcred(groups), FIRST),
                decodeSockcred2(sockcred2(groups=groups), FIRST),
            ):
                self.assertEqual(known.groups is not None, complete)

    def test_version(self) -> None:
        """
        Another version is another structure.
        """
        self.assertRaises(
            CredentialsUnavailable, decodeSockcred2, sockcred2(version=1), FIRST
        )


class FreeBSDTests(SynchronousTestCase):
    """
    Tests for L{FreeBSD}.
    """

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def connection(self, options, *records):
        """
        Our end, with what comes in.
        """
        return RecordedConnection(self.ours, options, records)

    def stamp(self, data, kind=8, length=None):
        """
        A message that came with such credentials.
        """
        return Record(length, [(SOL_SOCKET, kind, data)])

    def test_connection(self) -> None:
        """
        C{struct xucred} is as long as this kernel's word size makes it.
        """
        data = vector("FreeBSD 15", "accepted")
        known = FreeBSD(pointerSize=8).connectionCredentials(
            self.connection({(0, 1): data})
        )
        self.assertEqual((known.uid, known.pid), (1002, 8))
        kernel = FreeBSD(pointerSize=4)
        data = data[:76] + data[80:84]
        known = kernel.connectionCredentials(self.connection({(0, 1): data}))
        self.assertEqual((known.uid, known.pid), (1002, 8))

    def test_oldConnection(self) -> None:
        """
        The pid of FreeBSD 12 is 0, which is not known.
        """
        known = FreeBSD(pointerSize=8).connectionCredentials(
            self.connection({(0, 1): vector("FreeBSD 12", "accepted")})
        )
        self.assertEqual((known.uid, known.pid), (1002, None))

    def test_persistent(self) -> None:
        """
        C{LOCAL_CREDS_PERSISTENT} is preferred, and then C{SCM_CREDS2} is the
        word of the kernel: a C{SCM_CREDS} beside it is the sender's own, and
        alone it is nothing (THREATS K12).
        """
        kernel = FreeBSD()
        control = [
            (SOL_SOCKET, 3, bytes(84)),
            (SOL_SOCKET, 8, sockcred2()),
            (SOL_SOCKET, 3, bytes(84)),
        ]
        recorded = self.connection(
            OPTIONS, Record(1, control), self.stamp(bytes(84), 3)
        )
        kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [(0, LOCAL_CREDS_PERSISTENT, 1)])
        self.theirs.send(b"12")
        message = kernel.receiveMessage(recorded, 9, False, FIRST)
        self.assertEqual(message.credentials.uid, 1002)
        self.assertRaises(CredentialsUnavailable, kernel.peekMessage, recorded, FIRST)

    def test_oneShot(self) -> None:
        """
        Where the kernel does not know it, C{LOCAL_CREDS} stamps the first
        message.
        """
        kernel = FreeBSD()
        recorded = self.connection(OLD_OPTIONS, self.stamp(sockcred(), 3))
        kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [(0, LOCAL_CREDS, 1)])
        self.theirs.send(b"x")
        known = kernel.peekMessage(recorded, FIRST).credentials
        self.assertEqual((known.uid, known.realUID), (1002, 1001))
        # It is not looked for twice.
        kernel.askForMessages(self.connection(OPTIONS))
        self.assertEqual(kernel.scmCredentials, 3)

    def test_otherError(self) -> None:
        """
        An option that is there and cannot be set is an error, no reason to
        make do with less.
        """
        kernel = FreeBSD()
        failing = {(0, LOCAL_CREDS_PERSISTENT): OSError(1, "EPERM"), (0, 2): 0}
        recorded = self.connection(failing)
        self.assertRaises(OSError, kernel.askForMessages, recorded)
        self.assertEqual(recorded.sets, [])

    def test_ambiguous(self) -> None:
        """
        With C{LOCAL_CREDS} a C{SCM_CREDS} that may be the sender's own is
        refused: a sender whose pid is anybody's uid is not that
        user (THREATS K12).
        """
        forged = struct.pack("=iIIIh2x16I", 1, 1, 1, 1, 16, *range(16))
        for each in (
            payload("FreeBSD 12", "no option"),
            forged,
            sockcred(range(16)),
        ):
            kernel = FreeBSD(LOCAL_CREDS)
            recorded = self.connection(OLD_OPTIONS, self.stamp(each, 3))
            kernel.askForMessages(recorded)
            self.theirs.send(b"x")
            with self.assertRaises(CredentialsUnavailable) as raised:
                kernel.peekMessage(recorded, FIRST)
            self.assertIn("Capture.CONNECT", str(raised.exception))
            self.ours.recv(1)

    def test_oneShotHasFired(self) -> None:
        """
        A second message has no credentials of the kernel's, and what its sender
        attaches is none (THREATS K12).
        """
        kernel = FreeBSD(LOCAL_CREDS)
        recorded = self.connection(
            OLD_OPTIONS,
            self.stamp(sockcred(), 3, 1),
            self.stamp(payload("FreeBSD 12", "no option"), 3, 1),
            Record(),
        )
        self.theirs.send(b"abc")
        self.assertEqual(
            kernel.receiveMessage(recorded, 1, False, FIRST).credentials.uid, 1002
        )
        for _ in range(2):
            self.assertRaises(
                CredentialsUnavailable,
                kernel.receiveMessage,
                recorded,
                9,
                False,
                FIRST,
            )

    def test_attached(self) -> None:
        """
        Without an option, what senders attach is C{struct cmsgcred}.
        """
        kernel = FreeBSD(None)
        recorded = self.connection(
            OPTIONS, self.stamp(payload("FreeBSD 15", "no option / no option"), 3)
        )
        kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [])
        self.theirs.send(b"x")
        known = kernel.peekMessage(recorded, FIRST).credentials
        self.assertEqual((known.uid, known.realUID, known.pid), (1002, 1001, 8))

    def test_attachedWithOption(self) -> None:
        """
        A socket on which somebody else has set C{LOCAL_CREDS} is not one whose
        C{SCM_CREDS} can be told.
        """
        recorded = self.connection({(0, LOCAL_CREDS): 1})
        self.assertRaises(
            CredentialsUnsupported, FreeBSD(None).askForMessages, recorded
        )

    def test_longMessage(self) -> None:
        """
        The rest of a message that was longer than a read is its writer's; what
        comes after it needs a stamp of its own.
        """
        kernel = FreeBSD()
        recorded = self.connection(
            OPTIONS,
            self.stamp(sockcred2(), length=10),
            self.stamp(sockcred2(uid=5), length=4),
            Record(),
        )
        self.theirs.send(b"0123456789abcd")
        read = []
        for _ in range(4):
            message = kernel.receiveMessage(recorded, 4, False, EVERY)
            read.append((message.data, message.credentials.uid))
        self.assertEqual(
            read, [(b"0123", 1002), (b"4567", 1002), (b"89", 1002), (b"abcd", 5)]
        )

    def test_unstampedAfterShort(self) -> None:
        """
        Bytes without a stamp, where no message was left unfinished, are
        nobody's.
        """
        kernel = FreeBSD()
        recorded = self.connection(OPTIONS, self.stamp(sockcred2(), length=3), Record())
        self.theirs.send(b"abcd")
        kernel.receiveMessage(recorded, 2, False, EVERY)
        kernel.receiveMessage(recorded, 2, False, EVERY)
        self.assertRaises(
            CredentialsUnavailable, kernel.receiveMessage, recorded, 2, False, EVERY
        )

    def test_blockedWithinMessage(self) -> None:
        """
        Having to wait for the rest of a message does not lose its writer.
        """
        kernel = FreeBSD()
        recorded = self.connection(
            OPTIONS,
            self.stamp(sockcred2(), length=2),
            BlockingIOError(),
            Record(),
        )
        self.theirs.send(b"abcd")
        kernel.receiveMessage(recorded, 2, False, EVERY)
        self.assertRaises(
            BlockingIOError, kernel.receiveMessage, recorded, 2, False, EVERY
        )
        message = kernel.receiveMessage(recorded, 2, False, EVERY)
        self.assertEqual(message.credentials.uid, 1002)

    def check(self, options, capture, *records):
        """
        Check a capture on a machine with such options, which gives such
        messages.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        peer = {(0, 1): vector("FreeBSD 12", "accepted")}
        kernel = FreeBSD(pointerSize=8)
        recorded = RecordedKernel(kernel, {**options, **peer}, list(records))
        self.patch(base, "connection", recorded.connection)
        kernel.checkCapture(capture)

    def test_everyMessage(self) -> None:
        """
        C{EVERY_MESSAGE} needs C{LOCAL_CREDS_PERSISTENT}: before FreeBSD 13 it is
        refused when listening starts, and the error says what there is.
        """
        stamp = self.stamp(sockcred(), 3, 1)
        self.check(OLD_OPTIONS, Capture.CONNECT, stamp)
        self.check(OLD_OPTIONS, FIRST, stamp)
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.check(OLD_OPTIONS, EVERY, stamp)
        for word in ("FreeBSD", "FreeBSD 13", "Capture.FIRST_MESSAGE"):
            self.assertIn(word, str(raised.exception))
        stamp = self.stamp(sockcred2(), 8, 1)
        for capture in Capture:
            self.check(OPTIONS, capture, stamp, stamp)

    def test_wayAroundStamp(self) -> None:
        """
        Where sendfile(2) writes without a stamp, as it does from FreeBSD 15,
        C{EVERY_MESSAGE} is refused when listening starts, and nothing else is.
        """
        stamp = self.stamp(sockcred2(), 8, 1)
        self.check(OPTIONS, FIRST, stamp, Record())
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.check(OPTIONS, EVERY, stamp, Record())
        for word in ("sendfile(2)", "Capture.FIRST_MESSAGE"):
            self.assertIn(word, str(raised.exception))

    def test_credentialsToSend(self) -> None:
        """
        A sender attaches an empty C{struct cmsgcred}, which the kernel fills
        in; it cannot choose what is in it.
        """
        self.assertEqual(FreeBSD().credentialsToSend(), [(SOL_SOCKET, 3, bytes(84))])
        self.assertRaises(CredentialsUnsupported, FreeBSD().credentialsToSend, uid=0)

    def test_probes(self) -> None:
        """
        Each option is tried by itself.
        """
        kernel = FreeBSD(pointerSize=8)
        probes = {each.name: each.ask for each in kernel.probes()}
        options = {**OPTIONS, (0, 1): vector("FreeBSD 15", "accepted")}
        for name, stamps in (
            ("LOCAL_PEERCRED", [(8, sockcred2())]),
            ("LOCAL_CREDS", [(3, sockcred())]),
            ("LOCAL_CREDS_PERSISTENT", [(8, sockcred2())]),
            ("SCM_CREDS attached", [(3, payload("FreeBSD 15", "no option / no"))]),
        ):
            records = [self.stamp(data, kind, 1) for kind, data in stamps]
            said = probes.pop(name)(self.connection(options, *records), self.theirs)
            self.assertIn("uid=1002", said)
        self.assertEqual(probes, {})
