"""
Real servers that others have written, of Debian's packages, each under its own
user on a socket of the test's (long: set C{PEERCRED_LONG_TESTS=1}).
"""

import glob
import json
import os
import pwd
import shutil
import signal
import subprocess
from unittest import SkipTest, skipIf

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from twisted_peercred import (
    CredentialedUNIXClientFactory,
    IPeerCredentials,
    PeerRefused,
    Policy,
    sendCredentials,
)

from .support import needsLongRun, needsRoot
from .test_whois import CommandTestCase


def program(name: str, package: str) -> str:
    """
    Where a program is.

    @raise SkipTest: it is not installed.
    """
    # Debian keeps those of PostgreSQL by version, and off the path.
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    path = found[-1] if found else shutil.which(name)
    if path is None:
        raise SkipTest(f"needs {name} (Debian: apt-get install {package})")
    return path


class Asking(Protocol):
    """
    Asks one thing, and has what comes first of the answer.
    """

    def connectionMade(self) -> None:
        self.answer, self.ended = Deferred(), Deferred()
        self.factory.ask(self)

    def dataReceived(self, data: bytes) -> None:
        if not self.answer.called:
            self.answer.callback(data)

    def connectionLost(self, reason) -> None:
        self.ended.callback(None)


@skipIf(needsLongRun, needsLongRun)
@skipIf(needsRoot, needsRoot)
class DaemonTests(CommandTestCase):
    """
    Tests with real servers.
    """

    def user(self, *names: str) -> pwd.struct_passwd:
        """
        The user that a package has made for its server; the test's directory
        is that user's from now on.
        """
        for name in names:
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            return user
        raise SkipTest(f"no user is called {' or '.join(names)}")

    def asUser(self, user: pwd.struct_passwd) -> dict[str, object]:
        """
        How to run something as a user.
        """
        return {
            "user": user.pw_uid,
            "group": user.pw_gid,
            "extra_groups": [],
            "cwd": self.directory,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.DEVNULL,
        }

    async def start(
        self, user: pwd.struct_passwd, address: str, *command: str
    ) -> subprocess.Popen:
        """
        Run a server, and wait until it listens.
        """
        server = subprocess.Popen(command, **self.asUser(user))

        def stop() -> None:
            # To PostgreSQL SIGTERM means to wait for its clients.
            server.send_signal(signal.SIGINT)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                # A background job of a shell is started with SIGINT ignored.
                server.kill()
                server.wait()

        self.addCleanup(stop)

        def listens() -> bool:
            self.assertIsNone(server.poll(), f"{command[0]} has ended")
            return address in listening()

        await self.until(listens)
        return server

    async def examine(
        self,
        user: pwd.struct_passwd,
        address: str,
        server: subprocess.Popen,
        ask,
        answer: bytes,
    ) -> None:
        """
        Look at a server from a shell and from Twisted, and talk to it.

        @param ask: sends a question by a protocol.
        @param answer: what its answer begins with.
        """
        status, out, err = await self.command("whois", "--json", address)
        self.assertEqual((status, err), (0, ""))
        found = json.loads(out)
        self.assertEqual((found["uid"], found["gid"]), (user.pw_uid, user.pw_gid))
        self.assertEqual(found["userName"], user.pw_name)
        self.assertEqual(found["groups"], [user.pw_gid])
        self.assertEqual(found["pid"], server.pid)
        # Some write over it: "redis-server *:0".
        self.assertIn(os.path.basename(server.args[0]), found["command"])

        factory = Factory.forProtocol(Asking)
        factory.noisy = False
        factory.ask = ask
        endpoint = UNIXClientEndpoint(reactor, address)
        for rules, good in (("root", False), (f"user/{user.pw_name}", True)):
            connecting = endpoint.connect(
                CredentialedUNIXClientFactory(factory, policy=Policy.fromString(rules))
            )
            if not good:
                refusal = await self.assertFailure(connecting, PeerRefused)
                self.assertEqual(refusal.credentials.uid, user.pw_uid)
                continue
            protocol = await connecting
            peer = IPeerCredentials(protocol)
            self.assertEqual((peer.uid, peer.pid), (user.pw_uid, server.pid))
            self.assertTrue((await protocol.answer).startswith(answer))
            protocol.transport.loseConnection()
            # The server is to end next, and one may wait for its clients.
            await protocol.ended

    async def test_postgresql(self) -> None:
        """
        PostgreSQL is its user, and answers.
        """
        initdb = program("initdb", "postgresql")
        postgres = program("postgres", "postgresql")
        user = self.user("postgres")
        data = os.path.join(self.directory, "data")
        await deferToThread(
            subprocess.run,
            [initdb, "--no-sync", "-A", "trust", "-D", data],
            check=True,
            **self.asUser(user),
        )
        address = os.path.join(self.directory, ".s.PGSQL.5432")
        server = await self.start(
            *(user, address, postgres, "-D", data, "-k", self.directory),
            *("-c", "listen_addresses=", "-c", "port=5432", "-F"),
        )
        # SSLRequest: "N" is "not here", and this is over a Unix socket.
        await self.examine(
            user,
            address,
            server,
            lambda protocol: protocol.transport.write(
                (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
            ),
            b"N",
        )

    async def test_redis(self) -> None:
        """
        Redis is its user, and answers.
        """
        redis = program("redis-server", "redis-server")
        user = self.user("redis")
        address = os.path.join(self.directory, "redis.sock")
        server = await self.start(
            *(user, address, redis, "--port", "0", "--unixsocket", address),
            *("--save", "", "--dir", self.directory),
        )
        await self.examine(
            user,
            address,
            server,
            lambda protocol: protocol.transport.write(b"PING\r\n"),
            b"+PONG",
        )

    async def test_dbus(self) -> None:
        """
        D-Bus is its user, and takes our credentials with the NUL byte that
        its protocol begins with.
        """
        dbus = program("dbus-daemon", "dbus")
        user = self.user("messagebus", "dbus")
        address = os.path.join(self.directory, "bus")
        server = await self.start(
            *(user, address, dbus, "--session", "--nofork", "--nopidfile"),
            f"--address=unix:path={address}",
        )

        def ask(protocol) -> None:
            sendCredentials(protocol.transport, data=b"\0")
            identity = str(os.getuid()).encode().hex().encode()
            protocol.transport.write(b"AUTH EXTERNAL " + identity + b"\r\n")

        await self.examine(user, address, server, ask, b"OK ")


def listening() -> set[str]:
    """
    The paths that somebody listens on (proc_net_unix(5)).
    """
    with open("/proc/net/unix") as file:
        lines = [line.split() for line in file]
    # __SO_ACCEPTCON
    return {line[7] for line in lines if len(line) == 8 and line[3] == "00010000"}
