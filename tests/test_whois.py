"""
Tests for L{twisted_peercred.commands.whois}, and for what it has in common with
other commands (L{twisted_peercred.commands.peers}).
"""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import CredentialsUnavailable, PeerCredentials
from twisted_peercred.__main__ import main
from twisted_peercred.commands import peers, whoami, whois

from .listeners import Listener
from .support import (
    FailingKernel,
    LiveTestCase,
    environment,
    isRoot,
    needsRoot,
    openDescriptors,
)

USER = (4711, 4712) if isRoot else (os.getuid(), os.getgid())


def hasPidfds() -> bool:
    """
    Whether this kernel has handles on the processes of sockets.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pidfd = whois.peerPidfd(ours)
        if pidfd is not None:
            os.close(pidfd)
    return pidfd is not None


class CommandTestCase(LiveTestCase):
    """
    Runs commands in this process.
    """

    def setUp(self) -> Deferred[None]:
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        ready = super().setUp()
        os.chmod(self.directory, 0o777)
        return ready

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """
        @return: status, standard output and standard error.
        """
        for name in ("stdout", "stderr"):
            stream = io.StringIO()
            self.patch(sys, name, stream)
            setattr(self, name, stream)
        status = await deferToThread(main, arguments)
        return status, self.stdout.getvalue(), self.stderr.getvalue()

    async def assertFails(self, line: str, *arguments: str) -> None:
        """
        A command fails with one line.
        """
        self.assertEqual(await self.command(*arguments), (1, "", f"peercred: {line}\n"))

    def path(self) -> str:
        """
        Where nothing is yet.
        """
        return tempfile.mktemp(dir=self.directory)

    async def listener(self, address: str, *arguments, **options) -> Listener:
        """
        A server that listens, under another user where that can be.
        """
        listener = Listener(self, address, USER, *arguments, **options)
        self.assertEqual(await listener.line(), "ready\n")
        return listener


class WhoisTests(CommandTestCase):
    """
    Tests for C{peercred whois}.
    """

    async def test_json(self) -> None:
        """
        All that the kernel and others know of a server, by path or abstract
        name, of a socket of each connected type; the server gets nothing.
        """
        for kind in ("stream", "seqpacket"):
            for address in (self.path(), "@peercred-" + os.urandom(8).hex()):
                server = await self.listener(address, kind)
                status, out, err = await self.command("whois", address, "--json")
                self.assertEqual((status, err), (0, ""))
                found = json.loads(out)
                _, gid = USER
                self.assertEqual(found["address"], address)
                self.assertEqual(found["type"], kind)
                self.assertEqual((found["uid"], found["gid"]), USER)
                if isRoot:
                    self.assertEqual(found["groups"], [gid, gid + 1])
                    self.assertEqual(found["groupNames"], [None, None])
                    self.assertIsNone(found["userName"])
                self.assertEqual(found["pid"], server.pid)
                self.assertTrue(found["command"].startswith(sys.executable))
                for name in set(found) - {"address", "type", "sources"}:
                    self.assertTrue(found["sources"][name], name)

    async def test_table(self) -> None:
        """
        For people it is a table of what, the value and where that is from.
        """
        address = self.path()
        server = await self.listener(address)
        status, out, err = await self.command("whois", address)
        self.assertEqual((status, err), (0, ""))
        lines = out.splitlines()
        self.assertEqual(
            [line.split()[0] for line in lines],
            ["address", "uid", "gid", "groups", "label", "pid", "command"],
        )
        self.assertIn(f"{USER[0]}", lines[1])
        self.assertTrue(
            lines[1].endswith("the kernel, at listen(2); the name service, now")
        )
        self.assertIn(str(server.pid), lines[5])
        # Aligned: the third column begins where it begins everywhere.
        column = lines[1].index("the kernel")
        for line, beginning in zip(
            lines,
            ("a ", "the k", "the k", "the k", "no sec", "the k", "/proc/"),
            strict=True,
        ):
            self.assertTrue(line[column:].startswith(beginning) or "label" in line)
        self.assertNotIn("\033", out)

    async def test_nothingIsSent(self) -> None:
        """
        The server sees a connection that opens and closes.
        """
        address = self.path()
        server = await self.listener(
            address,
            code='print("ready", flush=True)\npeer, _ = server.accept()\n'
            "print(repr(readAll(peer)), flush=True)\n",
        )
        await self.command("whois", address)
        self.assertEqual(await server.line(), "b''\n")

    @skipIf(needsRoot, needsRoot)
    async def test_activated(self) -> None:
        """
        Of a socket-activated server the activator is shown, which called
        listen(2), although another process under another user serves
        (THREATS K13).
        """
        address = self.path()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            os.chmod(address, 0o666)
            listening.listen(5)
            with subprocess.Popen(
                ["sleep", "60"],
                pass_fds=[listening.fileno()],
                user=4711,
                group=4712,
            ) as server:
                # It is the only one that has the socket now.
                listening.close()
                _, out, _ = await self.command("whois", "--json", address)
                server.kill()
        found = json.loads(out)
        self.assertEqual((found["uid"], found["gid"]), (0, 0))
        self.assertEqual(found["pid"], os.getpid())

    async def test_noProcess(self) -> None:
        """
        A process that has ended leaves its IDs, and no command: what /proc has
        may be another's by now, whether there is a process of that number or
        not.
        """
        address = self.path()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            pid = os.fork()
            if not pid:
                listening.listen(5)
                os._exit(0)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            before = openDescriptors()
            for reaped in (False, True):
                if reaped:
                    os.waitpid(pid, 0)
                _, out, _ = await self.command("whois", "--json", address)
                found = json.loads(out)
                self.assertEqual((found["uid"], found["pid"]), (os.getuid(), pid))
                if reaped or hasPidfds():
                    self.assertIsNone(found["command"])
            self.assertEqual(openDescriptors(), before)

    async def test_failures(self) -> None:
        """
        Whatever is wrong with an address is one line.
        """
        nothing, file, dgram, stale = (self.path() for _ in range(4))
        Path(file).write_text("")
        await self.listener(dgram, "dgram")
        server = await self.listener(stale)
        server.end()
        for address, why in (
            (nothing, "No such file or directory"),
            (file, "this is no socket"),
            (self.directory, "this is no socket"),
            (file + "/x", "Not a directory"),
            (stale, "nobody listens there"),
            ("@peercred-nobody", "nobody listens there"),
            (nothing + "\033", "No such file or directory"),
            ("@" + "x" * 200, "AF_UNIX path too long"),
            (
                dgram,
                "a datagram socket, which has no connections, and so no peer that"
                " the kernel could name",
            ),
        ):
            await self.assertFails(
                f"{peers.printable(address)}: {why}", "whois", address
            )

    async def test_usage(self) -> None:
        """
        So is what is wrong with the command.
        """
        await self.assertFails("which address? see --help", "whois")
        await self.assertFails(
            "option --nonsense not recognized", "whois", "--nonsense"
        )
        await self.assertFails("one address, not 2", "whois", "a", "b")
        await self.assertFails("one address, not 2", "whois", "a", "--json", "b")

    @skipIf(needsRoot, needsRoot)
    async def test_permission(self) -> None:
        """
        Who may not connect is told what it would take.
        """
        address = self.path()
        await self.listener(address)
        os.chmod(address, 0o600)
        os.seteuid(4999)
        try:
            problem = self.assertRaises(peers.CommandFailed, peers.connect, address)
        finally:
            os.seteuid(0)
        self.assertEqual(
            str(problem),
            f"{address}: permission denied: connecting takes write permission on"
            " the socket",
        )

    async def test_busy(self) -> None:
        """
        A server that accepts nobody is waited for, but not for ever.
        """
        self.patch(peers, "PATIENCE", 0.01)
        address = self.path()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(0)
            self.connect(address)
            await self.assertFails(
                f"{address}: it has accepted nobody for 0.01 seconds, and its queue is"
                " full",
                "whois",
                address,
            )

    async def test_unavailable(self) -> None:
        """
        A kernel that does not say is one line too.
        """
        address = self.path()
        await self.listener(address)
        self.patch(
            whois,
            "thisKernel",
            lambda: FailingKernel("connectionCredentials", CredentialsUnavailable("?")),
        )
        await self.assertFails(f"{address}: ?", "whois", address)


class UnknownTests(SynchronousTestCase):
    """
    Tests for what is not known of a server.
    """

    def test_unknown(self) -> None:
        """
        What the kernel does not say is said to be unknown, and why.
        """
        found = whois.Found(
            "a", "stream", PeerCredentials(uid=2**31, gid=2**31), None, "why"
        )
        self.assertEqual(found.asDict()["groupNames"], None)
        values = {name: value for name, value, _ in found.asRows()}
        self.assertEqual(
            values,
            {
                "address": "a",
                "uid": str(2**31),
                "gid": str(2**31),
                "groups": "unknown",
                "label": "none",
                "pid": "unknown",
                "command": "unknown",
            },
        )

    def test_label(self) -> None:
        """
        A label is shown as what is printable of it.
        """
        server = PeerCredentials(uid=0, gid=0, securityLabel=b"x\n")
        found = whois.Found("a", "stream", server, None, "why")
        rows = {name: rest for name, *rest in found.asRows()}
        self.assertEqual(rows["label"], ["x\\n", whois.SOCKET])
        self.assertEqual(found.asDict()["sources"]["securityLabel"], whois.SOCKET)

    def test_commands(self) -> None:
        """
        A command line is quoted; a process without one is in brackets; one
        that cannot be read is none.
        """
        proc = Path(self.mktemp())
        for pid, line in ((1, b"a b\0c\0"), (2, b"")):
            (proc / str(pid)).mkdir(parents=True)
            (proc / str(pid) / "cmdline").write_bytes(line)
            (proc / str(pid) / "comm").write_bytes(b"kthreadd\n")
        self.assertEqual(whois.readCommand(1, str(proc)), "'a b' c")
        self.assertEqual(whois.readCommand(2, str(proc)), "[kthreadd]")
        self.assertIsNone(whois.readCommand(3, str(proc)))

    def test_withoutPidfd(self) -> None:
        """
        Where the kernel has no handle on processes, the command may be of
        another process by now, and that is said; each architecture has its
        number.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        for machine in ("sparc64", "parisc"):
            self.patch(os, "uname", lambda: os.uname_result(("", "", "", "", machine)))
            self.assertIsNone(whois.peerPidfd(ours))
            command, source = whois.commandOf(ours, os.getpid())
            self.assertIn(os.path.basename(sys.executable), command)
            self.assertTrue(source.endswith("perhaps of another one by now"))
        self.patch(sys, "platform", "freebsd14")
        self.assertIsNone(whois.peerPidfd(ours))
        self.assertEqual(
            whois.commandOf(ours, 2**30), (None, f"/proc/{2**30} cannot be read")
        )

    def test_noPID(self) -> None:
        """
        Without a pid there is no command.
        """
        server = PeerCredentials(uid=0, gid=0)
        self.patch(whois, "connect", lambda address: (socket.socket(), "stream"))

        class Kernel:
            def connectionCredentials(self, sock):
                return server

        self.patch(whois, "thisKernel", Kernel)
        found = whois.find("a")
        self.assertEqual((found.server, found.command), (server, None))


class TableTests(SynchronousTestCase):
    """
    Tests for L{peers.table}.
    """

    ROWS = [("uid", "0(root)", "here"), ("command", "x\033[31m\n", "")]

    def test_plain(self) -> None:
        """
        Columns are aligned; nothing that a terminal would obey comes through.
        """
        self.assertEqual(
            peers.table(self.ROWS),
            "uid      0(root)      here\ncommand  x\\x1b[31m\\n",
        )

    def test_colour(self) -> None:
        """
        On a terminal it is coloured, unless somebody minds.
        """

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        self.patch(sys, "stdout", Terminal())
        self.patch(os, "environ", {})
        self.assertTrue(peers.table(self.ROWS).startswith("\033[1muid    \033[0m  "))
        self.patch(os, "environ", {"NO_COLOR": "1"})
        self.assertNotIn("\033", peers.table(self.ROWS))


class HelpTests(SynchronousTestCase):
    """
    Tests for the usage texts.
    """

    def test_example(self) -> None:
        """
        They teach by example.
        """
        for options in (whois.Options(), whoami.Options()):
            self.assertIn("\n$ peercred who", str(options))
        for name in ("whois", "whoami"):
            done = subprocess.run(
                [sys.executable, "-m", "twisted_peercred", name, "--help"],
                env=environment(),
                capture_output=True,
                text=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(
                done.stdout.startswith(f"Usage: peercred {name} ADDRESS [options]\n")
            )
            self.assertIn(f"\n$ peercred {name} /", done.stdout)
