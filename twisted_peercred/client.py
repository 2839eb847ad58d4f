"""
The factory that asks who a server is before it talks to it.

The kernel names the process that called listen(2) (on OpenBSD bind(2)), which
is not always the one that will answer: of a socket-activated server it is the
activator, until the server calls it too, as Twisted does; and a server that
changes its user afterwards keeps the one it listened as.  What the client is
sure of is that somebody who could listen there as that user has done so: nobody
else can have put himself in between.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from .connecting import CredentialedClient, arrangeConnector, findStartingConnector
from .deciding import ask, refusal
from .errors import CredentialsUnsupported, PeerCredentialsError
from .interfaces import IPeerPolicy
from .kernels import Kernel, thisKernel
from .record import Refusals
from .sending import sendFirst
from .wrapping import WrappingFactory


@implementer(IProtocolFactory, ILoggingContext)
class CredentialedUNIXClientFactory(WrappingFactory):
    """
    Connects a factory's protocols to servers that the kernel identifies, and
    to no others.  For C{reactor.connectUNIX}, C{UNIXClientEndpoint} and
    whatever is built on them.  Other factories may be around it or in it.

    A server that is refused is a connect that failed: the wrapped factory's
    C{clientConnectionFailed}, or the endpoint's L{Deferred
    <twisted.internet.defer.Deferred>}, has L{PeerRefused
    <twisted_peercred.errors.PeerRefused>}.  No byte was sent.
    C{IPeerCredentials(transport)} is there in C{connectionMade}.

    @ivar wrappedFactory: the factory whose protocols are connected.

    @param wrappedFactory: its C{buildProtocol} is called when the server is
        known, and not at all for one that is refused.
    @param policy: what the server must be; L{None} admits every one that the
        kernel identifies.  While it thinks, the connection waits, no longer
        than the connector's timeout.
    @param sendCredentials: whether to send one message with credentials before
        anything else, where senders have to do that or may; see
        L{sendCredentials <twisted_peercred.sending.sendCredentials>}.  It is the
        sync word or, without one, the first byte that the protocol writes (so
        that a protocol which writes a descriptor with it has to write another).
    @param syncWord: bytes to be sent before anything else;
        L{SYNC_WORD <twisted_peercred.sending.SYNC_WORD>}, for example.
    @param clock: tells the time for the record of refusals; the transport's
        reactor, if L{None}.
    @param kernel: what is asked for credentials; this process's own kernel,
        if L{None}.
    @raise CredentialsUnsupported: this platform is not known.
    """

    verified = False

    def __init__(
        self,
        wrappedFactory: IProtocolFactory,
        *,
        policy: IPeerPolicy | None = None,
        sendCredentials: bool = False,
        syncWord: bytes = b"",
        clock: IReactorTime | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        # A client factory where a connector is to tell it how it went, and any
        # factory where an endpoint does.
        self.wrappedFactory: Any = wrappedFactory
        self._policy = policy
        self._sendCredentials = sendCredentials
        self._syncWord = bytes(syncWord)
        self._refusals = Refusals(clock)
        self._kernel = thisKernel() if kernel is None else kernel

    def doStart(self) -> None:
        """
        A connector starts to connect.

        @raise CredentialsUnsupported: its servers could not be known.
        """
        connector = findStartingConnector()
        if connector is not None:
            arrangeConnector(connector, self)
        self.wrappedFactory.doStart()

    def doStop(self) -> None:
        """
        A connector has stopped.
        """
        self._refusals.tell()
        self.wrappedFactory.doStop()

    def startedConnecting(self, connector: IConnector) -> None:
        """
        @see: L{twisted.internet.protocol.ClientFactory.startedConnecting}
        """
        self.wrappedFactory.startedConnecting(connector)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """
        @see: L{twisted.internet.protocol.ClientFactory.clientConnectionFailed}
        """
        self.wrappedFactory.clientConnectionFailed(connector, reason)

    def clientConnectionLost(self, connector: IConnector, reason: Failure) -> None:
        """
        @see: L{twisted.internet.protocol.ClientFactory.clientConnectionLost}
        """
        self.wrappedFactory.clientConnectionLost(connector, reason)

    async def verify(self, transport: CredentialedClient) -> None:
        """
        @see: L{Verifier.verify <twisted_peercred.connecting.Verifier.verify>}
        """
        server = self._kernel.connectionCredentials(transport.socket)
        transport.connectionCredentials = server
        if self._policy is not None:
            answer = ask(self._policy, server)
            if isinstance(answer, Deferred):
                (answer,) = await answer
            problem = refusal(answer, server)
            if problem is not None:
                raise problem
        transport.peerCredentials = server

    def refused(
        self, transport: CredentialedClient, problem: PeerCredentialsError
    ) -> None:
        """
        @see: L{Verifier.refused <twisted_peercred.connecting.Verifier.refused>}
        """
        self._refusals.refused(transport, transport.getPeer(), None, problem)

    def greet(self, transport: CredentialedClient) -> None:
        """
        @see: L{Verifier.greet <twisted_peercred.connecting.Verifier.greet>}
        """
        ancillary = self._kernel.credentialsToSend() if self._sendCredentials else []
        sendFirst(transport, self._syncWord, ancillary)

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """
        The server is known and admitted.

        @raise CredentialsUnsupported: nobody has looked at it.
        """
        if not self.verified:
            raise CredentialsUnsupported(
                "nobody has looked who the server is: CredentialedUNIXClientFactory"
                " connects by reactor.connectUNIX or a 'unix:' endpoint, and a"
                " factory around it has to pass on doStart"
            )
        self.verified = False
        protocol: IProtocol | None = self.wrappedFactory.buildProtocol(addr)
        return protocol
