"""
What an administrator's kill(1) does to a service.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import Service

#: Those who want a signal, and who had it before the first of them came.
_services: dict[int, list[SignalService]] = {}
_previous: dict[int, Any] = {}


def _received(number: int, frame: FrameType | None) -> None:
    for service in _services[number]:
        service.received()
    if callable(_previous[number]):
        _previous[number](number, frame)


class SignalService(Service):
    """
    Calls a function in the reactor's thread each time a signal comes, while it
    runs.  Whoever had the signal before (for SIGUSR1 that may be twistd, which
    rotates its log file) still gets it, and so do other services like this one,
    in whatever order they start and stop.

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

    def startService(self) -> None:
        """
        Take the signal.

        @raise ValueError: this is not the main thread, see signal(3).
        """
        if self._reactor is None:
            # Not at import: it would install one.
            from twisted.internet import reactor

            self._reactor = reactor
        services = _services.setdefault(self._number, [])
        if not services:
            _previous[self._number] = signal.signal(self._number, _received)
        services.append(self)
        super().startService()

    def stopService(self) -> None:
        """
        Give it back.
        """
        super().stopService()
        services = _services[self._number]
        services.remove(self)
        if not services:
            # None stands for one that was not set from Python.
            signal.signal(self._number, _previous.pop(self._number) or signal.SIG_DFL)

    def received(self) -> None:
        """
        The signal has come.
        """
        self._reactor.callFromThread(self._call)
