"""
Tests for L{twisted_peercred.commands.whoami}.
"""

import json
import os
import socket

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Capture, CredentialedUNIXServerFactory, PeerCredentials
from twisted_peercred.commands import whoami
from twisted_peercred.echo import EchoFactory, greeting, jsonGreeting
from twisted_peercred.names import groupName, userName

from .test_whois import CommandTestCase


class Saying(Protocol):
    """
    Says one thing, and closes if it is to.
    """

    def connectionMade(self) -> None:
        self.transport.write(self.factory.word)
        if self.factory.closes:
            getattr(self.transport, self.factory.closes)()


class WhoamiTests(CommandTestCase):
    """
    Tests for C{peercred whoami}.
    """

    def echo(self, greet=greeting, **options) -> str:
        """
        A C{peercred-echo}.
        """
        return self.listen(CredentialedUNIXServerFactory(EchoFactory(greet), **options))

    def say(self, word: bytes, closes: str = "loseConnection") -> str:
        """
        A server of another kind.
        """
        factory = Factory.forProtocol(Saying)
        factory.word, factory.closes, factory.noisy = word, closes, False
        return self.listen(factory)

    async def test_json(self) -> None:
        """
        As JSON it is the same whether the server greets in words or in JSON,
        in each capture.
        """
        for capture in Capture:
            for greet in (greeting, jsonGreeting):
                address = self.echo(greet, capture=capture)
                status, out, err = await self.command("whoami", address, "--json")
                self.assertEqual((status, err), (0, ""))
                seen = json.loads(out)
                self.assertEqual(seen["uid"], os.getuid())
                self.assertEqual(seen["gid"], os.getgid())
                self.assertEqual(seen["pid"], os.getpid())
                self.assertEqual(seen["capture"], capture.value)
                self.assertEqual(seen["userName"], userName(os.getuid()))
                self.assertEqual(seen["groupName"], groupName(os.getgid()))

    async def test_table(self) -> None:
        """
        For people it is a table.
        """
        for greet in (greeting, jsonGreeting):
            address = self.echo(greet)
            status, out, err = await self.command("whoami", "-t", "60", address)
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(
                [line.partition("  ")[0] for line in out.splitlines()],
                ["uid", "gid", "groups", "pid", "captured at"],
            )
            self.assertIn(f"\npid          {os.getpid()}\n", out)
            self.assertIn("\ncaptured at  connect\n", out)

    async def test_refused(self) -> None:
        """
        A server that closes at once has refused the caller, whether the
        caller notices while it writes or while it reads.
        """
        for how in ("loseConnection", "loseWriteConnection", "abortConnection"):
            address = self.say(b"", how)
            await self.assertFails(
                f"{address}: closed without a greeting: the server refuses this caller",
                "whoami",
                address,
            )

    async def test_reset(self) -> None:
        """
        So has one that breaks the connection.
        """
        address = self.path()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(5)

        class Closing:
            def credentialsToSend(self):
                listening.close()
                return []

        self.patch(whoami, "thisKernel", Closing)
        await self.assertFails(
            f"{address}: closed without a greeting: the server refuses this caller",
            "whoami",
            address,
        )

    async def test_otherServer(self) -> None:
        """
        What is no greeting is shown, made printable.
        """
        for word, shown in (
            (b"220 \x1b[31mhello\n", "'220 \\x1b[31mhello'"),
            (b'{"uid": 0}\n', "'{\"uid\": 0}'"),
            (b"{\n", "'{'"),
            (b"uid=1 gid=x\n", "'uid=1 gid=x'"),
            (b"\xff", "'\\\\xff'"),
            (b"{\n", "'{'"),
        ):
            address = self.say(word)
            await self.assertFails(
                f"{address}: greets with {shown}: no peercred-echo", "whoami", address
            )

    async def test_longLine(self) -> None:
        """
        A line that has no end is not read for ever.
        """
        self.patch(whoami, "LONGEST", 100)
        address = self.say(b"x" * 100, closes="")
        await self.assertFails(
            f"{address}: greets with {'x' * 60!r}: no peercred-echo", "whoami", address
        )

    async def test_timeout(self) -> None:
        """
        A server that says nothing is not waited for beyond the timeout.
        """
        for word in (b"", b"uid=1 "):
            address = self.say(word, closes="")
            await self.assertFails(
                f"{address}: no greeting within 0.05 seconds; is it a peercred-echo?",
                *("whoami", "--timeout", "0.05", address),
            )

    async def test_brokenKernel(self) -> None:
        """
        Any other problem of the socket is one line too.
        """

        class Refusing:
            def credentialsToSend(self):
                raise OSError(12, "Cannot allocate memory")

        self.patch(whoami, "thisKernel", Refusing)
        address = self.say(b"")
        await self.assertFails(f"{address}: Cannot allocate memory", "whoami", address)

    async def test_usage(self) -> None:
        """
        A timeout has to be one.
        """
        for wrong in ("0", "-1", "nan"):
            await self.assertFails(
                "--timeout is seconds, more than 0", "whoami", "-t", wrong, "a"
            )
        status, _, err = await self.command("whoami", "-t", "soon", "a")
        self.assertEqual((status, err.count("\n")), (1, 1))


class GreetingTests(SynchronousTestCase):
    """
    Tests for L{whoami.decodeGreeting}.
    """

    def test_roundTrip(self) -> None:
        """
        What the echo server writes is read, in both forms, with all there is
        and with the least.
        """
        for peer in (
            PeerCredentials(uid=0, gid=0, groups=(0, 2**31), pid=5, securityLabel=b"a"),
            PeerCredentials(uid=2**31, gid=2**31, capture=Capture.FIRST_MESSAGE),
            PeerCredentials(uid=0, gid=0, groups=(0,), pid=1),
        ):
            for greet in (greeting, jsonGreeting):
                seen = whoami.decodeGreeting(greet(peer))
                for name in ("uid", "gid", "groups", "pid", "capture", "securityLabel"):
                    self.assertEqual(seen[name], peer.asDict()[name], name)
                self.assertEqual(seen["userName"], userName(peer.uid))
        self.assertEqual(
            whoami.decodeGreeting(greeting(peer))["groupNames"], [groupName(0)]
        )

    def test_hostile(self) -> None:
        """
        A server may say anything: what is no greeting is none, without a
        traceback and in no time.
        """
        for line in (
            "uid=1(" + ") gid=1(" * 300000 + ") groups= pid=1 context=x" * 50000,
            "uid=1 gid=1 groups=" + "1" * 1000000,
            "uid=1 gid=1 groups=" + "1," * 500000,
            "uid=" + "1" * 5000 + " gid=1 captured at connect",
            '{"uid":' + "[" * 200000,
            '{"uid": "1", "gid": 1, "capture": "connect"}',
            '{"uid": 1, "gid": true, "capture": "connect"}',
            '{"uid": 1, "gid": 1, "capture": 5}',
            '{"uid": 1, "gid": 1, "capture": "connect", "groups": 5}',
            '{"uid": 1, "gid": 1, "capture": "connect", "groups": ["x"]}',
            '{"uid": 1, "gid": 1, "capture": "x", "groupNames": ["a"]}',
        ):
            self.assertIsNone(whoami.decodeGreeting(line), line[:80])

    def test_rows(self) -> None:
        """
        What a server does not tell is left out.
        """
        rows = whoami.rows({"uid": 1, "gid": 2, "capture": "first-message"})
        self.assertEqual(
            rows,
            [("uid", "1", ""), ("gid", "2", ""), ("captured at", "first message", "")],
        )
