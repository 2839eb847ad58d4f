"""
C{python -m tests.mutation [--jobs N] [--scratch DIR] [MODULE...]}: breaks each
module in every way that cosmic-ray knows, one at a time, in a copy of the
checkout, and has its tests find out.  Fails if they find fewer than nine in ten
in a module, or if one that they missed is not explained in
L{tests.mutation.explained}.
"""

import argparse
import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

from .explained import EXPLAINED

ROOT = Path(__file__).parents[2]
#: In percent.
FLOOR = 90
#: In which each module's mutants are dealt out, to be tried beside each other.
PARTS = 4
#: Which tests each module is left to, the quickest first.  Where nothing is said,
#: all are tried but those that take their time.
SLOW = {"arrival"}
TESTS = {
    "limits": "limits",
    "policy": "policy policyfile ranges",
    "rules": "policy",
    "kernels/linux": "linux",
    "server": "admission server",
    "arrival": "process admission server threats",
}


class Survivor(NamedTuple):
    """
    A mutant that no test noticed.
    """

    line: int
    was: str
    became: str
    operator: str
    reason: str | None


class Outcome(NamedTuple):
    """
    What became of a module's mutants.
    """

    module: str
    mutants: int
    survivors: list[Survivor]
    seconds: float

    @property
    def score(self) -> float:
        return 100 * (1 - len(self.survivors) / self.mutants)

    @property
    def good(self) -> bool:
        return self.score >= FLOOR and all(each.reason for each in self.survivors)


def joined(parts: list[Outcome]) -> Outcome:
    """
    A module's outcome.
    """
    return Outcome(
        parts[0].module,
        sum(each.mutants for each in parts),
        sorted(survivor for each in parts for survivor in each.survivors),
        sum(each.seconds for each in parts),
    )


def neverEvaluated(tree: ast.AST) -> Iterator[ast.expr]:
    """
    Annotations, which are text at run time, and so nothing that could break.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            yield node.returns


def choose(session: WorkDB, source: Path, part: int) -> None:
    """
    Leave out the mutants that differ in an annotation only, and those of other
    parts.
    """
    spans = [
        ((each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset))
        for each in neverEvaluated(ast.parse(source.read_text()))
    ]
    items = sorted(
        (each.start_pos, each.operator_name, each.occurrence, item.job_id)
        for item in session.work_items
        for each in item.mutations
    )
    for number, (at, _, _, job) in enumerate(items):
        other = number % PARTS != part
        if other or any(start <= at < end for start, end in spans):
            session.set_result(job, WorkResult(WorkerOutcome.SKIPPED))


def changed(diff: str, sign: str) -> str:
    """
    The lines that a diff takes out, or puts in.
    """
    lines = re.findall(rf"^\{sign}(?!\{sign})(.*)", diff, re.M)
    return " ".join(each.strip() for each in lines)


def survivors(module: str, session: WorkDB) -> Iterator[Survivor]:
    """
    Those that no test noticed, by line.
    """
    for item, result in session.completed_work_items:
        if result.test_outcome is TestOutcome.SURVIVED:
            mutation = item.mutations[0]
            operator = mutation.operator_name.partition("/")[2]
            was, became = changed(result.diff, "-"), changed(result.diff, "+")
            reason = next(
                (
                    each.reason
                    for each in EXPLAINED
                    if each.module == module
                    and each.was in was
                    and re.fullmatch(each.operators, operator)
                    and re.search(each.became, became)
                ),
                None,
            )
            yield Survivor(mutation.start_pos[0], was, became, operator, reason)


def mutate(module: str, part: int, scratch: Path) -> Outcome:
    """
    Run a module's tests with each mutant of a part.
    """
    began = time.monotonic()
    copy = scratch / f"{module.replace('/', '-')}-{part}"
    shutil.rmtree(copy, ignore_errors=True)
    for each in ("twisted_peercred", "twisted", "tests", "docs"):
        shutil.copytree(
            ROOT / each, copy / each, ignore=shutil.ignore_patterns("__pycache__")
        )
    source = Path("twisted_peercred", f"{module}.py")
    tests = " ".join(f"tests.test_{each}" for each in TESTS[module].split())
    command = f"{shlex.quote(sys.executable)} -m twisted.trial -x {tests}"
    # So that hypothesis tries the same in each run.
    environment = {**os.environ, "CI": "1", "PYTHONPATH": str(copy)}

    def run(*arguments: str) -> None:
        done = subprocess.run(
            arguments, cwd=copy, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{module}: {arguments}:\n{done.stdout}{done.stderr}")

    # All but the module are compiled once.
    run(sys.executable, "-m", "compileall", "-q", ".")
    for each in copy.joinpath(source).parent.glob(f"__pycache__/{source.stem}.*"):
        each.unlink()
    started = time.monotonic()
    run(*shlex.split(command))
    limit = 5 + 3 * (time.monotonic() - started)
    copy.joinpath("mutation.toml").write_text(
        textwrap.dedent(
            f"""\
            [cosmic-ray]
            module-path = "{source}"
            timeout = {limit}
            excluded-modules = []
            test-command = '''{command}'''
            [cosmic-ray.distributor]
            name = "local"
            """
        )
    )
    ray = (sys.executable, "-m", "cosmic_ray.cli")
    run(*ray, "init", "mutation.toml", "session.sqlite")
    with use_db(str(copy / "session.sqlite")) as session:
        choose(session, copy / source, part)
    run(*ray, "exec", "mutation.toml", "session.sqlite")
    with use_db(str(copy / "session.sqlite")) as session:
        mutants = sum(
            result.worker_outcome is WorkerOutcome.NORMAL
            for _, result in session.completed_work_items
        )
        missed = sorted(survivors(module, session))
    return Outcome(module, mutants, missed, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutation")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, default=ROOT / "build/mutation")
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    options = parser.parse_args()
    modules = options.modules or [each for each in TESTS if each not in SLOW]
    outcomes = []
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = {
            module: [
                pool.submit(mutate, module, part, options.scratch.resolve())
                for part in range(PARTS)
            ]
            for module in modules
        }
        for module, parts in futures.items():
            outcome = joined([part.result() for part in parts])
            outcomes.append(outcome)
            for each in outcome.survivors:
                print(
                    f"{module}.py:{each.line}: {each.operator}:"
                    f" {each.reason or 'NOT EXPLAINED'}\n"
                    f"    - {each.was}\n    + {each.became}",
                    flush=True,
                )
    print(f"\n{'module':<15}{'mutants':>8}{'killed':>8}{'score':>8}{'minutes':>9}")
    for each in outcomes:
        killed = each.mutants - len(each.survivors)
        print(
            f"{each.module:<15}{each.mutants:>8}{killed:>8}{each.score:>7.1f}%"
            f"{each.seconds / 60:>9.1f}"
        )
    return 0 if all(each.good for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
