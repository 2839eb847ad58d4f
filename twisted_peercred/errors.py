"""
What can go wrong between a connection and the knowledge of who made it.

Every error says in its text what happened and what can be done; what a
program needs to decide by is in attributes.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .interfaces import IPeerCredentials
    from .kernels.processes import ProcessExit


def visible(text: str) -> str:
    """
    A text for a terminal or a log: on one line, control characters escaped.
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class PeerCredentialsError(Exception):
    """
    The parent of every error of this package.

    @cvar reason: what it is called in the L{record <twisted_peercred.record>},
        where it refuses a connection.
    """

    reason = "no-credentials"


class CredentialsUnavailable(PeerCredentialsError):
    """
    The kernel gave no identity for this peer: nothing, a placeholder, or
    numbers that mean nobody in this namespace.
    """


class CredentialsUnsupported(PeerCredentialsError):
    """
    This kernel, or this kind of socket, cannot give what was asked for, for
    any peer.  Raised when listening starts, not at the first connection.
    """

    reason = "unsupported"


class CredentialsTruncated(PeerCredentialsError):
    """
    Control data did not fit or could not be installed (C{MSG_CTRUNC},
    recvmsg(2)): credentials or descriptors that were sent are lost.
    """

    reason = "truncated"


class CredentialsTimeout(PeerCredentialsError):
    """
    The peer did not send, in the time that it had, the message that would
    have told who it is.
    """

    reason = "timeout"


class PeerRefused(PeerCredentialsError):
    """
    The peer is known, and not let in.

    @ivar credentials: who was refused.
    @ivar rule: what refused, as an administrator wrote it or as the argument
        of the factory is called; L{None} where no rule of a policy admitted.
    @ivar reason: what that is called in the L{record
        <twisted_peercred.record>}.
    @ivar line: the line of the policy's text that the rule stands on, or
        L{None}.
    @ivar databaseGroups: groups that were looked up in the user database for
        the decision, or L{None}.
    """

    def __init__(
        self,
        credentials: IPeerCredentials,
        rule: str | None,
        reason: str | None = None,
        line: int | None = None,
        databaseGroups: tuple[int, ...] | None = None,
    ) -> None:
        why = "admitted by no rule" if rule is None else f"refused by {rule}"
        super().__init__(f"{credentials} is {why}")
        self.credentials = credentials
        self.rule = rule
        self.reason = reason or ("no-rule" if rule is None else "rule")
        self.line = line
        self.databaseGroups = databaseGroups


class PeerChanged(PeerCredentialsError):
    """
    Another process than before wrote on the connection, and the protocol does
    not provide L{IPeerCredentialsReceiver
    <twisted_peercred.interfaces.IPeerCredentialsReceiver>}.

    @ivar old: who wrote until now.
    @ivar new: who wrote this message, none of which was delivered.
    """

    reason = "peer-changed"

    def __init__(self, old: IPeerCredentials, new: IPeerCredentials) -> None:
        super().__init__(f"written by {new} on a connection of {old}")
        self.old = old
        self.new = new


class PolicyError(PeerCredentialsError, ValueError):
    """
    The text of a policy has a mistake, or its file cannot be read or must not
    be believed.  No part of it is in force.

    @ivar problem: what is wrong.
    @ivar line: the line with the mistake, from 1; L{None} where it is not a
        matter of the text.
    @ivar column: the character of that line, from 1; L{None} likewise.
    @ivar source: the path of the file; what to call a text that is none.
    """

    def __init__(
        self,
        problem: str,
        line: int | None = None,
        column: int | None = None,
        source: str = "rules",
    ) -> None:
        place = source if line is None else f"{source}:{line}:{column}"
        # Whoever gave the path chose what is in it.
        super().__init__(visible(f"{place}: {problem}"))
        self.problem = problem
        self.line = line
        self.column = column
        self.source = source


class CredentialsRejected(PeerCredentialsError):
    """
    The kernel did not vouch for the credentials that were to be sent.  Nothing
    of their message was.

    @ivar claim: the IDs that were asked for, by name: C{"pid"}, C{"uid"},
        C{"gid"}; without those that were left to be this process's own.
    @ivar errno: the kernel's answer (sendmsg(2)).
    """

    _advice = {
        errno.EPERM: "a uid and a gid must be this process's own (real, effective"
        " or saved), or it needs CAP_SETUID or CAP_SETGID; the pid its own, or it"
        " needs CAP_SYS_ADMIN",
        errno.EINVAL: "no such uid or gid in this user namespace: see"
        " /proc/self/uid_map and gid_map",
        errno.ESRCH: "no such process in this PID namespace",
    }

    def __init__(self, claim: dict[str, int], number: int) -> None:
        claimed = " ".join(f"{name}={value}" for name, value in claim.items())
        super().__init__(
            f"not sent as {claimed or 'this process itself'}: {os.strerror(number)}"
            f" ({self._advice.get(number, 'sendmsg(2)')})"
        )
        self.claim = claim
        self.errno = number


class PeerProcessError(PeerCredentialsError):
    """
    The parent of what L{twisted_peercred.process} raises.
    """


class PeerProcessUnsupported(PeerProcessError, CredentialsUnsupported):
    """
    This kernel gives no handle on a peer's process, or its handle cannot do
    what was asked for.  No number takes its place.
    """


class PeerProcessGone(PeerProcessError, CredentialsUnavailable):
    """
    The process has ended.  What was being read about it may be another's by
    now, and is thrown away.

    @ivar exit: how it ended (L{ProcessExit
        <twisted_peercred.kernels.processes.ProcessExit>}), as far as the kernel
        tells; L{None} where it gave nothing to ask by.
    """

    def __init__(self, reason: str, exit: ProcessExit | None = None) -> None:
        super().__init__(reason)
        self.exit = exit


class PeerProcessUnavailable(PeerProcessError, CredentialsUnavailable):
    """
    The process may well be there, but nothing can be said about it: no
    descriptor is free, this process may not look at it or cannot see it from
    its namespace, or the connection has ended.
    """
