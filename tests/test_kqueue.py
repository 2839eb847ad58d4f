"""
Tests for L{twisted_peercred.kernels.kqueue}, with a kqueue(2) that says what
the test tells it.
"""

import errno
import os
import select
import socket
import sys
from types import SimpleNamespace

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from twisted_peercred.attachment import openHandle
from twisted_peercred.kernels.kqueue import ExitQueue
from twisted_peercred.kernels.processes import ProcessExit
from twisted_peercred.process import IPeerProcess

from .support import LiveTestCase, openDescriptors

CONSTANTS = {"KQ_FILTER_PROC": -5, "KQ_EV_ADD": 1, "KQ_NOTE_EXIT": 0x80000000}


class FakeKqueue:
    """
    A kqueue of C{fake}, readable when there is an event.
    """

    problem = None
    made = []

    def __init__(self):
        self._reading, self._writing = os.pipe()
        self.events = []
        self.wanted = []
        self.made.append(self)

    def fileno(self):
        return self._reading

    def control(self, changes, count, timeout=None):
        if changes:
            if self.problem is not None:
                raise OSError(self.problem, os.strerror(self.problem))
            self.wanted.extend(changes)
        given = self.events[:count]
        del self.events[:count]
        return given

    def end(self, status):
        """
        The process ends.
        """
        self.events.append(SimpleNamespace(data=status))
        os.write(self._writing, b".")

    def close(self):
        for each in (self._reading, self._writing):
            os.close(each)


def install(test, problem=None):
    """
    Have C{select} be that of a BSD.
    """
    fake = type("Fake", (FakeKqueue,), {"problem": problem, "made": []})
    test.patch(sys, "platform", "freebsd15")
    for name, value in (
        *CONSTANTS.items(),
        ("kqueue", fake),
        ("kevent", lambda ident, **fields: {"ident": ident, **fields}),
    ):
        if not hasattr(select, name):
            test.addCleanup(delattr, select, name)
        setattr(select, name, value)
    return fake


class ExitQueueTests(SynchronousTestCase):
    """
    Tests for L{ExitQueue}.
    """

    def test_exit(self) -> None:
        """
        The end is seen once, and kept, with the status that came with it.
        """
        fake = install(self)
        handle = ExitQueue(4711)
        (queue,) = fake.made
        self.assertEqual(handle.fileno(), queue.fileno())
        self.assertEqual(
            queue.wanted,
            [{"ident": 4711, "filter": -5, "flags": 1, "fflags": 0x80000000}],
        )
        self.assertFalse(handle.hasEnded())
        self.assertEqual(handle.exit(), ProcessExit())
        queue.end(7 << 8)
        for _ in range(2):
            self.assertTrue(handle.hasEnded())
            expected = ProcessExit(exitCode=7, source="NOTE_EXIT")
            self.assertEqual(handle.exit(), expected)
            self.assertEqual(handle.readExit(), expected)
        handle.close()

    def test_macOS(self) -> None:
        """
        macOS tells nobody but a parent how a process ended, and 0 to others.
        """
        fake = install(self)
        self.patch(sys, "platform", "darwin")
        handle = ExitQueue(4711)
        fake.made[0].end(0)
        self.assertTrue(handle.hasEnded())
        self.assertEqual(handle.exit(), ProcessExit())
        handle.close()

    def test_errors(self) -> None:
        """
        Each error has its type, and nothing is left open.
        """
        before = openDescriptors()
        install(self)
        self.assertRaises(PeerProcessUnavailable, ExitQueue, None)
        for problem, kind in (
            (errno.ESRCH, PeerProcessGone),
            (errno.EACCES, PeerProcessUnavailable),
        ):
            install(self, problem)
            self.assertRaises(kind, ExitQueue, 4711)
        self.patch(
            select, "kqueue", lambda: (_ for _ in ()).throw(OSError(24, "EMFILE"))
        )
        self.assertRaises(PeerProcessUnavailable, ExitQueue, 4711)
        self.assertEqual(openDescriptors(), before)

    def test_absent(self) -> None:
        """
        What would have to go by the number is not there.
        """
        install(self)
        handle = ExitQueue(4711)
        self.assertRaises(PeerProcessUnsupported, handle.info)
        self.assertRaises(PeerProcessUnsupported, handle.read, "status")
        self.assertRaises(PeerProcessUnsupported, handle.signal, 9)
        self.assertIsNone(handle.identity)
        handle.close()

    def test_raceIsSaid(self) -> None:
        """
        Whoever reads the class reads of its race.
        """
        self.assertIn("race", ExitQueue.__doc__)

    def test_noHandle(self) -> None:
        """
        A platform that has neither says so.
        """
        self.patch(sys, "platform", "sunos5")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertRaises(PeerProcessUnsupported, openHandle, ours, 1)


class LiveTests(LiveTestCase):
    """
    Tests with a connection.
    """

    async def test_whenExited(self) -> None:
        """
        The reactor waits on the kqueue, which is closed with the connection
        and never opened again by a number.
        """
        address, wrapped = self.serve()
        peer = self.connect(address)
        protocol = await self.made(wrapped)
        before = openDescriptors()
        fake = install(self)
        process = IPeerProcess(protocol)
        process.whenExited().addErrback(lambda reason: None).cancel()
        exited = process.whenExited()
        (queue,) = fake.made
        self.assertEqual(queue.wanted[0]["ident"], os.getpid())
        self.assertEqual(
            [type(each).__name__ for each in self.readers()], ["ExitReader"]
        )
        queue.end(9)
        self.assertEqual((await exited).signal, 9)
        self.assertRaises(PeerProcessUnsupported, process.info)
        self.assertRaises(PeerProcessUnsupported, process.isSame, process)
        peer.close()
        await self.until(lambda: openDescriptors() == before - 2)

    def readers(self):
        return [each for each in reactor.getReaders() if hasattr(each, "_ended")]
