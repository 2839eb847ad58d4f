"""
C{twisted.web} for visitors that the kernel knows.

C{IPeerCredentials(request)} works in any resource, for each request of a
connection (HTTP/1.0 and 1.1; HTTP/2, which Twisted speaks only through TLS,
has no way from a request to its connection, and its requests have nobody).
Here is what is built on it: logins, WSGI, proxies that may speak for others,
and an access log that says who it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from twisted.cred.error import LoginFailed, Unauthorized
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress, IReactorFromThreads
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from twisted.web.http import combinedLogFormatter
from twisted.web.iweb import IAccessLogFormatter, IRequest
from twisted.web.pages import errorPage, forbidden
from twisted.web.resource import IResource
from twisted.web.wsgi import WSGIResource
from zope.interface import implementer, provider

from .interfaces import IPeerCredentials
from .names import accountName
from .proxy import TrustedProxy, foldedName, whenKnown

__all__ = [
    "PeerAuthSessionWrapper",
    "PeerWSGIResource",
    "TrustedProxy",
    "peerLogFormatter",
]

_log = Logger()


@implementer(IResource)
class PeerAuthSessionWrapper:
    """
    Gives each visitor the resource that a portal has for him, and nothing but
    403 to one whom it refuses: what C{HTTPAuthSessionWrapper} does with
    passwords.  The avatar is logged out when the request is over.

    @param portal: its checkers take L{IPeerCredentials}; its realm gives
        C{IResource}.
    """

    isLeaf = False

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def render(self, request: IRequest) -> Any:
        """
        @see: L{IResource.render}
        """
        return self._avatar(request).render(request)

    def getChildWithDefault(self, name: bytes, request: Any) -> IResource:
        """
        @see: L{IResource.getChildWithDefault}
        """
        # As if this were not here.
        request.postpath.insert(0, request.prepath.pop())
        return self._avatar(request)

    def putChild(self, path: bytes, child: IResource) -> None:
        """
        There are no children but the avatars'.

        @raise NotImplementedError: always.
        """
        raise NotImplementedError("children belong to the resources of the realm")

    def _avatar(self, request: Any) -> IResource:
        return whenKnown(request, self._login(request))

    async def _login(self, request: Any) -> IResource:
        over = request.notifyFinish()
        # The visitor may go while he is kept waiting, for ever perhaps.
        over.addErrback(lambda _: None)
        try:
            peer = IPeerCredentials(request)
            _, avatar, logout = await self._portal.login(peer, None, IResource)
        except (Unauthorized, LoginFailed):
            return forbidden()
        except Exception:
            _log.failure("A login failed")
            return errorPage(500, "Internal Server Error", "")
        over.addBoth(lambda _: logout())
        return cast(IResource, avatar)


class _InternetRequest:
    """
    A request as C{WSGIResource} needs it: with Internet addresses.
    """

    def __init__(self, request: Any) -> None:
        self.__dict__["_request"] = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._request, name, value)

    def getClientAddress(self) -> IAddress:
        return _internet(self._request.getClientAddress(), "", 0)

    def getHost(self) -> IAddress:
        port = 443 if self._request.isSecure() else 80
        return _internet(self._request.getHost(), "localhost", port)


def _internet(address: IAddress, host: str, port: int) -> IAddress:
    return address if hasattr(address, "host") else IPv4Address("TCP", host, port)


@implementer(IResource)
class PeerWSGIResource:
    """
    Serves a WSGI application that is told who its visitor is: what
    C{WSGIResource} is, which knows of no Unix-domain sockets.

    In C{environ}: C{REMOTE_USER} the user's name, or the number of one who has
    none; C{PEERCRED_UID}, C{PEERCRED_GID}, C{PEERCRED_PID}, C{PEERCRED_GROUPS}
    (with commas) as decimal numbers, each missing where the kernel does not say;
    C{REMOTE_ADDR} empty, unless a L{TrustedProxy} has said more.  No header makes
    or hides any of them: those that come out as C{HTTP_REMOTE_USER},
    C{HTTP_PEERCRED_}... or C{HTTP_PROXY} are dropped.

    @param reactor: what runs in its thread.
    @param threadpool: where the application runs.
    @param application: by PEP 3333.
    """

    isLeaf = True

    def __init__(
        self,
        reactor: IReactorFromThreads,
        threadpool: ThreadPool,
        application: Callable[..., Iterable[bytes]],
    ) -> None:
        self._reactor = reactor
        self._threadpool = threadpool
        self._application = application

    def render(self, request: IRequest) -> Any:
        """
        @raise TypeError: the request has no peer; it came by TCP.

        @see: L{IResource.render}
        """
        application = partial(self._call, IPeerCredentials(request))
        resource = WSGIResource(self._reactor, self._threadpool, application)
        return resource.render(_InternetRequest(request))

    def getChildWithDefault(self, name: bytes, request: IRequest) -> IResource:
        """
        @raise RuntimeError: always; the application has the whole path.
        """
        raise RuntimeError("a WSGI application has no child resources")

    def putChild(self, path: bytes, child: IResource) -> None:
        """
        @raise RuntimeError: always; the application has the whole path.
        """
        raise RuntimeError("a WSGI application has no child resources")

    def _call(
        self, peer: IPeerCredentials, environ: dict[str, Any], startResponse: Any
    ) -> Iterable[bytes]:
        # In a thread of the pool, where names may be looked up.
        for key in list(environ):
            if _forges(key):
                del environ[key]
        if not environ["REMOTE_ADDR"]:
            del environ["REMOTE_PORT"]
        environ["REMOTE_USER"] = accountName(peer.uid)
        environ["PEERCRED_UID"] = str(peer.uid)
        environ["PEERCRED_GID"] = str(peer.gid)
        if peer.pid is not None:
            environ["PEERCRED_PID"] = str(peer.pid)
        if peer.groups is not None:
            environ["PEERCRED_GROUPS"] = ",".join(map(str, peer.groups))
        return self._application(environ, startResponse)


def _forges(key: str) -> bool:
    name = foldedName(key.encode("latin-1"))
    return name in (b"http-remote-user", b"http-proxy") or name.startswith(
        b"http-peercred"
    )


@provider(IAccessLogFormatter)
def peerLogFormatter(timestamp: str, request: Any) -> str:
    """
    The combined log format, with the peer's uid where a user's name goes;
    C{-} for a request without a peer.

    @see: C{Site(resource, logFormatter=peerLogFormatter)}
    """
    line = combinedLogFormatter(timestamp, request)
    peer = IPeerCredentials(request, None)
    if peer is None:
        return line
    # Twisted leaves the two fields after the address empty.
    address, _, rest = line.partition(" - - ")
    return f"{address} - {peer.uid} {rest}"
