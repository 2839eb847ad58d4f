"""
What a server does the same on every kernel but Linux.

The kernels that came from BSD keep a message as a record of the queue: its
control messages first, then its bytes.  A read ends where the next control
message begins, C{MSG_PEEK} leaves both where they are, and a read without
room for control messages discards them.  So whoever peeks at one byte has
exactly the credentials of the byte that is next.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from itertools import takewhile
from typing import TypeAlias

from ..credentials import Capture, PeerCredentials
from ..errors import (
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerCredentialsError,
)
from . import Message, Probe, closeAll
from .trials import connection, requireOurselves

#: What recvmsg(2) and sendmsg(2) of Python's take and give beside the bytes.
Control: TypeAlias = tuple[int, int, bytes]

#: Bytes of room for control messages: more than any of these kernels puts into
#: one message (MCLBYTES, or a page), in a peek as pointers twice as long.
ROOM = 16384
#: Bytes of room for an answer of getsockopt(2): more than any has, so that a
#: longer structure than the one known is seen, not cut.
ANSWER_ROOM = 256


class BaseKernel:
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>} that vouches for nobody: a
    parent for those that do.

    @cvar name: what people call it.
    @cvar solSocket: C{SOL_SOCKET}.
    @cvar scmRights: type of the control message with descriptors.
    @ivar scmCredentials: type of the one with credentials.
    """

    name = ""
    solSocket = 0xFFFF
    scmRights = 1
    scmCredentials: int | None = None

    def lacks(self, capture: Capture) -> str | None:
        """
        Why this kernel cannot do a capture; L{None} if it can.
        """
        if capture is Capture.CONNECT:
            return None
        return "it stamps no message with its sender's credentials"

    def decodeMessage(self, data: bytes, capture: Capture) -> PeerCredentials:
        """
        The value of a control message of type C{scmCredentials}.

        @raise CredentialsUnavailable: it is nobody.
        """
        raise CredentialsUnavailable(f"{self.name} has no such control message")

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        raise CredentialsUnavailable(f"{self.name} does not tell")

    def probes(self) -> Sequence[Probe]:
        return ()

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[Control]:
        """
        Control messages that make the kernel vouch for a sender; none where it
        needs none, or could not be made to.

        @raise CredentialsUnsupported: IDs were chosen, which Linux alone lets
            a sender do.
        """
        if (pid, uid, gid) != (None, None, None):
            raise CredentialsUnsupported(
                f"{self.name} lets no sender choose the credentials that it is"
                " known by: leave pid, uid and gid out"
            )
        return []

    def checkCapture(self, capture: Capture) -> None:
        prepare = None if capture is Capture.CONNECT else self.askForMessages
        try:
            with connection(prepare) as (ours, theirs):
                # Now, for the answer may depend on what askForMessages found.
                lack = self.lacks(capture)
                if lack is not None:
                    raise CredentialsUnsupported(lack)
                requireOurselves(self.connectionCredentials(ours))
                if capture is not Capture.CONNECT:
                    theirs.sendmsg([b"?"], self.credentialsToSend())
                    for message in (
                        self.peekMessage(ours, capture),
                        self.receiveMessage(ours, 2, False, capture),
                    ):
                        requireOurselves(message.credentials)
                if capture is Capture.EVERY_MESSAGE:
                    self.tryEveryMessage(ours, theirs)
        except (OSError, PeerCredentialsError) as error:
            system = os.uname()
            weaker = takewhile(lambda each: each is not capture, Capture)
            instead = " or ".join(
                f"Capture.{each.name}" for each in weaker if self.lacks(each) is None
            )
            advice = f"use {instead}" if instead else "look for a jail or a sandbox"
            raise CredentialsUnsupported(
                f"{self.name} {system.release} ({system.machine}) does not give"
                f" credentials at {capture.value} to this process: {error}; {advice}"
            ) from error

    def tryEveryMessage(self, ours: socket.socket, theirs: socket.socket) -> None:
        """
        Try, on a connection whose messages are stamped, whether there is a way
        around the stamp.

        @raise CredentialsUnsupported: there is.
        """

    def askForMessages(self, sock: socket.socket) -> None:
        raise CredentialsUnsupported(self.lacks(Capture.FIRST_MESSAGE) or self.name)

    def setDescriptorsWanted(self, sock: socket.socket, wanted: bool) -> None:
        """
        Nothing: these kernels let any sender send descriptors.
        """

    def peekMessage(self, sock: socket.socket, capture: Capture) -> Message:
        data, ancillary, flags, _ = sock.recvmsg(1, ROOM, socket.MSG_PEEK)
        # Descriptors are not installed by a peek: what stands in their place is
        # the kernel's own pointers, and closing those "descriptors" would
        # close our own files.
        return Message(data, self._writer(sock, data, ancillary, flags, capture), [])

    def receiveMessage(
        self,
        sock: socket.socket,
        size: int,
        descriptors: bool,
        capture: Capture | None,
    ) -> Message:
        data, ancillary, flags, _ = sock.recvmsg(size, ROOM)
        received = self._descriptors(ancillary)
        try:
            writer = self._writer(sock, data, ancillary, flags, capture)
        except PeerCredentialsError:
            closeAll(received)
            raise
        if not descriptors:
            closeAll(received)
            received = []
        return Message(data, writer, received)

    def _descriptors(self, ancillary: Sequence[Control]) -> list[int]:
        descriptors: list[int] = []
        for level, kind, payload in ancillary:
            if (level, kind) == (self.solSocket, self.scmRights):
                # A truncated one may end within an int.
                count = len(payload) // 4
                descriptors.extend(struct.unpack(f"={count}i", payload[: 4 * count]))
        return descriptors

    def _writer(
        self,
        sock: socket.socket,
        data: bytes,
        ancillary: Sequence[Control],
        flags: int,
        capture: Capture | None,
    ) -> PeerCredentials | None:
        """
        Who wrote C{data}.
        """
        if flags & socket.MSG_CTRUNC:
            raise CredentialsTruncated(
                "control messages were lost: too many were sent, or this process"
                " has too many files open"
            )
        if capture is None or not data:
            # The end of the stream, or a message of control data alone, which
            # cannot be told from it.
            return None
        found = {
            payload
            for level, kind, payload in ancillary
            if (level, kind) == (self.solSocket, self.scmCredentials)
        }
        if not found:
            return self._unstamped(sock)
        if len(found) > 1:
            raise CredentialsUnavailable("contradicting credentials came together")
        return self.decodeMessage(found.pop(), capture)

    def _unstamped(self, sock: socket.socket) -> PeerCredentials:
        """
        Who wrote bytes that came without credentials.
        """
        raise CredentialsUnavailable(
            "a message came without credentials: it was written before the kernel"
            " was asked to stamp messages, or its sender was to attach them"
        )
