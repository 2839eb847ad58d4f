"""
Tests for L{twisted_peercred.commands.attach}: its parts here, the command on a
pseudo-terminal in L{tests.test_manhole}.
"""

import io
import os
import pty
import shutil
import signal
import socket
import sys
import tempfile
import termios
from contextlib import contextmanager
from fcntl import ioctl
from struct import pack
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.__main__ import main
from twisted_peercred.commands import CommandFailed, attach
from twisted_peercred.commands.attach import Options, Session, rawMode, windowSize

from .support import needsRoot


class TerminalTestCase(SynchronousTestCase):
    """
    With a pseudo-terminal.
    """

    def setUp(self) -> None:
        self.master, self.slave = pty.openpty()
        self.addCleanup(os.close, self.master)
        self.addCleanup(os.close, self.slave)
        self.before = termios.tcgetattr(self.slave)

    def assertRestored(self) -> None:
        """
        The terminal is as it was.
        """
        self.assertEqual(termios.tcgetattr(self.slave), self.before)

    def assertRaw(self) -> None:
        """
        The terminal passes every key on.
        """
        local = termios.tcgetattr(self.slave)[3]
        self.assertEqual(local & (termios.ICANON | termios.ECHO | termios.ISIG), 0)


class RawModeTests(TerminalTestCase):
    """
    Tests for L{rawMode}.
    """

    def test_restored(self) -> None:
        """
        The terminal is as before when the block ends, or fails, and the
        signals are too.
        """
        handlers = [signal.getsignal(each) for each in attach._ENDINGS]
        with rawMode(self.slave):
            self.assertRaw()
        self.assertRestored()
        with self.assertRaises(ZeroDivisionError), rawMode(self.slave):
            raise ZeroDivisionError
        self.assertRestored()
        self.assertEqual([signal.getsignal(each) for each in attach._ENDINGS], handlers)

    def test_signals(self) -> None:
        """
        Each signal that ends a program ends the block, with all restored.
        """
        for number in attach._ENDINGS:
            with self.assertRaises(attach._Ended) as raised, rawMode(self.slave):
                os.kill(os.getpid(), number)
            self.assertEqual(raised.exception.args, (number,))
            self.assertRestored()

    def test_stopped(self) -> None:
        """
        While the process is stopped the terminal is the shell's.
        """
        kill, stopped = os.kill, []

        def stop(pid, number):
            self.assertRestored()
            stopped.append(number)

        with rawMode(self.slave):
            self.patch(os, "kill", stop)
            kill(os.getpid(), signal.SIGTSTP)
            self.assertEqual(stopped, [signal.SIGSTOP])
            self.assertRaw()
        self.assertRestored()

    def test_windowSize(self) -> None:
        """
        A terminal has a size, a file has none.
        """
        ioctl(self.slave, termios.TIOCSWINSZ, pack("HHHH", 30, 100, 0, 0))
        self.assertEqual(windowSize(self.slave), (100, 30))
        with open(os.devnull) as null:
            self.assertIsNone(windowSize(null.fileno()))


class SessionTests(TerminalTestCase):
    """
    Tests for L{Session}.
    """

    def setUp(self) -> None:
        super().setUp()
        self.server, self.client = socket.socketpair()
        self.addCleanup(self.server.close)
        self.addCleanup(self.client.close)
        self.keysOut, self.keysIn = os.pipe()
        self.screenOut, self.screenIn = os.pipe()
        for each in (self.keysOut, self.screenOut, self.screenIn):
            self.addCleanup(os.close, each)

    def test_pipe(self) -> None:
        """
        What is piped in is sent, then an end of file; what comes is shown
        until the server closes.
        """
        os.write(self.keysIn, b"6 * 7\n\x1d")
        os.close(self.keysIn)
        select_ = attach.select.select
        turns = []

        def select(*arguments):
            turns.append(1)
            if len(turns) == 3:
                self.server.send(b"42")
                self.server.shutdown(socket.SHUT_WR)
            return select_(*arguments)

        self.patch(attach.select, "select", select)
        session = Session(self.client, self.keysOut, self.screenIn)
        session.run()
        self.assertEqual(self.server.recv(100), b"6 * 7\n\x04")
        self.assertEqual(os.read(self.screenOut, 100), b"42")
        self.assertTrue(session.received)

    def test_detach(self) -> None:
        """
        Ctrl-] leaves, on a terminal; what was typed before it is sent.
        """
        os.close(self.keysIn)
        with rawMode(self.slave):
            os.write(self.master, b"1\x1d2")
            session = Session(self.client, self.slave, self.screenIn)
            session.run()
        self.assertEqual(self.server.recv(100), b"1")
        self.assertFalse(session.received)

    def test_winch(self) -> None:
        """
        A window that changes its size wakes the session, which tells the
        server if it asked for it.
        """
        os.close(self.keysIn)
        old = signal.getsignal(signal.SIGWINCH)
        session = Session(self.client, self.slave, self.slave)
        session._telnet._sendsSize = True
        select_ = attach.select.select
        turns = []

        def select(*arguments):
            turns.append(arguments)
            if len(turns) == 1:
                os.kill(os.getpid(), signal.SIGWINCH)
            elif len(turns) == 2:
                self.server.close()
            return select_(*arguments)

        self.patch(attach.select, "select", select)
        told = []
        self.patch(session._telnet, "resized", lambda: told.append(1) or b"")
        session.run()
        self.assertEqual(told, [1])
        self.assertIs(signal.getsignal(signal.SIGWINCH), old)

    def test_reset(self) -> None:
        """
        A server that resets the connection has closed it.
        """
        os.close(self.keysIn)
        self.client.send(b"unread")
        self.server.close()
        Session(self.client, self.slave, self.screenIn).run()


class CommandTests(TerminalTestCase):
    """
    Tests for the command.
    """

    def setUp(self) -> None:
        super().setUp()
        self.directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "s")
        self.listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listening.close)
        self.listening.bind(self.path)
        self.screen, screen = os.pipe()
        self.addCleanup(os.close, self.screen)
        self.output = os.fdopen(screen, "w")
        self.addCleanup(self.output.close)
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stdin", os.fdopen(os.dup(self.slave)))
        self.addCleanup(sys.stdin.close)

    def attach(self, *arguments: str) -> int:
        """
        Run the command.
        """
        options = Options()
        options.parseOptions([*arguments, self.path])
        return options.run()

    @contextmanager
    def listen(self, euid: int | None = None):
        """
        A server, maybe of another user.
        """
        if euid is not None:
            os.seteuid(euid)
        self.listening.listen()
        if euid is not None:
            os.seteuid(0)
        yield

    def serveOnce(self, serve) -> None:
        """
        Have the next connection served when the client has connected.
        """
        connect = Options._connect

        def connected(options):
            client = connect(options)
            server, _ = self.listening.accept()
            serve(server)
            server.close()
            return client

        self.patch(Options, "_connect", connected)

    def test_terminal(self) -> None:
        """
        What the server says is shown; the terminal is restored, and its modes
        are.
        """
        with self.listen():
            self.serveOnce(lambda server: server.send(b"hello"))
            self.assertEqual(self.attach(), 0)
        self.assertRestored()
        self.assertEqual(os.read(self.screen, 100), b"hello" + attach.RESET + b"\r\n")

    def test_piped(self) -> None:
        """
        Without a terminal there is none to restore.
        """
        with self.listen(), open(os.devnull) as null:
            self.patch(sys, "stdin", null)
            self.serveOnce(lambda server: server.send(b"hello"))
            self.assertEqual(self.attach(), 0)
        self.assertEqual(os.read(self.screen, 100), b"hello")

    def test_signal(self) -> None:
        """
        A signal ends it with the status of one.
        """
        with self.listen():
            self.serveOnce(lambda server: None)
            self.patch(Session, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
            self.assertEqual(self.attach(), 128 + signal.SIGTERM)
        self.assertRestored()

    def test_gone(self) -> None:
        """
        A server that goes while it is written to has gone.
        """

        def run(session) -> None:
            session.received = True
            raise BrokenPipeError

        with self.listen():
            self.serveOnce(lambda server: None)
            self.patch(Session, "run", run)
            self.assertEqual(self.attach(), 0)

    def test_refused(self) -> None:
        """
        A server that says nothing at all is told of in one line.
        """
        with self.listen():
            self.serveOnce(lambda server: None)
            with self.assertRaises(CommandFailed) as raised:
                self.attach()
        self.assertIn("may not be open to you", str(raised.exception))

    def test_cannotConnect(self) -> None:
        """
        A path without a server, and rules with a mistake, are one line.
        """
        with self.assertRaises(CommandFailed) as raised:
            self.attach()
        self.assertEqual(str(raised.exception), f"{self.path}: Connection refused")
        with self.listen(), self.assertRaises(CommandFailed) as raised:
            self.attach("--server", "rooot")
        self.assertIn("rooot", str(raised.exception))

    @skipIf(needsRoot, needsRoot)
    def test_otherServer(self) -> None:
        """
        A server of another user's gets not a byte (THREATS A9), unless it is
        the one that was meant.
        """
        os.chmod(self.directory, 0o711)
        with self.listen(1001):
            with self.assertRaises(CommandFailed) as raised:
                self.attach()
            self.assertIn("uid=1001", str(raised.exception))
            server, _ = self.listening.accept()
            with server:
                self.assertEqual(server.recv(100), b"")
            self.serveOnce(lambda server: server.send(b"x"))
            self.assertEqual(self.attach("--server", "uid/1001"), 0)

    def test_main(self) -> None:
        """
        It is one of the program's commands; its help shows how it is used.
        """
        self.patch(sys, "stdout", io.StringIO())
        self.patch(sys, "stderr", io.StringIO())
        with self.assertRaises(SystemExit):
            main(["attach", "--help"])
        self.assertIn("Ctrl-]", sys.stdout.getvalue())
        self.assertEqual(main(["attach"]), 1)
