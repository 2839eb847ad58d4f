"""
Who may come in, by rules that an administrator writes.

L{twisted_peercred.rules} has the grammar.  What a policy does with each
connection is arithmetic on numbers: names were resolved when it was made, and
of a thousand rules those that cannot concern a peer are not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from . import names as _system
from .errors import PeerRefused
from .interfaces import IPeerCredentials, IPeerIdentity, IPeerPolicy
from .ranges import Range, RangeIndex
from .rules import Anybody, GroupIn, NameService, Rule, UserIn, parseRules
from .trusted import readTrusted


@dataclass(frozen=True, slots=True)
class Decision:
    """
    Whether somebody is admitted, and by what.

    @ivar rule: the rule that decided, as it was written; L{None} where none
        matched, which refuses.
    @ivar line: the line of the policy's text that the rule stands on, from 1.
    """

    admitted: bool
    rule: str | None
    line: int | None = field(default=None, compare=False)


_NO_RULE = Decision(False, None)
#: Kinds of conditions that a rule is found by.
_CERTAIN = (Anybody, UserIn, GroupIn)


@implementer(IPeerPolicy)
class Policy:
    """
    Ordered rules.  The first that matches decides; what none matches is
    refused; what the kernel does not tell never admits.

    Immutable; equal to another of the same rules.  C{str()} of it is a policy
    again, on one line.

    @ivar rules: the rules, in order.
    """

    __slots__ = (
        "_certain",
        "_decisions",
        "_groups",
        "_others",
        "_unknown",
        "_users",
        "rules",
    )

    rules: tuple[Rule, ...]

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._decisions = [
            Decision(not each.refuses, each.text, each.line) for each in self.rules
        ]
        users, groups = [], []
        # Positions of the rules that concern everybody, and of those that
        # concern whose groups are not known.
        self._others: list[int] = []
        self._unknown: list[int] = []
        self._certain = [
            len(each.conditions) == 1 and isinstance(each.conditions[0], _CERTAIN)
            for each in self.rules
        ]
        for position, rule in enumerate(self.rules):
            alone = len(rule.conditions) == 1
            if user := rule.first(UserIn):
                users.append(Range(user.low, user.high, position, alone))
            elif group := rule.first(GroupIn):
                groups.append(Range(group.low, group.high, position, alone))
                if rule.refuses:
                    self._unknown.append(position)
            else:
                self._others.append(position)
                if alone and rule.first(Anybody) is not None:
                    # Nobody gets past it.
                    break
        self._users = RangeIndex(users)
        self._groups = RangeIndex(groups)

    @classmethod
    def fromString(
        cls, text: str, *, names: NameService = _system, source: str = "rules"
    ) -> Policy:
        """
        A policy from its text.

        Asks the name service for C{user/} and C{group/}, which may block: in a
        running program C{deferToThread(Policy.fromString, text)}.

        @param names: where names are looked up.
        @param source: what to call the text in an error.
        @raise PolicyError: a mistake in the text, or a name that nobody has.
        """
        return cls(parseRules(text, names, source))

    @classmethod
    def fromFile(
        cls, path: str | os.PathLike[str], *, names: NameService = _system
    ) -> Policy:
        """
        A policy from a file, UTF-8, that nobody but root and the user of this
        process can have written.  Blocks, like L{fromString}.

        @raise PolicyError: a mistake in the text, or a file that cannot be
            read or must not be believed.
        """
        return cls.fromString(readTrusted(path), names=names, source=os.fsdecode(path))

    def decide(self, identity: IPeerIdentity) -> Decision:
        """
        @see: L{IPeerPolicy.decide}
        """
        for position in self._concerning(identity):
            # One condition, by which it was found, needs no second look.
            if self._certain[position] or self.rules[position].decides(identity):
                return self._decisions[position]
        return _NO_RULE

    def _concerning(self, identity: IPeerIdentity) -> list[int]:
        """
        Positions of the rules that may decide about somebody, in order; a few
        of those that do not, and never without one that does.
        """
        positions = [*self._others, *self._users[identity.uid]]
        if self._groups:
            positions += self._groups[identity.gid]
            if identity.groups is None:
                positions += self._unknown
            else:
                for group in identity.groups:
                    positions += self._groups[group]
        positions.sort()
        return positions

    def __str__(self) -> str:
        return ",".join(rule.text for rule in self.rules)

    def __repr__(self) -> str:
        return f"Policy.fromString({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Policy):
            return NotImplemented
        return self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)


def ask(policy: IPeerPolicy, identity: IPeerIdentity) -> object:
    """
    Ask any policy.

    @return: its decision, or the L{Failure} to make one; a L{Deferred} of
        either, in a list of one, where that is not to be had at once.
    """
    answers: list[object] = []

    def keep(answer: object) -> list[object]:
        answers.append(answer)
        return answers

    try:
        answer: object = policy.decide(identity)
        if type(answer) is Decision or not hasattr(answer, "__await__"):
            return answer
        pending: Deferred[Any] = (
            answer
            if isinstance(answer, Deferred)
            else Deferred.fromCoroutine(
                cast("Coroutine[Deferred[Any], Any, Any]", answer)
            )
        )
    except Exception:
        return Failure()
    pending.addBoth(keep)
    return answers[0] if answers else pending


def refusal(answer: Any, credentials: IPeerCredentials) -> PeerRefused | None:
    """
    What becomes of a policy's answer.  Only a decision that admits does; a
    failure refuses, and so does anything that is no decision.

    @return: L{None} for whom it admits.
    """
    problem: BaseException | None
    if isinstance(answer, Failure):
        problem = answer.value
    else:
        try:
            if answer.admitted is True:
                return None
            return PeerRefused(
                credentials,
                answer.rule,
                line=getattr(answer, "line", None),
                databaseGroups=getattr(answer, "databaseGroups", None),
            )
        except AttributeError as noDecision:
            problem = noDecision
    refused = PeerRefused(credentials, "policy", "policy-failed")
    refused.__cause__ = problem
    return refused
