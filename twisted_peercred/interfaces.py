"""
What a program may ask about the process at the other end of a Unix-domain
socket, and what a protocol may be told.
"""

from __future__ import annotations

from typing import Any

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, Interface


class IPeerIdentity(Interface):
    """
    Who somebody is, in numbers: what a decision is made by.
    """

    uid: int = Attribute(
        """
        User ID, C{0} to C{2**32 - 2}.  The effective one, but at message-time
        on Linux what the message says: the real one, unless its sender chose
        another of its own.  All platforms.
        """
    )
    gid: int = Attribute(
        """
        Group ID, C{0} to C{2**32 - 2}; effective or as the message says, like
        C{uid}.  All platforms.
        """
    )
    groups: tuple[int, ...] | None = Attribute(
        """
        All groups, sorted, each once, C{gid} among them; or L{None} where the
        kernel does not give the complete list: on Linux before 4.13 and at
        message-time; on FreeBSD, DragonFly and macOS where there are 16 or
        more; on NetBSD at connect-time; on OpenBSD and AIX.  L{None} is "not
        known", not "none".
        """
    )
    securityLabel: bytes | None = Attribute(
        """
        The label that a security module gave the peer (C{SO_PEERSEC},
        socket(7)), without a trailing NUL; AppArmor's form is
        C{b"profile (mode)"}.  L{None} where no module labels sockets, and at
        message-time.
        """
    )


class IPeerCredentials(IPeerIdentity, ICredentials):
    """
    The IDs of the process at the other end, as the kernel vouches for them:
    never a claim of the peer.

    Call it to have them: C{IPeerCredentials(x)}, where C{x} is a Unix
    transport, a protocol or a L{ProtocolWrapper
    <twisted.protocols.policies.ProtocolWrapper>} above one, or a
    C{twisted.web} request that came over one.  A TCP transport cannot be
    adapted: L{TypeError}.
    """

    pid: int | None = Attribute(
        """
        Process ID in this process's PID namespace; L{None} where the kernel
        has none to tell (the peer is in a namespace that this one cannot see
        into; FreeBSD before 13, DragonFly at connect-time, AIX).  On macOS it
        is that of the process that used the socket last.  Good for a log, no
        basis for a decision: the number may belong to another process by the
        time it is looked at.
        """
    )
    capture: Capture = Attribute(  # type: ignore[name-defined]  # noqa: F821
        """
        The L{Capture <twisted_peercred.credentials.Capture>} by which these
        credentials were taken.
        """
    )
    realUID: int | None = Attribute(
        """
        Real user ID where the kernel gives it beside the effective one: at
        message-time on FreeBSD, NetBSD and DragonFly, always on illumos.
        L{None} on Linux, which gives one of the two.
        """
    )
    realGID: int | None = Attribute(
        """
        Real group ID where the kernel gives it beside the effective one, as
        C{realUID}; L{None} on Linux.
        """
    )


class IPeerPolicy(Interface):
    """
    Decides whom to let in.
    """

    def decide(identity: IPeerIdentity) -> Any:
        """
        Whether to admit somebody.

        @param identity: who it is; L{IPeerCredentials}, where a connection is
            decided about.
        @return: an object with C{admitted}, which is C{True} or else refuses,
            and C{rule}, a string that says what decided, or L{None} if nothing
            in particular did; or a L{Deferred
            <twisted.internet.defer.Deferred>} or a coroutine of it.
        """


class IPeerPolicySource(Interface):
    """
    Where a policy comes from that changes while a server runs.  Provide it
    beside L{IPeerPolicy}: a connection takes the policy in force when it
    comes, and is decided by that one to the end.
    """

    policy: Any = Attribute(
        """
        The L{IPeerPolicy} in force.
        """
    )


class IPeerCredentialsReceiver(Interface):
    """
    A protocol that wants to know when somebody else writes on its connection.
    Provide it beside L{IProtocol <twisted.internet.interfaces.IProtocol>};
    it matters with L{Capture.EVERY_MESSAGE
    <twisted_peercred.credentials.Capture.EVERY_MESSAGE>} alone.
    """

    def peerCredentialsChanged(old: IPeerCredentials, new: IPeerCredentials) -> None:
        """
        The bytes (and descriptors) that come next were written by another
        process.  C{transport.peerCredentials} is C{new} already.

        @param old: who wrote what was received before.
        @param new: who wrote what comes now.
        """
