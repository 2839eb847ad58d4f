"""
For the tests of programs that use this package: peers of any user, with neither
root nor a second process.

For a protocol alone, L{CredentialedStringTransport}.  For a whole server or
client, with its policy and its limits, the real thing on a real socket, and
L{FakeKernel} in place of the kernel::

    kernel = FakeKernel(PeerCredentials(uid=1000, gid=100))
    factory = CredentialedUNIXServerFactory(wrapped, policy=policy, kernel=kernel)
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress, IUNIXTransport
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from .credentials import Capture, PeerCredentials
from .errors import (
    CredentialsTruncated,
    CredentialsUnsupported,
    PeerCredentialsError,
)
from .kernels import Datagram, Message, Probe, closeAll

#: As many descriptors as Linux takes in one message (C{SCM_MAX_FD}).
MOST_DESCRIPTORS = 253


@implementer(IUNIXTransport)
class CredentialedStringTransport(StringTransport):
    """
    Twisted's own L{StringTransport} with a peer: what C{IPeerCredentials(x)} is
    for it, for the layers above it, and for a protocol or a request that has it.

    @ivar peerCredentials: the peer.
    @ivar connectionCredentials: its connect-time credentials.
    @ivar descriptors: those that were sent; they are still the sender's.

    @param peerCredentials: the peer; L{None} for one that is not identified,
        which cannot be adapted.
    @param connectionCredentials: its connect-time credentials; the same, if
        L{None}.
    @param hostAddress: where the server listens.
    @param peerAddress: where the client is bound, which most are not.
    """

    def __init__(
        self,
        peerCredentials: PeerCredentials | None,
        *,
        connectionCredentials: PeerCredentials | None = None,
        hostAddress: IAddress | None = None,
        peerAddress: IAddress | None = None,
    ) -> None:
        super().__init__(
            hostAddress or UNIXAddress("/test.sock"), peerAddress or UNIXAddress(None)
        )
        self.peerCredentials = peerCredentials
        self.connectionCredentials = connectionCredentials or peerCredentials
        self.descriptors: list[int] = []

    def sendFileDescriptor(self, descriptor: int) -> None:
        """
        @see: L{IUNIXTransport.sendFileDescriptor}
        """
        self.descriptors.append(descriptor)


class FakeKernel:
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>} that says what a test tells it,
    of real sockets, on any platform.  Whatever it is told can be changed at any
    time; it is looked at anew for each connection and each message.

    @ivar peer: who connects (to a client: who listens), or the error to raise
        instead.
    @ivar writer: who writes, or the error to raise instead; who connects, if
        L{None}.
    @ivar captures: what it can do; another capture is C{CredentialsUnsupported}
        when a port starts to listen.
    """

    def __init__(
        self,
        peer: PeerCredentials | PeerCredentialsError,
        *,
        writer: PeerCredentials | PeerCredentialsError | None = None,
        captures: Sequence[Capture] = tuple(Capture),
    ) -> None:
        self.peer = peer
        self.writer = writer
        self.captures = captures

    def _writer(self, data: bytes, capture: Capture | None) -> PeerCredentials | None:
        if capture is None or not data:
            return None
        return self._tell(self.writer or self.peer, capture)

    def _tell(
        self, told: PeerCredentials | PeerCredentialsError, capture: Capture
    ) -> PeerCredentials:
        if isinstance(told, PeerCredentialsError):
            raise told
        return replace(told, capture=capture)

    def checkCapture(self, capture: Capture) -> None:
        if capture not in self.captures:
            raise CredentialsUnsupported(f"this test has no {capture}")

    def probes(self) -> Sequence[Probe]:
        return ()

    def askForMessages(self, sock: socket.socket) -> None:
        """
        Nothing: all messages have a writer.
        """

    def setDescriptorsWanted(self, sock: socket.socket, wanted: bool) -> None:
        """
        Nothing: all descriptors come, and those that are not wanted are closed.
        """

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        return self._tell(self.peer, Capture.CONNECT)

    def peekMessage(self, sock: socket.socket, capture: Capture) -> Message:
        data = sock.recv(1, socket.MSG_PEEK)
        return Message(data, self._writer(data, capture), [])

    def receiveMessage(
        self,
        sock: socket.socket,
        size: int,
        descriptors: bool,
        capture: Capture | None,
    ) -> Message:
        data, received, flags, _ = socket.recv_fds(sock, size, MOST_DESCRIPTORS)
        try:
            if flags & socket.MSG_CTRUNC:
                raise CredentialsTruncated("descriptors were lost")
            writer = self._writer(data, capture)
        except PeerCredentialsError:
            closeAll(received)
            raise
        if not descriptors:
            closeAll(received)
            received = []
        return Message(data, writer, received)

    def receiveDatagram(self, sock: socket.socket, size: int) -> Datagram:
        """
        For L{listenCredentialedUNIXDatagram
        <twisted_peercred.datagrams.listenCredentialedUNIXDatagram>}.

        @param size: bytes of room.
        """
        data, address = sock.recvfrom(size)
        told = self.writer or self.peer
        if isinstance(told, PeerCredentials):
            told = replace(told, capture=Capture.EVERY_MESSAGE)
        return Datagram(data, address, told)

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[tuple[int, int, bytes]]:
        return []
