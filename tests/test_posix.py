"""
Tests for L{twisted_peercred.kernels.posix} and L{twisted_peercred.kernels.aix}.
"""

import ctypes
import os
import socket
import sys

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import base
from twisted_peercred.kernels.aix import AIX
from twisted_peercred.kernels.posix import Posix


class Library:
    """
    A C library.

    @param uid: what it says of connected sockets; L{None}: nothing at all.
    @param status: what its function returns.
    @param honest: whether it fails for a socket that is not connected.
    """

    def __init__(self, uid=None, gid=None, status=0, honest=True):
        self._numbers = (uid, gid)
        self._status = status
        self._honest = honest

    def getpeereid(self, descriptor, uid, gid):
        try:
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                sock.getpeername()
        except OSError as error:
            if self._honest:
                ctypes.set_errno(error.errno)
                return -1
        if self._status:
            ctypes.set_errno(13)
        elif self._numbers[0] is not None:
            uid[0], gid[0] = self._numbers
        return self._status


class PosixTests(SynchronousTestCase):
    """
    Tests for L{Posix}.
    """

    def setUp(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def test_connection(self) -> None:
        """
        The effective IDs, unsigned, and nothing else.
        """
        known = Posix(Library(2**31, 2**32 - 2)).connectionCredentials(self.ours)
        self.assertEqual((known.uid, known.gid), (2**31, 2**32 - 2))
        self.assertEqual((known.pid, known.groups), (None, None))

    def test_error(self) -> None:
        """
        An error is never an identity, and is named.
        """
        kernel = Posix(Library(0, 0, status=-1))
        with self.assertRaises(CredentialsUnavailable) as raised:
            kernel.connectionCredentials(self.ours)
        self.assertIn("Permission denied", str(raised.exception))

    def test_nothingWritten(self) -> None:
        """
        A function that says it succeeded and wrote nothing gives nobody, and
        not root.
        """
        self.assertRaises(
            CredentialsUnavailable, Posix(Library()).connectionCredentials, self.ours
        )

    def test_noFunction(self) -> None:
        """
        Without the function there is nothing, and never this process's own IDs;
        so it is in GNU's library.
        """
        self.patch(sys, "platform", "plan9")
        for libc in (None, object()):
            with self.assertRaises(CredentialsUnsupported) as raised:
                Posix(libc)
            self.assertIn("plan9", str(raised.exception))

    def test_noCtypes(self) -> None:
        """
        A Python without ctypes cannot ask.
        """
        self.patch(sys, "modules", {**sys.modules, "ctypes": None})
        self.assertRaises(CredentialsUnsupported, Posix)

    def test_captures(self) -> None:
        """
        There is C{CONNECT} alone.
        """
        kernel = Posix(Library(os.geteuid(), os.getegid()))
        kernel.checkCapture(Capture.CONNECT)
        self.assertRaises(
            CredentialsUnsupported, kernel.checkCapture, Capture.FIRST_MESSAGE
        )

    def test_answersForNobody(self) -> None:
        """
        A library that answers with this process's own IDs, whoever the peer is,
        does so for a socket without a peer too, and is found out.
        """
        kernel = Posix(Library(os.geteuid(), os.getegid(), honest=False))
        with self.assertRaises(CredentialsUnsupported) as raised:
            kernel.checkCapture(Capture.CONNECT)
        self.assertIn("own IDs", str(raised.exception))

    def test_probes(self) -> None:
        """
        The function is tried.
        """
        (probe,) = Posix(Library(5, 6)).probes()
        self.assertEqual(probe.ask(self.ours, self.theirs), "uid=5 gid=6")


class AIXTests(SynchronousTestCase):
    """
    Tests for L{AIX}.
    """

    def test_library(self) -> None:
        """
        The function is in the shared object of this word size, within libc's
        archive.
        """
        loaded = []

        def load(name, **options):
            loaded.append(name)
            return Library(5, 6)

        self.patch(ctypes, "CDLL", load)
        kernel = AIX()
        self.assertEqual(loaded, ["libc.a(shr_64.o)"])
        self.assertEqual(kernel.name, "AIX")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertEqual(kernel.connectionCredentials(ours).uid, 5)
        self.assertIsInstance(kernel, base.BaseKernel)
