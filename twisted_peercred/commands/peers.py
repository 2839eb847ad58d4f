"""
What commands that look at somebody else's socket have in common: to connect
to it, and to print who is there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterable

from twisted.python import usage

from . import CommandFailed, CommandOptions

#: Seconds to wait for a server that does not accept connections.
PATIENCE = 10.0

#: One line of a table: what, the value, where it is from.
Row = tuple[str, str, str]


class AddressOptions(CommandOptions):
    """
    The options of a command that takes one address.
    """

    words = "ADDRESS [options]"
    optFlags = [["json", "j", "Print one JSON object."]]

    def parseArgs(self, *words: str) -> None:
        """
        Options may come after the address too.
        """
        if not words:
            raise usage.UsageError("which address? see --help")
        address, *more = words
        if more and more[0].startswith("-"):
            self.parseOptions([*more, address])
            return
        if more:
            raise usage.UsageError(f"one address, not {len(words)}")
        self["address"] = address


def connect(address: str) -> tuple[socket.socket, str]:
    """
    Connect to a socket, of whatever type.

    @param address: a path, or C{@} and a name of the abstract namespace.
    @return: the connection, blocking, and its type: C{"stream"} or
        C{"seqpacket"}.
    @raise CommandFailed: there is none to be had.
    """
    if not address.startswith("@"):
        try:
            mode = os.stat(address).st_mode
        except OSError as problem:
            raise failure(address, problem) from problem
        # connect(2) says "refused" to a file of another kind.
        if not stat.S_ISSOCK(mode):
            raise CommandFailed(f"{printable(address)}: this is no socket")
    for kind in ("stream", "seqpacket", "dgram"):
        try:
            sock = connectAs(kind, address)
        except OSError as problem:
            why = problem
            # Of another type: by path it is said so, by name nobody is found.
            if problem.errno in (errno.EPROTOTYPE, errno.ECONNREFUSED):
                continue
            break
        if kind != "dgram":
            return sock, kind
        sock.close()
        raise CommandFailed(
            f"{printable(address)}: a datagram socket, which has no connections, and"
            " so no peer that the kernel could name"
        )
    raise failure(address, why) from why


def connectAs(kind: str, address: str) -> socket.socket:
    """
    Connect to a socket of one type.
    """
    sock = socket.socket(socket.AF_UNIX, getattr(socket, f"SOCK_{kind.upper()}"))
    try:
        # Python's own timeout would make the socket a non-blocking one, which
        # does not wait for room in the server's queue.
        patience = struct.pack("ll", *divmod(int(PATIENCE * 1_000_000), 1_000_000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        sock.connect("\0" + address[1:] if address.startswith("@") else address)
    except BaseException:
        sock.close()
        raise
    return sock


def failure(address: str, problem: OSError) -> CommandFailed:
    """
    Why there is no connection, in one line.
    """
    number = problem.errno
    if number == errno.ECONNREFUSED:
        why = "nobody listens there"
    elif number == errno.EAGAIN:
        why = f"it has accepted nobody for {PATIENCE:g} seconds, and its queue is full"
    elif number in (errno.EACCES, errno.EPERM):
        why = "permission denied: connecting takes write permission on the socket"
    elif number:
        why = os.strerror(number)
    else:
        # Python's own: a path that is too long.
        why = str(problem)
    return CommandFailed(f"{printable(address)}: {why}")


def printable(text: str) -> str:
    """
    Text from elsewhere, without what a terminal would obey.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def named(number: int, name: str | None) -> str:
    """
    An ID, in the manner of id(1).
    """
    return str(number) if name is None else f"{number}({name})"


def table(rows: Iterable[Row]) -> str:
    """
    Lines of columns that are aligned; coloured on a terminal, unless
    C{NO_COLOR} is set.
    """
    shown = [tuple(map(printable, row)) for row in rows]
    name, value = (max(len(row[column]) for row in shown) for column in (0, 1))
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    bold, dim, off = ("\033[1m", "\033[2m", "\033[0m") if colour else ("", "", "")
    return "\n".join(
        f"{bold}{row[0]:{name}}{off}  "
        + (f"{row[1]:{value}}  {dim}{row[2]}{off}" if row[2] else row[1])
        for row in shown
    )
