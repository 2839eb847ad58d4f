"""
From numbers to the names that people know them by, and back: getpwuid(3),
getgrgid(3), getpwnam(3), getgrnam(3).

All ask the name service, which may be another machine: not for the reactor's
thread.  What is found by number is remembered for L{SECONDS}, whoever asks.
That nothing was found is not: getpwuid(3) and getgrouplist(3) as Python has
them do not tell that from a database that could not be read.  What is asked by
name is asked each time, as a policy that is loaded shall have today's numbers.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from time import monotonic
from typing import TypeVar

#: How long an answer is good for.
SECONDS = 60.0
#: Answers of each kind that are kept.
SIZE = 1024

_Answer = TypeVar("_Answer")


def _remembered(lookUp: Callable[[int], _Answer]) -> Callable[[int], _Answer]:
    """
    Keep the answers of a look-up for a while; L{None}, a single group and an
    exception are no answers to keep.
    """
    kept: OrderedDict[int, tuple[float, _Answer]] = OrderedDict()
    # Threads ask.  Not held while the name service takes its time.
    lock = Lock()

    @wraps(lookUp)
    def remember(number: int) -> _Answer:
        now = monotonic()
        with lock:
            known = kept.get(number)
        if known is not None and now < known[0]:
            return known[1]
        answer = lookUp(number)
        if answer is None or (isinstance(answer, tuple) and len(answer) < 2):
            return answer
        with lock:
            kept[number] = now + SECONDS, answer
            kept.move_to_end(number)
            if len(kept) > SIZE:
                kept.popitem(last=False)
        return answer

    return remember


@_remembered
def userName(uid: int) -> str | None:
    """
    The name of a user, or L{None}.  Asks the name service: may block.
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


@_remembered
def groupName(gid: int) -> str | None:
    """
    The name of a group, or L{None}.  Asks the name service: may block.
    """
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


@_remembered
def databaseGroups(uid: int) -> tuple[int, ...] | None:
    """
    The groups that a user is in by the databases (getgrouplist(3)), sorted,
    which need not be those of any of its processes; L{None} for one who is not
    there.  Where the group database cannot be read it is the user's first
    group alone, and nothing tells.  Asks the name service: may block.
    """
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return None
    return tuple(sorted(set(os.getgrouplist(user.pw_name, user.pw_gid))))


def userID(name: str) -> int | None:
    """
    The number of a user, or L{None}.  A name is looked up even where it is
    made of digits.  Asks the name service: may block.
    """
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def groupID(name: str) -> int | None:
    """
    The number of a group, or L{None}.  Asks the name service: may block.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def accountName(uid: int) -> str:
    """
    What to call a user where there must be a name: the name, or the number of
    one who has none.  A name that is itself a number is not taken for one: it
    could be another's.  Asks the name service: may block.
    """
    name = userName(uid)
    return str(uid) if name is None or name.isdigit() else name
