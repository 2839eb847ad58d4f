"""
Tests for L{twisted_peercred.testing}.
"""

import os
import socket
from dataclasses import replace

from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IPushProducer, IUNIXTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    CredentialedUNIXClientFactory,
    CredentialedUNIXServerFactory,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    IPeerCredentials,
    PeerChanged,
    PeerCredentials,
    PeerRefused,
    Policy,
)
from twisted_peercred.datagrams import listenCredentialedUNIXDatagram
from twisted_peercred.kernels import Kernel
from twisted_peercred.testing import CredentialedStringTransport, FakeKernel

from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    openDescriptors,
)

ALICE = PeerCredentials(uid=4001, gid=41, groups=(41, 42), pid=7)
EVE = PeerCredentials(uid=4002, gid=41, groups=(41,), securityLabel=b"eve")


class Who(Resource):
    """
    Says who asks.
    """

    isLeaf = True

    def render_GET(self, request):
        return b"uid %d" % IPeerCredentials(request).uid


class TransportTests(SynchronousTestCase):
    """
    Tests for L{CredentialedStringTransport}.
    """

    def test_interfaces(self) -> None:
        """
        It is a Unix transport, with Unix addresses where no others are given.
        """
        transport = CredentialedStringTransport(ALICE)
        verifyObject(IUNIXTransport, transport)
        verifyObject(IPushProducer, transport)
        self.assertIsInstance(transport.getPeer(), UNIXAddress)
        here, there = UNIXAddress("/here"), UNIXAddress("/there")
        transport = CredentialedStringTransport(
            ALICE, hostAddress=here, peerAddress=there
        )
        self.assertEqual((transport.getHost(), transport.getPeer()), (here, there))

    def test_adapted(self) -> None:
        """
        The peer is found from wherever it is in a program.
        """
        transport = CredentialedStringTransport(ALICE)
        self.assertIs(IPeerCredentials(transport), ALICE)
        self.assertIs(transport.connectionCredentials, ALICE)
        protocol = Protocol()
        protocol.makeConnection(transport)
        self.assertIs(IPeerCredentials(protocol), ALICE)
        inner = Protocol()
        layer = ProtocolWrapper(WrappingFactory(Factory()), inner)
        layer.makeConnection(transport)
        self.assertIs(IPeerCredentials(inner.transport), ALICE)
        site = Site(Who(), timeout=None).buildProtocol(None)
        site.makeConnection(transport)
        site.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(transport.value().rpartition(b"\r\n")[2], b"uid 4001")

    def test_twoIdentities(self) -> None:
        """
        Who connected may be another than who writes.
        """
        transport = CredentialedStringTransport(EVE, connectionCredentials=ALICE)
        self.assertIs(IPeerCredentials(transport), EVE)
        self.assertIs(transport.connectionCredentials, ALICE)

    def test_unknown(self) -> None:
        """
        A peer that is not known is what it is in a program that runs.
        """
        transport = CredentialedStringTransport(None)
        self.assertRaises(CredentialsUnavailable, IPeerCredentials, transport)

    def test_descriptors(self) -> None:
        """
        Descriptors that were sent are remembered, bytes as in Twisted.
        """
        transport = CredentialedStringTransport(ALICE)
        transport.sendFileDescriptor(5)
        transport.write(b"x")
        self.assertEqual((transport.descriptors, transport.value()), ([5], b"x"))


class KernelTests(LiveTestCase):
    """
    Tests for L{FakeKernel}, on real sockets.
    """

    def test_protocol(self) -> None:
        """
        It has every method that is called of a kernel.
        """
        kernel = FakeKernel(ALICE)
        for name in vars(Kernel):
            if not name.startswith("_"):
                self.assertTrue(callable(getattr(kernel, name)), name)
        self.assertEqual(list(kernel.probes()), [])
        self.assertEqual(kernel.credentialsToSend(), [])

    async def test_everyCapture(self) -> None:
        """
        A peer is who the test says, in every capture, and a policy decides
        about it.
        """
        for capture in Capture:
            kernel = FakeKernel(ALICE)
            address, wrapped = self.serve(
                capture=capture, policy=Policy.fromString("gid/42"), kernel=kernel
            )
            peer = self.connect(address)
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.peer, replace(ALICE, capture=capture))
            self.assertEqual(protocol.transport.connectionCredentials, ALICE)
            kernel.peer = EVE
            again = self.connect(address)
            self.assertEqual(await self.closed(again), b"")
            self.assertIsInstance(self.refusals()[-1], PeerRefused)
            self.assertEqual(self.refusals()[-1].credentials, EVE)

    async def test_error(self) -> None:
        """
        An error in place of an identity is a refusal.
        """
        problem = CredentialsUnavailable("told so")
        for kernel, capture in (
            (FakeKernel(problem), Capture.CONNECT),
            (FakeKernel(ALICE, writer=problem), Capture.FIRST_MESSAGE),
        ):
            address, wrapped = self.serve(capture=capture, kernel=kernel)
            peer = self.connect(address)
            if capture is Capture.FIRST_MESSAGE:
                peer.send(b"hello")
            await self.closed(peer)
            self.assertEqual(self.refusals()[-1:], [problem])
            self.assertEqual(wrapped.made, [])

    async def test_anotherWriter(self) -> None:
        """
        A writer may be another than who connects, and change.
        """
        kernel = FakeKernel(ALICE, writer=ALICE)
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE, kernel=kernel)
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await self.made(wrapped)
        await self.until(lambda: protocol.received)
        kernel.writer = EVE
        peer.send(b"more")
        await protocol.ended
        (changed,) = self.refusals()
        self.assertIsInstance(changed, PeerChanged)
        self.assertEqual((changed.old.uid, changed.new.uid), (4001, 4002))

    async def test_descriptors(self) -> None:
        """
        Descriptors come where they are wanted, and are closed where not.
        """
        for protocolClass, count in ((Receiving, 2), (Remembering, 0)):
            address, wrapped = self.serve(
                protocolClass,
                capture=Capture.EVERY_MESSAGE,
                kernel=FakeKernel(ALICE),
            )
            before = openDescriptors()
            peer = self.connect(address)
            self.sendDescriptor(peer, b"x", 2)
            protocol = await self.made(wrapped)
            await self.until(lambda: b"x" in protocol.received)
            self.assertEqual(len(wrapped.descriptors), count)
            for each in wrapped.descriptors:
                os.close(each)
            peer.close()
            await protocol.ended
            await self.until(lambda: openDescriptors() == before)

    def test_closedOnError(self) -> None:
        """
        A message without a writer, or with too many descriptors for this
        process, leaves none open.
        """
        kernel = FakeKernel(CredentialsUnavailable("told so"))
        ours, theirs = socket.socketpair()
        with ours, theirs:
            before = openDescriptors()
            self.sendDescriptor(theirs, b"x", 2)
            self.assertRaises(
                CredentialsUnavailable,
                kernel.receiveMessage,
                *(ours, 1, True, Capture.EVERY_MESSAGE),
            )
            self.sendDescriptor(theirs, b"x", 5)
            self.exhaust(free=1)
            self.assertRaises(
                CredentialsTruncated, kernel.receiveMessage, ours, 1, True, None
            )
            self.restore()
            self.assertEqual(openDescriptors(), before)

    def test_captures(self) -> None:
        """
        What it cannot do is an error when a port starts.
        """
        kernel = FakeKernel(ALICE, captures=[Capture.CONNECT])
        for capture in Capture:
            factory = CredentialedUNIXServerFactory(
                RememberingFactory(), capture=capture, kernel=kernel
            )
            if capture is Capture.CONNECT:
                factory.doStart()
            else:
                self.assertRaises(CredentialsUnsupported, factory.doStart)

    async def test_client(self) -> None:
        """
        To a client it is the server that is who the test says.
        """
        address, _ = self.serve()
        kernel = FakeKernel(ALICE)
        endpoint = UNIXClientEndpoint(reactor, address)

        def connect():
            wrapped = RememberingFactory()
            return endpoint.connect(
                CredentialedUNIXClientFactory(
                    wrapped,
                    policy=Policy.fromString("uid/4001"),
                    sendCredentials=True,
                    kernel=kernel,
                )
            )

        protocol = await connect()
        self.assertEqual(protocol.peer, ALICE)
        protocol.transport.loseConnection()
        await protocol.ended
        kernel.peer = EVE
        await self.assertFailure(connect(), PeerRefused)

    async def test_datagrams(self) -> None:
        """
        Datagrams have a sender too.
        """
        came = []

        class Taking:
            def makeConnection(self, transport):
                pass

            def doStop(self):
                pass

            def datagramReceivedFrom(self, data, address, credentials):
                came.append((data, credentials))

        address = os.path.join(self.directory, "datagrams")
        kernel = FakeKernel(ALICE)
        self.adoptPort(
            listenCredentialedUNIXDatagram(reactor, address, Taking(), kernel=kernel)
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.connect(address)
            peer.send(b"one")
            await self.until(lambda: came)
            kernel.peer = CredentialsUnavailable("told so")
            peer.send(b"two")
            await self.until(self.refusals)
        expected = replace(ALICE, capture=Capture.EVERY_MESSAGE)
        self.assertEqual(came, [(b"one", expected)])
