"""
Every example under docs/examples/ runs, and the README's are among them.
"""

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.names import accountName

from .support import (
    LiveTestCase,
    RememberingFactory,
    environment,
    isRoot,
    needsProcessHandles,
    runClient,
)
from .test_manhole import Terminal

noKlein = "" if find_spec("klein") else "needs klein"

HERE = Path(__file__).resolve().parent.parent
EXAMPLES = HERE / "docs" / "examples"


class ExampleTests(LiveTestCase):
    """
    Tests for the examples.
    """

    async def run_(self, name: str, code: str, *arguments: str) -> str:
        """
        Run an example's server, and a client with it.

        @param arguments: of the server, after the address.
        @return: what the client printed.
        """
        address = os.path.join(self.directory, "app.sock")
        server = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), address, *arguments],
            env=environment(),
            cwd=self.directory,
        )
        try:
            await self.until(lambda: os.path.exists(address))
            return await runClient(
                address,
                # It is there a moment before it listens.
                "while True:\n"
                "    try:\n"
                "        peer = connect()\n"
                "        break\n"
                "    except ConnectionRefusedError:\n"
                "        time.sleep(0.01)\n" + code,
                str(server.pid),
            )
        finally:
            server.terminate()
            server.wait()

    async def test_whoareyou(self) -> None:
        """
        The README's server says who one is.
        """
        answer = await self.run_(
            "whoareyou.py", "print(os.getpid())\nprint(readAll(peer).decode())"
        )
        pid, said = answer.splitlines()[:2]
        self.assertEqual(said, f"uid={os.getuid()} pid={pid}")

    async def test_writers(self) -> None:
        """
        Two writers are told apart.
        """
        answer = await self.run_(
            "writers.py",
            """
lines = peer.makefile()
peer.send(b"one")
print(lines.readline(), end="")
pid = os.fork()
if not pid:
    peer.send(b"three")
    os._exit(0)
os.waitpid(pid, 0)
print(pid)
print(lines.readline(), lines.readline())
""",
        )
        first, pid, change, second = answer.splitlines()[:4]
        self.assertEqual(first, f"{os.getuid()} wrote 3 bytes")
        self.assertEqual(change, f"pid {pid} takes over")
        self.assertEqual(second.strip(), f"{os.getuid()} wrote 5 bytes")

    async def test_officehours(self) -> None:
        """
        A policy of one's own, which is a coroutine, is asked: root comes in at
        any time, others when it is open.
        """
        answer = await self.run_("officehours.py", "print(readAll(peer).decode())")
        self.assertIn(answer.strip(), ["come in"] if isRoot else ["come in", ""])

    async def test_reload(self) -> None:
        """
        A policy's file is read again at SIGHUP.
        """
        rules = os.path.join(self.directory, "rules")
        with open(rules, "w") as file:
            file.write("self\n")
        os.chmod(rules, 0o644)
        answer = await self.run_(
            "reload.py",
            """
print(readAll(peer).decode(), end="")
with open(os.path.join(os.path.dirname(address), "rules"), "w") as file:
    file.write("!self\\n")
os.kill(int(sys.argv[2]), 1)
while readAll(connect()):
    time.sleep(0.01)
print("stay out")
""",
            rules,
        )
        self.assertEqual(answer, "come in\nstay out\n")

    async def test_website(self) -> None:
        """
        A web site knows its visitor.
        """
        answer = await self.run_(
            "website.py",
            """
peer.send(b"GET / HTTP/1.0\\r\\n\\r\\n")
print(readAll(peer).decode())
""",
        )
        self.assertIn(f"You are uid={os.getuid()} ", answer)

    async def test_client(self) -> None:
        """
        A client tells its secret to the server that it trusts, and to no
        other.
        """
        server = RememberingFactory()
        address = self.listen(server)
        example = str(EXAMPLES / "client.py")
        done = await self.command(example, address, "!self,any")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.startswith(f"told to nobody: uid={os.getuid()} "))
        done = await self.command(example, address, "self")
        self.assertEqual(done.stdout, f"told to uid {os.getuid()}\n", done.stderr)
        for each in server.made:
            await each.ended
        self.assertEqual([each.received for each in server.made], [[], [b"secret\n"]])

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_watch(self) -> None:
        """
        A client is told which program it runs.
        """
        answer = await self.run_(
            "watch.py",
            """
print(peer.makefile().readline())
print(os.readlink("/proc/self/exe"))
""",
        )
        said, _, program = answer.splitlines()
        self.assertTrue(said.startswith(f"you run {program} of unit "), said)

    @skipIf(needsProcessHandles, needsProcessHandles)
    @skipIf(shutil.which("systemd-notify") is None, "needs systemd-notify")
    async def test_notify(self) -> None:
        """
        A receiver of sd_notify(3) believes its own child, through
        C{systemd-notify}, and no other process of the same user.
        """
        address = os.path.join(self.directory, "notify.sock")
        program = "read -r go; systemd-notify --ready && echo notified"
        receiver = subprocess.Popen(
            [
                sys.executable,
                str(EXAMPLES / "notify.py"),
                address,
                "/bin/sh",
                "-c",
                program,
            ],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            await self.until(lambda: os.path.exists(address))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as liar:
                liar.sendto(b"READY=1", address)
                said = await deferToThread(receiver.stdout.readline)
            self.assertEqual(said, f"not believed: uid={os.getuid()}\n")
            rest, _ = await deferToThread(receiver.communicate, "go\n")
        finally:
            receiver.kill()
            receiver.wait()
        self.assertEqual(sorted(rest.split()), ["ended", "notified", "ready"])

    async def test_doorman(self) -> None:
        """
        The tests of a program that are an example are tests that pass.
        """
        done = await self.command("-m", "twisted.trial", str(EXAMPLES / "doorman.py"))
        self.assertIn("PASSED (successes=2)", done.stdout)

    async def test_demo(self) -> None:
        """
        C{make demo} shows both sides of the current user, and of nobody where
        that is root.
        """
        done = await self.command(str(EXAMPLES / "demo.py"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"client reads: uid={os.getuid()}(", done.stdout)
        self.assertEqual(done.stdout.count("client reads: hello"), 1 + isRoot)
        self.assertIn("as nobody:" if isRoot else "as ", done.stdout)
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def command(self, *arguments: str) -> Deferred:
        """
        Run a Python program to its end.
        """
        return deferToThread(
            subprocess.run,
            [sys.executable, *arguments],
            env=environment(),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )


def needs(program: str) -> str:
    """
    @return: why a test is skipped; empty where it is not.
    """
    return "" if shutil.which(program) else f"needs {program}"


class FrameworkTests(LiveTestCase):
    """
    Tests for the examples with Twisted's own frameworks, and real clients.
    """

    async def start(self, name: str) -> str:
        """
        @return: the address of an example's server, which listens.
        """
        address = os.path.join(self.directory, "app.sock")
        server = subprocess.Popen(
            [sys.executable, str(EXAMPLES / name), address],
            env=environment(),
            cwd=self.directory,
        )

        def stop() -> None:
            server.terminate()
            server.wait()

        self.addCleanup(stop)
        await self.until(lambda: self.listens(address))
        return address

    async def run_(self, *command: str, **options) -> str:
        """
        @return: what a program prints.
        """
        done = await deferToThread(
            subprocess.run,
            command,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            **options,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    async def curl(self, address: str, *arguments: str, uid: int | None = None) -> str:
        """
        @return: what curl gets, of another user perhaps.
        """
        other = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        return await self.run_(
            *("curl", "--silent", "--show-error", "--unix-socket", address),
            *arguments,
            **other,
        )

    @skipIf(needs("curl"), needs("curl"))
    async def test_login(self) -> None:
        """
        Visitors are logged in by the kernel's word; the log says who it was.
        """
        address = await self.start("login.py")
        url = "http://localhost/"
        self.assertEqual(await self.curl(address, url), "Hello, admin.\n")
        uids = [os.geteuid()]
        if isRoot:
            shown = await self.curl(address, url, uid=4_000_000_001)
            self.assertEqual(shown, "Hello, 4000000001.\n")
            shown = await self.curl(address, "--write-out", "%{http_code}", url)
            self.assertIn("200", shown)
            status = await self.curl(
                address,
                "--output",
                "/dev/null",
                "-w",
                "%{http_code}",
                url,
                uid=4 * 10**9,
            )
            self.assertEqual(status, "403")
            uids += [4_000_000_001, os.geteuid(), 4_000_000_000]
        path = Path(self.directory, "access.log")
        await self.until(lambda: len(path.read_text().splitlines()) == len(uids))
        lines = path.read_text().splitlines()
        self.assertEqual([int(line.split()[2]) for line in lines], uids)

    @skipIf(needs("curl"), needs("curl"))
    async def test_wsgi(self) -> None:
        """
        The application knows who it is, whatever his headers say; a proxy may
        speak for others.
        """
        address = await self.start("wsgi.py")
        claims = [
            *("-H", "X-Forwarded-For: 192.0.2.1", "-H", "Peercred-Uid: 7"),
            *("-H", "Remote-User: root", "-H", "PEERCRED_UID: 7"),
            "http://localhost/",
        ]
        shown = await self.curl(address, *claims)
        self.assertIn(f"(uid {os.geteuid()}) at 192.0.2.1", shown)
        if isRoot:
            shown = await self.curl(address, *claims, uid=4_000_000_001)
            self.assertEqual(shown, "4000000001 (uid 4000000001) at this machine\n")

    async def test_perspective(self) -> None:
        """
        A PB client is greeted by name.
        """
        address = await self.start("perspective.py")
        program = str(EXAMPLES / "perspective.py")
        said = await self.run_(
            sys.executable, program, address, "greet", env=environment()
        )
        self.assertEqual(said, f"Hello, {accountName(os.geteuid())}\n")

    async def test_calls(self) -> None:
        """
        An AMP responder knows who calls.
        """
        address = await self.start("calls.py")
        program = str(EXAMPLES / "calls.py")
        said = await self.run_(
            sys.executable, program, address, "ask", env=environment()
        )
        self.assertRegex(said, rf"^uid={os.geteuid()} pid=[1-9][0-9]*\n$")

    async def test_prompt(self) -> None:
        """
        The prompt of a program shows what it has.
        """
        terminal = Terminal(await self.start("prompt.py"))
        self.addCleanup(terminal.close)
        await self.until(lambda: terminal.shows(b">>> "))
        terminal.type(b"counter.count > 0\r")
        await self.until(lambda: terminal.shows(b"True"))
        terminal.type(b"\x04")
        await self.until(terminal.ended)
        self.assertTrue(terminal.isRestored())

    @skipIf(needs("systemd-socket-activate"), needs("systemd-socket-activate"))
    async def test_activated(self) -> None:
        """
        A server that systemd starts on the first connection knows it, and
        leaves the socket's file as it is.
        """
        address = os.path.join(self.directory, "app.sock")
        activator = subprocess.Popen(
            [
                *("systemd-socket-activate", f"--listen={address}", "--fdname=app"),
                *("--setenv=PYTHONPATH", sys.executable),
                str(EXAMPLES / "activated.py"),
            ],
            env=environment(),
            cwd=self.directory,
            stderr=subprocess.DEVNULL,
        )
        try:
            await self.until(lambda: os.path.exists(address))
            os.chmod(address, 0o600)
            said = await runClient(
                address,
                "while True:\n"
                "    try:\n"
                "        peer = connect()\n"
                "        break\n"
                "    except ConnectionRefusedError:\n"
                "        time.sleep(0.01)\n"
                "print(os.getpid(), readAll(peer).decode())",
            )
        finally:
            activator.terminate()
            activator.wait()
        pid, _, said = said.partition(" ")
        self.assertEqual(said.strip(), f"uid={os.geteuid()} pid={pid}")
        self.assertEqual(os.stat(address).st_mode & 0o777, 0o600)

    @skipIf(needs("curl") or noKlein, needs("curl") or noKlein)
    async def test_kleinsite(self) -> None:
        """
        klein works unchanged.
        """
        shown = await self.curl(await self.start("kleinsite.py"), "localhost/hello")
        self.assertIn(f"Hello, uid={os.geteuid()} ", shown)


class ReadmeTests(SynchronousTestCase):
    """
    Tests for the README.
    """

    def test_everyExampleIsRun(self) -> None:
        """
        No example is without a test.
        """
        names = {each.stem for each in EXAMPLES.glob("*.py")}
        names_ = [*dir(ExampleTests), *dir(FrameworkTests)]
        tests = {name[5:] for name in names_ if name.startswith("test_")}
        self.assertEqual(names - tests, set())

    def test_included(self) -> None:
        """
        What the documentation shows of an example is all of it but its
        docstring.
        """
        count = 0
        for page in HERE.glob("docs/*.rst"):
            shown = re.findall(
                r"literalinclude:: examples/(\w+\.py)\n +:lines: (\d+)-\n",
                page.read_text(),
            )
            for name, line in shown:
                count += 1
                example = (EXAMPLES / name).read_text()
                docstring = ast.parse(example).body[0].end_lineno
                rest = example.splitlines()[docstring:]
                first = next(n for n, text in enumerate(rest, docstring + 1) if text)
                self.assertEqual(int(line), first, f"{page.name}: {name}")
        self.assertGreater(count, 10)

    def test_python(self) -> None:
        """
        The Python of the README is the example that is run, line for line.
        """
        readme = (HERE / "README.rst").read_text()
        _, _, rest = readme.partition(".. code-block:: python\n\n")
        block = []
        for line in rest.splitlines():
            if line and not line.startswith("    "):
                break
            block.append(line[4:])
        example = (EXAMPLES / "whoareyou.py").read_text().rpartition('"""')[2]
        self.assertEqual(
            [line for line in block if line],
            [line for line in example.splitlines() if line],
        )
