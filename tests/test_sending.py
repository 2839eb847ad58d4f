"""
Tests for L{twisted_peercred.sending}: real connections, and a server that
knows who wrote each byte.
"""

import errno
import os
import socket
import struct
from contextlib import contextmanager
from hashlib import sha256
from unittest import skipIf

from twisted.internet import error, main, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IPushProducer
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_peercred import (
    SYNC_WORD,
    Capture,
    CredentialedUNIXClientFactory,
    CredentialsRejected,
    CredentialsUnsupported,
    IPeerCredentialsReceiver,
    PeerRefused,
    sendCredentials,
)
from twisted_peercred.connecting import unsentBytes
from twisted_peercred.kernels import thisKernel

from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    flat,
    needsRoot,
)

ME = (os.getuid(), os.getgid())
#: A process that there is not.
NOBODY = [
    (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iII", 2**31 - 1, *ME))
]


@implementer(IPeerCredentialsReceiver)
class Attributing(Remembering):
    """
    Remembers who wrote what.
    """

    def dataReceived(self, data: bytes) -> None:
        peer = self.transport.peerCredentials
        writer = (peer.uid, peer.gid)
        if self.received and self.received[-1][0] == writer:
            data = self.received.pop()[1] + data
        self.received.append((writer, data))

    def peerCredentialsChanged(self, old, new) -> None:
        pass


class Decided:
    """
    Yes.
    """

    admitted, rule = True, "any"


class SilentKernel:
    """
    A kernel that attaches credentials by itself, and where nobody can choose.
    """

    def credentialsToSend(self, pid=None, uid=None, gid=None):
        return []

    def __getattr__(self, name):
        return getattr(thisKernel(), name)


def short(data: bytes) -> object:
    """
    Something to compare, and to print when that fails, in place of the data.
    """
    if len(data) < 1000:
        return data
    return data[:3], len(data), data[-20:], sha256(data).hexdigest()


@contextmanager
def unprivileged():
    """
    Be a setuid program: real, effective and saved uid differ, and the
    effective is not root's.
    """
    if os.geteuid():
        yield
        return
    os.setresuid(1001, 1002, 0)
    try:
        yield
    finally:
        os.setresuid(1001, 0, 0)
        os.setresuid(0, 0, 0)


class SendingTestCase(LiveTestCase):
    """
    A server that knows who wrote what, and a client.
    """

    async def connectPair(self, protocol=Attributing, client=Remembering, **options):
        """
        @return: the client's protocol and the server's, which has got one byte.
        """
        address, wrapped = self.serve(protocol, capture=Capture.EVERY_MESSAGE)
        ours = RememberingFactory(client)
        factory = CredentialedUNIXClientFactory(ours, **options)
        await UNIXClientEndpoint(reactor, address).connect(factory)
        client = ours.made[0]
        client.transport.write(b".")
        server = await self.made(wrapped)
        await self.until(lambda: server.received)
        self.addCleanup(client.transport.loseConnection)
        return client, server

    async def finish(self, client, server):
        """
        @return: who wrote what, without the first byte.
        """
        client.transport.loseConnection()
        await server.ended
        writer, data = server.received[0]
        server.received[0] = (writer, data[1:])
        return [(each, short(data)) for each, data in server.received if data]

    def fill(self, client, server) -> int:
        """
        Have bytes wait in the client's buffer.

        @return: how many bytes were written.
        """
        server.transport.pauseProducing()
        count = 0
        while unsentBytes(client.transport) < 300_000:
            client.transport.write(b"x" * 100_000)
            client.transport.doWrite()
            count += 100_000
        return count


class SendCredentialsTests(SendingTestCase):
    """
    Tests for L{sendCredentials}.
    """

    async def test_own(self) -> None:
        """
        A message of this process's own IDs is the sync word, sent at once.
        """
        client, server = await self.connectPair()
        self.assertIsNone(self.successResultOf(sendCredentials(client.transport)))
        self.assertEqual(unsentBytes(client.transport), 0)
        self.assertEqual(await self.finish(client, server), [(ME, SYNC_WORD)])
        self.assertEqual(SYNC_WORD, struct.pack("i", 0x11223344))

    async def test_data(self) -> None:
        """
        Other bytes can carry it.
        """
        client, server = await self.connectPair()
        sendCredentials(client.transport, data=b"\0")
        self.assertEqual(await self.finish(client, server), [(ME, b"\0")])

    @skipIf(needsRoot, needsRoot)
    async def test_chosen(self) -> None:
        """
        Root may send any; the bytes before and after it are its own.
        """
        client, server = await self.connectPair()
        client.transport.write(b"before")
        waiting = sendCredentials(client.transport, uid=5, gid=6, data=b"five")
        client.transport.write(b"after")
        self.assertIsNone(await waiting)
        self.assertEqual(
            await self.finish(client, server),
            [(ME, b"before"), ((5, 6), b"five"), (ME, b"after")],
        )

    @skipIf(needsRoot, needsRoot)
    async def test_pid(self) -> None:
        """
        Root may name another process.
        """
        client, server = await self.connectPair()
        await sendCredentials(client.transport, pid=1)
        await self.until(lambda: server.transport.peerCredentials.pid == 1)

    @skipIf(needsRoot, needsRoot)
    async def test_order(self) -> None:
        """
        Messages keep their places among bytes that wait in the transport, of
        a reader that is slow, whatever is written between them and after.
        """
        client, server = await self.connectPair()
        transport = client.transport
        count = self.fill(client, server)
        one = sendCredentials(transport, uid=1, data=b"one")
        two = sendCredentials(transport, uid=2, data=b"two")
        transport.write(b"between")
        three = sendCredentials(transport, uid=3, data=b"3" * 500_000)
        transport.writeSequence([b"the", b"end"])
        transport.loseConnection()
        for each in (one, two, three):
            self.assertNoResult(each)
        server.transport.resumeProducing()
        for each in (one, two, three):
            self.assertIsNone(await each)
        _, gid = ME
        self.assertEqual(
            await self.finish(client, server),
            [
                (ME, short(b"x" * count)),
                ((1, gid), b"one"),
                ((2, gid), b"two"),
                (ME, b"between"),
                ((3, gid), short(b"3" * 500_000)),
                (ME, b"theend"),
            ],
        )
        self.assertNotIn("writeSomeData", vars(transport))
        self.assertNotIn("connectionLost", vars(transport))

    @skipIf(needsRoot, needsRoot)
    async def test_largeMessage(self) -> None:
        """
        A message that the kernel takes in pieces has its credentials in each.
        """
        client, server = await self.connectPair()
        server.transport.pauseProducing()
        body = bytes(range(256)) * 10_000
        waiting = sendCredentials(client.transport, uid=7, data=body)
        client.transport.doWrite()
        self.assertNoResult(waiting)
        client.transport.write(b"after")
        server.transport.resumeProducing()
        await waiting
        self.assertEqual(
            await self.finish(client, server),
            [((7, ME[1]), short(body)), (ME, b"after")],
        )

    @skipIf(needsRoot, needsRoot)
    async def test_rejected(self) -> None:
        """
        What the kernel does not vouch for is a typed error that says what was
        tried; nothing of the message is sent, and the connection lives on:
        sent at once, and after waiting.
        """
        for wait in (False, True):
            client, server = await self.connectPair()
            count = self.fill(client, server) if wait else 0
            for claim, number in (
                ({"uid": 2**32 - 1}, errno.EINVAL),
                ({"pid": 2**31 - 1}, errno.ESRCH),
            ):
                before = sendCredentials(client.transport, uid=1, data=b"1")
                waiting = sendCredentials(client.transport, data=b"not this", **claim)
                client.transport.write(b"this")
                if wait:
                    self.assertNoResult(waiting)
                    server.transport.resumeProducing()
                problem = await self.assertFailure(waiting, CredentialsRejected)
                self.assertEqual((problem.claim, problem.errno), (claim, number))
                ((name, value),) = claim.items()
                self.assertIn(f"{name}={value}", str(problem))
                await before
            first, second = ((1, ME[1]), b"1"), (ME, b"this")
            expected = [first, second, first, second]
            if wait:
                expected.insert(0, (ME, short(b"x" * count)))
            self.assertEqual(await self.finish(client, server), expected)

    async def test_notPermitted(self) -> None:
        """
        Who is not root gets EPERM for the IDs of others; the connection goes
        on.
        """
        client, server = await self.connectPair()
        with unprivileged():
            expected = (os.getuid(), os.getgid())
            for claim in ({"uid": 54321}, {"gid": 54321}, {"pid": 1}):
                sent = sendCredentials(client.transport, data=b"not this", **claim)
                problem = self.failureResultOf(sent, CredentialsRejected).value
                self.assertEqual((problem.claim, problem.errno), (claim, errno.EPERM))
                ((name, number),) = claim.items()
                self.assertTrue(
                    str(problem).startswith(
                        f"not sent as {name}={number}: Operation not permitted (a uid"
                    )
                )
            self.successResultOf(sendCredentials(client.transport))
        self.assertEqual(await self.finish(client, server), [(expected, SYNC_WORD)])

    @skipIf(needsRoot, needsRoot)
    async def test_setuid(self) -> None:
        """
        A setuid program chooses among its real, effective and saved IDs.
        """
        client, server = await self.connectPair()
        with unprivileged():
            for uid in (None, 1002, 0):
                data = str(uid).encode()
                self.successResultOf(
                    sendCredentials(client.transport, uid=uid, data=data)
                )
        _, gid = ME
        self.assertEqual(
            await self.finish(client, server),
            [((1001, gid), b"None"), ((1002, gid), b"1002"), ((0, gid), b"0")],
        )

    async def test_lost(self) -> None:
        """
        Messages that wait are told when the connection is lost.
        """
        for how in ("abortConnection", "theirs"):
            client, server = await self.connectPair()
            self.fill(client, server)
            waiting = [sendCredentials(client.transport) for _ in range(2)]
            if how == "theirs":
                server.transport.abortConnection()
            else:
                client.transport.abortConnection()
            for each in waiting:
                await self.assertFailure(
                    each, error.ConnectionAborted, error.ConnectionLost
                )
            self.assertIsNotNone(client.lost)

    async def test_alreadyLost(self) -> None:
        """
        On a connection that is gone, or half-closed, nothing is sent.
        """
        client, server = await self.connectPair()
        transport = client.transport
        count = self.fill(client, server)
        transport.loseWriteConnection()
        server.transport.resumeProducing()
        await self.until(lambda: server.halfClosed)
        await self.assertFailure(sendCredentials(transport), error.ConnectionLost)
        await server.ended
        self.assertEqual(len(b"".join(b for _, b in server.received)), count + 1)
        transport.loseConnection()
        await client.ended
        await self.assertFailure(sendCredentials(transport), error.ConnectionLost)

    async def test_brokenPipe(self) -> None:
        """
        Nor on one that the other end has closed.
        """
        client, server = await self.connectPair()
        client.transport.pauseProducing()
        server.transport.abortConnection()
        await server.ended
        sent = sendCredentials(client.transport)
        await self.assertFailure(sent, error.ConnectionLost)

    async def test_arguments(self) -> None:
        """
        What can never be sent is refused at once.
        """
        client, server = await self.connectPair()
        for wrong in ({"data": b""}, {"uid": -1}, {"uid": 2**32}, {"pid": "root"}):
            with self.assertRaises(ValueError):
                sendCredentials(client.transport, **wrong)
        for transport in (StringTransport(), None):
            with self.assertRaises(CredentialsUnsupported):
                sendCredentials(transport)
        client.transport.TLS = True
        with self.assertRaises(CredentialsUnsupported):
            sendCredentials(client.transport)
        client.transport.TLS = False
        self.assertEqual(await self.finish(client, server), [])

    async def test_stockTransports(self) -> None:
        """
        Any Unix transport can send, of a server too, and one that this package
        has not made.
        """
        server = RememberingFactory()
        address = self.listen(server)
        client = RememberingFactory()
        connecting = UNIXClientEndpoint(reactor, address).connect(client)
        await connecting
        (ours,) = client.made
        theirs = await self.made(server)
        await sendCredentials(theirs.transport)
        await sendCredentials(ours.transport)
        await self.until(lambda: ours.received and theirs.received)
        self.assertEqual(ours.received + theirs.received, [SYNC_WORD] * 2)
        ours.transport.loseConnection()
        await theirs.ended

    async def test_inDoWrite(self) -> None:
        """
        A producer that sends credentials when it is asked for more, and a
        callback that does, keep the order too.
        """
        client, server = await self.connectPair()
        transport = client.transport

        @implementer(IPushProducer)
        class Producer:
            def __init__(self) -> None:
                self.done = Deferred()

            def pauseProducing(self) -> None:
                pass

            stopProducing = pauseProducing

            def resumeProducing(self) -> None:
                transport.unregisterProducer()
                transport.write(b"<")
                sent = sendCredentials(transport, data=b"word")
                transport.write(b">")
                sent.addCallback(lambda _: sendCredentials(transport, data=b"again"))
                sent.chainDeferred(self.done)

        producer = Producer()
        count = self.fill(client, server)
        transport.registerProducer(producer, True)
        transport.write(b"x")
        server.transport.resumeProducing()
        await producer.done
        self.assertEqual(
            await self.finish(client, server),
            [(ME, short(b"x" * (count + 1) + b"<word>again"))],
        )

    async def test_descriptors(self) -> None:
        """
        Descriptors and messages do not disturb each other.
        """

        class Both(Receiving, Attributing):
            pass

        client, server = await self.connectPair(Both)
        self.patch(Both, "dataReceived", Remembering.dataReceived)
        count = self.fill(client, server)
        with open(os.devnull) as null:
            client.transport.sendFileDescriptor(null.fileno())
            waiting = sendCredentials(client.transport)
            client.transport.write(b"end")
            server.transport.resumeProducing()
            await waiting
        await self.until(lambda: flat(server.received).endswith(b"end"))
        (descriptor,) = server.factory.descriptors
        os.close(descriptor)
        self.assertEqual(flat(server.received), b"x" * count + SYNC_WORD + b"end")

    async def test_rejectedLarge(self) -> None:
        """
        All of a message that was rejected is left out, and nothing more.
        """
        client, server = await self.connectPair()
        count = self.fill(client, server)
        word = b"y" * 1_000_000
        waiting = sendCredentials(client.transport, pid=2**31 - 1, data=word)
        client.transport.write(b"end")
        server.transport.resumeProducing()
        await self.assertFailure(waiting, CredentialsRejected)
        self.assertEqual(
            await self.finish(client, server), [(ME, short(b"x" * count + b"end"))]
        )

    async def test_brokenWhileWaiting(self) -> None:
        """
        A pipe that breaks while messages wait ends the connection as it does
        without them.
        """
        client, server = await self.connectPair()
        server.transport.pauseProducing()
        waiting = sendCredentials(client.transport, data=b"y" * 1_000_000)
        server.transport.connectionLost(Failure(error.ConnectionAborted()))
        self.assertIs(client.transport.doWrite(), main.CONNECTION_LOST)
        await self.assertFailure(waiting, error.ConnectionLost, error.ConnectionDone)
        self.assertIsNotNone(client.lost)

    async def test_rejectedInPieces(self) -> None:
        """
        A rejection when part of the message is out already ends the
        connection: the rest could not be left out.
        """
        client, server = await self.connectPair()
        server.transport.pauseProducing()
        waiting = sendCredentials(client.transport, data=b"y" * 1_000_000)
        (message,) = client.transport.writeSomeData._waiting
        server.transport.resumeProducing()
        message.ancillary = [
            (socket.SOL_SOCKET, 2, struct.pack("iII", 2**31 - 1, 0, 0))
        ]
        await self.assertFailure(waiting, CredentialsRejected)
        client.lost.trap(CredentialsRejected)


class FirstTests(SendingTestCase):
    """
    Tests for what a L{CredentialedUNIXClientFactory} sends first.
    """

    def serveWord(self, **options):
        """
        A server of our own for clients that send something first.
        """
        address, wrapped = self.serve(**options)
        self.address = address
        return wrapped

    async def connectTo(self, address, **options):
        """
        @return: the client's protocol.
        """
        ours = RememberingFactory()
        factory = CredentialedUNIXClientFactory(ours, **options)
        await UNIXClientEndpoint(reactor, address).connect(factory)
        (client,) = ours.made
        self.addCleanup(client.transport.loseConnection)
        return client

    async def test_everyWay(self) -> None:
        """
        With a sync word, with credentials and with both, the server gets the
        protocol's own bytes and knows who wrote them, in each capture.
        """
        for capture in Capture:
            for word in (b"", SYNC_WORD, b"HELLO\r\n" * 100):
                for credentials in (False, True):
                    address, wrapped = self.serve(capture=capture, syncWord=word)
                    client = await self.connectTo(
                        address, syncWord=word, sendCredentials=credentials
                    )
                    client.transport.write(b"hello")
                    server = await self.made(wrapped)
                    client.transport.write(b"again")
                    client.transport.loseConnection()
                    await server.ended
                    self.assertEqual(flat(server.received), b"helloagain")
                    self.assertEqual((server.peer.uid, server.peer.gid), ME)
                    self.assertEqual(server.peer.pid, os.getpid())
                    self.assertNotIn("writeSomeData", vars(client.transport))

    async def test_wrongWord(self) -> None:
        """
        A server that expects another word refuses.
        """
        address, wrapped = self.serve(syncWord=SYNC_WORD)
        client = await self.connectTo(address, syncWord=b"wrong")
        await client.ended
        (refusal,) = self.refusals()
        self.assertIsInstance(refusal, PeerRefused)
        self.assertEqual(refusal.rule, "syncWord")
        self.assertEqual(wrapped.made, [])

    async def rawServer(self, **options):
        """
        Connect to a server that reads by hand.  It has accepted the connection
        before anything is sent: the kernel stamps what comes earlier by itself.

        @return: the client's protocol, the server's socket, and the client's
            name.
        """
        address = os.path.join(self.directory, "raw")
        accepted = []

        class Accepting:
            def decide(self, identity):
                accepted.extend(listening.accept())
                return Decided()

        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(5)
            client = await self.connectTo(address, policy=Accepting(), **options)
        os.unlink(address)
        server, name = accepted
        self.addCleanup(server.close)
        return client, server, name

    def read(self, server):
        """
        Ask for credentials, now that the message is here already.

        @return: the bytes, and who wrote them.
        """
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        data, ancillary, _, _ = server.recvmsg(1000, 1000)
        ((_, kind, payload),) = ancillary
        self.assertEqual(kind, socket.SCM_CREDENTIALS)
        return data, struct.unpack("iII", payload)

    async def test_lateReader(self) -> None:
        """
        Credentials that were sent are there for a server that asks after the
        message has come, where those that nobody sent are not (THREATS K2).
        """
        true, placeholder = (os.getpid(), *ME), (0, 65534, 65534)
        for credentials, writer in ((True, true), (False, placeholder)):
            _, server, _ = await self.rawServer(
                syncWord=SYNC_WORD, sendCredentials=credentials
            )
            self.assertEqual(self.read(server), (SYNC_WORD, writer))

    async def test_unnamed(self) -> None:
        """
        Sending credentials does not give the client a name (SO_PASSCRED
        would).
        """
        _, _, name = await self.rawServer(syncWord=SYNC_WORD, sendCredentials=True)
        self.assertEqual(name, "")

    async def test_firstByte(self) -> None:
        """
        Without a sync word the credentials go with the first byte that the
        protocol writes.
        """
        client, server, _ = await self.rawServer(sendCredentials=True)
        client.transport.write(b"hello")
        await self.until(lambda: not unsentBytes(client.transport))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.assertEqual(self.read(server), (b"h", (os.getpid(), *ME)))

    async def test_firstByteIsSentByHand(self) -> None:
        """
        A protocol that sends credentials of its own first has sent them.
        """
        client, server, _ = await self.rawServer(sendCredentials=True)
        # One that is rejected does not count.
        sent = sendCredentials(client.transport, pid=2**31 - 1)
        self.failureResultOf(sent, CredentialsRejected)
        self.assertIn("writeSomeData", vars(client.transport))
        await sendCredentials(client.transport)
        self.assertNotIn("writeSomeData", vars(client.transport))
        self.assertEqual(self.read(server), (SYNC_WORD, (os.getpid(), *ME)))

    async def test_nothingToAttach(self) -> None:
        """
        Where the kernel attaches by itself the sync word is sent alone.
        """
        for word in (SYNC_WORD, b""):
            client, server, _ = await self.rawServer(
                sendCredentials=True, syncWord=word, kernel=SilentKernel()
            )
            self.assertNotIn("writeSomeData", vars(client.transport))
            client.transport.write(b"!")
            server.setblocking(True)
            await self.until(lambda: not unsentBytes(client.transport))
            self.assertEqual(server.recv(100), word + b"!")

    async def test_rejected(self) -> None:
        """
        Where the kernel does not vouch, the connect has failed; or, with the
        first byte, the connection ends by that.
        """
        kernel = SilentKernel()
        kernel.credentialsToSend = lambda: NOBODY
        address, wrapped = self.serve(capture=Capture.FIRST_MESSAGE)
        await self.assertFailure(
            self.connectTo_(address, kernel, SYNC_WORD), CredentialsRejected
        )
        client = await self.connectTo(address, sendCredentials=True, kernel=kernel)
        client.transport.write(b"hello")
        await client.ended
        client.lost.trap(CredentialsRejected)
        self.assertEqual(wrapped.made, [])

    def connectTo_(self, address, kernel, word) -> Deferred:
        return Deferred.fromCoroutine(
            self.connectTo(address, syncWord=word, sendCredentials=True, kernel=kernel)
        )

    async def test_tooLong(self) -> None:
        """
        A sync word that does not go in one message is a connect that failed.
        """
        address, _ = self.serve()
        word = b"x" * 10_000_000
        problem = await self.assertFailure(
            self.connectTo_(address, SilentKernel(), word), error.ConnectError
        )
        self.assertIn("10000000 bytes", str(problem))

    async def test_brokenPipe(self) -> None:
        """
        So is one whose server is gone before the word could be sent.
        """
        address = os.path.join(self.directory, "raw")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(5)
        self.addCleanup(listening.close)

        class Closing(SilentKernel):
            def credentialsToSend(self):
                # A connection that was not accepted ends with this.
                listening.close()
                return []

        await self.assertFailure(
            self.connectTo_(address, Closing(), SYNC_WORD), error.ConnectError
        )
