"""
Figures as text for a terminal and as reStructuredText.
"""

from __future__ import annotations

from collections.abc import Iterable

from figures import Figure, Limit, Spread


def _cost(figure: Figure) -> str:
    middle = figure.cost.middle
    if figure.unit == "bytes":
        return f"{middle:,.0f} B"
    if figure.unit == "instructions":
        return f"{middle:,.0f}"
    return f"{middle:.1f} µs"


def _ratio(spread: Spread) -> str:
    return f"{spread.middle:.2f} ({spread.low:.2f}-{spread.high:.2f})"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.base is None:
        return _cost(figure)
    return f"{_cost(figure)}  {_ratio(figure.ratio)}"


def rowsOf(figures: Iterable[Figure]) -> list[list[str]]:
    """
    A table of one work: a row a variant, a column a loop.
    """
    figures = list(figures)
    loops = list(dict.fromkeys(each.loop for each in figures))
    cells = {(each.variant, each.loop): each for each in figures}
    return [
        ["", *loops],
        *(
            [variant, *(_cell(cells.get((variant, loop))) for loop in loops)]
            for variant in dict.fromkeys(each.variant for each in figures)
        ),
    ]


def budgetRows(limits: Iterable[Limit], figures: list[Figure]) -> list[list[str]]:
    """
    A table of the budget: what was measured of it.
    """
    rows = [["on epoll", "", "at most", "measured", ""]]
    for limit in limits:
        figure = limit.find(figures)
        if figure is not None:
            ratio = figure.ratio
            verdict = "met" if ratio.middle <= limit.limit else "MISSED"
            rows.append(
                [
                    limit.work,
                    limit.variant,
                    f"{limit.limit:.2f}",
                    f"{ratio.middle:.3f} ({ratio.low:.3f}-{ratio.high:.3f})",
                    verdict,
                ]
            )
    return rows


def wrapperRows(figures: list[Figure]) -> list[list[str]]:
    """
    A table of what is written today and what takes its place.
    """
    names = {"wrapper": "CONNECT", "unix: and wrapper": "peercred:unix:"}
    cells = {(each.work, each.loop, each.variant): each for each in figures}
    rows = [["", "", "wrapper", "CONNECT", ""]]
    for (work, loop, variant), wrapper in cells.items():
        ours = cells.get((work, loop, names.get(variant, "")))
        if ours is not None:
            ratios = wrapper.ratio.middle, ours.ratio.middle
            verdict = "cheaper" if ratios[1] < ratios[0] else "NOT CHEAPER"
            rows.append([work, loop, *(f"{each:.2f}" for each in ratios), verdict])
    return rows


def asText(title: str, rows: list[list[str]]) -> str:
    """
    Columns that stand under each other.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [title]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def asRST(title: str, rows: list[list[str]]) -> str:
    """
    A C{list-table}.
    """
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for row in rows:
        for position, cell in enumerate(row):
            lines.append(("   * - " if position == 0 else "     - ") + cell)
    return "\n".join(line.rstrip() for line in lines) + "\n"
