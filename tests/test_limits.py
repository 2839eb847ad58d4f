"""
Tests for L{twisted_peercred.limits}.
"""

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.limits import WaitingRoom


class WaitingRoomTests(SynchronousTestCase):
    """
    Tests for L{WaitingRoom}.
    """

    def test_room(self) -> None:
        """
        While there is room nobody goes.
        """
        room = WaitingRoom(2)
        self.assertIsNone(room.enter(1, "a"))
        self.assertIsNone(room.enter(2, "b"))
        self.assertEqual(len(room), 2)

    def test_greediest(self) -> None:
        """
        When it is full, the eldest of the user with most places goes.
        """
        room = WaitingRoom(4)
        for uid, guest in ((1, "x"), (2, "a"), (2, "b"), (2, "c")):
            room.enter(uid, guest)
        self.assertEqual(room.enter(3, "new"), "a")
        self.assertEqual(len(room), 4)
        self.assertEqual(room.enter(1, "y"), "y")

    def test_ownUser(self) -> None:
        """
        One who would have most is not let in at the cost of others.
        """
        room = WaitingRoom(2)
        room.enter(1, "a")
        room.enter(2, "b")
        self.assertEqual(room.enter(1, "c"), "c")
        self.assertEqual(len(room), 2)
        self.assertEqual(room.guests(), ["a", "b"])

    def test_oneEach(self) -> None:
        """
        Users with one place each keep nobody out: the eldest of all goes.
        """
        room = WaitingRoom(3)
        room.enter(1, "a")
        room.enter(2, "b")
        room.enter(1, "c")
        room.leave(1, "a")
        room.enter(3, "d")
        # User 1 has been there longest, but not with this connection.
        self.assertEqual(room.enter(4, "e"), "b")
        self.assertEqual(room.enter(2, "f"), "c")
        for _ in range(3):
            self.assertEqual(room.enter(2, "g"), "g")
        self.assertEqual(sorted(room.guests()), ["d", "e", "f"])

    def test_leave(self) -> None:
        """
        A place is given back once, however often it is left, and nothing is
        remembered of a user who has none.
        """
        room = WaitingRoom(1)
        room.enter(1, "a")
        for _ in range(2):
            room.leave(1, "a")
        self.assertEqual(len(room), 0)
        self.assertEqual(room._guests, {})
        self.assertIsNone(room.enter(1, "b"))
        room.leave(1, "a")
        self.assertEqual(len(room), 1)
