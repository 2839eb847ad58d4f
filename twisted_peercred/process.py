"""
The process behind a connection: what C{IPeerProcess(x)} does.

The handle on it is opened when somebody asks.  It is closed when the
connection has ended and nothing that was begun before needs it any more: a
thread may be reading by it, and whoever waits for the end of a process would
rarely see it otherwise, for a process that is killed loses its connections
first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from .errors import (
    PeerProcessError,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from .exits import ExitReader
from .interfaces import IPeerProcess
from .kernels import procfs
from .kernels.processes import ProcessExit, ProcessHandle, ProcessInfo

__all__ = ["IPeerProcess", "PeerProcess"]

_T = TypeVar("_T")

SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "whenExited": "the handle, then ProcessExit.source",
        "info": "PIDFD_GET_INFO",
        "status": "/proc/PID/status",
        "commandLine": "/proc/PID/cmdline",
        "executable": "/proc/PID/exe",
        "cgroup": "/proc/PID/cgroup",
        "startTime": "/proc/PID/stat",
        "systemdUnit": "/proc/PID/cgroup",
        "isSame": "the handle's inode",
    }
)


@implementer(IPeerProcess)
class PeerProcess:
    """
    One process, and one descriptor for all who ask about it.

    @param handle: the kernel's.
    @param reactor: waits, and has threads.
    @param reopen: opens the handle again, on the same process for certain;
        L{None} where there is no such way.
    """

    sources = SOURCES

    def __init__(
        self,
        handle: ProcessHandle,
        reactor: Any,
        reopen: Callable[[], ProcessHandle] | None = None,
    ) -> None:
        self._handle = handle
        self._open = True
        self._connected = True
        self._reactor = reactor
        self._reopen = reopen
        # Waits and threads that need the descriptor.
        self._users = 0
        self._waiting: dict[Deferred[ProcessExit], None] = {}
        self._reader: ExitReader | None = None
        self._exit: ProcessExit | None = None

    @property
    def identity(self) -> int | None:
        return self._handle.identity

    def disconnect(self) -> None:
        """
        The connection has ended: nothing more can be begun, and the handle is
        closed when all that was is done.
        """
        self._connected = False
        self._release()

    def _release(self) -> None:
        if self._open and not self._users:
            self._open = False
            self._handle.close()

    def _use(self) -> ProcessHandle:
        if not self._connected:
            if self._exit is not None:
                raise PeerProcessGone("the process has ended", self._exit)
            raise PeerProcessUnavailable(
                "the connection has ended, and with it the handle on the process"
            )
        if not self._open:
            assert self._reopen is not None
            self._handle = self._reopen()
            self._open = True
        return self._handle

    def _done(self) -> None:
        self._users -= 1
        if not self._connected:
            self._release()

    def whenExited(self) -> Deferred[ProcessExit]:
        if self._exit is not None:
            return succeed(self._exit)
        try:
            handle = self._use()
        except PeerProcessError:
            return fail()
        if self._reader is None:
            try:
                self._reader = ExitReader(
                    handle, self._reactor, self._exited, self._interrupted
                )
            except OSError as problem:
                # ENOSPC, say, for too many watches of this user (epoll_ctl(2)).
                return fail(_cannotWait(problem))
        waiting: Deferred[ProcessExit] = Deferred(self._stopWaiting)
        self._waiting[waiting] = None
        self._users += 1
        return waiting

    def _stopWaiting(self, waiting: Deferred[ProcessExit]) -> None:
        del self._waiting[waiting]
        if not self._waiting and self._reader is not None:
            self._reader.stop()
            self._reader = None
        self._done()
        if self._reopen is not None:
            self._release()

    def _exited(self) -> None:
        exit = self._handle.exit()
        if exit is not None:
            self._tell(exit)
            return
        # Not reaped yet, and no child of ours: what there is to know is in
        # /proc.
        self._inThread(self._handle.readExit).addBoth(self._tell)

    def _tell(self, exit: ProcessExit | Failure) -> None:
        self._reader = None
        if isinstance(exit, ProcessExit):
            self._exit = exit
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            self._done()
            each.callback(exit)

    def _interrupted(self, reason: Failure) -> None:
        self._tell(Failure(_cannotWait(reason.value)))

    def info(self) -> ProcessInfo:
        return self._use().info()

    def status(self) -> Deferred[dict[str, str]]:
        return self._read("status", procfs.decodeStatus)

    def commandLine(self) -> Deferred[tuple[bytes, ...]]:
        return self._read("cmdline", procfs.decodeCommandLine)

    def executable(self) -> Deferred[bytes]:
        return self._read("exe", bytes)

    def cgroup(self) -> Deferred[str | None]:
        return self._read("cgroup", procfs.decodeCgroup)

    def startTime(self) -> Deferred[float]:
        return self._read("stat", procfs.decodeStartTime)

    def systemdUnit(self) -> Deferred[str | None]:
        return self.cgroup().addCallback(lambda path: path and procfs.unitOf(path))

    def _read(self, name: str, decode: Callable[[bytes], _T]) -> Deferred[_T]:
        try:
            handle = self._use()
        except PeerProcessError:
            return fail()
        return self._inThread(lambda: decode(handle.read(name)))

    def _inThread(self, ask: Callable[[], _T]) -> Deferred[_T]:
        """
        Ask where blocking is allowed.  Whoever cancels goes without the answer,
        and the thread still has its descriptor.
        """
        pool = self._reactor.getThreadPool()
        answer: Deferred[_T] = Deferred()
        try:
            asked = deferToThreadPool(self._reactor, pool, ask)
        except RuntimeError as problem:
            return fail(
                PeerProcessUnavailable(
                    f"no thread can be had to look at the process: {problem}; see"
                    " RLIMIT_NPROC in getrlimit(2)"
                )
            )
        self._users += 1

        def done(result: _T | Failure) -> _T | Failure:
            self._done()
            return result

        asked.addBoth(done).chainDeferred(answer)
        return answer

    def signal(self, number: int) -> None:
        self._use().signal(number)

    def isSame(self, other: Any) -> bool:
        ours, theirs = self.identity, IPeerProcess(other).identity
        if ours is None or theirs is None:
            raise PeerProcessUnsupported(
                "this kernel's handles do not tell whether they are of the same"
                " process; those of Linux do from 6.9"
            )
        return ours == theirs


def _cannotWait(problem: BaseException | None) -> PeerProcessUnavailable:
    return PeerProcessUnavailable(
        f"the reactor cannot wait for the process to end: {problem}"
    )
