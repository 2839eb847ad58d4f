"""
How a client's factory comes to its place in Twisted: with L{listening
<twisted_peercred.listening>}, what relies on things that Twisted does not
promise.

A refusal has to be a connect that failed, and not a connection that opens and
closes; and a policy may take its time, during which the connector's timeout
and C{stopConnecting} have to hold.  Both come for nothing when a connection is
checked before Twisted takes it for made: in C{_connectDone}, the hook of a
client's transport that C{ssl.Client} is made by too.  Until that has run the
connector is connecting, nothing is read, and no protocol was asked for.

To have it run, the transport has to be ours from the start.  C{doStart}, which
a connector calls before it makes its transport, looks up the calls on the
stack for the connector, through any factories and endpoints in between, and
has it make a L{CredentialedClient} in C{_makeTransport}.

So the names that are relied on are those two, that C{doStart} is called by
C{connect}, and C{_tempDataLen} in L{unsentBytes}.  C{tests/test_connecting.py}
fails by name when one changes.  Where no connector is to be found there is no
connection: L{CredentialedUNIXClientFactory.buildProtocol
<twisted_peercred.client.CredentialedUNIXClientFactory.buildProtocol>} refuses.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet import base, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from .callers import findCaller
from .credentials import PeerCredentials
from .errors import CredentialsUnsupported, PeerCredentialsError

_log = Logger()


class Verifier(Protocol):
    """
    What has a say before a connection counts as made.
    """

    #: Set while a connection that was verified asks for its protocol.
    verified: bool

    async def verify(self, transport: CredentialedClient) -> None:
        """
        Look at the server.

        @raise Exception: it is not the right one; the connect fails by this.
        """

    def refused(
        self, transport: CredentialedClient, problem: PeerCredentialsError
    ) -> None:
        """
        Put on record that it was not.
        """

    def greet(self, transport: CredentialedClient) -> None:
        """
        Send what comes before the protocol's own bytes.

        @raise Exception: it cannot be sent; the connect fails by this.
        """


class CredentialedClient(unix.Client):
    """
    The client's side of a connection whose server is known.

    @ivar peerCredentials: who the server is; L{None} until that is known.
    @ivar connectionCredentials: the same, as on a server's transport.
    """

    peerCredentials: PeerCredentials | None = None
    connectionCredentials: PeerCredentials | None = None

    #: A client's connections have no number.
    sessionno: int | None = None

    connector: CredentialedConnector
    _verifying: Deferred[None] | None = None
    _givenUp = False

    def _connectDone(self) -> None:
        verifying = Deferred.fromCoroutine(self._verify())
        self._verifying = verifying
        verifying.addCallbacks(self._accept, self._refuse)
        verifying.addErrback(self._failed)

    async def _verify(self) -> None:
        verifiers = self.connector.verifiers
        for each in verifiers:
            try:
                await each.verify(self)
            except PeerCredentialsError as problem:
                if not self._givenUp:
                    each.refused(self, problem)
                raise
        # All have agreed before a byte goes out.
        for each in verifiers:
            each.greet(self)

    def _accept(self, _: None) -> None:
        self._verifying = None
        if self._givenUp:
            # Meanwhile; and somebody's policy takes no notice of that.
            return
        verifiers = self.connector.verifiers
        for each in verifiers:
            each.verified = True
        try:
            super()._connectDone()
        finally:
            for each in verifiers:
                each.verified = False

    def _refuse(self, failure: Failure) -> None:
        self._verifying = None
        if not self._givenUp:
            self.failIfNotConnected(failure.value)

    def _failed(self, failure: Failure) -> None:
        """
        The user's factory or protocol raised.  A connection that has no
        protocol yet is none; one that has is the protocol's, as in Twisted.
        """
        _log.failure("Could not start on {peer!r}", failure, peer=self.getPeer())
        self.failIfNotConnected(failure.value)

    def failIfNotConnected(self, err: object) -> None:
        """
        Give up: the time is over, or nobody wants this connection any more.
        """
        self._givenUp = True
        if self._verifying is not None:
            self._verifying.cancel()
        super().failIfNotConnected(err)


class CredentialedConnector(unix.Connector):
    """
    Makes connections whose server is looked at first.

    @ivar verifiers: who looks; all have to agree.
    """

    verifiers: tuple[Verifier, ...] = ()

    def _makeTransport(self) -> CredentialedClient:  # type: ignore[override]
        return CredentialedClient(self.address, self, self.reactor, self.checkPID)


def findStartingConnector() -> base.BaseConnector | None:
    """
    The connector whose C{connect} is under way, in this very call.
    """
    return findCaller("connect", base.BaseConnector)  # type: ignore[type-abstract]


def arrangeConnector(connector: base.BaseConnector, verifier: Verifier) -> None:
    """
    Have a connector that is about to connect ask a verifier, beside those
    that it asks already.

    @raise CredentialsUnsupported: its servers cannot be known.
    """
    if type(connector) is unix.Connector:
        connector.__class__ = CredentialedConnector
    if not isinstance(connector, CredentialedConnector):
        raise CredentialsUnsupported(
            "only Unix-domain sockets have peer credentials, and this connects by"
            f" {connector!r}: use reactor.connectUNIX or a 'unix:' endpoint"
        )
    if verifier not in connector.verifiers:
        connector.verifiers = (*connector.verifiers, verifier)


def unsentBytes(transport: FileDescriptor) -> int:
    """
    How many bytes were written to a transport that the kernel has not taken
    yet.
    """
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen
