"""
Files that decide who gets in: read only where nobody but root and the user of
this process can have written them.

The path is walked from the root by open file descriptors, so that each
directory is looked at once and what is looked at is what is read: there is no
moment between check and use.  In a directory that is writable for others only
the sticky bit will do (sticky(7)): there nobody can replace what is ours.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack

from .errors import PolicyError

#: Bytes; a policy of a million rules is less.
MAX_SIZE = 64 * 1024 * 1024
#: As the kernel allows, path_resolution(7).
MAX_LINKS = 40

# A directory may be passable and not readable.  Linux; FreeBSD from 14.
_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
# O_NONBLOCK: a FIFO is refused, and not waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def readTrusted(path: str | os.PathLike[str]) -> str:
    """
    The text of a file.  Blocks as files do.

    @raise PolicyError: it cannot be read, is not UTF-8, was changed while it
        was read, or others than root and the effective user of this process
        may write to it or put another in its place.
    """
    source = os.fsdecode(path)
    try:
        with ExitStack() as opened:
            # Not abspath(), to which "link/.." is nothing.
            absolute = source if os.path.isabs(source) else f"{os.getcwd()}/{source}"
            data = _read(_walk(absolute, opened))
    except _Untrusted as problem:
        raise PolicyError(str(problem), source=source) from None
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise PolicyError(f"cannot be read: {why}", source=source) from problem
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        before = data[: problem.start].decode("utf-8")
        raise PolicyError(
            f"the byte {data[problem.start]:#04x} is not UTF-8",
            before.count("\n") + 1,
            len(before) - (before.rfind("\n") + 1) + 1,
            source,
        ) from None


class _Untrusted(Exception):
    """
    Why a file is not believed.
    """


def _walk(path: str, opened: ExitStack) -> int:
    """
    @return: the file, open; like all that was opened on the way, for C{opened}
        to close.
    """

    def opening(name: str, flags: int, directory: int | None = None) -> int:
        descriptor = os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
        opened.callback(os.close, descriptor)
        return descriptor

    directory = opening("/", _PASS)
    _checkDirectory(os.fstat(directory), "/")
    shown = "/"
    links = 0
    names = [each for each in reversed(path.split("/")) if each]
    while names:
        name = names.pop()
        seen = os.path.join(shown, name)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        _checkOwner(found, seen)
        if stat.S_ISLNK(found.st_mode):
            # Nobody can have changed it since: it is ours, in a directory
            # where only we can change what is ours.
            links += 1
            if links > MAX_LINKS:
                raise _Untrusted("there are too many symbolic links on the way to it")
            target = os.readlink(name, dir_fd=directory)
            if target.startswith("/"):
                directory, shown = opening("/", _PASS), "/"
            names += [each for each in reversed(target.split("/")) if each]
        elif names or stat.S_ISDIR(found.st_mode):
            directory, shown = opening(name, _PASS, directory), seen
            _checkDirectory(os.fstat(directory), seen)
        else:
            descriptor = opening(name, _READ, directory)
            _checkFile(os.fstat(descriptor), seen)
            return descriptor
    raise _Untrusted("it is a directory")


def _checkOwner(found: os.stat_result, shown: str) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise _Untrusted(
            f"{shown} belongs to uid {found.st_uid}, who might write it: chown it"
            f" to root or to uid {os.geteuid()}"
        )


def _checkDirectory(found: os.stat_result, shown: str) -> None:
    _checkOwner(found, shown)
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        raise _Untrusted(
            f"others may put files into {shown} (mode"
            f" {stat.S_IMODE(found.st_mode):o}): chmod go-w {shown}"
        )


def _checkFile(found: os.stat_result, shown: str) -> None:
    _checkOwner(found, shown)
    if not stat.S_ISREG(found.st_mode):
        raise _Untrusted(f"{shown} is no regular file")
    # With an access control list the group's bits are its mask, acl(5).
    if found.st_mode & 0o022:
        raise _Untrusted(
            f"others may write {shown} (mode {stat.S_IMODE(found.st_mode):o}):"
            f" chmod go-w {shown}"
        )
    if found.st_size > MAX_SIZE:
        raise _Untrusted(f"{shown} has more than {MAX_SIZE} bytes")


def _read(descriptor: int) -> bytes:
    before = os.fstat(descriptor)
    with open(os.dup(descriptor), "rb") as file:
        data = file.read(MAX_SIZE)
    after = os.fstat(descriptor)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        # Half of a policy might be one.
        raise _Untrusted("it was changed while it was read: try again")
    return data
