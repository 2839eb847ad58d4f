"""
Tests for L{twisted_peercred.kernels.illumos}.
"""

import ctypes
import socket
import struct
from ctypes import POINTER, c_uint32

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import base
from twisted_peercred.kernels.illumos import Illumos

from .recorded import SOL_SOCKET, Record, RecordedConnection, RecordedKernel

FIRST = Capture.FIRST_MESSAGE
FIELDS = ("euid", "ruid", "egid", "rgid", "pid", "count", "group0", "group1")
SIZE = 4 * len(FIELDS)


def ucred(**changes) -> bytes:
    """
    A C{ucred_t} of the library below, whose true form is its own affair.
    """
    numbers = dict(zip(FIELDS, (1002, 1001, 2002, 2001, 8, 2, 7, 9), strict=True))
    numbers.update(changes)
    return struct.pack("=8i", *(numbers[each] for each in FIELDS))


class Function:
    """
    A function that takes the attributes that ctypes' functions have.
    """

    def __init__(self, function):
        self._function = function

    def __call__(self, *arguments):
        return self._function(*arguments)


class Library:
    """
    A C library whose C{ucred_t} is eight ints.

    @param peer: what getpeerucred(3C) gives; L{None}: ENOTCONN.
    @ivar taken: how many structures it made, less those freed.
    """

    def __init__(self, peer=None):
        self._peer = peer
        self.taken = 0
        for index, name in enumerate(FIELDS[:5]):
            setattr(
                self,
                f"ucred_get{name}",
                Function(lambda pointer, index=index: self._read(pointer)[index]),
            )
        for name in ("ucred_free", "ucred_size", "ucred_getgroups"):
            setattr(self, name, Function(getattr(self, "_" + name)))

    def _read(self, pointer):
        address = getattr(pointer, "value", pointer)
        return struct.unpack("=8i", ctypes.string_at(address, SIZE))

    def getpeerucred(self, descriptor, pointer):
        assert pointer[0] is None
        if self._peer is None:
            ctypes.set_errno(107)
            return -1
        self._buffer = ctypes.create_string_buffer(self._peer, SIZE)
        pointer[0] = ctypes.addressof(self._buffer)
        self.taken += 1
        return 0

    def _ucred_free(self, pointer):
        self.taken -= 1

    def _ucred_size(self):
        return SIZE

    def _ucred_getgroups(self, pointer, groups):
        count, *listed = self._read(pointer)[5:]
        if count >= 0:
            self._groups = (c_uint32 * 2)(*listed)
            groups[0] = ctypes.cast(self._groups, POINTER(c_uint32))
        return count


class IllumosTests(SynchronousTestCase):
    """
    Tests for L{Illumos}.
    """

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def ask(self, peer):
        """
        The connect-time credentials of such a peer.
        """
        self.library = Library(peer)
        try:
            return Illumos(self.library).connectionCredentials(self.ours)
        finally:
            self.assertEqual(self.library.taken, 0)

    def test_connection(self) -> None:
        """
        Effective and real IDs, pid and all groups; the structure is freed.
        """
        known = self.ask(ucred())
        self.assertEqual((known.uid, known.gid, known.pid), (1002, 2002, 8))
        self.assertEqual((known.realUID, known.realGID), (1001, 2001))
        self.assertEqual(known.groups, (7, 9, 2002))
        self.assertIs(known.capture, Capture.CONNECT)

    def test_unsigned(self) -> None:
        """
        uid and gid are unsigned (THREATS K6).
        """
        known = self.ask(ucred(euid=-2, egid=-(2**31)))
        self.assertEqual((known.uid, known.gid), (2**32 - 2, 2**31))

    def test_absent(self) -> None:
        """
        -1 is a field that is not there; without effective IDs it is nobody, and
        the structure is freed all the same.
        """
        known = self.ask(ucred(ruid=-1, rgid=-1, pid=-1, count=-1))
        self.assertEqual((known.realUID, known.realGID), (None, None))
        self.assertEqual((known.pid, known.groups), (None, None))
        self.assertEqual(self.ask(ucred(count=0)).groups, (2002,))
        for name in ("euid", "egid"):
            self.assertRaises(CredentialsUnavailable, self.ask, ucred(**{name: -1}))

    def test_error(self) -> None:
        """
        An error is never an identity, and is named.
        """
        with self.assertRaises(CredentialsUnavailable) as raised:
            self.ask(None)
        self.assertIn("not connected", str(raised.exception))

    def connection(self, data, options=((SOL_SOCKET, 0x400),)):
        """
        Our end, with a message that comes in.
        """
        return RecordedConnection(
            self.ours,
            dict.fromkeys(options, 0),
            [Record(1, [(SOL_SOCKET, 0x1012, data)])],
        )

    def test_message(self) -> None:
        """
        C{SO_RECVUCRED} stamps messages with such a structure.
        """
        kernel = Illumos(Library())
        recorded = self.connection(ucred())
        kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [(SOL_SOCKET, 0x400, 1)])
        self.theirs.send(b"x")
        known = kernel.peekMessage(recorded, FIRST).credentials
        self.assertEqual((known.uid, known.realUID, known.pid), (1002, 1001, 8))
        self.assertIs(known.capture, FIRST)

    def test_cutMessage(self) -> None:
        """
        Of a structure that ends too early what is missing is absent, and never
        the zeros of root; one that ends within a number is refused.
        """
        kernel = Illumos(Library())
        for length in (*range(12), *range(13, 16)):
            self.assertRaises(
                CredentialsUnavailable, kernel.decodeMessage, ucred()[:length], FIRST
            )
        known = kernel.decodeMessage(ucred()[:12], FIRST)
        self.assertEqual((known.uid, known.realGID), (1002, None))
        self.assertEqual((known.pid, known.groups), (None, None))
        self.assertIsNone(kernel.decodeMessage(ucred()[:28], FIRST).groups)

    def test_captures(self) -> None:
        """
        Whether messages are stamped is tried when listening starts; that each
        of them is cannot be had.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        kernel = Illumos(Library(ucred()))
        option = {(SOL_SOCKET, 0x400): 0}
        for records, works in (
            ([Record(1, [(SOL_SOCKET, 0x1012, ucred())])], True),
            ([Record()], False),
        ):
            recorded = RecordedKernel(kernel, option, records)
            self.patch(base, "connection", recorded.connection)
            kernel.checkCapture(Capture.CONNECT)
            if works:
                kernel.checkCapture(FIRST)
            else:
                self.assertRaises(CredentialsUnsupported, kernel.checkCapture, FIRST)
            with self.assertRaises(CredentialsUnsupported) as raised:
                kernel.checkCapture(Capture.EVERY_MESSAGE)
            self.assertIn("SunOS", str(raised.exception))

    def test_library(self) -> None:
        """
        The real library is told the types of its functions' arguments: a
        pointer does not fit into an int.
        """
        library = Library(ucred())
        self.patch(ctypes, "CDLL", lambda name, **options: library)
        kernel = Illumos()
        self.assertEqual(kernel.connectionCredentials(self.ours).uid, 1002)
        for name in FIELDS[:5]:
            function = getattr(library, f"ucred_get{name}")
            self.assertEqual(function.argtypes, [ctypes.c_void_p])
        self.assertIs(library.ucred_size.restype, ctypes.c_size_t)

    def test_noLibrary(self) -> None:
        """
        A library without the functions is said to be one.
        """
        with self.assertRaises(CredentialsUnsupported) as raised:
            Illumos(object())
        self.assertIn("getpeerucred", str(raised.exception))

    def test_probes(self) -> None:
        """
        Both are tried.
        """
        kernel = Illumos(Library(ucred()))
        names = []
        for probe in kernel.probes():
            names.append(probe.name)
            said = probe.ask(self.connection(ucred()), self.theirs)
            self.assertIn("uid=1002", said)
        self.assertEqual(names, ["getpeerucred", "SO_RECVUCRED"])
