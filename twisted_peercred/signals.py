"""
What an administrator's kill(1) does to a service.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service


class SignalService(Service):
    """
    Calls a function in the reactor's thread each time a signal comes, while it
    runs.  Whoever had the signal before (for SIGUSR1 that may be twistd, which
    rotates its log file) still gets it.

    @param number: of the signal.
    @param call: the function.
    @param reactor: the global one, if L{None}.
    """

    def __init__(
        self, number: int, call: Callable[[], object], reactor: Any = None
    ) -> None:
        self._number = number
        self._call = call
        self._reactor = reactor
        self._previous: Any = None

    def startService(self) -> None:
        """
        Take the signal.

        @raise ValueError: this is not the main thread, see signal(3).
        """
        if self._reactor is None:
            # Not at import: it would install one.
            from twisted.internet import reactor

            self._reactor = reactor
        self._previous = signal.signal(self._number, self._received)
        super().startService()

    def stopService(self) -> None:
        """
        Give it back.
        """
        super().stopService()
        # None stands for one that was not set from Python.
        signal.signal(self._number, self._previous or signal.SIG_DFL)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._call)
        if callable(self._previous):
            self._previous(number, frame)
