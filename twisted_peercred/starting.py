"""
twistd services that listen, or say in one line why not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from twisted.application import service
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.error import CannotListenError

from .errors import PeerCredentialsError


class CannotStart(SystemExit, Exception):
    """
    Ends twistd with status 1 and one line.  An L{Exception} too, so that
    twistd clears up (its PID file) before it goes.
    """


class StartingService(service.MultiService):
    """
    Listens, or ends twistd with a word.

    @param program: what the user called.
    @param description: where it is to listen, for what is said.
    @param makePort: makes the service that listens.
    @raise CannotStart: it cannot be made.
    """

    def __init__(
        self,
        program: str,
        description: str,
        makePort: Callable[[], service.IService],
    ) -> None:
        super().__init__()
        self._program = program
        self._description = description
        try:
            port = makePort()
        except (
            ValueError,
            TypeError,
            LookupError,
            OSError,
            PeerCredentialsError,
        ) as problem:
            raise self._sorry(problem) from problem
        port.setServiceParent(self)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except (CannotListenError, OSError, PeerCredentialsError) as problem:
            sorry = self._sorry(getattr(problem, "socketError", problem))
            # sys.stderr is twistd's log by now, which may be a file.
            print(sorry, file=sys.__stderr__)
            raise sorry from problem

    def _sorry(self, problem: object) -> CannotStart:
        why = problem.strerror if isinstance(problem, OSError) else None
        return CannotStart(
            f"{self._program}: cannot listen on {self._description}: {why or problem}"
        )


def defaultEndpoint(name: str) -> str:
    """
    A socket for this user alone, in C{$XDG_RUNTIME_DIR} or the working
    directory.

    @param name: what to call it there.
    """
    path = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), name)
    return f"unix:{quoteStringArgument(path)}:mode=600"


def endpointOption(name: str) -> list[str | None]:
    """
    The option C{--endpoint}, for C{optParameters}.
    """
    return [
        "endpoint",
        "e",
        None,
        "Where to listen, a server endpoint string of a Unix socket."
        f"  [default: {name} in $XDG_RUNTIME_DIR, else in the working"
        " directory, mode 600]",
    ]
