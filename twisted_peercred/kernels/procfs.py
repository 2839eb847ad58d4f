"""
Decoders of what proc(5) says about a process: C{/proc/PID/status}, C{stat},
C{cmdline}, C{cgroup} (cgroups(7)).  Bytes to values, and nothing else.

Much of it is the process's own to choose: its name, its command line.  Nothing
here is a credential.
"""

from __future__ import annotations

import os
import re

#: A unit's name with one of its types (systemd.unit(5)); what systemd puts an
#: underscore before where the kernel would take the name for one of its own
#: files is a unit as well.
UNIT = re.compile(
    r"_?((?:[A-Za-z0-9:_.\\-]|@(?=[^/]*\.))+\.(?:service|scope|socket|mount|swap))"
)


def decodeStatus(data: bytes) -> dict[str, str]:
    """
    C{/proc/PID/status}: the fields by their names, their text as the kernel
    wrote it.  A newline in a process's name is escaped by the kernel, so no
    process can write a field of its own.
    """
    fields = {}
    # Not splitlines(): the kernel escapes no other line end.
    for line in data.decode("ascii", "backslashreplace").removesuffix("\n").split("\n"):
        name, _, value = line.partition(":")
        fields[name] = value.strip()
    return fields


def decodeCommandLine(data: bytes) -> tuple[bytes, ...]:
    """
    C{/proc/PID/cmdline}: the arguments, each ended by a NUL; none for a
    thread of the kernel.
    """
    return tuple(data.removesuffix(b"\0").split(b"\0")) if data else ()


def _statFields(data: bytes) -> list[bytes]:
    # The command's name is in parentheses and may have any in it.  What
    # follows is numbers; the first of them here is the third of proc(5).
    return data.rpartition(b")")[2].split()


def decodeStartTime(data: bytes) -> float:
    """
    C{/proc/PID/stat}, field 22: seconds since the system was started, to one
    clock tick (C{sysconf(_SC_CLK_TCK)}).
    """
    return int(_statFields(data)[22 - 3]) / os.sysconf("SC_CLK_TCK")


def decodeExitStatus(data: bytes) -> int:
    """
    C{/proc/PID/stat}, field 52: the status for wait(2) of a process that is
    still to be reaped; C{0} too where the reader may not know.
    """
    return int(_statFields(data)[52 - 3])


def decodeCgroup(data: bytes) -> str | None:
    """
    C{/proc/PID/cgroup}: the path in the hierarchy that systemd names units by,
    which is its own C{name=systemd} where there is one and the unified one
    otherwise.

    @return: the path below the root of this process's cgroup namespace;
        L{None} if it is in neither.
    """
    paths = {}
    # Not splitlines(): who may make a cgroup may put any line end but this one
    # into its name, and the line of another after it (measured).
    for line in os.fsdecode(data).split("\n"):
        if not line:
            continue
        number, controllers, path = line.split(":", 2)
        paths[controllers or number] = path
    return paths.get("name=systemd", paths.get("0"))


def unitOf(cgroup: str) -> str | None:
    """
    The system's unit that a cgroup belongs to: the first one below the
    slices, as sd_pid_get_unit(3).  Cgroups further down are for the unit
    itself to make, with any name: for all of a user's own units this is
    C{user@UID.service}.

    @param cgroup: a path, as from L{decodeCgroup}.
    @return: its name; L{None} if the cgroup is no unit's, or is outside of
        this process's cgroup namespace.
    """
    for part in cgroup.split("/")[1:]:
        if part.endswith(".slice"):
            continue
        found = UNIT.fullmatch(part)
        return found and found[1]
    return None
