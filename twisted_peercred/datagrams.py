"""
Datagrams on Unix-domain sockets, each with the credentials of its sender.

A datagram socket has no connection to take credentials from.  The kernel
stamps each datagram at sendmsg(2), as it does the messages of
L{Capture.EVERY_MESSAGE}; what comes without a stamp, with a placeholder, or cut
short, is dropped.

The port is Twisted's own L{unix.DatagramPort}, a public class, with another
C{doRead} and another C{createInternetSocket}, both public methods.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from inspect import isawaitable
from socket import socket
from typing import Any, NamedTuple, cast

from twisted.internet import unix
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import AbstractDatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from .attachment import discard, takeHandle
from .credentials import Capture, PeerCredentials
from .deciding import ask, refusal
from .errors import (
    CredentialsTimeout,
    CredentialsUnsupported,
    PeerCredentialsError,
    PeerProcessError,
)
from .interfaces import (
    ICredentialedDatagramReceiver,
    IPeerCredentials,
    IPeerPolicy,
    IPeerPolicySource,
)
from .kernels import Datagram, Kernel, closeAll, thisKernel
from .kernels.stamping import stamping
from .process import PeerProcess
from .record import Refusals

_log = Logger()

#: Datagrams read before the reactor turns to others.
AT_ONCE = 64


@implementer(ICredentialedDatagramReceiver)
class CredentialedDatagramProtocol(AbstractDatagramProtocol):
    """
    A parent for protocols.
    """

    def datagramReceivedFrom(
        self, data: bytes, address: str | bytes | None, credentials: IPeerCredentials
    ) -> Any:
        """
        To be overridden.

        @see: L{ICredentialedDatagramReceiver.datagramReceivedFrom}
        """
        raise NotImplementedError


class Sender(NamedTuple):
    """
    Whom a refusal is counted for, as of a connection.
    """

    connectionCredentials: PeerCredentials | None
    reactor: Any
    sessionno: int | None = None


class CredentialedDatagramPort(unix.DatagramPort):
    """
    Reads datagrams with who sent them.

    @ivar dropped: how many datagrams were not delivered, by the reason's code
        (L{REASONS <twisted_peercred.record.REASONS>}).
    """

    def __init__(
        self,
        address: str,
        protocol: Any,
        reactor: Any,
        *,
        policy: IPeerPolicy | None,
        maxPacketSize: int,
        mode: int,
        timeout: float,
        kernel: Any,
        clock: IReactorTime | None,
    ) -> None:
        super().__init__(address, protocol, maxPacketSize, mode, reactor)
        self.dropped: Counter[str] = Counter()
        self._policy = policy
        self._timeout = timeout
        self._kernel = kernel
        self._clock: Any = reactor if clock is None else clock
        self._refusals = Refusals(clock)
        # A datagram that the policy is being asked about.
        self._held: Datagram | None = None
        self._answer: Deferred[list[object]] | None = None
        self._deadline: IDelayedCall | None = None

    def createInternetSocket(self) -> socket:
        """
        A socket whose datagrams are stamped from the first one on, and whose
        file is never open to more users than it will be.

        @see: L{unix.DatagramPort}
        """
        created: socket = super().createInternetSocket()
        self._kernel.askForMessages(created)
        # Linux gives the file that bind(2) makes the mode of the socket.
        with suppress(OSError):
            os.fchmod(created.fileno(), self.mode)
        return created

    def doRead(self) -> None:
        """
        @see: L{twisted.internet.interfaces.IReadDescriptor.doRead}
        """
        for _ in range(AT_ONCE):
            if not self.connected or self._held is not None:
                return
            try:
                datagram = self._kernel.receiveDatagram(self.socket, self.maxPacketSize)
            except BlockingIOError:
                return
            if isinstance(datagram.credentials, PeerCredentialsError):
                self._drop(datagram, datagram.credentials)
            else:
                self._decide(datagram, datagram.credentials)

    def _drop(self, datagram: Datagram, problem: PeerCredentialsError) -> None:
        closeAll([datagram.process])
        self.dropped[problem.reason] += 1
        sender: PeerCredentials | None = None
        if isinstance(datagram.credentials, PeerCredentials):
            sender = datagram.credentials
        address = UNIXAddress(cast("bytes | None", datagram.address))
        self._refusals.refused(Sender(sender, self.reactor), address, None, problem)

    def _decide(self, datagram: Datagram, sender: PeerCredentials) -> None:
        policy = self._policy
        if policy is None:
            self._deliver(datagram, sender)
            return
        if IPeerPolicySource.providedBy(policy):
            policy = policy.policy
        answer = ask(policy, sender)
        if not isinstance(answer, Deferred):
            self._decided(answer, datagram, sender)
            return
        # In order: the next ones wait in the socket, and then their senders.
        self._held = datagram
        self._answer = answer
        self._deadline = self._clock.callLater(self._timeout, self._expire, datagram)
        self.stopReading()

        def answered(answers: list[object]) -> None:
            if self._answer is answer:
                self._release()
                self.startReading()
                self._decided(answers[0], datagram, sender)

        answer.addCallback(answered)

    def _expire(self, datagram: Datagram) -> None:
        answer = self._answer
        self._release()
        assert answer is not None
        answer.cancel()
        self.startReading()
        self._drop(
            datagram,
            CredentialsTimeout(f"no decision was made within {self._timeout} seconds"),
        )

    def _release(self) -> None:
        """
        Nothing is held any more.
        """
        self._held = self._answer = None
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _decided(
        self, answer: object, datagram: Datagram, sender: PeerCredentials
    ) -> None:
        problem = refusal(answer, sender)
        if problem is None:
            self._deliver(datagram, sender)
        else:
            self._drop(datagram, problem)

    def _deliver(self, datagram: Datagram, sender: PeerCredentials) -> None:
        arguments: dict[str, PeerProcess | None] = {}
        process: PeerProcess | PeerProcessError | None = None
        if datagram.process is not None:
            process = takeHandle(self, datagram.process)
            known = process if isinstance(process, PeerProcess) else None
            arguments["process"] = known

        def done(result: object) -> None:
            discard(process)
            if isinstance(result, Failure):
                _log.failure("The protocol failed at a datagram", result)

        try:
            result = self.protocol.datagramReceivedFrom(
                datagram.data, datagram.address, sender, **arguments
            )
        except Exception:
            done(Failure())
            return
        if isinstance(result, Deferred):
            result.addBoth(done)
        elif isawaitable(result):
            Deferred.fromCoroutine(cast(Any, result)).addBoth(done)
        else:
            done(None)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        @see: L{twisted.internet.interfaces.IFileDescriptor.connectionLost}
        """
        held, answer = self._held, self._answer
        self._release()
        if held is not None:
            closeAll([held.process])
        if answer is not None:
            answer.cancel()
        self._refusals.tell()
        super().connectionLost(reason)


def listenCredentialedUNIXDatagram(
    reactor: Any,
    address: str,
    protocol: AbstractDatagramProtocol,
    *,
    policy: IPeerPolicy | None = None,
    maxPacketSize: int = 8192,
    mode: int = 0o666,
    processHandles: bool = False,
    timeout: float = 30.0,
    kernel: Kernel | None = None,
    clock: IReactorTime | None = None,
) -> CredentialedDatagramPort:
    """
    Receive datagrams with who sent them: C{reactor.listenUNIXDatagram} for
    those who need to know.  Linux.

    Datagrams of senders that the kernel does not identify, that the policy
    refuses, or that are longer than C{maxPacketSize}, are dropped, counted and
    logged (L{twisted_peercred.record}).  Descriptors that come with one are
    closed.

    @param reactor: provides C{IReactorFDSet} and C{IReactorTime}.
    @param address: a path that is not there yet, or a name in the abstract
        namespace, C{"\\0name"}.
    @param protocol: an L{ICredentialedDatagramReceiver
        <twisted_peercred.interfaces.ICredentialedDatagramReceiver>}, such as a
        L{CredentialedDatagramProtocol}.
    @param policy: whose datagrams to take, asked for each; L{None} for all that
        the kernel identifies.  While one takes its time, the others wait.
    @param maxPacketSize: bytes of the longest datagram.
    @param mode: of the file, which has it from the first instant on.
    @param processHandles: whether to have a handle on each sender's process.
        It takes a descriptor for each datagram, until it has been dealt with.
    @param timeout: seconds that the policy may take for a datagram.
    @param kernel: what is asked for credentials; this process's own, if L{None}.
    @param clock: tells the time for C{timeout}; C{reactor}, if L{None}.
    @return: the port; C{stopListening()} ends it.
    @raise CredentialsUnsupported: this kernel stamps no datagrams, or gives no
        handles.
    @raise CannotListenError: the address cannot be had.
    @raise TypeError: C{protocol} or C{policy} is none.
    @raise ValueError: C{timeout} is not positive.
    """
    if not callable(getattr(protocol, "datagramReceivedFrom", None)):
        raise TypeError(
            "protocol has datagramReceivedFrom(data, address, credentials), as"
            f" CredentialedDatagramProtocol does; this is {protocol!r}"
        )
    if policy is not None and not callable(getattr(policy, "decide", None)):
        raise TypeError(f"policy provides IPeerPolicy; this is {policy!r}")
    if not timeout > 0:
        raise ValueError(f"timeout is seconds, more than 0, not {timeout!r}")
    kernel = thisKernel() if kernel is None else kernel
    if processHandles:
        kernel = stamping(kernel)
    if not hasattr(kernel, "receiveDatagram"):
        raise CredentialsUnsupported(
            f"{type(kernel).__name__} is no kernel that datagrams' credentials are"
            " read from here; Linux is"
        )
    kernel.checkCapture(Capture.EVERY_MESSAGE)
    port = CredentialedDatagramPort(
        address,
        protocol,
        reactor,
        policy=policy,
        maxPacketSize=maxPacketSize,
        mode=mode,
        timeout=timeout,
        kernel=kernel,
        clock=clock,
    )
    port.startListening()
    return port
