"""
Which of many ranges a number is in.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Range(NamedTuple):
    """
    @ivar low: the first number of it.
    @ivar high: the last.
    @ivar position: what it is known by; ranges have different ones.
    @ivar last: whether ranges of greater position do not matter for a number
        that is in this one.
    """

    low: int
    high: int
    position: int
    last: bool


class RangeIndex:
    """
    Finds the positions of the ranges that a number is in by bisection.

    Takes memory by the number of ranges, and more only for those that overlap
    without one of them being the last.
    """

    __slots__ = ("_bounds", "_positions")

    def __init__(self, ranges: Iterable[Range]) -> None:
        changes: dict[int, list[int]] = defaultdict(list)
        last = set()
        for each in ranges:
            changes[each.low].append(each.position)
            changes[each.high + 1].append(each.position)
            if each.last:
                last.add(each.position)
        self._bounds = sorted(changes)
        self._positions: list[Sequence[int]] = [()]
        inside: list[int] = []
        for bound in self._bounds:
            for position in changes[bound]:
                place = bisect_left(inside, position)
                if inside[place : place + 1] == [position]:
                    del inside[place]
                else:
                    inside.insert(place, position)
            matter = []
            for position in inside:
                matter.append(position)
                if position in last:
                    break
            self._positions.append(tuple(matter))

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __getitem__(self, number: int) -> Sequence[int]:
        """
        Positions in ascending order.
        """
        return self._positions[bisect_right(self._bounds, number)]
