"""
C{peercred attach}: a terminal for what speaks telnet on a Unix-domain socket,
the prompt of C{twistd peercred-manhole} above all.

The terminal is in raw mode meanwhile, so that every key reaches the server,
and as it was before on every way out.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from twisted.python import usage

from ..errors import PeerCredentialsError
from ..kernels import thisKernel
from ..policy import Policy
from . import CommandFailed, CommandOptions
from .telnet import Telnet

DETACH = b"\x1d"
END_OF_FILE = b"\x04"
#: Leaves what a line editor may have left on: insert mode, colours, a hidden
#: cursor (ECMA-48, xterm's ctlseqs).
RESET = b"\x1b[4l\x1b[m\x1b[?25h"

_ENDINGS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def windowSize(terminal: int) -> tuple[int, int] | None:
    """
    @return: columns and lines; L{None} for what is no window.
    """
    try:
        size = os.get_terminal_size(terminal)
    except OSError:
        return None
    return size.columns, size.lines


class _Ended(Exception):
    """
    A signal came that ends this.
    """


def _end(number: int, frame: FrameType | None) -> None:
    raise _Ended(number)


@contextmanager
def rawMode(terminal: int) -> Iterator[None]:
    """
    Raw mode, tcsetattr(3), until the block is left: by whatever exception, by
    a signal that ends a program, or for as long as it is stopped.
    """
    before = termios.tcgetattr(terminal)

    def restore() -> None:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)

    def stop(number: int, frame: FrameType | None) -> None:
        restore()
        os.kill(os.getpid(), signal.SIGSTOP)
        tty.setraw(terminal)

    with ExitStack() as stack:
        for number in (*_ENDINGS, signal.SIGTSTP):
            old = signal.signal(number, stop if number == signal.SIGTSTP else _end)
            stack.callback(signal.signal, number, old)
        # From here on a signal finds a way out that restores.
        stack.callback(restore)
        tty.setraw(terminal)
        yield


class Session:
    """
    A terminal, or a pipe, and a server.

    @param server: a connected socket.
    @param keys: a descriptor to read from.
    @param screen: a descriptor to write to.
    """

    def __init__(self, server: socket.socket, keys: int, screen: int) -> None:
        self._server = server
        self._keys = keys
        self._screen = screen
        self._telnet = Telnet(lambda: windowSize(screen))
        self.received = False

    def run(self) -> None:
        """
        Until the server closes, or the user leaves.
        """
        # A signal that comes while nothing is read wakes select(2).
        wakeIn, wakeOut = os.pipe()
        for descriptor in (wakeIn, wakeOut):
            os.set_blocking(descriptor, False)
        old = signal.signal(signal.SIGWINCH, lambda number, frame: None)
        oldWake = signal.set_wakeup_fd(wakeOut, warn_on_full_buffer=False)
        try:
            self._run(wakeIn)
        finally:
            signal.set_wakeup_fd(oldWake)
            signal.signal(signal.SIGWINCH, old)
            os.close(wakeIn)
            os.close(wakeOut)

    def _run(self, wake: int) -> None:
        watched: list[socket.socket | int] = [self._server, self._keys, wake]
        while True:
            ready, _, _ = select.select(watched, [], [])
            if wake in ready:
                os.read(wake, 1024)
                self._send(self._telnet.resized())
            if self._server in ready and not self._show():
                return
            if self._keys in ready:
                keys = os.read(self._keys, 1024)
                if not keys:
                    # A pipe has ended; what it asked for is still to be shown.
                    watched.remove(self._keys)
                    keys = END_OF_FILE
                before, detach, _ = keys.partition(DETACH)
                self._send(self._telnet.send(before))
                if detach and os.isatty(self._keys):
                    return

    def _show(self) -> bool:
        try:
            data = self._server.recv(65536)
        except ConnectionResetError:
            return False
        if not data:
            return False
        self.received = True
        shown, answer = self._telnet.receive(data)
        while shown:
            shown = shown[os.write(self._screen, shown) :]
        self._send(answer)
        return True

    def _send(self, data: bytes) -> None:
        if data:
            self._server.sendall(data)


class Options(CommandOptions):
    """
    What C{peercred attach} can be told.
    """

    words = "[options] PATH"
    optParameters = [
        [
            "server",
            "s",
            "self,root",
            "Who the server must be, as rules. Nothing is sent to anybody else.",
        ]
    ]
    example = """
Example; a prompt in one terminal, and its user in the other:

twistd -n peercred-manhole --endpoint unix:manhole.sock:mode=600
python -m twisted_peercred attach manhole.sock

Ctrl-] leaves, Ctrl-D on an empty line ends the prompt. A pipe works as well; what
comes out of it is meant for a terminal, colours and all:

echo '6 * 7' | python -m twisted_peercred attach manhole.sock
"""

    def parseArgs(self, *words: str) -> None:
        if len(words) != 1:
            raise usage.UsageError("which manhole? give one path; see --help")
        self["path"] = words[0]

    def run(self) -> int:
        """
        @raise CommandFailed: the server cannot be had, or is another's.

        @see: L{Command.run <twisted_peercred.commands.Command.run>}
        """
        with self._connect() as server:
            keys, screen = sys.stdin.fileno(), sys.stdout.fileno()
            session = Session(server, keys, screen)
            try:
                if os.isatty(keys):
                    try:
                        with rawMode(keys):
                            session.run()
                    finally:
                        os.write(screen, RESET + b"\r\n")
                else:
                    session.run()
            except _Ended as ending:
                # As the shell reports it.
                return 128 + int(ending.args[0])
            except BrokenPipeError:
                pass
            if not session.received:
                raise CommandFailed(
                    f"{self['path']}: the server closed the connection at once: it"
                    " may not be open to you"
                )
        return 0

    def _connect(self) -> socket.socket:
        path = self["path"]
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(path)
            peer = thisKernel().connectionCredentials(server)
            decision = Policy.fromString(self["server"]).decide(peer)
        except (OSError, PeerCredentialsError) as problem:
            server.close()
            why = problem.strerror if isinstance(problem, OSError) else problem
            raise CommandFailed(f"{path}: {why or problem}") from problem
        if not decision.admitted:
            server.close()
            raise CommandFailed(
                f"{path}: the server is {peer}, which is not --server {self['server']}"
            )
        return server
