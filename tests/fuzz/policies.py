"""
Policies and maps: text of rules.
"""

from __future__ import annotations

import fnmatch
import itertools
import os
import re
from unittest.mock import patch

from twisted.internet.defer import Deferred

from twisted_peercred import PeerCredentials, Policy, PolicyError, checkers, names
from twisted_peercred.rules import GREATEST_ID

USERS = {"alice": 1, "0": 4, "svc-a$": 2, "bob@example.org": 3, "_x.y": 0}
GROUPS = {"staff": 1, "0": 4, "wheel": 0}
WORLD = [
    PeerCredentials(
        uid=uid,
        gid=gid,
        groups=None if groups is None else tuple(sorted({gid, *groups})),
        securityLabel=label,
    )
    for uid, gid, groups, label in itertools.product(
        (0, 1, 2, 1000, GREATEST_ID),
        (0, 1, GREATEST_ID),
        (None, (), (2, 3)),
        (None, b"a", b"ab:c"),
    )
]


class Names:
    """
    A name service.
    """

    def userID(self, name: str) -> int | None:
        return USERS.get(name)

    def groupID(self, name: str) -> int | None:
        return GROUPS.get(name)


def truth(condition: str, peer: PeerCredentials) -> bool | None:
    """
    A condition, as the documentation has it.
    """
    word, _, value = condition.partition("/")
    if word in ("any", "root", "self"):
        return word == "any" or peer.uid == (0 if word == "root" else os.geteuid())
    if word == "label":
        label = peer.securityLabel
        return None if label is None else fnmatch.fnmatchcase(label.decode(), value)
    if word in ("user", "group"):
        value = str((USERS if word == "user" else GROUPS)[value])
    low, _, high = value.partition("-")
    wanted = range(int(low), int(high or low) + 1)
    if word in ("uid", "user"):
        return peer.uid in wanted
    if peer.gid in wanted or any(each in wanted for each in peer.groups or ()):
        return True
    return None if peer.groups is None else False


def verdict(text: str, peer: PeerCredentials) -> tuple[bool, str | None]:
    """
    What a policy is to decide, and by which rule: first match wins, no match
    refuses, unknown refuses.
    """
    lines = [line.partition("#")[0] for line in text.split("\n")]
    for rule in ",".join(line for line in lines if line.strip(" \t\r")).split(","):
        rule = rule.strip(" \t\r")
        refuses = rule.startswith("!")
        truths = [truth(each, peer) for each in rule[refuses:].split("+")]
        outcome = False if False in truths else None if None in truths else True
        if outcome or (outcome is None and refuses):
            return not refuses, rule
    return False, None


def checkPlace(problem: PolicyError, text: str) -> None:
    """
    An error is one line, and its place is in the text, or where it ends.
    """
    assert len(str(problem).splitlines()) == 1, str(problem)
    lines = text.split("\n")
    assert problem.line is not None and problem.column is not None
    assert 1 <= problem.line <= len(lines), problem
    assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem


def policy(data: bytes) -> None:
    """
    Text is a L{PolicyError} in a place of it, or a policy that means what an
    independent reader takes it to mean for each of 90 identities; printed and
    parsed again it is the same.
    """
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = Policy.fromString(text, names=Names())
    except PolicyError as problem:
        checkPlace(problem, text)
        return
    again = Policy.fromString(str(parsed), names=Names())
    assert again == parsed and str(again) == str(parsed)
    for peer in WORLD:
        decision = parsed.decide(peer)
        expected = verdict(text, peer)
        assert (decision.admitted, decision.rule) == expected, (peer, decision)


async def _name(peer: PeerCredentials) -> str:
    return f"u{peer.uid}"


def mapping(data: bytes) -> None:
    """
    A map is a L{PolicyError} in a place of it, or gives each identity the
    avatar of the first line whose rules admit it, by an independent reader.
    """
    text = data.decode("utf-8", "surrogateescape")
    service = Names()
    with (
        patch.object(names, "userID", service.userID),
        patch.object(names, "groupID", service.groupID),
        patch.object(checkers, "userAvatar", _name),
    ):
        try:
            parsed = checkers.AvatarMap.fromString(text)
        except PolicyError as problem:
            checkPlace(problem, text)
            return
        lines = []
        for line in text.split("\n"):
            line = line.partition("#")[0].strip()
            if line:
                rules, avatar = line.rsplit(None, 1)
                lines.append((re.sub(r"\s+->\Z", "", rules), avatar))
        for peer in WORLD:
            found: list[str | None] = []
            Deferred.fromCoroutine(parsed(peer)).addCallback(found.append)
            avatar = next(
                (avatar for rules, avatar in lines if verdict(rules, peer)[0]), None
            )
            if avatar is not None:
                avatar = avatar.replace("{user}", f"u{peer.uid}")
            assert found == [avatar], (peer, found, avatar)
