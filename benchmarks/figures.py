"""
What measurements come to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Spread:
    """
    The median of some numbers and the quartiles around it.
    """

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: list[float]) -> Spread:
        """
        The spread of one number or more.
        """
        if len(numbers) == 1:
            numbers = numbers * 2
        low, _, high = quantiles(numbers, n=4, method="inclusive")
        return cls(median(numbers), low, high)


@dataclass
class Figure:
    """
    What one variant takes for one operation of one work.

    @ivar samples: one number a round.
    @ivar base: the figure that this one is compared with, round by round, so
        that what disturbs a round disturbs both.
    """

    work: str
    loop: str
    variant: str
    unit: str
    base: Figure | None = None
    samples: list[float] = field(default_factory=list)

    @property
    def cost(self) -> Spread:
        """
        Of one operation, in C{unit}.
        """
        return Spread.of(self.samples)

    @property
    def ratio(self) -> Spread:
        """
        To the figure it is compared with; itself, if none.
        """
        base = self if self.base is None else self.base
        return Spread.of(
            [
                mine / theirs
                for mine, theirs in zip(self.samples, base.samples, strict=True)
            ]
        )

    def asDict(self) -> dict[str, object]:
        """
        Plain types, for JSON.
        """
        return {
            "work": self.work,
            "loop": self.loop,
            "variant": self.variant,
            "unit": self.unit,
            "cost": vars(self.cost),
            "ratio": vars(self.ratio),
            "comparedWith": None if self.base is None else self.base.variant,
            "samples": self.samples,
        }

    @classmethod
    def ofDicts(cls, facts: list[dict[str, Any]]) -> list[Figure]:
        """
        Figures again, of what L{asDict} made of them.
        """
        names = ("work", "loop", "variant", "unit")
        figures = {
            (each["work"], each["loop"], each["variant"]): cls(
                *(each[name] for name in names), samples=each["samples"]
            )
            for each in facts
        }
        for each, figure in zip(facts, figures.values(), strict=True):
            figure.base = figures.get((figure.work, figure.loop, each["comparedWith"]))
        return list(figures.values())


@dataclass(frozen=True)
class Limit:
    """
    A row of the budget: what a ratio may be, on epoll.
    """

    work: str
    variant: str
    limit: float

    def find(self, figures: list[Figure]) -> Figure | None:
        """
        The figure it is about, if that was measured; of several, which are
        named C{VARIANT, SO MANY idle}, the last.
        """
        found = None
        for figure in figures:
            if (figure.work, figure.loop) == (self.work, "epoll") and (
                figure.variant.partition(", ")[0] == self.variant
            ):
                found = figure
        return found
