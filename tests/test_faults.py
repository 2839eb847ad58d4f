"""
Every call that the kernel can refuse is refused, in turn, on the real way of a
connection; so is all that a user's own code can break.
"""

import errno
import gc
import os
import socket
from dataclasses import replace

from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.task import Clock, deferLater
from twisted.spread import pb
from twisted.web.server import Site
from twisted.web.static import Data
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsTimeout,
    IPeerCredentialsReceiver,
    PeerCredentialsError,
    PeerRefused,
)
from twisted_peercred.checkers import AvatarMap, PeerCredentialsChecker
from twisted_peercred.kernels import thisKernel
from twisted_peercred.kernels.linux import optionsOf
from twisted_peercred.listening import StampedServer
from twisted_peercred.pb import PeerPortalRoot, login
from twisted_peercred.policy import Decision
from twisted_peercred.web import PeerAuthSessionWrapper

from .faults import ACCEPT_ERRORS, ERRORS, Fault, FaultySocket
from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    needsLongRun,
    openDescriptors,
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


class FaultTestCase(LiveTestCase):
    """
    Counts what there is before and after.
    """

    def standing(self) -> tuple[int, int, int]:
        """
        Descriptors, and what the reactor has to do.
        """
        return (
            openDescriptors(),
            len(reactor.getDelayedCalls()),
            len(reactor.getReaders()),
        )

    async def atFirst(self) -> tuple[int, int, int]:
        # Trial sets a test's time limit when the test waits.
        await deferLater(reactor, 0)
        return self.standing()

    async def nothingLeft(self, before) -> None:
        """
        Wait for all to be as it was, and for no place to be taken.
        """
        await self.until(lambda: self.standing() == before)
        self.assertEqual(len(self.factory._waiting), 0)
        self.assertEqual(len(self.factory._slots), 0)

    async def isServed(self, address, wrapped, hello=b"hello") -> None:
        """
        The next peer is served as if nothing had happened.
        """
        made = len(wrapped.made)
        peer = self.connect(address)
        peer.send(hello)
        protocol = await self.made(wrapped, made + 1)
        await self.until(lambda: protocol.received)
        peer.close()
        await protocol.ended


class FaultTests(FaultTestCase):
    """
    Tests with a fault in each place.
    """

    async def oneFault(self, count, number, protocol, capture, word) -> Fault:
        """
        Serve a connection on which one call fails, and then one on which none
        does.
        """
        address, wrapped = self.serve(
            protocol, capture=capture, syncWord=word, maxPerUID=1
        )
        before = await self.atFirst()
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
        await self.nothingLeft(before)
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
        await self.isServed(address, wrapped, word + b"hello")
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
                address, wrapped = self.serve(capture=capture, maxPerUID=2)
                before = await self.atFirst()
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
                await self.until(self.readUp)
                port.socket = sock
                peer.close()
                for each in wrapped.made:
                    await each.ended
                await self.nothingLeft(before)
                # Twisted logs each that it has no rule for.
                for each in self.flushLoggedErrors(OSError):
                    self.assertEqual(each.value.errno, number)


@implementer(IPeerCredentialsReceiver)
class Told(Receiving):
    """
    Goes on with whoever writes.
    """

    def peerCredentialsChanged(self, old, new) -> None:
        self.factory.told.append(new)


def greet(test, peer, protocol) -> None:
    """
    Do nothing that is not done in any case.
    """


def hangUp(test, peer, protocol) -> None:
    peer.close()


def endWriting(test, peer, protocol) -> None:
    peer.shutdown(socket.SHUT_WR)


def sendDescriptors(test, peer, protocol) -> None:
    test.sendDescriptor(peer, b"more", 3)


def becomeAnother(test, peer, protocol) -> None:
    """
    Send more bytes and descriptors, as from somebody who is not the one before.
    """
    transport = protocol.transport
    transport.peerCredentials = replace(transport.peerCredentials, pid=1)
    test.sendDescriptor(peer, b"more", 3)


#: All that a factory and a protocol of the user's may be called for, and what a
#: peer does that has it called.
CALLS = {
    "buildProtocol": greet,
    "makeConnection": greet,
    "connectionMade": greet,
    "dataReceived": greet,
    "fileDescriptorReceived": sendDescriptors,
    "peerCredentialsChanged": becomeAnother,
    "readConnectionLost": endWriting,
    "connectionLost": hangUp,
}


class UserCodeTests(FaultTestCase):
    """
    Tests with user code that fails.
    """

    async def test_everyCallback(self) -> None:
        """
        Whatever a user's factory and protocol raise costs that connection and
        nothing else: no descriptor, no place, no timer, no other peer's
        connection.
        """
        for capture in Capture:
            for broken, provoke in CALLS.items():
                if provoke is becomeAnother and capture is not Capture.EVERY_MESSAGE:
                    continue
                await self.oneCallback(capture, broken, provoke)

    async def oneCallback(self, capture, broken, provoke) -> None:
        address, wrapped = self.serve(Told, capture=capture, maxPerUID=1)
        wrapped.told = []
        build = wrapped.buildProtocol
        failing = []

        def fail_(*arguments):
            failing.append(arguments)
            if broken == "fileDescriptorReceived":
                # It is the user's from here on.
                os.close(*arguments)
            raise ZeroDivisionError()

        def buildProtocol(addr):
            protocol = build(addr)
            if not failing:
                setattr(protocol, broken, fail_)
                protocol.ended = Deferred()
                protocol.received = []
            if broken == "buildProtocol" and not failing:
                fail_(addr)
            return protocol

        wrapped.buildProtocol = buildProtocol
        before = await self.atFirst()
        peer = self.connect(address)
        peer.send(b"hello")
        if provoke is not greet:
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            provoke(self, peer, protocol)
        if provoke is hangUp:
            await self.until(lambda: failing)
        else:
            self.assertEqual(await self.closed(peer), b"")
            peer.close()
        await self.nothingLeft(before)
        self.assertEqual(len(failing), 1, broken)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1, broken)
        self.assertEqual(wrapped.descriptors, [])
        wrapped.made.clear()
        await self.isServed(address, wrapped)


YES = Decision(True, "yes")


def raising() -> None:
    raise ZeroDivisionError()


async def coroutine() -> None:
    raise ZeroDivisionError()


async def slowCoroutine() -> None:
    await deferLater(reactor, 0)
    raise ZeroDivisionError()


def cancelled() -> Deferred[None]:
    answer: Deferred[None] = Deferred()
    answer.cancel()
    return answer


#: What policies and mappings may do in place of an answer.
NO_ANSWERS = (
    raising,
    coroutine,
    slowCoroutine,
    object,
    lambda: None,
    lambda: fail(ZeroDivisionError()),
    lambda: deferLater(reactor, 0, raising),
    cancelled,
    Deferred,
)


class Broken:
    """
    A policy that gives no answer to one of the questions.
    """

    def __init__(self, noAnswer, number: int) -> None:
        self.noAnswer = noAnswer
        self.number = number
        self.asked = 0

    def decide(self, identity):
        self.asked += 1
        return self.noAnswer() if self.asked == self.number else YES


class PolicyTests(FaultTestCase):
    """
    Tests with policies that fail.
    """

    async def test_everyQuestion(self) -> None:
        """
        A policy that does anything but decide, about who connected, who wrote
        first or who wrote later: that is one refusal with a typed error, and
        nothing is left of it.
        """
        questions = {
            Capture.CONNECT: 1,
            Capture.FIRST_MESSAGE: 2,
            Capture.EVERY_MESSAGE: 3,
        }
        for capture, last in questions.items():
            for number in range(1, last + 1):
                for noAnswer in NO_ANSWERS:
                    await self.oneQuestion(capture, number, noAnswer)

    async def oneQuestion(self, capture, number, noAnswer) -> None:
        self.events.clear()
        clock = Clock()
        policy = Broken(noAnswer, number)
        address, wrapped = self.serve(
            Told,
            capture=capture,
            policy=policy,
            timeout=5,
            clock=clock,
            maxPerUID=1,
        )
        wrapped.told = []
        before = await self.atFirst()
        peer = self.connect(address)
        peer.send(b"hello")
        if number == 3:
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            becomeAnother(self, peer, protocol)
        await self.until(lambda: policy.asked == number)
        if noAnswer is Deferred:
            await self.until(self.readUp)
            self.assertEqual(self.refusals(), [])
            clock.advance(6)
        self.assertEqual(await self.closed(peer), b"")
        peer.close()
        (problem,) = self.refusals()
        if noAnswer is Deferred:
            self.assertIsInstance(problem, CredentialsTimeout)
        else:
            self.assertIsInstance(problem, PeerRefused)
            self.assertEqual(problem.reason, "policy-failed")
            # With the record of the refusal.
            (failure,) = self.flushLoggedErrors()
            failure.trap(ZeroDivisionError, CancelledError, AttributeError)
        await self.nothingLeft(before)
        self.assertEqual(clock.getDelayedCalls(), [])
        self.assertEqual((wrapped.told, wrapped.descriptors), ([], []))
        self.assertEqual(len(wrapped.made), number == 3)
        policy.number = 0
        await self.isServed(address, wrapped)


@implementer(IRealm)
class Realm:
    """
    Counts who is in.
    """

    def __init__(self, makeAvatar) -> None:
        self.makeAvatar = makeAvatar
        self.inside = 0

    def requestAvatar(self, avatarID, mind, *interfaces):
        self.inside += 1
        return interfaces[0], self.makeAvatar(), self.logout

    def logout(self) -> None:
        self.inside -= 1


class Page(Data):
    """
    What a visitor gets to see.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__(b"content", "text/plain")


class Perspective(pb.Avatar):
    """
    Whoever logs in.
    """

    def perspective_ping(self) -> str:
        return "pong"


class Once:
    """
    A mapping that fails when it is asked first.
    """

    def __init__(self, noAnswer) -> None:
        self.noAnswer = noAnswer
        self.asked = 0

    def __call__(self, peer):
        self.asked += 1
        return self.noAnswer() if self.asked == 1 else "somebody"


def checkers():
    """
    Checkers with each fault in each of their places, and whether it is one that
    keeps the peer waiting.
    """
    for noAnswer in NO_ANSWERS:
        stalls = noAnswer is Deferred
        policy = Broken(noAnswer, 1)
        for options in (
            {"avatarID": Once(noAnswer)},
            {"policy": policy, "avatarID": lambda peer: "somebody"},
        ):
            yield PeerCredentialsChecker(**options), stalls
        avatarMap = AvatarMap([(Broken(noAnswer, 1), "somebody")])
        yield PeerCredentialsChecker(avatarID=avatarMap), stalls


class MappingTests(FaultTestCase):
    """
    Tests with mappings from a peer to an avatar that fail, on the connections
    that they are there for.
    """

    def serveTo(self, factory) -> str:
        factory.noisy = False
        self.factory = CredentialedUNIXServerFactory(factory, maxPerUID=1)
        return self.listen(self.factory)

    async def get(self, address, stalls=False) -> bytes:
        """
        What a site answers; nothing where the visitor gives up.
        """
        peer = self.connect(address)
        peer.send(b"GET / HTTP/1.0\r\n\r\n")
        if stalls:
            await self.until(self.readUp)
            self.assertRaises(BlockingIOError, peer.recv, 1, socket.MSG_DONTWAIT)
            peer.close()
            return b""
        answer = await self.closed(peer)
        peer.close()
        return answer

    async def test_web(self) -> None:
        """
        A visitor about whom the mapping fails gets no resource, whoever is
        kept waiting can go, and the next one is served.
        """
        for checker, stalls in checkers():
            realm = Realm(Page)
            site = Site(PeerAuthSessionWrapper(Portal(realm, [checker])))
            address = self.serveTo(site)
            before = await self.atFirst()
            answer = await self.get(address, stalls)
            if not stalls:
                self.assertRegex(answer, rb"^HTTP/1.0 (403|500) ")
            self.assertNotIn(b"content", answer)
            await self.nothingLeft(before)
            # What nobody has dealt with is logged when it is thrown away.
            gc.collect()
            failures = len(self.flushLoggedErrors())
            self.assertEqual(failures, b" 500 " in answer)
            self.assertIn(b"content", await self.get(address))
            await self.nothingLeft(before)
            self.assertEqual(realm.inside, 0)

    async def test_pb(self) -> None:
        """
        A client about whom the mapping fails gets no avatar, whoever is kept
        waiting can go, and the next one logs in.
        """
        for checker, stalls in checkers():
            realm = Realm(Perspective)
            root = PeerPortalRoot(Portal(realm, [checker]))
            address = self.serveTo(pb.PBServerFactory(root))
            before = await self.atFirst()
            client, avatar = await self.logIn(address)
            if stalls:
                await self.until(self.readUp)
                self.assertNoResult(avatar)
                avatar.addErrback(lambda _: None)
            else:
                with self.assertRaises(pb.RemoteError):
                    await avatar
            client.disconnect()
            await self.nothingLeft(before)
            self.assertEqual(len(self.flushLoggedErrors()), not stalls)
            client, avatar = await self.logIn(address)
            self.assertEqual(await (await avatar).callRemote("ping"), "pong")
            client.disconnect()
            await self.nothingLeft(before)
            self.assertEqual(realm.inside, 0)

    async def logIn(self, address):
        client = pb.PBClientFactory()
        client.noisy = False
        await UNIXClientEndpoint(reactor, address).connect(client)
        return client, login(client)
