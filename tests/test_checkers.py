"""
Tests for L{twisted_peercred.checkers}.
"""

import io
import os
import pwd
import threading
from unittest import skipIf

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.cred.strcred import (
    AuthOptionMixin,
    ICheckerFactory,
    InvalidAuthArgumentString,
    makeChecker,
)
from twisted.internet.defer import fail, succeed
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import Interface
from zope.interface.verify import verifyObject

from twisted_peercred import (
    IPeerCredentials,
    PeerCredentials,
    PeerCredentialsError,
    Policy,
    PolicyError,
    names,
)
from twisted_peercred.checkers import (
    AvatarMap,
    PeerCredentialsChecker,
    PeerCredentialsCheckerFactory,
)

from .support import LiveTestCase, needsRoot

ROOT = PeerCredentials(uid=0, gid=0, groups=(0,))
NOBODY = PeerCredentials(uid=4_000_000_000, gid=4_000_000_000, groups=(4_000_000_000,))


class Late:
    """
    A policy that takes its time.
    """

    def __init__(self, policy) -> None:
        self.policy = policy

    def decide(self, identity):
        return succeed(self.policy.decide(identity))


class CheckerTests(TestCase):
    """
    Tests for L{PeerCredentialsChecker}.
    """

    def test_interface(self) -> None:
        """
        It checks peers' credentials, which are credentials.
        """
        checker = PeerCredentialsChecker()
        verifyObject(ICredentialsChecker, checker)
        self.assertEqual(checker.credentialInterfaces, (IPeerCredentials,))
        self.assertTrue(ICredentials.providedBy(ROOT))

    async def test_name(self) -> None:
        """
        The avatar is the user's name, or the number of one without a name.
        """
        checker = PeerCredentialsChecker()
        self.assertEqual(await checker.requestAvatarId(ROOT), b"root")
        self.assertEqual(await checker.requestAvatarId(NOBODY), b"4000000000")

    async def test_numberForName(self) -> None:
        """
        A name that is a number is nobody's avatar but that number's (THREATS
        A13).
        """
        entry = pwd.struct_passwd(("0", "x", 1234, 1234, "", "/", "/bin/sh"))
        self.patch(pwd, "getpwuid", lambda uid: entry)
        peer = PeerCredentials(uid=1234, gid=1234)
        self.assertEqual(names.accountName(1234), "1234")
        self.assertEqual(await PeerCredentialsChecker().requestAvatarId(peer), b"1234")

    async def test_offThread(self) -> None:
        """
        Names are not looked up in the reactor's thread.
        """
        threads = []

        def getpwuid(uid):
            threads.append(threading.current_thread())
            raise KeyError(uid)

        self.patch(pwd, "getpwuid", getpwuid)
        peer = PeerCredentials(uid=3_999_999_999, gid=1)
        await PeerCredentialsChecker().requestAvatarId(peer)
        self.assertNotIn(threading.main_thread(), threads)
        self.assertEqual(len(threads), 1)

    async def test_policy(self) -> None:
        """
        Whom the policy does not admit is not logged in; it may take its time.
        """
        policy = Policy.fromString("root")
        for each in (policy, Late(policy)):
            checker = PeerCredentialsChecker(policy=each)
            self.assertEqual(await checker.requestAvatarId(ROOT), b"root")
            with self.assertRaises(UnauthorizedLogin):
                await checker.requestAvatarId(NOBODY)

    async def test_avatarID(self) -> None:
        """
        The avatar can be anything that a function makes of a peer, now or
        later; nothing is nobody.
        """
        for given, avatar in (
            ("a", b"a"),
            (b"b", b"b"),
            (succeed("c"), b"c"),
        ):
            checker = PeerCredentialsChecker(avatarID=lambda peer, given=given: given)
            self.assertEqual(await checker.requestAvatarId(ROOT), avatar)
        for given, problem in (
            (None, UnauthorizedLogin),
            (fail(ZeroDivisionError()), ZeroDivisionError),
        ):
            checker = PeerCredentialsChecker(avatarID=lambda peer, given=given: given)
            with self.assertRaises(problem):
                await checker.requestAvatarId(ROOT)


class Avatar(Interface):
    """
    What is logged in to.
    """


class LiveTests(LiveTestCase):
    """
    Tests with a real peer.
    """

    async def test_portal(self) -> None:
        """
        A portal logs a connection in as the user that the kernel says it is.
        """

        class Realm:
            def requestAvatar(self, avatarID, mind, *interfaces):
                return Avatar, avatarID, lambda: None

        address, wrapped = self.serve()
        self.connect(address)
        protocol = await self.made(wrapped)
        portal = Portal(Realm(), [PeerCredentialsChecker()])
        _, avatar, _ = await portal.login(
            IPeerCredentials(protocol.transport), None, Avatar
        )
        self.assertEqual(avatar, names.accountName(os.geteuid()).encode())


class MapTests(TestCase):
    """
    Tests for L{AvatarMap}.
    """

    TEXT = """
    # Who is who.
    root, uid/7   -> admin   # both
    !uid/8, uid/8-9 -> ranger

    uid/10-19 -> user-{user}
    """

    async def test_firstMatch(self) -> None:
        """
        The first line whose rules admit counts; no line is nobody.
        """
        avatars = AvatarMap.fromString(self.TEXT + "uid/0 -> never\n")
        self.patch(names, "userName", lambda uid: "ann" if uid == 11 else None)
        for uid, avatar in (
            (0, "admin"),
            (7, "admin"),
            (8, None),
            (9, "ranger"),
            (11, "user-ann"),
            (12, "user-12"),
            (99, None),
        ):
            self.assertEqual(await avatars(PeerCredentials(uid=uid, gid=1)), avatar)

    async def test_comment(self) -> None:
        """
        A comment goes on to the end of the line, as an editor shows it.
        """
        avatars = AvatarMap.fromString("uid/7 -> a # no\u2028any -> b\x0buid/8 -> c")
        self.assertEqual(await avatars(PeerCredentials(uid=7, gid=1)), "a")
        self.assertIsNone(await avatars(PeerCredentials(uid=8, gid=1)))

    async def test_checker(self) -> None:
        """
        A checker takes it for C{avatarID}.
        """
        checker = PeerCredentialsChecker(avatarID=AvatarMap.fromString(self.TEXT))
        self.assertEqual(await checker.requestAvatarId(ROOT), b"admin")
        with self.assertRaises(UnauthorizedLogin):
            await checker.requestAvatarId(NOBODY)

    def test_mistakes(self) -> None:
        """
        A mistake is told with its place.
        """
        for text, line, column in (
            ("root admin", 1, 1),
            ("root -> admin\n  any ->", 2, 3),
            ("any -> two words", 1, 1),
            ("-> admin", 1, 1),
            ("any -> a\nroot, rooot -> admin", 2, 7),
        ):
            with self.assertRaises(PolicyError) as raised:
                AvatarMap.fromString(text)
            self.assertEqual(
                (raised.exception.line, raised.exception.column), (line, column), text
            )
            self.assertTrue(str(raised.exception).startswith(f"map:{line}:{column}: "))


class FileTests(LiveTestCase):
    """
    Tests for maps in files.
    """

    async def test_file(self) -> None:
        """
        A map can be a file.
        """
        path = os.path.join(self.directory, "map")
        with open(path, "w") as file:
            file.write(MapTests.TEXT)
        self.assertEqual(await AvatarMap.fromFile(path)(ROOT), "admin")

    @skipIf(needsRoot, needsRoot)
    def test_untrusted(self) -> None:
        """
        One that others may write is not believed.
        """
        path = os.path.join(self.directory, "map")
        with open(path, "w"):
            pass
        os.chown(path, 1000, -1)
        with self.assertRaises(PeerCredentialsError) as raised:
            AvatarMap.fromFile(path)
        self.assertIn("uid 1000", str(raised.exception))


class StrcredTests(SynchronousTestCase):
    """
    Tests for C{--auth peercred:RULES}.
    """

    def test_interface(self) -> None:
        """
        The factory is a checker factory.
        """
        factory = PeerCredentialsCheckerFactory()
        verifyObject(ICheckerFactory, factory)
        self.assertIn("--auth peercred:root,self", factory.authHelp)

    def test_makeChecker(self) -> None:
        """
        Twisted finds it; the rules are the argument, with their punctuation.
        """
        checker = makeChecker("peercred:!uid/7,uid/0-9+gid/0")
        self.assertEqual(checker._policy, Policy.fromString("!uid/7,uid/0-9+gid/0"))

    def test_option(self) -> None:
        """
        A program that takes C{--auth} for peers takes it.
        """

        class Options(usage.Options, AuthOptionMixin):
            supportedInterfaces = (IPeerCredentials,)

        options = Options()
        options.parseOptions(["--auth", "peercred:any"])
        (checker,) = options["credCheckers"]
        self.assertIsInstance(checker, PeerCredentialsChecker)

    def test_help(self) -> None:
        """
        C{--help-auth-type peercred} teaches how it is used.
        """

        class Options(usage.Options, AuthOptionMixin):
            supportedInterfaces = (IPeerCredentials,)
            authOutput = io.StringIO()

        with self.assertRaises(SystemExit):
            Options().parseOptions(["--help-auth-type", "peercred"])
        shown = Options.authOutput.getvalue()
        self.assertIn("ArgString format: Rules: who may log in", shown)
        self.assertIn("--auth peercred:group/staff ", shown)
        self.assertNotIn("WARNING", shown)

    def test_mistakes(self) -> None:
        """
        What are no rules, and no rules at all, are errors.
        """
        for text, problem in (
            ("peercred", "any is everybody"),
            ("peercred:", "any is everybody"),
            ("peercred:rooot", "rooot"),
        ):
            with self.assertRaises(InvalidAuthArgumentString) as raised:
                makeChecker(text)
            self.assertIn(problem, str(raised.exception))
