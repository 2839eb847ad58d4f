"""
Linux's handle on a process, from a socket: C{SO_PEERPIDFD} (6.5), socket(7);
pidfd_open(2), pidfd_send_signal(2), C{include/uapi/linux/pidfd.h}.

A process number may belong to another process by the time it is used; a pidfd
never does.  It comes from the socket, where the kernel has kept the process
that connected; none is ever opened by number.  A number is only used to find a
directory in /proc, is taken from the pidfd itself for the purpose, and what
was read there counts if the process lived on until it had been read.

==================  =======  =====  ======
option              generic  sparc  parisc
==================  =======  =====  ======
C{SO_PASSPIDFD}     76       0x55   0x404a
C{SO_PEERPIDFD}     77       0x56   0x404b
==================  =======  =====  ======
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import signal
import struct
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from socket import SOL_SOCKET, socket

from ..errors import (
    PeerProcessError,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from . import Probe, procfs
from .linux import OVERFLOW_ID, isWhole, known
from .processes import ProcessExit, ProcessInfo

#: C{_IOWR(0xFF, 11, struct pidfd_info)} of the 64 bytes that 6.13 has; the
#: number is the same on all architectures.
PIDFD_GET_INFO = 0xC040FF0B
INFO = struct.Struct("=QQ11Ii")
INFO_PID = 1
INFO_CREDS = 2
INFO_CGROUPID = 4
INFO_EXIT = 8
NO_OPTION = (
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    # A seccomp filter says so.
    errno.EPERM,
)


def passOption(machine: str) -> int | None:
    """
    The number of C{SO_PASSPIDFD}; L{None}: not confirmed.

    @param machine: the architecture, as uname(2) names it.
    """
    for pattern, number in (
        (r"x86_64|i[3-6]86|arm|aarch64|riscv|s390|loongarch", 76),
        (r"mips|ppc|powerpc|alpha", 76),
        (r"sparc", 0x55),
        (r"parisc", 0x404A),
    ):
        if re.match(pattern, machine):
            return number
    return None


# Decoders: bytes to values.


def decodeInfo(data: bytes | bytearray) -> tuple[int, tuple[int, ...]]:
    """
    C{struct pidfd_info}, 64 bytes.

    @return: the mask that says which fields are there; the fields after it, in
        order: cgroup ID, pid, tgid, parent, then uid and gid, each real,
        effective, saved and filesystem; the exit status.
    """
    mask, *fields = INFO.unpack(data)
    return mask, tuple(fields)


def decodeNumber(data: bytes) -> int:
    """
    C{/proc/self/fdinfo/FD} of a pidfd: the process's number in the namespace
    of this /proc; C{0} if it has none there, C{-1} if it has been reaped.
    """
    found = re.search(rb"^Pid:\s*(-?\d+)$", data, re.MULTILINE)
    if found is None:
        raise PeerProcessUnsupported("/proc does not tell the number of a pidfd")
    return int(found[1])


# The calls.


@cache
def anonymousDevice() -> int:
    """
    The device of files that have no inode of their own, which pidfds were
    until Linux 6.9.
    """
    descriptor = os.eventfd(0)
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)


def identityOf(descriptor: int) -> int | None:
    """
    The inode number of a pidfd, which is its process's own from Linux 6.9 on;
    L{None} before.

    @raise OSError: no descriptor is free to find out.
    """
    status = os.fstat(descriptor)
    return None if status.st_dev == anonymousDevice() else status.st_ino


@cache
def overflowIDs(proc: str) -> frozenset[int]:
    """
    What IDs of another user namespace may look like.
    """
    found = {OVERFLOW_ID}
    for name in ("overflowuid", "overflowgid"):
        with suppress(OSError), open(f"{proc}/sys/kernel/{name}") as file:
            found.add(int(file.read()))
    return frozenset(found)


class Pidfd:
    """
    A L{ProcessHandle <twisted_peercred.kernels.processes.ProcessHandle>}.

    @param descriptor: a pidfd, this object's own from now on.
    @param proc: the directory of proc(5).
    @raise PeerProcessUnavailable: no descriptor is free to find out about it,
        and it has been closed.
    """

    def __init__(self, descriptor: int, proc: str = "/proc") -> None:
        self._descriptor = descriptor
        self._proc = proc
        try:
            self.identity = identityOf(descriptor)
        except OSError as problem:
            self.close()
            raise _peerProblem(problem) from problem

    @classmethod
    def ofPeer(cls, sock: socket) -> Pidfd:
        """
        The process that connected, or for a client the one that listened
        (C{SO_PEERPIDFD}).

        @raise PeerProcessUnsupported: this kernel has no such handle.
        @raise PeerProcessGone: it has ended.
        @raise PeerProcessUnavailable: it cannot be told now.
        """
        try:
            # Its number is the next one on all of them.
            option = known(passOption(os.uname().machine)) + 1
            answer = sock.getsockopt(SOL_SOCKET, option, 4)
        except OSError as problem:
            raise _peerProblem(problem) from problem
        handle = cls(struct.unpack("=i", answer)[0])
        try:
            if handle.hasEnded():
                # Newer kernels give a handle all the same: one that knows the
                # exit.
                raise handle._gone()
        except BaseException:
            handle.close()
            raise
        return handle

    @classmethod
    def ofMessage(cls, number: int) -> Pidfd:
        """
        The process that wrote a message (C{SCM_PIDFD}); it may have ended.

        @param number: what the kernel gave: a pidfd, or the negative of the
            error number for which there is none.
        @raise PeerProcessGone: it has ended, and the kernel gives no handle.
        @raise PeerProcessUnavailable: it cannot be told now.
        """
        if number < 0:
            raise _peerProblem(OSError(-number, os.strerror(-number)))
        return cls(number)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()

    def hasEnded(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        try:
            return bool(poll.poll(0))
        except OSError as problem:
            # EINVAL where RLIMIT_NOFILE is 0, as in a sandbox (poll(2)).
            raise PeerProcessUnavailable(
                f"poll: {problem.strerror}; whether the process lives is not known"
            ) from problem

    def _gone(self) -> PeerProcessGone:
        return PeerProcessGone("the process has ended", self.exit())

    def _ask(self) -> tuple[int, tuple[int, ...]]:
        buffer = bytearray(INFO.size)
        wanted = INFO_PID | INFO_CREDS | INFO_CGROUPID | INFO_EXIT
        INFO.pack_into(buffer, 0, wanted, *bytes(13))
        fcntl.ioctl(self._descriptor, PIDFD_GET_INFO, buffer)
        return decodeInfo(buffer)

    def exit(self) -> ProcessExit | None:
        try:
            mask, fields = self._ask()
        except OSError:
            # Not of this PID namespace, or a kernel before 6.13.
            mask, fields = 0, ()
        if mask & INFO_EXIT:
            return ProcessExit.fromStatus(fields[-1], "PIDFD_GET_INFO")
        try:
            waited = os.waitid(
                os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOWAIT | os.WNOHANG
            )
        except OSError:
            # No child of ours; or Linux before 5.4, or a filter (waitid(2)).
            return None
        if waited is None:
            return None
        if waited.si_code == os.CLD_EXITED:
            return ProcessExit(exitCode=waited.si_status, source="waitid")
        return ProcessExit(
            signal=waited.si_status,
            coreDumped=waited.si_code == os.CLD_DUMPED,
            source="waitid",
        )

    def readExit(self) -> ProcessExit:
        known = self._unreapedExit()
        # It may have been reaped in the meantime.
        return known or self.exit() or ProcessExit()

    def _unreapedExit(self) -> ProcessExit | None:
        """
        What /proc says about one whose parent has not yet asked.
        """
        try:
            number = self._number()
            directory = f"{self._proc}/{number}"
            # It has no program any more, and this process may know that: to one
            # that may not, the status would be said to be 0 (proc(5), "PT").
            with suppress(FileNotFoundError):
                os.readlink(f"{directory}/exe")
            with open(f"{directory}/stat", "rb") as file:
                status = procfs.decodeExitStatus(file.read())
            # It was that one's, if it has the number still.
            self._number()
        except (OSError, PeerProcessError):
            return None
        return ProcessExit.fromStatus(status, "/proc/PID/stat")

    def info(self) -> ProcessInfo:
        try:
            mask, fields = self._ask()
        except OSError as problem:
            if problem.errno in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
                raise PeerProcessUnsupported(
                    f"PIDFD_GET_INFO: {problem}; Linux has it from 6.13"
                ) from problem
            if self.hasEnded():
                raise self._gone() from problem
            raise _outOfSight() from problem
        if not mask & INFO_PID or not mask & INFO_CREDS:
            raise self._gone()
        cgroup, pid, _, parent = fields[:4]
        uids = self._mapped("uid", fields[4:12:2])
        gids = self._mapped("gid", fields[5:12:2])
        return ProcessInfo(
            pid=pid,
            parent=parent or None,
            realUID=uids[0],
            effectiveUID=uids[1],
            savedUID=uids[2],
            filesystemUID=uids[3],
            realGID=gids[0],
            effectiveGID=gids[1],
            savedGID=gids[2],
            filesystemGID=gids[3],
            cgroupID=cgroup if mask & INFO_CGROUPID else None,
            source="PIDFD_GET_INFO",
        )

    def _mapped(self, kind: str, numbers: tuple[int, ...]) -> list[int | None]:
        """
        IDs, with L{None} for each that may stand for one of another user
        namespace.
        """
        suspects = overflowIDs(self._proc).intersection(numbers)
        if not suspects:
            return list(numbers)
        try:
            with open(f"{self._proc}/self/{kind}_map") as file:
                mapping = file.read()
        except OSError:
            mapping = ""
        if isWhole(mapping):
            return list(numbers)
        return [None if each in suspects else each for each in numbers]

    def _number(self) -> int:
        """
        Where in /proc the process is.
        """
        path = f"{self._proc}/self/fdinfo/{self._descriptor}"
        try:
            with open(path, "rb") as file:
                number = decodeNumber(file.read())
        except OSError as problem:
            raise PeerProcessUnavailable(f"{path}: {problem.strerror}") from problem
        if number < 0:
            raise self._gone()
        if number == 0:
            raise _outOfSight()
        return number

    def read(self, name: str) -> bytes:
        number = self._number()
        path = f"{self._proc}/{number}/{name}"
        try:
            if name == "exe":
                content = os.readlink(os.fsencode(path))
            else:
                with open(path, "rb") as file:
                    content = file.read()
        except OSError as problem:
            if self.hasEnded():
                raise self._gone() from problem
            raise PeerProcessUnavailable(
                f"{path}: {problem.strerror}; this process may not look there:"
                " see hidepid in proc(5) and PTRACE_MODE_READ in ptrace(2)"
            ) from problem
        # Alive after the reading, it had that number all the while.
        if self.hasEnded():
            raise self._gone()
        return content

    def signal(self, number: int) -> None:
        if number and number not in signal.valid_signals():
            raise ValueError(f"{number!r} is no signal's number")
        if self.hasEnded():
            # To one that is still to be reaped a signal would seem to go.
            raise self._gone()
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError as problem:
            raise self._gone() from problem
        except OSError as problem:
            if problem.errno == errno.EINVAL:
                raise _outOfSight() from problem
            if problem.errno == errno.ENOSYS:
                raise PeerProcessUnsupported(
                    f"pidfd_send_signal: {problem.strerror}; a sandbox may keep it"
                    " from this process"
                ) from problem
            raise PeerProcessUnavailable(
                f"pidfd_send_signal: {problem.strerror}; to signal a process of"
                " another user this one needs CAP_KILL (kill(2))"
            ) from problem


def probes() -> Sequence[Probe]:
    """
    What is made use of here, to be tried one by one.
    """

    def number() -> int:
        return known(passOption(os.uname().machine))

    def askPeer(ours: socket, _: socket) -> str:
        with closing(Pidfd.ofPeer(ours)) as handle:
            return str(handle._number())

    def askInfo(ours: socket, _: socket) -> str:
        with closing(Pidfd.ofPeer(ours)) as handle:
            info = handle.info()
        return f"pid={info.pid} ruid={info.realUID} euid={info.effectiveUID}"

    def askMessages(ours: socket, _: socket) -> str:
        ours.setsockopt(SOL_SOCKET, number(), 1)
        return "on"

    return (
        Probe("SO_PEERPIDFD", askPeer),
        Probe("PIDFD_GET_INFO", askInfo),
        Probe("SO_PASSPIDFD", askMessages),
    )


def _outOfSight() -> PeerProcessUnavailable:
    return PeerProcessUnavailable(
        "the process is in a PID namespace that cannot be seen from that of this"
        " process or of its /proc (pid_namespaces(7)): run the server in the"
        " namespace that has both, such as the host's"
    )


def _peerProblem(problem: OSError) -> Exception:
    """
    Which of the outcomes an error of C{SO_PEERPIDFD} or C{SCM_PIDFD} is.
    """
    if problem.errno in NO_OPTION:
        return PeerProcessUnsupported(
            f"SO_PEERPIDFD: {problem.strerror}; Linux has it from 6.5, and a"
            " seccomp filter or a sandbox may keep it from this process"
        )
    if problem.errno in (errno.EINVAL, errno.ESRCH):
        return PeerProcessGone("the process has ended, and left nothing to ask by")
    if problem.errno in (errno.EMFILE, errno.ENFILE):
        return PeerProcessUnavailable(
            f"no descriptor is free for a handle on the process: {problem.strerror};"
            " see RLIMIT_NOFILE in getrlimit(2)"
        )
    return PeerProcessUnavailable(f"no handle on the process: {problem.strerror}")
