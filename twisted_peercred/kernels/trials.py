"""
To try out what this process's kernel does, on a connection with itself.

Not on a socketpair(2): NetBSD, OpenBSD and macOS keep no credentials for a
pair, and what an accepted socket inherits from its listener is to be seen too.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnsupported
from . import Probe

if TYPE_CHECKING:
    from .base import BaseKernel

#: Seconds to wait for what a kernel ought to give at once.
PATIENCE = 5.0


@contextmanager
def connection(
    prepare: Callable[[socket.socket], None] | None = None,
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """
    An accepted socket, and the one that connected to it.  Nothing is left of
    them afterwards.

    @param prepare: what is to be done to the listener before it listens.
    @raise OSError: among other reasons, there is no directory for temporary
        files (C{TMPDIR}) in which a socket can be bound.
    """
    with (
        TemporaryDirectory(prefix="peercred") as directory,
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as theirs,
    ):
        address = os.path.join(directory, "s")
        if prepare is not None:
            prepare(listener)
        listener.bind(address)
        listener.listen(1)
        theirs.connect(address)
        ours, _ = listener.accept()
        with ours:
            # What was written is there at once, or never.
            ours.settimeout(PATIENCE)
            yield ours, theirs


def requireOurselves(known: PeerCredentials | None) -> None:
    """
    A connection of this process with itself must be this process's: if not,
    its kernel's structure is not the one that we know.

    @raise CredentialsUnsupported: it is somebody else's.
    """
    if known is None or (
        (known.uid, known.gid) != (os.geteuid(), os.getegid())
        or known.realUID not in (None, os.getuid())
        or known.realGID not in (None, os.getgid())
        or known.pid not in (None, os.getpid())
    ):
        raise CredentialsUnsupported(
            f"it took this process for {known}, so its structures are other ones"
            " than this package knows: please report it with the output of"
            " 'python -m twisted_peercred platform'"
        )


def peerProbe(name: str, kernel: BaseKernel) -> Probe:
    """
    To ask a kernel for connect-time credentials.
    """
    return Probe(name, lambda ours, _: str(kernel.connectionCredentials(ours)))


def messageProbe(
    name: str, kernel: BaseKernel, level: int = 0, option: int | None = None
) -> Probe:
    """
    To ask a kernel for the credentials of one message.

    @param option: what has to be set for it; L{None} for nothing.
    """

    def ask(ours: socket.socket, theirs: socket.socket) -> str:
        if option is None:
            stamped = kernel.credentialsToSend()
        else:
            ours.setsockopt(level, option, 1)
            stamped = []
        theirs.sendmsg([b"?"], stamped)
        return str(
            kernel.receiveMessage(ours, 1, False, Capture.FIRST_MESSAGE).credentials
        )

    return Probe(name, ask)
