"""
Descriptions of endpoints: C{peercred:} before anything.
"""

from __future__ import annotations

from unittest.mock import patch

from twisted.internet import endpoints
from twisted.internet.testing import MemoryReactor

from twisted_peercred import Capture, Policy, names, strings
from twisted_peercred.endpoints import (
    PeerCredentialsClientEndpoint,
    PeerCredentialsClientParser,
    PeerCredentialsServerEndpoint,
    PeerCredentialsServerParser,
)

from .choices import Choices
from .policies import Names

#: Plugins are looked for on the disk, each time.
PARSERS = (PeerCredentialsServerParser(), PeerCredentialsClientParser())
#: Our own keywords, how they may be written, and what each makes.
SERVER_WORDS = (
    ("capture=connect", "capture", Capture.CONNECT),
    ("capture=every-message", "capture", Capture.EVERY_MESSAGE),
    ("rules=root,!uid/5", "policy", Policy.fromString("root,!uid/5")),
    ("timeout=2.5", "timeout", 2.5),
    ("maxPerUID=3", "maxPerUID", 3),
    (r"sync=a\:b\=c", "syncWord", b"a:b=c"),
)
CLIENT_WORDS = (
    ("rules=root,!uid/5", "policy", Policy.fromString("root,!uid/5")),
    (r"sync=a\:b\=c", "syncWord", b"a:b=c"),
    ("sendCredentials=1", "sendCredentials", True),
)
PATHS = ("/s", r"a\:b", r"\\", r"a\=b", "address=/s", r"path=\:\=\\", "x y", "é")
WORDS = ("lockfile=0", "lockfile=1", "mode=600", "backlog=7", "mode=x", "bogus=1")


def same(one: object, other: object) -> bool:
    """
    Whether two endpoints are of one class, with the same arguments, and so are
    those that they wrap.
    """
    ours, theirs = dict(vars(one)), dict(vars(other))
    wrapped = ours.pop("wrappedEndpoint", None), theirs.pop("wrappedEndpoint", None)
    return (
        type(one) is type(other)
        and ours == theirs
        and (wrapped == (None, None) or same(*wrapped))
    )


def outcome(side: int, reactor: MemoryReactor, text: str) -> object:
    """
    The endpoint of a description, or the error that it is.
    """
    service = Names()
    with (
        patch.object(endpoints, "getPlugins", lambda interface: [PARSERS[side]]),
        patch.object(names, "userID", service.userID),
        patch.object(names, "groupID", service.groupID),
        patch.object(strings, "userID", service.userID),
        patch.object(strings, "groupID", service.groupID),
    ):
        try:
            if side:
                return endpoints.clientFromString(reactor, text)
            return endpoints.serverFromString(reactor, text)
        except Exception as problem:
            return problem


def written(data: bytes) -> None:
    """
    Any text: a C{ValueError}, or what Twisted alone raises for the same
    description; else an endpoint that wraps what Twisted alone makes of it.
    """
    choices = Choices(data)
    side = choices.below(2)
    text = choices.rest().decode("utf-8", "surrogateescape")
    reactor = MemoryReactor()
    alone = outcome(side, reactor, text)
    made = outcome(side, reactor, f"peercred:{text}")
    if isinstance(made, Exception):
        assert isinstance(made, (ValueError, type(alone))), (made, alone)
        return
    assert isinstance(
        made, (PeerCredentialsServerEndpoint, PeerCredentialsClientEndpoint)
    )
    if not isinstance(alone, Exception) and not made._options:
        assert same(made.wrappedEndpoint, alone), (made, alone)


def composed(data: bytes) -> None:
    """
    Our own keywords, wherever they stand, are the factory's arguments, and what
    is inside is what Twisted alone makes of the rest.
    """
    choices = Choices(data)
    side = choices.below(2)
    path = choices.one(PATHS)
    if choices.below(2):
        raw = choices.sized(16).decode("utf-8", "surrogateescape")
        path = "".join(f"\\{each}" if each in ":=\\" else each for each in raw)
    words = ["unix", path]
    for _ in range(choices.below(4)):
        words.append(choices.one(WORDS))
    description = ":".join(words)
    own = CLIENT_WORDS if side else SERVER_WORDS
    for _ in range(choices.below(4)):
        words.insert(choices.below(len(words) + 1), choices.one(own)[0])
    # Of a keyword that is there twice the last counts.
    options = {
        name: value for word in words for text, name, value in own if word == text
    }
    reactor = MemoryReactor()
    alone = outcome(side, reactor, description)
    made = outcome(side, reactor, ":".join(["peercred", *words]))
    if isinstance(alone, Exception):
        assert isinstance(made, (ValueError, type(alone))), (made, alone)
        return
    assert isinstance(
        made, (PeerCredentialsServerEndpoint, PeerCredentialsClientEndpoint)
    ), made
    assert made._options == options, (made._options, options)
    assert same(made.wrappedEndpoint, alone), (made, alone)
