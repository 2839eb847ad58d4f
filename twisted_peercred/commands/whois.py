"""
C{peercred whois}: who listens on a socket, as a client that connects would
see it.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import socket
import struct
import sys
from typing import NamedTuple

from ..credentials import PeerCredentials
from ..errors import PeerCredentialsError
from ..kernels import thisKernel
from ..names import groupName, userName
from . import CommandFailed
from .peers import AddressOptions, Row, connect, named, table

#: C{SO_PEERPIDFD} (socket(7), Linux 6.5), by the beginning of the
#: architecture's name, where it is not the generic number.
PEER_PIDFD = 77
PEER_PIDFDS = {"sparc": 0x56, "parisc": 0x404B}

LISTEN = "the kernel, at listen(2)"
#: A label is not of the moment of listen(2).
SOCKET = "the kernel, of the listening socket"
NAMES = "the name service, now"


def peerPidfd(sock: socket.socket) -> int | None:
    """
    A handle on the process that listened, or L{None} where the kernel has
    none to give.
    """
    if sys.platform != "linux":
        return None
    machine = os.uname().machine
    option = PEER_PIDFD
    for start, number in PEER_PIDFDS.items():
        if machine.startswith(start):
            option = number
    try:
        answer = sock.getsockopt(socket.SOL_SOCKET, option, 4)
    except OSError:
        return None
    (descriptor,) = struct.unpack("=i", answer)
    return int(descriptor)


def hasEnded(pidfd: int) -> bool:
    """
    Whether the process of a handle has ended (pidfd_open(2)).
    """
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def readCommand(pid: int, proc: str = "/proc") -> str | None:
    """
    The command line of a process as proc(5) has it, quoted for a shell; what
    the process calls itself, in brackets, if it has none.  Both are the
    process's own to choose.
    """
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
        if words != [b""]:
            return shlex.join(os.fsdecode(each) for each in words)
        with open(f"{proc}/{pid}/comm", "rb") as file:
            return f"[{os.fsdecode(file.read().rstrip())}]"
    except OSError:
        return None


def commandOf(sock: socket.socket, pid: int) -> tuple[str | None, str]:
    """
    The command of the process that listened, and where it is from.
    """
    pidfd = peerPidfd(sock)
    try:
        command = readCommand(pid)
        if pidfd is not None and hasEnded(pidfd):
            # Whatever was read may be of another process of that number.
            return None, "the process has ended"
    finally:
        if pidfd is not None:
            os.close(pidfd)
    if command is None:
        return None, f"/proc/{pid} cannot be read"
    if pidfd is None:
        return command, f"/proc/{pid}, now: perhaps of another one by now"
    return command, f"/proc/{pid}, now: still the one that listened"


class Found(NamedTuple):
    """
    Who listens on a socket.

    @ivar type: C{"stream"} or C{"seqpacket"}.
    @ivar command: what it runs, or L{None}.
    @ivar commandSource: where that is from, or why there is none.
    """

    address: str
    type: str
    server: PeerCredentials
    command: str | None
    commandSource: str

    def asDict(self) -> dict[str, object]:
        """
        Plain types, fit for JSON: the fields of L{PeerCredentials.asDict}, what
        was looked up beside them, and C{sources}, where each is from.
        """
        server = self.server
        kernel = {**dict.fromkeys(server.asDict(), LISTEN), "securityLabel": SOCKET}
        names = dict.fromkeys(("userName", "groupName", "groupNames"), NAMES)
        return {
            "address": self.address,
            "type": self.type,
            **server.asDict(),
            "userName": userName(server.uid),
            "groupName": groupName(server.gid),
            "groupNames": server.groups and list(map(groupName, server.groups)),
            "command": self.command,
            "sources": {**kernel, **names, "command": self.commandSource},
        }

    def asRows(self) -> list[Row]:
        """
        For people.
        """
        server = self.server
        groups, label, pid = server.groups, server.securityLabel, server.pid
        looked = f"{LISTEN}; {NAMES}"
        return [
            ("address", self.address, f"a {self.type} socket"),
            ("uid", named(server.uid, userName(server.uid)), looked),
            ("gid", named(server.gid, groupName(server.gid)), looked),
            ("groups", "unknown", "this kernel does not give all of them")
            if groups is None
            else (
                "groups",
                ",".join(named(each, groupName(each)) for each in groups),
                looked,
            ),
            ("label", "none", "no security module labels sockets here")
            if label is None
            else ("label", ascii(label)[2:-1], SOCKET),
            ("pid", "unknown", "the kernel has none to give: see pid_namespaces(7)")
            if pid is None
            else ("pid", str(pid), LISTEN),
            ("command", self.command or "unknown", self.commandSource),
        ]


def find(address: str) -> Found:
    """
    Look who listens; nothing is sent.

    @raise CommandFailed: it cannot be told.
    """
    sock, kind = connect(address)
    with sock:
        try:
            server = thisKernel().connectionCredentials(sock)
        except PeerCredentialsError as problem:
            raise CommandFailed(f"{address}: {problem}") from problem
        if server.pid is None:
            return Found(address, kind, server, None, "without a pid there is none")
        return Found(address, kind, server, *commandOf(sock, server.pid))


class Options(AddressOptions):
    """
    Whom to look at.
    """

    longdesc = (
        "Says who listens on a Unix-domain socket: connects, asks the kernel, and"
        " sends nothing."
    )
    example = """
ADDRESS is a path, or @ and a name in the abstract namespace.  For example, to see
whose server this is:

$ peercred whois /run/app.sock
address  /run/app.sock               a stream socket
uid      105(app)                    the kernel, at listen(2); the name service, now
gid      113(app)                    the kernel, at listen(2); the name service, now
groups   102(ssl-cert),113(app)      the kernel, at listen(2); the name service, now
label    none                        no security module labels sockets here
pid      4711                        the kernel, at listen(2)
command  /usr/bin/python3 server.py  /proc/4711, now: still the one that listened

Of a socket-activated server it is the activator who listens, until the server
calls listen(2) too, as one made with Twisted does.  For a script:

$ test "$(peercred whois --json /run/app.sock | jq .uid)" = "$(id -u app)"
"""

    def run(self) -> int:
        found = find(self["address"])
        print(json.dumps(found.asDict()) if self["json"] else table(found.asRows()))
        return 0
