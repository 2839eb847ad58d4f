"""
The end of a process on the BSDs and macOS: kqueue(2), C{EVFILT_PROC} with
C{NOTE_EXIT}.
"""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any, NoReturn

from ..errors import (
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from .processes import ProcessExit, ProcessInfo

# Not all systems have it, and typeshed knows which this is.
select: Any = import_module("select")


class ExitQueue:
    """
    A L{ProcessHandle <twisted_peercred.kernels.processes.ProcessHandle>} that
    knows when a process ends, and nothing else about it.

    B{It has a race.}  These kernels know a peer's process by its number alone.
    If the peer ended, and its number went to another process, after it
    connected and before this object was made, it is the other's end that is
    told of.  Once made it stays with its process.  Take it for a hint to clean
    up by, and decide nothing by it.

    @param pid: the number, from the peer's credentials.
    @raise PeerProcessGone: no process has that number.
    @raise PeerProcessUnavailable: no descriptor is free, this process may not
        watch that one, or the kernel has not said the number.
    """

    identity = None

    def __init__(self, pid: int | None) -> None:
        if pid is None:
            raise PeerProcessUnavailable("the kernel did not tell the peer's pid")
        self._ended = False
        self._exit: ProcessExit | None = None
        try:
            self._queue = select.kqueue()
        except OSError as problem:
            raise PeerProcessUnavailable(f"kqueue: {problem.strerror}") from problem
        wanted = select.kevent(
            pid,
            filter=select.KQ_FILTER_PROC,
            flags=select.KQ_EV_ADD,
            fflags=select.KQ_NOTE_EXIT,
        )
        try:
            self._queue.control([wanted], 0)
        except OSError as problem:
            self._queue.close()
            if problem.errno == errno.ESRCH:
                raise PeerProcessGone(f"no process has number {pid}") from problem
            raise PeerProcessUnavailable(
                f"process {pid} cannot be watched: {problem.strerror}"
            ) from problem

    def fileno(self) -> int:
        descriptor: int = self._queue.fileno()
        return descriptor

    def close(self) -> None:
        self._queue.close()

    def hasEnded(self) -> bool:
        # The event is taken out: what it says is kept here.
        for event in self._queue.control(None, 1, 0):
            self._ended = True
            # macOS tells a status to a parent alone, by another flag.
            if sys.platform != "darwin":
                self._exit = ProcessExit.fromStatus(event.data, "NOTE_EXIT")
        return self._ended

    def exit(self) -> ProcessExit:
        return self._exit or ProcessExit()

    readExit = exit

    def _unsupported(self, what: str) -> NoReturn:
        raise PeerProcessUnsupported(
            f"{sys.platform} has no handle on a process that {what} could go by,"
            " and a process's number is not one"
        )

    def info(self) -> ProcessInfo:
        self._unsupported("info()")

    def read(self, name: str) -> bytes:
        self._unsupported("what proc(5) says")

    def signal(self, number: int) -> None:
        self._unsupported("signal()")
