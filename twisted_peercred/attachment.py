"""
How a handle on a process comes to the transport of a connection, and goes
with it.
"""

from __future__ import annotations

import select
import sys
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IProtocol, IUNIXTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from .credentials import Capture
from .errors import (
    PeerProcessError,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from .interfaces import IPeerCredentials, IPeerProcess
from .kernels.processes import ProcessHandle
from .process import PeerProcess


def openHandle(sock: Any, pid: int | None) -> ProcessHandle:
    """
    A handle on the process at the other end of a socket.

    @param pid: its number, for kernels that have no better way.
    """
    if sys.platform == "linux":
        from .kernels.pidfd import Pidfd

        return Pidfd.ofPeer(sock)
    if hasattr(select, "kqueue"):
        from .kernels.kqueue import ExitQueue

        return ExitQueue(pid)
    raise PeerProcessUnsupported(f"{sys.platform} has no handle on a peer's process")


def ofTransport(transport: Any) -> PeerProcess:
    """
    The process at the other end of a Unix transport, or of the one below
    layers such as TLS.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    known: PeerProcess | PeerProcessError | None
    known = getattr(transport, "peerProcess", None)
    if isinstance(known, PeerProcessError):
        raise known.with_traceback(None)
    if known is None:
        known = connected(transport)
        attach(transport, known)
    return known


def connected(transport: Any) -> PeerProcess:
    """
    The process that connected, if that is who C{transport.peerCredentials} are
    of.
    """
    peer = IPeerCredentials(transport)
    if peer.capture is not Capture.CONNECT:
        # The process that connected may be another one.
        raise PeerProcessUnavailable(
            "the process that wrote a message is known to those who ask for it"
            " before: CredentialedUNIXServerFactory(..., processHandles=True)"
        )

    def reopen() -> ProcessHandle:
        try:
            sock = transport.getHandle()
        except AttributeError as problem:
            raise PeerProcessUnavailable("the connection has ended") from problem
        return openHandle(sock, peer.pid)

    handle = reopen()
    # By a number it would not be the same process for certain.
    certain = reopen if sys.platform == "linux" else None
    return PeerProcess(handle, transport.reactor, certain)


def attach(transport: Any, process: PeerProcess) -> None:
    """
    Have a handle closed with the connection.

    @param transport: ours, which sees to it (its class has C{peerProcess}), or
        a stock one.
    """
    ours = hasattr(type(transport), "peerProcess")
    transport.peerProcess = process
    if ours:
        return
    # connectionLost of IReadDescriptor is what every reactor calls.
    lost = transport.connectionLost

    def connectionLost(reason: Failure) -> None:
        # What refers to the transport goes with the connection.
        del transport.connectionLost
        try:
            lost(reason)
        finally:
            process.disconnect()

    transport.connectionLost = connectionLost


def discard(process: PeerProcess | PeerProcessError | None) -> None:
    """
    Let go of a process, if it is one.
    """
    if isinstance(process, PeerProcess):
        process.disconnect()


def takeHandle(
    transport: Any, number: int | None
) -> PeerProcess | PeerProcessError | None:
    """
    The process of a handle that came with a message, or why it cannot be told.

    @param number: a pidfd, or the negative of an error number; L{None} if none
        was asked for.
    """
    if number is None:
        return None
    from .kernels.pidfd import Pidfd

    try:
        return PeerProcess(Pidfd.ofMessage(number), transport.reactor)
    except PeerProcessError as problem:
        return problem


def isAnother(transport: Any, number: int | None) -> bool:
    """
    Whether a message is for certain of another process than the one before.

    @param number: what came with it, as for L{takeHandle}; it is left open.
    """
    if number is None or number < 0:
        return False
    from .kernels.pidfd import identityOf

    then = getattr(transport.peerProcess, "identity", None)
    now = None
    # There may be no descriptor free to find out.
    with suppress(OSError):
        now = identityOf(number)
    return None not in (then, now) and then != now


def follow(transport: Any, number: int | None) -> None:
    """
    Have a transport's process be that of the writer now, and let go of the one
    before.

    @param number: what came with the message, as for L{takeHandle}.
    """
    process = takeHandle(transport, number)
    if process is None:
        return
    then = getattr(transport.peerProcess, "identity", None)
    if then is not None and then == getattr(process, "identity", None):
        # There may be those who wait by the one that is there.
        discard(process)
        return
    discard(transport.peerProcess)
    transport.peerProcess = process


def ofProtocol(protocol: Any) -> IPeerProcess | None:
    """
    The process at the other end of a protocol's connection.
    """
    return IPeerProcess(getattr(protocol, "transport", None), None)


def ofRequest(request: Any) -> IPeerProcess | None:
    """
    The process that sent a C{twisted.web} request.
    """
    return IPeerProcess(getattr(request, "transport", None), None)


registerAdapter(ofTransport, IUNIXTransport, IPeerProcess)
registerAdapter(ofProtocol, IProtocol, IPeerProcess)
registerAdapter(ofRequest, IRequest, IPeerProcess)
