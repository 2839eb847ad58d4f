"""
How a factory comes to its place in Twisted: the one module that relies on
what Twisted does not promise.

A factory is never told which port it serves, yet two things must be arranged
with the port before its first accept(2):

  - the socket option that makes the kernel stamp messages has to be set
    before listen(2): on Linux from 6.16 a connection inherits it at
    connect(2), and what a peer writes between accept(2) and an option set
    later arrives with a placeholder (both measured).  So is the one that
    refuses descriptors, where nobody will want them;
  - C{unix.Port.transport}, documented as replaceable, has to be our transport.
    Changing the class of a stock transport later would cost each connection
    the memory of a dict of its own.

So C{doStart}, which a port calls before it makes its socket, looks up the
calls on the stack for the port.  What is then touched is public (C{transport},
C{mode}, C{connectionLost}, C{createInternetSocket}, C{startReading}), but for
the socket that a port was given to adopt (C{_preexistingSocket}) and its path
(C{_bindPath}), and what a C{UNIXServerEndpoint} was given (C{_address},
C{_wantPID}).  That C{doStart} is called by C{startListening}, and these by
name, is not promised, and C{tests/test_listening.py} fails by name when it
changes.  Where there is no port to be found, each accepted connection is
arranged by itself: right, but with the gap named above, in which a peer is
refused.  Sub-classing the port instead is not to be had: C{reactor.listenUNIX}
makes it.

And what C{unix.Server.__init__} sets is set by L{AcceptedServer} without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from socket import socket
from typing import cast

from twisted.internet import tcp, unix
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IProtocol,
    IReactorFDSet,
    IStreamServerEndpoint,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from .callers import findCaller
from .errors import CredentialsUnsupported
from .socketfile import SocketFile, isAbstract, refusedAbstract
from .transport import CredentialedServer

_log = Logger()

_NAMELESS = ("", None)


class AcceptedServer(CredentialedServer):
    """
    The transport that a port makes, with the attributes that stock's has but
    for two texts about the protocol: C{repstr}, which nothing here shows, and
    C{logstr}, which is made for the protocol that is served.  To make them for
    an arrival costs 2.5 % of a short connection, and memory.
    """

    logstr = "Arrival"

    def __init__(
        self,
        sock: socket,
        protocol: IProtocol,
        client: str | bytes,
        server: unix.Port,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        # unix.Server.__init__ in all that it does, but for those texts.
        super(unix.Server, self).__init__()
        tcp.Connection.__init__(self, sock, protocol, reactor)
        self.server = server
        # Most clients have no name, and a tuple each of what is the same.
        self.client = (client, None) if client else _NAMELESS
        self.sessionno = sessionno
        self.hostname = client
        self.startReading()
        self.connected = 1


class PreparedServer(AcceptedServer):
    """
    That of a port whose socket was prepared before it listened.
    """

    prepared = True


class StampedServer(PreparedServer):
    """
    The same, prepared for a capture of messages.
    """

    stamped = True

    def stopReading(self) -> None:
        """
        @see: L{twisted.internet.abstract.FileDescriptor.stopReading}
        """
        self.stopped = True
        super().stopReading()


def findStartingPort() -> tcp.Port | None:
    """
    The port whose C{startListening} is under way, in this very call.
    """
    return findCaller("startListening", tcp.Port)


def arrangePort(
    port: tcp.Port,
    factory: object,
    prepare: Callable[[socket, bool], None],
    prepared: type[PreparedServer],
) -> None:
    """
    Have a port that is about to listen make our transports.

    @param factory: the factory that the port was found for.
    @param prepare: what is to be done to its socket before it listens (or, to
        one that listened before it was ours, now); it is told whether the
        socket is the port's own, and not one that outlives it.
    @param prepared: the transport where that is done before.
    @raise CredentialsUnsupported: peers of this port cannot be known.
    """
    if not isinstance(port, unix.Port):
        raise CredentialsUnsupported(
            "only Unix-domain sockets have peer credentials, and this port is"
            f" {port!r}: use reactor.listenUNIX or a 'unix:' endpoint"
        )
    if port.factory is not factory:
        raise CredentialsUnsupported(
            f"{type(port.factory).__name__} wraps the factory that knows peers:"
            " it has to be the other way round, with CredentialedUNIXServerFactory"
            " outermost"
        )
    if port.transport is not unix.Server and not (
        isinstance(port.transport, type) and issubclass(port.transport, AcceptedServer)
    ):
        raise CredentialsUnsupported(
            f"{type(port).__name__} makes transports of its own"
            f" ({port.transport.__name__}), which do not know their peers"
        )
    port.transport = AcceptedServer
    _keepAdopted(port)
    _prepareSocket(port, prepare, prepared)


def arrangeFile(
    port: tcp.Port, uid: int = -1, gid: int = -1, abstract: bool = False
) -> None:
    """
    Have a port that is about to listen make a L{SocketFile}, and remove no
    other's file when it stops.

    @param uid: the file's owner, or C{-1}.
    @param gid: the file's group, or C{-1}.
    @param abstract: whether an abstract name is allowed.
    @raise CannotListenError: it is to adopt a socket of such a name.
    """
    if not isinstance(port, unix.Port):
        return
    adopted = port._preexistingSocket
    if adopted is None:
        port.createInternetSocket = partial(  # type: ignore[method-assign]
            SocketFile, port.mode, uid, gid, abstract
        )
        port.connectionLost = partial(_stop, port)  # type: ignore[method-assign]
    elif not abstract and isAbstract(adopted.getsockname()):
        port._preexistingSocket = None
        name = adopted.getsockname()
        adopted.close()
        raise CannotListenError(None, name, refusedAbstract())


def pathToBind(endpoint: IStreamServerEndpoint) -> tuple[bytes | None, bool]:
    """
    @return: the path at which an endpoint will bind a socket, or L{None} where
        that is not known; and whether Twisted will lock it.
    """
    from twisted.internet.endpoints import UNIXServerEndpoint

    if not isinstance(endpoint, UNIXServerEndpoint):
        return None, False
    return UNIXAddress(endpoint._address).name, bool(endpoint._wantPID)


def _keepAdopted(port: unix.Port) -> None:
    """
    The file of a socket that is adopted is its maker's.  Twisted would give it
    the mode 0666 (or fail, where it belongs to another user), and remove it in
    the end, which closes a C{systemd:} socket for good.  It does neither to a
    name in the abstract namespace.
    """
    if port._preexistingSocket is None:
        return
    # Before 26 it was called port.
    name = "_bindPath" if hasattr(port, "_bindPath") else "port"
    setattr(port, name, b"\0" + getattr(port, name))


def _stop(port: unix.Port, reason: Failure) -> None:
    """
    What C{unix.Port.connectionLost} does, but for a file that is not the
    port's, or that this process may not remove any more.
    """
    sock = port.socket
    assert isinstance(sock, SocketFile)
    path = sock.getsockname()
    try:
        sock.removeFile(path)
    except OSError as problem:
        _log.warn("Cannot remove {path!r}: {problem}", path=path, problem=problem)
    if port.lockFile is not None:
        try:
            port.lockFile.unlock()
        except (OSError, ValueError) as problem:
            _log.warn("Cannot unlock {port}: {problem}", port=port, problem=problem)
    tcp.Port.connectionLost(port, reason)


def _prepareSocket(
    port: unix.Port,
    prepare: Callable[[socket, bool], None],
    prepared: type[PreparedServer],
) -> None:
    create: Callable[[], socket] = port.createInternetSocket
    startReading = port.startReading
    names = ("createInternetSocket", "startReading")
    # Of arrangeFile, say; or of a start that failed, which puts things right
    # when it is called after all.
    before = {name: vars(port)[name] for name in names if name in vars(port)}

    def createPrepared() -> socket:
        created = create()
        prepare(created, True)
        port.transport = prepared
        return created

    def startReadingPrepared() -> None:
        for name in names:
            vars(port).pop(name, None)
        vars(port).update(before)
        if port.transport is not prepared:
            # A socket that was adopted has not been created here.
            prepare(port.socket, False)
        startReading()

    port.createInternetSocket = createPrepared  # type: ignore[method-assign]
    port.startReading = startReadingPrepared  # type: ignore[method-assign]


def adoptTransport(transport: ITransport) -> CredentialedServer:
    """
    Our transport, whatever made the connection.

    @param transport: one of ours, or a stock one: of C{adoptStreamConnection},
        or of a port that could not be found.
    @raise CredentialsUnsupported: anything else.
    """
    if isinstance(transport, CredentialedServer):
        return transport
    if type(transport) is not unix.Server:
        raise CredentialsUnsupported(
            f"{type(transport).__name__} is not the transport of an accepted"
            " Unix-domain connection; CredentialedUNIXServerFactory has to be the"
            " outermost factory of a Unix port"
        )
    transport.__class__ = CredentialedServer
    return cast(CredentialedServer, transport)
