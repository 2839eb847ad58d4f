"""
Tests for L{twisted_peercred.limits}.
"""

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.limits import UserSlots, WaitingRoom


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

    def test_fewerThanAnother(self) -> None:
        """
        One who has places already gets another while that is fewer than
        somebody else keeps.
        """
        room = WaitingRoom(6)
        for guest in ("a", "b"):
            room.enter(1, guest)
        for guest in ("w", "x", "y", "z"):
            room.enter(2, guest)
        self.assertEqual(room.enter(1, "c"), "w")
        self.assertEqual(room.enter(1, "d"), "d")
        self.assertEqual(room.guests(), ["a", "b", "c", "x", "y", "z"])

    def test_large(self) -> None:
        """
        A great limit is kept as exactly as a small one.
        """
        room = WaitingRoom(1000)
        for number in range(1000):
            self.assertIsNone(room.enter(number, "guest"))
        self.assertEqual(room.enter(1000, "new"), "guest")
        self.assertEqual(len(room), 1000)


class UserSlotsTests(SynchronousTestCase):
    """
    Tests for L{UserSlots}.
    """

    def test_limit(self) -> None:
        """
        Each user has as many slots as the limit says, whatever others have, and
        one that is given back can be taken again.
        """
        for limit in (1, 2, 1000):
            slots = UserSlots(limit)
            for uid in (1, 2):
                for _ in range(limit):
                    self.assertIs(slots.enter(uid), True)
                for _ in range(2):
                    self.assertIs(slots.enter(uid), False)
            self.assertEqual(len(slots), 2 * limit)
            slots.leave(1)
            self.assertEqual(len(slots), 2 * limit - 1)
            self.assertIs(slots.enter(1), True)
            self.assertIs(slots.enter(1), False)

    def test_forgotten(self) -> None:
        """
        A user who has a slot is remembered, and nobody else.
        """
        slots = UserSlots(2)
        slots.enter(1)
        slots.enter(1)
        slots.leave(1)
        self.assertEqual(slots._taken, {1: 1})
        slots.leave(1)
        self.assertEqual(dict(slots._taken), {})
        self.assertEqual(len(slots), 0)
