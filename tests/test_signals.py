"""
Tests for L{twisted_peercred.signals}.
"""

import os
import signal

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.signals import SignalService

from .support import LiveTestCase


class SignalServiceTests(SynchronousTestCase):
    """
    Tests for L{SignalService}.
    """

    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        self.got = []
        self.queued = []
        self.reactor = Clock()
        self.reactor.callFromThread = self.queued.append
        self.service = SignalService(
            signal.SIGUSR1, lambda: self.got.append("call"), self.reactor
        )

    def test_call(self) -> None:
        """
        Each signal is a call in the reactor's thread, and whoever had the
        signal before gets it too.
        """
        signal.signal(signal.SIGUSR1, lambda *_: self.got.append("previous"))
        self.service.startService()
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(self.got, ["previous"])
        (call,) = self.queued
        call()
        self.assertEqual(self.got, ["previous", "call"])
        self.service.stopService()
        os.kill(os.getpid(), signal.SIGUSR1)
        self.assertEqual(self.got, ["previous", "call", "previous"])
        self.assertEqual(len(self.queued), 1)

    def test_default(self) -> None:
        """
        What was ignored, or the system's, is so again.
        """
        for previous in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGUSR1, previous)
            self.service.startService()
            os.kill(os.getpid(), signal.SIGUSR1)
            self.service.stopService()
            self.assertEqual(signal.getsignal(signal.SIGUSR1), previous)
        self.assertEqual(len(self.queued), 2)

    def test_several(self) -> None:
        """
        Several services have the same signal, whichever of them stops first;
        the last gives it back.
        """
        for first in (0, 1):
            services = [
                SignalService(
                    signal.SIGUSR1,
                    lambda each=each: self.got.append(each),
                    self.reactor,
                )
                for each in "ab"
            ]
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            for service in services:
                service.startService()
            services.pop(first).stopService()
            os.kill(os.getpid(), signal.SIGUSR1)
            services[0].stopService()
            self.assertEqual(signal.getsignal(signal.SIGUSR1), signal.SIG_IGN)
        for call in self.queued:
            call()
        self.assertEqual(self.got, ["b", "a"])


class LiveSignalTests(LiveTestCase):
    """
    Tests on the reactor of trial.
    """

    async def test_reactor(self) -> None:
        """
        A signal wakes the reactor.
        """
        got = []
        service = SignalService(signal.SIGUSR1, lambda: got.append(1))
        service.startService()
        self.addCleanup(service.stopService)
        os.kill(os.getpid(), signal.SIGUSR1)
        await self.until(lambda: got)
