"""
Endpoints that know who is at the other end, and C{peercred:}, which makes one
of any description of Twisted's::

    peercred:unix:/run/app.sock:mode=660:rules=group/staff,root
    peercred:systemd:domain=UNIX:index=0:capture=first-message

The plugin file imports this module, and L{twisted.internet.endpoints} cannot
be imported everywhere (not where pyOpenSSL is without service_identity): it is
imported when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from .client import CredentialedUNIXClientFactory
from .credentials import Capture
from .errors import PolicyError
from .listening import arrangeFile, findStartingPort, pathToBind
from .names import groupID, userID
from .policy import Policy
from .server import CredentialedUNIXServerFactory
from .socketfile import checkPlace, clearLock, isAbstract


class _Factory(CredentialedUNIXServerFactory):
    """
    A factory whose port makes its socket's file in our way.
    """

    file: tuple[int, int, bool]

    def doStart(self) -> None:
        port = findStartingPort()
        if port is not None:
            arrangeFile(port, *self.file)
        super().doStart()


@implementer(IStreamServerEndpoint)
class PeerCredentialsServerEndpoint:
    """
    Listens by another endpoint, and serves peers that the kernel identifies.

    A socket file has its mode, owner and group before anybody can connect to
    it; it replaces that of a dead server of this user's, and nothing else.

    @ivar wrappedEndpoint: the endpoint that listens.

    @param endpoint: one that listens on a Unix-domain socket.
    @param uid: who is to own the socket's file; C{-1} for this process's user.
    @param gid: what group it is to have; C{-1} for what the system gives it.
    @param abstract: whether everybody in this network namespace may connect to
        a socket with an abstract name.  With a policy they may without this.
    @param options: keyword arguments of L{CredentialedUNIXServerFactory}.
    @raise TypeError: an option that there is not.
    @raise ValueError: a value that an option cannot have.
    """

    def __init__(
        self,
        endpoint: IStreamServerEndpoint,
        *,
        uid: int = -1,
        gid: int = -1,
        abstract: bool = False,
        **options: Any,
    ) -> None:
        # What is wrong with them is better known now than when it listens.
        _Factory(Factory(), **options)
        self.wrappedEndpoint = endpoint
        self._options = options
        self._file = uid, gid, abstract or options.get("policy") is not None

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: the port; L{CannotListenError} where there can be none, and
            L{CredentialsUnsupported
            <twisted_peercred.errors.CredentialsUnsupported>} where nobody
            would be known.

        @see: L{twisted.internet.interfaces.IStreamServerEndpoint.listen}
        """
        factory = _Factory(protocolFactory, **self._options)
        factory.file = self._file
        path, locks = pathToBind(self.wrappedEndpoint)
        if path is None or isAbstract(path):
            return self.wrappedEndpoint.listen(factory)
        try:
            checkPlace(path, self._file[0])
        except OSError as problem:
            return fail(CannotListenError(None, path, problem))
        if not locks:
            return self.wrappedEndpoint.listen(factory)
        clearLock(path)
        # Twisted keeps the lock of a port that fails to start.
        return self.wrappedEndpoint.listen(factory).addErrback(_unlock, path)


def _unlock(failure: Failure, path: bytes) -> Failure:
    clearLock(path)
    return failure


@implementer(IPlugin, IStreamServerEndpointStringParser)
class PeerCredentialsServerParser:
    """
    C{peercred:} before the description of any endpoint that listens on a
    Unix-domain socket.  Its own keywords, wherever they stand, are those of
    C{_SERVER_KEYWORDS} and C{user} and C{group}; all else goes to the endpoint
    that is described.

    @ivar prefix: what such a description begins with.
    """

    prefix = "peercred"

    def parseStreamServer(
        self, reactor: Any, *args: Any, **kwargs: Any
    ) -> IStreamServerEndpoint:
        """
        @raise ValueError: something in the description makes no sense.

        @see: L{IStreamServerEndpointStringParser.parseStreamServer}
        """
        from twisted.internet.endpoints import serverFromString

        options = _take(kwargs, _SERVER_KEYWORDS)
        if ("uid" in options or "gid" in options) and args[:1] != ("unix",):
            raise ValueError("user= and group= are for the file of peercred:unix:")
        return PeerCredentialsServerEndpoint(
            serverFromString(reactor, _describe(args, kwargs)), **options
        )


def _describe(args: Sequence[str], kwargs: Mapping[str, str]) -> str:
    """
    The description that Twisted has taken apart, and unescaped, put together
    again.  It reads a backslash as "whatever comes next is text", so that all
    of its punctuation can be escaped everywhere.
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


def _take(
    kwargs: dict[str, str],
    keywords: Mapping[str, tuple[str, Callable[[str], object]]],
) -> dict[str, Any]:
    """
    Take our own keywords out.

    @param keywords: from a keyword to the argument's name, and to what makes
        its value.
    """
    options: dict[str, Any] = {}
    for word, (name, make) in keywords.items():
        if word not in kwargs:
            continue
        if name in options:
            raise ValueError(f"{word}= and another keyword that says the same")
        text = kwargs.pop(word)
        try:
            options[name] = make(text)
        except PolicyError:
            # Says more, and is a ValueError already.
            raise
        except ValueError as problem:
            raise ValueError(f"{word}={text}: {problem}") from problem
    return options


def _userID(name: str) -> int:
    found = userID(name)
    return _number(name, "user") if found is None else found


def _groupID(name: str) -> int:
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


_SERVER_KEYWORDS: dict[str, tuple[str, Callable[[str], object]]] = {
    "capture": ("capture", Capture),
    "rules": ("policy", Policy.fromString),
    "timeout": ("timeout", float),
    "maxPerUID": ("maxPerUID", int),
    "sync": ("syncWord", str.encode),
    "abstract": ("abstract", _open),
    "user": ("uid", _userID),
    "group": ("gid", _groupID),
}


@implementer(IStreamClientEndpoint)
class PeerCredentialsClientEndpoint:
    """
    Connects by another endpoint, to servers that a policy admits.

    @param endpoint: one that connects to a Unix-domain socket.
    @param options: keyword arguments of L{CredentialedUNIXClientFactory}.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, **options: Any) -> None:
        self._endpoint = endpoint
        self._options = options
        # A mistake in them is told now, and not when it comes to connecting.
        self._wrap(Factory())

    def _wrap(self, factory: IProtocolFactory) -> CredentialedUNIXClientFactory:
        return CredentialedUNIXClientFactory(factory, **self._options)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Connect, and look who is there.

        @return: the protocol; L{PeerRefused
            <twisted_peercred.errors.PeerRefused>} for a server that the policy
            does not admit.

        @see: L{twisted.internet.interfaces.IStreamClientEndpoint.connect}
        """
        return self._endpoint.connect(self._wrap(protocolFactory))
