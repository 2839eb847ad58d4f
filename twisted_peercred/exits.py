"""
How a reactor waits for a process to end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from .errors import PeerProcessError
from .kernels.processes import ProcessHandle


@implementer(IReadDescriptor)
class ExitReader:
    """
    Waits from the moment that it is made.

    @param ended: called once, when the process has ended.
    @param interrupted: called instead if the reactor gives up: it stops, or
        (select(2)) the descriptor is none that it can wait for.
    """

    def __init__(
        self,
        handle: ProcessHandle,
        reactor: Any,
        ended: Callable[[], None],
        interrupted: Callable[[Failure], None],
    ) -> None:
        self._handle = handle
        self._reactor = reactor
        self._ended = ended
        self._interrupted = interrupted
        reactor.addReader(self)

    def stop(self) -> None:
        """
        Wait no more, and call nobody.
        """
        self._reactor.removeReader(self)

    def logPrefix(self) -> str:
        return "peer's process"

    def fileno(self) -> int:
        return self._handle.fileno()

    def doRead(self) -> Exception | None:  # type: ignore[override] # any reason
        try:
            ended = self._handle.hasEnded()
        except PeerProcessError as problem:
            # Which the reactor gives to connectionLost.
            return problem
        if ended:
            self.stop()
            self._ended()
        return None

    def connectionLost(self, reason: Failure) -> None:
        self._interrupted(reason)
