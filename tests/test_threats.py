"""
What must never happen, staged for real: a test for each row of the threat
model that live sockets on Linux can show.  Rows K1-K11 are the kernel's traps,
A3-A8 an attacker's moves.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsTruncated,
    CredentialsUnavailable,
    PeerChanged,
)
from twisted_peercred.kernels import linux, thisKernel
from twisted_peercred.policy import Decision

from .support import (
    TWO_WRITERS,
    FailingKernel,
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    environment,
    flat,
    isRoot,
    needsRoot,
    openDescriptors,
    runClient,
)

MESSAGES = (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)

HELLO = """
peer = connect()
try:
    peer.send(b"hello")
except BrokenPipeError:
    # A server may have closed already.
    pass
print(json.dumps([os.getpid(), len(readAll(peer))]))
"""


class Releasing(Remembering):
    """
    Answers the first bytes by closing.
    """

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.transport.loseConnection()


class KernelTrapTests(LiveTestCase):
    """
    Rows K1 to K11.
    """

    async def greet(self, identity: str, capture: Capture) -> tuple:
        """
        Have a client of some identity say hello.

        @return: who the server says it is, who it was when it connected, and
            its pid.
        """
        address, wrapped = self.serve(Releasing, capture=capture)
        pid, _ = json.loads(await runClient(address, identity + HELLO))
        (protocol,) = wrapped.made
        return protocol.peer, protocol.transport.connectionCredentials, pid

    async def test_K1_endOfFile(self) -> None:
        """
        The kernel gives end of file with the credentials of root; nobody is
        root for it.
        """
        ours, theirs = socket.socketpair()
        with ours:
            thisKernel().askForMessages(ours)
            theirs.close()
            data, ancillary, _, _ = ours.recvmsg(1, 100)
            self.assertEqual((data, ancillary), (b"", [(1, 2, bytes(12))]))
        leave = "connect()" if not isRoot else "become(1000, 1000); connect()"
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture)
            before = openDescriptors()
            for _ in range(10):
                await runClient(address, leave)
            await self.until(lambda: openDescriptors() == before)
            self.assertEqual(wrapped.made, [])
            self.assertEqual(len(self.factory._waiting), 0)

    async def test_K2_placeholder(self) -> None:
        """
        What is sent between accept(2) and a late option comes with a
        placeholder; it is nobody's, and not the user nobody's.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"early")
            thisKernel().askForMessages(ours)
            theirs.send(b"late")
            for capture in MESSAGES:
                self.assertRaises(
                    CredentialsUnavailable, thisKernel().peekMessage, ours, capture
                )
            ours.recv(5)
            message = thisKernel().peekMessage(ours, Capture.FIRST_MESSAGE)
            self.assertEqual(message.credentials.uid, os.getuid())

    def test_K3_noConnection(self) -> None:
        """
        C{SO_PEERCRED} succeeds on sockets that have no peer, or one of another
        kind; they have no credentials.
        """
        listening = socket.create_server(("127.0.0.1", 0))
        connected = socket.create_connection(listening.getsockname())
        unconnected = socket.socket(socket.AF_UNIX)
        datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in (listening, connected, unconnected, datagram):
            with each:
                each.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
                self.assertRaises(
                    CredentialsUnavailable, thisKernel().connectionCredentials, each
                )

    async def test_K4_truncated(self) -> None:
        """
        Descriptors that did not fit are gone: those that did are closed, and
        the connection is aborted before its bytes are delivered.
        """
        self.patch(linux, "DESCRIPTORS_ROOM", socket.CMSG_SPACE(4 * 3))
        for capture in Capture:
            address, wrapped = self.serve(Receiving, capture=capture)
            before = openDescriptors()
            peer = self.connect(address)
            self.sendDescriptor(peer, b"hello", 10)
            protocol = await (await self.made(wrapped)).ended
            protocol.lost.trap(CredentialsTruncated)
            self.assertEqual(protocol.received, [])
            self.assertEqual(openDescriptors(), before + 1)
            peer.close()

    async def test_K5_manyControlMessages(self) -> None:
        """
        A socket whose former owner asked the kernel for handles of processes
        and labels too gives several control messages with each read: what was
        asked for is found, what was not is closed.
        """
        for capture in Capture:
            path = os.path.join(self.directory, capture.value)
            listening = socket.socket(socket.AF_UNIX)
            for option in (socket.SO_PASSSEC, 76):
                listening.setsockopt(socket.SOL_SOCKET, option, 1)
            listening.bind(path)
            listening.listen(5)
            listening.setblocking(False)
            wrapped = RememberingFactory(Receiving)
            factory = CredentialedUNIXServerFactory(wrapped, capture=capture)
            self.adoptPort(
                reactor.adoptStreamPort(listening.fileno(), socket.AF_UNIX, factory)
            )
            listening.close()
            before = openDescriptors()
            peer = self.connect(path)
            for _ in range(20):
                self.sendDescriptor(peer, b"hello", 2)
            peer.shutdown(socket.SHUT_WR)
            protocol = await (await self.made(wrapped)).ended
            self.assertEqual(flat(protocol.received), b"hello" * 20)
            self.assertEqual(len(wrapped.descriptors), 40)
            for each in wrapped.descriptors:
                self.assertTrue(os.path.samestat(os.fstat(each), os.stat(os.devnull)))
                os.close(each)
            self.assertEqual(openDescriptors(), before + 1)
            peer.close()

    @skipIf(needsRoot, needsRoot)
    async def test_K6_greatNumbers(self) -> None:
        """
        uid and gid are unsigned to the last one.
        """
        for number in (2**31 - 1, 2**31, 2**32 - 2):
            for capture in Capture:
                peer, connection, pid = await self.greet(
                    f"become({number}, {number}, [{number}])", capture
                )
                for each in (peer, connection):
                    self.assertEqual((each.uid, each.gid), (number, number))
                    self.assertEqual(each.pid, pid)
                self.assertEqual(connection.groups, (number,))

    @skipIf(needsRoot, needsRoot)
    async def test_K7_manyGroups(self) -> None:
        """
        Groups are complete: none, some, as many as CPython has room for, more,
        and with the primary group added.
        """
        for count in (0, 1, 255, 256, 257, 1000, 65536):
            peer, _, _ = await self.greet(
                f"become(1000, 7, list(range(100000, 100000 + {count})))",
                Capture.CONNECT,
            )
            self.assertEqual(peer.groups, (7, *range(100000, 100000 + count)))

    async def inNamespace(self, options, capture, client, *rules) -> list:
        """
        What a server in namespaces of its own says.
        """
        address = os.path.join(self.directory, "ns")
        server = subprocess.Popen(
            [
                "unshare",
                *options,
                sys.executable,
                "-m",
                "tests.serve",
                address,
                capture.value,
                *rules,
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        try:
            line = await deferToThread(server.stdout.readline)
            self.assertEqual(line, "ready\n")
            await runClient(address, client)
            return (await deferToThread(server.stdout.readline)).strip()
        finally:
            # The one that unshare forked goes with it: --kill-child.
            server.kill()
            server.wait()
            server.stdout.close()
            os.unlink(address)

    @skipIf(needsRoot, needsRoot)
    async def test_K8_pidNamespace(self) -> None:
        """
        A peer outside of the server's PID namespace has no pid, and is itself
        otherwise; root there cannot be told from nobody by a message, and is
        refused with a word on what to use.
        """
        options = ("--pid", "--fork", "--kill-child")
        for capture in Capture:
            answer = json.loads(
                await self.inNamespace(options, capture, "become(1000, 100)" + HELLO)
            )
            self.assertEqual((answer["uid"], answer["gid"]), (1000, 100))
            self.assertIsNone(answer["pid"])
        answer = json.loads(await self.inNamespace(options, Capture.CONNECT, HELLO))
        self.assertEqual((answer["uid"], answer["pid"]), (0, None))
        for capture in MESSAGES:
            answer = await self.inNamespace(options, capture, HELLO)
            self.assertIn("use Capture.CONNECT", answer)

    @skipIf(needsRoot, needsRoot)
    async def test_K8_userNamespace(self) -> None:
        """
        A peer whose IDs the server's user namespace does not map is nobody,
        and not the user nobody; one whose IDs it maps is itself.
        """
        options = ("--user", "--map-root-user", "--kill-child", "--fork")
        for capture in Capture:
            for client in ("become(1000, 0)", "become(0, 1000)", "become(65534, 0)"):
                answer = await self.inNamespace(options, capture, client + HELLO)
                self.assertTrue(answer.startswith("refused"), answer)
                self.assertIn("does not map", answer)
            answer = json.loads(await self.inNamespace(options, capture, HELLO))
            self.assertEqual((answer["uid"], answer["gid"]), (0, 0))
        answer = json.loads(
            await self.inNamespace(
                options, Capture.CONNECT, "become(0, 0, [1000])" + HELLO
            )
        )
        self.assertIsNone(answer["groups"])

    @skipIf(needsRoot, needsRoot)
    async def test_K8_policy(self) -> None:
        """
        A peer that the server's user namespace does not map gets past no
        policy, not even one that admits the user and the group that it looks
        like; of one whose groups are not mapped they are not known, and what a
        rule says about groups does not admit it.
        """
        options = ("--user", "--map-root-user", "--kill-child", "--fork")
        for capture in Capture:
            for client in ("become(1000, 0)", "become(65534, 65534)"):
                answer = await self.inNamespace(
                    options, capture, client + HELLO, "uid/65534,gid/65534,any"
                )
                self.assertTrue(answer.startswith("refused"), answer)
                self.assertIn("does not map", answer)
        client = "become(0, 0, [1000])" + HELLO
        for rules, admitted in (
            ("gid/65534", False),
            ("gid/1000", False),
            ("!gid/65534,any", False),
            ("gid/0", True),
        ):
            answer = await self.inNamespace(options, Capture.CONNECT, client, rules)
            self.assertEqual(not answer.startswith("refused"), admitted, answer)

    @skipIf(needsRoot, needsRoot)
    async def test_K9_effectiveAndReal(self) -> None:
        """
        A setuid client is its effective user at connect-time and its real one
        at message-time; the two are kept apart.
        """
        setuid = "become(1000, 1000, euid=1001)"
        peer, connection, _ = await self.greet(setuid, Capture.CONNECT)
        self.assertIs(peer, connection)
        self.assertEqual((peer.uid, peer.realUID), (1001, None))
        for capture in MESSAGES:
            peer, connection, _ = await self.greet(setuid, capture)
            self.assertEqual((peer.uid, connection.uid), (1000, 1001))

    @skipIf(needsRoot, needsRoot)
    async def test_K10_assertedByRoot(self) -> None:
        """
        Root may write any IDs into a message; who connected stays beside it.
        Anybody else may not.
        """
        lie = """
peer = connect()
try:
    peer.sendmsg([b"x"], [(1, 2, struct.pack("iII", os.getppid(), 1234, 5678))])
except PermissionError:
    peer.send(b"x")
readAll(peer)
"""
        for identity, uid in (("", 1234), ("become(1000, 1000)", 1000)):
            for capture in MESSAGES:
                address, wrapped = self.serve(Releasing, capture=capture)
                await runClient(address, identity + lie)
                (protocol,) = wrapped.made
                connection = protocol.transport.connectionCredentials
                self.assertEqual(protocol.peer.uid, uid)
                self.assertEqual(connection.uid, 1000 if identity else 0)
                self.assertNotEqual(connection.pid, os.getpid())

    @skipIf(needsRoot, needsRoot)
    async def test_K11_anotherWriter(self) -> None:
        """
        Another user writes on the same connection: with C{EVERY_MESSAGE} its
        bytes are never taken for the first one's.
        """
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE)
        await runClient(address, TWO_WRITERS + "readAll(peer)\n")
        protocol = await wrapped.made[0].ended
        self.assertEqual(protocol.received, [b"alice"])
        changed = protocol.lost.value
        self.assertIsInstance(changed, PeerChanged)
        self.assertEqual((changed.old.uid, changed.new.uid), (1000, 1001))


class OutOfBandTests(LiveTestCase):
    """
    Bytes sent with MSG_OOB, which a look at a socket passes over.
    """

    async def test_firstWriter(self) -> None:
        """
        One process sends a byte out of band, another the next bytes: the first
        message is the first one's, and all bytes are there, in order.
        """
        writer = (
            "import os, socket, sys\n"
            "peer = socket.socket(fileno=int(sys.argv[1]))\n"
            "peer.send(sys.argv[2].encode(), int(sys.argv[3]))\n"
            "print(os.getpid())"
        )
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture)
            peer = self.connect(address)
            number = str(peer.fileno())
            # In this turn of the reactor: it has not accepted yet.
            first, second = (
                int(
                    subprocess.check_output(
                        [sys.executable, "-c", writer, number, text, str(int(flags))],
                        pass_fds=(peer.fileno(),),
                    )
                )
                for text, flags in (("X", socket.MSG_OOB), ("yz", 0))
            )
            protocol = await self.made(wrapped)
            self.assertEqual(protocol.peer.pid, first)
            await self.until(lambda: protocol.received)
            if capture is Capture.EVERY_MESSAGE:
                await protocol.ended
                self.assertEqual(protocol.received, [b"X"])
                self.assertEqual(protocol.lost.value.new.pid, second)
            else:
                peer.close()
                await protocol.ended
                self.assertEqual(flat(protocol.received), b"Xyz")

    async def test_alone(self) -> None:
        """
        Such a byte alone identifies its writer, and does not keep the reactor
        busy for ever.
        """
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture)
            self.connect(address).send(b"X", socket.MSG_OOB)
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(protocol.received, [b"X"])

    async def test_whileDeciding(self) -> None:
        """
        Nor does it while a policy is asked: the connection is not read.
        """
        asked = []

        class Slow:
            def decide(self, identity):
                asked.append(Deferred())
                return asked[-1]

        for capture in Capture:
            address, wrapped = self.serve(capture=capture, policy=Slow())
            peer = self.connect(address)
            await self.until(lambda: asked)
            peer.send(b"X", socket.MSG_OOB)
            (waiting,) = self.factory._waiting._guests.values()
            (arrival,) = waiting
            await self.until(lambda: arrival._transport not in reactor.getReaders())
            while asked:
                asked.pop().callback(Decision(True, "any"))
                await self.until(lambda: asked or wrapped.made)
            await self.made(wrapped)


class AttackerTests(LiveTestCase):
    """
    Rows A3, A4, A5 and A8.
    """

    @skipIf(needsRoot, needsRoot)
    async def test_A3_passedToPrivileged(self) -> None:
        """
        A user hands its connection to a program that runs as root, whose bytes
        then carry root's IDs: who connected is still there to decide by, and
        C{EVERY_MESSAGE} ends a connection that changes hands.
        """
        passed = """
ours, theirs = socket.socketpair()
pid = os.fork()
if not pid:
    become(1000, 1000)
    peer = connect()
    if sys.argv[2]:
        peer.send(sys.argv[2].encode())
    theirs.sendmsg([b"x"], [(1, 1, struct.pack("i", peer.fileno()))])
    os._exit(0)
_, ((_, _, data),), _, _ = ours.recvmsg(1, 100)
peer = socket.socket(fileno=struct.unpack("i", data)[0])
os.waitpid(pid, 0)
time.sleep(0.1)
peer.send(b"privileged")
peer.shutdown(socket.SHUT_WR)
readAll(peer)
"""
        for capture in MESSAGES:
            address, wrapped = self.serve(capture=capture)
            await runClient(address, passed, "")
            protocol = await wrapped.made[0].ended
            self.assertEqual(protocol.peer.uid, 0)
            self.assertEqual(protocol.transport.connectionCredentials.uid, 1000)
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE)
        await runClient(address, passed, "alice")
        protocol = await wrapped.made[0].ended
        self.assertEqual(protocol.received, [b"alice"])
        self.assertEqual(protocol.lost.value.new.uid, 0)

    async def test_A4_textInAddress(self) -> None:
        """
        What a client calls its own socket is never parsed, and logged as
        C{repr}.
        """
        names = (";uid=0;", "uid=0\nRefused root", "\x1b[2Juid=0", "pid=1,uid=0")
        for capture in Capture:
            for name in names:
                address, wrapped = self.serve(
                    Releasing, capture=capture, syncWord=b"sync"
                )
                path = os.path.join(self.directory, name)
                code = (
                    "become(1000, 1000)\n"
                    * isRoot
                    + "peer = socket.socket(socket.AF_UNIX)\n"
                    "peer.bind(sys.argv[2])\n"
                    "peer.connect(address)\n"
                    "peer.send(sys.argv[3].encode())\n"
                    "readAll(peer)\n"
                )
                os.chmod(self.directory, 0o1777)
                await runClient(address, code, path, "synchello")
                (protocol,) = wrapped.made
                self.assertEqual(protocol.peer.uid, 1000 if isRoot else os.getuid())
                os.unlink(path)
                await runClient(address, code, path, "wrong")
                (event,) = [each for each in self.events if each.get("rule")]
                text = formatEvent(event)
                self.assertNotIn("\n", text)
                self.assertNotIn("\x1b", text)
                self.assertEqual(event["uid"], protocol.peer.uid)
                os.unlink(path)
                self.events.clear()

    @skipIf(needsRoot, needsRoot)
    async def test_A5_silence(self) -> None:
        """
        One user opens a thousand connections and says nothing: others get in
        all the time, and the silent ones go when their time is up.
        """
        for capture in MESSAGES:
            address, wrapped = self.serve(
                Releasing, capture=capture, timeout=2, maxUnidentified=16
            )
            before = openDescriptors()
            over = os.path.join(self.directory, "over-" + capture.value)
            flood = runClient(
                address,
                "become(1000, 1000)\n"
                "peers = []\n"
                "for _ in range(1000):\n"
                "    try:\n"
                "        peers.append(connect())\n"
                "    except OSError:\n"
                "        pass\n"
                "while not os.path.exists(sys.argv[2]):\n"
                "    time.sleep(0.01)",
                over,
            )
            for _ in range(10):
                await runClient(
                    address,
                    "become(1001, 1001)\n"
                    "peer = connect()\n"
                    "time.sleep(0.02)\n"
                    "peer.send(b'x')\n"
                    "assert readAll(peer) == b''\n",
                )
            self.assertEqual({each.peer.uid for each in wrapped.made}, {1001})
            self.assertEqual(len(wrapped.made), 10)
            self.assertTrue(len(self.factory._waiting) <= 16)
            await self.until(lambda: len(self.factory._waiting) == 0)
            self.assertFalse(flood.called)
            Path(over).touch()
            await flood
            await self.until(lambda: openDescriptors() == before)

    async def test_A8_descriptors(self) -> None:
        """
        Descriptors nobody asked for, by the thousand: none is open afterwards,
        whether or not the kernel refuses them at the sender.
        """
        spam = (
            "become(1000, 1000)\n" * isRoot
            + """
peer = connect()
peer.send(b"hello")
time.sleep(0.2)
null = os.open(os.devnull, os.O_RDONLY)
refused = 0
for _ in range(100):
    try:
        peer.sendmsg([b"x"], [(1, 1, struct.pack("i", null) * 100)])
    except OSError:
        refused += 1
        peer.send(b"x")
peer.shutdown(socket.SHUT_WR)
readAll(peer)
print(refused)
"""
        )
        for capture in Capture:
            for refuses in (True, False):
                kernel = FailingKernel("", OSError())
                if not refuses:
                    kernel.setDescriptorsWanted = lambda sock, wanted: None
                address, wrapped = self.serve(capture=capture, kernel=kernel)
                before = openDescriptors()
                await runClient(address, spam)
                protocol = await wrapped.made[0].ended
                self.assertEqual(flat(protocol.received), b"hello" + b"x" * 100)
                self.assertEqual(openDescriptors(), before)
