"""
C{twisted.spread.pb} without passwords: who logs in is who the kernel says it
is.

A server::

    PBServerFactory(PeerPortalRoot(portal))

A client, with nothing but Twisted::

    factory = PBClientFactory()
    endpoint.connect(factory)
    perspective = await factory.login(Anonymous(), mind)

It is "anonymous" to PB, which means that the client sends neither a name nor
a password; the portal is asked with C{IPeerCredentials(broker)} all the same.
L{login} is that for programs which would rather not read C{Anonymous}.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.cred.credentials import Anonymous
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.spread.interfaces import IJellyable
from twisted.spread.pb import (
    AsReferenceable,
    Broker,
    IPBRoot,
    IPerspective,
    PBClientFactory,
    Referenceable,
    RemoteReference,
)
from zope.interface import implementer

from .interfaces import IPeerCredentials


def login(factory: PBClientFactory, mind: object = None) -> Deferred[RemoteReference]:
    """
    Log in to a server that has a L{PeerPortalRoot}, as who this process is.

    @param factory: one that is connected, or will be.
    @param mind: what the server may call, if anything.
    @return: the avatar.
    """
    return cast("Deferred[RemoteReference]", factory.login(Anonymous(), mind))


@implementer(IPBRoot)
class PeerPortalRoot:
    """
    The root of a PB server, where its clients log in to a portal.

    @param portal: its checkers take L{IPeerCredentials}; its realm gives
        C{IPerspective}.
    """

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def rootObject(self, broker: Broker) -> Referenceable:
        """
        @see: L{IPBRoot.rootObject}
        """
        return _Login(self._portal, broker)


class _Login(Referenceable):
    def __init__(self, portal: Portal, broker: Broker) -> None:
        self._portal = portal
        self._broker = broker

    async def _login(self, mind: object) -> Any:
        # Before anything is waited for: a broker that is gone has nobody.
        peer = IPeerCredentials(self._broker)
        avatar: Any
        _, avatar, logout = await self._portal.login(peer, mind, IPerspective)
        if self._broker.disconnected:
            logout()
            return None
        if not IJellyable.providedBy(avatar):
            avatar = AsReferenceable(avatar, "perspective")
        # As Twisted's own root does: out once, when the client drops the avatar
        # or the connection is lost.
        loggedIn = [logout]

        def logoutOnce() -> None:
            if loggedIn:
                loggedIn.pop()()

        # The one private name; tests/test_pb.py fails when it moves.
        self._broker._localCleanup[avatar.processUniqueID()] = logoutOnce
        self._broker.notifyOnDisconnect(logoutOnce)
        return avatar

    def remote_loginAnonymous(self, mind: object) -> Deferred[Any]:
        """
        Log in, and stay until the avatar is dropped or the connection lost.

        @raise UnauthorizedLogin: the portal will not have this peer.
        """
        return Deferred.fromCoroutine(self._login(mind))
