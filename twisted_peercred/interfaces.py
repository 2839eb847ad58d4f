"""
What a program may ask about the process at the other end of a Unix-domain
socket, and what a protocol may be told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.cred.credentials import ICredentials
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from .kernels.processes import ProcessExit, ProcessInfo


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
            <twisted.internet.defer.Deferred>} or a coroutine of it.  A
            C{Deferred} passes its result on to callbacks that are added later,
            but L{None} for a failure, which goes to the record.  It is
            cancelled with the connection that waits for it, also where others
            wait for the same one: return a new one each time.
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


class ICredentialedDatagramReceiver(Interface):
    """
    A protocol of datagrams that come with who sent them: for
    L{listenCredentialedUNIXDatagram
    <twisted_peercred.datagrams.listenCredentialedUNIXDatagram>}, beside
    C{makeConnection}, C{doStart} and C{doStop} of
    L{AbstractDatagramProtocol <twisted.internet.protocol.AbstractDatagramProtocol>}.
    """

    def datagramReceivedFrom(
        data: bytes, address: str | bytes | None, credentials: IPeerCredentials
    ) -> Any:
        """
        A datagram of an identified sender, whom the policy, if there is one,
        admits.

        With C{processHandles=True} there is one more argument, by its name:
        C{process}, the sender's L{IPeerProcess}, or L{None} where the kernel
        has no handle on this one: it has ended (Linux before 6.17), or no
        descriptor is free.

        @param address: for C{transport.write(data, address)}; a name that the
            sender has chosen; L{None} if it has none.
        @param credentials: who sent it, at message-time.
        @return: L{None}; or a L{Deferred <twisted.internet.defer.Deferred>} or
            a coroutine, until whose end C{process} is kept.  It is of no use
            later.
        """


class IPeerProcess(Interface):
    """
    The process at the other end, by a handle of the kernel's that stays with
    it: never by its number, which may be another process's by now.

    Call it to have it: C{IPeerProcess(x)}, for the same C{x} as
    L{IPeerCredentials}.  It holds one descriptor, from then on until the
    connection has ended and what was begun before is done; whoever never asks
    has none open.  Everything here is about the process I{now}: it may have
    executed another program and changed its IDs since it connected.  None of
    it is a basis to admit somebody by.

    Whatever it cannot tell raises, or fails with, L{PeerProcessGone
    <twisted_peercred.errors.PeerProcessGone>}, L{PeerProcessUnsupported
    <twisted_peercred.errors.PeerProcessUnsupported>} or L{PeerProcessUnavailable
    <twisted_peercred.errors.PeerProcessUnavailable>}.

    Which process: with L{Capture.CONNECT
    <twisted_peercred.credentials.Capture.CONNECT>}, and for a stock transport,
    the one that connected (Linux 6.5, C{SO_PEERPIDFD}); for a client's
    transport the one that called listen(2).  With message captures the one
    that wrote the message that C{transport.peerCredentials} is of (Linux 6.5,
    C{SCM_PIDFD}), if the factory was made with C{processHandles=True}.

    On NetBSD, OpenBSD, macOS and FreeBSD from 13 there is L{whenExited} alone,
    by kqueue(2), and with a race: see L{ExitQueue
    <twisted_peercred.kernels.kqueue.ExitQueue>}.
    """

    identity: int | None = Attribute(
        """
        A number that no other process has or will have until the next boot
        (the handle's inode, Linux 6.9); L{None} where there is none.
        """
    )
    sources: Mapping[str, str] = Attribute(
        """
        Where the answer of each method here is from, by the method's name: for
        a record of what something was concluded from.
        """
    )

    def whenExited() -> Deferred[ProcessExit]:
        """
        Wait for the process to end, with the connection or without: it may
        live on in another process, and a wait goes on when it is lost.

        @return: a L{Deferred <twisted.internet.defer.Deferred>} of this call's
            own; fires with a L{ProcessExit
            <twisted_peercred.kernels.processes.ProcessExit>}.  Cancelling the
            last one lets the descriptor go; it is opened again when needed.
        """

    def info() -> ProcessInfo:
        """
        Its IDs, parent and cgroup, in one call that nothing can come between
        (Linux 6.13, C{PIDFD_GET_INFO}).
        """

    def status() -> Deferred[dict[str, str]]:
        """
        C{/proc/PID/status} (proc(5)): its fields, as the kernel wrote them.

        This and all that follows until C{signal} is read in a thread, and the
        process has been there all the while; if it ended, that is the answer.
        """

    def commandLine() -> Deferred[tuple[bytes, ...]]:
        """
        Its arguments (C{/proc/PID/cmdline}), in words of its own: it may have
        overwritten them.
        """

    def executable() -> Deferred[bytes]:
        """
        The path of the program it runs (C{/proc/PID/exe}), with
        C{b" (deleted)"} at its end where that file is gone; for those that may
        look (C{PTRACE_MODE_READ}, ptrace(2)).  In the process's own mount
        namespace.
        """

    def cgroup() -> Deferred[str | None]:
        """
        The path of its cgroup (C{/proc/PID/cgroup}) in the hierarchy that
        systemd uses; L{None} if it is in none.
        """

    def startTime() -> Deferred[float]:
        """
        When it started, in seconds since the system was (C{/proc/PID/stat}),
        to one tick of some 10 ms.
        """

    def systemdUnit() -> Deferred[str | None]:
        """
        The unit of the system's service manager that it belongs to, from its
        cgroup: C{"ssh.service"}; L{None} if to none.  What a user's own manager
        has started belongs to C{"user@UID.service"}.
        """

    def signal(number: int) -> None:
        """
        Send it a signal (pidfd_send_signal(2)); C{0} to try whether one may.

        @raise ValueError: no signal has this number.
        """

    def isSame(other: Any) -> bool:
        """
        Whether another peer is the same process (Linux 6.9).  True also when
        both have ended.

        @param other: an L{IPeerProcess}, or anything that can be adapted to
            one.
        """
