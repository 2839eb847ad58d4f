"""
The rules of a policy, from text to numbers::

    rules     = rule *("," rule)            first match wins, no match refuses
    rule      = ["!"] condition *("+" condition)      "!" refuses, "+" is and
    condition = "any" | "root" | "self" | "uid/" N ["-" N] | "user/" NAME
              | "gid/" N ["-" N] | "group/" NAME | "label/" GLOB

A new line does what a comma does, C{#} begins a comment, and there may be
blanks around a rule, though not within.  N is decimal, 0 to 4294967294.  NAME
has ASCII letters, digits and C{_ . - @ $}, and does not begin with C{-}; who is
called otherwise is named by number.  GLOB is of printable ASCII, with C{*},
C{?} and C{[...]} of glob(7).  Nothing in a rule needs escaping in an endpoint
description: a label's C{:} and C{=} and blanks are matched by C{?}.

A condition is true, false, or unknown (L{None}) where the kernel does not tell
what it is about.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol, TypeAlias, TypeVar

from .errors import PolicyError
from .interfaces import IPeerIdentity

#: The greatest uid_t and gid_t that is an ID: all ones is "unset",
#: credentials(7).
GREATEST_ID = 2**32 - 2

_NUMBER = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_NAME = re.compile(r"(?!-)[A-Za-z0-9_.@$-]*")
_GLOB = re.compile(r"[^\x00-\x20\x7f-\U0010ffff,+:=\\#]*")
# The lookahead keeps "[!]" from being taken for a class: as in fnmatch, it goes on.
_CHARACTER_CLASS = re.compile(r"\[(?=(!?\]?))\1[^\]]*\]")


class NameService(Protocol):
    """
    From names to numbers.  The module L{twisted_peercred.names} is one.  Its
    calls may block.
    """

    def userID(self, name: str) -> int | None: ...

    def groupID(self, name: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Anybody:
    """
    C{any}: true of everybody.
    """

    text: str

    def holds(self, identity: IPeerIdentity) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Oneself:
    """
    C{self}: the effective user of this process, of the moment; a server may
    drop privileges after its policy was loaded.
    """

    text: str

    def holds(self, identity: IPeerIdentity) -> bool:
        return identity.uid == os.geteuid()


@dataclass(frozen=True, slots=True)
class UserIn:
    """
    C{root}, C{uid/} and C{user/}: a range of users.
    """

    text: str
    low: int
    high: int

    def holds(self, identity: IPeerIdentity) -> bool:
        return self.low <= identity.uid <= self.high


@dataclass(frozen=True, slots=True)
class GroupIn:
    """
    C{gid/} and C{group/}: a range of groups, of which the peer's gid or any
    of its groups is one.
    """

    text: str
    low: int
    high: int

    def holds(self, identity: IPeerIdentity) -> bool | None:
        if self.low <= identity.gid <= self.high:
            return True
        groups = identity.groups
        if groups is not None:
            return any(self.low <= each <= self.high for each in groups)
        # Groups of the user database may be too few, so it can say no "no".
        known = getattr(identity, "databaseGroups", ())
        return True if any(self.low <= each <= self.high for each in known) else None


@dataclass(frozen=True, slots=True)
class LabelLike:
    """
    C{label/}: a pattern of security labels.
    """

    text: str
    pattern: re.Pattern[bytes]

    def holds(self, identity: IPeerIdentity) -> bool | None:
        label = identity.securityLabel
        return None if label is None else self.pattern.match(label) is not None


_Kind = TypeVar("_Kind")
Condition: TypeAlias = "Anybody | Oneself | UserIn | GroupIn | LabelLike"


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule; equal to another by what it says, wherever it stands.

    @ivar text: the rule as it was written.
    @ivar refuses: whether it begins with C{!}.
    @ivar line: the line it stands on, from 1.
    """

    text: str
    refuses: bool
    conditions: tuple[Condition, ...]
    line: int = field(compare=False)

    def first(self, kind: type[_Kind]) -> _Kind | None:
        """
        The first condition of a kind.
        """
        for condition in self.conditions:
            if isinstance(condition, kind):
                return condition
        return None

    def holds(self, identity: IPeerIdentity) -> bool | None:
        """
        All conditions: false if one is, else unknown if one is.
        """
        outcome: bool | None = True
        for condition in self.conditions:
            answer = condition.holds(identity)
            if answer is False:
                return False
            if answer is None:
                outcome = None
        return outcome

    def decides(self, identity: IPeerIdentity) -> bool:
        """
        Whether this rule is the one that decides, if none before it does:
        unknown never admits.
        """
        answer = self.holds(identity)
        return self.refuses if answer is None else answer


def parseRules(text: str, names: NameService, source: str) -> tuple[Rule, ...]:
    """
    The rules of a text, in order.

    @param names: asked for each name, now.
    @param source: what to call the text in an error.
    @raise PolicyError: the first mistake, with its place.
    """
    rules = []
    # Not splitlines(), which sees more line ends than an editor.
    for number, line in enumerate(text.split("\n"), 1):
        code = line.partition("#")[0]
        if not code.strip(" \t\r"):
            continue
        column = 1
        for piece in code.split(","):
            start = column + len(piece) - len(piece.lstrip(" \t\r"))
            parser = _Parser(names, source, number)
            rules.append(parser.rule(piece.strip(" \t\r"), start))
            column += len(piece) + 1
    if not rules:
        raise PolicyError(
            "there is no rule, which would admit nobody: write !any if you mean that",
            1,
            1,
            source,
        )
    return tuple(rules)


class _Parser:
    """
    Reads the rules of one line.
    """

    def __init__(self, names: NameService, source: str, line: int) -> None:
        self._names = names
        self._source = source
        self._line = line

    def _fail(self, problem: str, column: int) -> NoReturn:
        raise PolicyError(problem, self._line, column, self._source)

    def rule(self, text: str, column: int) -> Rule:
        """
        @param column: where the text begins, from 1.
        """
        if not text:
            self._fail("a rule is missing here", column)
        refuses = text.startswith("!")
        conditions = []
        start = column + refuses
        for piece in text[refuses:].split("+"):
            conditions.append(self._condition(piece, start))
            start += len(piece) + 1
        return Rule(text, refuses, tuple(conditions), self._line)

    def _condition(self, text: str, column: int) -> Condition:
        if not text:
            self._fail("a condition is missing here", column)
        blank = re.search(r"\s", text)
        if blank:
            self._fail(
                "a blank within a rule: rules are separated by a comma or a new"
                " line, conditions by +",
                column + blank.start(),
            )
        if text == "any":
            return Anybody(text)
        if text == "self":
            return Oneself(text)
        if text == "root":
            return UserIn(text, 0, 0)
        word, slash, value = text.partition("/")
        start = column + len(word) + 1
        if slash and word in ("uid", "gid"):
            low, high = self._range(value, start)
            kind = UserIn if word == "uid" else GroupIn
            return kind(text, low, high)
        if slash and word == "user":
            number = self._named(self._names.userID, "user", value, start)
            return UserIn(text, number, number)
        if slash and word == "group":
            number = self._named(self._names.groupID, "group", value, start)
            return GroupIn(text, number, number)
        if slash and word == "label":
            return LabelLike(text, self._glob(value, start))
        self._fail(
            f"{text!r} is no condition: those are any, root, self, uid/N, uid/N-N,"
            " user/NAME, gid/N, gid/N-N, group/NAME and label/GLOB",
            column,
        )

    def _range(self, value: str, column: int) -> tuple[int, int]:
        first, dash, last = value.partition("-")
        low = high = self._number(first, column)
        if dash:
            high = self._number(last, column + len(first) + 1)
            if high < low:
                self._fail(f"the range {value} ends before it begins", column)
        return low, high

    def _number(self, digits: str, column: int) -> int:
        # Ten digits do; int() of more may be made to take its time.
        if not _NUMBER.fullmatch(digits):
            self._fail(f"{digits!r} is not a decimal number", column)
        if len(digits) > 10 or int(digits) > GREATEST_ID:
            self._fail(f"{digits} is more than {GREATEST_ID}, the last ID", column)
        return int(digits)

    def _named(
        self,
        lookUp: Callable[[str], int | None],
        kind: str,
        name: str,
        column: int,
    ) -> int:
        self._check(_NAME, f"the name of a {kind}", name, column)
        number = lookUp(name)
        if number is None:
            self._fail(f"there is no {kind} called {name!r} here", column)
        return number

    def _glob(self, glob: str, column: int) -> re.Pattern[bytes]:
        self._check(_GLOB, "a pattern", glob, column)
        rest = _CHARACTER_CLASS.sub(lambda found: "." * len(found[0]), glob)
        if "[" in rest:
            self._fail("the [ is not closed by a ]", column + rest.index("["))
        return re.compile(fnmatch.translate(glob).encode("ascii"))

    def _check(
        self, allowed: re.Pattern[str], what: str, value: str, column: int
    ) -> None:
        if not value:
            self._fail(f"{what} is missing here", column)
        good = allowed.match(value)
        end = good.end() if good else 0
        if end != len(value):
            self._fail(f"{value[end]!r} cannot be in {what}", column + end)
