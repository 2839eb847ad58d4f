"""
What is written down about who was let in and who was not.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from .errors import PeerCredentialsError, PeerRefused
from .interfaces import IPeerCredentials

_log = Logger()


def refused(
    address: IAddress,
    credentials: IPeerCredentials | None,
    problem: PeerCredentialsError,
) -> None:
    """
    One event for one refusal.  The peer is told nothing.

    @param address: where it connected from; a name that the peer itself may
        have chosen, and so only ever shown as C{repr}.
    @param credentials: who it is, as far as that is known.
    @param problem: why.
    """
    _log.warn(
        "Refused {address!r}: {error}",
        what="refused",
        error=problem,
        reason=type(problem).__name__,
        rule=problem.rule if isinstance(problem, PeerRefused) else None,
        uid=None if credentials is None else credentials.uid,
        gid=None if credentials is None else credentials.gid,
        pid=None if credentials is None else credentials.pid,
        address=address,
    )
