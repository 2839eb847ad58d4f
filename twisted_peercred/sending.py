"""
Sending credentials: messages by which the kernel vouches for their sender.

Control messages travel with bytes, at least one: a message here is some bytes
of the stream that are sent by a sendmsg(2) of their own.  They wait in the
transport's own buffer, behind what was written before and ahead of what is
written later, so that producers, half-closing and C{loseConnection} do what
they always do.  What changes while any wait, and no longer, is how the buffer
is emptied: C{writeSomeData}, a public method, is replaced on that transport.

What C{sendFileDescriptor} does would not do: it sends a descriptor with
whatever bytes come next, and credentials say who wrote these very bytes.
"""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from twisted.internet import error, main, unix
from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from .connecting import unsentBytes
from .errors import CredentialsRejected, CredentialsUnsupported
from .kernels import Kernel, thisKernel

#: The word of a well-known recipe in C for sending credentials: its writer
#: sends C{int sync = 0x11223344} as it lies in memory, its reader takes
#: C{sizeof(int)} bytes.
SYNC_WORD = struct.pack("=i", 0x11223344)

#: sendmsg(2) for credentials that the sender may not use (EPERM), that are none
#: (EINVAL), or of a process that there is not (ESRCH).
REJECTIONS = (errno.EPERM, errno.EINVAL, errno.ESRCH)

ControlMessages: TypeAlias = "list[tuple[int, int, bytes]]"


@dataclass(eq=False)
class _Message:
    """
    Bytes to be sent with credentials.

    @ivar start: how many bytes are to be sent before it.
    @ivar end: how many, when all of it is sent.
    @ivar sent: what becomes of it; L{None} where without it the connection is
        worth nothing.
    """

    start: int
    end: int
    ancillary: ControlMessages
    claim: dict[str, int]
    sent: Deferred[None] | None = None
    begun: bool = field(default=False, init=False)


class _Outbox:
    """
    C{writeSomeData} of a transport, while messages wait.
    """

    def __init__(self, transport: unix.Server | unix.Client) -> None:
        self._transport = transport
        self._waiting: deque[_Message] = deque()
        self._writePlain = transport.writeSomeData
        self._connectionLost = transport.connectionLost
        transport.writeSomeData = self  # type: ignore[method-assign]
        transport.connectionLost = self._lost  # type: ignore[method-assign]

    def add(self, message: _Message) -> None:
        self._waiting.append(message)

    def clear(self) -> None:
        self._waiting.clear()
        del self._transport.writeSomeData, self._transport.connectionLost

    def __call__(self, data: bytes) -> int | Exception:
        """
        @see: L{twisted.internet.abstract.FileDescriptor.writeSomeData}
        """
        message = self._waiting[0]
        result: int | Exception
        if message.start > 0:
            result = self._writePlain(memoryview(data)[: message.start])
        else:
            result = self._write(message, memoryview(data)[: message.end])
        if isinstance(result, int):
            self._advance(result)
        return result

    def _write(self, message: _Message, data: memoryview) -> int | Exception:
        try:
            count = _send(self._transport, data, message.ancillary, message.claim)
        except CredentialsRejected as problem:
            if message.sent is None or message.begun:
                return problem
            self._tell(message, Failure(problem))
            # Its bytes, which are all here as they were written in one go, are
            # left out of the stream.
            return len(data)
        except OSError:
            return main.CONNECTION_LOST
        message.begun = message.begun or count > 0
        return count

    def _advance(self, count: int) -> None:
        for each in self._waiting:
            each.start = max(0, each.start - count)
            each.end -= count
        while self._waiting and self._waiting[0].end <= 0:
            self._tell(self._waiting.popleft(), None)
        if not self._waiting:
            self.clear()

    def _tell(self, message: _Message, result: Failure | None) -> None:
        """
        In a turn of its own: who is told may write, and in this one the
        transport is in the middle of that.
        """
        sent, message.sent = message.sent, None
        if sent is not None:
            reactor: Any = self._transport.reactor
            # A Failure is its errback.
            reactor.callLater(0, sent.callback, result)

    def _lost(self, reason: Failure) -> None:
        waiting = [each.sent for each in self._waiting if each.sent is not None]
        self.clear()
        self._connectionLost(reason)
        for each in waiting:
            each.errback(reason)


def _outboxOf(transport: unix.Server | unix.Client) -> _Outbox | None:
    outbox = vars(transport).get("writeSomeData")
    return outbox if isinstance(outbox, _Outbox) else None


def _send(
    transport: unix.Server | unix.Client,
    data: bytes | memoryview,
    ancillary: ControlMessages,
    claim: dict[str, int],
) -> int:
    """
    @return: how many bytes the kernel took.
    @raise CredentialsRejected: it took none, because of the credentials.
    """
    try:
        return transport.socket.sendmsg([data], ancillary)
    except OSError as problem:
        if problem.errno in (errno.EAGAIN, errno.ENOBUFS):
            return 0
        if problem.errno in REJECTIONS:
            raise CredentialsRejected(claim, problem.errno) from problem
        raise


def sendFirst(transport: unix.Client, data: bytes, ancillary: ControlMessages) -> None:
    """
    Send a message on a connection that is just being made.

    @param data: bytes of it; none to have the credentials go with the first
        byte that the protocol will write.
    @raise CredentialsRejected: the kernel does not vouch for the credentials.
    @raise ConnectError: it cannot be sent.
    """
    if not data:
        if ancillary:
            _Outbox(transport).add(_Message(0, 1, ancillary, {}))
        return
    try:
        count = _send(transport, data, ancillary, {})
    except OSError as problem:
        raise error.getConnectError(problem) from problem
    if count < len(data):
        raise error.ConnectError(
            errno.EMSGSIZE,
            f"the kernel took {count} of the sync word's {len(data)} bytes:"
            " that is too long for one message",
        )


def sendCredentials(
    transport: unix.Server | unix.Client,
    *,
    data: bytes = SYNC_WORD,
    pid: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
    kernel: Kernel | None = None,
) -> Deferred[None]:
    """
    Send a message by which the kernel vouches for its sender: after all bytes
    that were written before, and before all that are written later.  It is
    sent at once where none are waiting, with the privileges of the moment.

    What may be chosen is the kernel's rule.  Linux (unix(7)): the real, the
    effective or the saved ID of this process; another uid needs
    C{CAP_SETUID}, another gid C{CAP_SETGID}, the pid of another process
    C{CAP_SYS_ADMIN}.  The BSDs let nobody choose.

    @param transport: a Unix transport, of a client or a server, itself: no
        wrapper of it, and no TLS on it.
    @param data: the bytes that carry it, at least one, which the other end
        reads as part of the stream.
    @param pid: process to be named; this one, if L{None}.
    @param uid: user to be named; the real one, if L{None}.
    @param gid: group to be named; the real one, if L{None}.
    @return: fires with L{None} when the kernel has taken the message; with
        L{CredentialsRejected} when it does not vouch for these IDs: then
        nothing of the message is sent, and the connection goes on without it;
        with the reason for which the connection was lost before.
    @raise ValueError: no data, or a number that is no ID.
    @raise CredentialsUnsupported: this transport cannot, or on this kernel
        nobody may choose.
    """
    if not isinstance(transport, (unix.Server, unix.Client)) or transport.TLS:
        raise CredentialsUnsupported(
            "credentials are sent on a Unix transport itself, before any TLS on"
            f" it, not on {transport!r}"
        )
    if not data:
        raise ValueError("credentials travel with one byte of data or more")
    named = {"pid": pid, "uid": uid, "gid": gid}
    claim = {name: number for name, number in named.items() if number is not None}
    ancillary = (kernel or thisKernel()).credentialsToSend(**claim)
    if not transport.connected:
        return fail(error.ConnectionLost("the connection is gone already"))
    before, outbox, count = unsentBytes(transport), _outboxOf(transport), 0
    if not before:
        try:
            count = _send(transport, data, ancillary, claim)
        except CredentialsRejected as problem:
            return fail(problem)
        except OSError as problem:
            return fail(error.ConnectionLost(os.strerror(problem.errno or 0)))
        if outbox is not None:
            # Of sendFirst, and this goes before that.
            outbox.clear()
            outbox = None
        if count == len(data):
            return succeed(None)
    transport.write(data[count:])
    sent: Deferred[None] = Deferred()
    message = _Message(before, unsentBytes(transport), ancillary, claim, sent)
    message.begun = count > 0
    if outbox is None:
        outbox = _Outbox(transport)
    outbox.add(message)
    return sent
