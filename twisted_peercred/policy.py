"""
Who may come in, by rules that an administrator writes.

L{twisted_peercred.rules} has the grammar.  What a policy does with each
connection is arithmetic on numbers: names were resolved when it was made, and
of a thousand rules those that cannot concern a peer are not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from . import names as _system
from .interfaces import IPeerIdentity, IPeerPolicy
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
    @ivar databaseGroups: groups that were looked up in the user database to
        decide, as the kernel did not tell them; L{None} where its word was
        enough.
    """

    admitted: bool
    rule: str | None
    line: int | None = field(default=None, compare=False)
    databaseGroups: tuple[int, ...] | None = field(default=None, compare=False)


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
        "_asksGroups",
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
        self._asksGroups = any(each.first(GroupIn) for each in self.rules)
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
        cls,
        text: str,
        *,
        groupsFrom: str = "kernel",
        names: NameService = _system,
        source: str = "rules",
    ) -> Policy:
        """
        A policy from its text.

        Asks the name service for C{user/} and C{group/}, which may block: in a
        running program C{deferToThread(Policy.fromString, text)}.

        @param groupsFrom: C{"database"} for a L{DatabasePolicy}.
        @param names: where names are looked up.
        @param source: what to call the text in an error.
        @raise PolicyError: a mistake in the text, or a name that nobody has.
        """
        kinds: dict[str, type[Policy]] = {"kernel": cls, "database": DatabasePolicy}
        if groupsFrom not in kinds:
            raise ValueError(f"groupsFrom is kernel or database, not {groupsFrom!r}")
        return kinds[groupsFrom](parseRules(text, names, source))

    @classmethod
    def fromFile(
        cls,
        path: str | os.PathLike[str],
        *,
        groupsFrom: str = "kernel",
        names: NameService = _system,
    ) -> Policy:
        """
        A policy from a file, UTF-8, that nobody but root and the user of this
        process can have written.  Blocks, like L{fromString}.

        @raise PolicyError: a mistake in the text, or a file that cannot be
            read or must not be believed.
        """
        return cls.fromString(
            readTrusted(path),
            groupsFrom=groupsFrom,
            names=names,
            source=os.fsdecode(path),
        )

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
            groups = identity.groups
            if groups is None:
                positions += self._unknown
                groups = getattr(identity, "databaseGroups", ())
            for group in groups:
                positions += self._groups[group]
        positions.sort()
        return positions

    def __str__(self) -> str:
        return ",".join(rule.text for rule in self.rules)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self)!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Policy):
            return NotImplemented
        return type(self) is type(other) and self.rules == other.rules

    def __hash__(self) -> int:
        return hash(self.rules)


@implementer(IPeerIdentity)
@dataclass(frozen=True, slots=True)
class _LookedUp:
    """
    Somebody whose groups no kernel tells.

    @ivar databaseGroups: some of them, perhaps all.
    """

    uid: int
    gid: int
    securityLabel: bytes | None
    databaseGroups: tuple[int, ...]
    groups: None = None


class DatabasePolicy(Policy):
    """
    A policy for kernels that do not tell a peer's groups (NetBSD, OpenBSD), and
    for messages, which carry none: where it has a condition on groups and they
    are not known, those are taken that the peer's user is in by the user
    database.  These are not the kernel's word: a process may have given up
    groups that its user is in.

    A group that is found there makes a condition true.  One that is not found
    leaves it unknown, which never admits: getgrouplist(3) cannot fail, and
    where the database cannot be read it gives the user's first group alone.

    C{Policy.fromString(text, groupsFrom="database")} makes it.

    Each user is looked up once at a time, however many connections wait for
    it, and also when all of them have gone.

    @param inThread: calls a function where it may block.
    @param lookUp: from a uid to its groups.
    """

    __slots__ = ("_inThread", "_lookUp", "_underWay")

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        inThread: Callable[..., Deferred[Any]] = deferToThread,
        lookUp: Callable[[int], tuple[int, ...] | None] = _system.databaseGroups,
    ) -> None:
        super().__init__(rules)
        self._inThread = inThread
        self._lookUp = lookUp
        self._underWay: dict[int, list[Deferred[tuple[int, ...] | None]]] = {}

    def decide(  # type: ignore[override]
        self, identity: IPeerIdentity
    ) -> Decision | Deferred[Decision]:
        """
        @see: L{IPeerPolicy.decide}
        """
        if identity.groups is None and self._asksGroups:
            return Deferred.fromCoroutine(self._decideByDatabase(identity))
        return super().decide(identity)

    async def _decideByDatabase(self, identity: IPeerIdentity) -> Decision:
        groups = await self._groupsOf(identity.uid)
        if groups is None:
            return super().decide(identity)
        known = _LookedUp(identity.uid, identity.gid, identity.securityLabel, groups)
        return replace(super().decide(known), databaseGroups=groups)

    def _groupsOf(self, uid: int) -> Deferred[tuple[int, ...] | None]:
        """
        Wait for the look-up that is under way, or begin one.
        """
        first = uid not in self._underWay
        waiting = self._underWay.setdefault(uid, [])
        mine: Deferred[tuple[int, ...] | None] = Deferred(waiting.remove)
        waiting.append(mine)
        if first:

            def found(groups: Any) -> None:
                del self._underWay[uid]
                while waiting:
                    waiting.pop(0).callback(groups)

            maybeDeferred(self._inThread, self._lookUp, uid).addBoth(found)
        return mine
