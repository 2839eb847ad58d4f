"""
The factory that asks who a peer is before it asks for a protocol.

C{buildProtocol} gives Twisted's port a small protocol of ours, an L{Arrival}.
In its C{makeConnection} the kernel's word is read; once the peer is known the
wrapped factory is asked for the protocol, which takes the arrival's place on
the transport.  Nothing of ours stands between the two from then on, so that
whatever the protocol provides or the transport offers works as it does
without this package.

The first message is looked at with C{MSG_PEEK} and left where it is: the
protocol reads it as it reads everything else, when it wants to read, and none
of its bytes or descriptors can be lost, doubled or reordered here.  Only a
sync word is taken out, byte for byte.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import error, main
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .credentials import Capture, PeerCredentials
from .errors import (
    CredentialsTimeout,
    CredentialsUnavailable,
    PeerChanged,
    PeerCredentialsError,
    PeerRefused,
)
from .kernels import Kernel, closeAll, thisKernel
from .limits import WaitingRoom
from .listening import adoptTransport, arrangePort, findStartingPort
from .record import refused
from .transport import CredentialedServer, IIdentifying, ReadResult

_log = Logger()


@implementer(IProtocolFactory, ILoggingContext)
class CredentialedUNIXServerFactory:
    """
    Serves a factory's protocols to peers that the kernel identifies, and to
    no one else.  For C{reactor.listenUNIX}, C{UNIXServerEndpoint}, adopted
    sockets (C{systemd:}); outermost, where factories wrap each other.

    C{IPeerCredentials(transport)} is there in C{connectionMade}.

    @ivar wrappedFactory: the factory whose protocols are served.

    @param wrappedFactory: its C{buildProtocol} is called when the peer is
        known, and not at all for one that is refused.
    @param capture: which credentials count, and when they are read.
    @param timeout: seconds that a peer may take to send what identifies it.
    @param maxUnidentified: connections that may wait for that at once.  The
        one to go when there are more is the eldest of the user who has most.
    @param syncWord: bytes that the first message must start with; they are
        taken out of the stream.  Descriptors must not come with them.
    @param clock: tells the time for C{timeout}; the transport's reactor, if
        L{None}.
    @param kernel: what is asked for credentials; this process's own kernel,
        if L{None}.
    @raise ValueError: a number that is not positive.
    @raise CredentialsUnsupported: this platform is not known.
    """

    def __init__(
        self,
        wrappedFactory: IProtocolFactory,
        *,
        capture: Capture = Capture.CONNECT,
        timeout: float = 30.0,
        maxUnidentified: int = 64,
        syncWord: bytes = b"",
        clock: IReactorTime | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is seconds, more than 0, not {timeout!r}")
        if not maxUnidentified > 0:
            raise ValueError(f"maxUnidentified is 1 or more, not {maxUnidentified!r}")
        self.wrappedFactory = wrappedFactory
        self._capture = Capture(capture)
        self._timeout = timeout
        self._waiting: WaitingRoom[Arrival] = WaitingRoom(maxUnidentified)
        self._syncWord = bytes(syncWord)
        self._clock = clock
        self._kernel = thisKernel() if kernel is None else kernel

    @property
    def noisy(self) -> bool:
        """
        Whether the wrapped factory logs its start and stop.
        """
        return getattr(self.wrappedFactory, "noisy", True)

    def logPrefix(self) -> str:
        """
        The wrapped factory's prefix, marked.
        """
        if ILoggingContext.providedBy(self.wrappedFactory):
            prefix = self.wrappedFactory.logPrefix()
        else:
            prefix = type(self.wrappedFactory).__name__
        return f"{prefix} (peer credentials)"

    def doStart(self) -> None:
        """
        A port starts to listen.

        @raise CredentialsUnsupported: its peers could not be known.
        """
        self._kernel.checkCapture(self._capture)
        port = findStartingPort()
        if port is not None:
            asks = self._capture is not Capture.CONNECT
            arrangePort(port, self, self._kernel.askForMessages if asks else None)
        self.wrappedFactory.doStart()

    def doStop(self) -> None:
        """
        A port has stopped.
        """
        self.wrappedFactory.doStop()

    def buildProtocol(self, addr: IAddress) -> Arrival:
        """
        A connection was accepted; who it is from is asked when there is a
        transport.
        """
        return Arrival(self, addr)


@implementer(IProtocol, IIdentifying)
class Arrival:
    """
    The protocol of a connection whose peer is not known yet.
    """

    __slots__ = ("_address", "_deadline", "_factory", "_sync", "_transport", "_writer")

    _transport: CredentialedServer

    def __init__(
        self, factory: CredentialedUNIXServerFactory, address: IAddress
    ) -> None:
        self._factory = factory
        self._address = address
        self._deadline: IDelayedCall | None = None
        self._sync = b""
        self._writer: PeerCredentials | None = None

    def makeConnection(self, transport: ITransport) -> None:
        """
        Read the connect-time credentials; hand the connection over, if they
        are all that was asked for or the first message is here already; else
        wait.

        @see: L{twisted.internet.interfaces.IProtocol.makeConnection}
        """
        try:
            self._transport = adoptTransport(transport)
        except PeerCredentialsError as problem:
            refused(self._address, None, problem)
            transport.loseConnection()
            return
        result = self._begin(self._transport)
        if result is not None:
            # Closed here and now: a reactor closes what doRead tells it to,
            # and has not called doRead yet.
            self._transport.connectionLost(Failure(result))

    def _begin(self, transport: CredentialedServer) -> ReadResult:
        factory = self._factory
        kernel = transport.kernel = factory._kernel
        try:
            known = kernel.connectionCredentials(transport.socket)
            transport.connectionCredentials = known
            if factory._capture is not Capture.CONNECT:
                # A connection that was made before the option was set has not
                # inherited it.
                kernel.askForMessages(transport.socket)
            elif not factory._syncWord:
                return self._handOver(known)
        except PeerCredentialsError as problem:
            return self._refuse(problem)
        except OSError as problem:
            return self._refuse(CredentialsUnavailable(f"asking failed: {problem}"))
        result = self.readIdentity()
        if result is None and transport.peerCredentials is None:
            return self._wait(known)
        return result

    def _wait(self, known: PeerCredentials) -> ReadResult:
        factory, transport = self._factory, self._transport
        expelled = factory._waiting.enter(known.uid, self)
        if expelled is self:
            return self._refuse(PeerRefused(known, "maxUnidentified"))
        clock: Any = factory._clock or transport.reactor
        self._deadline = clock.callLater(factory._timeout, self._expire)
        if expelled is not None:
            expelled._expel()
        return None

    def _expire(self) -> None:
        self._giveUp(
            CredentialsTimeout(
                f"no message came within {self._factory._timeout} seconds"
            )
        )

    def _expel(self) -> None:
        known = self._transport.connectionCredentials
        assert known is not None
        self._giveUp(PeerRefused(known, "maxUnidentified"))

    def _giveUp(self, problem: PeerCredentialsError) -> None:
        self._leave()
        self._refuse(problem)
        # Which closes in the reactor's next turn: in this one it may be about
        # to call the transport.
        self._transport.abortConnection()

    def _leave(self) -> None:
        """
        Give back what waiting took.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is None:
            return
        if deadline.active():
            deadline.cancel()
        known = self._transport.connectionCredentials
        assert known is not None
        self._factory._waiting.leave(known.uid, self)

    def readIdentity(self) -> ReadResult:
        """
        @see: L{IIdentifying.readIdentity}
        """
        try:
            known = self._identify(self._transport)
        except BlockingIOError:
            return None
        except PeerCredentialsError as problem:
            return self._refuse(problem)
        except OSError:
            return main.CONNECTION_LOST
        if known is None:
            # It went without having said a word.
            return main.CONNECTION_DONE
        return self._handOver(known)

    def _identify(self, transport: CredentialedServer) -> PeerCredentials | None:
        """
        @return: who wrote the first message; L{None} if there is none and will
            be none.
        """
        factory = self._factory
        if factory._syncWord and not self._readSyncWord(transport):
            return None
        if factory._capture is Capture.CONNECT:
            return transport.connectionCredentials
        if factory._syncWord:
            return self._writer
        return factory._kernel.peekMessage(
            transport.socket, factory._capture
        ).credentials

    def _readSyncWord(self, transport: CredentialedServer) -> bool:
        """
        @return: whether all of it came, before the end of the stream.
        """
        factory = self._factory
        marked = None if factory._capture is Capture.CONNECT else factory._capture
        while len(self._sync) < len(factory._syncWord):
            message = factory._kernel.receiveMessage(
                transport.socket,
                len(factory._syncWord) - len(self._sync),
                True,
                marked,
            )
            closeAll(message.descriptors)
            if not message.data:
                return False
            self._sync += message.data
            writer = message.credentials or transport.connectionCredentials
            assert writer is not None
            if self._writer is not None and self._writer != writer:
                raise PeerChanged(self._writer, writer)
            self._writer = writer
            # A descriptor that came with it could not be given to the protocol
            # together with the bytes that it belongs to.
            if message.descriptors or not factory._syncWord.startswith(self._sync):
                raise PeerRefused(writer, "syncWord")
        return True

    def _handOver(self, known: PeerCredentials) -> ReadResult:
        """
        @return: L{None}, or why the connection has to end instead.
        """
        transport = self._transport
        self._leave()
        try:
            protocol = self._factory.wrappedFactory.buildProtocol(self._address)
        except Exception as problem:
            _log.failure("The wrapped factory failed", address=self._address)
            return problem
        if protocol is None:
            return error.ConnectionAborted()
        transport.peerCredentials = known
        transport.serve(protocol)
        try:
            protocol.makeConnection(transport)
        except Exception as problem:
            _log.failure("The protocol failed to start", address=self._address)
            return problem
        return None

    def _refuse(self, problem: PeerCredentialsError) -> PeerCredentialsError:
        refused(self._address, self._transport.connectionCredentials, problem)
        return problem

    def connectionLost(self, reason: Failure) -> None:
        """
        The peer went, or was refused, before it was handed over.

        @see: L{twisted.internet.interfaces.IProtocol.connectionLost}
        """
        self._leave()

    def connectionMade(self) -> None:
        """
        Of no use here: L{makeConnection} does all.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Never called: L{CredentialedServer} reads for this protocol by
        L{readIdentity}.
        """
