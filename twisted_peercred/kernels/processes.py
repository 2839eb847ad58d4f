"""
What kernels tell about a process, as values; and what a handle on one can do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessExit:
    """
    How a process ended: by exit(2) or by a signal, or L{None} for both where
    the kernel does not tell.

    @ivar exitCode: C{0} to C{255}.
    @ivar signal: number of the signal that killed it.
    @ivar coreDumped: whether it left a core dump (core(5)).
    @ivar source: where this is from: C{"PIDFD_GET_INFO"}, which has it once
        the process has been reaped; C{"waitid"}, for a child of this process;
        C{"/proc/PID/stat"}, for one that is still to be reaped;
        C{"NOTE_EXIT"}; L{None} where nothing is told.
    """

    exitCode: int | None = None
    signal: int | None = None
    coreDumped: bool = False
    source: str | None = None

    @classmethod
    def fromStatus(cls, status: int, source: str) -> ProcessExit:
        """
        @param status: as wait(2) gives it.
        @param source: where it is from.
        """
        if os.WIFSIGNALED(status):
            return cls(
                signal=os.WTERMSIG(status),
                coreDumped=os.WCOREDUMP(status),
                source=source,
            )
        return cls(exitCode=os.WEXITSTATUS(status), source=source)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessInfo:
    """
    Whom a process acts for now, and where it stands: credentials(7),
    C{PIDFD_GET_INFO}.  It may have changed them since it connected.

    @ivar pid: its number in this PID namespace.
    @ivar parent: its parent's number; L{None} for one outside of this PID
        namespace.
    @ivar realUID: and the others: L{None} for an ID that this user namespace
        does not map.
    @ivar filesystemUID: and C{filesystemGID}: what file access is checked by.
    @ivar cgroupID: number of its cgroup in the unified hierarchy: the inode
        number of its directory there.  L{None} where there is none.
    @ivar source: where all of this is from.
    """

    pid: int
    parent: int | None
    realUID: int | None
    realGID: int | None
    effectiveUID: int | None
    effectiveGID: int | None
    savedUID: int | None
    savedGID: int | None
    filesystemUID: int | None
    filesystemGID: int | None
    cgroupID: int | None
    source: str


class ProcessHandle(Protocol):
    """
    A kernel's own hold on one process: a descriptor that is readable from the
    process's end on.  Of a call that a kernel does not have it says so
    (L{PeerProcessUnsupported <twisted_peercred.errors.PeerProcessUnsupported>}).
    """

    @property
    def identity(self) -> int | None:
        """
        A number that no other process has had or will have until the next
        boot; L{None} where there is none.
        """

    def fileno(self) -> int:
        """
        The descriptor.
        """

    def hasEnded(self) -> bool:
        """
        Whether the process has ended, reaped or not.
        """

    def exit(self) -> ProcessExit | None:
        """
        How it ended, without a call that may block; L{None} if there is more
        to be had by L{readExit}.
        """

    def readExit(self) -> ProcessExit:
        """
        How it ended, as far as can be known.  May block.
        """

    def info(self) -> ProcessInfo:
        """
        In one call that no reuse of a number can come between.
        """

    def read(self, name: str) -> bytes:
        """
        A file or the target of a link in the process's directory in proc(5).
        May block.
        """

    def signal(self, number: int) -> None:
        """
        Send a signal to this process and to no other.
        """

    def close(self) -> None:
        """
        Let go.
        """
