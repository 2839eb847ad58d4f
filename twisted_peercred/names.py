"""
From numbers to the names that people know them by: getpwuid(3), getgrgid(3).

Both ask the name service, which may be another machine: not for the reactor's
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
