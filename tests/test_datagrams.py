"""
Tests for L{twisted_peercred.datagrams}.
"""

import array
import os
import socket
import stat
import struct
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerCredentials,
    PeerProcessUnsupported,
)
from twisted_peercred.datagrams import (
    AT_ONCE,
    CredentialedDatagramProtocol,
    listenCredentialedUNIXDatagram,
)
from twisted_peercred.interfaces import (
    ICredentialedDatagramReceiver,
    IPeerPolicySource,
    IPeerProcess,
)
from twisted_peercred.kernels import linux
from twisted_peercred.kernels.linux import Linux
from twisted_peercred.policy import Decision, Policy

from .support import (
    FailingKernel,
    LiveTestCase,
    RecordedSocket,
    needsAnotherUser,
    needsProcessHandles,
    needsRoot,
    openDescriptors,
    openHandles,
    runClient,
    ucred,
)


class Keeping(CredentialedDatagramProtocol):
    """
    Keeps what comes.
    """

    noisy = False

    def __init__(self, answer=lambda: None):
        self.received = []
        self.answer = answer

    def datagramReceivedFrom(self, data, address, credentials, **more):
        self.received.append((data, address, credentials, *more.values()))
        return self.answer()


#: Sends each of its arguments as a datagram.
SENDER = """
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for text in sys.argv[2:]:
    sender.sendto(text.encode(), address)
print(os.getpid())
"""


class DatagramTestCase(LiveTestCase):
    """
    With a socket for datagrams.
    """

    count = 0

    def receive(self, protocol=None, **options):
        """
        @return: the address, the protocol and the port.
        """
        protocol = Keeping() if protocol is None else protocol
        self.count += 1
        address = os.path.join(self.directory, f"d{self.count}")
        port = listenCredentialedUNIXDatagram(reactor, address, protocol, **options)
        self.adoptPort(port)
        return address, protocol, port

    def sender(self):
        """
        A socket to send from.
        """
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        return sender

    def ours(self):
        """
        The credentials of this process.
        """
        return PeerCredentials(
            uid=os.getuid(),
            gid=os.getgid(),
            pid=os.getpid(),
            capture=Capture.EVERY_MESSAGE,
        )


class DatagramTests(DatagramTestCase):
    """
    Tests for L{listenCredentialedUNIXDatagram}.
    """

    async def test_received(self) -> None:
        """
        Each datagram comes with who sent it and where to answer; one without
        bytes is one, too.
        """
        address, protocol, port = self.receive()
        verifyObject(ICredentialedDatagramReceiver, protocol)
        sender = self.sender()
        sender.sendto(b"unbound", address)
        sender.sendto(b"", address)
        # The address is that of the moment when it is read.
        await self.until(lambda: len(protocol.received) == 2)
        sender.bind(address + "s")
        sender.sendto(b"bound", address)
        await self.until(lambda: len(protocol.received) == 3)
        ours = self.ours()
        self.assertEqual(
            protocol.received,
            [
                (b"unbound", None, ours),
                (b"", None, ours),
                (b"bound", address + "s", ours),
            ],
        )
        protocol.transport.write(b"answer", address + "s")
        self.assertEqual(sender.recv(10), b"answer")
        self.assertEqual(port.dropped, {})

    @skipIf(needsRoot, needsRoot)
    async def test_senders(self) -> None:
        """
        Two users on one socket are told apart.
        """
        address, protocol, _ = self.receive()
        for uid in (1000, 1001):
            pid = await runClient(address, f"become({uid}, {uid})" + SENDER, "x")
            await self.until(lambda: len(protocol.received) == uid - 999)
            credentials = protocol.received[-1][2]
            self.assertEqual((credentials.uid, credentials.pid), (uid, int(pid)))

    async def test_beforeListening(self) -> None:
        """
        There is no moment in which a datagram can be sent and is not stamped:
        the option is set before there is a name to send to.
        """
        sets = []

        class Watching(Linux):
            def askForMessages(self, sock):
                sets.append(sock.getsockname())
                super().askForMessages(sock)

        self.receive(kernel=Watching())
        # One was to try it.
        self.assertIn("", sets)
        self.assertEqual(set(sets), {""})

    async def test_mode(self) -> None:
        """
        The file has its mode when it is made.
        """
        modes = []
        original = socket.socket.bind

        class Binding(socket.socket):
            def bind(self, address):
                original(self, address)
                modes.append(stat.S_IMODE(os.stat(address).st_mode))

        self.patch(socket, "socket", Binding)
        address, _, _ = self.receive(mode=0o600)
        self.assertEqual(modes, [0o600])
        self.assertEqual(stat.S_IMODE(os.stat(address).st_mode), 0o600)

    async def test_descriptors(self) -> None:
        """
        Descriptors that come with a datagram are closed.
        """
        address, protocol, _ = self.receive()
        sender = self.sender()
        sender.connect(address)
        before = openDescriptors()
        reading, writing = os.pipe()
        rights = array.array("i", [writing])
        sender.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(writing)
        await self.until(lambda: protocol.received)
        # Nobody has the other end.
        self.assertEqual(os.read(reading, 1), b"")
        os.close(reading)
        self.assertEqual(openDescriptors(), before)

    async def test_truncated(self) -> None:
        """
        What is longer than there is room for is dropped, not cut short.
        """
        address, protocol, port = self.receive(maxPacketSize=4)
        sender = self.sender()
        sender.sendto(b"12345", address)
        sender.sendto(b"1234", address)
        await self.until(lambda: protocol.received)
        self.assertEqual(protocol.received[0][0], b"1234")
        self.assertEqual(port.dropped, {"truncated": 1})
        self.assertIsInstance(self.refusals()[0], CredentialsTruncated)

    async def test_placeholder(self) -> None:
        """
        A datagram without credentials, or with a placeholder, is nobody's.
        """
        address, protocol, port = self.receive(kernel=Unstamping())
        sender = self.sender()
        sender.sendto(b"x", address)
        await self.until(lambda: port.dropped)
        self.assertEqual(port.dropped, {"no-credentials": 1})
        self.assertIsInstance(self.refusals()[0], CredentialsUnavailable)
        self.assertEqual(protocol.received, [])

    async def test_flood(self) -> None:
        """
        However many are dropped, few are logged, and all counted; others are
        served in between.
        """
        address, protocol, port = self.receive(policy=Policy.fromString("!any"))
        sender = self.sender()
        sender.setblocking(False)
        sent = 0

        def send():
            nonlocal sent
            try:
                while sent < 500:
                    sender.sendto(b"", address)
                    sent += 1
            except BlockingIOError:
                pass
            return port.dropped["rule"] == 500

        await self.until(send)
        self.assertEqual(protocol.received, [])
        self.assertEqual(len(self.refusals()), 5)
        await port.stopListening()
        (left,) = [each for each in self.events if each.get("what") == "left-out"]
        self.assertEqual(left["count"], 495)

    async def test_fair(self) -> None:
        """
        A port reads so many at once, and lets the reactor turn to others.
        """
        _, protocol, port = self.receive(kernel=Endless())
        port.doRead()
        self.assertEqual(len(protocol.received), AT_ONCE)

    async def test_protocolFails(self) -> None:
        """
        A protocol that fails at a datagram gets the next one, however it
        fails.
        """

        def fail():
            raise ZeroDivisionError()

        async def failLater():
            fail()

        def failing():
            return Deferred.fromCoroutine(failLater())

        for answer in (fail, failLater, failing):
            address, protocol, _ = self.receive(Keeping(answer))
            sender = self.sender()
            for _ in range(2):
                sender.sendto(b"x", address)
            await self.until(lambda: len(protocol.received) == 2)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_stopsInTheMiddle(self) -> None:
        """
        A protocol may close the port at any datagram.
        """
        address, protocol, port = self.receive()
        protocol.answer = port.connectionLost
        sender = self.sender()
        for _ in range(2):
            sender.sendto(b"x", address)
        await self.until(lambda: protocol.received)
        await self.until(self.readUp)
        self.assertEqual(len(protocol.received), 1)

    async def test_unsupported(self) -> None:
        """
        A kernel that cannot says so when one listens.
        """

        class Other:
            def checkCapture(self, capture):
                pass

        self.assertRaises(CredentialsUnsupported, self.receive, kernel=Other())
        self.assertRaises(
            PeerProcessUnsupported, self.receive, kernel=Other(), processHandles=True
        )
        problem = CredentialsUnsupported("no")
        with self.assertRaises(CredentialsUnsupported):
            self.receive(kernel=FailingKernel("checkCapture", problem))

    async def test_cannotListen(self) -> None:
        """
        An address that is taken is Twisted's own error.
        """
        address, protocol, _ = self.receive()
        with self.assertRaises(CannotListenError):
            listenCredentialedUNIXDatagram(reactor, address, protocol)

    async def test_arguments(self) -> None:
        """
        Mistakes are found when one listens.
        """
        for kind, options in (
            (TypeError, {"protocol": object()}),
            (TypeError, {"policy": "root"}),
            (ValueError, {"timeout": 0}),
        ):
            self.assertRaises(kind, self.receive, **options)

    def test_parent(self) -> None:
        """
        The parent class asks to be overridden.
        """
        with self.assertRaises(NotImplementedError):
            CredentialedDatagramProtocol().datagramReceivedFrom(b"", None, None)


class Unstamping(Linux):
    """
    Forgets to ask.
    """

    def askForMessages(self, sock):
        pass

    def checkCapture(self, capture):
        pass


class Endless(Linux):
    """
    Has always another.
    """

    def receiveDatagram(self, sock, size):
        ours = PeerCredentials(uid=1, gid=1, capture=Capture.EVERY_MESSAGE)
        return linux.Datagram(b"", None, ours)


class ReceiveTests(SynchronousTestCase):
    """
    Tests for L{Linux.receiveDatagram}.
    """

    def test_noRoom(self) -> None:
        """
        Credentials that did not fit are lost, and that is said.
        """
        sock = RecordedSocket(messages=[(b"x", [], socket.MSG_CTRUNC, "/a")])
        datagram = Linux().receiveDatagram(sock, 10)
        self.assertIsInstance(datagram.credentials, CredentialsTruncated)
        self.assertEqual((datagram.data, datagram.address), (b"x", "/a"))

    def test_strayHandle(self) -> None:
        """
        A handle that nobody asked for is closed, whatever it came with.
        """
        for sent in (ucred(7, 1, 1), ucred(0, 65534, 65534)):
            before = openDescriptors()
            handle = struct.pack("i", os.open(os.devnull, os.O_RDONLY))
            sock = RecordedSocket(
                messages=[(b"x", [(1, 2, sent), (1, linux.SCM_PIDFD, handle)], 0, None)]
            )
            datagram = Linux().receiveDatagram(sock, 10)
            self.assertIsNone(datagram.process)
            self.assertEqual(openDescriptors(), before)


class PolicyTests(DatagramTestCase):
    """
    Tests for C{policy=}.
    """

    @skipIf(needsRoot, needsRoot)
    async def test_decided(self) -> None:
        """
        The policy is asked about each datagram; who is not admitted is
        dropped, and on record.
        """
        address, protocol, port = self.receive(policy=Policy.fromString("uid/1000"))
        for uid in (1001, 1000):
            await runClient(address, f"become({uid}, {uid})" + SENDER, str(uid))
        await self.until(lambda: protocol.received)
        self.assertEqual([each[0] for each in protocol.received], [b"1000"])
        self.assertEqual(port.dropped, {"no-rule": 1})
        (refused,) = [each for each in self.events if each.get("what") == "refused"]
        self.assertEqual((refused["uid"], refused["reason"]), (1001, "no-rule"))

    async def test_source(self) -> None:
        """
        A policy that changes is asked for the one in force.
        """

        @implementer(IPeerPolicySource)
        class Source:
            policy = Policy.fromString("any")

            def decide(self, identity):
                raise AssertionError()

        address, protocol, _ = self.receive(policy=Source())
        self.sender().sendto(b"x", address)
        await self.until(lambda: protocol.received)

    def hold(self, **options):
        """
        With a policy that takes its time.
        """
        self.answers = []
        self.cancelled = []
        test = self

        class Slow:
            def decide(self, identity):
                test.answers.append(Deferred(test.cancelled.append))
                return test.answers[-1]

        return self.receive(policy=Slow(), **options)

    async def test_slow(self) -> None:
        """
        While the policy takes its time the next datagrams wait, in order.
        """
        address, protocol, port = self.hold()
        sender = self.sender()
        for data in (b"1", b"2", b"3"):
            sender.sendto(data, address)
        for number, admitted in ((1, True), (2, False), (3, True)):
            await self.until(lambda: len(self.answers) == number)
            await self.until(self.readUp)
            self.assertEqual(len(self.answers), number)
            port.doRead()
            self.answers[-1].callback(Decision(admitted, "test"))
        self.assertEqual([each[0] for each in protocol.received], [b"1", b"3"])
        self.assertEqual(port.dropped, {"rule": 1})

    async def test_timeout(self) -> None:
        """
        A policy that takes too long has refused; its Deferred is cancelled, and
        the next one is asked about.
        """
        clock = Clock()
        address, protocol, port = self.hold(clock=clock, timeout=3)
        sender = self.sender()
        for _ in range(2):
            sender.sendto(b"x", address)
        await self.until(lambda: self.answers)
        clock.advance(3)
        self.assertEqual(len(self.cancelled), 1)
        self.assertEqual(port.dropped, {"timeout": 1})
        await self.until(lambda: len(self.answers) == 2)
        self.answers[1].callback(Decision(True, "test"))
        self.assertEqual(len(protocol.received), 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    @skipIf(needsProcessHandles, needsProcessHandles)
    async def test_stopped(self) -> None:
        """
        When the port is closed meanwhile, nothing is left over.
        """
        before = openHandles()
        address, protocol, port = self.hold(processHandles=True)
        sender = self.sender()
        sender.sendto(b"x", address)
        await self.until(lambda: self.answers)
        await port.stopListening()
        self.assertEqual(len(self.cancelled), 1)
        self.assertEqual(protocol.received, [])
        self.assertEqual(openHandles(), before)


@skipIf(needsProcessHandles, needsProcessHandles)
class ProcessTests(DatagramTestCase):
    """
    Tests for C{processHandles=True}.
    """

    async def test_process(self) -> None:
        """
        Each datagram comes with its sender's process, which is let go of when
        the protocol has dealt with it.
        """
        infos = []

        class Asking(Keeping):
            def datagramReceivedFrom(self, data, address, credentials, process):
                infos.append((process.info(), process))

        address, _, port = self.receive(Asking(), processHandles=True)
        before = openHandles()
        sender = self.sender()
        sender.sendto(b"x", address)
        await self.until(lambda: infos)
        ((info, process),) = infos
        verifyObject(IPeerProcess, process)
        self.assertEqual((info.pid, info.realUID), (os.getpid(), os.getuid()))
        self.assertEqual(openHandles(), before)
        self.assertEqual(port.dropped, {})

    async def test_kept(self) -> None:
        """
        A protocol that takes its time has the process for as long.
        """
        gate = Deferred()
        infos = []

        class Waiting(Keeping):
            async def datagramReceivedFrom(self, data, address, credentials, process):
                infos.append(await process.status())
                await gate
                infos.append(process.info())

        address, _, _ = self.receive(Waiting(), processHandles=True)
        before = openHandles()
        self.sender().sendto(b"x", address)
        await self.until(lambda: infos)
        self.assertEqual(openHandles(), before + 1)
        gate.callback(None)
        self.assertEqual(infos[0]["Pid"], str(infos[1].pid))
        self.assertEqual(openHandles(), before)

    @skipIf(needsAnotherUser, needsAnotherUser)
    async def test_none(self) -> None:
        """
        Where no descriptor is free there is no process, and the datagram is
        delivered: its sender is known.
        """
        address, protocol, _ = self.receive(processHandles=True)
        sender = self.sender()
        self.exhaust()
        sender.sendto(b"x", address)
        await self.until(lambda: protocol.received)
        self.assertEqual(protocol.received, [(b"x", None, self.ours(), None)])

    async def test_refused(self) -> None:
        """
        The handle of a datagram that is dropped is closed.
        """
        address, _, port = self.receive(
            policy=Policy.fromString("!any"), processHandles=True
        )
        before = openHandles()
        self.sender().sendto(b"x", address)
        await self.until(lambda: port.dropped)
        self.assertEqual(openHandles(), before)
