"""
Tests for L{twisted_peercred.transport}: what a protocol is told of other
writers on its connection.  The rest of the transport is tested with the
factory, in L{tests.test_server}, and by Twisted's own tests, in
L{tests.test_twisted}.
"""

import os
import socket

from twisted.internet import reactor
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentialsReceiver,
    PeerChanged,
)

from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    openDescriptors,
    runClient,
)

#: Two processes write on one connection in turn; ":" sends a descriptor too.
TWO_WRITERS = """
peer = connect()
null = os.open(os.devnull, os.O_RDONLY)

def write(text):
    ancillary = []
    if text.startswith(":"):
        ancillary = [(socket.SOL_SOCKET, 1, struct.pack("i", null))]
    peer.sendmsg([text.encode()], ancillary)

for number, text in enumerate(sys.argv[2:]):
    if number % 2:
        pid = os.fork()
        if not pid:
            write(text)
            os._exit(0)
        os.waitpid(pid, 0)
    else:
        write(text)
peer.shutdown(socket.SHUT_WR)
print(len(readAll(peer)))
"""


@implementer(IPeerCredentialsReceiver)
class Told(Remembering):
    """
    Wants to know of other writers.
    """

    def peerCredentialsChanged(self, old, new):
        self.received.append((old, new))
        assert self.transport.peerCredentials is new


@implementer(IPeerCredentialsReceiver)
class ToldAndReceiving(Receiving):
    """
    Wants to know of other writers, and descriptors.
    """

    def peerCredentialsChanged(self, old, new):
        self.received.append((old, new))


class EveryMessageTests(LiveTestCase):
    """
    Tests for L{Capture.EVERY_MESSAGE}.
    """

    async def test_told(self) -> None:
        """
        A protocol that provides L{IPeerCredentialsReceiver} is told of each
        writer before its bytes, and bytes of two are never in one piece
        (THREATS K11).
        """
        address, wrapped = self.serve(Told, capture=Capture.EVERY_MESSAGE)
        await runClient(address, TWO_WRITERS, "a", "b", "c")
        protocol = await (await self.made(wrapped)).ended
        a, first, b, second, c = protocol.received
        self.assertEqual((a, b, c), (b"a", b"b", b"c"))
        parent, child = first
        self.assertEqual(parent, protocol.peer)
        self.assertNotEqual(parent.pid, child.pid)
        self.assertEqual(second, (child, parent))
        self.assertIs(parent.capture, Capture.EVERY_MESSAGE)
        self.assertEqual(protocol.transport.connectionCredentials.pid, parent.pid)

    async def test_notTold(self) -> None:
        """
        One that does not provide it loses the connection, and never sees the
        bytes (THREATS K11).
        """
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE)
        before = openDescriptors()
        await runClient(address, TWO_WRITERS, "a", "b")
        protocol = await (await self.made(wrapped)).ended
        self.assertEqual(protocol.received, [b"a"])
        changed = protocol.lost.value
        self.assertIsInstance(changed, PeerChanged)
        self.assertEqual(changed.old, protocol.peer)
        self.assertNotEqual(changed.new.pid, protocol.peer.pid)
        self.assertEqual(self.refusals(), [changed])
        self.assertEqual(openDescriptors(), before)

    async def test_descriptorsWithoutBytes(self) -> None:
        """
        Descriptors that come without bytes, as on a socket that was adopted and
        is no stream, are nobody's: they are closed, and the connection ends.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = os.path.join(self.directory, "packets")
        listening.bind(path)
        listening.listen(5)
        listening.setblocking(False)
        wrapped = RememberingFactory(Receiving)
        factory = CredentialedUNIXServerFactory(wrapped, capture=Capture.EVERY_MESSAGE)
        self.adoptPort(
            reactor.adoptStreamPort(listening.fileno(), socket.AF_UNIX, factory)
        )
        listening.close()
        before = openDescriptors()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(path)
            peer.send(b"hello")
            protocol = await self.made(wrapped)
            self.sendDescriptor(peer, b"")
            await protocol.ended
        self.assertEqual(protocol.received, [b"hello"])
        self.assertEqual(openDescriptors(), before)

    async def test_otherCaptures(self) -> None:
        """
        The other captures promise what they captured, and no more: later
        writers' bytes come as any others (THREATS K11).
        """
        for capture in (Capture.CONNECT, Capture.FIRST_MESSAGE):
            address, wrapped = self.serve(capture=capture)
            await runClient(address, TWO_WRITERS, "a", "b", "c")
            protocol = await (await self.made(wrapped)).ended
            self.assertEqual(b"".join(protocol.received), b"abc")

    async def test_descriptors(self) -> None:
        """
        Descriptors belong to the message they came with: the protocol hears
        of the writer, then gets the descriptor, then the bytes.
        """
        address, wrapped = self.serve(ToldAndReceiving, capture=Capture.EVERY_MESSAGE)
        await runClient(address, TWO_WRITERS, ":a", ":b")
        protocol = await (await self.made(wrapped)).ended
        one, a, change, two, b = protocol.received
        self.assertEqual((a, b), (b":a", b":b"))
        self.assertEqual([one, two], wrapped.descriptors)
        self.assertIsInstance(change, tuple)
        for each in wrapped.descriptors:
            os.close(each)

    async def test_refusing(self) -> None:
        """
        A protocol that ends the connection when it is told gets nothing of
        the new writer's.
        """

        class Losing(ToldAndReceiving):
            def peerCredentialsChanged(self, old, new):
                self.transport.loseConnection()

        class Aborting(ToldAndReceiving):
            def peerCredentialsChanged(self, old, new):
                self.transport.abortConnection()

        class Failing(ToldAndReceiving):
            def peerCredentialsChanged(self, old, new):
                raise ZeroDivisionError()

        for protocolClass in (Losing, Aborting, Failing):
            address, wrapped = self.serve(protocolClass, capture=Capture.EVERY_MESSAGE)
            before = openDescriptors()
            await runClient(address, TWO_WRITERS, "a", ":b")
            protocol = await (await self.made(wrapped)).ended
            self.assertEqual(protocol.received, [b"a"])
            self.assertEqual(openDescriptors(), before)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_afterSyncWord(self) -> None:
        """
        The sync word's writer is the first; who writes the rest of it, or
        after it, is another.
        """
        for parts, outcome in (
            (("sy", "nc"), None),
            (("sync", "b"), b""),
        ):
            address, wrapped = self.serve(
                capture=Capture.EVERY_MESSAGE, syncWord=b"sync"
            )
            await runClient(address, TWO_WRITERS, *parts)
            await self.until(self.refusals)
            self.assertIsInstance(self.refusals()[-1], PeerChanged)
            if outcome is None:
                self.assertEqual(wrapped.made, [])
            else:
                protocol = await (await self.made(wrapped)).ended
                self.assertEqual(protocol.received, [])
            self.events.clear()

    async def test_readOnce(self) -> None:
        """
        Bytes of one writer that fit into one read are one piece, as with
        stock Twisted.
        """
        address, wrapped = self.serve(capture=Capture.EVERY_MESSAGE)
        peer = self.connect(address)
        for each in (b"a", b"b", b"c"):
            peer.send(each)
        peer.shutdown(socket.SHUT_WR)
        protocol = await (await self.made(wrapped)).ended
        self.assertEqual(protocol.received, [b"abc"])
