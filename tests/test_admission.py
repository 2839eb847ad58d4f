"""
Tests for who is let in: policies and limits of
L{CredentialedUNIXServerFactory}, on real connections.
"""

import contextlib
import gc
import os
from dataclasses import replace
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsTimeout,
    IPeerCredentialsReceiver,
    IPeerPolicy,
    PeerChanged,
    Policy,
)
from twisted_peercred.interfaces import IPeerPolicySource
from twisted_peercred.policy import DatabasePolicy, Decision
from twisted_peercred.record import admissions
from twisted_peercred.transport import CredentialedServer

from .support import (
    TWO_WRITERS,
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    flat,
    needsRoot,
    openDescriptors,
    runClient,
)

MESSAGES = (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)
YES = Decision(True, "yes")
NO = Decision(False, "no")


@implementer(IPeerPolicy)
class Asked:
    """
    A policy that remembers whom it was asked about, and answers as it is told.

    @param answer: from the number of the question to the answer.
    """

    def __init__(self, answer) -> None:
        self.answer = answer
        self.asked = []

    def decide(self, identity):
        self.asked.append(identity)
        return self.answer(len(self.asked))


class Slow(Asked):
    """
    A policy that is waited for.
    """

    def __init__(self) -> None:
        self.pending = []
        self.cancelled = 0
        super().__init__(self._wait)

    def _wait(self, number):
        self.pending.append(Deferred(self._cancel))
        return self.pending[-1]

    def _cancel(self, deferred) -> None:
        self.cancelled += 1


class ArgumentTests(SynchronousTestCase):
    """
    Tests for the factory's arguments.
    """

    def test_policy(self) -> None:
        """
        What cannot decide is refused when the factory is made.
        """
        for wrong in ("root", object()):
            with self.assertRaises(TypeError):
                CredentialedUNIXServerFactory(RememberingFactory(), policy=wrong)

    def test_maxPerUID(self) -> None:
        """
        Nobody can be let in no times.
        """
        for wrong in (0, -1):
            with self.assertRaises(ValueError):
                CredentialedUNIXServerFactory(RememberingFactory(), maxPerUID=wrong)


class PolicyTests(LiveTestCase):
    """
    Tests for C{policy=}.
    """

    def lastRefusal(self) -> dict:
        """
        The last event of a refusal.
        """
        return [each for each in self.events if each.get("what") == "refused"][-1]

    async def isRefused(self, address, wrapped) -> dict:
        """
        A connection is refused, and leaves nothing.

        @return: the event.
        """
        before = openDescriptors()
        count, refusals = len(wrapped.made), len(self.refusals())
        peer = self.connect(address)
        # A server may have closed before that.
        with contextlib.suppress(BrokenPipeError):
            peer.send(b"hello")
        self.assertEqual(await self.closed(peer), b"")
        peer.close()
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(len(wrapped.made), count)
        self.assertEqual(len(self.factory._waiting), 0)
        self.assertEqual(len(self.refusals()), refusals + 1)
        return self.lastRefusal()

    async def isServed(self, address, wrapped) -> Remembering:
        """
        A connection is served.
        """
        count = len(wrapped.made)
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await self.made(wrapped, count + 1)
        await self.until(lambda: protocol.received)
        self.assertEqual(protocol.received, [b"hello"])
        peer.close()
        await protocol.ended
        return protocol

    async def test_rules(self) -> None:
        """
        A policy of rules admits and refuses in every capture, and a refused
        peer's event has the rule and its line.
        """
        me, other = os.geteuid(), os.geteuid() + 1
        for capture in Capture:
            address, wrapped = self.serve(
                capture=capture, policy=Policy.fromString("self")
            )
            await self.isServed(address, wrapped)
            address, wrapped = self.serve(
                capture=capture,
                policy=Policy.fromString(f"# not me\nuid/{other}\n!uid/{me}\nany"),
            )
            event = await self.isRefused(address, wrapped)
            self.assertEqual(
                (event["reason"], event["rule"], event["line"]),
                ("rule", f"!uid/{me}", 3),
            )
            self.assertEqual((event["uid"], event["capture"]), (me, "connect"))
            address, wrapped = self.serve(
                capture=capture, policy=Policy.fromString(f"uid/{other}")
            )
            event = await self.isRefused(address, wrapped)
            self.assertEqual((event["reason"], event["rule"]), ("no-rule", None))

    async def test_everyWayToAnswer(self) -> None:
        """
        A decision may come at once, as a Deferred that has fired or will, or
        from a coroutine; so may a refusal, and an exception, which refuses and
        is logged.
        """

        async def coroutine(answer):
            return answer

        async def slowCoroutine(answer):
            await deferLater(reactor, 0.01)
            return answer

        async def failing():
            await deferLater(reactor, 0)
            raise ZeroDivisionError()

        def raising():
            raise ZeroDivisionError()

        def slow(answer):
            return deferLater(reactor, 0.01, lambda: answer)

        ways = (lambda answer: answer, succeed, slow, coroutine, slowCoroutine)
        broken = (
            raising,
            failing,
            lambda: fail(ZeroDivisionError()),
            lambda: deferLater(reactor, 0, raising),
        )
        for capture in Capture:
            # The number of the question that is answered otherwise: the second
            # is about who wrote.
            last = 1 if capture is Capture.CONNECT else 2
            for way in ways:
                policy = Asked(lambda number, way=way: way(YES))
                address, wrapped = self.serve(capture=capture, policy=policy)
                await self.isServed(address, wrapped)
                self.assertEqual(len(policy.asked), last)
                policy.answer = lambda number, way=way, last=last: way(
                    NO if number % last == 0 else YES
                )
                event = await self.isRefused(address, wrapped)
                self.assertEqual((event["reason"], event["rule"]), ("rule", "no"))
            for way in broken:
                policy = Asked(
                    lambda number, way=way, last=last: (
                        way() if number % last == 0 else YES
                    )
                )
                address, wrapped = self.serve(capture=capture, policy=policy)
                event = await self.isRefused(address, wrapped)
                self.assertEqual(
                    (event["reason"], event["rule"]), ("policy-failed", "policy")
                )
                self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_noDecision(self) -> None:
        """
        An answer that is no decision, or only looks like a yes, refuses.
        """

        class Sly:
            admitted = "no"
            rule = "sly"

        sly = (Sly(), Decision(2, "sly"))
        for answer in (None, True, object(), succeed(None), *sly):
            address, wrapped = self.serve(policy=Asked(lambda number, a=answer: a))
            event = await self.isRefused(address, wrapped)
            if answer in sly:
                self.assertEqual(event["rule"], "sly")
            else:
                self.assertEqual(event["reason"], "policy-failed")
                self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)

    async def test_accident(self) -> None:
        """
        Whatever breaks while somebody is decided about, and however: it is a
        refusal, also when bytes come afterwards.
        """

        class Broken(BaseException):
            """
            Not even an L{Exception}.
            """

        @implementer(IPeerPolicy)
        class Policies:
            def decide(self, identity):
                raise Broken()

        class BrokenDecision:
            @property
            def admitted(self):
                raise ZeroDivisionError()

        @implementer(IPeerPolicy, IPeerPolicySource)
        class Source(Policies):
            @property
            def policy(self):
                raise ZeroDivisionError()

        class BrokenLater:
            rule = "x"

            @property
            def admitted(self):
                raise Broken()

        @implementer(IPeerPolicy, IPeerPolicySource)
        class Nothing(Policies):
            policy = None

        for policy, error in (
            (Policies(), Broken),
            (Asked(lambda number: BrokenDecision()), ZeroDivisionError),
            (Asked(lambda number: BrokenLater()), Broken),
            (Source(), ZeroDivisionError),
            (Nothing(), AssertionError),
        ):
            for capture in Capture:
                address, wrapped = self.serve(capture=capture, policy=policy)
                peer = self.connect(address)
                with contextlib.suppress(BrokenPipeError):
                    peer.send(b"hello")
                self.assertEqual(await self.closed(peer), b"")
                self.assertEqual(wrapped.made, [])
                self.assertEqual(len(self.flushLoggedErrors(error)), 1)
                peer.close()

    async def test_accidentWithDescriptors(self) -> None:
        """
        What came with the bytes of another writer is closed when the policy
        breaks on it.
        """

        class Broken(BaseException):
            """
            Not even an L{Exception}.
            """

        def answer(number):
            if number > 2:
                raise Broken()
            return YES

        @implementer(IPeerCredentialsReceiver)
        class Told(Receiving):
            def peerCredentialsChanged(self, old, new):
                raise AssertionError("not admitted")

        address, wrapped = self.serve(
            Told, capture=Capture.EVERY_MESSAGE, policy=Asked(answer)
        )
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await self.made(wrapped)
        await self.until(lambda: protocol.received)
        before = openDescriptors()
        transport = protocol.transport
        transport.peerCredentials = replace(transport.peerCredentials, pid=1)
        self.sendDescriptor(peer, b"more", 3)
        await protocol.ended
        self.assertEqual(openDescriptors(), before - 1)
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)

    async def test_accidentLater(self) -> None:
        """
        The same while a policy was waited for.
        """

        class Broken(BaseException):
            """
            Not even an L{Exception}.
            """

        class BrokenLater:
            @property
            def admitted(self):
                raise Broken()

        policy = Slow()
        address, wrapped = self.serve(policy=policy)
        peer = self.connect(address)
        await self.until(lambda: policy.pending)
        policy.pending.pop().callback(BrokenLater())
        peer.send(b"hello")
        self.assertEqual(await self.closed(peer), b"")
        self.assertEqual(wrapped.made, [])
        gc.collect()
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 1)

    async def test_waiting(self) -> None:
        """
        A connection whose policy takes its time waits, with nothing read: no
        byte is lost, whether it was sent before or after.
        """
        for capture in Capture:
            questions = 1 if capture is Capture.CONNECT else 2
            for halfClose in (False, True):
                policy = Slow()
                address, wrapped = self.serve(capture=capture, policy=policy)
                peer = self.connect(address)
                await self.until(lambda: policy.pending)
                peer.send(b"early ")
                for number in range(questions):
                    await self.until(lambda: len(policy.pending) == number + 1)
                    for _ in range(3):
                        await self.until(self.readUp)
                    self.assertEqual(len(self.factory._waiting), 1)
                    self.assertEqual(wrapped.made, [])
                    # The reactor does not spin on what waits to be read.
                    for each in reactor.getReaders():
                        self.assertNotIsInstance(each, CredentialedServer)
                    if number == questions - 1:
                        peer.send(b"late")
                        if halfClose:
                            peer.shutdown(1)
                    policy.pending[number].callback(YES)
                protocol = await self.made(wrapped)
                self.assertEqual(len(self.factory._waiting), 0)
                await self.until(lambda: len(flat(protocol.received)) == 10)
                self.assertEqual(flat(protocol.received), b"early late")
                self.assertEqual(reactor.getDelayedCalls()[1:], [])
                peer.close()
                await protocol.ended

    async def test_leftBehind(self) -> None:
        """
        The bytes of a peer that wrote and closed while its policy was asked
        reach the protocol.
        """
        for capture in Capture:
            policy = Slow()
            address, wrapped = self.serve(capture=capture, policy=policy)
            peer = self.connect(address)
            peer.send(b"hello")
            peer.close()
            await self.until(lambda: policy.pending)
            for _ in range(3):
                await self.until(self.readUp)
            policy.answer = lambda number: YES
            policy.pending[0].callback(YES)
            protocol = await (await self.made(wrapped)).ended
            self.assertEqual(flat(protocol.received), b"hello")
            self.assertEqual(policy.cancelled, 0)

    async def test_halfClosedInSilence(self) -> None:
        """
        A peer that only closes its writing side while the policy is asked is
        still there.
        """
        policy = Slow()
        address, wrapped = self.serve(policy=policy)
        peer = self.connect(address)
        peer.shutdown(1)
        await self.until(lambda: policy.pending)
        for _ in range(3):
            await self.until(self.readUp)
        policy.pending[0].callback(YES)
        await (await self.made(wrapped)).ended

    async def test_gone(self) -> None:
        """
        When the peer closes, the policy's Deferred is cancelled and the place
        is free; nothing is left, and nothing is logged.
        """
        for capture in Capture:
            before = openDescriptors()
            policy = Slow()
            address, wrapped = self.serve(capture=capture, policy=policy)
            peer = self.connect(address)
            await self.until(lambda: policy.pending)
            self.assertEqual(len(self.factory._waiting), 1)
            peer.close()
            await self.until(lambda: policy.cancelled)
            await self.until(lambda: openDescriptors() == before + 1)
            self.assertEqual(len(self.factory._waiting), 0)
            self.assertEqual(self.refusals(), [])
            self.assertEqual(wrapped.made, [])

    async def test_portStops(self) -> None:
        """
        When a port stops, its connections that wait, for a decision or a
        message, are refused and leave nothing; those of another port of the
        factory wait on.
        """
        for capture in (Capture.CONNECT, Capture.FIRST_MESSAGE):
            clock = Clock()
            policy = Slow()
            if capture is not Capture.CONNECT:
                policy.answer = lambda number: YES
            wrapped = RememberingFactory()
            self.factory = CredentialedUNIXServerFactory(
                wrapped, capture=capture, policy=policy, clock=clock
            )
            path = os.path.join(self.directory, capture.name)
            port = reactor.listenUNIX(path, self.factory)
            other = self.connect(self.listen(self.factory))
            await self.until(lambda: len(self.factory._waiting) == 1)
            peers = [self.connect(path) for _ in range(7)]
            await self.until(lambda: len(self.factory._waiting) == 8)
            self.events.clear()
            await port.stopListening()
            for peer in peers:
                self.assertEqual(await self.closed(peer), b"")
            self.assertEqual(len(self.factory._waiting), 1)
            self.assertEqual({each.reason for each in self.refusals()}, {"stopped"})
            (left,) = [each for each in self.events if each.get("what") == "left-out"]
            self.assertEqual(left["count"], 2)
            self.assertEqual(len(clock.getDelayedCalls()), 1)
            if capture is Capture.CONNECT:
                self.assertEqual(policy.cancelled, 7)
                policy.pending[0].callback(YES)
            else:
                other.send(b"hello")
            await self.made(wrapped)

    async def test_cannotBeCancelled(self) -> None:
        """
        A canceller that raises is logged, and is nobody else's trouble: who
        came to the full room gets the place.
        """

        def broken(deferred):
            raise ZeroDivisionError()

        for count in (1, 2):
            pending = Deferred(broken)
            policy = Asked(lambda number, p=pending: YES if number > 1 else p)
            address, wrapped = self.serve(policy=policy, timeout=5, clock=Clock())
            peer = self.connect(address)
            await self.until(lambda: policy.asked)
            (arrival,) = self.factory._waiting.guests()
            if count == 1:
                arrival._expel()
            else:
                self.factory._clock.advance(5)
            self.assertEqual(await self.closed(peer), b"")
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(len(self.factory._waiting), 0)
            self.assertEqual(self.factory._clock.getDelayedCalls(), [])
            await self.isServed(address, wrapped)

    async def test_heedsNoCancelling(self) -> None:
        """
        A policy that goes on when it was cancelled keeps no place, and what it
        answers in the end lets nobody in.
        """
        pending = Deferred()

        async def stubborn():
            with contextlib.suppress(CancelledError):
                await Deferred()
            return await pending

        address, wrapped = self.serve(policy=Asked(lambda number: stubborn()))
        peer = self.connect(address)
        await self.until(lambda: len(self.factory._waiting))
        self.factory._waiting.guests()[0]._expel()
        self.assertEqual(len(self.factory._waiting), 0)
        pending.callback(YES)
        self.assertEqual(await self.closed(peer), b"")
        self.assertEqual(wrapped.made, [])

    async def test_sharedDeferred(self) -> None:
        """
        A policy may add callbacks to its Deferred, or give it to two
        connections: each gets the decision.
        """
        pending, later = Deferred(), []
        policy = Asked(lambda number: pending)
        address, wrapped = self.serve(policy=policy)
        peers = [self.connect(address) for _ in range(2)]
        await self.until(lambda: len(policy.asked) == 2)
        pending.addCallback(later.append)
        pending.callback(YES)
        await self.made(wrapped, 2)
        self.assertEqual(later, [YES])
        self.assertEqual(len(peers), 2)

    async def test_systemExit(self) -> None:
        """
        What is not for a policy to catch goes on to Twisted, and the refusal
        is in the record.
        """

        def leave(number):
            raise SystemExit(3)

        for capture in Capture:
            address, wrapped = self.serve(capture=capture, policy=Asked(leave))
            event = await self.isRefused(address, wrapped)
            self.assertEqual(event["reason"], "policy-failed")
            self.assertEqual(len(self.flushLoggedErrors(SystemExit)), 1)

    async def test_reset(self) -> None:
        """
        The same when the connection breaks.
        """
        policy = Slow()
        address, wrapped = self.serve(policy=policy)
        peer = self.connect(address)
        await self.until(lambda: policy.pending)
        (arrival,) = next(iter(self.factory._waiting._guests.values()))

        class Broken:
            def recv(self, size, flags):
                raise OSError(104, "reset")

        transport = arrival._transport
        transport.socket, sock = Broken(), transport.socket
        reason = transport.doRead()
        self.assertIsNotNone(reason)
        transport.socket = sock
        peer.close()
        await self.until(lambda: policy.cancelled)
        self.assertEqual(wrapped.made, [])

    async def test_blockedRead(self) -> None:
        """
        A reactor that calls for nothing is let go.
        """
        policy = Slow()
        address, _ = self.serve(policy=policy)
        peer = self.connect(address)
        await self.until(lambda: policy.pending)
        (arrival,) = next(iter(self.factory._waiting._guests.values()))
        self.assertIsNone(arrival._transport.doRead())
        peer.close()
        await self.until(lambda: policy.cancelled)

    async def test_timeout(self) -> None:
        """
        When the time is up, the policy's Deferred is cancelled; an answer that
        comes all the same lets nobody in.
        """
        clock = Clock()

        class Stubborn(Slow):
            def _cancel(self, deferred) -> None:
                super()._cancel(deferred)
                deferred.callback(YES)

        for policy in (Slow(), Stubborn()):
            address, wrapped = self.serve(policy=policy, timeout=5, clock=clock)
            peer = self.connect(address)
            await self.until(lambda: policy.pending)
            clock.advance(4.9)
            self.assertEqual(policy.cancelled, 0)
            clock.advance(0.2)
            self.assertEqual(policy.cancelled, 1)
            self.assertEqual(await self.closed(peer), b"")
            self.assertIsInstance(self.refusals()[-1], CredentialsTimeout)
            self.assertIn("no decision was made", str(self.refusals()[-1]))
            self.assertEqual(len(self.factory._waiting), 0)
            self.assertEqual(clock.getDelayedCalls(), [])
            self.assertEqual(wrapped.made, [])

    async def test_oneTime(self) -> None:
        """
        Waiting for the policy and for the message is the same time and the
        same place.
        """
        clock, policy = Clock(), Slow()
        address, _ = self.serve(
            capture=Capture.FIRST_MESSAGE, policy=policy, timeout=5, clock=clock
        )
        peer = self.connect(address)
        await self.until(lambda: policy.pending)
        clock.advance(3)
        policy.pending[0].callback(YES)
        self.assertEqual(len(self.factory._waiting), 1)
        clock.advance(3)
        self.assertEqual(await self.closed(peer), b"")
        self.assertIn("no message came", str(self.refusals()[-1]))

    async def test_roomIsFull(self) -> None:
        """
        One more than may wait is refused, and the policy's Deferred for it
        cancelled.
        """
        policy = Slow()
        address, wrapped = self.serve(policy=policy, maxUnidentified=1)
        first = self.connect(address)
        await self.until(lambda: policy.pending)
        self.assertEqual(await self.closed(self.connect(address)), b"")
        self.assertEqual(policy.cancelled, 1)
        self.assertEqual(self.lastRefusal()["reason"], "max-unidentified")
        policy.pending[0].callback(YES)
        await self.made(wrapped)
        first.close()

    async def test_oneObject(self) -> None:
        """
        A connection is decided by one policy, that in force when it came.
        """

        @implementer(IPeerPolicy, IPeerPolicySource)
        class Source:
            def __init__(self, policy):
                self.policy = policy

            def decide(self, identity):
                raise AssertionError("the policy in force is to be asked")

        for sources in (True, False):
            old, new = Slow(), Asked(lambda number: NO)
            source = Source(old) if sources else old
            address, wrapped = self.serve(capture=Capture.FIRST_MESSAGE, policy=source)
            peer = self.connect(address)
            peer.send(b"hello")
            await self.until(lambda: old.pending)
            if sources:
                source.policy = new
            else:
                self.factory.policy = new
            old.pending[0].callback(YES)
            await self.until(lambda: len(old.pending) == 2)
            old.pending[1].callback(YES)
            await self.made(wrapped)
            self.assertEqual(new.asked, [])
            await self.isRefused(address, wrapped)
            self.assertEqual(len(new.asked), 1)

    async def test_afterDecision(self) -> None:
        """
        When user code fails after a decision that was waited for, the
        connection ends all the same.
        """

        class Failing(Remembering):
            def connectionMade(self):
                super().connectionMade()
                raise ZeroDivisionError()

        policy = Slow()
        address, wrapped = self.serve(Failing, policy=policy)
        peer = self.connect(address)
        await self.until(lambda: policy.pending)
        policy.pending[0].callback(YES)
        self.assertEqual(await self.closed(peer), b"")
        await wrapped.made[0].ended
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_syncWord(self) -> None:
        """
        The policy is asked before a sync word is read, and about its writer.
        """
        for capture in Capture:
            policy = Asked(lambda number: YES)
            address, wrapped = self.serve(
                capture=capture, policy=policy, syncWord=b"sync"
            )
            peer = self.connect(address)
            await self.until(lambda: policy.asked)
            peer.send(b"synchello")
            await self.made(wrapped)
            asked = [each.capture for each in policy.asked]
            if capture is Capture.CONNECT:
                self.assertEqual(asked, [Capture.CONNECT])
            else:
                self.assertEqual(asked, [Capture.CONNECT, capture])

    @skipIf(needsRoot, needsRoot)
    async def test_K9_bothIdentities(self) -> None:
        """
        A setuid client, effective user 1001 of 1000, has to be admitted as
        either in a message capture, and as who connected in the other
        (THREATS K9).
        """
        setuid = (
            "become(1000, 1000, euid=1001)\npeer = connect()\n"
            "try:\n    peer.send(b'x')\nexcept BrokenPipeError:\n    pass\n"
            "peer.shutdown(1)\nreadAll(peer)"
        )
        for capture, admitted in (
            (Capture.CONNECT, {"uid/1001": 1, "uid/1000": 0, "uid/1000-1001": 1}),
            *(
                (each, {"uid/1001": 0, "uid/1000": 0, "uid/1000-1001": 1})
                for each in MESSAGES
            ),
        ):
            for rules, count in admitted.items():
                address, wrapped = self.serve(
                    capture=capture, policy=Policy.fromString(rules)
                )
                await runClient(address, setuid)
                self.assertEqual(len(wrapped.made), count, f"{capture} {rules}")

    @skipIf(needsRoot, needsRoot)
    async def test_groupsOfMessages(self) -> None:
        """
        A message carries no groups: a rule on them does not admit its writer,
        unless they may be taken from the user database; the record says when
        they were.
        """
        admitted = []
        admissions.addObserver(admitted.append)
        self.addCleanup(admissions.removeObserver, admitted.append)
        rules = Policy.fromString("gid/4242").rules
        client = (
            "become(1000, 1000, [4242])\npeer = connect()\npeer.send(b'x')\n"
            "peer.shutdown(1)\nreadAll(peer)"
        )
        for policy, looked, asked in (
            (Policy(rules), [None], []),
            (
                DatabasePolicy(rules, lookUp=lambda uid: (uid, 4242)),
                [None, (1000, 4242), (1000, 4242)],
                MESSAGES,
            ),
        ):
            admitted.clear()
            for capture in Capture:
                address, _ = self.serve(capture=capture, policy=policy)
                await runClient(address, client)
                self.assertEqual(
                    bool(self.refusals()), capture not in (Capture.CONNECT, *asked)
                )
                self.events.clear()
            self.assertEqual([each["databaseGroups"] for each in admitted], looked)

    @skipIf(needsRoot, needsRoot)
    async def test_A3_passedToPrivileged(self) -> None:
        """
        A user's connection does not get in on the IDs of a privileged program
        that is made to write on it (THREATS A3).
        """
        passed = """
ours, theirs = socket.socketpair()
pid = os.fork()
if not pid:
    become(1000, 1000)
    peer = connect()
    theirs.sendmsg([b"x"], [(1, 1, struct.pack("i", peer.fileno()))])
    os._exit(0)
_, ((_, _, data),), _, _ = ours.recvmsg(1, 100)
peer = socket.socket(fileno=struct.unpack("i", data)[0])
os.waitpid(pid, 0)
try:
    peer.send(b"privileged")
except BrokenPipeError:
    pass
readAll(peer)
"""
        for capture in Capture:
            address, wrapped = self.serve(
                capture=capture, policy=Policy.fromString("root")
            )
            await runClient(address, passed)
            await self.until(self.refusals)
            self.assertEqual(wrapped.made, [])
            self.assertEqual(self.refusals()[-1].credentials.uid, 1000)
            self.events.clear()

    @skipIf(needsRoot, needsRoot)
    async def test_anotherWriter(self) -> None:
        """
        With C{EVERY_MESSAGE} another writer has to be admitted too, by the
        same policy, before the protocol is told of it.
        """

        @implementer(IPeerCredentialsReceiver)
        class Told(Remembering):
            def peerCredentialsChanged(self, old, new):
                self.received.append(new.uid)

        writers = TWO_WRITERS + "peer.shutdown(1)\nreadAll(peer)\n"

        for policy, received, reason in (
            (Policy.fromString("uid/1000-1001,root"), 2, None),
            (Policy.fromString("uid/1000,root"), 1, "no-rule"),
        ):
            self.events.clear()
            address, wrapped = self.serve(
                Told, capture=Capture.EVERY_MESSAGE, policy=policy
            )
            await runClient(address, writers)
            protocol = await wrapped.made[0].ended
            self.assertEqual(protocol.received[:1], [b"alice"])
            expected = [1001, b"mallory", 1000] if received == 2 else []
            self.assertEqual(protocol.received[1:3], expected[:2])
            if reason is not None:
                self.assertEqual(self.lastRefusal()["reason"], reason)
                self.assertEqual(self.lastRefusal()["uid"], 1001)
        self.assertNotIsInstance(self.refusals()[-1], PeerChanged)


@implementer(IPeerCredentialsReceiver)
class Told(Receiving):
    """
    Wants to know who writes, and descriptors.
    """

    def peerCredentialsChanged(self, old, new):
        self.received.append((old.pid, new.pid))


class HeldTests(LiveTestCase):
    """
    Tests for a policy that takes its time about another writer
    (L{twisted_peercred.holding}).
    """

    async def hold(self, **options):
        """
        Have another writer's message wait, with three descriptors.

        @return: the client's end, the protocol, and the policy's Deferred.
        """
        self.slow = Slow()
        policy = Asked(lambda number: YES if number < 3 else self.slow.decide(None))
        address, wrapped = self.serve(
            Told, capture=Capture.EVERY_MESSAGE, policy=policy, **options
        )
        self.before = openDescriptors()
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await self.made(wrapped)
        await self.until(lambda: protocol.received)
        transport = protocol.transport
        transport.peerCredentials = replace(transport.peerCredentials, pid=1)
        self.sendDescriptor(peer, b"held", 3)
        await self.until(lambda: self.slow.pending)
        peer.send(b"more")
        return peer, protocol, self.slow.pending[0]

    async def left(self, protocol) -> None:
        """
        The connection ends; no descriptor and no timer is left, and nothing
        was delivered.
        """
        await protocol.ended
        # The client's end is still open.
        self.assertEqual(openDescriptors(), self.before + 1)
        self.assertEqual(protocol.received, [b"hello"])
        self.assertIsNone(protocol.transport.held if protocol.transport else None)
        self.assertEqual(reactor.getDelayedCalls()[1:], [])

    async def test_admitted(self) -> None:
        """
        The message waits, and nothing is read; when its writer is admitted the
        protocol is told, and gets it and what came after, in order.
        """
        _, protocol, pending = await self.hold()
        for _ in range(3):
            await self.until(self.readUp)
        protocol.transport.resumeProducing()
        for _ in range(3):
            await self.until(self.readUp)
        self.assertEqual(protocol.received, [b"hello"])
        self.assertNotIn(protocol.transport, reactor.getReaders())
        pending.callback(YES)
        await self.until(lambda: protocol.received[-1] == b"more")
        hello, told, one, two, three, held, more = protocol.received
        self.assertEqual((hello, held, more), (b"hello", b"held", b"more"))
        self.assertEqual(told, (1, os.getpid()))
        for each in (one, two, three):
            os.close(each)
        self.assertEqual(reactor.getDelayedCalls()[1:], [])

    async def test_paused(self) -> None:
        """
        A protocol that has paused meanwhile gets nothing until it resumes, and
        nothing out of order then.
        """
        for again in (False, True):
            _, protocol, pending = await self.hold()
            transport = protocol.transport
            transport.pauseProducing()
            pending.callback(YES)
            if again:
                transport.resumeProducing()
                transport.pauseProducing()
            for _ in range(3):
                await self.until(self.readUp)
            self.assertEqual(protocol.received, [b"hello"])
            transport.resumeProducing()
            # Not from within what the protocol does.
            self.assertEqual(protocol.received, [b"hello"])
            transport.resumeProducing()
            await self.until(lambda: protocol.received[-1] == b"more")
            self.assertEqual(protocol.received[-2], b"held")
            for each in protocol.received[2:5]:
                os.close(each)

    async def test_pausedAndLost(self) -> None:
        """
        What is held for a protocol that has paused goes with the connection.
        """
        for end in ("abortConnection", "loseConnection"):
            _, protocol, pending = await self.hold()
            protocol.transport.pauseProducing()
            pending.callback(YES)
            getattr(protocol.transport, end)()
            await self.left(protocol)

    async def test_refused(self) -> None:
        """
        A writer that is refused, or about whom the policy fails, ends the
        connection.
        """
        for answer, reason in ((NO, "rule"), (None, "policy-failed")):
            _, protocol, pending = await self.hold()
            pending.callback(answer)
            await self.left(protocol)
            refusal = self.refusals()[-1]
            self.assertEqual(refusal.reason, reason)
            self.assertEqual(refusal.credentials.pid, os.getpid())
            self.flushLoggedErrors(AttributeError)

    async def test_dropped(self) -> None:
        """
        When the protocol ends the connection the policy's Deferred is
        cancelled; what it answers just then is not heeded.
        """
        for end in ("abortConnection", "loseConnection"):
            for answered in (False, True):
                _, protocol, pending = await self.hold()
                getattr(protocol.transport, end)()
                if answered:
                    pending.callback(YES)
                await self.left(protocol)
                self.assertEqual(self.slow.cancelled, not answered)

    async def test_stubborn(self) -> None:
        """
        An answer that comes of being cancelled is none.
        """
        _, protocol, pending = await self.hold()
        pending._canceller = lambda deferred: deferred.callback(YES)
        protocol.transport.abortConnection()
        await self.left(protocol)

    async def test_timeout(self) -> None:
        """
        When the time is up the connection ends, and the event says who the
        policy did not decide about.
        """
        clock = Clock()
        _, protocol, _ = await self.hold(clock=clock, timeout=5)
        clock.advance(4)
        self.assertEqual(self.refusals(), [])
        clock.advance(1)
        await self.left(protocol)
        self.assertIsInstance(self.refusals()[-1], CredentialsTimeout)
        self.assertIn(f"pid={os.getpid()}", str(self.refusals()[-1]))
        self.assertEqual(self.slow.cancelled, 1)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_accident(self) -> None:
        """
        An answer that breaks, and a protocol that fails or is no longer one to
        be told, end the connection.
        """

        class BrokenDecision:
            @property
            def admitted(self):
                raise KeyboardInterrupt()

        class Failing(Told):
            def peerCredentialsChanged(self, old, new):
                raise ZeroDivisionError()

        for change, answer, error in (
            (None, BrokenDecision(), KeyboardInterrupt),
            (Failing, YES, ZeroDivisionError),
            (Receiving, YES, TypeError),
        ):
            _, protocol, pending = await self.hold()
            if change is not None:
                protocol.__class__ = change
                protocol.transport._readFor = None
            self.slow.pending.clear()
            pending.callback(answer)
            del pending
            await self.left(protocol)
            gc.collect()
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)


class LimitTests(LiveTestCase):
    """
    Tests for C{maxPerUID} (THREATS A6).
    """

    async def test_limit(self) -> None:
        """
        One user has so many connections at once; one more is refused before
        user code, and each that ends makes room.
        """
        for capture in Capture:
            self.events.clear()
            address, wrapped = self.serve(capture=capture, maxPerUID=2)
            peers = []
            for number in range(2):
                peers.append(self.connect(address))
                peers[-1].send(b"hello")
                await self.made(wrapped, number + 1)
            self.assertEqual(await self.closed(self.connect(address)), b"")
            (refusal,) = self.refusals()
            self.assertEqual(
                (refusal.rule, refusal.reason), ("maxPerUID", "max-per-uid")
            )
            self.assertEqual(len(wrapped.made), 2)
            peers[0].close()
            await wrapped.made[0].ended
            again = self.connect(address)
            again.send(b"hello")
            await self.made(wrapped, 3)
            self.assertEqual(len(self.factory._slots), 2)

    async def test_everyWayOut(self) -> None:
        """
        A slot comes back on every way out: close, abort, refusal, time,
        exceptions in user code, a factory that gives nothing.
        """
        clock = Clock()

        class Failing(Remembering):
            def connectionMade(self):
                super().connectionMade()
                raise ZeroDivisionError()

        class FailingLater(Remembering):
            def dataReceived(self, data):
                raise ZeroDivisionError()

            def connectionLost(self, reason):
                super().connectionLost(reason)
                raise ZeroDivisionError()

        class Aborting(Remembering):
            def dataReceived(self, data):
                self.transport.abortConnection()

        class Nothing(RememberingFactory):
            def buildProtocol(self, addr):
                return None

        silent = {"capture": Capture.FIRST_MESSAGE, "timeout": 5, "clock": clock}
        for wrapped, options, hello in (
            (RememberingFactory(), {}, None),
            (RememberingFactory(Failing), {}, b"hello"),
            (RememberingFactory(FailingLater), {}, b"hello"),
            (RememberingFactory(Aborting), {}, b"hello"),
            (Nothing(), {}, b"hello"),
            (RememberingFactory(), {"policy": Policy.fromString("!any")}, b"hello"),
            (RememberingFactory(), {"policy": Slow(), **silent}, b""),
            (RememberingFactory(), {"policy": Slow()}, None),
            (RememberingFactory(), silent, b""),
            (RememberingFactory(), silent, None),
            (RememberingFactory(), {"syncWord": b"sync"}, b"wrong"),
        ):
            factory = CredentialedUNIXServerFactory(wrapped, maxPerUID=1, **options)
            address = self.listen(factory)
            slots = factory._slots
            taken = []
            enter = slots.enter
            self.patch(
                slots, "enter", lambda uid, e=enter, t=taken: t.append(uid) or e(uid)
            )
            for _ in range(2):
                taken.clear()
                peer = self.connect(address)
                await self.until(lambda: taken)
                if hello:
                    with contextlib.suppress(BrokenPipeError):
                        peer.send(hello)
                    await self.closed(peer)
                elif hello is None:
                    peer.close()
                else:
                    await self.until(lambda: len(factory._waiting))
                    clock.advance(6)
                    await self.closed(peer)
                await self.until(lambda: not len(slots))
            self.assertEqual(slots._taken, {})
            self.flushLoggedErrors(ZeroDivisionError)

    async def test_waitingCounts(self) -> None:
        """
        Those that wait count, so that one user cannot keep a slow policy busy.
        """
        policy = Slow()
        address, _ = self.serve(policy=policy, maxPerUID=1)
        first = self.connect(address)
        await self.until(lambda: policy.pending)
        self.assertEqual(await self.closed(self.connect(address)), b"")
        self.assertEqual(len(policy.asked), 1)
        first.close()
        await self.until(lambda: not len(self.factory._slots))

    @skipIf(needsRoot, needsRoot)
    async def test_otherUser(self) -> None:
        """
        One user's connections are no other's.
        """
        address, wrapped = self.serve(maxPerUID=1)
        self.connect(address)
        await self.made(wrapped)
        await runClient(
            address,
            "become(1000, 1000)\npeer = connect()\npeer.shutdown(1)\nreadAll(peer)",
        )
        self.assertEqual(len(wrapped.made), 2)
        self.assertEqual(self.refusals(), [])
