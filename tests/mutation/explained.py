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


EXPLAINED: tuple[Explained, ...] = ()
