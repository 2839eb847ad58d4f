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
    Explained(
        "policy",
        "@dataclass(frozen=True, slots=True)",
        "ReplaceTrueWithFalse",
        "memory alone, and that a policy's own note of a user is frozen, which"
        " nobody else sees; a test holds that a decision is",
    ),
    Explained(
        "policy",
        "len(each.conditions) == 1 and isinstance(each.conditions[0], _CERTAIN)",
        "NumberReplacer|ReplaceComparisonOperator_Eq_(Is|Lt|LtE)",
        "speed: a rule that is certain is looked at again, which decides the same;"
        " and one condition is the first and the last, no rule has none",
    ),
    Explained(
        "policy",
        "alone = len(rule.conditions) == 1",
        "ReplaceComparisonOperator_Eq_(Is|LtE)",
        "same: no rule has no condition, and CPython has each small int once",
    ),
    Explained(
        "policy",
        "type(self) is type(other)",
        "ReplaceComparisonOperator_Is_Eq",
        "same: classes are equal where they are the same",
    ),
    Explained(
        "kernels/linux",
        "= 256",
        "NumberReplacer",
        "memory: one answer more or less is kept",
    ),
    Explained(
        "kernels/linux",
        "len(self._kept) >= KEPT",
        "ReplaceComparisonOperator_GtE_(Eq|Is)",
        "same: there are never more, and CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "len(data) != UCRED_SIZE",
        "ReplaceComparisonOperator_NotEq_IsNot",
        "same: CPython has each small int once",
    ),
    Explained(
        "kernels/linux",
        "if uid == NO_ID or gid == NO_ID:",
        "ReplaceComparisonOperator_Eq_GtE",
        "same: a u32 is no greater",
    ),
    Explained(
        "kernels/linux",
        "self._kept.get((ancillary[0], capture))",
        "NumberReplacer",
        "same: there is one, the first and the last",
    ),
    Explained(
        "kernels/linux",
        "if pid == uid == gid == 0:",
        "ReplaceComparisonOperator_Eq_LtE",
        "same: a u32 is no less",
    ),
)
