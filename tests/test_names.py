"""
Tests for L{twisted_peercred.names}.
"""

import grp
import os
import pwd

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import names
from twisted_peercred.names import (
    databaseGroups,
    groupID,
    groupName,
    userID,
    userName,
)

NOBODY = 4_000_000_000


class NameTests(SynchronousTestCase):
    """
    Tests for look-ups.
    """

    def test_known(self) -> None:
        """
        A number that has a name gives it.
        """
        self.assertEqual((userName(0), groupName(0)), ("root", "root"))

    def test_unknown(self) -> None:
        """
        A number that has none gives none.
        """
        self.assertEqual((userName(NOBODY), groupName(NOBODY)), (None, None))

    def test_numbers(self) -> None:
        """
        A name gives its number, if there is such a name: digits are a name
        too.
        """
        self.assertEqual((userID("root"), groupID("root")), (0, 0))
        self.assertEqual((userID("0"), groupID("no:body")), (None, None))

    def test_groups(self) -> None:
        """
        A user's groups are those of the databases, sorted, and each once; one
        who is not there has none that are known.
        """
        root = pwd.getpwuid(0)
        expected = set(os.getgrouplist("root", root.pw_gid))
        self.assertEqual(databaseGroups(0), tuple(sorted(expected)))
        self.assertIsNone(databaseGroups(NOBODY))


class MemoryTests(SynchronousTestCase):
    """
    Tests for what is remembered of look-ups.
    """

    def setUp(self) -> None:
        self.now = 1000.0
        self.asked = []
        self.patch(names, "monotonic", lambda: self.now)
        self.patch(pwd, "getpwuid", self.ask)
        self.patch(grp, "getgrgid", self.ask)
        self.lookUp = names._remembered(userName.__wrapped__)

    def ask(self, number):
        """
        A name service.
        """
        self.asked.append(number)
        if number == NOBODY:
            raise KeyError(number)
        if number == 13:
            raise OSError(5, "no answer")

        class Found:
            pw_name = gr_name = f"u{number}"

        return Found

    def test_remembered(self) -> None:
        """
        An answer is good for a while.
        """
        for number in (1, 2, 1, 2):
            self.lookUp(number)
        self.assertEqual(self.asked, [1, 2])
        self.now += names.SECONDS
        self.assertEqual(self.lookUp(1), "u1")
        self.assertEqual(self.asked, [1, 2, 1])

    def test_absence(self) -> None:
        """
        That nothing was found, or no more than a user's first group, may be
        that the database could not be read, and is not remembered.
        """
        for _ in range(2):
            self.assertIsNone(self.lookUp(NOBODY))
        self.assertEqual(self.asked, [NOBODY, NOBODY])
        found = [(5,), (5, 6), (5, 7)]
        groups = names._remembered(lambda uid: found.pop(0))
        self.assertEqual([groups(1) for _ in range(3)], [(5,), (5, 6), (5, 6)])

    def test_failure(self) -> None:
        """
        No answer is none, and is not remembered.
        """
        for _ in range(2):
            self.assertRaises(OSError, self.lookUp, 13)
        self.assertEqual(self.asked, [13, 13])

    def test_bounded(self) -> None:
        """
        No more answers are kept than there is room for; the eldest go.
        """
        for number in range(names.SIZE + 1000, 2 * names.SIZE + 1001):
            self.lookUp(number)
        self.asked.clear()
        self.lookUp(names.SIZE + 1001)
        self.assertEqual(self.asked, [])
        self.lookUp(names.SIZE + 1000)
        self.assertEqual(self.asked, [names.SIZE + 1000])
