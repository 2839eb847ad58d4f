"""
Every call that the kernel can refuse is refused, in turn, on the real way of a
connection; so is all that a user's own code can break.
"""

import errno
import os
import socket

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from twisted_peercred import Capture, PeerCredentialsError
from twisted_peercred.kernels import thisKernel
from twisted_peercred.kernels.linux import optionsOf
from twisted_peercred.listening import StampedServer

from .faults import ERRORS, Fault, FaultySocket
from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    needsLongRun,
    openDescriptors,
)

#: accept(2).
ACCEPT_ERRORS = (
    *(errno.EAGAIN, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE, errno.ENOBUFS),
    *(errno.ENOMEM, errno.EPERM),
)
#: What recvmsg(2) says of a connection that is no more.
BROKEN = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE)
OPTIONS = optionsOf(os.uname().machine)
#: Without these an identity has a field less, or a precaution is missing that
#: another one stands in for.
OPTIONAL = {OPTIONS.peerGroups, OPTIONS.peerSec, OPTIONS.passRights}


class FaultyKernel:
    """
    This machine's kernel, asked by calls that may fail.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._kernel = type(thisKernel())()

    def __getattr__(self, name):
        real = getattr(self._kernel, name)

        def call(sock, *arguments, **options):
            return real(FaultySocket(sock, self._fault), *arguments, **options)

        return call


class FaultTests(LiveTestCase):
    """
    Tests with a fault in each place.
    """

    async def oneFault(self, count, number, protocol, capture, word) -> Fault:
        """
        Serve a connection on which one call fails, and then one on which none
        does.
        """
        address, wrapped = self.serve(protocol, capture=capture, syncWord=word)
        before = openDescriptors()
        fault = Fault(count, number)
        self.factory._kernel = FaultyKernel(fault)
        peer = self.connect(address)
        try:
            peer.send(word + b"hello")
            # An empty answer is what makes the server ask again.
            peer.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            pass
        await self.closed(peer)
        peer.close()
        await self.until(lambda: openDescriptors() == before)
        self.assertEqual(len(self.factory._waiting), 0)
        refusals = self.refusals()
        context = (fault.call, fault.option, errno.errorcode[number], capture, word)
        if wrapped.made:
            # Nobody is taken for somebody else for it.
            peer = wrapped.made[0].peer
            self.assertEqual((peer.uid, peer.gid), (os.geteuid(), os.getegid()))
            self.assertEqual(refusals, [], context)
        elif fault.call == "recvmsg" and number in BROKEN:
            # A connection that breaks before it is identified is nobody's.
            self.assertEqual(refusals, [], context)
        else:
            self.assertNotIn(fault.option, OPTIONAL, context)
            self.assertEqual(len(refusals), 1, context)
            self.assertIsInstance(refusals[0], PeerCredentialsError)
        self.events.clear()
        self.factory._kernel = thisKernel()
        made = len(wrapped.made)
        peer = self.connect(address)
        peer.send(word + b"hello")
        protocol = await self.made(wrapped, made + 1)
        await self.until(lambda: protocol.received)
        peer.close()
        await protocol.ended
        return fault

    async def everyFault(self, protocol, capture: Capture, word: bytes) -> None:
        """
        Have each call fail with each error.
        """
        # As for a connection that was made before the port was ours, which
        # takes one call more.
        self.patch(StampedServer, "prepared", False)
        places = set()
        # The whole list takes its time.
        for number in ERRORS[:: 9 if needsLongRun else 1]:
            for count in range(1, 20):
                fault = await self.oneFault(count, number, protocol, capture, word)
                if fault.call is None:
                    break
                places.add((fault.call, fault.option))
            else:
                self.fail("a connection makes more calls than this")
        self.assertIn(("getsockopt", OPTIONS.peerCred), places)
        self.assertIn(("getsockopt", OPTIONS.peerGroups), places)
        if capture is not Capture.CONNECT:
            self.assertIn(("setsockopt", OPTIONS.passCred), places)
            self.assertIn(("recvmsg", None), places)

    async def test_connect(self) -> None:
        """
        Each call of C{CONNECT} fails with each error: whoever is not
        identified is refused by one event, nothing is left over, and the next
        one is served.
        """
        await self.everyFault(Remembering, Capture.CONNECT, b"")

    async def test_firstMessage(self) -> None:
        """
        So does each call of C{FIRST_MESSAGE}.
        """
        await self.everyFault(Remembering, Capture.FIRST_MESSAGE, b"")

    async def test_everyMessage(self) -> None:
        """
        So does each call of C{EVERY_MESSAGE}, where descriptors are wanted.
        """
        await self.everyFault(Receiving, Capture.EVERY_MESSAGE, b"")

    async def test_syncWord(self) -> None:
        """
        So does each call that reads a sync word.
        """
        await self.everyFault(Remembering, Capture.FIRST_MESSAGE, b"sync")

    async def test_accept(self) -> None:
        """
        accept(2) fails with each error: the port goes on, and serves the next.
        """
        for number in ACCEPT_ERRORS:
            for capture in Capture:
                address, wrapped = self.serve(capture=capture)
                (port,) = [
                    each
                    for each in reactor.getReaders()
                    if getattr(each, "factory", None) is self.factory
                ]
                fault = Fault(1, number)
                sock, port.socket = port.socket, FaultySocket(port.socket, fault)
                peer = self.connect(address)
                peer.send(b"hello")
                await self.until(lambda: fault.call == "accept")
                # Without a descriptor to spare Twisted closes the connection.
                peer.close()
                peer = self.connect(address)
                peer.send(b"hello")
                await self.until(lambda: wrapped.made and wrapped.made[-1].received)
                protocol = wrapped.made[-1]
                await self.until(lambda: protocol.received)
                port.socket = sock
                peer.close()
                await protocol.ended


class UserCodeTests(LiveTestCase):
    """
    Tests with user code that fails.
    """

    async def test_everyCallback(self) -> None:
        """
        Whatever a user's factory and protocol raise costs that connection and
        nothing else: no descriptor, no place, no other peer's connection.
        """
        calls = ("buildProtocol", "makeConnection", "connectionMade", "dataReceived")
        for capture in Capture:
            for broken in calls:
                address, wrapped = self.serve(capture=capture)
                build = wrapped.buildProtocol
                failing = []

                def fail(*arguments):
                    failing.append(arguments)
                    raise ZeroDivisionError()

                def buildProtocol(addr):
                    protocol = build(addr)
                    if not failing:
                        setattr(protocol, broken, fail)
                        protocol.ended = Deferred()
                        protocol.received = []
                    if broken == "buildProtocol" and not failing:
                        fail(addr)
                    return protocol

                wrapped.buildProtocol = buildProtocol
                before = openDescriptors()
                peer = self.connect(address)
                peer.send(b"hello")
                self.assertEqual(await self.closed(peer), b"")
                peer.close()
                await self.until(lambda: openDescriptors() == before)
                self.assertEqual(len(failing), 1)
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
                self.assertEqual(len(self.factory._waiting), 0)
                wrapped.made.clear()
                peer = self.connect(address)
                peer.send(b"hello")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                peer.close()
                await protocol.ended
