"""
Which kernel is this, and what all of them have in common.

One module a kernel.  Each has pure decoders, from bytes to values, and one
class with the few calls that a server makes: L{Kernel} is their common form.
Nothing below this package imports anything of Twisted's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache
from socket import socket
from typing import NamedTuple, Protocol

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnsupported


class Message(NamedTuple):
    """
    One read of a connection.

    @ivar data: the bytes; empty at the end of the stream.
    @ivar credentials: who wrote them; L{None} at the end of the stream.
    @ivar descriptors: open files that came with them, for the caller to use
        or to close.
    """

    data: bytes
    credentials: PeerCredentials | None
    descriptors: list[int]


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

    def askForMessages(self, sock: socket) -> None:
        """
        From now on the kernel stamps what is written to C{sock}, or to the
        connections it accepts, with the writer's IDs.
        """

    def setDescriptorsWanted(self, sock: socket, wanted: bool) -> None:
        """
        Have the kernel refuse descriptors for C{sock} at the sender, or let
        them pass again; nothing where it cannot.
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


def closeAll(descriptors: Iterable[int]) -> None:
    """
    Close what was received and is not wanted.
    """
    for descriptor in descriptors:
        os.close(descriptor)


@cache
def thisKernel() -> Kernel:
    """
    The kernel that this process runs on.

    @raise CredentialsUnsupported: it is none that this package knows.
    """
    if sys.platform == "linux":
        from .linux import Linux

        return Linux()
    raise CredentialsUnsupported(
        f"{sys.platform} is no platform that twisted_peercred knows; it knows Linux"
    )
