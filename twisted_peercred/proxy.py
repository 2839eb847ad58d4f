"""
Believing what a proxy says about those it speaks for, from a proxy that may.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.pages import errorPage
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.util import DeferredResource
from zope.interface import implementer

from .forwarded import Forwarded, Malformed, clientAddress, readForwarded
from .interfaces import IPeerCredentials, IPeerPolicy

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+)(?::([0-9]{1,5}))?")


@implementer(IResource)
class TrustedProxy:
    """
    Serves a resource, to proxies and to others.

    A peer that the policy admits may speak for others: C{X-Forwarded-For},
    C{-Proto} and C{-Host}, or C{Forwarded} (RFC 7239), set what
    C{request.getClientAddress()}, C{.isSecure()} and C{.getRequestHostname()}
    say.  Of a list, it is the last that counts, which that very proxy wrote.
    The proxy has to set or to remove each of these headers; a request that says
    one thing in C{Forwarded} and another in C{X-Forwarded-} is answered with 400.

    From everyone else these headers (and C{X-Real-IP}), and from everyone such
    spelled with underscores, which WSGI cannot tell from them, are taken away
    before the resource sees the request.

    @param resource: what is served.
    @param policy: who may speak for others.
    """

    isLeaf = False

    def __init__(self, resource: IResource, policy: IPeerPolicy) -> None:
        self._resource = resource
        self._policy = policy

    def render(self, request: IRequest) -> Any:
        """
        @see: L{IResource.render}
        """
        return self._served(request).render(request)

    def getChildWithDefault(self, name: bytes, request: Any) -> IResource:
        """
        @see: L{IResource.getChildWithDefault}
        """
        # As if this were not here.
        request.postpath.insert(0, request.prepath.pop())
        return self._served(request)

    def putChild(self, path: bytes, child: IResource) -> None:
        """
        @see: L{IResource.putChild}
        """
        self._resource.putChild(path, child)

    def _served(self, request: Any) -> IResource:
        peer = IPeerCredentials(request, None)
        if peer is None:
            return self._decided(request, False)
        decision = self._policy.decide(peer)
        if not isawaitable(decision):
            return self._decided(request, decision.admitted)

        async def decide() -> IResource:
            return self._decided(request, (await decision).admitted)

        return whenKnown(request, decide())

    def _decided(self, request: Any, trusted: bool) -> IResource:
        headers = request.requestHeaders
        for name, _ in list(headers.getAllRawHeaders()):
            folded = foldedName(name)
            if _speaksForOthers(folded) and not (trusted and folded == name.lower()):
                headers.removeHeader(name)
        if trusted:
            try:
                _believe(request, readForwarded(headers))
            except Malformed as problem:
                return errorPage(400, "Bad Request", str(problem))
        return self._resource


def whenKnown(
    request: Any, resource: Coroutine[Deferred[Any], Any, IResource]
) -> IResource:
    """
    A resource that has still to be found out; for a request that may be over
    by then.
    """
    gone: list[Failure] = []
    request.notifyFinish().addErrback(gone.append)

    async def find() -> IResource:
        found = await resource
        return _Nothing() if gone else found

    return DeferredResource(Deferred.fromCoroutine(find()))


class _Nothing(Resource):
    """
    The answer to nobody.
    """

    isLeaf = True

    def render(self, request: IRequest) -> int:
        return NOT_DONE_YET


def foldedName(name: bytes) -> bytes:
    """
    A header's name in the one form of all spellings that end up the same in
    CGI and WSGI.
    """
    return name.lower().replace(b"_", b"-")


def _speaksForOthers(folded: bytes) -> bool:
    return folded in (b"forwarded", b"x-real-ip") or folded.startswith(b"x-forwarded")


def _believe(request: Any, said: Forwarded) -> None:
    if said.client is not None:
        address = clientAddress(said.client)
        if address is not None:
            request.client = address
    scheme = b"http" if said.scheme is None else said.scheme.lower()
    if scheme not in (b"http", b"https"):
        raise Malformed("a forwarded protocol that is neither http nor https")
    secure = scheme == b"https" or request.isSecure()
    if said.host is not None or secure:
        host = said.host or request.getHeader(b"host") or b"localhost"
        found = _HOST.fullmatch(host)
        if found is None:
            raise Malformed("a forwarded host that is none")
        request.setHost(found[1], int(found[2] or (443 if secure else 80)), secure)
