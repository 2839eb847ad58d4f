"""
From bytes to choices, the same for the same bytes, with or without a fuzzer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Item = TypeVar("_Item")


class Choices:
    """
    Choices by the bytes of an input, in order.  When there are none left, each
    is the first or the least.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """
        Whether there are bytes left.
        """
        return self._at < len(self._data)

    def data(self, size: int) -> bytes:
        """
        So many bytes, or as many as there are.
        """
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def rest(self) -> bytes:
        """
        All that are left.
        """
        return self.data(len(self._data))

    def below(self, limit: int) -> int:
        """
        A number from 0, less than C{limit}, which is 256 or less.
        """
        return int.from_bytes(self.data(1), "little") % limit

    def one(self, items: Sequence[_Item]) -> _Item:
        """
        One of 256 or fewer.
        """
        return items[self.below(len(items))]

    def sized(self, limit: int) -> bytes:
        """
        Less than so many bytes.
        """
        return self.data(self.below(limit))
