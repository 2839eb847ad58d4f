"""
Tests for L{twisted_peercred.audit}.
"""

import errno
import json
import os
import stat
from unittest import skipIf

from twisted.internet.address import UNIXAddress
from twisted.logger import (
    ILogObserver,
    Logger,
    eventsFromJSONLogFile,
    formatEvent,
    globalLogPublisher,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_peercred import (
    CredentialsUnavailable,
    PeerCredentials,
    PeerRefused,
    record,
)
from twisted_peercred.audit import AuditLog
from twisted_peercred.policy import Decision

from .support import needsRoot, openDescriptors

ALICE = PeerCredentials(uid=1000, gid=100, groups=(100, 200), pid=7)


class AuditLogTests(SynchronousTestCase):
    """
    Tests for L{AuditLog}.
    """

    def setUp(self) -> None:
        self.path = os.path.join(os.getcwd(), self.mktemp())
        self.log = AuditLog(self.path)
        self.complaints = []

        def gather(event) -> None:
            if event.get("log_namespace") == "twisted_peercred.audit":
                self.complaints.append(formatEvent(event))

        globalLogPublisher.addObserver(gather)
        self.addCleanup(globalLogPublisher.removeObserver, gather)

    def start(self) -> None:
        """
        Run the log, until the test ends.
        """
        self.log.privilegedStartService()
        self.log.startService()
        self.addCleanup(lambda: self.log.running and self.log.stopService())

    def admit(self, serial: int) -> None:
        """
        Have an admission recorded.
        """
        record.admissions.admitted(
            UNIXAddress(b"\0a\n"), serial, ALICE, ALICE, Decision(True, "uid/1000", 3)
        )

    def lines(self, path=None) -> list:
        """
        What is in a file.
        """
        with open(path or self.path) as file:
            return [json.loads(line) for line in file]

    def test_interface(self) -> None:
        """
        It is an observer.
        """
        verifyObject(ILogObserver, self.log)

    def test_lines(self) -> None:
        """
        Each admission and each refusal is a line of JSON of plain types;
        nothing else is there.
        """
        before = openDescriptors()
        self.start()
        Logger("other").warn("Refused somebody", what="refused")
        self.admit(1)
        refused = PeerRefused(ALICE, "policy", "policy-failed")
        refused.__cause__ = ZeroDivisionError("by zero")
        record.refused(UNIXAddress(b"\0;uid=0\n"), ALICE, refused, serial=2)
        record.refused(UNIXAddress(None), None, CredentialsUnavailable("who?"))
        self.flushLoggedErrors(ZeroDivisionError)
        self.log.stopService()
        self.admit(3)
        self.assertFalse(record.admissions.wanted)
        self.assertEqual(openDescriptors(), before)
        admitted, failed, unknown = self.lines()
        for name, value in {
            "what": "admitted",
            "serial": 1,
            "uid": 1000,
            "gid": 100,
            "pid": 7,
            "groups": [100, 200],
            "capture": "connect",
            "connection": str(ALICE),
            "reason": "rule",
            "rule": "uid/1000",
            "line": 3,
            "databaseGroups": None,
            "address": repr(UNIXAddress(b"\0a\n")),
        }.items():
            self.assertEqual(admitted[name], value, name)
        self.assertEqual((failed["what"], failed["serial"]), ("refused", 2))
        self.assertEqual(failed["error"], str(refused))
        self.assertEqual(failed["failure"], "ZeroDivisionError: by zero")
        self.assertIsNone(unknown["uid"])
        with open(self.path) as file:
            self.assertNotIn("unpersistable", file.read())

    def test_readByTwisted(self) -> None:
        """
        Twisted reads it back, text and all.
        """
        self.start()
        self.admit(1)
        with open(self.path) as file:
            (event,) = eventsFromJSONLogFile(file)
        self.assertEqual(event["uid"], 1000)
        self.assertIn("uid=1000", formatEvent(event))

    def test_mode(self) -> None:
        """
        The file is for its owner alone, also where somebody made it before
        with another mode; what was in it stays.
        """
        self.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.admit(1)
        self.log.stopService()
        os.chmod(self.path, 0o644)
        self.start()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.admit(2)
        self.assertEqual([each["serial"] for each in self.lines()], [1, 2])

    def test_startAlone(self) -> None:
        """
        C{startService} is enough.
        """
        self.log.startService()
        self.addCleanup(self.log.stopService)
        self.admit(1)
        self.assertEqual(len(self.lines()), 1)

    def test_noFile(self) -> None:
        """
        What is no file that can be had is an error when it starts, and is left
        as it was.
        """
        before = openDescriptors()
        os.mkfifo(self.path)
        mode = os.stat(self.path).st_mode
        link = self.path + "link"
        os.symlink("/dev/null", link)
        for path in ("/dev/null", link, os.getcwd(), "/nonexistent/log", self.path):
            log = AuditLog(path)
            self.assertRaises(OSError, log.privilegedStartService)
            self.assertRaises(OSError, log.startService)
            self.assertFalse(log.running)
        self.assertEqual(os.stat(self.path).st_mode, mode)
        self.assertEqual(openDescriptors(), before)
        self.assertFalse(record.admissions.wanted)

    def test_anotherName(self) -> None:
        """
        A file that has another name, which may be one that matters, is not
        written to.
        """
        with open(self.path + ".other", "w"):
            os.link(self.path + ".other", self.path)
        self.assertRaises(OSError, self.log.open)
        self.assertEqual(os.path.getsize(self.path), 0)

    @skipIf(needsRoot, needsRoot)
    def test_anotherOwner(self) -> None:
        """
        One of another user, who could read it, is not written to, nor is it
        when that user has put it there meanwhile.
        """
        with open(self.path, "w"):
            os.chown(self.path, 1000, 1000)
        self.assertRaises(OSError, self.log.open)
        os.unlink(self.path)
        self.start()
        os.rename(self.path, self.path + ".1")
        with open(self.path, "w"):
            os.chown(self.path, 1000, 1000)
        self.admit(1)
        self.assertEqual(self.lines(), [])
        self.assertEqual(len(self.lines(self.path + ".1")), 1)
        self.assertIn("belongs to another user", self.complaints[0])

    def test_reopen(self) -> None:
        """
        After C{reopen} it goes on in the file that is there now.
        """
        self.start()
        self.admit(1)
        os.rename(self.path, self.path + ".1")
        before = openDescriptors()
        self.log.reopen()
        self.assertEqual(openDescriptors(), before)
        self.admit(2)
        self.assertEqual([each["serial"] for each in self.lines()], [2])
        self.assertEqual([each["serial"] for each in self.lines(self.path + ".1")], [1])

    def test_moved(self) -> None:
        """
        Without being told it goes on in a new file when the old one was moved,
        removed or replaced, and in the same one when that was truncated.
        """
        self.start()
        self.admit(1)
        os.rename(self.path, self.path + ".1")
        self.admit(2)
        self.assertEqual([each["serial"] for each in self.lines()], [2])
        os.unlink(self.path)
        self.admit(3)
        self.assertEqual([each["serial"] for each in self.lines()], [3])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        with open(self.path + ".new", "w"):
            os.rename(self.path + ".new", self.path)
        self.admit(4)
        self.assertEqual([each["serial"] for each in self.lines()], [4])
        os.truncate(self.path, 0)
        self.admit(5)
        self.assertEqual([each["serial"] for each in self.lines()], [5])
        self.assertEqual(self.complaints, [])

    def test_cannotReopen(self) -> None:
        """
        Where no new file can be had, the old one goes on; that is said once.
        """
        self.start()
        os.rename(self.path, self.path + ".1")
        os.mkdir(self.path)
        for serial in (1, 2, 3):
            self.admit(serial)
        self.assertEqual(len(self.lines(self.path + ".1")), 3)
        os.rmdir(self.path)
        self.admit(4)
        self.assertEqual(len(self.lines()), 1)
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("cannot have a new file", self.complaints[0])

    @skipIf(needsRoot, needsRoot)
    def test_outOfSight(self) -> None:
        """
        A server that has dropped its privileges, and cannot see the file any
        more, goes on writing to it.
        """
        directory = self.mktemp()
        os.mkdir(directory, 0o700)
        self.log = AuditLog(os.path.join(directory, "log"))
        self.start()
        os.seteuid(1000)
        try:
            self.admit(1)
        finally:
            os.seteuid(0)
        self.assertEqual(len(self.lines(self.log.path)), 1)
        self.assertEqual(self.complaints, [])

    def test_fullDisk(self) -> None:
        """
        What a full disk had no room for is lost: that is said once, and the
        file has the number when there is room again.  A line that was begun
        is ended before the next, and no other is lost by it.
        """
        self.start()
        room = 10_000
        write = os.write

        def limited(descriptor, data):
            nonlocal room
            if descriptor != self.log._descriptor:
                return write(descriptor, data)
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = write(descriptor, data[:room])
            room -= count
            return count

        self.patch(os, "write", limited)
        self.admit(1)
        for some in (20, 0, 1, 30):
            room = some
            self.admit(2)
        self.assertEqual(len(self.complaints), 1)
        self.assertIn("No space left", self.complaints[0])
        room = 10_000
        self.admit(3)
        with open(self.path) as file:
            whole = [each for each in file if each.endswith("}\n")]
        first, lost, last = map(json.loads, whole)
        self.assertEqual((first["serial"], last["serial"]), (1, 3))
        self.assertEqual((lost["what"], lost["count"]), ("lost", 4))
        room = 0
        self.admit(4)
        self.assertEqual(len(self.complaints), 2)
        room = 10_000
        self.log.stopService()
        with open(self.path) as file:
            last = json.loads(file.readlines()[-1])
        self.assertEqual((last["what"], last["count"]), ("lost", 1))

    def test_withoutLineEnd(self) -> None:
        """
        A line that lacks its end alone is not lost; the next ends it.
        """
        self.start()
        write = os.write
        self.patch(os, "write", lambda at, data: write(at, data[:-1]))
        self.admit(1)
        self.patch(os, "write", write)
        self.admit(2)
        self.assertEqual([each["serial"] for each in self.lines()], [1, 2])

    def test_begunBefore(self) -> None:
        """
        A line that another run did not end is ended.
        """
        with open(self.path, "w") as file:
            file.write('{"what":')
        self.start()
        self.admit(1)
        with open(self.path) as file:
            self.assertEqual(json.loads(file.readlines()[1])["serial"], 1)

    def test_fullDevice(self) -> None:
        """
        The same on a real device that is full; the number is in Twisted's log
        then.
        """
        self.start()
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, self.log._descriptor)
        os.close(full)
        self.admit(1)
        self.admit(2)
        self.log.stopService()
        self.assertEqual(len(self.complaints), 2)
        for each in self.complaints:
            self.assertIn("No space left", each)
        self.assertIn("2 lost events", self.complaints[1])

    def test_admissionsInTwistedsLog(self) -> None:
        """
        An admission is one line also where Twisted's log has it too.
        """
        self.start()
        record.admissions.addObserver(globalLogPublisher)
        self.addCleanup(record.admissions.removeObserver, globalLogPublisher)
        self.admit(1)
        self.assertEqual(len(self.lines()), 1)
