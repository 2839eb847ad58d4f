"""
Tests for L{twisted_peercred.kernels.stamping}, and for handles on those who
write in L{twisted_peercred.transport}.
"""

import os
import socket
from unittest import skipIf

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    IPeerCredentialsReceiver,
    PeerChanged,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from twisted_peercred.attachment import takeHandle
from twisted_peercred.kernels import linux, pidfd, thisKernel
from twisted_peercred.kernels.stamping import StampingLinux, stamping
from twisted_peercred.policy import Decision
from twisted_peercred.process import IPeerProcess

from .support import (
    FailingKernel,
    LiveTestCase,
    Receiving,
    Remembering,
    needsProcessHandles,
    openDescriptors,
    openHandles,
    runClient,
)
from .test_transport import TWO_WRITERS


@implementer(IPeerCredentialsReceiver)
class Following(Remembering):
    """
    Remembers the process behind each piece.
    """

    def peerCredentialsChanged(self, old, new):
        self.received.append((old, new))

    def dataReceived(self, data):
        process = IPeerProcess(self.transport)
        self.received.append((data, process.identity, process))


@skipIf(needsProcessHandles, needsProcessHandles)
class ProcessHandlesTests(LiveTestCase):
    """
    Tests for C{processHandles=True}.
    """

    def setUp(self):
        pidfd.anonymousDevice()
        return super().setUp()

    async def test_firstMessage(self) -> None:
        """
        The process is the one that wrote first, not the one that connected, at
        the cost of one descriptor; nothing more comes with what is read later.
        """
        code = """
peer = connect()
if not os.fork():
    peer.send(b"x")
    time.sleep(1000)
    os._exit(0)
print(len(readAll(peer)))
"""
        for options in ({}, {"syncWord": b"x"}):
            address, wrapped = self.serve(
                Receiving,
                capture=Capture.FIRST_MESSAGE,
                processHandles=True,
                **options,
            )
            before = openDescriptors(), openHandles()
            client = runClient(address, code)
            protocol = await self.made(wrapped)
            transport = protocol.transport
            process = IPeerProcess(transport)
            self.assertEqual(process.info().pid, protocol.peer.pid)
            self.assertNotEqual(protocol.peer.pid, transport.connectionCredentials.pid)
            self.assertEqual(openHandles(), before[1] + 1)
            self.assertEqual(
                transport.socket.getsockopt(
                    socket.SOL_SOCKET, pidfd.passOption(os.uname().machine)
                ),
                0,
            )
            process.signal(9)
            self.assertEqual((await process.whenExited()).signal, 9)
            transport.loseConnection()
            await client
            await self.until(lambda: (openDescriptors(), openHandles()) == before)

    async def test_everyMessage(self) -> None:
        """
        The process follows the writer; the same one is the same object, and
        one descriptor is open for all of it.
        """
        address, wrapped = self.serve(
            Following, capture=Capture.EVERY_MESSAGE, processHandles=True
        )
        before = openDescriptors()
        await runClient(address, TWO_WRITERS, "a", "b", "c")
        protocol = await (await self.made(wrapped)).ended
        a, _, b, _, c = protocol.received
        self.assertEqual((a[0], b[0], c[0]), (b"a", b"b", b"c"))
        self.assertEqual(a[1], c[1])
        self.assertNotEqual(a[1], b[1])
        await self.until(lambda: openDescriptors() == before)
        for each in (a[2], b[2], c[2]):
            self.assertRaises(PeerProcessUnavailable, each.info)

    async def test_sameWriter(self) -> None:
        """
        A writer goes on writing under the handle that it has: who waits by it
        waits on.
        """
        address, wrapped = self.serve(
            Following, capture=Capture.EVERY_MESSAGE, processHandles=True
        )
        peer = self.connect(address)
        before = openDescriptors()
        for number in range(1, 5):
            peer.send(b"x")
            protocol = await self.made(wrapped)
            await self.until(lambda: len(protocol.received) == number)
        self.assertEqual(len({id(each[2]) for each in protocol.received}), 1)
        self.assertEqual(openDescriptors(), before + 2)

    async def test_held(self) -> None:
        """
        While the policy takes its time about a writer its handle waits with
        its message, and goes with it.
        """

        class FirstAtOnce:
            def __init__(self):
                self.answers = 0
                self.pending = None

            def decide(self, identity):
                self.answers += 1
                if self.answers <= 2:
                    return Decision(True, "test")
                self.pending = Deferred()
                return self.pending

        for admitted in (True, False):
            policy = FirstAtOnce()
            address, wrapped = self.serve(
                Following,
                capture=Capture.EVERY_MESSAGE,
                processHandles=True,
                policy=policy,
            )
            before = openHandles()
            client = runClient(address, TWO_WRITERS, "a", "b")
            protocol = await self.made(wrapped)
            await self.until(lambda: policy.pending is not None)
            first = IPeerProcess(protocol).identity
            self.assertEqual(openHandles(), before + 2)
            policy.pending.callback(Decision(admitted, "test"))
            await client
            await protocol.ended
            self.assertEqual(len(protocol.received), 3 if admitted else 1)
            if admitted:
                self.assertNotEqual(protocol.received[2][1], first)
            await self.until(lambda: openHandles() == before)

    async def test_goneWriter(self) -> None:
        """
        A writer that has ended before it was read is known by its handle, and
        how it ended.
        """
        address, wrapped = self.serve(
            Following, capture=Capture.EVERY_MESSAGE, processHandles=True
        )
        peer = self.connect(address)
        pid = os.fork()
        if not pid:
            peer.send(b"late")
            os._exit(3)
        os.waitpid(pid, 0)
        protocol = await self.made(wrapped)
        await self.until(lambda: protocol.received)
        process = protocol.received[0][2]
        self.assertEqual((await process.whenExited()).exitCode, 3)
        self.assertRaises(PeerProcessGone, process.info)

    async def test_notTold(self) -> None:
        """
        When another writes and the connection is aborted for it, nothing is
        left open.
        """
        for protocolClass, code in (
            (Remembering, ("a", "b")),
            (Receiving, (":a", ":b")),
        ):
            address, wrapped = self.serve(
                protocolClass, capture=Capture.EVERY_MESSAGE, processHandles=True
            )
            before = openDescriptors()
            await runClient(address, TWO_WRITERS, *code)
            protocol = await (await self.made(wrapped)).ended
            self.assertIsInstance(protocol.lost.value, PeerChanged)
            for each in wrapped.descriptors:
                os.close(each)
            wrapped.descriptors.clear()
            await self.until(lambda: openDescriptors() == before)

    async def test_many(self) -> None:
        """
        Descriptors that come with a message do not crowd its handle out,
        wanted or not, peeked at or read.
        """
        for protocolClass in (Remembering, Receiving):
            for capture in (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE):
                address, wrapped = self.serve(
                    protocolClass, capture=capture, processHandles=True
                )
                peer = self.connect(address)
                before = openDescriptors()
                try:
                    self.sendDescriptor(peer, b"x", 200)
                except OSError:
                    # SO_PASSRIGHTS, from 6.16: refused at the sender.
                    peer.send(b"x")
                protocol = await self.made(wrapped)
                await self.until(lambda: b"x" in protocol.received)
                process = IPeerProcess(protocol)
                self.assertEqual(process.info().pid, os.getpid())
                for each in wrapped.descriptors:
                    os.close(each)
                wrapped.descriptors.clear()
                self.assertEqual(openDescriptors(), before + 2)

    def test_noHandle(self) -> None:
        """
        Where there is no handle the reason is there instead.
        """
        problem = takeHandle(None, -24)
        self.assertIsInstance(problem, PeerProcessUnavailable)
        kernel = StampingLinux()
        self.assertEqual(kernel._process(b"x", []), -24)
        self.assertIsNone(kernel._process(b"", []))

    async def test_exhausted(self) -> None:
        """
        A message whose handle there was no descriptor for leaves its writer's
        process unknown, and the one before it is not shown in its stead.
        """
        address, wrapped = self.serve(
            Remembering, capture=Capture.EVERY_MESSAGE, processHandles=True
        )
        peer = self.connect(address)
        peer.send(b"a")
        protocol = await self.made(wrapped)
        # By itself, for what is sent next.
        await self.until(lambda: protocol.received == [b"a"])
        IPeerProcess(protocol)
        before = openDescriptors()
        self.patch(pidfd, "Pidfd", NoPidfd)
        peer.send(b"b")
        await self.until(lambda: b"b" in protocol.received)
        self.assertRaises(PeerProcessUnavailable, IPeerProcess, protocol)
        self.assertEqual(openDescriptors(), before - 1)

    def test_unsupported(self) -> None:
        """
        A kernel that cannot says so when the factory is made or listens, not
        at the first connection.
        """
        with self.assertRaises(PeerProcessUnsupported):
            stamping(FailingKernel("peekMessage", OSError()))
        kernel = StampingLinux()
        self.assertIs(stamping(kernel), kernel)
        self.assertIsInstance(stamping(thisKernel()), StampingLinux)
        before = openDescriptors()
        kernel.checkCapture(Capture.FIRST_MESSAGE)
        self.assertEqual(openDescriptors(), before)
        from twisted_peercred.kernels import stamping as module

        self.patch(module, "passOption", lambda machine: None)
        problem = self.assertRaises(
            PeerProcessUnsupported, kernel.checkCapture, Capture.FIRST_MESSAGE
        )
        self.assertIn("processHandles", str(problem))

    def test_strayHandles(self) -> None:
        """
        A handle for which there was no descriptor is nothing to close.
        """
        linux.closeAll([None, -24])

    def test_unavailableWriter(self) -> None:
        """
        With credentials that mean nobody, the handle is closed.
        """
        ours, theirs = socket.socketpair()
        kernel = StampingLinux()
        with ours, theirs:
            theirs.send(b"early")
            kernel.askForMessages(ours)
            before = openDescriptors()
            for ask in (
                lambda: kernel.peekMessage(ours, Capture.FIRST_MESSAGE),
                lambda: kernel.receiveMessage(ours, 9, True, Capture.EVERY_MESSAGE),
            ):
                with self.assertRaises(linux.CredentialsUnavailable):
                    ask()
            self.assertEqual(openDescriptors(), before)


class NoPidfd(pidfd.Pidfd):
    """
    None is free.
    """

    @classmethod
    def ofMessage(cls, number):
        os.close(number)
        return super().ofMessage(-24)
