"""
Tests for L{twisted_peercred.kernels.darwin}.
"""

import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import base
from twisted_peercred.kernels.darwin import Darwin

from .recorded import RecordedConnection, RecordedKernel

PEER = struct.pack("=IIh2x16I", 0, 1002, 2, 2002, 7, *[0] * 14)


class DarwinTests(SynchronousTestCase):
    """
    Tests for L{Darwin}.
    """

    def setUp(self) -> None:
        self.kernel = Darwin()
        self.options = {(0, 1): PEER, (0, 2): 8}

    def connection(self):
        """
        Our end.
        """
        return RecordedConnection(None, self.options, [])

    def test_connection(self) -> None:
        """
        C{struct xucred} ends with the groups; the pid is asked for by itself.
        """
        known = self.kernel.connectionCredentials(self.connection())
        self.assertEqual((known.uid, known.gid, known.pid), (1002, 2002, 8))
        self.assertEqual(known.groups, (7, 2002))

    def test_closed(self) -> None:
        """
        Once the peer has closed its pid is not known, and its uid still is
        (THREATS K15).
        """
        for answer in (OSError(57, "ENOTCONN"), 0):
            self.options[0, 2] = answer
            known = self.kernel.connectionCredentials(self.connection())
            self.assertEqual((known.uid, known.pid), (1002, None))

    def test_refused(self) -> None:
        """
        A pid alone is nobody.
        """
        self.options[0, 1] = OSError(57, "ENOTCONN")
        self.assertRaises(
            CredentialsUnavailable, self.kernel.connectionCredentials, self.connection()
        )

    def test_captures(self) -> None:
        """
        There is C{CONNECT} alone, and that is said when listening starts.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        recorded = RecordedKernel(self.kernel, self.options)
        self.patch(base, "connection", recorded.connection)
        self.kernel.checkCapture(Capture.CONNECT)
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.kernel.checkCapture(Capture.FIRST_MESSAGE)
        self.assertIn("Darwin", str(raised.exception))

    def test_probes(self) -> None:
        """
        Both options are tried by themselves.
        """
        said = {
            each.name: each.ask(self.connection(), None)
            for each in self.kernel.probes()
        }
        self.assertEqual(
            said,
            {
                "LOCAL_PEERCRED": "uid=1002 gid=2002 groups=7,2002",
                "LOCAL_PEERPID": "pid=8",
            },
        )
