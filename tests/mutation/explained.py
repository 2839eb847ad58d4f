"""
Mutants that no test can notice, or none should, and why.
"""

from typing import NamedTuple


class Explained(NamedTuple):
    """
    @ivar module: as in L{tests.mutation.__main__.TESTS}.
    @ivar was: a part of the line that is mutated.
    @ivar operators: cosmic-ray's names for the mutations, a regular expression.
    """

    module: str
    was: str
    operators: str
    reason: str


EXPLAINED = (
    Explained(
        "limits",
        "if self._taken == self.limit:",
        "ReplaceComparisonOperator_Eq_GtE",
        "same: there are never more than the limit",
    ),
    Explained(
        "limits",
        "-next(iter(guests.values()))",
        "ReplaceUnaryOperator_USub_Invert",
        "same: ~n is -n - 1, which sorts alike",
    ),
    Explained(
        "limits",
        "if self._taken[uid] >= self.limit:",
        "ReplaceComparisonOperator_GtE_Eq",
        "same: there are never more than the limit",
    ),
)
