"""
One user floods, or an administrator reloads again and again, while others are
to be served.
"""

import json
import os
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher, textFileLogObserver
from zope.interface import implementer

from twisted_peercred import Capture, IPeerPolicy, Policy
from twisted_peercred.policyfile import PolicyFile

from .support import (
    LiveTestCase,
    Remembering,
    needsRoot,
    openDescriptors,
    runClient,
)

CONNECTIONS = 10_000

#: How long each of a hundred connections took.
GUEST = """
become(1001, 1001)
times = []
for _ in range(100):
    start = time.perf_counter()
    peer = connect()
    peer.send(b"hello")
    assert readAll(peer) == b"welcome"
    times.append(time.perf_counter() - start)
    peer.close()
print(json.dumps(times))
"""

#: Opens as many as it can hold, and begins anew; says how many were let in.
FLOOD = """
become(1000, 1000)
served = 0
for _ in range(int(sys.argv[2]) // 20):
    peers = []
    for _ in range(20):
        peers.append(connect())
    for peer in peers:
        try:
            served += peer.recv(7) == b"welcome"
        except ConnectionResetError:
            pass
        peer.close()
print(served)
"""


class Welcoming(Remembering):
    """
    Welcomes at once, and closes at the first word; remembers nothing.
    """

    def connectionMade(self) -> None:
        self.transport.write(b"welcome")

    def dataReceived(self, data: bytes) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason) -> None:
        pass


@skipIf(needsRoot, needsRoot)
class FloodTests(LiveTestCase):
    """
    Tests for a flood of one user (THREATS A6, A7).
    """

    def logTo(self, path: str) -> None:
        """
        Have Twisted's log in a file.
        """
        file = open(path, "w")  # noqa: SIM115 (until the test ends)
        self.addCleanup(file.close)
        observer = textFileLogObserver(file)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    async def test_flood(self) -> None:
        """
        While one user opens ten thousand connections, of which some are
        admitted and most refused, all hundred of another are served, the
        slowest within ten times the idle time; the log stays small; nothing is
        left open.
        """
        path = os.path.join(self.directory, "log")
        self.logTo(path)
        address, _ = self.serve(
            Welcoming, maxPerUID=10, policy=Policy.fromString("!uid/7,any")
        )
        before = openDescriptors()
        # Others may be at work on this machine, too.
        for _ in range(5):
            idle = max(json.loads(await runClient(address, GUEST)))
            flood = runClient(address, FLOOD, str(CONNECTIONS))
            await self.until(lambda: len(self.factory._slots))
            busy = max(json.loads(await runClient(address, GUEST)))
            during = not flood.called
            served = int(await flood)
            self.assertTrue(0 < served < CONNECTIONS, served)
            if during and busy < 10 * idle:
                break
        self.assertTrue(during, "the flood was over before")
        self.assertTrue(busy < 10 * idle, f"{busy} s, idle {idle} s")
        await self.until(lambda: openDescriptors() == before)
        self.assertEqual(len(self.factory._slots), 0)
        self.assertEqual(len(self.factory._waiting), 0)
        self.factory._refusals.tell()
        left = self.events[-1]
        self.assertEqual((left["what"], left["uid"]), ("left-out", 1000))
        self.assertEqual({each.credentials.uid for each in self.refusals()}, {1000})
        size = os.path.getsize(path)
        self.assertTrue(size < 100 * 1024, f"{size} bytes of log")
        print(
            f"{CONNECTIONS} connections of one user, {served} admitted: the slowest"
            f" of another's took {busy * 1000:.1f} ms, {idle * 1000:.1f} ms when"
            f" idle; {size} bytes of log"
        )


@skipIf(needsRoot, needsRoot)
class ReloadTests(LiveTestCase):
    """
    Tests for reloads under load.
    """

    # Each refuses a process that connects as 1001 and writes as 1000; the
    # first half of one with the second half of the other would admit it.
    policies = ("uid/1001\n!uid/1000\n", "!uid/1001\nuid/1000\n")

    setuid = """
become(1000, 1000, euid=1001)
served = 0
for _ in range(int(sys.argv[2])):
    peer = connect()
    time.sleep(0.001)
    try:
        peer.send(b"hello")
        served += readAll(peer) == b"welcome"
    except BrokenPipeError:
        pass
    peer.close()
print(served)
"""

    async def halfAndHalf(self, source, connections: int) -> int:
        """
        Connect again and again while the policy changes again and again.

        @param source: from a L{PolicyFile} to the policy of the factory.
        @return: how many were admitted.
        """
        path = os.path.join(self.directory, "rules")

        def write(text: str) -> None:
            with open(path + ".new", "w") as new:
                new.write(text)
            os.chmod(path + ".new", 0o644)
            os.rename(path + ".new", path)

        write(self.policies[0])
        file = PolicyFile(path)
        address, _ = self.serve(
            Welcoming, capture=Capture.FIRST_MESSAGE, policy=source(file)
        )
        clients = DeferredList(
            [runClient(address, self.setuid, str(connections // 4)) for _ in range(4)],
            fireOnOneErrback=True,
        )
        seen = []
        while not clients.called:
            write(self.policies[len(seen) % 2])
            self.assertIsNone(await file.reload())
            seen.append(file.policy)
            await deferLater(reactor, 0.0005)
        self.assertTrue(len(seen) > 20, len(seen))
        return sum(int(served) for _, served in await clients)

    async def test_reload(self) -> None:
        """
        No connection is decided by half of one policy and half of another.
        """
        self.assertEqual(await self.halfAndHalf(lambda file: file, 2_000), 0)
        rules = {each.rule for each in self.refusals()}
        self.assertEqual(rules - {"!uid/1000", "!uid/1001"}, set())

    async def test_control(self) -> None:
        """
        The test above would see it: where the policy of the moment is asked
        each time, there are such connections.
        """

        def changing(file):
            @implementer(IPeerPolicy)
            class Changing:
                def decide(self, identity):
                    return file.decide(identity)

            return Changing()

        self.assertTrue(await self.halfAndHalf(changing, 2_000) > 0)
