"""
How much of a server one user may take.
"""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Generic, TypeVar

_Guest = TypeVar("_Guest")


class WaitingRoom(Generic[_Guest]):
    """
    Connections whose first message is still to come: a limited number, shared
    fairly.  When all places are taken, the connection to give up is the one
    that has waited longest of the users who have most of them; so one user's
    silent connections never keep another user out, nor do those of many users
    who have one each.  A user who has places already gets no more of them than
    another keeps.

    @ivar limit: places, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # In order, each with its number: the first key has waited longest.
        self._guests: dict[int, dict[_Guest, int]] = {}
        self._numbers = count()
        self._taken = 0

    def __len__(self) -> int:
        return self._taken

    def enter(self, uid: int, guest: _Guest) -> _Guest | None:
        """
        Take a place.

        @param uid: the user by connect-time credentials.
        @return: who has to go for it, and has left the room already: C{guest}
            itself where its user has a place already, and nobody has more than
            that user would have; L{None} while there is room.
        """
        expelled = None
        if self._taken == self.limit:
            greediest = max(self._guests, key=self._claim)
            own = len(self._guests.get(uid, ()))
            if own and own + 1 >= len(self._guests[greediest]):
                return guest
            expelled = next(iter(self._guests[greediest]))
            self.leave(greediest, expelled)
        self._guests.setdefault(uid, {})[guest] = next(self._numbers)
        self._taken += 1
        return expelled

    def _claim(self, uid: int) -> tuple[int, int]:
        guests = self._guests[uid]
        return len(guests), -next(iter(guests.values()))

    def guests(self) -> list[_Guest]:
        """
        Who is in the room.
        """
        return [guest for guests in self._guests.values() for guest in guests]

    def leave(self, uid: int, guest: _Guest) -> None:
        """
        Give the place back; nothing for one who has none.
        """
        guests = self._guests.get(uid, {})
        if guest in guests:
            del guests[guest]
            self._taken -= 1
            if not guests:
                del self._guests[uid]


class UserSlots:
    """
    Connections of each user, of which there may be so many at once.

    @ivar limit: for one user, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def enter(self, uid: int) -> bool:
        """
        Take a slot, if there is one.
        """
        if self._taken[uid] >= self.limit:
            return False
        self._taken[uid] += 1
        return True

    def leave(self, uid: int) -> None:
        """
        Give back a slot that was taken.
        """
        self._taken[uid] -= 1
        if not self._taken[uid]:
            del self._taken[uid]
