"""
Tests for L{twisted_peercred.echo}: the protocol here, the program in a process
of its own.
"""

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

from twisted.application.service import IServiceMaker
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Capture, CredentialedUNIXServerFactory, PeerCredentials
from twisted_peercred.echo import (
    CannotStart,
    EchoFactory,
    EchoService,
    Options,
    greeting,
    jsonGreeting,
    makeService,
)

from .support import LiveTestCase, environment, isRoot

NOBODY = 4_000_000_000


class GreetingTests(SynchronousTestCase):
    """
    Tests for the greetings.
    """

    def test_greeting(self) -> None:
        """
        All that is known is said, in the manner of id(1).
        """
        peer = PeerCredentials(
            uid=0, gid=NOBODY, groups=(0, NOBODY), pid=7, securityLabel=b"a\nb"
        )
        self.assertEqual(
            greeting(peer),
            "uid=0(root) gid=4000000000 groups=0(root),4000000000 pid=7"
            " context=a\\nb captured at connect",
        )

    def test_unknown(self) -> None:
        """
        What is not known is not said.
        """
        peer = PeerCredentials(uid=0, gid=0, capture=Capture.FIRST_MESSAGE)
        self.assertEqual(
            greeting(peer), "uid=0(root) gid=0(root) captured at first message"
        )

    def test_json(self) -> None:
        """
        The same as one JSON object.
        """
        fields = json.loads(jsonGreeting(PeerCredentials(uid=0, gid=NOBODY)))
        self.assertEqual(fields["uid"], 0)
        self.assertEqual((fields["userName"], fields["groupName"]), ("root", None))


class EchoTests(LiveTestCase):
    """
    Tests for the protocol.
    """

    def serveEcho(self, lookUp) -> str:
        """
        @return: the address.
        """
        factory = EchoFactory(str, lookUp)
        factory.noisy = False
        return self.listen(CredentialedUNIXServerFactory(factory))

    async def test_greetingComesFirst(self) -> None:
        """
        What was sent while names are looked up is echoed after the greeting,
        all of it, also to a peer that half-closed.
        """
        waiting = []

        def lookUp(function, peer):
            waiting.append(Deferred())
            return waiting[-1]

        peer = self.connect(self.serveEcho(lookUp))
        peer.sendall(b"x" * 100000)
        peer.shutdown(socket.SHUT_WR)
        await self.until(lambda: waiting)
        waiting[0].callback("hi")
        self.assertEqual(await self.closed(peer), b"hi\n" + b"x" * 100000)

    async def test_goneWhileLookingUp(self) -> None:
        """
        A peer that goes before its names are known leaves nothing behind.
        """
        cancelled = []

        def lookUp(function, peer):
            return Deferred(cancelled.append)

        factory = EchoFactory(str, lookUp)
        factory.noisy = False
        protocols = []
        build = factory.buildProtocol

        def buildProtocol(addr):
            protocols.append(build(addr))
            return protocols[-1]

        factory.buildProtocol = buildProtocol
        self.connect(self.listen(CredentialedUNIXServerFactory(factory)))
        await self.until(lambda: protocols and protocols[0].transport)
        transport = protocols[0].transport
        transport.abortConnection()
        await self.until(lambda: not transport.connected)
        self.assertEqual(len(cancelled), 1)
        protocols[0].writeConnectionLost()


class OptionsTests(SynchronousTestCase):
    """
    Tests for what the program can be told.
    """

    def parse(self, *arguments: str) -> Options:
        """
        Options from a command line.
        """
        options = Options()
        options.parseOptions(arguments)
        return options

    def test_defaults(self) -> None:
        """
        Without options it listens in C{$XDG_RUNTIME_DIR}, for its own user.
        """
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": "/run/user/1:0"})
        options = self.parse()
        self.assertEqual(
            options["endpoint"], "unix:/run/user/1\\:0/peercred-echo.sock:mode=600"
        )
        self.assertIs(options["capture"], Capture.CONNECT)
        self.patch(os, "environ", {})
        self.assertEqual(self.parse()["endpoint"], "unix:peercred-echo.sock:mode=600")

    def test_captures(self) -> None:
        """
        Each capture can be asked for by its name.
        """
        for capture in Capture:
            self.assertIs(self.parse("--capture", capture.value)["capture"], capture)

    def test_mistakes(self) -> None:
        """
        A mistake ends the program with one line.
        """
        for arguments in (
            ["--capture", "never"],
            ["--nonsense"],
            ["superfluous"],
            ["--rules", "any", "--rules-file", "x"],
            ["--max-per-uid", "0"],
            ["--max-per-uid", "many"],
            ["--max-per-uid", "\u00b2"],
        ):
            with self.assertRaises(CannotStart) as raised:
                self.parse(*arguments)
            self.assertEqual(len(str(raised.exception).splitlines()), 1)
            self.assertIsInstance(raised.exception.__cause__, UsageError)

    def test_service(self) -> None:
        """
        The options make a service; an endpoint that cannot be understood makes
        one line.
        """
        self.assertIsInstance(makeService(self.parse("--json")), EchoService)
        for endpoint in ("nonsense:x", "unix:x:mode=z", "unix:x:y=z"):
            with self.assertRaises(CannotStart) as raised:
                makeService(self.parse("--endpoint", endpoint))
            self.assertIn(endpoint, str(raised.exception))

    def test_policy(self) -> None:
        """
        A policy that is none, or whose file must not be believed, is one line,
        with the place; so is an audit log that cannot be written.
        """
        for arguments, line in (
            (("--rules", "root,uid/x"), "--rules:1:10: 'x' is not a decimal number"),
            (("--rules-file", "/nonexistent"), "/nonexistent: cannot be read: No such"),
            (("--audit-log", "/nonexistent/x"), "cannot write /nonexistent/x: No such"),
            (("--audit-log", "/dev/null"), "cannot write /dev/null: it is no regular"),
        ):
            with self.assertRaises(CannotStart) as raised:
                makeService(self.parse(*arguments))
            self.assertTrue(
                str(raised.exception).startswith(f"peercred-echo: {line}"),
                str(raised.exception),
            )
            self.assertEqual(len(str(raised.exception).splitlines()), 1)

    def test_cannotListen(self) -> None:
        """
        A socket that cannot be had is one line on stderr too, whatever twistd
        has made of C{sys.stderr}.
        """
        for endpoint, why in (
            ("unix:/nonexistent/s", "No such file or directory"),
            ("unix:/nonexistent/s:lockfile=0", "No such file or directory"),
            ("tcp:0", "listenUNIX"),
        ):
            stderr = io.StringIO()
            self.patch(sys, "__stderr__", stderr)
            service = makeService(self.parse("--endpoint", endpoint))
            with self.assertRaises(CannotStart) as raised:
                service.privilegedStartService()
            self.assertIn(why, str(raised.exception))
            self.assertEqual(stderr.getvalue(), f"{raised.exception}\n")

    def test_usage(self) -> None:
        """
        The usage text keeps the example's lines as they are to be pasted.
        """
        self.assertTrue(Options().getUsage().endswith(Options.example))

    def test_plugin(self) -> None:
        """
        twistd finds it.
        """
        names = [each.tapname for each in getPlugins(IServiceMaker)]
        self.assertEqual(names.count("peercred-echo"), 1)


class ServiceTests(LiveTestCase):
    """
    Tests for the service, here.
    """

    async def test_options(self) -> None:
        """
        The service has the policy, the limit and the log that were asked for;
        what it took when it started it gives back when it stops.
        """
        rules = os.path.join(self.directory, "rules")
        audit = os.path.join(self.directory, "audit")
        with open(rules, "w") as file:
            file.write("self\n")
        os.chmod(rules, 0o644)
        signals = (signal.SIGHUP, signal.SIGUSR1)
        before = [signal.getsignal(each) for each in signals]
        options = Options()
        options.parseOptions(
            [
                *("--rules-file", rules, "--audit-log", audit, "--max-per-uid", "1"),
                *("--endpoint", f"unix:{self.directory}/s"),
            ]
        )
        service = makeService(options)
        service.privilegedStartService()
        service.startService()
        peer = self.connect(f"{self.directory}/s")
        self.assertEqual(await self.closed(self.connect(f"{self.directory}/s")), b"")
        peer.shutdown(socket.SHUT_WR)
        self.assertIn(b"captured at connect", await self.closed(peer))
        with open(rules, "w") as file:
            file.write("!self\n")
        os.kill(os.getpid(), signal.SIGHUP)
        await self.until(
            lambda: any(each.get("what") == "policy-changed" for each in self.events)
        )
        self.assertEqual(await self.closed(self.connect(f"{self.directory}/s")), b"")
        os.rename(audit, audit + ".1")
        os.kill(os.getpid(), signal.SIGUSR1)
        await self.until(lambda: os.path.exists(audit))
        await service.stopService()
        peer.close()
        with open(audit + ".1") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual(
            [(each["what"], each["reason"]) for each in lines],
            [("admitted", "rule"), ("refused", "max-per-uid"), ("refused", "rule")],
        )
        self.assertEqual([signal.getsignal(each) for each in signals], before)

    async def test_rules(self) -> None:
        """
        Without more than rules it takes no signal.
        """
        options = Options()
        options.parseOptions(["--rules", "!any", "-e", f"unix:{self.directory}/s"])
        service = makeService(options)
        service.privilegedStartService()
        service.startService()
        self.assertEqual(await self.closed(self.connect(f"{self.directory}/s")), b"")
        await service.stopService()


class ProgramTests(LiveTestCase):
    """
    Tests for C{twistd peercred-echo} as a user runs it.
    """

    twistd = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")

    def setUp(self) -> Deferred:
        self.runtime = environment(XDG_RUNTIME_DIR="")
        return super().setUp()

    def run_(self, *command: str) -> Deferred:
        """
        Run a program to its end.
        """
        return deferToThread(
            subprocess.run,
            command,
            env=self.runtime,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )

    async def start(self, *arguments: str, twistd=()):
        """
        Start the server, and wait until it listens.

        @param twistd: options of twistd itself.
        @return: its process.
        """
        with open(os.path.join(self.directory, "log"), "w") as log:
            server = subprocess.Popen(
                [*self.twistd, "-n", *twistd, "peercred-echo", *arguments],
                env=self.runtime,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )

        def stop() -> None:
            server.send_signal(signal.SIGTERM)
            server.wait()

        self.addCleanup(stop)
        await self.until(lambda: "Starting factory" in self.log())
        return server

    def connect(self, address) -> socket.socket:
        """
        A client's end.  The server says that it starts a moment before it
        listens.
        """
        end = time.monotonic() + 60
        while True:
            try:
                return super().connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def log(self) -> str:
        """
        What the server has said.
        """
        text = ""
        for name in ("log", "twistd.log"):
            path = os.path.join(self.directory, name)
            if os.path.exists(path):
                with open(path) as file:
                    text += file.read()
        return text

    async def test_example(self) -> None:
        """
        The example of the usage text works when it is pasted.
        """
        shown = await self.run_(*self.twistd, "peercred-echo", "--help")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("--capture", shown.stdout)
        self.assertIn("\ntwistd -n peercred-echo\n", shown.stdout)
        example = shown.stdout[shown.stdout.index("python3 -c") :]
        await self.start()
        self.connect(os.path.join(self.directory, "peercred-echo.sock")).close()
        # The same Python, which need not be called python3 here.
        self.runtime["PATH"] = os.path.dirname(sys.executable) + ":/usr/bin:/bin"
        done = await self.run_("sh", "-ec", example)
        self.assertEqual(done.returncode, 0, done.stderr)
        greeting, echo = done.stdout.splitlines()[:2]
        self.assertTrue(
            re.fullmatch(
                rf"uid={os.getuid()}\(\S+\) gid={os.getgid()}\(\S+\) groups=\S+"
                r" pid=\d+ captured at connect",
                greeting,
            ),
            greeting,
        )
        self.assertEqual(echo, "hello")
        mode = os.stat(os.path.join(self.directory, "peercred-echo.sock")).st_mode
        self.assertEqual(mode & 0o777, 0o600)

    async def test_json(self) -> None:
        """
        C{--json} and C{--capture} do what they say.
        """
        path = os.path.join(self.directory, "s")
        await self.start(
            "--json", "--capture", "every-message", "--endpoint", f"unix:{path}"
        )
        peer = self.connect(path)
        peer.send(b"hello")
        peer.shutdown(socket.SHUT_WR)
        first, _, rest = (await self.closed(peer)).partition(b"\n")
        fields = json.loads(first)
        self.assertEqual((fields["uid"], fields["pid"]), (os.getuid(), os.getpid()))
        self.assertEqual(fields["capture"], "every-message")
        self.assertEqual(rest, b"hello")

    def ask(self, path, data=b"hello"):
        """
        Talk to the server.

        @return: all that it says; nothing, if it refuses.
        """
        peer = self.connect(path)
        with contextlib.suppress(BrokenPipeError):
            peer.send(data)
            peer.shutdown(socket.SHUT_WR)
        return self.closed(peer)

    def written(self, path) -> list:
        """
        The lines of an audit log.
        """
        with open(path) as file:
            return [json.loads(line) for line in file]

    async def test_rules(self) -> None:
        """
        C{--rules} says who may come in, C{--max-per-uid} how often.
        """
        path = os.path.join(self.directory, "s")
        await self.start(
            *("--rules", "self", "--max-per-uid", "1", "--endpoint", f"unix:{path}")
        )
        self.assertTrue((await self.ask(path)).endswith(b"\nhello"))
        self.connect(path)
        self.assertEqual(await self.ask(path), b"")
        self.assertIn("is refused by maxPerUID", self.log())

    async def test_rulesFile(self) -> None:
        """
        C{--rules-file} is read again at SIGHUP; a broken one changes nothing,
        and the log says where it is broken.
        """
        path = os.path.join(self.directory, "s")
        rules = os.path.join(self.directory, "rules")
        with open(rules, "w") as file:
            file.write("self\n")
        os.chmod(rules, 0o644)
        server = await self.start("--rules-file", rules, "--endpoint", f"unix:{path}")
        self.assertTrue((await self.ask(path)).endswith(b"\nhello"))
        with open(rules, "w") as file:
            file.write("# nobody\n!self\n")
        server.send_signal(signal.SIGHUP)
        await self.until(lambda: "A new policy is in force" in self.log())
        self.assertEqual(await self.ask(path), b"")
        with open(rules, "w") as file:
            file.write("self\n\n  uid/x\n")
        server.send_signal(signal.SIGHUP)
        await self.until(lambda: "The old policy stays in force" in self.log())
        self.assertIn(f"{rules}:3:7: 'x' is not", self.log())
        self.assertEqual(await self.ask(path), b"")
        self.assertNotIn("Traceback", self.log())

    async def test_auditLog(self) -> None:
        """
        C{--audit-log} has a line of JSON for each decision, goes on in a new
        file when the old one was moved away or at SIGUSR1, which still rotates
        twistd's own log, and has the last word on what was left out.
        """
        path = os.path.join(self.directory, "s")
        audit = os.path.join(self.directory, "audit")
        server = await self.start(
            *("--rules", "!any", "--audit-log", "audit", "--endpoint", f"unix:{path}"),
            twistd=("--logfile", "twistd.log"),
        )
        self.assertEqual(await self.ask(path), b"")
        (line,) = self.written(audit)
        self.assertEqual(
            (line["what"], line["uid"], line["rule"], line["reason"]),
            ("refused", os.geteuid(), "!any", "rule"),
        )
        self.assertEqual(os.stat(audit).st_mode & 0o777, 0o600)
        os.rename(audit, audit + ".1")
        self.assertEqual(await self.ask(path), b"")
        self.assertEqual([each["serial"] for each in self.written(audit)], [1])
        os.rename(audit, audit + ".2")
        server.send_signal(signal.SIGUSR1)
        await self.until(lambda: os.path.exists(audit))
        await self.until(
            lambda: os.path.exists(os.path.join(self.directory, "twistd.log.1"))
        )
        for _ in range(10):
            self.assertEqual(await self.ask(path), b"")
        server.send_signal(signal.SIGTERM)
        await deferToThread(server.wait)
        lines = self.written(audit)
        self.assertEqual([each.get("serial") for each in lines], [2, 3, 4, None])
        self.assertEqual((lines[-1]["what"], lines[-1]["count"]), ("left-out", 7))

    async def test_failures(self) -> None:
        """
        What goes wrong is one line on stderr and status 1, with no traceback
        anywhere and no PID file left.
        """
        await self.start()
        closed = os.path.join(self.directory, "closed")
        os.mkdir(closed, 0o500)
        failures = [
            ("--capture", "never"),
            ("--nonsense",),
            ("--endpoint", "nonsense:x"),
            ("--endpoint", "unix:/nonexistent/s"),
            ("--rules", "user/no-such-user-here"),
            ("--rules-file", "/nonexistent"),
            ("--audit-log", "/nonexistent/x"),
            (),
            ("--endpoint", "unix:peercred-echo.sock:lockfile=0"),
            ("--endpoint", "tcp:0:interface=127.0.0.1"),
            # Root may write anywhere but in /proc.
            ("--endpoint", f"unix:{'/proc' if isRoot else closed}/s"),
        ]
        for arguments in failures:
            done = await self.run_(
                *self.twistd, "-n", "--pidfile", "pid", "peercred-echo", *arguments
            )
            self.assertEqual(done.returncode, 1, arguments)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertTrue(done.stderr.startswith("peercred-echo: "), done.stderr)
            self.assertNotIn("Traceback", done.stdout + done.stderr)
            self.assertFalse(os.path.exists(os.path.join(self.directory, "pid")))
