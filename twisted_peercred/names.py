"""
From numbers to the names that people know them by, and back: getpwuid(3),
getgrgid(3), getpwnam(3), getgrnam(3).

All ask the name service, which may be another machine: not for the reactor's
thread.
"""

from __future__ import annotations

import grp
import pwd


def userName(uid: int) -> str | None:
    """
    The name of a user, or L{None}.  Asks the name service: may block.
    """
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def groupName(gid: int) -> str | None:
    """
    The name of a group, or L{None}.  Asks the name service: may block.
    """
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


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
