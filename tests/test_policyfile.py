"""
Tests for L{twisted_peercred.policyfile}.
"""

import os
import shutil
import tempfile
from threading import current_thread, main_thread

from twisted.internet.defer import Deferred, execute
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    IPeerPolicy,
    PeerCredentials,
    Policy,
    PolicyError,
    names,
)
from twisted_peercred.audit import AuditLog
from twisted_peercred.interfaces import IPeerPolicySource
from twisted_peercred.policyfile import PolicyFile

from .support import LiveTestCase
from .test_admission import Slow

ROOT = PeerCredentials(uid=0, gid=0)
ALICE = PeerCredentials(uid=1000, gid=1000)


class PolicyFileTests(SynchronousTestCase):
    """
    Tests for L{PolicyFile}.
    """

    def setUp(self) -> None:
        self.directory = directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        os.chmod(directory, 0o755)
        self.addCleanup(shutil.rmtree, directory)
        self.path = os.path.join(directory, "rules")
        self.write("root\n")
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.file = PolicyFile(self.path, inThread=execute)

    def write(self, text: str) -> None:
        """
        Replace the file.
        """
        with open(self.path + ".new", "w") as file:
            file.write(text)
        os.chmod(self.path + ".new", 0o644)
        os.rename(self.path + ".new", self.path)

    def test_interfaces(self) -> None:
        """
        It is a policy, and where one comes from.
        """
        verifyObject(IPeerPolicy, self.file)
        verifyObject(IPeerPolicySource, self.file)

    def test_reload(self) -> None:
        """
        After a reload the new policy is in force, and the old one is as it
        was.
        """
        old = self.file.policy
        self.write("uid/1000")
        self.assertTrue(self.file.decide(ROOT).admitted)
        self.assertIsNone(self.successResultOf(self.file.reload()))
        self.assertEqual(self.file.policy, Policy.fromString("uid/1000"))
        self.assertTrue(self.file.decide(ALICE).admitted)
        self.assertFalse(self.file.decide(ROOT).admitted)
        self.assertTrue(old.decide(ROOT).admitted)
        event = self.events[-1]
        self.assertEqual((event["what"], event["count"]), ("policy-changed", 1))
        self.assertIn(self.path, formatEvent(event))

    def kept(self, line, column, word: str) -> PolicyError:
        """
        A reload leaves the old policy in force, and says so.
        """
        old = self.file.policy
        problem = self.successResultOf(self.file.reload())
        self.assertIsInstance(problem, PolicyError)
        self.assertIs(self.file.policy, old)
        event = self.events[-1]
        self.assertEqual((event["line"], event["column"]), (line, column))
        self.assertIs(event["log_level"], LogLevel.error)
        self.assertEqual(event["what"], "policy-kept")
        for text in (self.path, word, "old policy stays in force"):
            self.assertIn(text, formatEvent(event))
        return problem

    def test_broken(self) -> None:
        """
        A mistake, a name that has vanished, a file that others may write or
        that is gone: the old policy stays in force, with line and column of
        what is wrong (THREATS A13, A14).
        """
        self.write("root\n  uid/x\n")
        self.kept(2, 7, "'x' is not a decimal number")
        self.write("# none\n")
        self.kept(1, 1, "there is no rule")
        self.write("user/no-such-user-here")
        self.kept(1, 6, "no user called")
        self.write("any")
        os.chmod(self.path, 0o666)
        self.kept(None, None, "chmod go-w")
        os.unlink(self.path)
        self.kept(None, None, "No such file")
        self.write("any")
        self.assertIsNone(self.successResultOf(self.file.reload()))

    def test_nameServiceFails(self) -> None:
        """
        So it does when the name service gives no answer.
        """

        def fails(name):
            raise OSError(5, "no answer")

        self.write("user/alice")
        self.patch(names, "userID", fails)
        problem = self.kept(None, None, "no answer")
        self.assertIn("cannot be loaded", str(problem))

    def test_start(self) -> None:
        """
        Nothing starts with a policy that is broken.
        """
        self.write("uid/x")
        error = self.assertRaises(PolicyError, PolicyFile, self.path)
        self.assertEqual((error.line, error.column), (1, 5))
        self.assertEqual(error.source, self.path)

    def test_path(self) -> None:
        """
        The path is that of when it was made.
        """
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        file = PolicyFile("rules", inThread=execute)
        os.chdir("/")
        self.assertTrue(os.path.isabs(file.path))
        self.assertIsNone(self.successResultOf(file.reload()))
        os.mkdir(self.directory + "/gone")
        os.chdir(self.directory + "/gone")
        os.rmdir(self.directory + "/gone")
        self.assertEqual(PolicyFile(file.path, inThread=execute).path, file.path)
        self.assertEqual(AuditLog(file.path).path, file.path)

    def test_inTurn(self) -> None:
        """
        Reloads come one after the other: the file is read after each was asked
        for, and the last one asked for counts.
        """
        started = []

        def inThread(function):
            started.append((function, Deferred()))
            return started[-1][1]

        self.file._inThread = inThread
        self.write("uid/1")
        one, two = self.file.reload(), self.file.reload()
        self.assertEqual(len(started), 1)
        function, done = started[0]
        policy = function()
        self.write("uid/2")
        done.callback(policy)
        self.successResultOf(one)
        function, done = started[1]
        done.callback(function())
        self.successResultOf(two)
        self.assertEqual(str(self.file.policy), "uid/2")

    def test_database(self) -> None:
        """
        C{groupsFrom} holds for what is loaded later, too.
        """
        file = PolicyFile(self.path, groupsFrom="database", inThread=execute)
        self.successResultOf(file.reload())
        self.assertEqual(file.policy, Policy.fromString("root", groupsFrom="database"))


class LivePolicyFileTests(LiveTestCase):
    """
    Tests for reloads of a running server.
    """

    def write(self, text: str) -> str:
        """
        @return: the path.
        """
        path = os.path.join(self.directory, "rules")
        with open(path + ".new", "w") as file:
            file.write(text)
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)
        return path

    async def test_inThread(self) -> None:
        """
        A reload reads the file and looks names up in a thread of its own.
        """
        threads = []

        class Names:
            def userID(self, name):
                threads.append(current_thread())
                return 7

        file = PolicyFile(self.write("user/alice"), names=Names())
        await file.reload()
        self.assertEqual(len(threads), 2)
        self.assertIs(threads[0], main_thread())
        self.assertIsNot(threads[1], main_thread())

    async def test_served(self) -> None:
        """
        The next connection is decided by the new policy; one that is open is
        let be, and one that waits is decided by the old one.
        """
        file = PolicyFile(self.write("self"))
        address, wrapped = self.serve(capture=Capture.FIRST_MESSAGE, policy=file)
        peer = self.connect(address)
        peer.send(b"hello")
        protocol = await self.made(wrapped)
        waiting = self.connect(address)
        await self.until(lambda: len(self.factory._waiting))
        self.write("!any")
        self.assertIsNone(await file.reload())
        self.assertEqual(await self.closed(self.connect(address)), b"")
        self.assertEqual(self.refusals()[-1].rule, "!any")
        waiting.send(b"hello")
        await self.made(wrapped, 2)
        peer.send(b"more")
        await self.until(lambda: len(b"".join(protocol.received)) == 9)

    async def test_slow(self) -> None:
        """
        A policy that took its time is asked to the end.
        """
        file = PolicyFile(self.write("!any"))
        slow = file.policy = Slow()
        address, wrapped = self.serve(policy=file)
        self.connect(address)
        await self.until(lambda: slow.pending)
        await file.reload()
        slow.pending[0].callback(Policy.fromString("any").decide(ROOT))
        await self.made(wrapped)
