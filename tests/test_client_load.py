"""
Many clients, and a server that is restarted under them as somebody else (long:
set C{PEERCRED_LONG_TESTS=1}).
"""

import json
import os
import random
import resource
import signal
import time
from collections import namedtuple
from unittest import skipIf

from twisted.application.internet import ClientService
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_peercred import IPeerCredentials, IPeerPolicy
from twisted_peercred.endpoints import PeerCredentialsClientEndpoint

from .listeners import Listener
from .support import LiveTestCase, needsLongRun, needsRoot, openDescriptors

CLIENTS = 2000
#: Who the server is, in turn.
USERS = [(5001, 5001), (5002, 5002)]
RESTARTS = 3

#: Answers each client that says its uid with the same, and counts: each should
#: say who they take it for.
SERVE = """
server.listen(4096)
server.setblocking(False)
me = b"for %d\\n" % os.getuid()
selector = selectors.DefaultSelector()
selector.register(server, selectors.EVENT_READ)
accepted, good, wrong = 0, 0, []

def report(*_):
    print(json.dumps([accepted, good, wrong]), flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, report)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj is server:
            try:
                peer, _ = server.accept()
            except BlockingIOError:
                continue
            accepted += 1
            selector.register(peer, selectors.EVENT_READ)
        else:
            try:
                said = key.fileobj.recv(100)
            except ConnectionResetError:
                said = b""
            if said == me:
                good += 1
                key.fileobj.send(me)
            elif said:
                wrong.append(said.decode())
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
"""

Answer = namedtuple("Answer", "admitted rule")


class Trusting(Protocol):
    """
    Tells the server who it takes it for, and remembers what it answers.
    """

    def connectionMade(self) -> None:
        client = self.factory.client
        self.server = IPeerCredentials(self.transport).uid
        client.connected = self
        client.heard = b""
        self.transport.write(b"for %d\n" % client.trusted[0])

    def dataReceived(self, data: bytes) -> None:
        self.factory.client.heard += data

    def connectionLost(self, reason) -> None:
        self.factory.client.connected = None


@implementer(IPeerPolicy)
class Client:
    """
    One that wants to be connected, and whom it trusts.

    @param trusted: the one user that all trust, in a list.
    """

    connected = None
    heard = b""

    def __init__(self, address: str, trusted: list[int]) -> None:
        self.trusted = trusted
        self.refused = 0
        factory = Factory.forProtocol(Trusting)
        factory.noisy = False
        factory.client = self
        self.service = ClientService(
            PeerCredentialsClientEndpoint(
                UNIXClientEndpoint(reactor, address), policy=self
            ),
            factory,
            retryPolicy=lambda attempts: random.uniform(0.1, 1),
        )

    def decide(self, identity) -> Answer:
        """
        Admit whom all trust now.
        """
        admitted = identity.uid == self.trusted[0]
        self.refused += not admitted
        return Answer(admitted, f"uid/{self.trusted[0]}")


@skipIf(needsLongRun, needsLongRun)
@skipIf(needsRoot, needsRoot)
class ClientLoadTests(LiveTestCase):
    """
    Tests under load.
    """

    timeout = 300

    async def startServer(self, address: str, user: tuple[int, int]) -> Listener:
        """
        Start the server as a user.
        """
        server = Listener(self, address, user, code=SERVE)
        self.assertEqual(await server.line(), "ready\n")
        return server

    async def stopServer(self, address: str, server: Listener) -> list:
        """
        Stop it.

        @return: how many it accepted, how many said the right thing, and what
            others said.
        """
        server.process.send_signal(signal.SIGTERM)
        report = json.loads(await server.line())
        os.unlink(address)
        return report

    async def test_restarted(self) -> None:
        """
        2,000 clients at once, and three restarts of their server under
        another uid each time, of whom they are to think as an impostor at
        first and as their server later: none ever says a word to the wrong
        one, all end up connected, and nothing is left over.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        os.chmod(self.directory, 0o1777)
        address = os.path.join(self.directory, "app.sock")
        began = time.monotonic()
        before = openDescriptors()

        trusted = [USERS[0][0]]
        clients = [Client(address, trusted) for _ in range(CLIENTS)]
        server = await self.startServer(address, USERS[0])
        for each in clients:
            each.service.startService()
            self.addCleanup(each.service.stopService)
        await self.allConnected(clients, trusted[0])

        refusals = 0
        for restart in range(1, RESTARTS + 1):
            _, good, wrong = await self.stopServer(address, server)
            self.assertEqual((good, wrong), (CLIENTS, []))
            await self.until(lambda: not any(each.connected for each in clients))
            for each in clients:
                each.refused = 0
            user = USERS[restart % len(USERS)]
            server = await self.startServer(address, user)
            # All come by, and take it for an impostor.
            await self.until(lambda: all(each.refused for each in clients))
            self.assertEqual([each for each in clients if each.connected], [])
            trusted[0] = user[0]
            await self.allConnected(clients, trusted[0])
            refusals += sum(each.refused for each in clients)

        await gatherResults(each.service.stopService() for each in clients)
        accepted, good, wrong = await self.stopServer(address, server)
        self.assertEqual((good, wrong), (CLIENTS, []))
        self.assertGreaterEqual(accepted, 2 * CLIENTS)
        # The last server's pipes, which the test closes later.
        self.assertLessEqual(openDescriptors(), before + 2 * (RESTARTS + 1))
        print(
            f"{CLIENTS} clients, {RESTARTS} restarts, {refusals} servers refused,"
            f" none wrong: {time.monotonic() - began:.1f} s"
        )

    async def allConnected(self, clients: list[Client], uid: int) -> None:
        """
        Wait for all to be connected to the server of a user.
        """
        greeting = b"for %d\n" % uid
        await self.until(lambda: all(each.heard == greeting for each in clients))
        for each in clients:
            self.assertEqual(each.connected.server, uid)
