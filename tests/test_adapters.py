"""
Tests for L{twisted_peercred.adapters}.
"""

import os

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXClientEndpoint
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.protocols import amp
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.spread import pb
from twisted.web.client import Agent, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsUnavailable,
    IPeerCredentials,
)
from twisted_peercred.adapters import ofTransport

from .support import LiveTestCase, Remembering, RememberingFactory


class Keeping(Factory):
    """
    Keeps what it makes.
    """

    noisy = False

    def __init__(self, make) -> None:
        self.make = make
        self.kept = []

    def buildProtocol(self, addr):
        self.kept.append(self.make())
        self.kept[-1].factory = self
        return self.kept[-1]


class AdapterTests(LiveTestCase):
    """
    Tests for C{IPeerCredentials(x)}.
    """

    async def test_credentialed(self) -> None:
        """
        A transport of ours, and the protocol on it, give what was captured.
        """
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE)
        self.connect(address).send(b"x")
        protocol = await self.made(wrapped)
        self.assertIs(IPeerCredentials(protocol.transport), protocol.peer)
        self.assertIs(IPeerCredentials(protocol), protocol.peer)

    async def test_unidentified(self) -> None:
        """
        A peer that is not known yet is not to be had by other ways.
        """
        address, _ = self.serve(capture=Capture.FIRST_MESSAGE)
        self.connect(address)
        await self.until(lambda: len(self.factory._waiting))
        (uid,) = self.factory._waiting._guests
        (arrival,) = self.factory._waiting._guests[uid]
        self.assertRaises(CredentialsUnavailable, IPeerCredentials, arrival._transport)

    async def test_stock(self) -> None:
        """
        A transport that no factory of ours made is asked on demand, once: the
        answer is kept after the connection is lost.
        """
        wrapped = RememberingFactory()
        peer = self.connect(self.listen(wrapped))
        protocol = await self.made(wrapped)
        self.assertEqual(protocol.peer.uid, os.geteuid())
        self.assertIs(IPeerCredentials(protocol.transport), protocol.peer)
        self.assertIs(protocol.transport.peerCredentials, protocol.peer)
        self.assertIs(protocol.transport.connectionCredentials, protocol.peer)
        peer.close()
        await protocol.ended
        self.assertIs(IPeerCredentials(protocol), protocol.peer)

    async def test_gone(self) -> None:
        """
        A connection that is gone, and of which nobody asked, has nobody.
        """
        factory = Keeping(Protocol)
        peer = self.connect(self.listen(factory))
        await self.until(lambda: factory.kept)
        transport = factory.kept[0].transport
        peer.close()
        await self.until(lambda: not transport.connected)
        self.assertRaises(CredentialsUnavailable, IPeerCredentials, transport)

    async def test_client(self) -> None:
        """
        A client's transport gives the server's credentials.
        """
        address, _ = self.serve()
        endpoint = UNIXClientEndpoint(reactor, address)
        client = await endpoint.connect(Factory.forProtocol(Protocol))
        self.assertEqual(IPeerCredentials(client).pid, os.getpid())
        client.transport.loseConnection()

    async def test_tcp(self) -> None:
        """
        A TCP transport cannot be adapted, nor a protocol on it, nor one on
        none.
        """
        factory = Keeping(Protocol)
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            factory
        )
        self.adoptPort(port)
        connector = reactor.connectTCP(
            "127.0.0.1", port.getHost().port, ClientFactory.forProtocol(Protocol)
        )
        await self.until(lambda: factory.kept and factory.kept[0].transport)
        for each in (factory.kept[0].transport, factory.kept[0], Protocol()):
            self.assertRaises(TypeError, IPeerCredentials, each)
            self.assertIsNone(IPeerCredentials(each, None))
        connector.disconnect()
        await self.until(lambda: not factory.kept[0].transport.connected)

    async def test_wrapper(self) -> None:
        """
        A L{ProtocolWrapper} passes the question on, from both of its sides.
        """
        inner = Keeping(Remembering)
        inner.made = []
        factory = WrappingFactory(inner)
        factory.noisy = False
        self.connect(self.listen(CredentialedUNIXServerFactory(factory)))
        await self.until(lambda: inner.made)
        wrapper = inner.kept[0].transport
        self.assertIsInstance(wrapper, ProtocolWrapper)
        self.assertIs(IPeerCredentials(wrapper), wrapper.transport.peerCredentials)
        self.assertIs(inner.kept[0].peer, wrapper.transport.peerCredentials)
        self.assertIs(ofTransport(wrapper), wrapper.transport.peerCredentials)

    async def test_ampAndPB(self) -> None:
        """
        An AMP protocol and a PB broker give the peer of their transport.
        """
        broker = pb.PBServerFactory(pb.Root()).buildProtocol(None)
        for protocol in (amp.AMP(), broker):
            factory = Keeping(lambda protocol=protocol: protocol)
            peer = self.connect(self.listen(CredentialedUNIXServerFactory(factory)))
            await self.until(lambda: factory.kept)
            self.assertEqual(IPeerCredentials(protocol).pid, os.getpid())
            transport = protocol.transport
            peer.close()
            await self.until(lambda: not transport.connected)

    async def test_request(self) -> None:
        """
        A web request gives the peer that sent it.
        """

        class Who(Resource):
            isLeaf = True

            def render_GET(self, request):
                return str(IPeerCredentials(request)).encode()

        site = Site(Who())
        site.noisy = False
        address = self.listen(CredentialedUNIXServerFactory(site))

        class Endpoints:
            def endpointForURI(self, uri):
                return UNIXClientEndpoint(reactor, address)

        agent = Agent.usingEndpointFactory(reactor, Endpoints())
        response = await agent.request(b"GET", b"http://socket/")
        self.assertIn(f"pid={os.getpid()}".encode(), await readBody(response))
