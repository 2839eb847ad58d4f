"""
Other kernels' answers on this one: what real kernels gave (C{vectors/}), and
connections on which they answer in Linux's place.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from twisted_peercred.kernels import closeAll

VECTORS = json.loads(
    (Path(__file__).parent / "vectors" / "bsd-kernels.json").read_text()
)
SOL_SOCKET = 0xFFFF


def cut(control: bytes) -> list[tuple[int, int, bytes]]:
    """
    The control messages of a buffer, by CMSG_NXTHDR of 64-bit BSD kernels: as
    Python's recvmsg gives them, each as long as its length says and the buffer
    has.
    """
    messages = []
    at = 0
    while len(control) - at >= 16:
        length, level, kind = struct.unpack_from("<Iii", control, at)
        messages.append(
            (level, kind, control[at + 16 : min(at + length, len(control))])
        )
        at += (length + 7) & ~7
    return messages


def vector(kernel: str, context: str, who: str = "client") -> bytes:
    """
    The bytes of a record.

    @param kernel: how its kernel's name begins; likewise C{context}.
    """
    (found,) = {
        each["hex"]
        for each in VECTORS
        if each["kernel"].startswith(kernel)
        and each["context"].startswith(context)
        and each["who"] == who
    }
    return bytes.fromhex(found)


def payload(kernel: str, context: str, who: str = "client") -> bytes:
    """
    What is in the control message of such a record.
    """
    ((_, _, data),) = cut(vector(kernel, context, who))
    return data


class Record(NamedTuple):
    """
    A message, as a BSD kernel keeps it.

    @ivar length: bytes of it; L{None}: all that come.
    @ivar control: the control messages that it begins with.
    @ivar flags: of the read that takes them.
    """

    length: int | None = None
    control: list[tuple[int, int, bytes]] = []
    flags: int = 0


class RecordedConnection:
    """
    A connection, or a listener, on which another kernel answers.  Bytes and
    descriptors are those of the real one.

    @param real: a Unix socket of this machine's.
    @param options: what getsockopt(2) answers, or what it and setsockopt(2)
        raise, by level and option; others are not known to this kernel.
    @param records: what is read from the connection.
    @param rights: type of the control message with descriptors.
    @param sets: where options that are set are noted.
    """

    def __init__(self, real, options, records, rights=1, sets=None):
        self._real = real
        self._options = options
        self._records = list(records)
        self._rights = rights
        self._taken = 0
        self.sets = [] if sets is None else sets

    def fileno(self) -> int:
        return self._real.fileno()

    def _answer(self, level, option):
        answer = self._options.get((level, option))
        if answer is None:
            answer = OSError(errno.ENOPROTOOPT, "ENOPROTOOPT")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def getsockopt(self, level, option, size=None):
        answer = self._answer(level, option)
        return answer if size is None else answer[:size]

    def setsockopt(self, level, option, value):
        self._answer(level, option)
        self.sets.append((level, option, value))

    def recvmsg(self, size, room, flags=0):
        if isinstance(self._records[0], Exception):
            raise self._records.pop(0)
        record = self._records[0]
        peek = flags & socket.MSG_PEEK
        if record.length is not None:
            size = min(size, record.length - self._taken)
        data, ancillary, _, address = self._real.recvmsg(size, 4096, flags)
        if not data:
            return b"", [], 0, address
        control = [] if self._taken else list(record.control)
        for _, _, payload in ancillary:
            if peek:
                # Linux has installed them; a BSD gives its own pointers: these
                # begin like the number of a file that is in use.
                descriptors = struct.unpack(f"{len(payload) // 4}i", payload)
                closeAll(descriptors)
                payload = struct.pack("<2I", self.fileno(), 0xFFFFF800) * (
                    len(descriptors)
                )
            control.append((SOL_SOCKET, self._rights, payload))
        if not peek:
            self._taken += len(data)
            if self._taken == record.length:
                self._taken = 0
                self._records.pop(0)
        return data, control, record.flags, address

    def sendmsg(self, buffers, ancillary=()):
        return self._real.sendmsg(buffers)


class RecordedKernel:
    """
    A kernel of another machine's, for the factory on this one: each socket
    that it is given is a L{RecordedConnection} to it.

    @param kernel: what is under test.
    @ivar sets: the options that were set, each with whether it was on a
        listener.
    """

    def __init__(self, kernel, options, records=()):
        self.kernel = kernel
        self.options = options
        self.records = records or [Record()]
        self.sets = []
        self._connections = {}

    def connectionOf(self, sock) -> RecordedConnection:
        """
        The socket that stands for a real one.
        """
        if sock not in self._connections:
            self._connections[sock] = RecordedConnection(
                sock, self.options, self.records, self.kernel.scmRights, self.sets
            )
        return self._connections[sock]

    def __getattr__(self, name):
        method = getattr(self.kernel, name)

        def call(sock, *arguments):
            return method(self.connectionOf(sock), *arguments)

        return call

    def checkCapture(self, capture):
        self.kernel.checkCapture(capture)

    @contextmanager
    def connection(self, prepare=None):
        """
        In place of L{twisted_peercred.kernels.connection.connection}.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            recorded = RecordedConnection(
                ours, self.options, self.records, self.kernel.scmRights
            )
            if prepare is not None:
                prepare(recorded)
            yield recorded, theirs
