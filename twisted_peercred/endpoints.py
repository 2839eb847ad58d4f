"""
Endpoints that know who is at the other end.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from .client import CredentialedUNIXClientFactory


@implementer(IStreamClientEndpoint)
class PeerCredentialsClientEndpoint:
    """
    Connects by another endpoint, to servers that a policy admits.

    @param endpoint: one that connects to a Unix-domain socket.
    @param options: keyword arguments of L{CredentialedUNIXClientFactory}.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, **options: Any) -> None:
        self._endpoint = endpoint
        self._options = options
        # A mistake in them is told now, and not when it comes to connecting.
        self._wrap(Factory())

    def _wrap(self, factory: IProtocolFactory) -> CredentialedUNIXClientFactory:
        return CredentialedUNIXClientFactory(factory, **self._options)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect, and look who is there.

        @return: the protocol; L{PeerRefused
            <twisted_peercred.errors.PeerRefused>} for a server that the policy
            does not admit.

        @see: L{twisted.internet.interfaces.IStreamClientEndpoint.connect}
        """
        return self._endpoint.connect(self._wrap(protocolFactory))
