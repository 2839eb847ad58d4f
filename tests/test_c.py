"""
Talking to programs in C, both ways: they stand in C{tests/c/}.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.threads import deferToThread

from twisted_peercred import (
    SYNC_WORD,
    Capture,
    CredentialedUNIXClientFactory,
    IPeerCredentials,
)

from .support import (
    LiveTestCase,
    Remembering,
    RememberingFactory,
    flat,
    isRoot,
)

COMPILER = shutil.which("cc") or shutil.which("gcc")
needsCompiler = "" if COMPILER else "needs a C compiler (Debian: gcc libc6-dev)"
#: Who the programs run as.
USER = (4711, 4712) if isRoot else (os.getuid(), os.getgid())


class Answering(Remembering):
    """
    Says who the peer is, then echoes.
    """

    def connectionMade(self) -> None:
        super().connectionMade()
        peer = IPeerCredentials(self.transport)
        self.transport.write(f"{peer.pid} {peer.uid} {peer.gid}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


@skipIf(needsCompiler, needsCompiler)
class CTests(LiveTestCase):
    """
    Tests with programs in C.
    """

    def setUp(self) -> Deferred[None]:
        ready = super().setUp()
        self.programs = tempfile.mkdtemp(dir=self.directory)
        os.chmod(self.programs, 0o755)
        for source in (Path(__file__).parent / "c").glob("*.c"):
            output = f"{self.programs}/{source.stem}"
            subprocess.run(
                [COMPILER, "-Wall", "-Wextra", "-Werror", "-o", output, source],
                check=True,
            )
        return ready

    def start(self, program: str, *arguments: str) -> subprocess.Popen:
        """
        Run a program under another user.
        """
        process = subprocess.Popen(
            [f"{self.programs}/{program}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **dict(zip(("user", "group"), USER, strict=True) if isRoot else ()),
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        return process

    async def test_client(self) -> None:
        """
        A C client that sends the sync word, with credentials, without, and in
        pieces, is served as who it is, in each capture; and the word is taken
        out.
        """
        for capture in Capture:
            address, _ = self.serve(Answering, capture=capture, syncWord=SYNC_WORD)
            for how in ("plain", "explicit", "split"):
                client = self.start("client", address, how, "hello")
                answer, _ = await deferToThread(client.communicate)
                self.assertEqual(client.returncode, 0)
                uid, gid = USER
                self.assertEqual(answer, f"{client.pid} {uid} {gid}\nhello")

    async def connectTo(self, when: str, credentials: bool) -> str:
        """
        Have a client of ours talk to the C server.

        @return: the server's answer.
        """
        directory = tempfile.mkdtemp(dir=self.directory)
        if isRoot:
            os.chown(directory, *USER)
        address = os.path.join(directory, "s")
        server = self.start("server", address, when)
        self.assertEqual(await self.line(server), "listening\n")
        wrapped = RememberingFactory()

        class Admitting:
            """
            Waits until the server has accepted: what is sent before has its
            credentials anyway.
            """

            admitted, rule = True, "any"

            async def decide(policy, identity):
                self.assertEqual((identity.uid, identity.gid), USER)
                self.assertEqual(identity.pid, server.pid)
                self.assertEqual(await self.line(server), "accepted\n")
                return policy

        await UNIXClientEndpoint(reactor, address).connect(
            CredentialedUNIXClientFactory(
                wrapped,
                policy=Admitting(),
                sendCredentials=credentials,
                syncWord=SYNC_WORD,
            )
        )
        (protocol,) = wrapped.made
        protocol.transport.write(b"hello")
        protocol.transport.loseWriteConnection()
        if when == "late":
            # Our word is in its socket by now.
            server.stdin.write("now\n")
            server.stdin.flush()
        await protocol.ended
        return flat(protocol.received).decode()

    def line(self, server: subprocess.Popen) -> Deferred[str]:
        """
        What the server prints next.
        """
        return deferToThread(server.stdout.readline)

    async def test_server(self) -> None:
        """
        A C server that asks with C{SO_PASSCRED} knows our client, whether it
        sends credentials or leaves it to the kernel.
        """
        me = f"{os.getpid()} {os.getuid()} {os.getgid()}\nhello"
        for credentials in (True, False):
            self.assertEqual(await self.connectTo("early", credentials), me)

    async def test_lateServer(self) -> None:
        """
        One that asks too late knows it if it sends credentials, and only then
        (THREATS K2).
        """
        me = f"{os.getpid()} {os.getuid()} {os.getgid()}\nhello"
        self.assertEqual(await self.connectTo("late", True), me)
        self.assertEqual(await self.connectTo("late", False), "0 65534 65534\nhello")
