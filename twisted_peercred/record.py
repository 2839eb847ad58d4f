"""
What is written down about who was let in and who was not.

Each is one event of L{twisted.logger}, with these fields:

  - C{what}: C{"admitted"} or C{"refused"};
  - C{serial}: the connection's number on its port, that of Twisted's own log
    prefix;
  - C{uid}, C{gid}, C{pid}, C{groups}, C{capture}: who the decision is about, as
    in L{IPeerCredentials <twisted_peercred.interfaces.IPeerCredentials>};
    C{capture} is the name that L{Capture
    <twisted_peercred.credentials.Capture>} gives it;
  - C{connection}: the connect-time credentials, in the manner of id(1);
  - C{reason}: a code, one of L{REASONS};
  - C{rule}, C{line}: what decided, as it was written, and its line in the
    policy's text; or which limit did;
  - C{databaseGroups}: groups that were looked up in the user database for the
    decision, because the kernel gave none; L{None} where its word was enough;
  - C{address}: where the peer connected from, a name that it may have chosen
    itself, and so never shown but by C{repr};
  - C{error}: the exception, of a refusal.

A refusal goes to Twisted's log.  A uid's refusals after the first L{BURST} in
L{INTERVAL} seconds are counted and told of at the interval's end in one event
that has C{what="left-out"}, C{uid} and C{count}; so are all those of further
users when L{MAX_USERS} have had theirs.  No flood can fill a disk.

An admission goes to the observers of L{admissions} alone.  There are none at
first, and then it costs a connection nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from .credentials import PeerCredentials
from .errors import PeerCredentialsError, PeerRefused
from .interfaces import IPeerCredentials

#: What a reason's code means.
REASONS = {
    "no-policy": "admitted: the factory has no policy",
    "rule": "admitted or refused by a rule of the policy",
    "no-rule": "no rule of the policy matched",
    "policy-failed": "the policy raised an exception, or gave no decision",
    "max-per-uid": "its user has as many connections as one user may have",
    "max-unidentified": "its user has the most connections that wait, and no more can",
    "stopped": "its port stopped to listen before it was identified",
    "sync-word": "the first message did not start with the sync word",
    "timeout": "the message, or the policy's decision, did not come in time",
    "no-credentials": "the kernel does not say who it is",
    "truncated": "credentials or descriptors were lost",
    "unsupported": "this is no connection whose peer can be known",
    "peer-changed": "another process wrote, and the protocol is not for that",
    "no-protocol": "the wrapped factory gave it no protocol",
}

#: What an event has beside what is Twisted's own business.
FIELDS = (
    *("log_time", "log_level", "log_namespace"),
    *("what", "serial", "uid", "gid", "pid", "groups", "capture", "connection"),
    *("reason", "rule", "line", "databaseGroups", "address", "error", "count"),
)

#: Refusals of one uid that are logged one by one, in each interval.
BURST = 5
#: Seconds.
INTERVAL = 60.0
#: Users whose refusals are logged one by one, in each interval.
MAX_USERS = 64

_log = Logger()


@implementer(ILogObserver)
class Admissions:
    """
    Those who want to know of each admission.

    @ivar wanted: whether there are any.
    """

    wanted = False

    def __init__(self) -> None:
        self._observers: list[ILogObserver] = []
        self._log = Logger(_log.namespace, observer=self)

    def addObserver(self, observer: ILogObserver) -> None:
        """
        Tell an observer of L{twisted.logger} of each admission from now on:
        C{admissions.addObserver(globalLogPublisher)} has them in Twisted's
        log.
        """
        self._observers = [*self._observers, observer]
        self.wanted = True

    def removeObserver(self, observer: ILogObserver) -> None:
        """
        Tell it no more.
        """
        self._observers = [each for each in self._observers if each != observer]
        self.wanted = bool(self._observers)

    def __call__(self, event: LogEvent) -> None:
        """
        Tell all of them of an event.
        """
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                # No reason to keep a peer out, or the others from knowing.
                _log.failure("An observer of admissions failed")

    def admitted(
        self,
        address: IAddress,
        serial: int,
        credentials: PeerCredentials,
        connection: PeerCredentials | None,
        decision: Any,
    ) -> None:
        """
        One event for one admission.

        @param connection: the connect-time credentials.
        @param decision: of the policy; L{None} where there is none.
        """
        self._log.info(
            "Admitted connection {serial} from {address!r}: uid={uid} gid={gid}"
            " by {reason} {rule}",
            what="admitted",
            reason="no-policy" if decision is None else "rule",
            rule=getattr(decision, "rule", None),
            line=getattr(decision, "line", None),
            databaseGroups=getattr(decision, "databaseGroups", None),
            **_who(address, serial, credentials, connection),
        )


admissions = Admissions()


def _who(
    address: IAddress,
    serial: int | None,
    credentials: IPeerCredentials | None,
    connection: IPeerCredentials | None,
) -> dict[str, object]:
    fields = {
        name: getattr(credentials, name, None)
        for name in ("uid", "gid", "pid", "groups")
    }
    return {
        **fields,
        "serial": serial,
        "capture": None if credentials is None else credentials.capture.value,
        "connection": None if connection is None else str(connection),
        "address": address,
    }


def refused(
    address: IAddress,
    credentials: IPeerCredentials | None,
    problem: PeerCredentialsError,
    *,
    serial: int | None = None,
    connection: IPeerCredentials | None = None,
) -> None:
    """
    One event for one refusal.  The peer is told nothing.

    @param credentials: who it is, as far as that is known.
    @param problem: why.
    """
    of = problem if isinstance(problem, PeerRefused) else None
    level, fault = LogLevel.warn, {}
    cause = problem.__cause__
    if isinstance(cause, Exception) and of is not None:
        # Not the peer's fault, but that of a policy or a factory.
        level = LogLevel.critical
        fault["log_failure"] = Failure(cause)
        fault["log_failure"].cleanFailure()
    # An observer may keep the event, and the frames of a traceback would keep
    # the connection.
    for each in (problem, cause):
        if each is not None:
            each.with_traceback(None)
    _log.emit(
        level,
        "Refused connection {serial} from {address!r}: {error}",
        what="refused",
        error=problem,
        reason=problem.reason,
        rule=of and of.rule,
        line=of and of.line,
        databaseGroups=of and of.databaseGroups,
        **fault,
        **_who(address, serial, credentials, connection),
    )


class Refusals:
    """
    The refusals of one factory, of which no user can make many events.

    @ivar stopped: whether no more connections come.  Then each is logged: there
        are no more than there are connections, and nobody to tell a count.

    @param clock: tells the time; the connection's reactor, if L{None}.
    """

    def __init__(self, clock: IReactorTime | None) -> None:
        self._clock = clock
        self._counts: Counter[int | None] = Counter()
        self._end = 0.0
        self._timer: IDelayedCall | None = None
        self.stopped = False

    def refused(
        self,
        transport: Any,
        address: IAddress,
        credentials: IPeerCredentials | None,
        problem: PeerCredentialsError,
    ) -> None:
        """
        Log a refusal, or count it.

        @param transport: the connection's.
        @param credentials: who was refused; the connect-time credentials, if
            L{None}.
        """
        connection = transport.connectionCredentials
        clock: Any = self._clock or transport.reactor
        now = clock.seconds()
        # The clock may have been set back.
        if not self._end - INTERVAL <= now < self._end:
            self.tell()
            self._end = now + INTERVAL
        # The user who connected can do something about it.
        uid = None if connection is None else connection.uid
        if uid not in self._counts and len(self._counts) >= MAX_USERS:
            uid = None
        if not self.stopped:
            self._counts[uid] += 1
        if self._counts[uid] <= BURST:
            refused(
                address,
                credentials or connection,
                problem,
                serial=transport.sessionno,
                connection=connection,
            )
        elif self._timer is None:
            self._timer = clock.callLater(self._end - now, self.tell)

    def tell(self) -> None:
        """
        Say how many were left out until now, and begin anew.
        """
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        counts, self._counts = self._counts, Counter()
        self._end = 0.0
        for uid, count in counts.items():
            if count > BURST:
                _log.warn(
                    "Left out {count} more refusals of {who}",
                    what="left-out",
                    who="others" if uid is None else f"uid {uid}",
                    uid=uid,
                    count=count - BURST,
                )
