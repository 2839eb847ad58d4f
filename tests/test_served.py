"""
The whole way of a connection, on a real Unix connection of this machine, with
every other kernel's answers in place of Linux's.
"""

import ctypes
import os
import socket
import struct
from typing import Any, NamedTuple

from twisted_peercred import (
    Capture,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerChanged,
    PeerRefused,
)
from twisted_peercred.kernels import base, freebsd
from twisted_peercred.kernels.darwin import Darwin
from twisted_peercred.kernels.dragonfly import DragonFly
from twisted_peercred.kernels.freebsd import FreeBSD
from twisted_peercred.kernels.illumos import Illumos
from twisted_peercred.kernels.netbsd import NetBSD
from twisted_peercred.kernels.openbsd import OpenBSD
from twisted_peercred.kernels.posix import Posix
from twisted_peercred.listening import StampedServer

from .recorded import SOL_SOCKET, Record, RecordedKernel, payload, vector
from .structures import STRUCTURES
from .support import LiveTestCase, Receiving, Remembering, flat, openDescriptors
from .test_illumos import Library as IllumosLibrary
from .test_illumos import ucred

FIRST = Capture.FIRST_MESSAGE
EVERY = Capture.EVERY_MESSAGE
SYNC = b"\x44\x33\x22\x11"
CREDS2 = "LOCAL_CREDS_PERSISTENT / option on accepted"


class PosixLibrary:
    """
    A C library that says uid 1002 of everybody who is connected.
    """

    @staticmethod
    def getpeereid(descriptor, uid, gid):
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            try:
                sock.getpeername()
            except OSError as error:
                ctypes.set_errno(error.errno)
                return -1
        uid[0], gid[0] = 1002, 2002
        return 0


class Machine(NamedTuple):
    """
    A kernel, and what it answers about a client of real and effective uid 1001
    and 1002, gid 2001 and 2002.

    @ivar kernel: makes the kernel.
    @ivar peer: level and option of its connect-time answer; L{None} where it
        does not come by getsockopt(2).
    @ivar answer: that answer.
    @ivar option: level and option that asks for messages.
    @ivar stamp: the control message that a message comes with.
    @ivar captures: those that it can do.
    @ivar pid: the client's, at connect-time and message-time.
    """

    kernel: Any
    peer: tuple[int, int] | None
    answer: Any
    option: tuple[int, int] | None = None
    stamp: tuple[int, int, bytes] | None = None
    captures: tuple[Capture, ...] = (Capture.CONNECT, FIRST)
    pid: tuple[int | None, int | None] = (None, None)


MACHINES = {
    # With the bytes of a 15, in which sendfile(2) goes around the stamp.
    "FreeBSD 14": Machine(
        lambda: FreeBSD(pointerSize=8),
        (0, 1),
        vector("FreeBSD 15", "accepted"),
        (0, 3),
        (SOL_SOCKET, 8, payload("FreeBSD 15", CREDS2)),
        (Capture.CONNECT, FIRST, EVERY),
        (8, 8),
    ),
    "FreeBSD 12": Machine(
        lambda: FreeBSD(pointerSize=8),
        (0, 1),
        vector("FreeBSD 12", "accepted"),
        (0, 2),
        (SOL_SOCKET, 3, payload("FreeBSD 12", "LOCAL_CREDS / option on accepted")),
    ),
    "FreeBSD, attached": Machine(
        lambda: FreeBSD(None, 8),
        (0, 1),
        vector("FreeBSD 15", "accepted"),
        (0, 2),
        (SOL_SOCKET, 3, payload("FreeBSD 15", "no option / no option")),
        pid=(8, 8),
    ),
    "NetBSD 11": Machine(
        NetBSD,
        (0, 3),
        vector("NetBSD 11", "accepted", "client"),
        (0, 4),
        (SOL_SOCKET, 0x10, payload("NetBSD 11", "LOCAL_CREDS / option on accepted")),
        pid=(53, 53),
    ),
    "DragonFly": Machine(
        DragonFly,
        (0, 1),
        STRUCTURES["DragonFly xucred"].example,
        None,
        (SOL_SOCKET, 3, STRUCTURES["cmsgcred"].example),
        pid=(None, 8),
    ),
    "OpenBSD": Machine(
        OpenBSD,
        (SOL_SOCKET, 0x1022),
        STRUCTURES["sockpeercred"].example,
        captures=(Capture.CONNECT,),
        pid=(8, None),
    ),
    "Darwin": Machine(
        Darwin,
        (0, 1),
        STRUCTURES["Darwin xucred"].example,
        captures=(Capture.CONNECT,),
        pid=(8, None),
    ),
    "illumos": Machine(
        lambda: Illumos(IllumosLibrary(ucred())),
        None,
        None,
        (SOL_SOCKET, 0x400),
        (SOL_SOCKET, 0x1012, ucred()),
        pid=(8, 8),
    ),
    "POSIX": Machine(
        lambda: Posix(PosixLibrary), None, None, captures=(Capture.CONNECT,)
    ),
}
#: Those that stamp messages.
STAMPING = [name for name, each in MACHINES.items() if FIRST in each.captures]


class ServedTestCase(LiveTestCase):
    """
    A factory on another kernel.
    """

    def start(self, name, capture, *records, answer=None, **options):
        """
        Listen on a machine.

        @param records: what its connections read; all that comes, stamped, if
            none are given.
        @param answer: the connect-time answer, if it is another than usual.
        """
        machine = MACHINES[name]
        answers = {(0, 2): 0}
        if machine.peer:
            answers[machine.peer] = machine.answer if answer is None else answer
        if name == "Darwin":
            answers[0, 2] = 8
        if machine.option:
            answers[machine.option] = 0
        if not records and machine.stamp:
            records = (Record(None, [machine.stamp]),)
        self.kernel = RecordedKernel(machine.kernel(), answers, records)
        # Whatever is tried when listening starts comes with a stamp.
        trial = RecordedKernel(
            self.kernel.kernel,
            answers,
            [Record(1, [machine.stamp])] * 2 if machine.stamp else (),
        )
        self.patch(base, "connection", trial.connection)
        # The records are of another machine's processes.
        self.patch(base, "requireOurselves", lambda known: None)
        protocol = options.pop("protocol", Remembering)
        return self.serve(protocol, capture=capture, kernel=self.kernel, **options)

    async def refused(self, peer, error) -> str:
        """
        The connection ends with such a refusal, before any protocol is made.
        """
        self.assertEqual(await self.closed(peer), b"")
        problem = self.refusals()[-1]
        self.assertIsInstance(problem, error)
        return str(problem)


class CaptureTests(ServedTestCase):
    """
    Tests for each capture on each kernel.
    """

    async def test_connect(self) -> None:
        """
        With C{CONNECT} the credentials are there in C{connectionMade}, and are
        the effective IDs; the protocol has the connection.
        """
        for name, machine in MACHINES.items():
            address, wrapped = self.start(name, Capture.CONNECT)
            peer = self.connect(address)
            protocol = await self.made(wrapped)
            known = protocol.peer
            self.assertEqual((known.uid, known.gid), (1002, 2002), name)
            self.assertEqual(known.pid, machine.pid[0], name)
            self.assertIs(known.capture, Capture.CONNECT)
            self.assertIs(protocol.transport.connectionCredentials, known)
            peer.send(b"hello")
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"hello"])
            self.assertEqual(self.kernel.sets, [], name)

    async def test_messages(self) -> None:
        """
        With a message capture the protocol is made when the first bytes are
        there, gets them all, and knows both IDs of their writer; the option is
        set before anybody can connect.
        """
        for name in STAMPING:
            machine = MACHINES[name]
            for capture in machine.captures[1:]:
                address, wrapped = self.start(name, capture)
                if name not in ("DragonFly", "FreeBSD, attached"):
                    self.assertEqual(self.kernel.sets[0], (*machine.option, 1), name)
                peer = self.connect(address)
                await self.until(lambda: len(self.factory._waiting))
                self.assertEqual(wrapped.made, [])
                peer.send(b"hello")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                self.assertEqual(protocol.received, [b"hello"])
                known = protocol.peer
                self.assertEqual((known.uid, known.gid), (1002, 2002), name)
                self.assertEqual((known.realUID, known.realGID), (1001, 2001), name)
                self.assertEqual(known.pid, machine.pid[1], name)
                self.assertIs(known.capture, capture)
                connection = protocol.transport.connectionCredentials
                self.assertIs(connection.capture, Capture.CONNECT)
                self.assertIsNone(connection.realUID if machine.peer else None)

    async def test_closedAfterMessage(self) -> None:
        """
        All bytes arrive of a peer that closes right after them.
        """
        body = bytes(range(256)) * 512
        for name in STAMPING:
            for capture in MACHINES[name].captures[1:]:
                # A first message, and one for the rest.
                stamp = [MACHINES[name].stamp]
                address, wrapped = self.start(
                    name, capture, Record(5, stamp), Record(len(body), stamp), Record()
                )
                peer = self.connect(address)
                await self.until(lambda: len(self.factory._waiting))
                peer.sendall(b"hello" + body)
                peer.close()
                protocol = await (await self.made(wrapped)).ended
                self.assertEqual(flat(protocol.received), b"hello" + body, name)

    async def test_syncWord(self) -> None:
        """
        A sync word in the first message is taken out of it, and has its
        writer's credentials; what follows is the protocol's.
        """
        for name in STAMPING:
            for capture in MACHINES[name].captures[1:]:
                address, wrapped = self.start(name, capture, syncWord=SYNC)
                peer = self.connect(address)
                peer.send(SYNC + b"body")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                self.assertEqual(protocol.received, [b"body"])
                self.assertEqual(protocol.peer.realUID, 1001, name)
                self.assertIs(protocol.peer.capture, capture)

    async def test_syncWordInTwoMessages(self) -> None:
        """
        Where one message alone is stamped a sync word in two is refused: nobody
        vouches for the second half.
        """
        for name in STAMPING:
            stamp = [MACHINES[name].stamp]
            address, wrapped = self.start(
                name, FIRST, Record(2, stamp), Record(), syncWord=SYNC
            )
            peer = self.connect(address)
            peer.send(SYNC)
            await self.refused(peer, CredentialsUnavailable)
            self.assertEqual(wrapped.made, [])

    async def test_wrongSyncWord(self) -> None:
        """
        Another word is a refusal, of a peer who is known.
        """
        for name in STAMPING:
            address, wrapped = self.start(name, FIRST, syncWord=SYNC)
            peer = self.connect(address)
            peer.send(b"GET / HTTP/1.1")
            await self.refused(peer, PeerRefused)
            self.assertEqual(self.refusals()[-1].credentials.uid, 1002)
            self.assertEqual(wrapped.made, [])

    def test_unsupported(self) -> None:
        """
        A capture that a kernel lacks is an error when listening starts, which
        names the kernel, its release and what there is instead; nothing of the
        user's starts (THREATS K16).
        """
        for name, machine in MACHINES.items():
            for capture in Capture:
                if capture in machine.captures:
                    continue
                with self.assertRaises(CredentialsUnsupported) as raised:
                    self.start(name, capture)
                said = str(raised.exception)
                self.assertIn(machine.kernel().name, said)
                self.assertIn(os.uname().release, said)
                self.assertIn("use Capture.CONNECT", said)
                self.assertEqual(self.factory.wrappedFactory.numPorts, 0)

    async def test_descriptors(self) -> None:
        """
        Descriptors reach a protocol that wants them, with the bytes that they
        came with, whether or not these were looked at before.
        """
        for name, machine in MACHINES.items():
            for capture in machine.captures:
                before = openDescriptors()
                address, wrapped = self.start(name, capture, protocol=Receiving)
                peer = self.connect(address)
                self.sendDescriptor(peer, b"hello", 3)
                protocol = await self.made(wrapped)
                await self.until(lambda: len(protocol.received) == 4)
                self.assertEqual(protocol.received[3], b"hello")
                for each in wrapped.descriptors:
                    os.fstat(each)
                    os.close(each)
                peer.close()
                await protocol.ended
                # The port is still there.
                self.assertEqual(openDescriptors(), before + 1, name)

    async def test_unwantedDescriptors(self) -> None:
        """
        Descriptors that nobody asked for are gone, and nothing else is
        (THREATS A8).
        """
        for name, machine in MACHINES.items():
            for capture in machine.captures:
                before = openDescriptors()
                address, wrapped = self.start(name, capture)
                peer = self.connect(address)
                self.sendDescriptor(peer, b"hello", 3)
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                self.assertEqual(protocol.received, [b"hello"])
                peer.close()
                await protocol.ended
                self.assertEqual(openDescriptors(), before + 1, name)


class RefusalTests(ServedTestCase):
    """
    What is no identity ends the connection, on each kernel.
    """

    async def test_noAnswer(self) -> None:
        """
        No answer, one that is cut anywhere, and one that is too long are
        nobody, and nothing of the user's runs.
        """
        for name, machine in MACHINES.items():
            if machine.peer is None:
                continue
            full = machine.answer
            for answer in (
                OSError(107, "ENOTCONN"),
                b"",
                full[:4],
                full[:-1],
                full + b"\0",
            ):
                address, wrapped = self.start(
                    name, machine.captures[-1], answer=machine.answer
                )
                # The kernel was as usual when listening began.
                self.kernel.options[machine.peer] = answer
                peer = self.connect(address)
                await self.refused(peer, CredentialsUnavailable)
                self.assertEqual(wrapped.made, [])
                self.assertEqual(len(self.factory._waiting), 0)

    async def test_noLibrary(self) -> None:
        """
        So it is where a library's function fails.
        """
        failing = {
            "illumos": Illumos(IllumosLibrary(None)),
            "POSIX": Posix(PosixLibrary),
        }
        self.patch(PosixLibrary, "getpeereid", lambda *arguments: -1)
        for name, kernel in failing.items():
            # Listening would not start.
            self.patch(type(kernel), "checkCapture", lambda *arguments: None)
            address, wrapped = self.start(name, Capture.CONNECT)
            self.kernel.kernel = kernel
            if name == "POSIX":
                kernel._getpeereid = PosixLibrary.getpeereid
            peer = self.connect(address)
            await self.refused(peer, CredentialsUnavailable)
            self.assertEqual(wrapped.made, [])

    async def test_unstamped(self) -> None:
        """
        A message without credentials, with those of another kernel, and with
        broken ones, is nobody's (THREATS K2).
        """
        for name in STAMPING:
            level, kind, data = MACHINES[name].stamp
            for control in (
                [],
                [(level, 2, data)],
                [(6, kind, data)],
                [(level, kind, data[:-1])],
                [(level, kind, b"")],
            ):
                for capture in MACHINES[name].captures[1:]:
                    address, wrapped = self.start(name, capture)
                    self.kernel.records = [Record(None, control)]
                    peer = self.connect(address)
                    peer.send(b"hello")
                    await self.refused(peer, CredentialsUnavailable)
                    self.assertEqual(wrapped.made, [])

    async def test_truncated(self) -> None:
        """
        C{MSG_CTRUNC} is a refusal, whatever did come, and leaves nothing open
        (THREATS K4).
        """
        for name in STAMPING:
            for capture in MACHINES[name].captures[1:]:
                for word in (b"", SYNC):
                    before = openDescriptors()
                    address, wrapped = self.start(name, capture, syncWord=word)
                    stamp = [MACHINES[name].stamp]
                    self.kernel.records = [Record(None, stamp, socket.MSG_CTRUNC)]
                    peer = self.connect(address)
                    self.sendDescriptor(peer, SYNC, 2)
                    await self.refused(peer, CredentialsTruncated)
                    peer.close()
                    self.assertEqual(wrapped.made, [])
                    self.assertEqual(openDescriptors(), before + 1, name)

    async def test_endOfFile(self) -> None:
        """
        A peer that closes without a word is nobody (THREATS K1).
        """
        for name in STAMPING:
            for capture in MACHINES[name].captures[1:]:
                address, wrapped = self.start(name, capture)
                peer = self.connect(address)
                await self.until(lambda: len(self.factory._waiting))
                peer.close()
                await self.until(lambda: not len(self.factory._waiting))
                self.assertEqual(wrapped.made, [])
                self.assertEqual(self.refusals(), [])

    async def test_option(self) -> None:
        """
        An option that can no longer be set on a connection, which was made
        before the listening socket had it, is a refusal.
        """
        self.patch(StampedServer, "prepared", False)
        for name in STAMPING:
            machine = MACHINES[name]
            if name == "DragonFly":
                continue
            address, wrapped = self.start(name, FIRST)
            self.kernel.options[machine.option] = OSError(1, "EPERM")
            peer = self.connect(address)
            await self.refused(peer, CredentialsUnavailable)
            self.assertEqual(wrapped.made, [])


class FreeBSDTests(ServedTestCase):
    """
    Tests for what FreeBSD alone does.
    """

    async def test_forged(self) -> None:
        """
        A client whose pid is root's uid attaches its own credentials, and is
        neither root nor anybody, with each option (THREATS K12).
        """
        # pid, uid, euid, gid: read as sockcred the pid is the real uid, the real
        # uid the effective one.
        forged = struct.pack("=iIIIh2x16I", 0, 0, 1002, 0, 16, *range(16))
        for name in ("FreeBSD 14", "FreeBSD 12"):
            address, wrapped = self.start(name, FIRST)
            self.kernel.records = [Record(None, [(SOL_SOCKET, 3, forged)])]
            peer = self.connect(address)
            peer.send(b"hello")
            await self.refused(peer, CredentialsUnavailable)
            self.assertEqual(wrapped.made, [])

    async def test_attachedBesideStamp(self) -> None:
        """
        Attached to a stamped message they change nothing.
        """
        stamp = MACHINES["FreeBSD 14"].stamp
        attached = (SOL_SOCKET, 3, payload("FreeBSD 15", "no option / no option"))
        for control in ([stamp, attached], [attached, stamp]):
            address, wrapped = self.start("FreeBSD 14", EVERY, Record(None, control))
            peer = self.connect(address)
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            self.assertEqual((protocol.peer.uid, protocol.peer.pid), (1002, 8))

    async def test_anotherWriter(self) -> None:
        """
        With C{EVERY_MESSAGE} another writer's bytes do not reach a protocol
        that does not want to know (THREATS K11); the one before had a message
        longer than a read.
        """
        other = payload("FreeBSD 15", "LOCAL_CREDS_PERSISTENT / many", "client20")
        body = b"x" * 100_000
        address, wrapped = self.start(
            "FreeBSD 14",
            EVERY,
            Record(len(body), [MACHINES["FreeBSD 14"].stamp]),
            Record(None, [(SOL_SOCKET, 8, other)]),
        )
        peer = self.connect(address)
        peer.sendall(body)
        protocol = await self.made(wrapped)
        await self.until(lambda: len(flat(protocol.received)) == len(body))
        peer.send(b"I am somebody else")
        await protocol.ended
        problem = self.refusals()[-1]
        self.assertIsInstance(problem, PeerChanged)
        self.assertEqual((problem.old.uid, problem.new.uid), (1002, 1202))
        self.assertEqual(flat(protocol.received), body)

    async def test_syncWordThenRest(self) -> None:
        """
        With C{EVERY_MESSAGE} what is left of the message that began with the
        sync word is its writer's.
        """
        stamp = [MACHINES["FreeBSD 14"].stamp]
        address, wrapped = self.start(
            "FreeBSD 14", EVERY, Record(9, stamp), Record(), syncWord=SYNC
        )
        peer = self.connect(address)
        peer.send(SYNC + b"hello")
        protocol = await self.made(wrapped)
        await self.until(lambda: protocol.received)
        self.assertEqual(protocol.received, [b"hello"])
        peer.send(b"without a stamp")
        await protocol.ended
        self.assertIsInstance(self.refusals()[-1], CredentialsUnavailable)
        self.assertEqual(protocol.received, [b"hello"])

    def test_attachedWithOption(self) -> None:
        """
        Senders' own credentials are not to be had of a socket on which
        C{LOCAL_CREDS} is set.
        """
        self.patch(freebsd.FreeBSD, "checkCapture", lambda *arguments: None)
        kernel = RecordedKernel(FreeBSD(None, 8), {(0, 2): 1})
        with self.assertRaises(CredentialsUnsupported):
            self.serve(capture=FIRST, kernel=kernel)
