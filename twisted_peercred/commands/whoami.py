"""
C{peercred whoami}: how a C{twistd peercred-echo} sees its caller.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import Any

from twisted.python import usage

from ..kernels import thisKernel
from . import CommandFailed
from .peers import AddressOptions, Row, connect, failure, named, table

#: More than any greeting: 65,536 groups with their names.
LONGEST = 4 * 1024 * 1024

# No two parts can match the same text: a hostile server's greeting takes no more
# time than another.
NUMBER = r"\d{1,10}"
ID = rf"({NUMBER})(?:\(([^()]*)\))?"
MEMBER = rf"{NUMBER}(?:\([^()]*\))?"
#: What L{twisted_peercred.echo.greeting} writes.
GREETING = re.compile(
    rf"uid={ID} gid={ID}(?: groups=({MEMBER}(?:,{MEMBER})*))?"
    rf"(?: pid=({NUMBER}))?(?: context=(\S+))? captured at ([a-z ]+)"
)
GROUP = re.compile(rf"{ID}(?:,|$)")


def isGreeting(found: dict[str, Any]) -> bool:
    """
    Whether an object has what a greeting has, of the types that it has there:
    what a server says may be anything.
    """
    groups = found.get("groups") or []
    names = found.get("groupNames") or groups
    return (
        all(type(found.get(name)) is int for name in ("uid", "gid"))
        and isinstance(found.get("capture"), str)
        and isinstance(groups, list)
        and all(type(each) is int for each in groups)
        and isinstance(names, list)
        and len(names) == len(groups)
    )


def decodeGreeting(line: str) -> dict[str, Any] | None:
    """
    A greeting, in words or as JSON, as plain types: the fields of
    L{PeerCredentials.asDict
    <twisted_peercred.credentials.PeerCredentials.asDict>}, as far as it has
    them, and names.  L{None} if it is none.
    """
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return found if isGreeting(found) else None
    match = GREETING.fullmatch(line)
    if match is None:
        return None
    uid, userName, gid, groupName, groups, pid, label, capture = match.groups()
    members = None if groups is None else GROUP.findall(groups)
    return {
        "uid": int(uid),
        "gid": int(gid),
        "groups": members and [int(each) for each, _ in members],
        "securityLabel": label,
        "pid": None if pid is None else int(pid),
        "capture": capture.replace(" ", "-"),
        "userName": userName,
        "groupName": groupName,
        "groupNames": members and [name or None for _, name in members],
    }


def rows(seen: dict[str, Any]) -> list[Row]:
    """
    The same, for people; what the server does not tell is left out.
    """
    groups = seen.get("groups")
    names = seen.get("groupNames") or [None] * len(groups or ())
    found = [
        ("uid", named(seen["uid"], seen.get("userName"))),
        ("gid", named(seen["gid"], seen.get("groupName"))),
        ("groups", groups and ",".join(map(named, groups, names))),
        ("label", seen.get("securityLabel")),
        ("pid", seen.get("pid")),
        ("captured at", seen["capture"].replace("-", " ")),
    ]
    return [(name, str(value), "") for name, value in found if value is not None]


def ask(address: str, timeout: float) -> dict[str, Any]:
    """
    @param timeout: seconds that the server may take.
    @raise CommandFailed: it does not say who one is.
    """
    sock, _ = connect(address)
    deadline = time.monotonic() + timeout
    data = b""
    with sock:
        try:
            # A server that looks at messages greets after the first of them;
            # one that has closed may have said why.
            with suppress(BrokenPipeError):
                sock.sendmsg([b"\n"], thisKernel().credentialsToSend())
            with suppress(ConnectionResetError):
                while b"\n" not in data and len(data) < LONGEST:
                    sock.settimeout(max(0.001, deadline - time.monotonic()))
                    more = sock.recv(65536)
                    if not more:
                        break
                    data += more
        except TimeoutError as problem:
            raise CommandFailed(
                f"{address}: no greeting within {timeout:g} seconds; is it a"
                " peercred-echo?"
            ) from problem
        except OSError as problem:
            raise failure(address, problem) from problem
    line = data.partition(b"\n")[0].decode("utf-8", "backslashreplace")
    if not line:
        raise CommandFailed(
            f"{address}: closed without a greeting: the server refuses this caller"
        )
    seen = decodeGreeting(line)
    if seen is None:
        raise CommandFailed(f"{address}: greets with {line[:60]!r}: no peercred-echo")
    return seen


class Options(AddressOptions):
    """
    Whom to ask.
    """

    optParameters = [
        ["timeout", "t", 10.0, "Seconds to wait for the answer.", float],
    ]
    longdesc = "Says how a server, a peercred-echo, sees whoever runs this command."
    example = """
ADDRESS is a path, or @ and a name in the abstract namespace.  In one terminal

$ twistd -n peercred-echo -e unix:/tmp/echo.sock

and in another, as whoever you want to be seen:

$ peercred whoami /tmp/echo.sock
uid          1000(alice)
gid          1000(alice)
groups       27(sudo),1000(alice)
pid          4711
captured at  connect
$ sudo -u nobody peercred whoami --json /tmp/echo.sock | jq .uid
65534
"""

    def postOptions(self) -> None:
        if not self["timeout"] > 0:
            raise usage.UsageError("--timeout is seconds, more than 0")

    def run(self) -> int:
        seen = ask(self["address"], self["timeout"])
        print(json.dumps(seen) if self["json"] else table(rows(seen)))
        return 0
