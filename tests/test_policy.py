"""
Tests for L{twisted_peercred.policy} and L{twisted_peercred.rules}.
"""

import os
import time
from unittest import skipIf

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from twisted_peercred import (
    IPeerIdentity,
    IPeerPolicy,
    PeerCredentials,
    PeerCredentialsError,
    Policy,
    PolicyError,
)
from twisted_peercred.policy import DatabasePolicy, Decision, _LookedUp
from twisted_peercred.rules import GREATEST_ID

from .reader import GROUPS, USERS, Names, verdict, world
from .support import needsLongRun

NAMES = Names()


def policy(text: str) -> Policy:
    """
    A policy that knows L{NAMES}.
    """
    return Policy.fromString(text, names=NAMES)


def who(uid: int, gid: int = 9, groups=(), label=None) -> PeerCredentials:
    """
    Somebody.
    """
    return PeerCredentials(
        uid=uid,
        gid=gid,
        groups=None if groups is None else tuple(sorted({gid, *groups})),
        securityLabel=label,
    )


class GrammarTests(SynchronousTestCase):
    """
    Tests for what is a policy and what is none.
    """

    def test_conditions(self) -> None:
        """
        Each kind of condition admits those it names, and nobody else.
        """
        me = os.geteuid()
        for text, admitted, refused in (
            ("any", [who(0), who(GREATEST_ID)], []),
            ("root", [who(0)], [who(1)]),
            ("self", [who(me)], [who(me + 1)]),
            ("uid/7", [who(7)], [who(6), who(8), who(0, 7, [7])]),
            ("uid/0", [who(0)], [who(1)]),
            ("uid/5-7", [who(5), who(6), who(7)], [who(4), who(8)]),
            ("uid/5-5", [who(5)], [who(4), who(6)]),
            (f"uid/{GREATEST_ID}", [who(GREATEST_ID)], [who(GREATEST_ID - 1)]),
            ("uid/4294967294", [who(2**32 - 2)], [who(2**32 - 3)]),
            ("user/alice", [who(1)], [who(2)]),
            ("user/svc-a$", [who(2)], [who(3)]),
            ("user/bob@example.org", [who(3)], [who(2)]),
            ("user/_x.y", [who(0)], [who(1)]),
            ("gid/7", [who(1, 7), who(1, 8, [7])], [who(7, 8), who(1, 8, None)]),
            ("gid/5-7", [who(1, 5), who(1, 1, [3, 6])], [who(1, 4, [8])]),
            ("group/staff", [who(5, 1), who(5, 2, [1])], [who(1, 2)]),
            ("label/a*", [who(1, label=b"abc")], [who(1, label=b"ba"), who(1)]),
            ("label/a?c", [who(1, label=b"a:c")], [who(1, label=b"ac")]),
            ("label/[!a]", [who(1, label=b"b")], [who(1, label=b"a")]),
            ("label/*", [who(1, label=b"\xff\n")], [who(1)]),
            ("label//bin/x?(enforce)", [who(1, label=b"/bin/x (enforce)")], []),
            ("uid/1+gid/2+label/x", [who(1, 2, label=b"x")], [who(1, 2), who(1)]),
            ("!uid/1,any", [who(2)], [who(1)]),
            ("!uid/1+gid/1,any", [who(1), who(2, 1)], [who(1, 1)]),
            ("!any,root", [], [who(0)]),
        ):
            rules = policy(text)
            for each in admitted:
                self.assertTrue(rules.decide(each).admitted, f"{text}: {each}")
            for each in refused:
                self.assertFalse(rules.decide(each).admitted, f"{text}: {each}")

    def test_layout(self) -> None:
        """
        A new line does what a comma does; comments, blanks and empty lines are
        nothing; every rule knows its line.
        """
        text = "# who\n\n  root ,\tuid/1 # those, these\r\n#,+\n!any\n"
        rules = policy(text).rules
        self.assertEqual(
            [(each.text, each.line) for each in rules],
            [("root", 3), ("uid/1", 3), ("!any", 5)],
        )
        self.assertEqual(policy(text), policy("root,uid/1,!any"))
        self.assertEqual(policy(text).decide(who(7)).line, 5)

    def test_mistakes(self) -> None:
        """
        Each kind of mistake is refused, with its line and column and a word on
        it (THREATS A13, A14).
        """
        for text, line, column, word in (
            ("", 1, 1, "there is no rule"),
            (" \n# root\n", 1, 1, "there is no rule"),
            (",root", 1, 1, "a rule is missing"),
            ("root,", 1, 6, "a rule is missing"),
            ("root,,any", 1, 6, "a rule is missing"),
            ("root, ,any", 1, 7, "a rule is missing"),
            ("root\n,\nany", 2, 1, "a rule is missing"),
            ("!", 1, 2, "a condition is missing"),
            ("root,!", 1, 7, "a condition is missing"),
            ("+root", 1, 1, "a condition is missing"),
            ("root+", 1, 6, "a condition is missing"),
            ("root++any", 1, 6, "a condition is missing"),
            ("!!root", 1, 2, "'!root' is no condition"),
            ("root+!any", 1, 6, "'!any' is no condition"),
            ("nobody", 1, 1, "'nobody' is no condition"),
            ("Root", 1, 1, "'Root' is no condition"),
            ("root/", 1, 1, "no condition"),
            ("any/1", 1, 1, "no condition"),
            ("uid", 1, 1, "no condition"),
            ("user", 1, 1, "no condition"),
            ("1000", 1, 1, "no condition"),
            ("uid=5", 1, 1, "no condition"),
            ("users/alice", 1, 1, "no condition"),
            ("root;any", 1, 1, "no condition"),
            ("root any", 1, 5, "blank"),
            ("root + any", 1, 5, "blank"),
            ("! root", 1, 2, "blank"),
            ("root\x0bany", 1, 5, "blank"),
            ("root,any\u00a0", 1, 9, "blank"),
            ("uid/", 1, 5, "not a decimal number"),
            ("uid/alice", 1, 5, "'alice' is not a decimal number"),
            ("uid/-1", 1, 5, "not a decimal number"),
            ("uid/+1", 1, 5, "not a decimal number"),
            ("uid/0x1", 1, 5, "not a decimal number"),
            ("uid/01", 1, 5, "not a decimal number"),
            ("uid/1.5", 1, 5, "not a decimal number"),
            ("uid/1_000", 1, 5, "not a decimal number"),
            ("uid/\u0661", 1, 5, "not a decimal number"),
            ("uid/\u00b2", 1, 5, "not a decimal number"),
            ("uid/1-", 1, 7, "not a decimal number"),
            ("uid/11-x", 1, 8, "not a decimal number"),
            ("any,any, x", 1, 10, "no condition"),
            ("user/" + "a" * 300, 1, 6, "there is no user called"),
            ("uid/1-2-3", 1, 7, "'2-3' is not a decimal number"),
            ("uid/9-3", 1, 5, "the range 9-3 ends before it begins"),
            ("uid/4294967295", 1, 5, "the last ID"),
            ("gid/0-4294967295", 1, 7, "the last ID"),
            ("gid/" + "9" * 10000, 1, 5, "the last ID"),
            ("gid/x", 1, 5, "not a decimal number"),
            ("user/", 1, 6, "the name of a user is missing"),
            ("group/", 1, 7, "the name of a group is missing"),
            ("user/nemo", 1, 6, "there is no user called 'nemo'"),
            ("group/alice", 1, 7, "there is no group called 'alice'"),
            ("root,!uid/1+user/nemo", 1, 18, "there is no user called 'nemo'"),
            ("user/-x", 1, 6, "'-' cannot be in the name of a user"),
            ("user/al:ce", 1, 8, "':' cannot be in"),
            ("user/al\\ce", 1, 8, "cannot be in"),
            ("user/al/ce", 1, 8, "'/' cannot be in"),
            ("user/al\u00e9", 1, 8, "cannot be in"),
            ("user/ali\x00ce", 1, 9, "cannot be in"),
            ("group/a!", 1, 8, "cannot be in"),
            ("label/", 1, 7, "a pattern is missing"),
            ("label/a:b", 1, 8, "':' cannot be in a pattern"),
            ("label/a=b", 1, 8, "'=' cannot be in a pattern"),
            ("label/a\\b", 1, 8, "cannot be in a pattern"),
            ("label/a\u00e9", 1, 8, "cannot be in a pattern"),
            ("label/a[b", 1, 8, "the [ is not closed"),
            ("label/[a][!]", 1, 10, "the [ is not closed"),
            ("# first\nroot\n\n  any ,  uid/x  # last", 4, 14, "'x' is not"),
            ("root\r\nuid/x\r\n", 2, 5, "'x' is not"),
        ):
            error = self.assertRaises(PolicyError, policy, text)
            self.assertEqual((error.line, error.column), (line, column), text)
            self.assertIn(word, error.problem)
            self.assertEqual(
                str(error), f"{error.source}:{line}:{column}: {error.problem}"
            )
            self.assertEqual(len(str(error).splitlines()), 1)
        self.assertTrue(issubclass(PolicyError, PeerCredentialsError))

    def test_nameOfDigits(self) -> None:
        """
        C{user/0} is whoever is called so, and never uid 0 (THREATS A13).
        """
        rules = policy("user/0,group/0")
        self.assertFalse(rules.decide(who(0, 0)).admitted)
        self.assertTrue(rules.decide(who(4)).admitted)
        self.assertTrue(rules.decide(who(5, 4)).admitted)
        error = self.assertRaises(PolicyError, Policy.fromString, "root,user/0")
        self.assertEqual((error.line, error.column), (1, 11))

    def test_system(self) -> None:
        """
        Names are those of the system, unless others are given.
        """
        rules = Policy.fromString("user/root+group/root")
        self.assertTrue(rules.decide(who(0, 0)).admitted)
        self.assertFalse(rules.decide(who(0, 1)).admitted)

    def test_needsNoEscaping(self) -> None:
        """
        No character that endpoint descriptions give a meaning can be in a
        rule.
        """
        for character in ":=\\":
            for word in ("user/a", "group/a", "label/a", "uid/1", "any"):
                self.assertRaises(PolicyError, policy, word + character)


WORLD = world(
    (0, 1, 2, 3, GREATEST_ID),
    (0, 1, 2, GREATEST_ID),
    (None, (), (1,), (2, 3)),
)

numbers = st.sampled_from([0, 1, 2, 3, GREATEST_ID])
ranges = st.builds(
    lambda one, two: (
        f"{min(one, two)}-{max(one, two)}" if one != two else f"{one}-{two}"
    ),
    numbers,
    numbers,
)
conditions = st.one_of(
    st.sampled_from(["any", "root", "self"]),
    st.builds("uid/{}".format, numbers | ranges),
    st.builds("gid/{}".format, numbers | ranges),
    st.builds("user/{}".format, st.sampled_from(sorted(USERS))),
    st.builds("group/{}".format, st.sampled_from(sorted(GROUPS))),
    st.builds("label/{}".format, st.sampled_from(["a", "a*", "*c", "??", "[b-z]*"])),
)
rules = st.builds(
    lambda refuses, parts: "!" * refuses + "+".join(parts),
    st.booleans(),
    st.lists(conditions, min_size=1, max_size=3),
)
policies = st.builds(",".join, st.lists(rules, min_size=1, max_size=8))


def reference(text: str, peer: PeerCredentials) -> Decision:
    """
    What the independent reader says.
    """
    return Decision(*verdict(text, peer))


class DecisionTests(SynchronousTestCase):
    """
    Tests for what a policy decides.
    """

    def test_interface(self) -> None:
        """
        A policy is what a factory takes for one.
        """
        verifyClass(IPeerPolicy, Policy)
        verifyObject(IPeerPolicy, policy("any"))

    def test_value(self) -> None:
        """
        Policies are equal by their rules, wherever those stand; they can be
        neither changed nor told apart otherwise.
        """
        one, two = policy("root,any"), policy("root\n\nany")
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one, policy("any,root"))
        self.assertNotEqual(one, "root,any")
        self.assertNotEqual(one, Policy.fromString("root,any", groupsFrom="database"))
        self.assertEqual(repr(one), "<Policy 'root,any'>")
        text = "self,uid/1-2,gid/3,label/x*+any,!root"
        self.assertEqual(hash(policy(text)), hash(policy(text)))

    def test_keywords(self) -> None:
        """
        What is not the text, the file or the rules is given by its name.
        """
        for call in (
            lambda: Policy.fromString("any", "database"),
            lambda: Policy.fromFile("/policy", "database"),
            lambda: DatabasePolicy((), lambda call: call()),
        ):
            self.assertRaises(TypeError, call)

    def test_decisionIsFrozen(self) -> None:
        """
        Nobody makes an admission of a refusal that was decided.
        """
        decision = policy("!any").decide(who(1))
        with self.assertRaises(AttributeError):
            decision.admitted = True
        self.assertFalse(decision.admitted)

    def test_anyAndMore(self) -> None:
        """
        C{any} with another condition is no end: rules that follow count.
        """
        rules = policy("any+uid/7,any+label/x,self+label/x,uid/1")
        self.assertEqual(rules.decide(who(1)), Decision(True, "uid/1"))

    def test_looksAtFew(self) -> None:
        """
        Of the rules that are certain about somebody the first is looked at, and
        none that stands behind one for everybody.
        """
        rules = policy("uid/1-9,uid/1-5,gid/3-4,gid/3-3,!self,any,label/x")
        self.assertEqual(set(rules._concerning(who(1, 3))), {0, 2, 4, 5})

    def test_firstMatch(self) -> None:
        """
        The first match decides, and is named as it was written.
        """
        rules = policy("!uid/1\nuid/1-3\nany")
        self.assertEqual(rules.decide(who(1)), Decision(False, "!uid/1"))
        self.assertEqual(rules.decide(who(2)), Decision(True, "uid/1-3"))
        self.assertEqual(rules.decide(who(4)), Decision(True, "any"))
        self.assertEqual([rules.decide(who(n)).line for n in (1, 2, 4)], [1, 2, 3])

    def test_noMatch(self) -> None:
        """
        Whom no rule matches is refused, by none.
        """
        decision = policy("root").decide(who(1))
        self.assertEqual(decision, Decision(False, None))
        self.assertIsNone(decision.line)

    def test_unknownGroups(self) -> None:
        """
        Where the kernel does not tell groups, a rule on them does not admit,
        and does refuse.
        """
        peer = who(1, 5, None)
        self.assertFalse(policy("gid/7").decide(peer).admitted)
        self.assertEqual(policy("!gid/7,any").decide(peer), Decision(False, "!gid/7"))
        self.assertTrue(policy("!gid/7+uid/2,any").decide(peer).admitted)
        self.assertTrue(policy("gid/5").decide(peer).admitted)

    def test_selfNow(self) -> None:
        """
        C{self} is the user of this process at the moment, not the one who
        loaded the policy.
        """
        rules = policy("self")
        self.patch(os, "geteuid", lambda: 70000)
        self.assertTrue(rules.decide(who(int("70000"))).admitted)
        self.assertFalse(rules.decide(who(0)).admitted)

    def compare(self, examples: int) -> None:
        """
        Compare with the reference, over the whole world each time.
        """
        pairs = 0

        @settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(policies)
        def agree(text: str) -> None:
            nonlocal pairs
            compiled = policy(text)
            for peer in WORLD:
                self.assertEqual(compiled.decide(peer), reference(text, peer), peer)
            pairs += len(WORLD)

        agree()
        self.assertTrue(pairs >= examples * len(WORLD) / 2, pairs)

    def test_reference(self) -> None:
        """
        It decides as a reference evaluator does that was written from the
        design, in a world of 240 identities.
        """
        self.compare(100)

    @skipIf(needsLongRun, needsLongRun)
    def test_referenceAtLength(self) -> None:
        """
        The same on more than 100,000 pairs of a policy and an identity.
        """
        self.compare(1000)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(policies)
    def test_roundTrip(self, text) -> None:
        """
        Parsed, printed and parsed again, a policy is the same.
        """
        parsed = policy(text)
        self.assertEqual(str(parsed), text)
        self.assertEqual(policy(str(parsed)), parsed)

    def test_thousandRules(self) -> None:
        """
        Of a thousand rules only the few that may concern a peer are tried.
        """
        for kind, peer in (
            ("uid/{0}", who(5)),
            ("!uid/{0}-{0}", who(5)),
            ("gid/{0}", who(5, 6, [7, 8])),
            ("!gid/{0}+uid/{0}", who(5, 6, [7, 8])),
        ):
            many = ",".join(kind.format(number) for number in range(1000, 1999))
            rules = policy(many + ",uid/5")
            self.assertEqual(rules.decide(peer), Decision(True, "uid/5"))
            self.assertEqual(rules._concerning(peer), [999])

    def test_load(self) -> None:
        """
        Even ten thousand rules that overlap are compiled in seconds.
        """
        text = ",".join(f"uid/{n}-{20_000 - n}" for n in range(10_000))
        start = time.process_time()
        rules = policy(text)
        self.assertTrue(time.process_time() - start < 10)
        self.assertEqual(rules.decide(who(10_000)).rule, "uid/0-20000")


class DatabaseTests(SynchronousTestCase):
    """
    Tests for groups that are looked up where the kernel tells none.
    """

    def setUp(self) -> None:
        self.asked = []
        self.inThread = lambda function, uid: succeed(function(uid))

    def lookUp(self, uid: int) -> tuple[int, ...] | None:
        """
        A user database.
        """
        self.asked.append(uid)
        return {1: (7, 8), 2: ()}.get(uid)

    def database(self, text: str) -> DatabasePolicy:
        """
        A policy that looks groups up.
        """
        return DatabasePolicy(
            policy(text).rules, inThread=self.inThread, lookUp=self.lookUp
        )

    def test_lookedUp(self) -> None:
        """
        Where the kernel tells no groups those of the database decide, and the
        decision says so.
        """
        rules = self.database("!gid/8+uid/3,gid/7,root")
        verifyObject(IPeerPolicy, rules)
        verifyClass(IPeerIdentity, _LookedUp)
        decision = self.successResultOf(rules.decide(who(1, 9, None)))
        self.assertEqual(decision, Decision(True, "gid/7"))
        self.assertEqual((decision.line, decision.databaseGroups), (1, (7, 8)))
        decision = self.successResultOf(rules.decide(who(2, 9, None)))
        self.assertEqual(decision, Decision(False, None))
        self.assertEqual(decision.databaseGroups, ())
        decision = self.successResultOf(rules.decide(who(2, 7, None)))
        self.assertTrue(decision.admitted)

    def test_ranges(self) -> None:
        """
        Any group of a range will do, in a rule by itself, which is found by an
        index, and behind another condition on groups.
        """
        for text, admitted in (
            ("gid/5-7", True),
            ("gid/5-20", True),
            ("gid/8-20", True),
            ("gid/1-6", False),
            ("gid/9-20", False),
        ):
            for rule in (text, f"gid/100+{text}"):
                decision = self.successResultOf(
                    self.database(rule).decide(who(1, 100, None))
                )
                self.assertIs(decision.admitted, admitted, rule)

    def test_absence(self) -> None:
        """
        A group that was not found may be one that could not be looked up: that
        gets nobody past a rule that refuses, and fails one that admits.
        """
        for text, rule in (("!gid/103,any", "!gid/103"), ("gid/103+uid/1", None)):
            for uid in (1, 2):
                answer = self.database(text).decide(who(uid, 9, None))
                self.assertEqual(self.successResultOf(answer), Decision(False, rule))
        answer = self.database("!gid/8,any").decide(who(1, 9, None))
        self.assertEqual(self.successResultOf(answer), Decision(False, "!gid/8"))
        answer = self.database("!gid/103+uid/3,any").decide(who(1, 9, None))
        self.assertTrue(self.successResultOf(answer).admitted)

    def test_kernelFirst(self) -> None:
        """
        The kernel's word is not gainsaid, and nothing is looked up that no
        rule asks for.
        """
        decision = self.database("gid/7").decide(who(1, 9, ()))
        self.assertEqual(decision, Decision(False, None))
        self.assertIsNone(decision.databaseGroups)
        decision = self.database("uid/1").decide(who(1, 9, None))
        self.assertEqual(decision, Decision(True, "uid/1"))
        self.assertEqual(self.asked, [])

    def test_notThere(self) -> None:
        """
        The groups of a user who is not in the database stay unknown, which
        does not admit.
        """
        peer = who(5, 9, None, b"label")
        for text in ("gid/7", "!gid/7,any"):
            decision = self.successResultOf(self.database(text).decide(peer))
            self.assertFalse(decision.admitted)
            self.assertIsNone(decision.databaseGroups)

    def test_failure(self) -> None:
        """
        A look-up that fails is no decision.
        """
        self.inThread = lambda *_: fail(ZeroDivisionError())
        answer = self.database("gid/7,any").decide(who(1, 9, None))
        self.failureResultOf(answer, ZeroDivisionError)

    def test_oneAtATime(self) -> None:
        """
        Connections of one user wait for one look-up, which one that goes does
        not take from the others, and begin no other when all have gone; each
        user has one, and a failure is everybody's.
        """
        jobs = []

        def inThread(function, uid):
            jobs.append(Deferred())
            return jobs[-1]

        self.inThread = inThread
        rules = self.database("gid/7")
        one, two, three = (rules.decide(who(1, 9, None)) for _ in range(3))
        self.assertEqual(len(jobs), 1)
        other = rules.decide(who(2, 9, None))
        self.assertEqual(len(jobs), 2)
        one.cancel()
        self.failureResultOf(one, CancelledError)
        jobs[0].callback((7,))
        for each in (two, three):
            self.assertTrue(self.successResultOf(each).admitted)
        self.assertNoResult(other)
        more = rules.decide(who(2, 9, None))
        jobs[1].errback(ZeroDivisionError())
        for each in (other, more):
            self.failureResultOf(each, ZeroDivisionError)
        for _ in range(9):
            gone = rules.decide(who(1, 9, None))
            gone.cancel()
            self.failureResultOf(gone, CancelledError)
        self.assertEqual(len(jobs), 3)
        jobs[2].callback((7,))
        self.assertEqual(rules._underWay, {})

    def test_inOrder(self) -> None:
        """
        Who waits for the same look-up is decided about in the order of arrival.
        """
        answer = Deferred()
        self.inThread = lambda function, uid: answer
        rules, decided = self.database("gid/7"), []
        for number in range(3):
            rules.decide(who(1, 9, None)).addCallback(
                lambda _, number=number: decided.append(number)
            )
        answer.callback((7,))
        self.assertEqual(decided, [0, 1, 2])

    def test_noThread(self) -> None:
        """
        Where no look-up can be begun, nobody waits for it.
        """
        self.inThread = lambda *_: 1 / 0
        rules = self.database("gid/7")
        for _ in range(2):
            self.failureResultOf(rules.decide(who(1, 9, None)), ZeroDivisionError)

    def test_byName(self) -> None:
        """
        It is asked for by name.
        """
        asked = Policy.fromString("any", groupsFrom="database")
        self.assertIsInstance(asked, DatabasePolicy)
        self.assertNotIsInstance(Policy.fromString("any"), DatabasePolicy)
        with self.assertRaises(ValueError):
            Policy.fromString("any", groupsFrom="nis")
