"""
The factory that asks who a peer is before it asks for a protocol.

C{buildProtocol} gives Twisted's port a small protocol of ours, an L{Arrival}.
In its C{makeConnection} the kernel's word is read; once the peer is known, and
admitted, the wrapped factory is asked for the protocol, which takes the
arrival's place on the transport.  Nothing of ours stands between the two from
then on, so that whatever the protocol provides or the transport offers works
as it does without this package.
"""

from __future__ import annotations

from socket import socket

from twisted.internet.interfaces import (
    IAddress,
    IFileDescriptorReceiver,
    ILoggingContext,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from zope.interface import implementer

from .arrival import Arrival
from .credentials import Capture
from .interfaces import IPeerPolicy
from .kernels import Kernel, thisKernel
from .kernels.stamping import StampingLinux, stamping
from .limits import UserSlots, WaitingRoom
from .listening import (
    PreparedServer,
    StampedServer,
    arrangePort,
    findStartingPort,
)
from .record import Refusals
from .wrapping import WrappingFactory


@implementer(IProtocolFactory, ILoggingContext)
class CredentialedUNIXServerFactory(WrappingFactory):
    """
    Serves a factory's protocols to peers that the kernel identifies, and to
    no one else.  For C{reactor.listenUNIX}, C{UNIXServerEndpoint}, adopted
    sockets (C{systemd:}); outermost, where factories wrap each other.

    C{IPeerCredentials(transport)} is there in C{connectionMade}.

    @ivar wrappedFactory: the factory whose protocols are served.
    @ivar policy: see below; may be replaced, for connections still to come.

    @param wrappedFactory: its C{buildProtocol} is called when the peer is
        known, and not at all for one that is refused.
    @param capture: which credentials count, and when they are read.
    @param policy: whom to admit; L{None} for everyone that the kernel
        identifies.  In a message capture it is asked about who connected and
        about who wrote.  Where it provides L{IPeerPolicySource} too, each
        connection is decided by the policy of one moment.
    @param timeout: seconds that a peer may take to send what identifies it,
        and the policy to decide, together.
    @param maxUnidentified: connections that may wait for that at once.  One
        more is refused where its user would have as many as anybody; else the
        eldest of the user who has most makes room for it.
    @param maxPerUID: connections at once of one user by connect-time
        credentials, those that wait included; L{None} for any number.
    @param syncWord: bytes that the first message must start with; they are
        taken out of the stream.  Descriptors must not come with them.
    @param processHandles: with a message capture, whether to have a handle on
        the process that wrote beside each message (Linux 6.5), for
        L{IPeerProcess <twisted_peercred.interfaces.IPeerProcess>}.  It takes a
        descriptor for each connection, and with C{EVERY_MESSAGE} one for a
        moment with each read.  C{CONNECT} has no need of it.
    @param clock: tells the time for C{timeout}; the transport's reactor, if
        L{None}.
    @param kernel: what is asked for credentials; this process's own kernel,
        if L{None}.
    @raise ValueError: a number that is not positive.
    @raise TypeError: C{policy} is none.
    @raise CredentialsUnsupported: this platform is not known, or gives no
        handles.
    """

    def __init__(
        self,
        wrappedFactory: IProtocolFactory,
        *,
        capture: Capture = Capture.CONNECT,
        policy: IPeerPolicy | None = None,
        timeout: float = 30.0,
        maxUnidentified: int = 64,
        maxPerUID: int | None = None,
        syncWord: bytes = b"",
        processHandles: bool = False,
        clock: IReactorTime | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is seconds, more than 0, not {timeout!r}")
        if not maxUnidentified > 0:
            raise ValueError(f"maxUnidentified is 1 or more, not {maxUnidentified!r}")
        if maxPerUID is not None and not maxPerUID > 0:
            raise ValueError(f"maxPerUID is 1 or more, or None, not {maxPerUID!r}")
        if policy is not None and not callable(getattr(policy, "decide", None)):
            raise TypeError(
                f"policy provides IPeerPolicy, as Policy.fromString(...) does; this"
                f" is {policy!r}"
            )
        self.wrappedFactory = wrappedFactory
        self.policy = policy
        self._capture = Capture(capture)
        self._ofMessages = self._capture is not Capture.CONNECT
        self._timeout = timeout
        self._waiting: WaitingRoom[Arrival] = WaitingRoom(maxUnidentified)
        self._slots = None if maxPerUID is None else UserSlots(maxPerUID)
        self._refusals = Refusals(clock)
        self._ports = 0
        self._wantsDescriptors = _mayWantDescriptors(wrappedFactory)
        self._syncWord = bytes(syncWord)
        self._clock = clock
        self._kernel = thisKernel() if kernel is None else kernel
        self._stamping: StampingLinux | None = None
        if processHandles and self._capture is not Capture.CONNECT:
            self._kernel = self._stamping = stamping(self._kernel)

    def doStart(self) -> None:
        """
        A port starts to listen.

        @raise CredentialsUnsupported: its peers could not be known.
        """
        self._kernel.checkCapture(self._capture)
        port = findStartingPort()
        if port is not None:
            arrangePort(
                port,
                self,
                self._prepare,
                StampedServer if self._ofMessages else PreparedServer,
            )
        self.wrappedFactory.doStart()
        self._ports += 1
        self._refusals.stopped = False

    def _prepare(self, listening: socket, own: bool) -> None:
        """
        Set what connections inherit from the socket that accepts them.
        """
        if self._ofMessages:
            self._kernel.askForMessages(listening)
        # Another program's socket is to go on as it was.
        if own and not self._wantsDescriptors:
            self._kernel.setDescriptorsWanted(listening, False)

    def doStop(self) -> None:
        """
        A port has stopped.  Its connections that still wait are refused; those
        that were handed over live on, as in Twisted.
        """
        for arrival in self._waiting.guests():
            arrival.portStopped()
        self._refusals.tell()
        self._ports -= 1
        self._refusals.stopped = self._ports <= 0
        self.wrappedFactory.doStop()

    def buildProtocol(self, addr: IAddress) -> Arrival:
        """
        A connection was accepted; who it is from is asked when there is a
        transport.
        """
        return Arrival(self, addr)


def _mayWantDescriptors(factory: IProtocolFactory) -> bool:
    """
    Whether descriptors may have to be let through before a protocol is there
    to tell: for any factory but one that makes protocols of a single class as
    L{Factory} does, and of one that does not provide
    L{IFileDescriptorReceiver}.
    """
    protocol = getattr(factory, "protocol", None)
    return not (
        getattr(type(factory), "buildProtocol", None) is Factory.buildProtocol
        and isinstance(protocol, type)
        and not IFileDescriptorReceiver.implementedBy(protocol)
    )
