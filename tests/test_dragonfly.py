"""
Tests for L{twisted_peercred.kernels.dragonfly}.
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
from twisted_peercred.kernels.dragonfly import DragonFly

from .recorded import (
    SOL_SOCKET,
    Record,
    RecordedConnection,
    RecordedKernel,
    payload,
)

FIRST = Capture.FIRST_MESSAGE
#: The last pointer is not used, and not looked at.
PEER = struct.pack("=IIh2x16I12s", 0, 1002, 2, 2002, 7, *[0] * 14, b"\x55" * 12)


class DragonFlyTests(SynchronousTestCase):
    """
    Tests for L{DragonFly}.
    """

    def setUp(self) -> None:
        self.kernel = DragonFly()
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.options = {(0, 1): PEER}
        attached = payload("FreeBSD 15", "no option / no option")
        self.records = [Record(1, [(SOL_SOCKET, 3, attached)]), Record()]

    def connection(self):
        """
        Our end, with what comes in.
        """
        return RecordedConnection(self.ours, self.options, self.records)

    def test_connection(self) -> None:
        """
        C{struct xucred} without a pid.
        """
        known = self.kernel.connectionCredentials(self.connection())
        self.assertEqual((known.uid, known.groups), (1002, (7, 2002)))
        self.assertIsNone(known.pid)

    def test_message(self) -> None:
        """
        What the sender attached and the kernel filled in says who it is; a
        message without is nobody's.
        """
        recorded = self.connection()
        self.kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [])
        self.theirs.send(b"xy")
        message = self.kernel.receiveMessage(recorded, 2, False, FIRST)
        self.assertEqual(
            (message.credentials.uid, message.credentials.realUID), (1002, 1001)
        )
        self.assertRaises(
            CredentialsUnavailable, self.kernel.peekMessage, recorded, FIRST
        )

    def test_captures(self) -> None:
        """
        C{EVERY_MESSAGE} cannot be had: bytes without credentials are read
        together with those before.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        recorded = RecordedKernel(self.kernel, self.options, self.records)
        self.patch(base, "connection", recorded.connection)
        self.kernel.checkCapture(Capture.CONNECT)
        self.kernel.checkCapture(FIRST)
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.kernel.checkCapture(Capture.EVERY_MESSAGE)
        for word in ("DragonFly", "SCM_CREDS", "Capture.FIRST_MESSAGE"):
            self.assertIn(word, str(raised.exception))

    def test_credentialsToSend(self) -> None:
        """
        A sender attaches an empty C{struct cmsgcred}, and cannot choose what is
        in it.
        """
        self.assertEqual(self.kernel.credentialsToSend(), [(SOL_SOCKET, 3, bytes(84))])
        self.assertRaises(CredentialsUnsupported, self.kernel.credentialsToSend, 1)

    def test_probes(self) -> None:
        """
        Both are tried.
        """
        names = []
        for probe in self.kernel.probes():
            names.append(probe.name)
            self.assertIn("uid=1002", probe.ask(self.connection(), self.theirs))
        self.assertEqual(names, ["LOCAL_PEERCRED", "SCM_CREDS attached"])
