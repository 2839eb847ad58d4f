"""
Tests for L{twisted_peercred.socketfile}.
"""

import fcntl
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.socketfile import SocketFile, checkPlace, clearLock

from .support import needsRoot

open_ = os.open

#: Looks at a file until it is told to stop, as fast as it can; writes down
#: every state of it, and whether it could connect.
WATCHER = """
import json, os, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
seen, connected = set(), 0
os.set_blocking(0, False)
print("ready", flush=True)
while True:
    for _ in range(50):
        try:
            found = os.stat(path)
            seen.add((found.st_mode & 0o7777, found.st_uid, found.st_gid))
        except FileNotFoundError:
            pass
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.connect(path)
            connected += 1
        except OSError:
            pass
        peer.close()
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
print(json.dumps([sorted(seen), connected]))
"""


class FileTestCase(SynchronousTestCase):
    """
    With a directory that other users can look into.
    """

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.fsencode(os.path.join(self.directory, "s"))

    def make(self, mode: int = 0o660, *arguments: int) -> SocketFile:
        """
        A socket, closed after the test.
        """
        made = SocketFile(mode, *arguments)
        self.addCleanup(made.close)
        return made

    def listen(self, mode: int = 0o660, *arguments: int) -> SocketFile:
        """
        What Twisted's port does with it.
        """
        made = self.make(mode, *arguments)
        made.bind(self.path)
        os.chmod(self.path, mode)
        made.listen()
        return made

    def leaveDead(self, uid: int = -1) -> int:
        """
        A dead server's file.

        @return: its inode number.
        """
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        os.chown(self.path, uid, -1)
        return os.lstat(self.path).st_ino

    def assertInTheWay(self, why: str, uid: int = -1) -> None:
        """
        The place is taken, and what takes it stays.
        """
        before = os.lstat(self.path)
        for bind in (lambda: checkPlace(self.path, uid), lambda: self.listen(0o660)):
            with self.assertRaises(OSError) as raised:
                bind()
            self.assertIn(why, str(raised.exception))
        after = os.lstat(self.path)
        self.assertEqual((after.st_ino, after.st_mode), (before.st_ino, before.st_mode))


class PlaceTests(FileTestCase):
    """
    Tests for what is replaced and what is not.
    """

    def test_free(self) -> None:
        """
        A free place is taken; nothing else is left in the directory.
        """
        checkPlace(self.path)
        made = self.listen()
        self.assertFalse(made.getblocking())
        self.assertFalse(made.get_inheritable())
        self.assertEqual(os.listdir(self.directory), ["s"])

    def test_dead(self) -> None:
        """
        A dead server's file is replaced.
        """
        dead = self.leaveDead()
        checkPlace(self.path)
        # Its inode number is not to be given to the new one.
        os.link(self.path, self.path + b"-kept")
        made = self.listen()
        self.assertNotEqual(os.lstat(self.path).st_ino, dead)
        self.assertTrue(made.ownsFile(self.path))
        self.assertEqual(sorted(os.listdir(self.directory)), ["s", "s-kept"])
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(self.path)

    def test_live(self) -> None:
        """
        A live server's file is not, whatever kind of socket it has, also
        before it listens; and it is not disturbed by the asking.
        """
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            with socket.socket(socket.AF_UNIX, kind) as live:
                live.bind(self.path)
                self.assertInTheWay("a server is using it")
                if kind != socket.SOCK_DGRAM:
                    live.listen()
                    self.assertInTheWay("a server is using it")
                    live.setblocking(False)
                    self.assertRaises(BlockingIOError, live.accept)
            os.unlink(self.path)

    def test_foreign(self) -> None:
        """
        Neither is what is no socket: a file, a directory, a symbolic link to
        a dead server's.
        """
        with open(self.path, "w"):
            pass
        self.assertInTheWay("it is no socket")
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertInTheWay("it is no socket")
        os.rmdir(self.path)
        self.leaveDead()
        os.rename(self.path, self.path + b"-dead")
        os.symlink(self.path + b"-dead", self.path)
        self.assertInTheWay("it is no socket")

    @skipIf(needsRoot, needsRoot)
    def test_otherUser(self) -> None:
        """
        Nor another user's, though its server is dead; but that of the user
        that the new one is to belong to is.
        """
        self.leaveDead(1001)
        self.assertInTheWay("it belongs to uid 1001", 1002)
        checkPlace(self.path, 1001)
        self.listen(0o600, 1001)

    @skipIf(needsRoot, needsRoot)
    def test_unknown(self) -> None:
        """
        One of which it cannot be found out is left alone: its own mode keeps
        its owner from asking.
        """
        self.leaveDead(1000)
        os.chmod(self.path, 0o060)
        os.seteuid(1000)
        self.addCleanup(os.seteuid, 0)
        self.assertRaises(PermissionError, checkPlace, self.path)

    def test_race(self) -> None:
        """
        Of many that find a dead server's file at the same time one gets the
        place, and keeps it.
        """
        for _ in range(20):
            self.leaveDead()
            barrier = threading.Barrier(8)
            winners = []

            def start(barrier=barrier, winners=winners) -> None:
                made = SocketFile(0o600)
                barrier.wait()
                try:
                    made.bind(self.path)
                except OSError:
                    return
                made.listen()
                winners.append(made)

            threads = [threading.Thread(target=start) for _ in range(8)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            (winner,) = winners
            self.assertTrue(winner.ownsFile(self.path))
            self.assertEqual(os.listdir(self.directory), ["s"])
            winner.close()
            os.unlink(self.path)

    def test_starting(self) -> None:
        """
        Another that is replacing a dead server's file is let finish; one that
        died while it did is in nobody's way.
        """
        self.leaveDead()
        name = self.path + b".starting"
        with open(name, "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.assertInTheWayOfStarting()
            os.rename(name, name + b"-removed")
            self.patch(os, "open", lambda *arguments: os.dup(other.fileno()))
            self.assertInTheWayOfStarting()
            with open(name, "w"):
                pass
            self.assertInTheWayOfStarting()
        self.patch(os, "open", open_)
        self.listen()

    def assertInTheWayOfStarting(self) -> None:
        """
        Nothing is replaced.
        """
        before = os.lstat(self.path).st_ino
        with self.assertRaises(OSError) as raised:
            self.make().bind(self.path)
        self.assertIn("just starting", str(raised.exception))
        self.assertEqual(os.lstat(self.path).st_ino, before)

    def test_noDirectory(self) -> None:
        """
        Other errors are the system's, and the socket is closed.
        """
        made = SocketFile(0o600)
        self.assertRaises(FileNotFoundError, made.bind, self.path + b"/s")
        self.assertEqual(made.fileno(), -1)

    def test_abstract(self) -> None:
        """
        An abstract name is an error that says what to do, unless it is
        allowed (THREATS A11).
        """
        name = b"\0peercred-" + os.urandom(8).hex().encode()
        with self.assertRaises(PermissionError) as raised:
            self.make().bind(name)
        self.assertIn("abstract=open", str(raised.exception))
        self.make(0o660, -1, -1, True).bind(name)

    def test_ownsFile(self) -> None:
        """
        A file that somebody has removed or replaced is not this socket's.
        """
        made = self.listen()
        self.assertTrue(made.ownsFile(self.path))
        os.rename(self.path, self.path + b"-old")
        self.assertFalse(made.ownsFile(self.path))
        self.leaveDead()
        self.assertFalse(made.ownsFile(self.path))


class ModeTests(FileTestCase):
    """
    Tests for who can connect, and when.
    """

    def watch(self, mode: int, *owner: int) -> list:
        """
        Make and remove the socket again and again while another process looks.

        @return: the modes and owners it saw, and how often it could connect.
        """
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHER, self.path, "1005"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert watcher.stdout is not None
        self.assertEqual(watcher.stdout.readline(), b"ready\n")
        for _ in range(2000):
            made = SocketFile(mode, *owner)
            made.bind(self.path)
            os.chmod(self.path, mode)
            made.listen()
            made.close()
        with SocketFile(mode, *owner) as made:
            # Once for long enough that a busy machine gets to it.
            made.bind(self.path)
            os.chmod(self.path, mode)
            made.listen()
            time.sleep(0.5)
        said, _ = watcher.communicate()
        seen, connected = json.loads(said)
        return [{tuple(each) for each in seen}, connected]

    @skipIf(needsRoot, needsRoot)
    def test_watched(self) -> None:
        """
        Another process never sees the file wider than it is at last, though
        the umask would have it so, nor can a stranger connect in between
        (THREATS A10).
        """
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        seen, connected = self.watch(0o660, 1001, 1002)
        self.assertEqual(connected, 0)
        final = (0o660, 1001, 1002)
        self.assertIn(final, seen)
        # Until then it was open to one user alone: its maker, then its owner.
        self.assertEqual([each for each in seen - {final} if each[0] & 0o177], [])

    @skipIf(needsRoot, needsRoot)
    def test_watcherWatches(self) -> None:
        """
        What is open to everyone the watcher finds open.
        """
        seen, connected = self.watch(0o666)
        self.assertIn((0o666, 0, 0), seen)
        self.assertGreater(connected, 0)

    def test_narrowUntilItListens(self) -> None:
        """
        A bound socket's file is for its owner alone, and not even for him
        where the mode will not let him connect.
        """
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        for mode, narrow in ((0o666, 0o600), (0o060, 0), (0o200, 0o200)):
            self.make(mode).bind(self.path)
            self.assertEqual(stat.S_IMODE(os.lstat(self.path).st_mode), narrow)
            os.unlink(self.path)

    def test_otherKernels(self) -> None:
        """
        Where fchmod(2) does not know sockets the file is made all the same.
        """

        def fchmod(*arguments):
            raise OSError(22, "Invalid argument")

        self.patch(os, "fchmod", fchmod)
        self.listen()

    @skipIf(needsRoot, needsRoot)
    def test_notPermitted(self) -> None:
        """
        Who may not give the file away leaves none.
        """
        os.chown(self.directory, 1000, 1000)
        os.seteuid(1000)
        self.addCleanup(os.seteuid, 0)
        self.assertRaises(PermissionError, self.make(0o660, 1001).bind, self.path)
        self.assertEqual(os.listdir(self.directory), [])


class LockTests(FileTestCase):
    """
    Tests for L{clearLock}.
    """

    def locked(self, target: str) -> bool:
        """
        @return: whether a lock that says so is left.
        """
        lock = self.path + b".lock"
        os.symlink(target, lock)
        clearLock(self.path)
        left = os.path.lexists(lock)
        if left:
            os.unlink(lock)
        return left

    def test_another(self) -> None:
        """
        The lock of a process that may not be asked stays: it lives.
        """

        def kill(pid, number):
            raise PermissionError(1, "Operation not permitted")

        self.patch(os, "kill", kill)
        self.assertTrue(self.locked("1"))

    def test_clearLock(self) -> None:
        """
        A dead process's lock, and one with this process's number, go; a live
        one's and what is no lock stay.
        """
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            pass
        self.assertFalse(self.locked(str(dead.pid)))
        self.assertFalse(self.locked(str(os.getpid())))
        self.assertTrue(self.locked(str(os.getppid())))
        for odd in ("nonsense", "0", "-1", str(2**80)):
            self.assertTrue(self.locked(odd), odd)
        clearLock(self.path)
        with open(self.path + b".lock", "w"):
            pass
        clearLock(self.path)
        self.assertTrue(os.path.exists(self.path + b".lock"))
