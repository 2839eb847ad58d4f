"""
Tests for L{twisted_peercred.record}.
"""

import json
import os
import re
import socket
from pathlib import Path
from unittest import skipIf

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import LogLevel, eventAsJSON, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsTimeout,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerChanged,
    PeerCredentials,
    PeerRefused,
    Policy,
    errors,
    record,
)
from twisted_peercred.record import BURST, INTERVAL, MAX_USERS, REASONS, Refusals

from .support import LiveTestCase, RememberingFactory, needsRoot, runClient
from .test_admission import Asked

ALICE = PeerCredentials(uid=1000, gid=100, groups=(100, 200), pid=7)
FIELDS = {
    "what",
    "serial",
    "uid",
    "gid",
    "pid",
    "groups",
    "capture",
    "connection",
    "reason",
    "rule",
    "line",
    "databaseGroups",
    "address",
}


class Recorded(SynchronousTestCase):
    """
    Gathers what is logged.
    """

    def setUp(self) -> None:
        self.events = []
        globalLogPublisher.addObserver(self.gather)
        self.addCleanup(globalLogPublisher.removeObserver, self.gather)

    def gather(self, event) -> None:
        """
        An observer, of what is in the record alone.
        """
        if event.get("log_namespace") == "twisted_peercred.record":
            self.events.append(event)


class ReasonTests(Recorded):
    """
    Tests for the reasons' codes.
    """

    def test_documented(self) -> None:
        """
        Every error has a code that is documented, and L{PeerRefused} the one
        that it was given, or that of a rule.
        """
        for each in vars(errors).values():
            if isinstance(each, type) and each is not PeerRefused:
                self.assertIn(each.reason, REASONS)
        self.assertEqual(PeerRefused(ALICE, "root").reason, "rule")
        self.assertEqual(PeerRefused(ALICE, None).reason, "no-rule")
        for error, reason in (
            (CredentialsUnavailable("x"), "no-credentials"),
            (CredentialsUnsupported("x"), "unsupported"),
            (CredentialsTruncated("x"), "truncated"),
            (CredentialsTimeout("x"), "timeout"),
            (PeerChanged(ALICE, ALICE), "peer-changed"),
        ):
            self.assertEqual(error.reason, reason)

    def test_page(self) -> None:
        """
        The page on the record has the same list.
        """
        page = Path(__file__).resolve().parent.parent / "docs" / "record.rst"
        text = page.read_text()
        _, _, table = text.partition("``reason``            means\n")
        rows = re.findall(r"^``([a-z-]+)`` +(\S.*)$", table, re.MULTILINE)
        self.assertEqual([name for name, _ in rows], list(REASONS))
        for name in FIELDS:
            self.assertIn(f"``{name}``", text)

    def test_unknownPeer(self) -> None:
        """
        What is not known is L{None}.
        """
        record.refused(UNIXAddress(None), None, CredentialsUnavailable("nobody"))
        (event,) = self.events
        self.assertEqual(FIELDS - set(event), set())
        for name in ("serial", "uid", "gid", "pid", "groups", "capture", "rule"):
            self.assertIsNone(event[name])
        self.assertEqual(event["reason"], "no-credentials")


class FakeTransport:
    """
    As much of a transport as the record looks at.
    """

    sessionno = 3

    def __init__(self, uid, clock=None) -> None:
        self.connectionCredentials = (
            None if uid is None else PeerCredentials(uid=uid, gid=uid)
        )
        self.reactor = clock


class RefusalsTests(Recorded):
    """
    Tests for L{Refusals}: no flood fills a disk (THREATS A7).
    """

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.refusals = Refusals(None)

    def refuse(self, uid, times=1) -> None:
        """
        Refuse a user.
        """
        for _ in range(times):
            transport = FakeTransport(uid, self.clock)
            self.refusals.refused(
                transport, UNIXAddress(None), None, CredentialsUnavailable("no")
            )

    def told(self) -> list:
        """
        What was logged, in short: users, and with how many left out.
        """
        events, self.events[:] = list(self.events), []
        return [(each["uid"], each.get("count")) for each in events]

    def test_burst(self) -> None:
        """
        A user's first few are logged one by one; those after are counted, and
        the count is told when the interval is over.
        """
        self.refuse(5, BURST + 3)
        self.refuse(6)
        self.assertEqual(self.told(), [(5, None)] * BURST + [(6, None)])
        self.clock.advance(INTERVAL - 1)
        self.refuse(5)
        self.assertEqual(self.told(), [])
        self.clock.advance(1)
        (event,) = self.events
        self.assertEqual(event["what"], "left-out")
        self.assertEqual(formatEvent(event), "Left out 4 more refusals of uid 5")
        self.assertEqual(self.told(), [(5, 4)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again(self) -> None:
        """
        With the next interval all begins anew.
        """
        self.refuse(5, BURST)
        self.clock.advance(INTERVAL)
        self.refuse(5, BURST)
        self.assertEqual(self.told(), [(5, None)] * BURST * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_clockSetBack(self) -> None:
        """
        A clock that was set back does not make an interval of hours.
        """
        self.clock.advance(10_000)
        self.refuse(5, BURST)
        self.clock.rightNow -= 3600
        self.refuse(5, BURST + 1)
        self.assertEqual(len(self.told()), 2 * BURST)
        self.clock.advance(INTERVAL)
        self.assertEqual(self.told(), [(5, 1)])

    def test_manyUsers(self) -> None:
        """
        One who has a great many uids has no more lines for it.
        """
        for uid in range(10_000):
            self.refuse(uid, 2)
        told = self.told()
        self.assertEqual(len(told), MAX_USERS * 2 + BURST)
        self.clock.advance(INTERVAL)
        (event,) = self.events
        self.assertEqual(
            formatEvent(event),
            f"Left out {(10_000 - MAX_USERS) * 2 - BURST} more refusals of others",
        )

    def test_noCredentials(self) -> None:
        """
        Those who are nobody are counted together.
        """
        self.refuse(None, BURST + 1)
        self.refusals.tell()
        self.assertEqual(self.told(), [(None, None)] * BURST + [(None, 1)])

    def test_stop(self) -> None:
        """
        When a port stops, what is still to be told is told, and no timer is
        left.
        """
        factory = CredentialedUNIXServerFactory(
            RememberingFactory(), clock=Clock(), policy=Policy.fromString("!any")
        )
        self.refusals, self.clock = factory._refusals, factory._refusals._clock
        factory.doStart()
        self.refuse(5, BURST + 2)
        factory.doStop()
        self.assertEqual(self.told()[-1], (5, 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_afterStop(self) -> None:
        """
        When all ports have stopped, the refusals of connections that live on
        are logged one by one; with a port that starts again it is as before.
        """
        factory = CredentialedUNIXServerFactory(RememberingFactory(), clock=Clock())
        self.refusals, self.clock = factory._refusals, factory._refusals._clock
        factory.doStart()
        factory.doStart()
        factory.doStop()
        self.refuse(5, BURST + 2)
        self.assertEqual(len(self.told()), BURST)
        factory.doStop()
        self.assertEqual(self.told(), [(5, 2)])
        self.refuse(5, BURST + 2)
        self.assertEqual(self.told(), [(5, None)] * (BURST + 2))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        factory.doStart()
        factory.doStop()
        self.assertEqual(self.told(), [])
        factory.doStart()
        self.refuse(5, BURST + 2)
        factory.doStop()
        self.assertEqual(self.told()[-1], (5, 2))

    def test_tellTwice(self) -> None:
        """
        What was told is not told again.
        """
        self.refuse(5, BURST + 2)
        self.refusals.tell()
        self.told()
        self.refusals.tell()
        self.clock.advance(INTERVAL * 2)
        self.assertEqual(self.told(), [])


class EventTests(LiveTestCase):
    """
    Tests for the events of real connections.
    """

    def observe(self) -> list:
        """
        @return: where the admissions gather.
        """
        admitted = []
        record.admissions.addObserver(admitted.append)
        self.addCleanup(record.admissions.removeObserver, admitted.append)
        return admitted

    async def test_admitted(self) -> None:
        """
        An admission is one event for those who asked, with who it is and what
        admitted; and none for Twisted's log, unless that asked.
        """
        admitted = self.observe()
        for capture in Capture:
            for policy, reason, rule, line in (
                (None, "no-policy", None, None),
                (Policy.fromString("\nself"), "rule", "self", 2),
            ):
                admitted.clear()
                address, wrapped = self.serve(capture=capture, policy=policy)
                for serial in range(2):
                    peer = self.connect(address)
                    peer.send(b"hello")
                    protocol = await self.made(wrapped, serial + 1)
                event = admitted[1]
                self.assertEqual(len(admitted), 2)
                self.assertEqual(FIELDS - set(event), set())
                self.assertEqual(event["what"], "admitted")
                self.assertEqual(event["serial"], 1)
                for name in ("uid", "gid", "pid", "groups"):
                    self.assertEqual(event[name], getattr(protocol.peer, name))
                self.assertEqual(event["capture"], capture.value)
                self.assertEqual(
                    event["connection"], str(protocol.transport.connectionCredentials)
                )
                self.assertEqual(
                    (event["reason"], event["rule"], event["line"]),
                    (reason, rule, line),
                )
                self.assertIs(event["log_level"], LogLevel.info)
                self.assertIn(f"uid={event['uid']}", formatEvent(event))
                self.assertNotIn(event, self.events)

    async def test_nobodyListens(self) -> None:
        """
        Where nobody asked, an admission is not even put together.
        """
        admitted = []
        self.patch(record.admissions, "admitted", admitted.append)
        self.assertFalse(record.admissions.wanted)
        address, wrapped = self.serve()
        self.connect(address)
        await self.made(wrapped)
        self.assertEqual(admitted, [])

    async def test_failingObserver(self) -> None:
        """
        An observer that fails does not keep a peer out, nor the event from
        other observers.
        """

        def failing(event):
            raise ZeroDivisionError()

        record.admissions.addObserver(failing)
        self.addCleanup(record.admissions.removeObserver, failing)
        admitted = self.observe()
        address, wrapped = self.serve()
        self.connect(address)
        await self.made(wrapped)
        self.assertEqual(len(admitted), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_refused(self) -> None:
        """
        A refusal is one event with all fields, those of a rule among them.
        """
        address, _ = self.serve(policy=Policy.fromString("uid/4294967294\n!self"))
        self.connect(address)
        await self.until(self.refusals)
        (event,) = [each for each in self.events if each.get("what") == "refused"]
        self.assertEqual(FIELDS - set(event), set())
        self.assertEqual(
            (event["serial"], event["uid"], event["rule"], event["line"]),
            (0, os.geteuid(), "!self", 2),
        )
        self.assertEqual(event["pid"], os.getpid())
        self.assertEqual(event["connection"], str(event["error"].credentials))

    async def test_policyFailed(self) -> None:
        """
        What a policy raised is in the event, with its traceback.
        """
        address, _ = self.serve(policy=Asked(lambda number: fail(ZeroDivisionError())))
        self.connect(address)
        await self.until(self.refusals)
        (event,) = [each for each in self.events if each.get("what") == "refused"]
        self.assertEqual(event["reason"], "policy-failed")
        event["log_failure"].trap(ZeroDivisionError)
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_keepsNoConnection(self) -> None:
        """
        An observer that keeps a refusal's event does not keep the connection
        with it: no exception in it has a traceback, whose frames would.
        """

        class Raising:
            def decide(self, identity):
                raise ZeroDivisionError()

        for options in ({"policy": Raising()}, {"syncWord": b"word"}):
            address, _ = self.serve(**options)
            peer = self.connect(address)
            peer.send(b"wrong")
            await self.closed(peer)
            (event,) = [each for each in self.events if each.get("what") == "refused"]
            problem = event["error"]
            while problem is not None:
                self.assertIsNone(problem.__traceback__)
                problem = problem.__cause__
            self.flushLoggedErrors(ZeroDivisionError)
            self.events.clear()

    async def test_noProtocol(self) -> None:
        """
        A wrapped factory that gives no protocol has refused; what it raised is
        in the event.
        """

        class Moody(RememberingFactory):
            def buildProtocol(self, addr):
                if self.problem is not None:
                    raise self.problem

        for problem in (None, ZeroDivisionError()):
            self.events.clear()
            wrapped = Moody()
            wrapped.problem = problem
            address = self.listen(CredentialedUNIXServerFactory(wrapped))
            self.connect(address)
            await self.until(self.refusals)
            (event,) = [each for each in self.events if each.get("what") == "refused"]
            self.assertEqual(
                (event["reason"], event["rule"]), ("no-protocol", "wrappedFactory")
            )
            self.assertEqual("log_failure" in event, problem is not None)
            self.flushLoggedErrors(ZeroDivisionError)

    async def test_A4_textInAddress(self) -> None:
        """
        What a peer calls itself is one value of the event, and in the text and
        in JSON it is a repr (THREATS A4).
        """
        admitted = self.observe()
        for policy in (None, Policy.fromString("!any")):
            address, _ = self.serve(policy=policy)
            name = f'\0;uid=0;\n\x1b[31m","uid":0,{os.getpid()}'
            with socket.socket(socket.AF_UNIX) as peer:
                peer.bind(name)
                peer.connect(address)
                await self.until(lambda p=policy: self.refusals() if p else admitted)
        events = [
            admitted[0],
            next(e for e in self.events if e.get("what") == "refused"),
        ]
        for event in events:
            self.assertEqual(event["uid"], os.geteuid())
            self.assertEqual(event["address"].name, name.encode())
            for text in (formatEvent(event), eventAsJSON(event)):
                self.assertNotIn("\n", text)
                self.assertNotIn("\x1b", text)
            self.assertEqual(json.loads(eventAsJSON(event))["uid"], os.geteuid())

    @skipIf(needsRoot, needsRoot)
    async def test_flood(self) -> None:
        """
        Of a thousand refusals of one user a few are logged, and another user's
        one is still among them (THREATS A7).
        """
        address, _ = self.serve(policy=Policy.fromString("!any"))
        await runClient(
            address,
            "become(1000, 1000)\nfor _ in range(1000):\n    connect().close()",
        )
        await runClient(address, "become(1001, 1001)\nreadAll(connect())")
        users = [each["uid"] for each in self.events if each.get("what") == "refused"]
        self.assertEqual(users, [1000] * BURST + [1001])
        self.factory._refusals.tell()
        event = self.events[-1]
        self.assertEqual((event["uid"], event["count"]), (1000, 1000 - BURST))
