"""
What a kernel gives: control messages in any order, number, size and truncation,
and answers of getsockopt(2).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Any

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    PeerCredentials,
    PeerCredentialsError,
)
from twisted_peercred.kernels import Message, linux, procfs
from twisted_peercred.kernels.base import BaseKernel
from twisted_peercred.kernels.darwin import Darwin
from twisted_peercred.kernels.dragonfly import DragonFly
from twisted_peercred.kernels.freebsd import FreeBSD
from twisted_peercred.kernels.netbsd import NetBSD
from twisted_peercred.kernels.openbsd import OpenBSD
from twisted_peercred.kernels.stamping import StampingLinux

from ..structures import NO_ID, STRUCTURES
from .choices import Choices
from .decoders import readGroups, readUcred

BSDS = (FreeBSD, NetBSD, OpenBSD, DragonFly, Darwin)
CAPTURES = (None, Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)
#: To be copied: a descriptor that came with a message.
NULL = os.open(os.devnull, os.O_RDONLY)
FLAGS = (0, 0, socket.MSG_CTRUNC, socket.MSG_TRUNC, socket.MSG_CTRUNC | 0x40000000)
IDS = (0, 1, 1000, 65534, 2**31, NO_ID)


class Recorded:
    """
    A socket that gives one message after the other, or one answer.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self.message: Any = None
        self._answers = answers

    def fileno(self) -> int:
        return -1

    def setsockopt(self, level: int, option: int, value: object) -> None:
        pass

    def getsockopt(self, level: int, option: int, size: int | None = None) -> object:
        if not self._answers:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        answer = self._answers.pop(0)
        if size is None:
            return int.from_bytes(answer[:4], sys.byteorder, signed=True)
        return answer[:size]

    def recvmsg(self, size: int, room: int, flags: int = 0) -> Any:
        return self.message


def isOpen(descriptor: int) -> bool:
    """
    Whether it is.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class Controls:
    """
    Control messages.

    @ivar all: as recvmsg(2) of Python gives them.
    @ivar opened: the descriptors in them.
    @ivar stamps: the payloads that are credentials.
    """

    def __init__(self, choices: Choices, kinds: tuple[tuple[int, int], ...]) -> None:
        self.all: list[tuple[int, int, bytes]] = []
        self.opened: list[int] = []
        self.stamps: list[bytes] = []
        level, rights = kinds[0]
        for _ in range(choices.below(5)):
            what = choices.below(5)
            if what == 0:
                self.stamps.append(choices.sized(40))
                self.all.append((*kinds[1], self.stamps[-1]))
            elif what == 1:
                pid, uid, gid = choices.data(1), choices.one(IDS), choices.one(IDS)
                number = int.from_bytes(pid, "little") - 1
                self.stamps.append(struct.pack("=iII", number, uid, gid))
                self.all.append((*kinds[1], self.stamps[-1]))
            elif what == 2 or (what == 3 and len(kinds) > 2):
                # Within an int, where it was truncated.
                count, more = choices.below(4), choices.below(4)
                taken = [os.dup(NULL) for _ in range(count)]
                self.opened += taken
                payload = struct.pack(f"={count}i", *taken) + bytes(more)
                if what == 3 and not count:
                    payload = struct.pack("=i", -24) + bytes(more)
                self.all.append((*kinds[0 if what == 2 else 2], payload))
            else:
                odd = choices.one([(level + 1, rights), (level, 77), (41, 50)])
                self.all.append((*odd, choices.sized(16)))


def check(kept: list[int], controls: Controls) -> None:
    """
    The descriptors that are handed on are open, each once, and all others
    closed.
    """
    try:
        assert sorted(kept) == sorted(set(kept)), "a descriptor is there twice"
        assert set(kept) <= set(controls.opened), "a descriptor of somebody else's"
        for each in controls.opened:
            assert isOpen(each) == (each in kept), f"{each} of {controls.all}"
    finally:
        for each in controls.opened:
            if isOpen(each):
                os.close(each)


def handedOn(message: Message) -> list[int]:
    """
    The descriptors that the caller of a kernel has to close.
    """
    process = message.process
    return [
        *message.descriptors,
        *([process] if process is not None and process >= 0 else []),
    ]


def messages(
    choices: Choices, kinds: tuple[tuple[int, int], ...], calls: int
) -> Iterator[tuple[bool, Capture | None, int, int, bytes, Controls]]:
    """
    Up to 8 messages that a kernel is given, one after the other: whether
    descriptors are wanted of it, the capture, which of so many calls takes it,
    its flags, bytes and control messages.
    """
    for _ in range(8):
        if not choices:
            break
        yield (
            bool(choices.below(2)),
            choices.one(CAPTURES),
            choices.below(calls),
            choices.one(FLAGS),
            choices.sized(3),
            Controls(choices, kinds),
        )


def linuxMessages(data: bytes) -> None:
    """
    On Linux each message, looked at or taken, stream or datagram, is a
    L{PeerCredentialsError} that leaves no descriptor open, or says who the one
    stamp of it says, and hands on those descriptors that were asked for.
    """
    choices = Choices(data)
    kernel = choices.one((linux.Linux, StampingLinux))()
    sock: Any = Recorded([])
    solSocket = socket.SOL_SOCKET
    kinds = (
        (solSocket, socket.SCM_RIGHTS),
        (solSocket, linux.SCM_CREDENTIALS),
        (solSocket, linux.SCM_PIDFD),
    )
    for given in messages(choices, kinds, 3):
        wanted, capture, call, flags, content, controls = given
        sock.message = (content, list(controls.all), flags, None)
        writer: object = None
        kept: list[int] = []
        try:
            if call == 0:
                capture = capture or Capture.FIRST_MESSAGE
                message = kernel.peekMessage(sock, capture)
                assert not message.descriptors
            elif call == 1:
                message = kernel.receiveMessage(sock, 16, wanted, capture)
                assert wanted or not message.descriptors
                assert not (wanted and flags & socket.MSG_CTRUNC)
            else:
                capture = Capture.EVERY_MESSAGE
                datagram = kernel.receiveDatagram(sock, 16)
                writer = datagram.credentials
                assert datagram.data == content
                message = Message(content or b"?", None, [], datagram.process)
                if flags & socket.MSG_TRUNC:
                    assert isinstance(writer, PeerCredentialsError)
            if call != 2:
                writer = message.credentials
                assert message.data == content
            kept = handedOn(message)
            if call == 1 and wanted:
                assert len(message.descriptors) == sum(
                    len(payload) // 4
                    for level, kind, payload in controls.all
                    if (level, kind) == kinds[0]
                )
        except PeerCredentialsError:
            writer = None
        finally:
            check(kept, controls)
        if isinstance(writer, PeerCredentials):
            assert content or call == 2
            (stamp,) = set(controls.stamps)
            said = readUcred(stamp, "<" if sys.byteorder == "little" else ">")
            assert said is not None and said != (0, 0, 0)
            assert (writer.pid or 0, writer.uid, writer.gid) == said
            assert writer.capture is capture and writer.groups is None
        elif writer is None and kept and call == 1 and capture and content:
            raise AssertionError("descriptors of nobody")


def bsdMessages(data: bytes) -> None:
    """
    On the BSDs and Darwin each message is a L{PeerCredentialsError} that leaves
    no descriptor open, or hands on those that were asked for.  A look closes
    none: what is in it are no descriptors.
    """
    choices = Choices(data)
    made = choices.one(BSDS)
    kernel: BaseKernel = made()
    sock: Any = Recorded([])
    kinds = (
        (kernel.solSocket, kernel.scmRights),
        (kernel.solSocket, kernel.scmCredentials),
    )
    for given in messages(choices, kinds, 2):
        wanted, capture, looks, flags, content, controls = given
        sock.message = (content, list(controls.all), flags, None)
        kept: list[int] = []
        try:
            if looks:
                capture = capture or Capture.FIRST_MESSAGE
                kept = list(controls.opened)
                message = kernel.peekMessage(sock, capture)
                assert not handedOn(message)
            else:
                message = kernel.receiveMessage(sock, 16, wanted, capture)
                kept = handedOn(message)
                assert bool(kept) == bool(wanted and controls.opened)
            assert not flags & socket.MSG_CTRUNC
            assert message.data == content
            writer = message.credentials
            assert (writer is not None) == bool(content and capture)
            assert writer is None or len(set(controls.stamps)) <= 1
        except PeerCredentialsError:
            pass
        finally:
            check(kept, controls)


def answers(data: bytes) -> None:
    """
    Whatever a kernel answers about who connected is a
    L{PeerCredentialsError} or somebody, whose ID is an ID.
    """
    choices = Choices(data)
    kernel = choices.one((linux.Linux, *BSDS))()
    given = [choices.sized(128) for _ in range(choices.below(4))]
    sock: Any = Recorded(given)
    try:
        known = kernel.connectionCredentials(sock)
    except PeerCredentialsError:
        return
    assert known.capture is Capture.CONNECT
    assert NO_ID not in (known.uid, known.gid)
    assert known.groups is None or known.gid in known.groups
    assert known.pid is None or known.pid != 0


#: Decoders, and independent readers of the same.
PAIRS = (
    *((each.decode, each.read) for each in STRUCTURES.values()),
    (linux.decodeCredentials, readUcred),
    (lambda data, order: linux.decodeGroups(data, 5, order), readGroups),
)


def structures(data: bytes) -> None:
    """
    Each decoder says what an independent reader finds by the offsets in the
    headers, or L{CredentialsUnavailable}.
    """
    choices = Choices(data)
    decode, read = choices.one(PAIRS)
    order = choices.one("<>")
    given = choices.rest()
    known: object
    try:
        known = decode(given, order)
    except CredentialsUnavailable:
        known = None
    assert known == read(given, order), (decode, order, given, known)


def processes(data: bytes) -> None:
    """
    What users choose of a process, its name and its cgroup's, changes nothing
    else that proc(5) says of it.
    """
    name, _, cgroup = data.replace(b"\0", b"").partition(b"\n")
    # The kernel writes these two otherwise in status, and lets no cgroup have
    # a newline in its name.
    escaped = name.replace(b"\\", b"\\\\")
    status = procfs.decodeStatus(b"Name:\t" + escaped + b"\nUid:\t7\t8\t9\t10\n")
    assert list(status) == ["Name", "Uid"] and status["Uid"] == "7\t8\t9\t10"
    fields = b"4711 (" + data.replace(b"\0", b"") + b") S " + b"250 " * 49
    assert procfs.decodeExitStatus(fields) == 250
    path = b"/user.slice/" + cgroup.replace(b"\n", b"")
    shown = procfs.decodeCgroup(b"8:pids:" + path + b"\n0::" + path + b"\n")
    assert shown == os.fsdecode(path)
    unit = procfs.unitOf(shown)
    assert unit is None or unit in shown
    procfs.decodeCommandLine(data)
