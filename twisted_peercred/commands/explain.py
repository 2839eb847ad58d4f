"""
C{python -m twisted_peercred explain}: which rule decides for somebody, and why
those before it do not.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator

from twisted.python import usage

from ..credentials import PeerCredentials
from ..errors import PolicyError
from ..policy import Policy
from ..rules import (
    GREATEST_ID,
    Anybody,
    Condition,
    GroupIn,
    LabelLike,
    Oneself,
    Rule,
    UserIn,
)
from . import CommandFailed, CommandOptions

#: Exit status for whom the policy refuses.
REFUSED = 2

_GREEN, _RED, _FAINT, _PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


class Options(CommandOptions):
    """
    What C{explain} can be told.
    """

    words = (
        "(--rules RULES | --rules-file PATH)\n"
        "                        (--uid N [--gid N [--groups N,...]] | --user NAME"
        " | --pid N)"
    )
    longdesc = "Says which rule of a policy decides about somebody, and why."
    optParameters = [
        ["rules", "r", None, "The policy."],
        ["rules-file", "f", None, "The policy, from a file."],
        ["uid", None, None, "The user, by number."],
        ["gid", None, None, "With --uid: the group, by number."],
        [
            "groups",
            None,
            None,
            "With --gid: further groups, by number, with commas between.  Not"
            " known where it is not given, as in a message.",
        ],
        ["user", None, None, "The user by name, with the groups of the databases."],
        ["pid", None, None, "A process, as a server would see it connect."],
        ["label", None, None, "The label that a security module gave."],
    ]
    example = """
Would alice be let in, and why not?

peercred explain --rules '!user/nobody,group/staff,root' --user alice

Whom does the policy of a service think that this shell is?

peercred explain --rules-file /etc/app/rules --pid $$

The exit status is 0 for one that is admitted, 2 for one that is refused, and 1
for a mistake.
"""

    def postOptions(self) -> None:
        for names in (("rules", "rules-file"), ("uid", "user", "pid")):
            if sum(self[name] is not None for name in names) != 1:
                raise usage.UsageError(
                    "give one of " + ", ".join(f"--{name}" for name in names)
                )
        for name, needed in (("gid", "uid"), ("groups", "gid")):
            if self[name] is not None and self[needed] is None:
                raise usage.UsageError(f"--{name} goes with --{needed}")

    def run(self) -> int:
        """
        @see: L{Command.run <twisted_peercred.commands.Command.run>}
        """
        policy = self._policy()
        peer = self._peer()
        if self["uid"] is not None and self["gid"] is None:
            requireNoGroup(policy, peer)
            print(f"uid={peer.uid}\n")
        else:
            print(f"{peer}\n")
        decision = policy.decide(peer)
        for line in table(policy, peer, sys.stdout.isatty()):
            print(line)
        print()
        if decision.rule is None:
            print("refused: no rule admits it")
        else:
            word = "admitted" if decision.admitted else "refused"
            print(f"{word} by {decision.rule}, line {decision.line}")
        return 0 if decision.admitted else REFUSED

    def _policy(self) -> Policy:
        try:
            if self["rules"] is not None:
                return Policy.fromString(self["rules"], source="--rules")
            return Policy.fromFile(self["rules-file"])
        except PolicyError as problem:
            raise CommandFailed(str(problem)) from problem

    def _peer(self) -> PeerCredentials:
        label = None if self["label"] is None else os.fsencode(self["label"])
        if self["pid"] is not None:
            return ofProcess(_number("pid", self["pid"]), label)
        if self["user"] is not None:
            return ofUser(self["user"], label)
        uid = _number("uid", self["uid"])
        gid = GREATEST_ID if self["gid"] is None else _number("gid", self["gid"])
        groups: tuple[int, ...] | None = None
        if self["groups"] is not None:
            words = [each for each in self["groups"].split(",") if each]
            groups = tuple(sorted({gid, *(_number("groups", each) for each in words)}))
        return PeerCredentials(uid=uid, gid=gid, groups=groups, securityLabel=label)


def requireNoGroup(policy: Policy, peer: PeerCredentials) -> None:
    """
    Whether a policy decides about somebody without a look at the group.

    @raise CommandFailed: it does not.
    """
    for rule in policy.rules:
        others = [each for each in rule.conditions if not isinstance(each, GroupIn)]
        if rule.first(GroupIn) and all(
            each.holds(peer) is not False for each in others
        ):
            raise CommandFailed(f"{rule.text} asks for groups: give --gid")
        if rule.decides(peer):
            break


def _number(name: str, text: str) -> int:
    # Ten digits do; int() of more may be made to take its time.
    good = text.isascii() and text.isdigit() and len(text) <= 10
    if not good or int(text) > GREATEST_ID:
        raise CommandFailed(
            f"--{name} is a number from 0 to {GREATEST_ID}, not {text!r}"
        )
    return int(text)


def ofUser(name: str, label: bytes | None) -> PeerCredentials:
    """
    A user, as a process that it has logged in with would be seen.

    @raise CommandFailed: there is none of that name.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise CommandFailed(f"there is no user called {name!r} here") from None
    groups = os.getgrouplist(name, user.pw_gid)
    return PeerCredentials(
        uid=user.pw_uid,
        gid=user.pw_gid,
        groups=tuple(sorted({user.pw_gid, *groups})),
        securityLabel=label,
    )


def ofProcess(
    pid: int, label: bytes | None, proc: str | os.PathLike[str] = "/proc"
) -> PeerCredentials:
    """
    A process, as it would be seen if it connected now (proc(5)).

    @param label: instead of its own.
    @raise CommandFailed: it is not there, or cannot be looked at.
    """
    try:
        # A process names itself: "\r" in it is no end of a line.
        with open(
            f"{os.fspath(proc)}/{pid}/status", errors="replace", newline="\n"
        ) as file:
            status = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError as problem:
        raise CommandFailed(
            f"cannot look at process {pid}: {problem.strerror}"
        ) from problem
    if label is None:
        try:
            with open(f"{os.fspath(proc)}/{pid}/attr/current", "rb") as file:
                label = file.read().rstrip(b"\0\n") or None
        except OSError:
            # There is no security module that labels.
            label = None
    # Real, effective, saved and that of the file system.
    uid, gid = (int(status[name].split()[1]) for name in ("Uid", "Gid"))
    return PeerCredentials(
        uid=uid,
        gid=gid,
        groups=tuple(sorted({gid, *map(int, status["Groups"].split())})),
        securityLabel=label,
        pid=pid,
    )


def table(policy: Policy, peer: PeerCredentials, colour: bool) -> Iterator[str]:
    """
    A line for each rule: where it stands, what it says, and why it decides or
    does not.
    """
    places = max(len(str(rule.line)) for rule in policy.rules)
    width = max(len(rule.text) for rule in policy.rules)
    decided = False
    for rule in policy.rules:
        decides = not decided and rule.decides(peer)
        why = "not asked" if decided else explanation(rule, peer)
        line = f"{rule.line:>{places}}  {rule.text:<{width}}  {why}"
        if colour:
            style = _FAINT
            if decides:
                style = _RED if rule.refuses else _GREEN
            line = f"{style}{line}{_PLAIN}"
        yield line
        decided = decided or decides


def explanation(rule: Rule, peer: PeerCredentials) -> str:
    """
    What a rule does with somebody, and why.
    """
    answer = rule.holds(peer)
    reasons = [
        because(each, peer)
        for each in rule.conditions
        if answer is True or each.holds(peer) is answer
    ]
    if answer is False:
        return f"does not match: {reasons[0]}"
    why = ", and ".join(reasons)
    if answer is None:
        if rule.refuses:
            return f"refuses, as it might match: {why}"
        return f"does not admit, as it might not match: {why}"
    return f"{'refuses' if rule.refuses else 'admits'}: {why}"


def because(condition: Condition, peer: PeerCredentials) -> str:
    """
    Whether a condition holds, in words.
    """
    answer = condition.holds(peer)
    if isinstance(condition, Anybody):
        return "it is anybody"
    if isinstance(condition, Oneself):
        return (
            f"uid {peer.uid} is {'' if answer else 'not '}{os.geteuid()}, which runs"
            " this command"
        )
    if isinstance(condition, LabelLike):
        if peer.securityLabel is None:
            return "its label is not known"
        label = ascii(peer.securityLabel)[2:-1]
        return f"its label {label} is {'' if answer else 'not '}like that"
    wanted = str(condition.low)
    if condition.low != condition.high:
        wanted = f"one of {condition.low}-{condition.high}"
    if isinstance(condition, UserIn):
        return f"uid {peer.uid} is {'' if answer else 'not '}{wanted}"
    if answer is None:
        return f"gid {peer.gid} is not {wanted}, and its groups are not known"
    if answer is False:
        return f"neither gid {peer.gid} nor one of its groups is {wanted}"
    if condition.low <= peer.gid <= condition.high:
        return f"gid {peer.gid} is {wanted}"
    groups = [
        each for each in peer.groups or () if condition.low <= each <= condition.high
    ]
    return f"its group {groups[0]} is {wanted}"
