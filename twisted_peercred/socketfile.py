"""
The file of a Unix-domain socket: who may connect, from its first instant on,
and whose file may be replaced.

A socket can be connected to when it listens, and listens when its file has
its final owner, group and mode.  Until then the file is for its maker alone:
on Linux the mode that fchmod(2) gives to a socket is that of the file that
bind(2) makes (measured; less the umask, which is not touched here: it is all
threads').  So the file is never wider than it will be.

A file that is in the way is replaced if no socket is bound to it any more
(its server is dead) and it was this user's; never else.  Whether one is bound
is asked by connecting a datagram socket, which a stream server does not
notice: C{EPROTOTYPE} where there is one, listening or not yet, and
C{ECONNREFUSED} where there is none (unix(7), measured).

The directory has to be one that only trusted users write to, or sticky: whoever
may rename files in it can put another in any file's place.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EADDRINUSE, ECONNREFUSED, EPERM, EPROTOTYPE
from fcntl import LOCK_EX, LOCK_NB, flock


class SocketFile(socket.socket):
    """
    A Unix-domain stream socket, not blocking, to be bound and to listen.

    @param mode: of the file, at last; what listens has to set it once it is
        bound, as L{twisted.internet.unix.Port} does.
    @param uid: the file's owner; C{-1} leaves it to this process's.
    @param gid: the file's group; C{-1} leaves it to this process's.
    @param abstract: whether a name in Linux's abstract namespace, to which
        everybody may connect, is allowed.
    """

    def __init__(
        self, mode: int, uid: int = -1, gid: int = -1, abstract: bool = False
    ) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.setblocking(False)
        self._mode = mode
        self._uid = uid
        self._gid = gid
        self._abstract = abstract
        self._file: tuple[int, int] | None = None

    def bind(self, address: bytes) -> None:  # type: ignore[override] # a path
        """
        Make the file; give back all of it, the descriptor too, where that
        fails.

        @raise OSError: it cannot be made, or another file is in its place
            that may not be replaced: C{EADDRINUSE}.
        """
        try:
            if isAbstract(address):
                if not self._abstract:
                    raise refusedAbstract()
                super().bind(address)
            else:
                self._bindFile(address)
        except OSError:
            self.close()
            raise

    def _bindFile(self, path: bytes) -> None:
        with suppress(OSError):
            # EINVAL but on Linux, where nobody can connect before it listens.
            os.fchmod(self.fileno(), self._mode & 0o600)
        try:
            super().bind(path)
        except OSError as problem:
            if problem.errno != EADDRINUSE:
                raise
            with _onlyOne(path):
                checkPlace(path, self._uid)
                with suppress(FileNotFoundError):
                    os.unlink(path)
                super().bind(path)
        try:
            if (self._uid, self._gid) != (-1, -1):
                os.chown(path, self._uid, self._gid, follow_symlinks=False)
            self._file = _identity(path)
        except OSError:
            os.unlink(path)
            raise

    def ownsFile(self, path: bytes | str) -> bool:
        """
        Whether the file that was made is still in its place.
        """
        try:
            return self._file is not None and self._file == _identity(path)
        except FileNotFoundError:
            return False

    def removeFile(self, path: bytes | str) -> None:
        """
        Remove the file that was made, if it is still in its place.

        @raise OSError: this process may not.
        """
        if self.ownsFile(path):
            os.unlink(path)


def isAbstract(address: bytes | str) -> bool:
    """
    Whether an address is a name in Linux's abstract namespace (unix(7)).
    """
    return address[:1] in (b"\0", "\0")


def refusedAbstract() -> OSError:
    """
    The error for an abstract socket that nobody asked for.
    """
    return PermissionError(
        EPERM,
        "an abstract socket has no file whose mode could keep anybody out: give it"
        " a policy (rules=...), or say that it is meant to be open (abstract=open)",
    )


def checkPlace(path: bytes, uid: int = -1) -> None:
    """
    Whether a socket's file may be made here.

    @param uid: whose dead server's file may be replaced, beside this user's.
    @raise OSError: C{EADDRINUSE} where a server lives, or somebody else's file
        is in the way; else why it is not known.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        why = "it is no socket"
    elif found.st_uid not in (os.geteuid(), uid):
        why = f"it belongs to uid {found.st_uid}"
    elif _isBound(path):
        why = "a server is using it"
    else:
        return
    raise OSError(EADDRINUSE, f"a file is in the way, and left alone: {why}")


def clearLock(path: bytes) -> None:
    """
    Remove the lock (Twisted's C{path.lock}, which names a process) that a dead
    server has left, or one of this process's own that failed to start.  Only
    for a place that L{checkPlace} has found good: Twisted removes what is at
    C{path}, unseen, when it finds such a lock; and in a container the server
    that was killed had this very process's number.

    @raise OSError: it cannot be removed.
    """
    lock = path + b".lock"
    try:
        pid = int(os.readlink(lock))
    except (OSError, ValueError):
        return
    if pid != os.getpid():
        try:
            # Not of a process group, nor of a number that there cannot be.
            if 0 < pid < 2**31:
                os.kill(pid, 0)
            return
        except PermissionError:
            # It lives.
            return
        except ProcessLookupError:
            pass
    with suppress(FileNotFoundError):
        os.unlink(lock)


def _identity(path: bytes | str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _isBound(path: bytes) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except OSError as problem:
            if problem.errno == ECONNREFUSED:
                return False
            if problem.errno != EPROTOTYPE:
                raise
    return True


@contextmanager
def _onlyOne(path: bytes) -> Iterator[None]:
    """
    Keep out other servers that find the same dead server's file; two that
    took turns in looking and removing would remove each other's.

    @raise OSError: one is at it now.
    """
    name = path + b".starting"
    lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Locked by the kernel, and so never by a dead process.
        flock(lock, LOCK_EX | LOCK_NB)
        found = os.fstat(lock)
        if (found.st_dev, found.st_ino) != _identity(name):
            raise BlockingIOError
        try:
            yield
        finally:
            os.unlink(name)
    except (BlockingIOError, FileNotFoundError) as problem:
        raise OSError(EADDRINUSE, "another server is just starting here") from problem
    finally:
        os.close(lock)
