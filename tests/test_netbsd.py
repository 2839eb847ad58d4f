"""
Tests for L{twisted_peercred.kernels.netbsd}.
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
from twisted_peercred.kernels.netbsd import (
    LOCAL_CREDS,
    LOCAL_PEEREID,
    NetBSD,
    decodeSockcred,
    decodeUnpcbid,
)

from .recorded import SOL_SOCKET, Record, RecordedConnection, RecordedKernel, vector

FIRST = Capture.FIRST_MESSAGE


def sockcred(groups=(7,), order="=", count=None) -> bytes:
    """
    C{struct sockcred}.
    """
    count = len(groups) if count is None else count
    return struct.pack(
        f"{order}i4Ii{len(groups)}I", 8, 1001, 1002, 2001, 2002, count, *groups
    )


class DecoderTests(SynchronousTestCase):
    """
    Tests for L{decodeUnpcbid} and L{decodeSockcred}.
    """

    def test_unpcbid(self) -> None:
        """
        pid, euid, egid, in either byte order; no groups.
        """
        for order in "<>":
            data = struct.pack(order + "iII", 8, 1002, 2002)
            known = decodeUnpcbid(data, order)
            self.assertEqual((known.pid, known.uid, known.gid), (8, 1002, 2002))
            self.assertIsNone(known.groups)

    def test_sockcred(self) -> None:
        """
        Effective and real IDs, pid, and all groups, in either byte order.
        """
        for order in "<>":
            known = decodeSockcred(sockcred(order=order), FIRST, order)
            self.assertEqual((known.uid, known.gid), (1002, 2002))
            self.assertEqual((known.realUID, known.realGID), (1001, 2001))
            self.assertEqual((known.groups, known.pid), ((7, 2002), 8))
            self.assertIs(known.capture, FIRST)

    def test_sixteenGroups(self) -> None:
        """
        16 groups are all that a process may have here: they are complete.
        """
        known = decodeSockcred(sockcred(range(16)), FIRST)
        self.assertEqual(known.groups, (*range(16), 2002))

    def test_noGroups(self) -> None:
        """
        No groups may leave room for one, in which is whatever was there before:
        it is not looked at.  A count that says otherwise is believed.
        """
        for padding in ((), (7,)):
            known = decodeSockcred(sockcred(padding, count=0), FIRST)
            self.assertEqual(known.groups, (2002,))
        for wrong in (
            sockcred((7, 7), count=0),
            sockcred((7, 7), count=1),
            sockcred((7,), count=2),
            sockcred((7,), count=-1),
        ):
            self.assertRaises(CredentialsUnavailable, decodeSockcred, wrong, FIRST)


class NetBSDTests(SynchronousTestCase):
    """
    Tests for L{NetBSD}.
    """

    def setUp(self) -> None:
        self.kernel = NetBSD()
        self.ours, self.theirs = socket.socketpair()
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)
        self.options = {
            (0, LOCAL_PEEREID): vector("NetBSD 11", "accepted", "client"),
            (0, LOCAL_CREDS): 0,
        }
        self.records = [Record(None, [(SOL_SOCKET, 0x10, sockcred())])]

    def connection(self):
        """
        Our end, with what comes in.
        """
        return RecordedConnection(self.ours, self.options, self.records)

    def test_connection(self) -> None:
        """
        C{LOCAL_PEEREID}; an error is never an identity.
        """
        known = self.kernel.connectionCredentials(self.connection())
        self.assertEqual((known.uid, known.gid, known.pid), (1002, 2002, 53))
        self.options[0, LOCAL_PEEREID] = OSError(22, "EINVAL")
        with self.assertRaises(CredentialsUnavailable) as raised:
            self.kernel.connectionCredentials(self.connection())
        self.assertIn("EINVAL", str(raised.exception))

    def test_message(self) -> None:
        """
        C{LOCAL_CREDS} stamps the first message; descriptors may come before it
        (THREATS K5).
        """
        self.records[0].control.insert(0, (SOL_SOCKET, 1, b""))
        recorded = self.connection()
        self.kernel.askForMessages(recorded)
        self.assertEqual(recorded.sets, [(0, LOCAL_CREDS, 1)])
        self.theirs.send(b"x")
        known = self.kernel.peekMessage(recorded, FIRST).credentials
        self.assertEqual((known.uid, known.realUID), (1002, 1001))

    def test_captures(self) -> None:
        """
        C{EVERY_MESSAGE} cannot be had: between two settings of the option a
        message may come without a stamp.  It is refused when listening starts,
        and the error says what there is.
        """
        self.patch(base, "requireOurselves", lambda known: None)
        recorded = RecordedKernel(self.kernel, self.options, self.records)
        self.patch(base, "connection", recorded.connection)
        self.kernel.checkCapture(Capture.CONNECT)
        self.kernel.checkCapture(FIRST)
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.kernel.checkCapture(Capture.EVERY_MESSAGE)
        for word in ("NetBSD", "LOCAL_CREDS", "Capture.FIRST_MESSAGE"):
            self.assertIn(word, str(raised.exception))

    def test_credentialsToSend(self) -> None:
        """
        A sender may attach nothing: that would be EINVAL.
        """
        self.assertEqual(self.kernel.credentialsToSend(), [])

    def test_probes(self) -> None:
        """
        Each option is tried by itself.
        """
        names = []
        for probe in self.kernel.probes():
            names.append(probe.name)
            self.assertIn("uid=1002", probe.ask(self.connection(), self.theirs))
        self.assertEqual(names, ["LOCAL_PEEREID", "LOCAL_CREDS"])
