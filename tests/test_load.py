"""
Many connections of many users at once (long: set C{PEERCRED_LONG_TESTS=1}).
"""

import gc
import json
import os
import sys
from unittest import skipIf

from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Protocol

from twisted_peercred import Capture, IPeerCredentials
from twisted_peercred.arrival import Arrival
from twisted_peercred.transport import CredentialedServer

from .support import (
    LiveTestCase,
    Remembering,
    isRoot,
    needsLongRun,
    openDescriptors,
    runClient,
)

PROCESSES = 8
CONNECTIONS = 10_000

#: Connects again and again, five at a time; says how often all was as it
#: should be.
CLIENT = """
import random
uid, gid, rounds = map(int, sys.argv[2:5])
if os.getuid() == 0:
    become(uid, gid, [gid + 1])
else:
    uid, gid = os.getuid(), os.getgid()
expected = f"{uid} {gid} {os.getpid()}\\n".encode()
generator = random.Random(uid)
good = 0
for _ in range(rounds // 5):
    bodies = [generator.randbytes(generator.randint(1, 65536)) for _ in range(5)]
    peers = [connect() for _ in bodies]
    for peer, body in zip(peers, bodies):
        peer.sendall(body)
        peer.shutdown(socket.SHUT_WR)
    for peer, body in zip(peers, bodies):
        good += readAll(peer) == expected + body
        peer.close()
print(json.dumps(good))
"""


class Echo(Remembering):
    """
    Greets with uid, gid and pid, then echoes; remembers nothing.
    """

    def connectionMade(self) -> None:
        peer = IPeerCredentials(self.transport)
        self.transport.write(f"{peer.uid} {peer.gid} {peer.pid}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def connectionLost(self, reason) -> None:
        Protocol.connectionLost(self, reason)


def residentKiB() -> int:
    """
    Memory of this process.
    """
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def ofConnections() -> int:
    """
    How many objects there are of those that belong to a connection.
    """
    gc.collect()
    kinds = (Arrival, CredentialedServer, Echo)
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@skipIf(needsLongRun, needsLongRun)
class LoadTests(LiveTestCase):
    """
    Tests under load.
    """

    timeout = 600

    async def clients(self, address: str, connections: int) -> int:
        """
        @return: how many connections were as they should be.
        """
        answers = await gatherResults(
            runClient(
                address,
                CLIENT,
                *map(str, (2000 + each, 3000 + each, connections // PROCESSES)),
                timeout=500,
            )
            for each in range(PROCESSES)
        )
        return sum(map(json.loads, answers))

    async def test_manyUsers(self) -> None:
        """
        10,000 connections in each capture, from 8 processes of 8 users at
        once: each is greeted as who it is, no byte is lost, and neither a
        descriptor nor memory is left over.
        """
        for capture in Capture:
            address, _ = self.serve(Echo, capture=capture, maxUnidentified=1000)
            objects = ofConnections()
            # What a first run allocates for good is not counted.
            await self.clients(address, 800)
            before, memory = openDescriptors(), residentKiB()
            blocks = sys.getallocatedblocks()
            self.assertEqual(await self.clients(address, CONNECTIONS), CONNECTIONS)
            self.assertEqual(ofConnections(), objects)
            self.assertEqual(openDescriptors(), before)
            self.assertEqual(len(self.factory._waiting), 0)
            blocks = sys.getallocatedblocks() - blocks
            # Less than an object for ten connections, and, for what is not
            # made of objects, less than half of a transport for each.
            self.assertTrue(blocks < CONNECTIONS / 10, f"{blocks} blocks more")
            grown = residentKiB() - memory
            self.assertTrue(grown < CONNECTIONS * 2, f"{grown} KiB more")
            print(
                f"{capture.value}: {CONNECTIONS} connections of"
                f" {PROCESSES if isRoot else 1} users good,"
                f" {blocks} blocks and {grown} KiB more"
            )
