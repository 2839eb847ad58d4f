"""
In which of Linux's namespaces this process is, and what it cannot see from
there: namespaces(7), pid_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import os
from typing import NamedTuple

#: What the namespaces that a kernel starts with are called, on every machine
#: (C{include/linux/proc_ns.h}).
FIRST_PID = "pid:[4026531836]"
FIRST_USER = "user:[4026531837]"
#: IDs that there are (C{2**32} less the one that means none).
ALL = 2**32 - 1


class Namespaces(NamedTuple):
    """
    As /proc/self has them.

    @ivar pid: name of the PID namespace; C{""} where it is not known.
    @ivar user: name of the user namespace, likewise.
    @ivar uidMap: C{uid_map}: first ID inside, first ID outside, how many.
    @ivar gidMap: C{gid_map}, likewise.
    """

    pid: str
    user: str
    uidMap: tuple[tuple[int, int, int], ...]
    gidMap: tuple[tuple[int, int, int], ...]

    def remarks(self) -> list[str]:
        """
        What an administrator should know of a server that runs here; nothing,
        if it sees all there is.
        """
        remarks = []
        if self.pid != FIRST_PID:
            remarks.append(
                "This PID namespace is not the first one: peers outside of it have no"
                " pid, root among them is refused in message captures, and /proc says"
                " nothing about them. Run the server in the host's PID namespace to"
                " see them."
            )
        for kind, mapping in (("uid", self.uidMap), ("gid", self.gidMap)):
            mapped = sum(count for _, _, count in mapping)
            if mapped < ALL:
                remarks.append(
                    f"{mapped} {kind}s are mapped in this user namespace: peers with"
                    f" any other {kind} are refused. Map those that your peers have"
                    " (/etc/subuid and /etc/subgid, uid_map and gid_map) to admit them."
                )
        return remarks


def decodeMap(text: str) -> tuple[tuple[int, int, int], ...]:
    """
    C{uid_map} or C{gid_map}, user_namespaces(7).
    """
    ranges = []
    for line in text.splitlines():
        inside, outside, count = map(int, line.split())
        ranges.append((inside, outside, count))
    return tuple(ranges)


def namespaces(proc: str = "/proc") -> Namespaces:
    """
    Those of this process.

    @param proc: the directory of proc(5).  What it does not have is not known.
    """

    def link(name: str) -> str:
        try:
            return os.readlink(f"{proc}/self/ns/{name}")
        except OSError:
            return ""

    def mapping(name: str) -> tuple[tuple[int, int, int], ...]:
        try:
            with open(f"{proc}/self/{name}") as file:
                return decodeMap(file.read())
        except OSError:
            return ()

    return Namespaces(link("pid"), link("user"), mapping("uid_map"), mapping("gid_map"))
