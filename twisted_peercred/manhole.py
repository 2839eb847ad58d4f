"""
C{twistd peercred-manhole}: a Python prompt inside a running process, on a
Unix-domain socket, for its own user and root and for nobody else.

There is no password.  The kernel says who connects, the socket's file lets
nobody else connect to begin with, and each attaching is logged.  A program has
one for itself with L{manholeEndpoint}.

It speaks telnet, as C{twistd manhole} does: C{peercred attach PATH}, which
comes with this package, has history, colours and the window's size;
C{socat -,raw,echo=0 UNIX:PATH} has all but the last; C{nc -U PATH} gets along.
"""

from __future__ import annotations

from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from .endpoints import PeerCredentialsServerEndpoint
from .interfaces import IPeerCredentials
from .policy import Policy
from .starting import (
    CannotStart,
    StartingService,
    defaultEndpoint,
    endpointOption,
)

SOCKET_NAME = "peercred-manhole.sock"

_log = Logger()


class ManholeFactory(Factory):
    """
    Makes prompts.

    @param namespace: the names that each of them begins with.
    @raise ImportError: C{twisted.conch} is not there.
    """

    def __init__(self, namespace: dict[str, Any] | None = None) -> None:
        try:
            from twisted.conch import manhole, telnet
            from twisted.conch.insults import insults
        except ImportError as problem:
            raise ImportError(
                f"needs twisted.conch ({problem}): pip install"
                " 'twisted_peercred[manhole]'"
            ) from problem

        class Attached(telnet.TelnetTransport):
            def connectionMade(self) -> None:
                peer = IPeerCredentials(self)
                _log.info("{peer} attaches to the manhole", what="attached", peer=peer)
                super().connectionMade()

            def do(self, option: bytes) -> Any:
                return super().do(option).addErrback(_declined)

            def will(self, option: bytes) -> Any:
                return super().will(option).addErrback(_declined)

        self.protocol = lambda: Attached(
            telnet.TelnetBootstrapProtocol,
            insults.ServerProtocol,
            manhole.ColoredManhole,
            {} if namespace is None else namespace,
        )


def _declined(failure: Failure) -> bool:
    """
    A client may decline each of the telnet options, or go without an answer.
    """
    return False


def manholeEndpoint(endpoint: IStreamServerEndpoint) -> PeerCredentialsServerEndpoint:
    """
    An endpoint that admits this process's user and root, and nobody else::

        manholeEndpoint(UNIXServerEndpoint(reactor, "app.manhole", mode=0o600)).listen(
            ManholeFactory({"app": app}))
    """
    return PeerCredentialsServerEndpoint(
        endpoint, policy=Policy.fromString("self,root")
    )


class EndpointService(service.Service):
    """
    Listens when it starts; fails, if it has to, at once.
    """

    def __init__(
        self, endpoint: IStreamServerEndpoint, factory: IProtocolFactory
    ) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._listening: Deferred[IListeningPort] | None = None

    def privilegedStartService(self) -> None:
        """
        @see: L{service.IService.privilegedStartService}
        """
        failures: list[Failure] = []
        listening = self._endpoint.listen(self._factory)
        listening.addErrback(failures.append)
        if failures:
            failures[0].raiseException()
        self._listening = listening

    def startService(self) -> None:
        """
        @see: L{service.IService.startService}
        """
        super().startService()
        if self._listening is None:
            # twist, unlike twistd, has no privileges to drop.
            self.privilegedStartService()

    def stopService(self) -> Deferred[None] | None:
        """
        @see: L{service.IService.stopService}
        """
        super().stopService()
        listening, self._listening = self._listening, None
        if listening is None:
            return None
        return listening.addCallback(lambda port: port.stopListening())


class Options(usage.Options):
    """
    What C{twistd peercred-manhole} can be told.
    """

    synopsis = "[options]"
    optParameters = [
        endpointOption(SOCKET_NAME),
    ]
    longdesc = (
        "A Python prompt inside of this process, for its own user and root, and for"
        " nobody else: attach to it with python -m twisted_peercred attach PATH."
    )

    def postOptions(self) -> None:
        if self["endpoint"] is None:
            self["endpoint"] = defaultEndpoint(SOCKET_NAME)


def makeService(options: Options) -> service.IService:
    """
    @raise CannotStart: the endpoint cannot be understood, or C{twisted.conch}
        is not there.
    """
    from twisted.internet import reactor

    try:
        factory = ManholeFactory({})
    except ImportError as problem:
        raise CannotStart(f"peercred-manhole: {problem}") from problem
    description = options["endpoint"]
    return StartingService(
        "peercred-manhole",
        description,
        lambda: EndpointService(
            manholeEndpoint(serverFromString(reactor, description)), factory
        ),
    )
