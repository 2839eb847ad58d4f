"""
Clients, and servers that are others than they should be: THREATS A9 and K13,
with processes of other users.
"""

import os
import socket
import subprocess
import sys
from collections import namedtuple
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from zope.interface import implementer

from twisted_peercred import (
    SYNC_WORD,
    CredentialedUNIXClientFactory,
    IPeerPolicy,
    PeerRefused,
)

from .listeners import TAKE, Listener
from .support import PRELUDE, LiveTestCase, Remembering, RememberingFactory, needsRoot

Answer = namedtuple("Answer", "admitted rule")
OWNER, SQUATTER = (4711, 4712), (4801, 4802)


@implementer(IPeerPolicy)
class OfUser:
    """
    Admits one user.
    """

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def decide(self, identity) -> Answer:
        return Answer(identity.uid == self.uid, f"uid/{self.uid}")


class Telling(Remembering):
    """
    Tells a secret as soon as it can.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.write(b"secret")
        self.transport.loseConnection()


@skipIf(needsRoot, needsRoot)
class ImpostorTests(LiveTestCase):
    """
    Tests with servers of other users.
    """

    async def connectTo(self, address: str, user: int):
        """
        Connect a client that would send all it can.

        @return: its protocol.
        """
        wrapped = RememberingFactory(Telling)
        await UNIXClientEndpoint(reactor, address).connect(
            CredentialedUNIXClientFactory(
                wrapped,
                policy=OfUser(user),
                sendCredentials=True,
                syncWord=SYNC_WORD,
            )
        )
        return wrapped.made[0]

    async def test_squatter(self) -> None:
        """
        A squatter under another uid gets not a byte, and the owner of the
        path, once it listens there, gets all (THREATS A9).
        """
        os.chmod(self.directory, 0o1777)
        address = os.path.join(self.directory, "app.sock")
        uid, _ = OWNER
        for user, got in ((SQUATTER, b""), (OWNER, SYNC_WORD + b"secret")):
            server = Listener(self, address, user, code=TAKE)
            self.assertEqual(await server.line(), "ready\n")
            try:
                protocol = await self.connectTo(address, uid)
            except PeerRefused as refusal:
                self.assertEqual(user, SQUATTER)
                self.assertEqual(
                    (refusal.credentials.uid, refusal.credentials.gid), SQUATTER
                )
                self.assertEqual(refusal.credentials.pid, server.pid)
                self.assertEqual(refusal.rule, "uid/4711")
            else:
                self.assertEqual(user, OWNER)
                self.assertEqual((protocol.peer.uid, protocol.peer.gid), OWNER)
                self.assertEqual(protocol.peer.groups, (4712, 4713))
            self.assertEqual(await server.line(), f"{got!r}\n")
            os.unlink(address)

    async def test_activated(self) -> None:
        """
        A socket-activated server is shown as its activator, which called
        listen(2), and not as the user who accepts and reads (THREATS K13).
        """
        address = os.path.join(self.directory, "app.sock")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(5)
            uid, _ = OWNER
            server = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", PRELUDE + ACTIVATED),
                    *(address, str(listening.fileno())),
                ],
                pass_fds=[listening.fileno()],
                stdout=subprocess.PIPE,
            )
        self.addCleanup(server.__exit__, None, None, None)
        self.addCleanup(server.kill)
        await self.assertFailure(self.refused(address, uid), PeerRefused)
        protocol = await self.connectTo(address, 0)
        self.assertEqual(
            (protocol.peer.uid, protocol.peer.gid, protocol.peer.pid),
            (0, os.getegid(), os.getpid()),
        )
        await protocol.ended
        out, _ = server.communicate()
        self.assertEqual(out.decode(), f"{uid} b''\n{uid} {SYNC_WORD + b'secret'!r}\n")

    def refused(self, address: str, uid: int):
        """
        A connect, as a L{Deferred}.
        """
        return UNIXClientEndpoint(reactor, address).connect(
            CredentialedUNIXClientFactory(
                RememberingFactory(Telling), policy=OfUser(uid), syncWord=SYNC_WORD
            )
        )

    async def test_changedUser(self) -> None:
        """
        A server that gives root up after listen(2) is shown as root; one that
        does so before, as what it is.
        """
        os.chmod(self.directory, 0o777)
        for late, seen in ((True, 0), (False, 4711)):
            address = os.path.join(self.directory, f"{late}")
            server = Listener(self, address, (0, 0) if late else OWNER, code=BECOME)
            self.assertEqual(await server.line(), "ready\n")
            protocol = await self.connectTo(address, seen)
            self.assertEqual(protocol.peer.uid, seen)
            self.assertEqual(await server.line(), "4711\n")


ACTIVATED = """
become(4711, 4712)
server = socket.socket(fileno=int(sys.argv[2]))
for _ in range(2):
    peer, _ = server.accept()
    print(os.getuid(), readAll(peer), flush=True)
"""

BECOME = """
if os.getuid() == 0:
    os.setresuid(4711, 4711, 4711)
print("ready", flush=True)
peer, _ = server.accept()
print(os.geteuid(), flush=True)
readAll(peer)
"""
