"""
Twisted's own transport of an accepted Unix connection, with a reading side
that knows about credentials.

It is stock L{unix.Server} in everything but C{doRead}, a public method, which
here does what the protocol of the moment needs and no more:

  - one that has still to learn who the peer is (an L{IIdentifying}) is asked
    to go on;
  - with L{Capture.EVERY_MESSAGE} each read is a recvmsg(2) whose credentials
    are compared with those before;
  - one that provides L{IFileDescriptorReceiver} gets recvmsg(2) with room for
    descriptors;
  - any other gets recv(2), which costs less than the recvmsg(2) of stock, and
    with which the kernel discards descriptors that nobody asked for.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeAlias

from twisted.internet import error, main, unix
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    ILoggingContext,
    IProtocol,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import Interface

from .attachment import discard, follow, isAnother
from .credentials import Capture, PeerCredentials
from .deciding import ask, policyFailed, refusal
from .errors import (
    PeerChanged,
    PeerCredentialsError,
    PeerProcessError,
    PeerRefused,
)
from .holding import HeldMessage
from .interfaces import IPeerCredentials, IPeerCredentialsReceiver, IPeerPolicy
from .kernels import Kernel, Message, closeAll
from .limits import UserSlots
from .process import PeerProcess
from .record import Refusals

#: What a reactor makes of a read: L{None} to go on, or why the connection ends.
ReadResult: TypeAlias = "Exception | None"

# A member of an Enum is looked up slowly, ten times as slowly as this.
_EVERY_MESSAGE = Capture.EVERY_MESSAGE


class IIdentifying(Interface):
    """
    A protocol that holds a connection until its peer is known.
    """

    def readIdentity() -> ReadResult:
        """
        The connection is readable.
        """


class CredentialedServer(unix.Server):
    """
    The server's side of a connection whose peer is known.

    @ivar peerCredentials: who the peer is, by the capture that was asked for;
        L{None} until that is known.  With L{Capture.EVERY_MESSAGE}, who wrote
        the bytes that were delivered last.
    @ivar connectionCredentials: the connect-time credentials, in every capture.
    @ivar peerProcess: the process that L{peerCredentials} are of, for those who
        asked; or why it cannot be told.
    @ivar kernel: what reads messages; set for those protocols that need it.
    @ivar refusals: who is told when this connection is refused.
    @ivar slots: where this connection counts, by the user who connected.
    @ivar prepared: whether the socket that accepted it was prepared before its
        peer could connect.
    @ivar stamped: whether the kernel was asked to stamp its messages by then.
    @ivar wantsDescriptors: whether the kernel lets descriptors through to it.
    @ivar stopped: of a stamped connection, whether it was ever told to read no
        more.
    @ivar policy: what another writer is asked of; L{None} admits it.
    @ivar clock: tells the time for C{timeout}; set beside C{policy}.
    @ivar timeout: seconds that the policy may take.
    @ivar held: what another writer wrote, while the policy is asked.
    """

    peerCredentials: PeerCredentials | None = None
    connectionCredentials: PeerCredentials | None = None
    peerProcess: PeerProcess | PeerProcessError | None = None
    kernel: Kernel
    refusals: Refusals
    slots: UserSlots | None = None
    prepared = False
    stamped = False
    wantsDescriptors = True
    stopped = False
    policy: IPeerPolicy | None = None
    clock: IReactorTime
    timeout: float
    held: HeldMessage | None = None

    # How to read where bytes alone will not do, and the protocol that this was
    # chosen for: it can be replaced at any time by assigning
    # transport.protocol, as in Twisted.
    _read: Callable[[CredentialedServer], ReadResult] | None = None
    _readFor: IProtocol | None = None
    _aborted = False
    _sendsDescriptors = False

    def __repr__(self) -> str:
        protocol = getattr(self, "protocol", None)
        return (
            f"<{type(protocol).__name__} #{self.sessionno} with {self.peerCredentials}>"
        )

    def __conform__(self, interface: object) -> PeerCredentials | None:
        """
        C{IPeerCredentials(transport)}, which here is asked first and in all
        other ways of L{twisted_peercred.adapters} costs four times as much.
        """
        return self.peerCredentials if interface is IPeerCredentials else None

    def serve(self, protocol: IProtocol) -> None:
        """
        Hand the connection over: from now on C{protocol} is what Twisted's
        reactor deals with.
        """
        if ILoggingContext.providedBy(protocol):
            # Which may raise: then it is not this protocol's connection yet.
            prefix = protocol.logPrefix()
        else:
            prefix = type(protocol).__name__
        self.protocol = protocol
        self.logstr = f"{prefix},{self.sessionno},{self.hostname}"

    def chooseRead(self) -> None:
        """
        Read as the protocol of the moment wants it.
        """
        # None, when the connection is lost.
        protocol = self._readFor = getattr(self, "protocol", None)
        wanted = IFileDescriptorReceiver.providedBy(protocol)
        if wanted is not self.wantsDescriptors:
            self.wantsDescriptors = wanted
            self.kernel.setDescriptorsWanted(self.socket, wanted)
        known = self.peerCredentials
        if known is not None and known.capture is _EVERY_MESSAGE:
            self._read = _readAttributed
        elif wanted:
            self._read = _readDescriptors
        elif self._read is not None:
            self._read = None

    def doRead(self) -> ReadResult:  # type: ignore[override] # any reason goes
        """
        The socket is readable.

        @see: L{twisted.internet.interfaces.IReadDescriptor.doRead}
        """
        protocol = self.protocol
        if protocol is not self._readFor:
            if IIdentifying.providedBy(protocol):
                return protocol.readIdentity()
            self.chooseRead()
        if self._read is not None:
            return self._read(self)
        # Here and not in a function of its own: a call is 1 % of a small echo.
        try:
            data = self.socket.recv(self.bufferSize)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        protocol.dataReceived(data)
        if self.protocol is not protocol:
            # Before its peer is told, and sends what the new one waits for.
            self.chooseRead()
        return None

    def sendFileDescriptor(self, fileno: int) -> None:
        """
        @see: L{twisted.internet.interfaces.IUNIXTransport.sendFileDescriptor}
        """
        self._sendsDescriptors = True
        super().sendFileDescriptor(fileno)

    def writeSomeData(self, data: bytes) -> int | error.ConnectionLost:
        """
        Send what the socket takes of some bytes.  On a connection that no
        descriptor was ever sent on it is send(2) and nothing else; stock's
        preparations for descriptors are 4 % of a small echo.

        @see: L{twisted.internet.abstract.FileDescriptor.writeSomeData}
        """
        if self._sendsDescriptors:
            sent: int | error.ConnectionLost = super().writeSomeData(data)
            return sent
        some: bytes | memoryview = data
        if len(data) > self.SEND_LIMIT:
            some = memoryview(data)[: self.SEND_LIMIT]
        try:
            return self.socket.send(some)
        except OSError as problem:
            if problem.errno in (errno.EWOULDBLOCK, errno.ENOBUFS):
                return 0
            return main.CONNECTION_LOST

    def abortConnection(self) -> None:
        """
        @see: L{twisted.internet.interfaces.ITCPTransport.abortConnection}
        """
        self._aborted = True
        super().abortConnection()

    def readConnectionLost(self, reason: Failure) -> None:
        """
        The peer writes no more.

        @see: L{twisted.internet.interfaces.IHalfCloseableDescriptor.readConnectionLost}
        """
        # Most protocols are not half-closeable, and to find no adapter that
        # would make one so is 2 % of a short connection.
        if IHalfCloseableProtocol.providedBy(self.protocol):
            super().readConnectionLost(reason)
        else:
            self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        """
        @see: L{twisted.internet.interfaces.IFileDescriptor.connectionLost}
        """
        if self.held is not None:
            self.held.drop()
        slots = self.slots
        if slots is not None and self.connectionCredentials is not None:
            # Once: connectionLost may be called again.
            self.slots = None
            slots.leave(self.connectionCredentials.uid)
        # The protocol refers to this transport.
        self._readFor = None
        try:
            unix.Server.connectionLost(self, reason)
        finally:
            # Not before: a protocol may ask how the process ended.
            if self.peerProcess is not None:
                discard(self.peerProcess)


def _readDescriptors(transport: CredentialedServer) -> ReadResult:
    try:
        message = transport.kernel.receiveMessage(
            transport.socket, transport.bufferSize, True, None
        )
    except BlockingIOError:
        return None
    except OSError:
        return main.CONNECTION_LOST
    except PeerCredentialsError as problem:
        return _refuse(transport, problem)
    return _deliver(transport, message)


def _readAttributed(transport: CredentialedServer) -> ReadResult:
    try:
        message = transport.kernel.receiveMessage(
            transport.socket,
            transport.bufferSize,
            transport.wantsDescriptors,
            _EVERY_MESSAGE,
        )
    except BlockingIOError:
        return None
    except OSError:
        return main.CONNECTION_LOST
    except PeerCredentialsError as problem:
        return _refuse(transport, problem)
    data, new, descriptors, process = message
    old = transport.peerCredentials
    if new is old and new is not None and not descriptors and process is None:
        # As it mostly is.
        transport.protocol.dataReceived(data)
        return None
    # Another process may have the number, and the user, of the one before.
    another = isAnother(transport, message.process)
    if old is None or new is None or (new == old and not another):
        follow(transport, message.process)
        return _deliver(transport, message)
    if not IPeerCredentialsReceiver.providedBy(transport.protocol):
        message.drop()
        return _refuse(transport, PeerChanged(old, new))
    if transport.policy is None:
        return _change(transport, message, new)

    def decided(answer: object) -> ReadResult:
        try:
            problem = refusal(answer, new)
        except BaseException:
            message.drop()
            raise
        if problem is not None:
            message.drop()
            return _refuse(transport, problem)
        return _change(transport, message, new)

    try:
        answer = ask(transport.policy, new)
    except BaseException as problem:
        message.drop()
        _refuse(transport, policyFailed(new, problem))
        raise
    if isinstance(answer, Deferred):
        HeldMessage(transport, new, message, answer, decided)
        return None
    return decided(answer)


def _change(
    transport: CredentialedServer, message: Message, new: PeerCredentials
) -> ReadResult:
    """
    Another writer may go on.
    """
    old, transport.peerCredentials = transport.peerCredentials, new
    assert old is not None
    follow(transport, message.process)
    try:
        # It may have been replaced since the message came, by one that does not
        # provide it: then this raises.
        IPeerCredentialsReceiver(transport.protocol).peerCredentialsChanged(old, new)
    except BaseException:
        closeAll(message.descriptors)
        raise
    if transport.disconnecting or transport._aborted:
        # Told who writes now, the protocol wanted none of it.
        closeAll(message.descriptors)
        return None
    return _deliver(transport, message)


def _deliver(transport: CredentialedServer, message: Message) -> ReadResult:
    """
    Descriptors, then the bytes they came with, as stock does; but what an
    exception leaves over is closed, and so is what came without bytes, whose
    sender is not known (a stream has no such messages, but a socket that was
    adopted may be none).
    """
    descriptors = message.descriptors
    if not message.data:
        message.drop()
        return main.CONNECTION_DONE
    try:
        while descriptors:
            IFileDescriptorReceiver(transport.protocol).fileDescriptorReceived(
                descriptors.pop(0)
            )
    except BaseException:
        closeAll(descriptors)
        raise
    transport.protocol.dataReceived(message.data)
    return None


def _refuse(
    transport: CredentialedServer, problem: PeerCredentialsError
) -> PeerCredentialsError:
    who: IPeerCredentials | None = transport.peerCredentials
    if isinstance(problem, PeerRefused):
        # The other writer.
        who = problem.credentials
    transport.refusals.refused(transport, transport.getPeer(), who, problem)
    return problem
