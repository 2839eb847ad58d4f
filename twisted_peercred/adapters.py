"""
From whatever a Twisted program holds of a connection to the credentials of
the peer: what C{IPeerCredentials(x)} does.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IProtocol, IUNIXTransport
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.components import registerAdapter
from twisted.web.iweb import IRequest

from .credentials import PeerCredentials
from .errors import CredentialsUnavailable
from .interfaces import IPeerCredentials
from .kernels import thisKernel


def ofTransport(transport: Any) -> PeerCredentials:
    """
    The peer of a Unix transport, or of the one below layers such as TLS.  One
    that no factory of ours made is asked now, once; the kernel has kept what
    was true at connect(2).

    @raise CredentialsUnavailable: its peer is not known, or not yet.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    known: PeerCredentials | None = getattr(transport, "peerCredentials", None)
    if known is not None:
        return known
    if hasattr(transport, "connectionCredentials"):
        raise CredentialsUnavailable("this peer has not been identified")
    try:
        sock = transport.getHandle()
        # A socket that is not connected has credentials too, on some kernels:
        # its own.
        sock.getpeername()
        known = thisKernel().connectionCredentials(sock)
    except (OSError, AttributeError) as problem:
        raise CredentialsUnavailable(
            f"the connection is gone, and nobody asked before: {problem}"
        ) from problem
    transport.peerCredentials = transport.connectionCredentials = known
    return known


def ofProtocol(protocol: Any) -> IPeerCredentials | None:
    """
    The peer of a protocol: a C{pb} broker and an C{amp} protocol are ones.
    """
    return IPeerCredentials(getattr(protocol, "transport", None), None)


def ofRequest(request: Any) -> IPeerCredentials | None:
    """
    The peer that sent a C{twisted.web} request.
    """
    return IPeerCredentials(getattr(request, "transport", None), None)


registerAdapter(ofTransport, IUNIXTransport, IPeerCredentials)
registerAdapter(ofProtocol, IProtocol, IPeerCredentials)
registerAdapter(ofRequest, IRequest, IPeerCredentials)
