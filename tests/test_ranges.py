"""
Tests for L{twisted_peercred.ranges}.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.ranges import Range, RangeIndex


class RangeIndexTests(SynchronousTestCase):
    """
    Tests for L{RangeIndex}.
    """

    def test_empty(self) -> None:
        """
        Without ranges a number is in none.
        """
        index = RangeIndex([])
        self.assertFalse(index)
        self.assertEqual(index[5], ())

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans())),
    )
    def test_everyNumber(self, drawn) -> None:
        """
        Each number finds the ranges that it is in, in order, to the first one
        after which nothing matters.
        """
        ranges = [
            Range(min(low, high), max(low, high), position, last)
            for position, (low, high, last) in enumerate(drawn)
        ]
        index = RangeIndex(ranges)
        self.assertEqual(bool(index), bool(ranges))
        for number in range(-1, 11):
            expected = []
            for each in ranges:
                if each.low <= number <= each.high:
                    expected.append(each.position)
                    if each.last:
                        break
            self.assertEqual(list(index[number]), expected)
