"""
What credentials cost: C{python benchmarks/run.py}, or C{make bench}, which
installs what is compared.

Each server is a process of its own, driven by plain sockets from this one; a
figure is CPU time of the server's process for one operation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from experiments import BUDGET, WORKS, available, crowd, memory
from figures import Figure
from measuring import IDLE, LOOPS, Bench
from processes import CountedServer, compileServer, raiseDescriptorLimit
from tables import asRST, asText, budgetRows, rowsOf, wrapperRows

#: Descriptors that a server needs for something else.
SPARE = 60


def where() -> str:
    """
    What was measured where, in a line.
    """
    versions = ", ".join(
        f"{name} {version(name)}"
        for name in ("Twisted", "uvloop", "cheroot")
        if find_spec(name.lower()) is not None
    )
    return (
        f"{platform.system()} {platform.release()} {platform.machine()},"
        f" {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}"
    )


def title(name: str) -> str:
    """
    Of a work's table.
    """
    return f"{name}: {(WORKS[name].__doc__ or '').strip()}"


def parse(arguments: list[str]) -> argparse.Namespace:
    """
    The command line.
    """
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Measure what credentials cost a server.",
        epilog="Works: "
        + "; ".join(
            f"{name}: {(each.__doc__ or '').strip()}" for name, each in WORKS.items()
        ),
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=WORKS,
        default=list(WORKS),
        metavar="WORK",
        help="measure these works alone",
    )
    parser.add_argument(
        "--reactor",
        nargs="+",
        choices=LOOPS,
        default=list(filter(available, LOOPS)),
        metavar="LOOP",
        help="on these alone: " + ", ".join(LOOPS),
    )
    parser.add_argument("--generations", type=int, default=5, help="of servers")
    parser.add_argument("--rounds", type=int, default=12, help="of each generation")
    parser.add_argument(
        "--quick", action="store_true", help="only see that it runs: figures are bad"
    )
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions of user space (valgrind) instead of CPU time",
    )
    parser.add_argument(
        "--apart",
        action="store_true",
        help="run the client on another CPU than the servers",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="FILE",
        help="show the figures of an earlier run too, of other works or loops",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write figures to it")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write tables to it")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """
    Measure, and show.
    """
    options = parse(arguments)
    if options.instructions and not shutil.which("valgrind"):
        raise SystemExit(
            "--instructions needs valgrind (Debian: apt-get install valgrind)"
        )
    # Where the scheduler puts the two costs a server more than most of what is
    # compared, so it is not asked.
    cpu, *others = sorted(os.sched_getaffinity(0))
    if options.apart and not others:
        raise SystemExit("--apart needs two CPUs")
    os.sched_setaffinity(0, {others[0] if options.apart else cpu})
    idle = min(IDLE, raiseDescriptorLimit() - SPARE)
    loops = tuple(options.reactor)
    figures: list[Figure] = []
    if options.beside:
        figures = Figure.ofDicts(json.loads(options.beside.read_text())["figures"])
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        directory = Path(name)
        compileServer(directory)
        if options.quick:
            bench = Bench(
                directory, loops, generations=1, rounds=1, scale=0.1, idle=1000, cpu=cpu
            )
        else:
            bench = Bench(
                directory,
                loops,
                options.generations,
                options.rounds,
                idle=idle,
                cpu=cpu,
            )
        if options.instructions:
            # They are all but the same each time.
            bench = replace(
                bench, generations=1, rounds=2, scale=0.2, server=CountedServer
            )
        for name in options.only:
            work = WORKS[name]
            if options.instructions and work in (crowd, memory):
                continue
            found = work(bench)
            figures += found
            print(asText(title(name), rowsOf(found)), flush=True)
    summary = [
        ("The budget", budgetRows(BUDGET, figures)),
        ("What is written today, and this", wrapperRows(figures)),
    ]
    for heading, rows in summary:
        print(asText(heading, rows))
    print(where())
    if options.rst:
        tables = [
            (title(name), rowsOf(measured))
            for name in WORKS
            if (measured := [each for each in figures if each.work == name])
        ]
        text = "\n".join(asRST(heading, rows) for heading, rows in summary + tables)
        options.rst.write_text(f"Measured on {where()}.\n\n{text}")
    if options.json:
        facts = {"where": where(), "figures": [each.asDict() for each in figures]}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
