"""
The sync word, in any pieces, by any writers, with descriptors or without.
"""

from __future__ import annotations

import os
import socket
from typing import Any, NamedTuple

from twisted.internet import unix
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerChanged,
    PeerCredentials,
    PeerRefused,
)
from twisted_peercred.kernels import Message

from .choices import Choices
from .messages import NULL, isOpen

WORD = b"\x11\x22\x33\x44"
CONNECTED = PeerCredentials(uid=7, gid=7, groups=(7,))


class Piece(NamedTuple):
    """
    Bytes that were written together; none: there are none yet.
    """

    data: bytes
    writer: int
    descriptors: int


class Pieces:
    """
    A kernel that gives pieces one after the other, each as far as there is room
    for it, and then the end of the stream.
    """

    def __init__(self, pieces: list[Piece]) -> None:
        self.left = list(pieces)
        self.opened: list[int] = []

    def checkCapture(self, capture: Capture) -> None:
        pass

    def askForMessages(self, sock: object) -> None:
        pass

    def setDescriptorsWanted(self, sock: object, wanted: bool) -> None:
        pass

    def connectionCredentials(self, sock: object) -> PeerCredentials:
        return CONNECTED

    def receiveMessage(
        self, sock: object, size: int, descriptors: bool, capture: Capture | None
    ) -> Message:
        if not self.left:
            return Message(b"", None, [])
        piece = self.left.pop(0)
        if not piece.data:
            raise BlockingIOError
        taken, rest = piece.data[:size], piece.data[size:]
        if rest:
            self.left.insert(0, Piece(rest, piece.writer, 0))
        opened = [os.dup(NULL) for _ in range(piece.descriptors)]
        self.opened += opened
        writer = None if capture is None else by(piece.writer, capture)
        return Message(taken, writer, opened)


def by(writer: int, capture: Capture) -> PeerCredentials:
    """
    One of some writers.
    """
    return PeerCredentials(uid=writer, gid=writer, capture=capture)


def expected(pieces: list[Piece], capture: Capture) -> tuple[str, bytes]:
    """
    What is to happen, byte by byte, and which bytes are left if it is the
    admission.
    """
    stream = [
        (each.data[at : at + 1], each.writer, each.descriptors if at == 0 else 0)
        for each in pieces
        for at in range(len(each.data))
    ]
    first = stream[0][1] if stream else 0
    at = 0
    for each in pieces:
        # All of a piece that is within the word comes at once.
        size = min(len(each.data), len(WORD) - at)
        if not size:
            continue
        if capture is not Capture.CONNECT and each.writer != first:
            return "changed", b""
        if each.descriptors or each.data[:size] != WORD[at : at + size]:
            return "refused", b""
        at += size
        if at == len(WORD):
            return "admitted", b"".join(data for data, _, _ in stream[at:])
    return "ended", b""


class Serving(Protocol):
    """
    Remembers that it was admitted.
    """

    def connectionMade(self) -> None:
        self.factory.made.append(IPeerCredentials(self.transport))  # type: ignore[union-attr]


def syncWord(data: bytes) -> None:
    """
    A connection is admitted, as who wrote the word, with every byte after the
    word left to be read; or refused with a typed error; or ended.  Which, an
    independent reading of the pieces says.  No descriptor is left open, no
    place taken, no delayed call under way.
    """
    choices = Choices(data)
    capture = choices.one(list(Capture))
    pieces = []
    at = 0
    while choices and len(pieces) < 12:
        size, writer, odd = choices.below(5), choices.below(8), choices.below(8)
        # Mostly the word goes on, by the same writer.
        content = WORD[at : at + size] if odd < 6 else choices.data(size)
        if odd < 6 and size > len(content):
            content += choices.data(size - len(content))
        at += len(content)
        pieces.append(
            Piece(
                content,
                1 if writer < 7 else 2,
                1 if odd == 5 and content else 0,
            )
        )
    kernel = Pieces(pieces)
    wrapped: Any = Factory.forProtocol(Serving)
    wrapped.made = []
    fake: Any = kernel
    factory = CredentialedUNIXServerFactory(
        wrapped, capture=capture, syncWord=WORD, kernel=fake
    )
    reactor: Any = MemoryReactorClock()
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        arrival: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport: Any = unix.Server(ours, arrival, None, None, 1, reactor)
        arrival.makeConnection(transport)
        # As a reactor does, while there is something to be read.
        while transport.connected and not wrapped.made:
            reason = transport.doRead()
            if reason is not None:
                transport.connectionLost(Failure(reason))
        left = b"".join(each.data for each in kernel.left)
        problems = [each["error"] for each in events if each.get("what") == "refused"]
        happened = (
            "admitted"
            if wrapped.made
            else "changed"
            if any(isinstance(each, PeerChanged) for each in problems)
            else "refused"
            if any(isinstance(each, PeerRefused) for each in problems)
            else "ended"
        )
        assert len(problems) == (happened in ("changed", "refused")), problems
        outcome = expected(pieces, capture)
        assert (happened, left if wrapped.made else b"") == outcome, (pieces, happened)
        if wrapped.made:
            writer = CONNECTED if capture is Capture.CONNECT else None
            first = next(each.writer for each in pieces if each.data)
            assert wrapped.made == [writer or by(first, capture)]
        assert not any(map(isOpen, kernel.opened)), "a descriptor is open"
        assert not len(factory._waiting), "a place is taken"
        assert not [
            each for each in reactor.getDelayedCalls() if each.func == arrival._expire
        ]
    finally:
        globalLogPublisher.removeObserver(events.append)
        for each in kernel.opened:
            if isOpen(each):
                os.close(each)
        ours.close()
        theirs.close()
