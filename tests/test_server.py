"""
Tests for L{twisted_peercred.server}: real connections on trial's reactor.
"""

import errno
import os
import select
import socket
from dataclasses import replace
from inspect import signature
from unittest import skipIf

from twisted.internet import error, main, reactor
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IUNIXTransport,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, formatEvent
from twisted.python import context
from twisted.python.log import ILogContext
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import directlyProvides, implementer
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsTimeout,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerRefused,
)
from twisted_peercred.arrival import Arrival
from twisted_peercred.kernels import thisKernel
from twisted_peercred.kernels.stamping import StampingLinux
from twisted_peercred.listening import StampedServer
from twisted_peercred.transport import IIdentifying

from .support import (
    FailingKernel,
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    flat,
    needsProcessHandles,
    openDescriptors,
)

MESSAGES = (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)
SYNC = b"\x44\x33\x22\x11"


class FactoryTests(SynchronousTestCase):
    """
    Tests for L{CredentialedUNIXServerFactory} without a connection.
    """

    def test_interfaces(self) -> None:
        """
        The factory and its protocol provide what Twisted expects of them.
        """
        factory = CredentialedUNIXServerFactory(RememberingFactory())
        verifyObject(IProtocolFactory, factory)
        verifyObject(ILoggingContext, factory)
        arrival = factory.buildProtocol(None)
        self.assertIsInstance(arrival, Arrival)
        verifyObject(IProtocol, arrival)
        verifyObject(IIdentifying, arrival)
        arrival.connectionMade()
        arrival.dataReceived(b"")

    def test_arguments(self) -> None:
        """
        Numbers that make no sense, and captures that there are not, are
        refused at once.
        """
        for wrong in (
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": float("nan")},
            {"maxUnidentified": 0},
            {"maxUnidentified": -1},
            {"maxPerUID": 0},
            {"maxPerUID": -1},
            {"capture": "sometimes"},
        ):
            with self.assertRaises(ValueError):
                CredentialedUNIXServerFactory(RememberingFactory(), **wrong)
        CredentialedUNIXServerFactory(
            RememberingFactory(), timeout=0.5, maxUnidentified=1, maxPerUID=1
        )

    def test_defaults(self) -> None:
        """
        What is not given is what the documentation says.
        """
        parameters = signature(CredentialedUNIXServerFactory).parameters
        defaults = {
            name: each.default
            for name, each in parameters.items()
            if each.kind is each.KEYWORD_ONLY
        }
        self.assertEqual(
            defaults,
            {
                "capture": Capture.CONNECT,
                "policy": None,
                "timeout": 30.0,
                "maxUnidentified": 64,
                "maxPerUID": None,
                "syncWord": b"",
                "processHandles": False,
                "clock": None,
                "kernel": None,
            },
        )

    @skipIf(needsProcessHandles, needsProcessHandles)
    def test_processHandles(self) -> None:
        """
        Handles are sent with messages, where there are any to be sent with.
        """
        for capture in Capture:
            factory = CredentialedUNIXServerFactory(
                RememberingFactory(), capture=capture, processHandles=True
            )
            sent = isinstance(factory._kernel, StampingLinux)
            self.assertIs(sent, capture is not Capture.CONNECT)

    def test_startAndStop(self) -> None:
        """
        C{doStart}, C{doStop}, C{noisy} and C{logPrefix} are the wrapped
        factory's.
        """
        calls = []

        class Wrapped(Factory):
            noisy = False

            def startFactory(self):
                calls.append("start")

            def stopFactory(self):
                calls.append("stop")

            def logPrefix(self):
                return "wrapped"

        factory = CredentialedUNIXServerFactory(Wrapped())
        for _ in range(2):
            factory.doStart()
            factory.doStart()
            factory.doStop()
            self.assertEqual(calls, ["start"])
            # What is refused is still counted, until the last port has stopped.
            self.assertFalse(factory._refusals.stopped)
            factory.doStop()
            self.assertEqual(calls, ["start", "stop"])
            self.assertTrue(factory._refusals.stopped)
            calls.clear()
        self.assertFalse(factory.noisy)
        self.assertEqual(factory.logPrefix(), "wrapped (peer credentials)")

    def test_logPrefixOfBareFactory(self) -> None:
        """
        A factory that is no logging context is called by its class.
        """

        @implementer(IProtocolFactory)
        class Bare:
            pass

        factory = CredentialedUNIXServerFactory(Bare())
        self.assertEqual(factory.logPrefix(), "Bare (peer credentials)")
        self.assertTrue(factory.noisy)

    def test_unsupportedCapture(self) -> None:
        """
        A kernel that cannot do a capture says so before the wrapped factory
        starts (THREATS K16).
        """
        wrapped = RememberingFactory()
        factory = CredentialedUNIXServerFactory(
            wrapped,
            kernel=FailingKernel("checkCapture", CredentialsUnsupported("no")),
        )
        self.assertRaises(CredentialsUnsupported, factory.doStart)
        self.assertEqual(wrapped.numPorts, 0)

    def test_otherTransport(self) -> None:
        """
        A transport that is no Unix connection's is closed, and user code does
        not run.
        """
        wrapped = RememberingFactory()
        arrival = CredentialedUNIXServerFactory(wrapped).buildProtocol(None)
        transport = StringTransport()
        arrival.makeConnection(transport)
        self.assertTrue(transport.disconnecting)
        arrival.connectionLost(None)
        self.assertEqual(wrapped.made, [])


class ConnectionTests(LiveTestCase):
    """
    Tests for the way of a connection.
    """

    async def test_connect(self) -> None:
        """
        With C{CONNECT} a peer need not say anything; its credentials are there
        in C{connectionMade}, on the transport and by adaptation.
        """
        address, wrapped = self.serve()
        self.connect(address)
        protocol = await self.made(wrapped)
        transport = protocol.transport
        self.assertEqual(
            (protocol.peer.uid, protocol.peer.gid, protocol.peer.pid),
            (os.geteuid(), os.getegid(), os.getpid()),
        )
        self.assertEqual(
            protocol.peer.groups, tuple(sorted({os.getegid(), *os.getgroups()}))
        )
        self.assertIs(transport.peerCredentials, protocol.peer)
        self.assertIs(transport.connectionCredentials, protocol.peer)
        self.assertIs(transport.protocol, protocol)
        verifyObject(IUNIXTransport, transport)
        self.assertEqual(transport.logstr, "Remembering,0,")
        self.assertEqual(repr(transport), f"<Remembering #0 with {protocol.peer}>")

    async def test_messages(self) -> None:
        """
        With a message capture the protocol is asked for when the first bytes
        are here; it gets all of them.
        """
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture)
            peer = self.connect(address)
            await self.until(lambda: len(self.factory._waiting))
            self.assertEqual(wrapped.made, [])
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"hello"])
            self.assertIs(protocol.peer.capture, capture)
            self.assertEqual(protocol.peer.uid, os.getuid())
            self.assertIsNone(protocol.peer.groups)
            connection = protocol.transport.connectionCredentials
            self.assertIs(connection.capture, Capture.CONNECT)
            self.assertEqual(len(self.factory._waiting), 0)
            self.assertEqual(reactor.getDelayedCalls()[1:], [])

    async def test_messageIsThereAlready(self) -> None:
        """
        A peer that wrote before it was accepted does not wait.
        """
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture, maxUnidentified=1)
            self.patch(self.factory._waiting, "limit", 0)
            peer = self.connect(address)
            peer.send(b"hello")
            peer.close()
            protocol = await (await self.made(wrapped)).ended
            self.assertEqual(flat(protocol.received), b"hello")
            self.assertTrue(protocol.halfClosed)

    async def test_closedAfterMessage(self) -> None:
        """
        All bytes arrive, in order and once, of a peer that closes or
        half-closes right after them, in every capture, with a sync word and
        without.
        """
        body = bytes(range(256)) * 512
        for capture in Capture:
            for word in (b"", SYNC):
                for halfClose in (False, True):
                    address, wrapped = self.serve(capture=capture, syncWord=word)
                    peer = self.connect(address)
                    await self.until(lambda: self.factory._waiting or wrapped.made)
                    peer.setblocking(True)
                    peer.sendall(word + body)
                    if halfClose:
                        peer.shutdown(socket.SHUT_WR)
                    else:
                        peer.close()
                    protocol = await (await self.made(wrapped)).ended
                    self.assertEqual(flat(protocol.received), body)
                    self.assertTrue(protocol.halfClosed)

    async def test_endOfFile(self) -> None:
        """
        A peer that closes or half-closes without a word is nobody; the slot
        and the timer are given back (THREATS K1).
        """
        for capture in Capture:
            for word in (b"", SYNC):
                if capture is Capture.CONNECT and not word:
                    continue
                for halfClose in (False, True):
                    before = openDescriptors()
                    address, wrapped = self.serve(capture=capture, syncWord=word)
                    peer = self.connect(address)
                    if word:
                        peer.send(word[:2])
                    await self.until(lambda: len(self.factory._waiting))
                    if halfClose:
                        peer.shutdown(socket.SHUT_WR)
                    else:
                        peer.close()
                    await self.until(lambda: not len(self.factory._waiting))
                    peer.close()
                    self.assertEqual(wrapped.made, [])
                    self.assertEqual(openDescriptors(), before + 1)
                    self.assertEqual(self.refusals(), [])

    async def test_reset(self) -> None:
        """
        A connection that breaks before a word is nobody's.
        """
        address, wrapped = self.serve(
            capture=Capture.FIRST_MESSAGE,
            kernel=FailingKernel("peekMessage", ConnectionResetError(104, "reset")),
        )
        peer = self.connect(address)
        peer.setblocking(True)
        self.assertEqual(await self.closed(peer), b"")
        self.assertEqual(wrapped.made, [])

    async def test_syncWord(self) -> None:
        """
        The sync word is taken out wherever it is split or joined.
        """
        for capture in Capture:
            for cut in range(len(SYNC) + 1):
                address, wrapped = self.serve(capture=capture, syncWord=SYNC)
                peer = self.connect(address)
                for part in (SYNC[:cut], SYNC[cut:] + b"body"):
                    await self.until(lambda: self.factory._waiting or wrapped.made)
                    if part:
                        peer.send(part)
                        await self.until(self.readUp)
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                self.assertEqual(protocol.received, [b"body"])
                self.assertIs(protocol.peer.capture, capture)

    async def test_syncWordAlone(self) -> None:
        """
        After the sync word alone the protocol is there, and has no bytes.
        """
        for capture in Capture:
            address, wrapped = self.serve(capture=capture, syncWord=SYNC)
            peer = self.connect(address)
            peer.send(SYNC)
            protocol = await self.made(wrapped)
            peer.shutdown(socket.SHUT_WR)
            await protocol.ended
            self.assertEqual(protocol.received, [])

    async def test_syncWordAndTheEnd(self) -> None:
        """
        The end of a stream that is in sight at the hand-over is that of one
        direction, where the protocol can have it so.
        """
        for capture in Capture:
            address, wrapped = self.serve(capture=capture, syncWord=SYNC)
            peer = self.connect(address)
            peer.send(SYNC)
            peer.shutdown(socket.SHUT_WR)
            protocol = await self.made(wrapped)
            await protocol.ended
            self.assertTrue(protocol.halfClosed)

    async def test_longSyncWord(self) -> None:
        """
        A sync word may be of any length.
        """
        word = bytes(range(1, 256)) * 3
        for capture in Capture:
            address, wrapped = self.serve(capture=capture, syncWord=word)
            peer = self.connect(address)
            peer.send(word + b"body")
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"body"])

    async def test_syncWordOfAForgottenWriter(self) -> None:
        """
        Who wrote the rest of it is compared by what the kernel says, whether or
        not its answer was kept.
        """
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture, syncWord=SYNC)
            peer = self.connect(address)
            peer.send(SYNC[:2])
            await self.until(lambda: self.factory._waiting)
            await self.until(self.readUp)
            thisKernel()._kept.clear()
            peer.send(SYNC[2:] + b"body")
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"body"])

    async def test_wrongSyncWord(self) -> None:
        """
        Another word is a refusal, as soon as one byte is wrong.
        """
        for capture in Capture:
            address, wrapped = self.serve(capture=capture, syncWord=SYNC)
            peer = self.connect(address)
            peer.send(SYNC[:2] + b"?")
            self.assertEqual(await self.closed(peer), b"")
            refusal = self.refusals()[-1]
            self.assertIsInstance(refusal, PeerRefused)
            self.assertEqual(refusal.rule, "syncWord")
            self.assertEqual(refusal.credentials.uid, os.getuid())
            self.assertEqual(wrapped.made, [])
            self.assertEqual(len(self.factory._waiting), 0)

    async def test_descriptorWithSyncWord(self) -> None:
        """
        A descriptor that comes with the sync word, which could not reach the
        protocol, is a refusal and not a loss; nothing stays open.
        """
        address, wrapped = self.serve(
            Receiving, capture=Capture.FIRST_MESSAGE, syncWord=SYNC
        )
        before = openDescriptors()
        peer = self.connect(address)
        self.sendDescriptor(peer, SYNC + b"body")
        self.assertEqual(await self.closed(peer), b"")
        self.assertEqual(self.refusals()[-1].rule, "syncWord")
        self.assertEqual(wrapped.made, [])
        self.assertEqual(openDescriptors(), before + 1)

    async def test_descriptors(self) -> None:
        """
        A protocol that provides L{IFileDescriptorReceiver} gets descriptors
        before the bytes that they came with, in every capture, of the first
        message and of later ones; others may come and go in between.
        """
        for capture in Capture:
            address, wrapped = self.serve(Receiving, capture=capture)
            before = openDescriptors()
            peer = self.connect(address)
            self.sendDescriptor(peer, b"first", 2)
            protocol = await self.made(wrapped)
            await self.until(lambda: len(protocol.received) == 3)
            peer.send(b"second")
            await self.until(lambda: len(protocol.received) == 4)
            self.sendDescriptor(peer, b"third")
            await self.until(lambda: len(protocol.received) == 6)
            one, two, first, second, three, third = protocol.received
            self.assertEqual((first, second, third), (b"first", b"second", b"third"))
            self.assertEqual([one, two, three], wrapped.descriptors)
            for each in wrapped.descriptors:
                self.assertTrue(os.path.samestat(os.fstat(each), os.stat(os.devnull)))
                os.close(each)
            peer.close()
            await protocol.ended
            self.assertTrue(protocol.halfClosed)
            self.assertEqual(openDescriptors(), before)

    async def test_descriptorsLost(self) -> None:
        """
        A truncated message ends the connection, and its bytes are not
        delivered (THREATS K4).
        """
        for capture in Capture:
            address, wrapped = self.serve(Receiving, capture=capture)
            peer = self.connect(address)
            if capture is not Capture.CONNECT:
                peer.send(b"hello")
            protocol = await self.made(wrapped)
            protocol.transport.kernel = FailingKernel(
                "receiveMessage", CredentialsTruncated("lost")
            )
            peer.send(b"more")
            await protocol.ended
            self.assertNotIn(b"more", protocol.received)
            protocol.lost.trap(CredentialsTruncated)
            self.assertIsInstance(self.refusals()[-1], CredentialsTruncated)

    async def test_brokenWhileReading(self) -> None:
        """
        A socket's error ends the connection as Twisted ends it; a read that
        would block is none.
        """
        for capture in Capture:
            for protocolClass in (Remembering, Receiving):
                address, wrapped = self.serve(protocolClass, capture=capture)
                peer = self.connect(address)
                peer.send(b"hello")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                transport = protocol.transport
                self.assertIsNone(transport.doRead())

                class Broken:
                    def recv(self, *arguments):
                        raise OSError(104, "reset")

                    recvmsg = recv

                sock, transport.socket = transport.socket, Broken()
                self.assertIsInstance(transport.doRead(), error.ConnectionLost)
                transport.socket = sock
                peer.close()
                await protocol.ended

    async def test_descriptorReceiverFails(self) -> None:
        """
        If a protocol fails on a descriptor, those after it are closed.
        """

        class Failing(Receiving):
            def fileDescriptorReceived(self, descriptor):
                os.close(descriptor)
                raise ZeroDivisionError()

        address, wrapped = self.serve(Failing)
        before = openDescriptors()
        peer = self.connect(address)
        self.sendDescriptor(peer, b"x", 3)
        protocol = await (await self.made(wrapped)).ended
        protocol.lost.trap(ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(openDescriptors(), before + 1)

    async def test_unwantedDescriptors(self) -> None:
        """
        For a protocol that does not want descriptors the kernel refuses them
        at the sender where it can; else they are discarded, and the bytes
        delivered (THREATS A8).
        """
        for capture in Capture:
            for refuses in (True, False):
                kernel = FailingKernel("", OSError())
                if not refuses:
                    kernel.setDescriptorsWanted = lambda sock, wanted: None
                address, wrapped = self.serve(capture=capture, kernel=kernel)
                before = openDescriptors()
                peer = self.connect(address)
                peer.send(b"hello")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                try:
                    self.sendDescriptor(peer, b"more")
                except PermissionError:
                    self.assertTrue(refuses)
                    peer.send(b"more")
                await self.until(lambda: len(protocol.received) > 1)
                self.assertEqual(protocol.received, [b"hello", b"more"])
                self.assertEqual(openDescriptors(), before + 2)
                peer.close()
                await protocol.ended

    async def test_switchedProtocol(self) -> None:
        """
        A protocol may put another one on the transport, as in Twisted; the new
        one is read for as it wants.
        """
        address, wrapped = self.serve()
        peer = self.connect(address)
        protocol = await self.made(wrapped)
        receiving = Receiving()
        receiving.factory = wrapped
        protocol.transport.protocol = receiving
        receiving.makeConnection(protocol.transport)
        peer.send(b"wake")
        await self.until(lambda: receiving.received)
        self.sendDescriptor(peer, b"x")
        await self.until(lambda: len(receiving.received) == 3)
        self.assertEqual(receiving.received, [b"wake", wrapped.descriptors[0], b"x"])
        os.close(wrapped.descriptors[0])
        plain = Remembering()
        plain.factory = wrapped
        receiving.transport.protocol = plain
        plain.makeConnection(receiving.transport)
        peer.send(b"plain")
        await self.until(lambda: plain.received)
        self.assertEqual(plain.received, [b"plain"])

    async def test_brokenWhileWriting(self) -> None:
        """
        A socket that takes no more for now is tried again, and one that is
        broken ends the connection, as in Twisted.
        """
        address, wrapped = self.serve()
        peer = self.connect(address)
        protocol = await self.made(wrapped)
        transport = protocol.transport

        class Failing:
            def send(self, data):
                raise OSError(self.number, "no")

        sock, transport.socket = transport.socket, Failing()
        for number, result in (
            (errno.EWOULDBLOCK, 0),
            (errno.ENOBUFS, 0),
            (errno.EPIPE, main.CONNECTION_LOST),
        ):
            Failing.number = number
            self.assertEqual(transport.writeSomeData(b"x"), result)
        transport.socket = sock
        peer.close()
        await protocol.ended

    async def test_switchedBeforeTheAnswer(self) -> None:
        """
        A protocol that puts another one on the transport, which wants
        descriptors, and tells its peer so, has the peer's descriptor: the
        kernel refuses none when the answer is there.  So has one that provides
        the interface by the time it is connected.
        """

        class Upgrading(Remembering):
            def dataReceived(self, data):
                receiving = Receiving()
                receiving.factory = self.factory
                receiving.received, receiving.ended = [], self.ended
                receiving.transport = self.transport
                self.transport.protocol = receiving
                self.transport.write(b"ok")

        class Late(Remembering):
            def connectionMade(self):
                super().connectionMade()
                directlyProvides(self, IFileDescriptorReceiver)
                self.transport.write(b"ok")

            def fileDescriptorReceived(self, descriptor):
                self.factory.descriptors.append(descriptor)

        for protocolClass in (Upgrading, Late):
            address, wrapped = self.serve(protocolClass)
            peer = self.connect(address)
            peer.send(b"upgrade")
            await self.until(lambda: select.select([peer], [], [], 0)[0])
            self.assertEqual(peer.recv(10), b"ok")
            self.sendDescriptor(peer, b"x")
            await self.until(lambda: wrapped.descriptors)
            os.close(wrapped.descriptors[0])

    async def test_paused(self) -> None:
        """
        A protocol that pauses in C{connectionMade} gets nothing until it
        resumes: not the bytes that identified the peer either.
        """

        class Paused(Remembering):
            def connectionMade(self):
                super().connectionMade()
                self.transport.pauseProducing()

        for capture in Capture:
            address, wrapped = self.serve(Paused, capture=capture)
            peer = self.connect(address)
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            for _ in range(3):
                await self.until(self.readUp)
            self.assertEqual(protocol.received, [])
            protocol.transport.resumeProducing()
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"hello"])

    async def test_lostInConnectionMade(self) -> None:
        """
        What a protocol writes in C{connectionMade} arrives when it loses the
        connection there, and nothing is read any more; after
        C{abortConnection} neither.
        """

        class Losing(Remembering):
            def connectionMade(self):
                super().connectionMade()
                self.transport.write(b"bye" * 100000)
                self.transport.loseConnection()

        class Aborting(Remembering):
            def connectionMade(self):
                super().connectionMade()
                self.transport.abortConnection()

        for capture in Capture:
            for protocolClass, answer in ((Losing, b"bye" * 100000), (Aborting, b"")):
                address, wrapped = self.serve(protocolClass, capture=capture)
                peer = self.connect(address)
                peer.send(b"hello")
                self.assertEqual(await self.closed(peer), answer)
                protocol = await (await self.made(wrapped)).ended
                self.assertEqual(protocol.received, [])

    async def test_wrappedFactoryRefuses(self) -> None:
        """
        A wrapped factory that returns L{None} or raises closes this
        connection, and the next is served.
        """

        class Moody(RememberingFactory):
            moods = ["none", "error", "good"]

            def buildProtocol(self, addr):
                mood = self.moods.pop(0)
                if mood == "error":
                    raise ZeroDivisionError()
                if mood == "good":
                    return super().buildProtocol(addr)

        for capture in Capture:
            wrapped = Moody()
            wrapped.moods = list(Moody.moods)
            address = self.listen(
                CredentialedUNIXServerFactory(wrapped, capture=capture)
            )
            before = openDescriptors()
            for expected in (0, 1):
                peer = self.connect(address)
                peer.send(b"hello")
                self.assertEqual(await self.closed(peer), b"")
                peer.close()
                errors = self.flushLoggedErrors(ZeroDivisionError)
                self.assertEqual(len(errors), expected)
            self.assertEqual(openDescriptors(), before)
            peer = self.connect(address)
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)

    async def test_connectionMadeFails(self) -> None:
        """
        A protocol that fails to start loses its connection, once, and nothing
        else is lost.
        """

        class Failing(Remembering):
            def connectionMade(self):
                super().connectionMade()
                raise ZeroDivisionError()

        for capture in Capture:
            address, wrapped = self.serve(Failing, capture=capture)
            before = openDescriptors()
            peer = self.connect(address)
            peer.send(b"hello")
            self.assertEqual(await self.closed(peer), b"")
            protocol = await (await self.made(wrapped)).ended
            protocol.lost.trap(ZeroDivisionError)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(openDescriptors(), before + 1)

    async def test_logPrefixFails(self) -> None:
        """
        A protocol whose C{logPrefix} raises never hears of its connection, which
        is closed.
        """

        class Failing(Remembering):
            def logPrefix(self):
                self.factory.made.append(self)
                raise ZeroDivisionError()

            def connectionLost(self, reason):
                self.lost = reason

        for capture in Capture:
            address, wrapped = self.serve(Failing, capture=capture)
            peer = self.connect(address)
            peer.send(b"hello")
            self.assertEqual(await self.closed(peer), b"")
            protocol = await self.made(wrapped)
            self.assertIsNone(protocol.lost)
            self.assertIsNone(protocol.transport)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_dataReceivedFails(self) -> None:
        """
        A protocol that fails at its first bytes loses its connection, once, by
        what it raised, whether these come with its identity or after it.
        """

        class Failing(Remembering):
            def dataReceived(self, data):
                raise ZeroDivisionError()

        for capture in Capture:
            address, wrapped = self.serve(Failing, capture=capture)
            before = openDescriptors()
            for late in (False, True):
                peer = self.connect(address)
                if late:
                    await self.until(self.readUp)
                peer.send(b"hello")
                self.assertEqual(await self.closed(peer), b"")
                protocol = await (await self.made(wrapped, 1 + late)).ended
                protocol.lost.trap(ZeroDivisionError)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                peer.close()
            self.assertEqual(openDescriptors(), before)

    async def test_brokenWithIdentity(self) -> None:
        """
        A connection that breaks between the look at its first message and the
        reading of it is lost, and not closed.
        """

        class Broken(Remembering):
            def connectionMade(self):
                super().connectionMade()
                sock = self.transport.socket

                class Reset:
                    def recv(self, size):
                        raise ConnectionResetError(errno.ECONNRESET, "reset")

                    def __getattr__(self, name):
                        return getattr(sock, name)

                self.transport.socket = Reset()

        address, wrapped = self.serve(Broken, capture=Capture.FIRST_MESSAGE)
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await (await self.made(wrapped)).ended
        protocol.lost.trap(error.ConnectionLost)
        self.assertEqual(protocol.received, [])

    async def test_readWithIdentity(self) -> None:
        """
        The bytes that came with the identity are delivered in the turn of the
        hand-over, after C{connectionMade}, and in the log context of the
        protocol's own connection.
        """

        class Telling(Remembering):
            def connectionMade(self):
                super().connectionMade()
                self.systems = []
                reactor.callLater(0, self.received.append, b"turn")

            def dataReceived(self, data):
                super().dataReceived(data)
                self.systems.append(context.get(ILogContext)["system"])

        for capture in MESSAGES:
            for late in (False, True):
                address, wrapped = self.serve(Telling, capture=capture)
                peer = self.connect(address)
                if late:
                    await self.until(self.readUp)
                peer.send(b"hello")
                protocol = await self.made(wrapped)
                await self.until(lambda: len(protocol.received) == 2)
                self.assertEqual(protocol.received, [b"hello", b"turn"])
                self.assertEqual(protocol.systems, [protocol.transport.logPrefix()])
                self.assertTrue(protocol.systems[0].startswith("Telling,0,"))

    async def test_noDescriptorEver(self) -> None:
        """
        Where protocols of a single class want no descriptors, the kernel refuses
        them at the sender from connect(2) on; a socket that was adopted is left
        as it was, and those that it accepts are told one by one.
        """
        passRights = thisKernel().options.passRights
        if passRights is None:
            raise SkipTest("this kernel has no SO_PASSRIGHTS")
        address, wrapped = self.serve()
        with open(os.devnull) as file:
            peer = self.connect(address)
            self.assertRaises(
                PermissionError, socket.send_fds, peer, [b"?"], [file.fileno()]
            )
            address, wrapped = self.serve(Receiving)
            socket.send_fds(self.connect(address), [b"?"], [file.fileno()])
            await self.made(wrapped)
            await self.until(lambda: wrapped.descriptors)
            os.close(wrapped.descriptors.pop())
        path = os.path.join(self.directory, "adopted")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen(5)
        listening.setblocking(False)
        wrapped = RememberingFactory()
        self.adoptPort(
            reactor.adoptStreamPort(
                listening.fileno(),
                socket.AF_UNIX,
                CredentialedUNIXServerFactory(wrapped),
            )
        )
        self.assertEqual(listening.getsockopt(socket.SOL_SOCKET, passRights), 1)
        self.connect(path)
        accepted = (await self.made(wrapped)).transport.socket
        self.assertEqual(accepted.getsockopt(socket.SOL_SOCKET, passRights), 0)

    async def test_kernelFails(self) -> None:
        """
        Without credentials there is no connection, whichever call does not
        give them; the next connection is served.
        """
        # As for a connection that was made before the port was ours.
        self.patch(StampedServer, "prepared", False)
        for broken, problem in (
            ("connectionCredentials", CredentialsUnavailable("no")),
            ("connectionCredentials", OSError(9, "bad")),
            ("askForMessages", OSError(1, "not permitted")),
            ("peekMessage", CredentialsUnavailable("no")),
        ):
            address, wrapped = self.serve(
                capture=Capture.FIRST_MESSAGE,
                kernel=FailingKernel("", problem),
            )
            self.factory._kernel = FailingKernel(broken, problem)
            before = openDescriptors()
            peer = self.connect(address)
            peer.send(b"hello")
            self.assertEqual(await self.closed(peer), b"")
            peer.close()
            self.assertIsInstance(self.refusals()[-1], CredentialsUnavailable)
            self.assertEqual(wrapped.made, [])
            self.assertEqual(openDescriptors(), before)
            self.factory._kernel = thisKernel()
            peer = self.connect(address)
            peer.send(b"hello")
            await self.made(wrapped)

    async def test_timeout(self) -> None:
        """
        A peer that says nothing is closed after C{timeout} seconds by the
        clock, and its place is free.
        """
        clock = Clock()
        address, wrapped = self.serve(
            capture=Capture.FIRST_MESSAGE, timeout=5, clock=clock
        )
        peer = self.connect(address)
        await self.until(lambda: len(self.factory._waiting))
        clock.advance(4.9)
        self.assertEqual(self.refusals(), [])
        clock.advance(0.2)
        self.assertEqual(await self.closed(peer), b"")
        self.assertIsInstance(self.refusals()[0], CredentialsTimeout)
        self.assertEqual(len(self.factory._waiting), 0)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual(wrapped.made, [])

    async def test_noTimerIsLeft(self) -> None:
        """
        Once the peer is known, its timer is gone.
        """
        clock = Clock()
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE, clock=clock)
        peer = self.connect(address)
        await self.until(lambda: len(self.factory._waiting))
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        peer.send(b"hello")
        await self.made(wrapped)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_maxUnidentified(self) -> None:
        """
        One user has C{maxUnidentified} silent connections and no more; those
        that it has are kept, those over it are closed.
        """
        address, wrapped = self.serve(capture=Capture.FIRST_MESSAGE, maxUnidentified=3)
        kept = [self.connect(address) for _ in range(3)]
        await self.until(lambda: len(self.factory._waiting) == 3)
        for _ in range(5):
            self.assertEqual(await self.closed(self.connect(address)), b"")
        self.assertEqual({each.rule for each in self.refusals()}, {"maxUnidentified"})
        for peer in kept:
            peer.send(b"hello")
        await self.made(wrapped, 3)
        self.assertEqual(len(self.factory._waiting), 0)

    async def test_maxUnidentifiedOfManyUsers(self) -> None:
        """
        A user who has no silent connection gets a place all the same: it is
        the eldest of the user who has most of them that goes.
        """
        uids = [1000, 1000, 1000, 1001]
        kernel = FailingKernel("", OSError())
        kernel.connectionCredentials = lambda sock: replace(
            thisKernel().connectionCredentials(sock), uid=uids.pop(0)
        )
        address, wrapped = self.serve(
            capture=Capture.FIRST_MESSAGE, maxUnidentified=3, kernel=kernel
        )
        first = self.connect(address)
        others = [self.connect(address) for _ in range(3)]
        self.assertEqual(await self.closed(first), b"")
        (refusal,) = self.refusals()
        self.assertEqual(
            (refusal.rule, refusal.credentials.uid), ("maxUnidentified", 1000)
        )
        for peer in others:
            peer.send(b"hello")
        await self.made(wrapped, 3)
        self.assertEqual(len(self.factory._waiting), 0)

    async def test_event(self) -> None:
        """
        A refusal is one event with named fields; the peer's name for itself
        is shown as C{repr} (THREATS A4).
        """
        address, _ = self.serve(capture=Capture.FIRST_MESSAGE, syncWord=SYNC)
        name = "\0;uid=0;\n\x1b[31m" + str(os.getpid())
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.bind(name)
        peer.connect(address)
        peer.send(b"wrong")
        await self.closed(peer)
        (event,) = [each for each in self.events if each.get("what") == "refused"]
        self.assertEqual(
            {
                name: event[name]
                for name in ("uid", "gid", "pid", "rule", "reason", "log_level")
            },
            {
                "uid": os.geteuid(),
                "gid": os.getegid(),
                "pid": os.getpid(),
                "rule": "syncWord",
                "reason": "sync-word",
                "log_level": LogLevel.warn,
            },
        )
        self.assertEqual(event["address"].name, name.encode())
        self.assertNotIn("\n", formatEvent(event))
        self.assertNotIn("\x1b", formatEvent(event))
