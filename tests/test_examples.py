"""
Every example under docs/examples/ runs, and the README's are among them.
"""

import os
import subprocess
import sys
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from .support import LiveTestCase, RememberingFactory, environment, isRoot, runClient

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


class ReadmeTests(SynchronousTestCase):
    """
    Tests for the README.
    """

    def test_everyExampleIsRun(self) -> None:
        """
        No example is without a test.
        """
        names = {each.stem for each in EXAMPLES.glob("*.py")}
        tests = {name[5:] for name in dir(ExampleTests) if name.startswith("test_")}
        self.assertEqual(names - tests, set())

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
