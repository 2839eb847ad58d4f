"""
Tests for L{twisted_peercred.kernels.openbsd}.
"""

import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import base
from twisted_peercred.kernels.openbsd import OpenBSD, decodeSockpeercred

from .recorded import SOL_SOCKET, RecordedConnection, RecordedKernel

PEER = struct.pack("=IIi", 1002, 2002, 8)


class OpenBSDTests(SynchronousTestCase):
    """
    Tests for L{OpenBSD} and L{decodeSockpeercred}.
    """

    def setUp(self) -> None:
        self.options = {(SOL_SOCKET, 0x1022): PEER}
        self.kernel = OpenBSD()

    def test_decode(self) -> None:
        """
        uid, gid, pid: not Linux's order; in either byte order.
        """
        for order in "<>":
            data = struct.pack(order + "IIi", 2**31, 2**32 - 2, 8)
            known = decodeSockpeercred(data, order)
            self.assertEqual((known.uid, known.gid), (2**31, 2**32 - 2))
            self.assertEqual((known.pid, known.groups), (8, None))
            self.assertRaises(
                CredentialsUnavailable, decodeSockpeercred, data + b"\0", order
            )

    def test_connection(self) -> None:
        """
        C{SO_PEERCRED}; an error is never an identity.
        """
        sock = RecordedConnection(None, self.options, [])
        self.assertEqual(self.kernel.connectionCredentials(sock).uid, 1002)
        self.options[SOL_SOCKET, 0x1022] = OSError(57, "ENOTCONN")
        with self.assertRaises(CredentialsUnavailable) as raised:
            self.kernel.connectionCredentials(sock)
        self.assertIn("ENOTCONN", str(raised.exception))

    def test_captures(self) -> None:
        """
        There is C{CONNECT} alone, and that is said when listening starts.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        recorded = RecordedKernel(self.kernel, self.options)
        self.patch(base, "connection", recorded.connection)
        self.kernel.checkCapture(Capture.CONNECT)
        for capture in (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE):
            with self.assertRaises(CredentialsUnsupported) as raised:
                self.kernel.checkCapture(capture)
            self.assertIn("OpenBSD", str(raised.exception))
            self.assertIn("use Capture.CONNECT", str(raised.exception))

    def test_probes(self) -> None:
        """
        The option is tried.
        """
        (probe,) = self.kernel.probes()
        self.assertEqual(probe.name, "SO_PEERCRED")
        said = probe.ask(RecordedConnection(None, self.options, []), None)
        self.assertEqual(said, "uid=1002 gid=2002 pid=8")
