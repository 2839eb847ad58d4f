"""
Policies and maps: text of rules.
"""

from __future__ import annotations

import re
from unittest.mock import patch

from twisted.internet.defer import Deferred

from twisted_peercred import PeerCredentials, Policy, PolicyError, checkers, names
from twisted_peercred.rules import GREATEST_ID

from ..reader import Names, verdict, world

WORLD = world(
    (0, 1, 2, 1000, GREATEST_ID),
    (0, 1, GREATEST_ID),
    (None, (), (2, 3)),
)


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
    independent reader takes it to mean for everybody in a small world; printed and
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
