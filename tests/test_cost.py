"""
What a connection and a message cost, in system calls: the same on a slow
machine, a busy one and a fast one.  C{benchmarks/} measures the time.
"""

import contextlib
import os
import socket
from collections import Counter
from unittest import skipUnless

from twisted.internet import unix
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.python.reflect import requireModule
from twisted.python.runtime import platform
from zope.interface import implementer

from twisted_peercred import Capture, CredentialedUNIXServerFactory
from twisted_peercred.kernels import thisKernel

from .support import LiveTestCase

reactor = requireModule("twisted.internet.reactor")


class CountingSocket(socket.socket):
    """
    A connection that counts what is asked of it.
    """

    counts: Counter


def _count(name: str):
    call = getattr(socket.socket, name)

    def counted(self, *arguments):
        # Of an option, its number too.
        key = (name, arguments[1]) if name.endswith("sockopt") else name
        self.counts[key] += 1
        return call(self, *arguments)

    return counted


for _name in (
    *("recv", "recv_into", "recvmsg", "recvmsg_into", "recvfrom", "recvfrom_into"),
    *("send", "sendall", "sendmsg", "sendto", "getsockopt", "setsockopt"),
    *("getpeername", "getsockname", "setblocking", "settimeout", "shutdown", "close"),
):
    setattr(CountingSocket, _name, _count(_name))


class CountingListener(socket.socket):
    """
    Accepts such connections, and has their counts.
    """

    def __init__(self, listening: socket.socket, counts: Counter) -> None:
        super().__init__(fileno=listening.detach())
        self.setblocking(False)
        self.counts = counts

    def accept(self):
        accepted, address = super().accept()
        counting = CountingSocket(fileno=accepted.detach())
        counting.counts = self.counts
        return counting, address


class Echo(Protocol):
    """
    Echoes.
    """

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@implementer(IFileDescriptorReceiver)
class Receiving(Echo):
    """
    Wants descriptors.
    """

    def fileDescriptorReceived(self, descriptor: int) -> None:
        os.close(descriptor)


#: What Twisted does for a connection, its echo and its end, but for reading.
LOOK = Counter({("setsockopt", socket.SO_OOBINLINE): 1})
STOCK = Counter(setblocking=1, send=1, shutdown=1, close=1)


@skipUnless(platform.isLinux(), "the options counted are Linux's")
class SystemCallTests(LiveTestCase):
    """
    Tests for the number of system calls.
    """

    def setUp(self):
        kernel = thisKernel()
        # Where the kernel does not know it, that is found out once.
        ours, theirs = socket.socketpair()
        with ours, theirs:
            kernel.setDescriptorsWanted(ours, True)
        # SO_PEERSEC is asked for where a security module has labels.
        options = kernel.options
        self.asked = Counter(
            ("getsockopt", each)
            for each in (options.peerCred, options.peerGroups, kernel._peerSec)
            if each is not None
        )
        self.asking = Counter(
            ("setsockopt", each) for each in (options.passRights,) if each is not None
        )
        return super().setUp()

    def count(self, factory) -> Counter:
        """
        Serve a factory.

        @return: the counts of its connections.
        """
        counts = Counter()
        self.address = os.path.join(
            self.directory, str(len(os.listdir(self.directory)))
        )
        port = unix.Port(self.address, factory, reactor=reactor)
        create = port.createInternetSocket
        port.createInternetSocket = lambda: CountingListener(create(), counts)
        port.startListening()
        self.adoptPort(port)
        return counts

    def serveCounted(self, capture, protocol=Echo, **options) -> Counter:
        """
        Serve an echo by our factory.
        """
        return self.count(
            CredentialedUNIXServerFactory(
                Factory.forProtocol(protocol), capture=capture, **options
            )
        )

    async def echo(self, peer, data=b"?") -> None:
        """
        Send something, and wait for all of it.
        """
        peer.send(data)
        peer.setblocking(False)
        left = len(data)

        def received() -> bool:
            nonlocal left
            with contextlib.suppress(BlockingIOError):
                left -= len(peer.recv(left))
            return left == 0

        await self.until(received)

    async def connection(self, counts) -> Counter:
        """
        @return: what one connection, its echo and its end took.
        """
        peer = self.connect(self.address)
        await self.echo(peer)
        peer.close()
        await self.until(lambda: counts["close"])
        return counts

    async def test_stock(self) -> None:
        """
        Stock Twisted, which the others are compared with, reads the message and
        the end by recvmsg(2).
        """
        counts = await self.connection(self.count(Factory.forProtocol(Echo)))
        self.assertEqual(counts, STOCK + Counter(recvmsg=2))

    async def test_connect(self) -> None:
        """
        Connect-time credentials take two getsockopt(2), a third where sockets
        have labels; recv(2) reads.  That descriptors are not wanted was said
        once, on the listening socket.
        """
        counts = await self.connection(self.serveCounted(Capture.CONNECT))
        self.assertEqual(counts, STOCK + self.asked + Counter(recv=2))

    async def test_anyFactory(self) -> None:
        """
        Of a factory that may make protocols of any kind, each connection is
        told by one setsockopt(2) once its protocol is there.
        """

        class Own(Factory):
            def buildProtocol(self, address):
                return Echo()

        counts = await self.connection(self.count(CredentialedUNIXServerFactory(Own())))
        self.assertEqual(counts, STOCK + self.asked + self.asking + Counter(recv=2))

    async def test_descriptors(self) -> None:
        """
        A protocol that wants descriptors gets recvmsg(2), and nothing has to be
        set for it.
        """
        counts = await self.connection(self.serveCounted(Capture.CONNECT, Receiving))
        self.assertEqual(counts, STOCK + self.asked + Counter(recvmsg=2))

    async def test_firstMessage(self) -> None:
        """
        A first message that is there takes one look more, and an option that has
        the look see all bytes; stamps were asked for once, on the listening
        socket.
        """
        counts = await self.connection(self.serveCounted(Capture.FIRST_MESSAGE))
        self.assertEqual(
            counts,
            STOCK + self.asked + LOOK + Counter(recvmsg=1, recv=2),
        )

    async def test_lateFirstMessage(self) -> None:
        """
        One that is not, two; however long it takes.
        """
        counts = self.serveCounted(Capture.FIRST_MESSAGE)
        peer = self.connect(self.address)
        await self.until(lambda: counts["recvmsg"])
        await self.until(self.readUp)
        await self.echo(peer)
        self.assertEqual((counts["recvmsg"], counts["recv"]), (2, 1))

    async def test_everyMessage(self) -> None:
        """
        With each message attributed, recvmsg(2) reads.
        """
        counts = await self.connection(self.serveCounted(Capture.EVERY_MESSAGE))
        self.assertEqual(
            counts,
            STOCK + self.asked + LOOK + Counter(recvmsg=3),
        )

    async def test_messages(self) -> None:
        """
        On an open connection a message is one read and one write, whatever its
        size up to 64 KiB, in every capture.
        """
        for capture, read in (
            (Capture.CONNECT, "recv"),
            (Capture.FIRST_MESSAGE, "recv"),
            (Capture.EVERY_MESSAGE, "recvmsg"),
        ):
            counts = self.serveCounted(capture)
            peer = self.connect(self.address)
            await self.echo(peer)
            for size in (1, 64, 65536):
                counts.clear()
                await self.echo(peer, bytes(size))
                self.assertEqual(counts, {read: 1, "send": 1}, (capture, size))

    async def test_policy(self) -> None:
        """
        A policy asks the kernel nothing.
        """

        class Anybody:
            def decide(self, identity):
                return self

            admitted = True
            rule = "any"

        counts = await self.connection(
            self.serveCounted(Capture.CONNECT, policy=Anybody(), maxPerUID=1)
        )
        self.assertEqual(counts, STOCK + self.asked + Counter(recv=2))

    async def test_refused(self) -> None:
        """
        A peer that is refused is read nothing of, and sent nothing.
        """

        class Nobody:
            def decide(self, identity):
                return self

            admitted = False
            rule = "!any"

        counts = self.serveCounted(Capture.CONNECT, policy=Nobody())
        self.connect(self.address)
        await self.until(lambda: counts["close"])
        self.assertEqual(
            counts, self.asked + Counter(setblocking=1, shutdown=1, close=1)
        )
