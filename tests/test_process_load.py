"""
Many processes, and many messages of two (long: set C{PEERCRED_LONG_TESTS=1}).
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from zope.interface import implementer

from twisted_peercred import Capture, IPeerCredentialsReceiver
from twisted_peercred.exits import ExitReader
from twisted_peercred.kernels import pidfd
from twisted_peercred.process import IPeerProcess

from .support import (
    PRELUDE,
    LiveTestCase,
    Remembering,
    needsLongRun,
    needsProcessHandles,
    needsRoot,
    openDescriptors,
    runClient,
)
from .test_reuse import inNamespace

PROCESSES = 5_000
CLIENTS = 10_000
MESSAGES = 100_000

#: Starts many processes that connect and wait; reaps none.
MANY = """
import gc, signal
gc.freeze()
# Whoever has started the tests may have had it ignored, as nohup(1) does.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
for _ in range(int(sys.argv[2])):
    if not os.fork():
        peer = connect()
        peer.recv(1)
        os._exit(0)
print("started", flush=True)
sys.stdin.read()
"""

#: Two users write on one connection in turn, each its own letter.
TWO_USERS = """
import random
count, limit = int(sys.argv[2]), 16
peer = connect()
# The one who is told may write.
turns = [os.pipe(), os.pipe()]
child = not os.fork()
mine = int(child)
become(1000 + mine, 1000 + mine)
generator = random.Random(0)
total = 0
letter = b"AB"[mine:mine + 1]
if not child:
    os.write(turns[0][1], b".")
for number in range(count):
    size = min(65536, int(2 ** generator.uniform(0, 16.1)))
    if number % 2 == mine:
        os.read(turns[mine][0], 1)
        peer.sendall(letter * size)
        total += size
        os.write(turns[1 - mine][1], b".")
if not child:
    os.wait()
    print(json.dumps(total))
else:
    peer.shutdown(socket.SHUT_WR)
"""


@implementer(IPeerCredentialsReceiver)
class Attributing(Remembering):
    """
    Counts whose bytes come under whose name.
    """

    def connectionMade(self):
        super().connectionMade()
        self.bytes = {1000: 0, 1001: 0}
        self.wrong = 0
        self.changes = 0

    def peerCredentialsChanged(self, old, new):
        self.changes += 1
        if {old.uid, new.uid} != {1000, 1001}:
            self.wrong += 1

    def dataReceived(self, data):
        uid = self.transport.peerCredentials.uid
        self.bytes[uid] += len(data)
        if data.count(b"AB"[uid - 1000 : uid - 999]) != len(data):
            self.wrong += 1


@skipIf(needsLongRun, needsLongRun)
@skipIf(needsRoot, needsRoot)
class LoadTests(LiveTestCase):
    """
    Tests under load.
    """

    timeout = 300

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_manyExits(self) -> None:
        """
        5,000 connections wait for the ends of as many processes, which are
        killed in random order, by this signal or that: each is told of once,
        with its own signal, and no descriptor is left.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        count = min(PROCESSES, (hard - 500) // 2)
        pidfd.anonymousDevice()
        address, wrapped = self.serve()
        before = openDescriptors()
        spawner = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PRELUDE + MANY, address, str(count)],
            stdin=subprocess.PIPE,
        )
        self.addCleanup(spawner.communicate)
        await self.until(lambda: len(wrapped.made) == count)
        told = []

        def tell(exit, pid):
            told.append(pid)
            return pid, exit.signal, exit.source

        waits = [
            IPeerProcess(each).whenExited().addCallback(tell, each.peer.pid)
            for each in wrapped.made
        ]
        self.assertEqual(openDescriptors(), before + 1 + 2 * count)
        order = [each.peer.pid for each in wrapped.made]
        random.shuffle(order)
        sent = {}
        for pid in order:
            sent[pid] = random.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGHUP))
            os.kill(pid, sent[pid])
        ends = await gatherResults(waits)
        self.assertEqual({pid: number for pid, number, _ in ends}, sent)
        self.assertEqual(sorted(told), sorted(order))
        await self.until(lambda: openDescriptors() == before + 1)
        self.assertEqual(
            [each for each in reactor.getReaders() if isinstance(each, ExitReader)], []
        )
        print(f"{count} exits told of, each once")

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_shortLivedClients(self) -> None:
        """
        10,000 short-lived clients of 10,000 users, which share a hundred
        numbers, while /proc is read about each of them: no answer is about
        another process.
        """
        address = os.path.join(self.directory, "s")
        os.chmod(self.directory, 0o777)
        report = await inNamespace("-m", "tests.flood", address, str(CLIENTS))
        print("of", CLIENTS, "clients:", json.dumps(report))
        self.assertEqual(report.get("wrong", 0), 0)
        self.assertEqual(report.get("failed", 0), 0)
        self.assertEqual(report["leaked"], 0)
        self.assertTrue(report["right"] > CLIENTS / 10, report)
        self.assertTrue(report["numbers"] <= 200, report)

    async def test_twoWriters(self) -> None:
        """
        100,000 messages of 1 byte to 64 KiB, of two users in turn on one
        connection: every byte is given under the name of who wrote it, and
        each change is told of.
        """
        address, wrapped = self.serve(Attributing, capture=Capture.EVERY_MESSAGE)
        answer = await runClient(address, TWO_USERS, str(MESSAGES), timeout=280)
        protocol = await (await self.made(wrapped)).ended
        self.assertEqual(protocol.wrong, 0)
        self.assertEqual(protocol.changes, MESSAGES - 1)
        self.assertEqual(protocol.bytes[1000], json.loads(answer))
        print(f"{MESSAGES} messages, {sum(protocol.bytes.values())} bytes attributed")

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_twoWritersWithHandles(self) -> None:
        """
        The same, of some, with a handle on the process beside each message.
        """
        address, wrapped = self.serve(
            Attributing, capture=Capture.EVERY_MESSAGE, processHandles=True
        )
        before = openDescriptors()
        count = MESSAGES // 10
        answer = await runClient(address, TWO_USERS, str(count))
        protocol = await (await self.made(wrapped)).ended
        self.assertEqual((protocol.wrong, protocol.changes), (0, count - 1))
        self.assertEqual(protocol.bytes[1000], json.loads(answer))
        await self.until(lambda: openDescriptors() == before)
