"""
Policies, as their documentation has them: a reader that is independent of the
package's own, for tests that hold the two against each other.
"""

from __future__ import annotations

import fnmatch
import itertools
import os

from twisted_peercred import PeerCredentials

USERS = {"alice": 1, "0": 4, "svc-a$": 2, "bob@example.org": 3, "_x.y": 0}
GROUPS = {"staff": 1, "0": 4, "wheel": 0}


class Names:
    """
    A name service.
    """

    def userID(self, name: str) -> int | None:
        return USERS.get(name)

    def groupID(self, name: str) -> int | None:
        return GROUPS.get(name)


def world(
    uids: tuple[int, ...],
    gids: tuple[int, ...],
    groups: tuple[tuple[int, ...] | None, ...],
) -> list[PeerCredentials]:
    """
    Everybody there is, in so small a world that each can be tried.
    """
    return [
        PeerCredentials(
            uid=uid,
            gid=gid,
            groups=None if some is None else tuple(sorted({gid, *some})),
            securityLabel=label,
        )
        for uid, gid, some, label in itertools.product(
            uids, gids, groups, (None, b"a", b"ab:c")
        )
    ]


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
