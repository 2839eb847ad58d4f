"""
A server in a PID namespace of its own that reads about thousands of short-lived
clients in /proc, while their numbers go from one to the next:
C{python -m tests.flood ADDRESS COUNT} under C{unshare --pid --fork
--mount-proc}, as root.  Prints how many answers were right, one JSON object.
"""

import json
import os
import random
import socket
import sys
from collections import Counter

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from twisted_peercred import (
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerProcessGone,
)
from twisted_peercred.kernels.procfs import decodeStatus
from twisted_peercred.process import IPeerProcess

QUESTIONS = ("status", "commandLine", "info")
#: Numbers that the clients share.
NUMBERS = range(300, 400)


class Asking(Protocol):
    """
    Asks about its peer's process at once, and is told by the peer itself which
    it is.
    """

    def connectionMade(self):
        self.serial = b""
        self.peer = IPeerCredentials(self.transport)
        self.factory.numbers[self.peer.pid] += 1
        self.answers = Deferred.fromCoroutine(self.ask())

    async def ask(self):
        try:
            process = IPeerProcess(self.transport)
        except PeerProcessGone:
            return [PeerProcessGone]
        asked = [self.answer(process, each) for each in QUESTIONS]
        # For comparison: what those have who go by the number.
        await deferToThread(readByNumber, self.peer.pid).addCallbacks(
            self.compareByNumber, lambda reason: reason.trap(OSError)
        )
        return await gatherResults(asked)

    def compareByNumber(self, uid):
        self.factory.counts["wrongByNumber"] += uid != self.peer.uid

    def answer(self, process, name):
        async def answer():
            try:
                found = getattr(process, name)()
                return found if name == "info" else await found
            except PeerProcessGone:
                return PeerProcessGone

        return Deferred.fromCoroutine(answer())

    def dataReceived(self, data):
        self.serial += data

    def connectionLost(self, reason):
        self.answers.addCallback(self.compare)
        self.answers.addBoth(self.factory.done)

    def compare(self, answers):
        """
        Each answer against what the peer said of itself, and was when it
        connected.
        """
        for answer in answers:
            uid = name = None
            if answer is PeerProcessGone:
                self.factory.counts["gone"] += 1
                continue
            if isinstance(answer, dict):
                uid, name = int(answer["Uid"].split()[0]), answer["Name"].encode()
                right = (uid, name) == (self.peer.uid, self.serial)
            elif isinstance(answer, tuple):
                # Of a process that is ending there is none left to read.
                right = answer in ((), self.factory.commandLine)
            else:
                right = (answer.realUID, answer.pid) == (self.peer.uid, self.peer.pid)
            self.factory.counts["right" if right else "wrong"] += 1


def readByNumber(pid):
    """
    The user of a process, as others find it.
    """
    with open(f"/proc/{pid}/status") as file:
        return int(decodeStatus(file.read().encode())["Uid"].split()[0])


def spawn(address, count):
    """
    Have clients come and go, each under the number of one that went just
    before.
    """
    children = set()
    for serial in range(count):
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(random.choice(NUMBERS)))
        pid = os.fork()
        if not pid:
            with open("/proc/self/comm", "w") as file:
                file.write(f"c{serial}")
            os.setgid(1000 + serial)
            os.setuid(1000 + serial)
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(address)
            peer.send(b"c%d" % serial)
            os._exit(0)
        children.add(pid)
        while len(children) > 20:
            children.discard(os.wait()[0])
    while children:
        children.discard(os.wait()[0])


async def main(reactor, address, count):
    factory = Factory.forProtocol(Asking)
    factory.noisy = False
    factory.counts, factory.numbers = Counter(), Counter()
    factory.left = count
    with open("/proc/self/cmdline", "rb") as file:
        factory.commandLine = tuple(file.read().split(b"\0")[:-1])

    def done(result):
        factory.left -= 1
        if isinstance(result, Failure):
            factory.counts["failed"] += 1

    factory.done = done
    reactor.listenUNIX(address, CredentialedUNIXServerFactory(factory))
    # What the reactor opens when it starts is open.
    await deferLater(reactor, 0)
    before = len(os.listdir("/proc/self/fd"))
    spawner = os.fork()
    if not spawner:
        try:
            spawn(address, count)
        finally:
            os._exit(0)
    while factory.left:
        await deferLater(reactor, 0.05)
    os.waitpid(spawner, 0)
    after = len(os.listdir("/proc/self/fd"))
    print(
        json.dumps(
            {
                **factory.counts,
                "numbers": len(factory.numbers),
                "leaked": after - before,
            }
        )
    )


if __name__ == "__main__":
    react(
        lambda reactor: Deferred.fromCoroutine(
            main(reactor, sys.argv[1], int(sys.argv[2]))
        ),
    )
