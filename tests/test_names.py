"""
Tests for L{twisted_peercred.names}.
"""

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.names import groupID, groupName, userID, userName

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
