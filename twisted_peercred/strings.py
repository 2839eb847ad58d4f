"""
What C{peercred:} makes of an endpoint's description: its own keywords taken
out, and the rest as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from .credentials import Capture
from .errors import PolicyError
from .names import groupID, userID
from .policy import Policy

#: From a keyword to the argument's name, and to what makes its value of text.
Keywords: TypeAlias = Mapping[str, tuple[str, Callable[[str], object]]]


def describe(args: Sequence[str], kwargs: Mapping[str, str]) -> str:
    """
    The description that Twisted has taken apart, and unescaped, put together
    again.  It reads a backslash as "whatever comes next is text", so that all
    of its punctuation can be escaped everywhere.

    @raise ValueError: there is nothing to describe.
    """
    if not args:
        raise ValueError("peercred: stands before another description, as unix:PATH")
    words = [_quote(each) for each in args]
    words += [f"{_quote(name)}={_quote(value)}" for name, value in kwargs.items()]
    return ":".join(words)


def _quote(text: str) -> str:
    for each in "\\:=":
        text = text.replace(each, "\\" + each)
    return text


def take(kwargs: dict[str, str], keywords: Keywords) -> dict[str, Any]:
    """
    Take our own keywords out.

    @return: arguments and their values.
    @raise ValueError: a value that makes no sense; a L{PolicyError}, where it
        is rules.
    """
    options: dict[str, Any] = {}
    for word, (name, make) in keywords.items():
        if word not in kwargs:
            continue
        text = kwargs.pop(word)
        try:
            options[name] = make(text)
        except PolicyError:
            # Says more, and is a ValueError already.
            raise
        except ValueError as problem:
            raise ValueError(f"{word}={text}: {problem}") from problem
    return options


def _user(name: str) -> int:
    found = userID(name)
    return _number(name, "user") if found is None else found


def _group(name: str) -> int:
    found = groupID(name)
    return _number(name, "group") if found is None else found


def _number(name: str, kind: str) -> int:
    # -1 is no ID, but says to chown(2) that nothing is to change.
    if name.isascii() and name.isdigit() and int(name) < 2**32 - 1:
        return int(name)
    raise ValueError(f"there is no such {kind}")


def _open(text: str) -> bool:
    if text != "open":
        raise ValueError("it can be 'open', and nothing else")
    return True


def _yes(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("it can be 0 or 1")
    return text == "1"


SERVER_KEYWORDS: Keywords = {
    "capture": ("capture", Capture),
    "rules": ("policy", Policy.fromString),
    "rulesFile": ("rulesFile", str),
    "timeout": ("timeout", float),
    "maxPerUID": ("maxPerUID", int),
    "sync": ("syncWord", str.encode),
    "abstract": ("abstract", _open),
    "user": ("uid", _user),
    "group": ("gid", _group),
}

CLIENT_KEYWORDS: Keywords = {
    "rules": ("policy", Policy.fromString),
    "rulesFile": ("rulesFile", str),
    "sync": ("syncWord", str.encode),
    "sendCredentials": ("sendCredentials", _yes),
}
