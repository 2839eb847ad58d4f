"""
The tests of a program that uses this package: peers of any user, without root.

    trial doorman.py
"""

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.trial.unittest import TestCase

from twisted_peercred import (
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerCredentials,
    Policy,
)
from twisted_peercred.testing import CredentialedStringTransport, FakeKernel

ALICE = PeerCredentials(uid=1000, gid=100, groups=(27, 100))
EVE = PeerCredentials(uid=1001, gid=100, groups=(100,))


class Doorman(Protocol):
    """
    What is to be tested.
    """

    def connectionMade(self):
        peer = IPeerCredentials(self.transport)
        self.transport.write(b"good day, %d" % peer.uid)
        self.transport.loseConnection()


class Visitor(Protocol):
    def __init__(self):
        self.heard = b""
        self.done = Deferred()

    def dataReceived(self, data):
        self.heard += data

    def connectionLost(self, reason=connectionDone):
        self.done.callback(self.heard)


class DoormanTests(TestCase):
    def test_greeting(self):
        """
        A protocol alone, and a transport whose peer is Alice.
        """
        transport = CredentialedStringTransport(ALICE)
        Doorman().makeConnection(transport)
        self.assertEqual(transport.value(), b"good day, 1000")

    async def test_policy(self):
        """
        The whole server, on a socket of its own, and a kernel that calls whoever
        connects Alice first and Eve then.
        """
        kernel = FakeKernel(ALICE)
        factory = CredentialedUNIXServerFactory(
            Factory.forProtocol(Doorman),
            policy=Policy.fromString("gid/27"),
            kernel=kernel,
        )
        port = await UNIXServerEndpoint(reactor, "doorman.sock").listen(factory)
        self.addCleanup(port.stopListening)
        self.assertEqual(await self.visit(), b"good day, 1000")
        kernel.peer = EVE
        self.assertEqual(await self.visit(), b"")

    async def visit(self):
        endpoint = UNIXClientEndpoint(reactor, "doorman.sock")
        visitor = await endpoint.connect(Factory.forProtocol(Visitor))
        return await visitor.done
