"""
Which kernel is this, and what all of them have in common.

One module a kernel.  Each has pure decoders, from bytes to values, and one
class with the few calls that a server makes: L{Kernel} is their common form.
Nothing below this package imports anything of Twisted's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from socket import socket
from typing import NamedTuple, Protocol, cast

from ..credentials import Capture, PeerCredentials
from ..errors import PeerCredentialsError


class Message(NamedTuple):
    """
    One read of a connection.

    @ivar data: the bytes; empty at the end of the stream.
    @ivar credentials: who wrote them; L{None} at the end of the stream.
    @ivar descriptors: open files that came with them, for the caller to use
        or to close.
    @ivar process: where it was asked for (L{twisted_peercred.kernels.stamping}),
        a handle on the process that wrote them, for the caller to use or to
        close; or the negative of the error number for which there is none.
    """

    data: bytes
    credentials: PeerCredentials | None
    descriptors: list[int]
    process: int | None = None

    def drop(self) -> None:
        """
        Close all that came with it.
        """
        closeAll([*self.descriptors, self.process])


class Probe(NamedTuple):
    """
    One thing that a kernel can be asked, for a report on it.

    @ivar name: what the manual pages call it.
    @ivar ask: ask it of a connection's two ends that nothing else is done
        with; returns what it gave, or raises what a L{Kernel} raises.
    """

    name: str
    ask: Callable[[socket, socket], str]


class Datagram(NamedTuple):
    """
    One datagram.

    @ivar data: its bytes, of which there may be none.
    @ivar address: where to answer, as Python's recvmsg(2) gives it; L{None} for
        a sender that has no address.
    @ivar credentials: who sent it, or why that is not known, or not all of it
        is here.
    @ivar process: as of a L{Message}; L{None} where C{credentials} is no good.
    """

    data: bytes
    address: str | bytes | None
    credentials: PeerCredentials | PeerCredentialsError
    process: int | None = None


class Kernel(Protocol):
    """
    What a server asks of a kernel.  Calls that would block raise
    L{BlockingIOError}; other errors of the socket are L{OSError}s; what is
    said about a peer, or is not, raises the types of L{twisted_peercred.errors}.
    """

    def checkCapture(self, capture: Capture) -> None:
        """
        Try on sockets of our own what C{capture} needs.

        @raise CredentialsUnsupported: it is not to be had here.
        """

    def probes(self) -> Sequence[Probe]:
        """
        Whatever of this kernel's is made use of here, to be tried one by one.
        """

    def askForMessages(self, sock: socket) -> None:
        """
        From now on the kernel stamps what is written to C{sock}, or to the
        connections it accepts, with the writer's IDs.
        """

    def setDescriptorsWanted(self, sock: socket, wanted: bool) -> None:
        """
        Have the kernel refuse descriptors for C{sock}, or for the connections
        it accepts, at the sender, or let them pass again; nothing where it
        cannot.
        """

    def connectionCredentials(self, sock: socket) -> PeerCredentials:
        """
        The connect-time credentials of the peer of a connected Unix-domain
        socket.

        @raise CredentialsUnavailable: the kernel does not say who it is.
        """

    def peekMessage(self, sock: socket, capture: Capture) -> Message:
        """
        Who wrote the bytes that are next, leaving every byte and descriptor
        where it is.
        """

    def receiveMessage(
        self, sock: socket, size: int, descriptors: bool, capture: Capture | None
    ) -> Message:
        """
        Take the bytes that are next.

        @param size: bytes to take, at most.
        @param descriptors: whether to receive the descriptors sent with them.
        @param capture: what the credentials are to be marked as; L{None} where
            they were not asked for.
        @raise CredentialsTruncated: some of what was sent is lost.
        """

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[tuple[int, int, bytes]]:
        """
        The control messages (level, type, payload) by which the kernel vouches
        for the sender of the message that they go with; none where it does so
        by itself, or at connect-time alone.

        @param pid: the process to name; this one, if L{None}.
        @param uid: the user to name; this process's real one, if L{None}.
        @param gid: the group to name; this process's real one, if L{None}.
        @raise ValueError: a number that is no ID.
        @raise CredentialsUnsupported: an ID was chosen, and here the kernel lets
            nobody choose.
        """


def closeAll(descriptors: Iterable[int | None]) -> None:
    """
    Close what was received and is not wanted.  What is none, or stands for an
    error by being negative, is passed over.
    """
    for descriptor in descriptors:
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)


#: Where the kernel of a C{sys.platform} is, by how that begins.
PLATFORMS = (
    ("linux", "linux", "Linux"),
    ("android", "linux", "Linux"),
    ("freebsd", "freebsd", "FreeBSD"),
    ("netbsd", "netbsd", "NetBSD"),
    ("openbsd", "openbsd", "OpenBSD"),
    ("dragonfly", "dragonfly", "DragonFly"),
    ("darwin", "darwin", "Darwin"),
    ("ios", "darwin", "Darwin"),
    ("sunos", "illumos", "Illumos"),
    ("aix", "aix", "AIX"),
    # Any other, by what its libc says.
    ("", "posix", "Posix"),
)


@cache
def thisKernel() -> Kernel:
    """
    The kernel that this process runs on.

    @raise CredentialsUnsupported: it is none that this package knows, and its
        libc does not tell who a peer is.
    """
    module, name = next(
        found for start, *found in PLATFORMS if sys.platform.startswith(start)
    )
    kernel = getattr(import_module(f".{module}", __name__), name)
    return cast(Kernel, kernel())
