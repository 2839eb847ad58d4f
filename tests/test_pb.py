"""
Tests for L{twisted_peercred.pb}.
"""

import gc
import os

from twisted.cred.credentials import Anonymous
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.spread import pb
from twisted.trial.unittest import TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_peercred import CredentialedUNIXServerFactory, Policy
from twisted_peercred.checkers import PeerCredentialsChecker
from twisted_peercred.names import accountName
from twisted_peercred.pb import PeerPortalRoot, login

from .support import LiveTestCase


class Person:
    """
    An avatar that is no perspective by itself.
    """

    def __init__(self, name: bytes, mind) -> None:
        self.name = name
        self.mind = mind

    def perspectiveMessageReceived(self, broker, message, args, kw):
        method = getattr(self, f"perspective_{message}")
        return broker.serialize(method(), self, method, args)

    def perspective_name(self):
        return self.name

    def perspective_callBack(self):
        return self.mind.callRemote("ping")


@implementer(pb.IPerspective)
class Perspective(pb.Referenceable):
    """
    One that can be referred to as it is.
    """

    def __init__(self, name: bytes, mind) -> None:
        pass

    def remote_name(self):
        return b"perspective"


class Mind(pb.Referenceable):
    """
    What the server may call.
    """

    def remote_ping(self):
        return "pong"


class Realm:
    """
    Has an avatar for everybody, and counts.
    """

    def __init__(self) -> None:
        self.kind = Person
        self.asked = 0
        self.out = 0
        self.wait = None

    def requestAvatar(self, avatarID, mind, *interfaces):
        self.asked += 1
        avatar = self.kind(avatarID, mind)
        answer = (pb.IPerspective, avatar, self.logout)
        if self.wait is None:
            return answer
        return self.wait.addCallback(lambda _: answer)

    def logout(self) -> None:
        self.out += 1


class LoginTests(LiveTestCase):
    """
    Tests for logging in.
    """

    def setUp(self):
        self.realm = Realm()
        return super().setUp()

    async def client(self, rules: str = "self") -> pb.PBClientFactory:
        """
        A client of a server that admits those.
        """
        checker = PeerCredentialsChecker(policy=Policy.fromString(rules))
        root = PeerPortalRoot(Portal(self.realm, [checker]))
        server = pb.PBServerFactory(root)
        server.noisy = False
        address = self.listen(CredentialedUNIXServerFactory(server))
        factory = pb.PBClientFactory()
        factory.noisy = False
        endpoint = endpoints.UNIXClientEndpoint(reactor, address)
        broker = await endpoint.connect(factory)
        self.gone = Deferred()
        broker.notifyOnDisconnect(lambda: self.gone.callback(None))
        self.addCleanup(self.leave, factory)
        return factory

    def leave(self, factory: pb.PBClientFactory) -> Deferred:
        """
        End the connection.
        """
        factory.disconnect()
        return self.gone

    async def test_login(self) -> None:
        """
        The avatar is the user's, without a password; it may call the mind.
        """
        avatar = await login(await self.client(), Mind())
        name = await avatar.callRemote("name")
        self.assertEqual(name, accountName(os.geteuid()).encode())
        self.assertEqual(await avatar.callRemote("callBack"), "pong")

    async def test_stockClient(self) -> None:
        """
        A client that does not have this package logs in too; an avatar that
        is a perspective by itself is given as it is.
        """
        self.realm.kind = Perspective
        avatar = await (await self.client()).login(Anonymous())
        self.assertEqual(await avatar.callRemote("name"), b"perspective")

    async def test_refused(self) -> None:
        """
        Whom the portal refuses has no avatar.
        """
        factory = await self.client("!any")
        with self.assertRaises(Exception) as raised:
            await login(factory)
        self.assertEqual(
            raised.exception.remoteType,
            b"twisted.cred.error.UnauthorizedLogin",
        )
        self.assertEqual(len(self.flushLoggedErrors(UnauthorizedLogin)), 1)

    async def test_logoutWhenDropped(self) -> None:
        """
        An avatar that the client has dropped is logged out, once
        (C{Broker._localCleanup}).
        """
        factory = await self.client()
        avatar = await login(factory)
        del avatar
        gc.collect()
        await self.until(lambda: self.realm.out)
        factory.disconnect()
        await self.gone
        await self.until(self.readUp)
        self.assertEqual(self.realm.out, 1)

    async def test_logoutWhenLost(self) -> None:
        """
        So is one whose connection is lost.
        """
        factory = await self.client()
        avatar = await login(factory)
        factory.disconnect()
        await self.until(lambda: self.realm.out)
        self.assertEqual(self.realm.out, 1)
        del avatar

    async def test_lostWhileLoggingIn(self) -> None:
        """
        And one whose client has gone before it was there.
        """
        wait = self.realm.wait = Deferred()
        factory = await self.client()
        avatar = login(factory)
        await self.until(lambda: self.realm.asked)
        factory.disconnect()
        with self.assertRaises(pb.PBConnectionLost):
            await avatar
        await self.until(self.readUp)
        wait.callback(None)
        self.assertEqual(self.realm.out, 1)


class RootTests(TestCase):
    """
    Tests without a connection.
    """

    def test_interface(self) -> None:
        """
        It is a root.
        """
        verifyObject(pb.IPBRoot, PeerPortalRoot(Portal(Realm())))

    async def test_tcp(self) -> None:
        """
        A broker that is not on a Unix-domain socket cannot log in.
        """
        root = PeerPortalRoot(Portal(Realm(), [PeerCredentialsChecker()]))
        with self.assertRaises(TypeError):
            await root.rootObject(pb.Broker()).remote_loginAnonymous(None)
