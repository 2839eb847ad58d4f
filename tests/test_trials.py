"""
Tests for L{twisted_peercred.kernels.trials}.
"""

import os
import socket
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import CredentialsUnsupported
from twisted_peercred.kernels.trials import (
    connection,
    messageProbe,
    peerProbe,
    requireOurselves,
)

from .recorded import Record, RecordedConnection
from .support import openDescriptors
from .test_base import STAMP, Stamping, ourselves


class ConnectionTests(SynchronousTestCase):
    """
    Tests for L{connection}.
    """

    def test_connection(self) -> None:
        """
        Both ends are there, of a listener that was prepared before it had an
        address; nothing is left of them.
        """
        # Not below the working directory: an address may have 100 bytes or so.
        directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        self.addCleanup(os.rmdir, directory)
        self.patch(tempfile, "tempdir", directory)
        before = openDescriptors()
        prepared = []
        with connection(lambda sock: prepared.append(sock.getsockname())) as ends:
            ours, theirs = ends
            theirs.send(b"x")
            self.assertEqual(ours.recv(2), b"x")
            self.assertEqual(len(os.listdir(directory)), 1)
        self.assertEqual(prepared, [""])
        self.assertEqual(os.listdir(directory), [])
        self.assertEqual(openDescriptors(), before)

    def test_noDirectory(self) -> None:
        """
        Without a directory for it there is no connection, and nothing is left
        open.
        """
        self.patch(tempfile, "tempdir", self.mktemp())
        before = openDescriptors()
        with self.assertRaises(OSError), connection():
            raise AssertionError("a connection in no directory")
        self.assertEqual(openDescriptors(), before)


class OurselvesTests(SynchronousTestCase):
    """
    Tests for L{requireOurselves}.
    """

    def test_ourselves(self) -> None:
        """
        Each number that a kernel gives has to be this process's.
        """
        requireOurselves(ourselves())
        requireOurselves(
            ourselves(
                realUID=os.getuid(), realGID=os.getgid(), pid=os.getpid(), groups=(7,)
            )
        )
        for field in ("uid", "gid", "realUID", "realGID", "pid"):
            self.assertRaises(
                CredentialsUnsupported, requireOurselves, ourselves(**{field: 77777})
            )
        self.assertRaises(CredentialsUnsupported, requireOurselves, None)


class ProbeTests(SynchronousTestCase):
    """
    Tests for L{peerProbe} and L{messageProbe}.
    """

    def test_probes(self) -> None:
        """
        A probe sets the one option that it is about, and says what came of it.
        """
        kernel = Stamping()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            probe = peerProbe("PEER", kernel)
            self.assertEqual(probe.name, "PEER")
            self.assertEqual(probe.ask(ours, theirs), str(kernel.answer))
            recorded = RecordedConnection(ours, {(1, 2): b""}, [Record(1, [STAMP])] * 2)
            said = messageProbe("SET", kernel, 1, 2).ask(recorded, theirs)
            self.assertEqual(said, str(kernel.answer))
            self.assertEqual(recorded.sets, [(1, 2, 1)])
            messageProbe("ATTACHED", kernel).ask(recorded, theirs)
            self.assertEqual(recorded.sets, [(1, 2, 1)])
