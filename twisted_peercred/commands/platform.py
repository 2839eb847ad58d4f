"""
What this machine's kernel says about peers, tried piece by piece: something to
paste into a bug report.  It has no names of hosts or users in it.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import twisted

from .. import __version__
from ..credentials import Capture
from ..errors import PeerCredentialsError
from ..kernels import Kernel, Probe, pidfd, thisKernel
from ..kernels.linux import Linux
from ..kernels.namespaces import FIRST_PID, FIRST_USER, namespaces
from ..kernels.trials import PATIENCE, connection
from . import CommandOptions

#: What a kernel says to an option that it does not know.
UNKNOWN_OPTION = {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}

#: A way to two ends of a connection that nothing has been done with.
Sockets = Callable[[], AbstractContextManager[tuple[socket.socket, socket.socket]]]


class Pair(AbstractContextManager[tuple[socket.socket, socket.socket]]):
    """
    A socketpair(2), as L{connection} is a connection.
    """

    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        self._ends = socket.socketpair()
        return self._ends

    def __exit__(self, *problem: object) -> None:
        for end in self._ends:
            end.close()


SOCKETS: dict[str, Sockets] = {"socketpair": Pair, "connection": connection}


def tryProbe(probe: Probe, sockets: Sockets) -> dict[str, str | None]:
    """
    Ask one thing.

    @return: C{state}, which is C{"supported"}, C{"unsupported"} (the kernel does
        not know it) or C{"refused"}; C{gave}, what came of it; C{errno}, the
        error's name, where there is one.
    """
    try:
        with sockets() as (ours, theirs):
            ours.settimeout(PATIENCE)
            return {
                "state": "supported",
                "gave": probe.ask(ours, theirs),
                "errno": None,
            }
    except (OSError, PeerCredentialsError) as problem:
        cause = problem if isinstance(problem, OSError) else problem.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        return {
            "state": "unsupported" if number in UNKNOWN_OPTION else "refused",
            "gave": None if number else str(problem),
            "errno": errno.errorcode.get(number or 0),
        }


def tryCapture(kernel: Kernel, capture: Capture) -> str | None:
    """
    @return: why a capture is not available; L{None} if it is.
    """
    try:
        kernel.checkCapture(capture)
    except PeerCredentialsError as problem:
        return str(problem)
    return None


def examine() -> dict[str, Any]:
    """
    The whole report, of plain types.
    """
    system = os.uname()
    report: dict[str, Any] = {
        "system": system.sysname,
        "release": system.release,
        "machine": system.machine,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "twisted": twisted.__version__,
        "twisted_peercred": __version__,
    }
    try:
        kernel = thisKernel()
    except PeerCredentialsError as problem:
        return {**report, "kernel": None, "problem": str(problem)}
    probes = kernel.probes()
    report["kernel"] = type(kernel).__name__
    if isinstance(kernel, Linux):
        probes = (*probes, *pidfd.probes())
        here = namespaces()
        report["namespaces"] = {**here._asdict(), "remarks": here.remarks()}
    return {
        **report,
        "options": {
            probe.name: {
                name: tryProbe(probe, sockets) for name, sockets in SOCKETS.items()
            }
            for probe in probes
        },
        "captures": {each.value: tryCapture(kernel, each) for each in Capture},
    }


def lines(report: dict[str, Any]) -> list[str]:
    """
    A report as a table: what was tried, on what, what became of it, and more
    about that; then what follows from the namespaces that this process is in.
    """
    rows = [
        (name, "", str(value), "")
        for name, value in report.items()
        if not isinstance(value, dict)
    ]
    here = report.get("namespaces", {})
    for name, first in (("pid", FIRST_PID), ("user", FIRST_USER)):
        if here:
            state = "first" if here[name] == first else "another"
            rows.append((f"Namespace {name}", "", state, here[name]))
    for name in ("uidMap", "gidMap"):
        for each in here.get(name, ()):
            rows.append((name, "", "mapped", "{} is {}, {} of them".format(*each)))
    for name, tries in report.get("options", {}).items():
        for on, found in tries.items():
            rows.append((name, on, found["state"], found["errno"] or found["gave"]))
    for name, problem in report.get("captures", {}).items():
        rows.append((f"Capture {name}", "", "no" if problem else "yes", problem or ""))
    what, on = (max(len(row[column]) for row in rows) for column in (0, 1))
    table = [
        f"{row[0]:{what}}  {row[1]:{on}}  {row[2]:11}  {row[3]}".rstrip()
        for row in rows
    ]
    return [*table, *here.get("remarks", ())]


class Options(CommandOptions):
    """
    How to print it.
    """

    words = "[--json]"
    longdesc = (
        "Tries each thing that this package asks of the kernel, on a socket pair"
        " and on a connection of this process with itself, and then each capture."
        " It needs no privileges, and leaves nothing behind."
    )
    optFlags = [["json", None, "Print one JSON object."]]
    example = """
For a bug report:  peercred platform
For a program:     peercred platform --json | jq .captures
"""

    def run(self) -> int:
        """
        @return: C{1} if this platform is not known.
        """
        report = examine()
        if self["json"]:
            print(json.dumps(report, indent=2))
        else:
            print("\n".join(lines(report)))
        return 0 if report["kernel"] else 1
