"""
Endpoints that know who is at the other end, and C{peercred:}, which makes one
of any description of Twisted's::

    peercred:unix:/run/app.sock:mode=660:rules=group/staff,root
    peercred:systemd:domain=UNIX:index=0:capture=first-message

The plugin file imports this module, and L{twisted.internet.endpoints} cannot
be imported everywhere (not where pyOpenSSL is without service_identity): it is
imported when it is used.
"""

from __future__ import annotations

from contextlib import suppress
from signal import SIGHUP
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from .client import CredentialedUNIXClientFactory
from .listening import arrangeFile, findStartingPort, pathToBind
from .policyfile import PolicyFile
from .server import CredentialedUNIXServerFactory
from .signals import SignalService
from .socketfile import checkPlace, clearLock, isAbstract
from .strings import CLIENT_KEYWORDS, SERVER_KEYWORDS, describe, take


class _Factory(CredentialedUNIXServerFactory):
    """
    A factory whose port makes its socket's file in our way.
    """

    file: tuple[int, int, bool]
    hangup: SignalService | None = None

    def doStart(self) -> None:
        port = findStartingPort()
        if port is not None:
            arrangeFile(port, *self.file)
        super().doStart()
        if self.hangup is not None:
            self.hangup.startService()

    def doStop(self) -> None:
        if self.hangup is not None:
            self.hangup.stopService()
        super().doStop()


@implementer(IStreamServerEndpoint)
class PeerCredentialsServerEndpoint:
    """
    Listens by another endpoint, and serves peers that the kernel identifies.

    A socket file has its mode, owner and group before anybody can connect to
    it; it replaces that of a dead server of this user's, and nothing else.

    @ivar wrappedEndpoint: the endpoint that listens.

    @param endpoint: one that listens on a Unix-domain socket.
    @param uid: who is to own the socket's file; C{-1} for this process's user.
    @param gid: what group it is to have; C{-1} for what the system gives it.
    @param abstract: whether everybody in this network namespace may connect to
        a socket with an abstract name.  With a policy they may without this.
    @param rulesFile: a file of rules in place of C{policy}; it is read now, and
        again at SIGHUP while the endpoint listens.
    @param options: keyword arguments of L{CredentialedUNIXServerFactory}.
    @raise TypeError: an option that there is not.
    @raise ValueError: a value that an option cannot have.
    @raise PolicyError: the file has a mistake, or must not be believed.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        *,
        uid: int = -1,
        gid: int = -1,
        abstract: bool = False,
        rulesFile: str | None = None,
        **options: Any,
    ) -> None:
        if rulesFile is not None:
            options["policy"] = _fileInstead(rulesFile, options)
        # What is wrong with them is better known now than when it listens.
        _Factory(Factory(), **options)
        self.wrappedEndpoint = endpoint
        self._options = options
        self._rereads = rulesFile is not None
        self._file = uid, gid, abstract or options.get("policy") is not None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: the port; L{CannotListenError} where there can be none, and
            L{CredentialsUnsupported
            <twisted_peercred.errors.CredentialsUnsupported>} where nobody
            would be known.

        @see: L{twisted.internet.interfaces.IStreamServerEndpoint.listen}
        """
        factory = _Factory(protocolFactory, **self._options)
        factory.file = self._file
        if self._rereads:
            factory.hangup = SignalService(SIGHUP, self._options["policy"].reload)
        path, locks = pathToBind(self.wrappedEndpoint)
        if path is None or isAbstract(path):
            return self.wrappedEndpoint.listen(factory)
        try:
            checkPlace(path, self._file[0])
            if locks:
                clearLock(path)
        except OSError as problem:
            return fail(CannotListenError(None, path, problem))
        if not locks:
            return self.wrappedEndpoint.listen(factory)
        # Twisted keeps the lock of a port that fails to start.
        return self.wrappedEndpoint.listen(factory).addErrback(_unlock, path)


def _unlock(failure: Failure, path: bytes) -> Failure:
    with suppress(OSError):
        # What went wrong before is what there is to know.
        clearLock(path)
    return failure


@implementer(IStreamClientEndpoint)
class PeerCredentialsClientEndpoint:
    """
    Connects by another endpoint, to servers that a policy admits.

    @ivar wrappedEndpoint: the endpoint that connects.

    @param endpoint: one that connects to a Unix-domain socket.
    @param options: keyword arguments of L{CredentialedUNIXClientFactory}.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, **options: Any) -> None:
        self.wrappedEndpoint = endpoint
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
        return self.wrappedEndpoint.connect(self._wrap(protocolFactory))


@implementer(IPlugin, IStreamServerEndpointStringParser)
class PeerCredentialsServerParser:
    """
    C{peercred:} before the description of any endpoint that listens on a
    Unix-domain socket.  Its own keywords, wherever they stand, are
    L{SERVER_KEYWORDS}; all else goes to the endpoint that is described.

    @ivar prefix: what such a description begins with.
    """

    prefix = "peercred"

    def parseStreamServer(  # type: ignore[override]
        self, reactor: Any, /, *args: Any, **kwargs: Any
    ) -> PeerCredentialsServerEndpoint:
        """
        @raise ValueError: something in the description makes no sense.

        @see: L{IStreamServerEndpointStringParser.parseStreamServer}
        """
        from twisted.internet.endpoints import serverFromString

        options = take(kwargs, SERVER_KEYWORDS)
        if ("uid" in options or "gid" in options) and args[:1] != ("unix",):
            raise ValueError("user= and group= are for the file of peercred:unix:")
        return PeerCredentialsServerEndpoint(
            serverFromString(reactor, describe(args, kwargs)), **options
        )


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class PeerCredentialsClientParser:
    """
    C{peercred:} before the description of an endpoint that connects to a
    Unix-domain socket.  Its own keywords are L{CLIENT_KEYWORDS}.

    @ivar prefix: what such a description begins with.
    """

    prefix = "peercred"

    def parseStreamClient(  # type: ignore[override]
        self, reactor: Any, /, *args: Any, **kwargs: Any
    ) -> PeerCredentialsClientEndpoint:
        """
        @raise ValueError: something in the description makes no sense.

        @see: L{IStreamClientEndpointStringParserWithReactor.parseStreamClient}
        """
        from twisted.internet.endpoints import clientFromString

        options = take(kwargs, CLIENT_KEYWORDS)
        path = options.pop("rulesFile", None)
        if path is not None:
            options["policy"] = _fileInstead(path, options)
        return PeerCredentialsClientEndpoint(
            clientFromString(reactor, describe(args, kwargs)), **options
        )


def _fileInstead(path: str, options: dict[str, Any]) -> PolicyFile:
    if options.get("policy") is not None:
        raise ValueError("rules or a file of rules, not both")
    return PolicyFile(path)
