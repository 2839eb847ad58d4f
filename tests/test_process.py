"""
Tests for L{twisted_peercred.process} and L{twisted_peercred.attachment}: the
process behind a live connection.
"""

import gc
import os
import signal
import socket
import threading
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.threadpool import ThreadPool
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from twisted_peercred.attachment import ofRequest, ofTransport
from twisted_peercred.exits import ExitReader
from twisted_peercred.kernels import pidfd
from twisted_peercred.kernels.processes import ProcessExit, ProcessInfo
from twisted_peercred.process import IPeerProcess, PeerProcess

from .support import (
    LiveTestCase,
    Remembering,
    RememberingFactory,
    isRoot,
    needsAnotherUser,
    needsProcessHandles,
    openDescriptors,
)

#: Asked of a process that has ended, each of these must fail.
QUESTIONS = (
    "info",
    "status",
    "commandLine",
    "executable",
    "cgroup",
    "startTime",
    "systemdUnit",
)


class Peer:
    """
    A client in a process of its own, a child of this one, that connects and
    waits.

    @param code: the status that it exits with.
    @param uid: the user to be.
    @param before: what to do with its socket before it waits.
    """

    def __init__(self, test, address, code=0, uid=None, before=None):
        self.pid = os.fork()
        if not self.pid:
            try:
                # None of the parent's connections lives on here.
                os.closerange(3, 1000)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                # Waited for, not handled: a signal that comes just before
                # pause(2) would be lost.
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                if uid is not None:
                    os.setgroups([])
                    os.setgid(uid)
                    os.setuid(uid)
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(address)
                if before is not None:
                    before(sock)
                signal.sigwait([signal.SIGUSR1])
                os._exit(code)
            finally:
                os._exit(99)
        self._reaped = False
        test.addCleanup(self.end)

    def leave(self):
        """
        Have it exit, without reaping it.
        """
        if not self._reaped:
            os.kill(self.pid, signal.SIGUSR1)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def end(self):
        """
        Have it exit, and reap it.
        """
        self.leave()
        if not self._reaped:
            self._reaped = True
            os.waitpid(self.pid, 0)


class ProcessTestCase(LiveTestCase):
    """
    With a server.
    """

    timeout = 30

    def setUp(self):
        # Opened once and for all.
        pidfd.anonymousDevice()
        return super().setUp()

    async def meet(self, capture=Capture.CONNECT, options=(), **peer):
        """
        @return: a client, and the server's protocol for it.
        """
        address, wrapped = self.serve(capture=capture, **dict(options))
        client = Peer(self, address, **peer)
        return client, await self.made(wrapped)

    async def failing(self, ask, *errors):
        """
        Ask, synchronously or not, and be told one of these errors.
        """
        try:
            answer = await ask() if ask.__name__ != "info" else ask()
        except errors as problem:
            return problem
        raise AssertionError(f"{ask.__name__} answered {answer!r}")


class PeerProcessTests(ProcessTestCase):
    """
    Tests for C{IPeerProcess(x)} and what it gives.
    """

    async def test_interface(self) -> None:
        """
        It is the same object for whoever asks by whatever there is, provides
        the interface, and says where each answer is from.
        """
        _, protocol = await self.meet()
        process = IPeerProcess(protocol.transport)
        verifyObject(IPeerProcess, process)
        self.assertIs(IPeerProcess(protocol), process)
        wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
        wrapper.transport = protocol.transport
        self.assertIs(IPeerProcess(wrapper), process)
        request = type("Request", (), {"transport": wrapper})
        self.assertIs(ofRequest(request), process)
        self.assertIs(ofTransport(wrapper), process)
        asked = set(IPeerProcess) - {"identity", "sources", "signal"}
        self.assertEqual(set(process.sources), asked)
        self.assertRaises(TypeError, IPeerProcess, object())

    async def test_cost(self) -> None:
        """
        Who does not ask has no descriptor open; all who ask have one, until
        the connection ends (THREATS A15).
        """
        _client, protocol = await self.meet()
        before = openDescriptors()
        transport = protocol.transport
        process = IPeerProcess(transport)
        self.assertEqual(openDescriptors(), before + 1)
        waits = [process.whenExited() for _ in range(3)]
        await process.status()
        self.assertIs(IPeerProcess(transport), process)
        self.assertEqual(openDescriptors(), before + 1)
        for each in waits:
            each.addErrback(lambda reason: reason.trap(CancelledError))
            each.cancel()
        transport.loseConnection()
        await protocol.ended
        await self.until(lambda: openDescriptors() == before - 1)
        for name in (*QUESTIONS, "whenExited"):
            problem = await self.failing(getattr(process, name), PeerProcessUnavailable)
            self.assertIn("connection has ended", str(problem))
        self.assertRaises(PeerProcessUnavailable, process.signal, 0)
        self.assertTrue(process.isSame(process))

    async def test_info(self) -> None:
        """
        The IDs are those of now, from one call.
        """
        client, protocol = await self.meet(uid=1000 if isRoot else None)
        info = IPeerProcess(protocol).info()
        uid, gid = (1000, 1000) if isRoot else (os.getuid(), os.getgid())
        self.assertEqual(
            info,
            ProcessInfo(
                pid=client.pid,
                parent=os.getpid(),
                realUID=uid,
                effectiveUID=uid,
                savedUID=uid,
                filesystemUID=uid,
                realGID=gid,
                effectiveGID=gid,
                savedGID=gid,
                filesystemGID=gid,
                cgroupID=info.cgroupID,
                source="PIDFD_GET_INFO",
            ),
        )

    async def test_proc(self) -> None:
        """
        What proc(5) says is what this process reads there itself.
        """
        client, protocol = await self.meet()
        process = IPeerProcess(protocol)
        status = await process.status()
        self.assertEqual(status["Pid"], str(client.pid))
        self.assertEqual(status["PPid"], str(os.getpid()))
        with open("/proc/self/cmdline", "rb") as file:
            ours = tuple(file.read().split(b"\0")[:-1])
        self.assertEqual(await process.commandLine(), ours)
        self.assertEqual(await process.executable(), os.readlink(b"/proc/self/exe"))
        with open("/proc/self/cgroup") as file:
            self.assertIn(f":{await process.cgroup()}\n", file.read())
        with open("/proc/uptime") as file:
            now = float(file.read().split()[0])
        started = await process.startTime()
        self.assertTrue(now - 600 < started <= now + 1, (started, now))
        self.assertIn(await process.systemdUnit(), (None, await ownUnit(process)))

    async def test_signal(self) -> None:
        """
        Signals go to the process, and only those that there are.
        """
        client, protocol = await self.meet()
        process = IPeerProcess(protocol)
        process.signal(0)
        self.assertRaises(ValueError, process.signal, 4711)
        process.signal(signal.SIGTERM)
        exit = await process.whenExited()
        self.assertEqual((exit.exitCode, exit.signal), (None, signal.SIGTERM))
        # Not reaped, it would take any.
        self.assertRaises(PeerProcessGone, process.signal, signal.SIGTERM)
        client.end()
        self.assertRaises(PeerProcessGone, process.signal, signal.SIGTERM)

    async def test_isSame(self) -> None:
        """
        Two connections of one process are told from those of another, also
        when all is over.
        """

        def again(sock):
            self.second = socket.socket(socket.AF_UNIX)
            self.second.connect(sock.getpeername())

        address, wrapped = self.serve()
        Peer(self, address, before=again)
        await self.made(wrapped, 2)
        Peer(self, address)
        await self.made(wrapped, 3)
        one, two, three = (IPeerProcess(each) for each in wrapped.made)
        for _ in range(2):
            self.assertTrue(one.isSame(two))
            self.assertFalse(one.isSame(three))
            for each in wrapped.made:
                each.transport.loseConnection()
                await each.ended
        self.assertEqual(one.identity, two.identity)
        self.assertFalse(one.isSame(three))
        self.assertRaises(TypeError, one.isSame, None)

    async def test_isSameUnsupported(self) -> None:
        """
        Where a handle has no inode of its own, that is not taken for being the
        same.
        """
        handle = pidfd.Pidfd(os.eventfd(0))
        self.assertIsNone(handle.identity)
        process = PeerProcess(handle, reactor)
        self.assertRaises(PeerProcessUnsupported, process.isSame, process)
        process.disconnect()

    async def test_whenExited(self) -> None:
        """
        The end of a child, of itself or by a signal, is told with its status,
        reaped or not, once to each who waits, and to those who ask later.
        """
        for end, expected in (
            (Peer.leave, ProcessExit(exitCode=7, source="waitid")),
            (Peer.end, ProcessExit(exitCode=7, source="PIDFD_GET_INFO")),
            (Peer.kill, ProcessExit(signal=signal.SIGKILL, source="waitid")),
        ):
            before = openDescriptors()
            client, protocol = await self.meet(code=7)
            process = IPeerProcess(protocol)
            waits = [process.whenExited() for _ in range(3)]
            end(client)
            self.assertEqual(await gatherResults(waits), [expected] * 3)
            self.assertEqual(await process.whenExited(), expected)
            await protocol.ended
            client.end()
            # The port stays open.
            await self.until(lambda: openDescriptors() == before + 1)

    async def test_outlived(self) -> None:
        """
        The process's end is told while its connection lives on in another
        process, and is not told when the connection alone ends.
        """

        def handOn(sock):
            if not os.fork():
                sock.send(b"child")
                sock.recv(1)
                os._exit(0)

        client, protocol = await self.meet(before=handOn)
        process = IPeerProcess(protocol)
        exited = process.whenExited()
        # It has handed the connection on when the other one speaks.
        await self.until(lambda: protocol.received)
        client.end()
        self.assertEqual((await exited).exitCode, 0)
        self.assertIsNone(protocol.lost)
        for name in QUESTIONS:
            problem = await self.failing(getattr(process, name), PeerProcessGone)
            self.assertEqual(problem.exit.exitCode, 0)
        protocol.transport.abortConnection()
        await protocol.ended
        # And now the other way round.
        client, protocol = await self.meet(before=socket.socket.close)
        await protocol.ended
        self.assertRaises(PeerProcessUnavailable, IPeerProcess, protocol.transport)

    async def test_outlivesConnection(self) -> None:
        """
        A wait goes on when the connection is lost, and ends with its
        descriptor closed, whether it is over or cancelled.
        """
        for end in (Peer.end, None):
            before = openDescriptors()
            client, protocol = await self.meet()
            process = IPeerProcess(protocol)
            exited = process.whenExited()
            protocol.transport.loseConnection()
            await protocol.ended
            self.assertNoResult(exited)
            if end is None:
                exited.cancel()
                self.failureResultOf(exited).trap(CancelledError)
                client.end()
            else:
                client.end()
                self.assertEqual((await exited).exitCode, 0)
            await self.until(lambda: openDescriptors() == before + 1)

    async def test_cancel(self) -> None:
        """
        Each wait is cancelled by itself; when the last one is, the descriptor
        is closed and the reactor is not asked; whoever asks again has the same
        process.
        """
        client, protocol = await self.meet()
        before = openDescriptors()
        process = IPeerProcess(protocol)
        identity = process.identity
        one, two = process.whenExited(), process.whenExited()
        one.cancel()
        self.failureResultOf(one).trap(CancelledError)
        self.assertEqual(openDescriptors(), before + 1)
        self.assertEqual(len(self.readers()), 1)
        two.cancel()
        self.failureResultOf(two).trap(CancelledError)
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(self.readers(), [])
        self.assertEqual(process.info().pid, client.pid)
        self.assertEqual(process.identity, identity)
        self.assertEqual(openDescriptors(), before + 1)

    def readers(self):
        return [each for each in reactor.getReaders() if isinstance(each, ExitReader)]

    async def test_spurious(self) -> None:
        """
        A reactor may say that there is something to read where there is not.
        """
        _, protocol = await self.meet()
        exited = IPeerProcess(protocol).whenExited()
        (reader,) = self.readers()
        verifyObject(IReadDescriptor, reader)
        self.assertEqual(reader.logPrefix(), "peer's process")
        reader.doRead()
        self.assertNoResult(exited)
        exited.addErrback(lambda reason: reason.trap(CancelledError)).cancel()

    async def test_inConnectionLost(self) -> None:
        """
        A protocol that has lost its connection can still ask, and wait.
        """

        class Asking(Remembering):
            def connectionMade(self):
                super().connectionMade()
                IPeerProcess(self.transport)

            def connectionLost(self, reason):
                self.exited = IPeerProcess(self.transport).whenExited()
                super().connectionLost(reason)

        before = openDescriptors()
        address, wrapped = self.serve(Asking)
        client = Peer(self, address, code=3)
        protocol = await self.made(wrapped)
        client.end()
        await protocol.ended
        self.assertEqual((await protocol.exited).exitCode, 3)
        self.assertEqual(openDescriptors(), before + 1)

    async def test_connectionLostFails(self) -> None:
        """
        A protocol that fails when it loses its connection leaks nothing.
        """

        class Failing(Remembering):
            def connectionLost(self, reason):
                super().connectionLost(reason)
                raise ZeroDivisionError()

        for serve in (self.serve, self.serveStock):
            address, wrapped = serve(Failing)
            before = openDescriptors()
            client = Peer(self, address)
            protocol = await self.made(wrapped)
            IPeerProcess(protocol)
            client.end()
            await protocol.ended
            await self.until(lambda: openDescriptors() == before)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def serveStock(self, protocol=Remembering):
        """
        A server that no factory of ours has anything to do with.
        """
        wrapped = RememberingFactory(protocol)
        return self.listen(wrapped), wrapped

    async def test_stock(self) -> None:
        """
        A stock transport's process is known too, and closed with it.
        """
        address, wrapped = self.serveStock()
        before = openDescriptors()
        client = Peer(self, address)
        protocol = await self.made(wrapped)
        process = IPeerProcess(protocol.transport)
        self.assertIs(IPeerProcess(protocol), process)
        self.assertEqual(process.info().pid, client.pid)
        exited = process.whenExited()
        client.end()
        self.assertEqual((await exited).exitCode, 0)
        await protocol.ended
        await self.until(lambda: openDescriptors() == before)
        self.assertNotIn("connectionLost", vars(protocol.transport))
        self.assertRaises(PeerProcessGone, process.info)

    async def test_stockAborted(self) -> None:
        """
        Asked about a stock transport that is being aborted, the handle goes at
        the latest with the transport.
        """
        address, wrapped = self.serveStock()
        before = openDescriptors()
        client = Peer(self, address)
        protocol = await self.made(wrapped)
        protocol.transport.abortConnection()
        IPeerProcess(protocol.transport)
        await protocol.ended
        client.end()
        del protocol.transport
        await self.until(lambda: (gc.collect(), openDescriptors() == before)[1])

    async def test_client(self) -> None:
        """
        For a client it is the process that listens.
        """
        address, _ = self.serve()
        protocol = await UNIXClientEndpoint(reactor, address).connect(
            Factory.forProtocol(Protocol)
        )
        process = IPeerProcess(protocol)
        self.assertEqual(process.info().pid, os.getpid())
        protocol.transport.abortConnection()

    async def test_threadOutlivesConnection(self) -> None:
        """
        A thread that reads still has its descriptor when the connection is
        lost and its answer was cancelled: no number of a descriptor is used
        again under its hands.
        """
        before = openDescriptors()
        client, protocol = await self.meet()
        process = IPeerProcess(protocol)
        go, gone = os.pipe()
        seen = []

        def read(self, name):
            os.read(go, 1)
            seen.append(os.readlink(f"/proc/self/fd/{self.fileno()}"))
            return b"late"

        self.patch(pidfd.Pidfd, "read", read)
        answers = [process.executable() for _ in range(2)]
        answers[0].cancel()
        self.failureResultOf(answers[0]).trap(CancelledError)
        protocol.transport.loseConnection()
        await protocol.ended
        client.end()
        os.write(gone, b"..")
        self.assertEqual(await answers[1], b"late")
        await self.until(lambda: len(seen) == 2)
        self.assertEqual(set(seen), {"anon_inode:[pidfd]"})
        os.close(go)
        os.close(gone)
        await self.until(lambda: openDescriptors() == before + 1)

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_stampedNoLonger(self) -> None:
        """
        Where the first message is all that counts, no more handles are sent
        with those that follow.
        """
        option = pidfd.passOption(os.uname().machine)
        for capture, on in (
            (Capture.FIRST_MESSAGE, 0),
            (Capture.EVERY_MESSAGE, 1),
        ):
            _, protocol = await self.meet(
                capture, {"processHandles": True}, before=lambda sock: sock.send(b"x")
            )
            sock = protocol.transport.socket
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, option), on)

    async def test_noThread(self) -> None:
        """
        Where no more threads can be had, what needs one is a typed error; who
        waits for the end is told at the end, and no descriptor is left.
        """
        before = openDescriptors()
        client, protocol = await self.meet()
        process = IPeerProcess(protocol)
        pool = ThreadPool(0, 1)
        pool.start()

        class Reactor:
            getThreadPool = staticmethod(lambda: pool)

            def __getattr__(self, name):
                return getattr(reactor, name)

        def start(thread):
            raise RuntimeError("can't start new thread")

        process._reactor = Reactor()
        # As of a process of another PID namespace, whose parent has yet to ask.
        self.patch(pidfd.Pidfd, "exit", lambda handle: None)
        self.patch(threading.Thread, "start", start)
        for name in QUESTIONS[1:]:
            problem = await self.failing(getattr(process, name), PeerProcessUnavailable)
            self.assertIn("RLIMIT_NPROC", str(problem))
        exited = process.whenExited()
        client.leave()
        with self.assertRaises(PeerProcessUnavailable):
            await exited
        await protocol.ended
        client.end()
        await self.until(lambda: openDescriptors() == before + 1)


async def ownUnit(process):
    """
    What C{systemctl status PID} would name, from our own cgroup.
    """
    from twisted_peercred.kernels.procfs import unitOf

    return unitOf(await process.cgroup() or "")


class OutcomeTests(ProcessTestCase):
    """
    A handle, "this kernel has none", "already gone" (THREATS K14): each error
    of the kernel's is one of them.
    """

    async def test_gone(self) -> None:
        """
        A process that has ended, reaped or not, is gone; what is known of its
        exit is with the error.
        """

        def handOn(sock):
            if not os.fork():
                sock.recv(1)
                os._exit(0)

        for reaped in (False, True):
            client, protocol = await self.meet(code=9, before=handOn)
            before = openDescriptors()
            client.leave()
            os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT)
            if reaped:
                client.end()
            problem = self.assertRaises(PeerProcessGone, IPeerProcess, protocol)
            self.assertEqual(problem.exit.exitCode, 9)
            self.assertEqual(openDescriptors(), before)
            protocol.transport.abortConnection()
            await protocol.ended

    async def test_errors(self) -> None:
        """
        Each error number of C{SO_PEERPIDFD} has its type, and a text that says
        what to do.
        """
        for name, kind, text in (
            ("ENOPROTOOPT", PeerProcessUnsupported, "6.5"),
            ("EOPNOTSUPP", PeerProcessUnsupported, "6.5"),
            ("EPERM", PeerProcessUnsupported, "seccomp"),
            ("EINVAL", PeerProcessGone, "ended"),
            ("ESRCH", PeerProcessGone, "ended"),
            ("ENODATA", PeerProcessUnavailable, "no handle"),
            ("EMFILE", PeerProcessUnavailable, "RLIMIT_NOFILE"),
        ):
            number = getattr(__import__("errno"), name)

            class Refusing:
                def getsockopt(self, *arguments, number=number):
                    raise OSError(number, os.strerror(number))

            with self.assertRaises(kind) as caught:
                pidfd.Pidfd.ofPeer(Refusing())
            self.assertIn(text, str(caught.exception))

    async def test_messageCapturesAskBefore(self) -> None:
        """
        The process that connected is not passed off as the one that wrote.
        """
        for capture in (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE):
            _, protocol = await self.meet(capture, before=lambda s: s.send(b"x"))
            problem = self.assertRaises(PeerProcessUnavailable, IPeerProcess, protocol)
            self.assertIn("processHandles=True", str(problem))

    @skipIf(needsAnotherUser, needsAnotherUser)
    async def test_exhausted(self) -> None:
        """
        With every descriptor taken, peers are still identified, the process is
        a typed error, and nothing leaks; with one free again, it is there.
        """
        for capture in Capture:
            address, wrapped = self.serve(capture=capture, processHandles=True)
            client = Peer(self, address, before=lambda sock: sock.send(b"x"))
            before = openDescriptors()
            self.exhaust(free=1)
            protocol = await self.made(wrapped)
            self.assertEqual(protocol.peer.pid, client.pid)
            problem = self.assertRaises(PeerProcessUnavailable, IPeerProcess, protocol)
            self.assertIn("RLIMIT_NOFILE", str(problem))
            self.restore()
            self.assertEqual(openDescriptors(), before + 1)
            if capture is Capture.CONNECT:
                process = IPeerProcess(protocol)
                self.exhaust()
                await self.failing(process.status, PeerProcessUnavailable)
                self.assertEqual(process.info().pid, client.pid)
                self.restore()
            client.end()
            await protocol.ended
            await self.until(lambda: openDescriptors() == before)
