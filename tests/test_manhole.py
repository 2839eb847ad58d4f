"""
Tests for L{twisted_peercred.manhole}, with real clients: C{peercred attach} on
a pseudo-terminal, and a bare socket in place of C{nc -U}.
"""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from unittest import skipIf

from twisted.application.service import IServiceMaker
from twisted.internet import reactor
from twisted.internet.defer import fail
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.manhole import (
    SOCKET_NAME,
    EndpointService,
    ManholeFactory,
    Options,
    makeService,
    manholeEndpoint,
)
from twisted_peercred.starting import CannotStart, defaultEndpoint

from .support import LiveTestCase, environment, needsRoot, runClient


class Terminal:
    """
    C{peercred attach} on a pseudo-terminal.
    """

    def __init__(self, address: str, columns: int = 80, lines: int = 24) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self.slave)
        os.set_blocking(self.master, False)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "twisted_peercred", "attach", address],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=environment(),
            start_new_session=True,
        )
        self.shown = b""

    def resize(self, columns: int, lines: int) -> None:
        """
        What a terminal does when its window is resized.
        """
        size = struct.pack("HHHH", lines, columns, 0, 0)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, size)

    def isRaw(self) -> bool:
        """
        Whether every key reaches the program.
        """
        local = termios.tcgetattr(self.slave)[3]
        return not local & (termios.ICANON | termios.ECHO | termios.ISIG)

    def isRestored(self) -> bool:
        """
        Whether the terminal is as it was.
        """
        return termios.tcgetattr(self.slave) == self.before

    def shows(self, text: bytes) -> bool:
        """
        Whether a text has been written to the terminal.
        """
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self.master, 65536)
        return text in self.shown

    def type(self, keys: bytes) -> None:
        """
        Press keys; what was shown before is forgotten.
        """
        self.shown = b""
        os.write(self.master, keys)

    def ended(self) -> bool:
        """
        Whether the program has come to an end.
        """
        self.shows(b"")
        return self.process.poll() is not None

    def close(self) -> None:
        """
        Give all back.
        """
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class ManholeTests(LiveTestCase):
    """
    Tests for the prompt.
    """

    async def start(self, **namespace) -> str:
        """
        @return: the address.
        """
        self.factory = ManholeFactory(namespace)
        self.factory.noisy = False
        address = os.path.join(self.directory, "m")
        endpoint = UNIXServerEndpoint(reactor, address, mode=0o666)
        self.port = await manholeEndpoint(endpoint).listen(self.factory)
        self.adoptPort(self.port)
        return address

    async def attach(self, address: str, *size: int) -> Terminal:
        """
        @return: a terminal with a prompt on it.
        """
        terminal = Terminal(address, *size)
        self.addCleanup(terminal.close)
        await self.until(lambda: terminal.shows(b">>> ") or terminal.ended())
        self.assertTrue(terminal.shows(b">>> "), terminal.shown)
        return terminal

    async def ended(self, terminal: Terminal) -> None:
        """
        The program ends, and the terminal is as it was.
        """
        await self.until(terminal.ended)
        self.assertTrue(terminal.isRestored())

    async def test_prompt(self) -> None:
        """
        No password; Python with the names it was given, history by the arrow
        keys, and colours; Ctrl-D ends it, with the terminal as it was.
        """
        terminal = await self.attach(await self.start(answer=42))
        self.assertTrue(terminal.isRaw())
        terminal.type(b"answer + 1\r")
        await self.until(lambda: terminal.shows(b"\n43"))
        await self.until(lambda: terminal.shows(b">>> "))
        terminal.type(b"'col' + 'our'\r")
        await self.until(lambda: terminal.shows(b"colour'"))
        # Something is in a colour, by ECMA-48.
        self.assertRegex(terminal.shown, rb"\x1b\[3[1-7]m")
        terminal.type(b"\x1b[A\x1b[A\r")
        await self.until(lambda: terminal.shows(b"\n43"))
        terminal.type(b"\x04")
        await self.ended(terminal)
        self.assertEqual(terminal.process.returncode, 0)
        (attached,) = [each for each in self.events if each.get("what") == "attached"]
        self.assertEqual(attached["peer"].pid, terminal.process.pid)

    async def test_windowSize(self) -> None:
        """
        The prompt knows the window's size, and is told when it changes.
        """
        sizes = []
        address = await self.start()
        make = self.factory.protocol

        def protocol():
            made = make()
            factory = made.protocolFactory

            def bootstrap(*arguments):
                inner = factory(*arguments)
                naws = inner.telnet_NAWS
                inner.telnet_NAWS = lambda data: (
                    sizes.append(struct.unpack("!HH", b"".join(data))) or naws(data)
                )
                return inner

            made.protocolFactory = bootstrap
            return made

        self.factory.protocol = protocol
        terminal = await self.attach(address, 100, 30)
        await self.until(lambda: sizes == [(100, 30)])
        terminal.resize(120, 40)
        terminal.process.send_signal(signal.SIGWINCH)
        await self.until(lambda: sizes[1:] == [(120, 40)])

    async def test_everyWayOut(self) -> None:
        """
        The terminal is as it was after Ctrl-], after each signal that ends a
        program, and when the server is gone.
        """
        address = await self.start()
        terminal = await self.attach(address)
        terminal.type(b"\x1d")
        await self.ended(terminal)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            terminal = await self.attach(address)
            self.assertTrue(terminal.isRaw())
            terminal.process.send_signal(number)
            await self.ended(terminal)
            self.assertEqual(terminal.process.returncode, 128 + number)
        terminal = await self.attach(address)
        for reader in reactor.getReaders():
            if getattr(reader, "server", None) is self.port:
                reader.abortConnection()
        await self.ended(terminal)

    async def test_stopped(self) -> None:
        """
        The shell has its terminal while the program is stopped, and the
        program has it afterwards.
        """
        terminal = await self.attach(await self.start())
        terminal.process.send_signal(signal.SIGTSTP)
        await self.until(terminal.isRestored)
        terminal.process.send_signal(signal.SIGCONT)
        await self.until(terminal.isRaw)
        terminal.type(b"6 * 7\r")
        await self.until(lambda: terminal.shows(b"42"))

    async def test_plainClient(self) -> None:
        """
        A client that knows nothing of telnet, as C{nc -U} is, gets along.
        """
        peer = self.connect(await self.start())
        peer.sendall(b"6 * 7\n\x04")
        self.assertIn(b"42\r", await self.closed(peer))

    @skipIf(needsRoot, needsRoot)
    async def test_others(self) -> None:
        """
        Another user is not let in, though the file would let him connect.
        """
        said = await runClient(
            await self.start(), "become(1000, 1000)\nprint(readAll(connect()))"
        )
        self.assertEqual(said.strip(), "b''")
        self.assertEqual(len(self.refusals()), 1)
        self.assertFalse(
            [each for each in self.events if each.get("what") == "attached"]
        )


class ServiceTests(LiveTestCase):
    """
    Tests for C{twistd peercred-manhole}.
    """

    def test_plugin(self) -> None:
        """
        twistd finds it.
        """
        names = [each.tapname for each in getPlugins(IServiceMaker)]
        self.assertEqual(names.count("peercred-manhole"), 1)

    async def test_twistd(self) -> None:
        """
        The program runs, lets its user in, and leaves nothing.
        """
        address = os.path.join(self.directory, "m.sock")
        program = ["-c", "from twisted.scripts.twistd import run; run()"]
        program += ["-n", "--pidfile=", "peercred-manhole"]
        server = subprocess.Popen(
            [sys.executable, *program, "--endpoint", f"unix:{address}:mode=600"],
            env=environment(),
            cwd=self.directory,
            stdout=subprocess.PIPE,
        )
        try:
            await self.until(lambda: self.listens(address) or server.poll() is not None)
            terminal = Terminal(address)
            self.addCleanup(terminal.close)
            await self.until(lambda: terminal.shows(b">>> "))
        finally:
            server.terminate()
            server.communicate()
        await self.until(terminal.ended)
        self.assertFalse(os.path.exists(address))

    async def test_service(self) -> None:
        """
        It listens when it starts, and is closed when it stops.
        """
        address = os.path.join(self.directory, "m")
        options = Options()
        options.parseOptions(["--endpoint", f"unix:{address}:mode=600"])
        for privileged in (True, False):
            service = makeService(options)
            if privileged:
                service.privilegedStartService()
            service.startService()
            self.assertEqual(os.stat(address).st_mode & 0o777, 0o600)
            await service.stopService()
            self.assertFalse(os.path.exists(address))
            await service.stopService()

    def test_cannotListen(self) -> None:
        """
        Where it cannot listen, it says so in one line.
        """

        class Endpoint:
            def listen(self, factory):
                return fail(CannotListenError(None, "p", OSError(13, "why")))

        service = EndpointService(Endpoint(), None)
        self.assertRaises(CannotListenError, service.privilegedStartService)

    def test_badEndpoint(self) -> None:
        """
        So where the endpoint makes no sense.
        """
        options = Options()
        options.parseOptions(["--endpoint", "nonsense:x"])
        with self.assertRaises(CannotStart) as raised:
            makeService(options)
        self.assertIn("peercred-manhole: cannot listen on", str(raised.exception))

    def test_default(self) -> None:
        """
        Without an endpoint it is a socket for this user alone.
        """
        self.patch(os, "environ", {"XDG_RUNTIME_DIR": "/run/a:b"})
        options = Options()
        options.parseOptions([])
        self.assertEqual(options["endpoint"], f"unix:/run/a\\:b/{SOCKET_NAME}:mode=600")
        self.assertEqual(options["endpoint"], defaultEndpoint(SOCKET_NAME))
        self.assertRaises(UsageError, Options().parseOptions, ["--nonsense"])


class ExtraTests(SynchronousTestCase):
    """
    Tests without C{twisted.conch}.
    """

    def test_noConch(self) -> None:
        """
        Where it is missing, one line says what to install.
        """
        self.patch(sys, "modules", {**sys.modules, "twisted.conch": None})
        self.assertRaises(ImportError, ManholeFactory)
        options = Options()
        options.parseOptions([])
        with self.assertRaises(CannotStart) as raised:
            makeService(options)
        self.assertIn("pip install 'twisted_peercred[manhole]'", str(raised.exception))
        self.assertNotIn("\n", str(raised.exception))
