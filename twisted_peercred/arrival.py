"""
A connection whose peer is not known yet, or not admitted yet: from accept(2) to
the moment when the wrapped factory's protocol takes over.

The first message is looked at with C{MSG_PEEK} and left where it is: the
protocol reads it as it reads everything else, when it wants to read, and none
of its bytes or descriptors can be lost, doubled or reordered here.  Only a
sync word is taken out, byte for byte.

The policy is asked as soon as the connect-time credentials are read, and in a
message capture again about who wrote: both have to be admitted.  One that
takes its time is waited for like a first message.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet import error, main
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    ITransport,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.log import callWithContext
from zope.interface import implementer

from .attachment import follow, isAnother
from .credentials import Capture, PeerCredentials
from .deciding import ask, policyFailed, refusal
from .errors import (
    CredentialsTimeout,
    CredentialsUnavailable,
    PeerChanged,
    PeerCredentialsError,
    PeerRefused,
)
from .interfaces import IPeerPolicy, IPeerPolicySource
from .kernels import closeAll
from .listening import adoptTransport
from .policy import Decision
from .record import admissions, refused
from .transport import CredentialedServer, IIdentifying, ReadResult

if TYPE_CHECKING:
    from .server import CredentialedUNIXServerFactory

_log = Logger()


@implementer(IProtocol, IIdentifying)
class Arrival:
    """
    The protocol of a connection whose peer is not known yet.
    """

    # Most are never set: a peer that may come in at once does not wait.
    _asking: Deferred[Any] | None = None
    _deadline: IDelayedCall | None = None
    _decision: object = None
    _policy: IPeerPolicy | None = None
    _sync = b""
    _transport: CredentialedServer
    _writer: PeerCredentials | None = None

    def __init__(
        self, factory: CredentialedUNIXServerFactory, address: IAddress
    ) -> None:
        self._factory = factory
        self._address = address

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
        try:
            result = self._begin(self._transport)
        except BaseException:
            self._transport.abortConnection()
            raise
        if result is not None:
            # Closed here and now: a reactor closes what doRead tells it to,
            # and has not called doRead yet.
            self._transport.connectionLost(Failure(result))

    def _begin(self, transport: CredentialedServer) -> ReadResult:
        factory = self._factory
        kernel = transport.kernel = factory._kernel
        transport.refusals = factory._refusals
        try:
            known = kernel.connectionCredentials(transport.socket)
            transport.connectionCredentials = known
            if transport.prepared:
                transport.wantsDescriptors = factory._wantsDescriptors
            elif factory._ofMessages:
                # A connection that was made before the option was set has not
                # inherited it.
                kernel.askForMessages(transport.socket)
        except PeerCredentialsError as problem:
            return self._refuse(problem)
        except OSError as problem:
            return self._refuse(CredentialsUnavailable(f"asking failed: {problem}"))
        if factory._slots is not None:
            # Before the policy, which a flood would keep busy.
            if not factory._slots.enter(known.uid):
                return self._refuse(PeerRefused(known, "maxPerUID", "max-per-uid"))
            transport.slots = factory._slots
        policy = factory.policy
        if policy is None:
            if factory._ofMessages or factory._syncWord:
                return self._connected(known)
            return self._handOver(known)
        if IPeerPolicySource.providedBy(policy):
            policy = policy.policy
        self._policy = policy
        return self._decide(known, self._connected)

    def _connected(self, known: PeerCredentials) -> ReadResult:
        """
        Who connected may go on.
        """
        factory = self._factory
        if not factory._ofMessages and not factory._syncWord:
            return self._handOver(known)
        result = self.readIdentity()
        if result is None and self._transport.peerCredentials is None:
            return self._wait()
        return result

    def _decide(
        self, known: PeerCredentials, admit: Callable[[PeerCredentials], ReadResult]
    ) -> ReadResult:
        """
        Have the policy decide, at once or while the connection waits.

        @param admit: what is to be done when it admits.
        """
        assert self._policy is not None
        try:
            answer = ask(self._policy, known)
        except BaseException as problem:
            # SystemExit, say: Twisted's to deal with.
            self._refuse(policyFailed(known, problem), known)
            raise
        if type(answer) is Decision and answer.admitted is True:
            # As it mostly is.
            self._decision = answer
            return admit(known)
        if not isinstance(answer, Deferred):
            return self._decided(answer, known, admit)
        self._asking = answer

        def answered(answers: list[object]) -> None:
            if self._asking is not answer:
                # It was given up meanwhile.
                return
            self._asking = None
            self._transport.startReading()
            try:
                result = self._decided(answers[0], known, admit)
            except BaseException:
                self._transport.abortConnection()
                raise
            if result is not None:
                self._transport.abortConnection()

        answer.addCallback(answered)
        return self._wait()

    def _decided(
        self,
        answer: object,
        known: PeerCredentials,
        admit: Callable[[PeerCredentials], ReadResult],
    ) -> ReadResult:
        problem = refusal(answer, known)
        if problem is not None:
            return self._refuse(problem, known)
        self._decision = answer
        return admit(known)

    def _wait(self) -> ReadResult:
        """
        Wait for a message or a decision; for both, it is the same place and
        the same time.
        """
        factory, transport = self._factory, self._transport
        if self._deadline is not None:
            return None
        known = transport.connectionCredentials
        assert known is not None
        expelled = factory._waiting.enter(known.uid, self)
        if expelled is self:
            return self._refuse(
                PeerRefused(known, "maxUnidentified", "max-unidentified")
            )
        clock: Any = factory._clock or transport.reactor
        self._deadline = clock.callLater(factory._timeout, self._expire)
        if expelled is not None:
            expelled._expel()
        return None

    def _expire(self) -> None:
        missing = "message came" if self._asking is None else "decision was made"
        self._giveUp(
            CredentialsTimeout(f"no {missing} within {self._factory._timeout} seconds")
        )

    def _expel(self) -> None:
        known = self._transport.connectionCredentials
        assert known is not None
        self._giveUp(PeerRefused(known, "maxUnidentified", "max-unidentified"))

    def portStopped(self) -> None:
        """
        Wait no more, if the port that accepted this connection has stopped.
        """
        transport = self._transport
        port = transport.server
        if self._deadline is not None and port is not None and not port.connected:
            known = transport.connectionCredentials
            assert known is not None
            self._giveUp(PeerRefused(known, "stopListening", "stopped"))

    def _giveUp(self, problem: PeerCredentialsError) -> None:
        self._refuse(problem)
        # Which closes in the reactor's next turn: in this one it may be about
        # to call the transport.
        self._transport.abortConnection()
        self._leave()

    def _leave(self) -> None:
        """
        Give back what waiting took.
        """
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            if deadline.active():
                deadline.cancel()
            known = self._transport.connectionCredentials
            assert known is not None
            self._factory._waiting.leave(known.uid, self)
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()

    def readIdentity(self) -> ReadResult:
        """
        @see: L{IIdentifying.readIdentity}
        """
        if self._asking is not None:
            return self._pause()
        try:
            known = self._identify(self._transport)
        except BlockingIOError:
            return None
        except PeerCredentialsError as problem:
            return self._refuse(problem)
        except ConnectionError:
            # It broke before it was anybody's.
            return main.CONNECTION_LOST
        except OSError as problem:
            return self._refuse(CredentialsUnavailable(f"reading failed: {problem}"))
        if known is None:
            # It went without having said a word.
            return main.CONNECTION_DONE
        if self._policy is None or known is self._transport.connectionCredentials:
            return self._handOver(known)
        return self._decide(known, self._handOver)

    def _pause(self) -> ReadResult:
        """
        While the policy is asked, read nothing.  A peer that has gone, and
        left nothing to be read, is not decided about any more.
        """
        transport = self._transport
        try:
            data = transport.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            if hasOutOfBand(transport.socket):
                # For which the reactor would call again and again.
                transport.stopReading()
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data and hasHungUp(transport.socket):
            return main.CONNECTION_DONE
        transport.stopReading()
        return None

    def _identify(self, transport: CredentialedServer) -> PeerCredentials | None:
        """
        @return: who wrote the first message; L{None} if there is none and will
            be none.
        """
        factory = self._factory
        if factory._syncWord and not self._readSyncWord(transport):
            return None
        if not factory._ofMessages:
            return transport.connectionCredentials
        if factory._syncWord:
            return self._writer
        message = factory._kernel.peekMessage(transport.socket, factory._capture)
        if message.process is not None:
            follow(transport, message.process)
        return message.credentials

    def _readSyncWord(self, transport: CredentialedServer) -> bool:
        """
        @return: whether all of it came, before the end of the stream.
        """
        factory = self._factory
        marked = factory._capture if factory._ofMessages else None
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
            another = isAnother(transport, message.process)
            follow(transport, message.process)
            self._sync += message.data
            writer = message.credentials or transport.connectionCredentials
            assert writer is not None
            if self._writer is not None and (another or self._writer != writer):
                raise PeerChanged(self._writer, writer)
            self._writer = writer
            # A descriptor that came with it could not be given to the protocol
            # together with the bytes that it belongs to.
            if message.descriptors or not factory._syncWord.startswith(self._sync):
                raise PeerRefused(writer, "syncWord", "sync-word")
        return True

    def _handOver(self, known: PeerCredentials) -> ReadResult:
        """
        @return: L{None}, or why the connection has to end instead.
        """
        transport = self._transport
        if self._deadline is not None:
            self._leave()
        stamping = self._factory._stamping
        if stamping is not None and known.capture is Capture.FIRST_MESSAGE:
            # Nobody reads who writes the rest; left on, each read would leave a
            # handle open.
            try:
                stamping.setStamping(transport.socket, False)
            except OSError as failed:
                unavailable = CredentialsUnavailable(f"SO_PASSPIDFD: {failed}")
                return self._refuse(unavailable, known)
        problem: Exception | None = None
        protocol = None
        try:
            protocol = self._factory.wrappedFactory.buildProtocol(self._address)
        except Exception as raised:
            problem = raised
        if protocol is None:
            none = PeerRefused(known, "wrappedFactory", "no-protocol")
            none.__cause__ = problem
            self._refuse(none, known)
            return problem or error.ConnectionAborted()
        if admissions.wanted:
            admissions.admitted(
                self._address,
                transport.sessionno,
                known,
                transport.connectionCredentials,
                self._decision,
            )
        if self._policy is not None and known.capture is Capture.EVERY_MESSAGE:
            transport.policy = self._policy
            clock: Any = self._factory._clock or transport.reactor
            transport.clock = clock
            transport.timeout = self._factory._timeout
        transport.peerCredentials = known
        transport.serve(protocol)
        result: ReadResult = None
        try:
            protocol.makeConnection(transport)
            transport.chooseRead()
            if transport.stamped and not transport.stopped:
                # The bytes that came with the identity, in the log context that
                # all others are read in.
                result = callWithContext({"system": transport.logstr}, transport.doRead)
        except Exception as problem:
            _log.failure("The protocol failed to start", address=self._address)
            return problem
        # The reactor finds an end by itself, and knows half-closed from closed.
        return None if result is main.CONNECTION_DONE else result

    def _refuse(
        self, problem: PeerCredentialsError, known: PeerCredentials | None = None
    ) -> PeerCredentialsError:
        transport = self._transport
        transport.refusals.refused(transport, self._address, known, problem)
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


def hasHungUp(sock: socket.socket) -> bool:
    """
    Whether the peer has closed, and not only its writing side (poll(2)).
    """
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def hasOutOfBand(sock: socket.socket) -> bool:
    """
    Whether there is a byte that was sent with C{MSG_OOB}, which makes a socket
    readable and is passed over by a look at it (measured).
    """
    try:
        sock.recv(1, socket.MSG_OOB | socket.MSG_PEEK)
    except OSError:
        return False
    return True
