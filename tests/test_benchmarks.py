"""
The benchmarks run, and count what they say they count.  What they measure is
not tested: that is for a quiet machine.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from .support import environment

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"


class RunTests(TestCase):
    """
    Tests for C{benchmarks/run.py}.
    """

    def test_quick(self) -> None:
        """
        A run starts its servers, measures each of them, compares them round by
        round and writes the figures and the tables.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        done = subprocess.run(
            [
                *(sys.executable, RUN, "--quick", "--reactor", "epoll"),
                *("--only", "connection", "memory"),
                *("--json", directory / "figures.json"),
                *("--rst", directory / "tables.rst"),
            ],
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("policy of 1,000", done.stdout)
        facts = json.loads((directory / "figures.json").read_text())
        measured = {
            (each["work"], each["variant"]): each["samples"]
            for each in facts["figures"]
        }
        for variant in ("stock", "wrapper", "CONNECT", "FIRST_MESSAGE"):
            self.assertIn(("memory", variant), measured)
            self.assertTrue(min(measured["connection", variant]) > 0)
        for figure in facts["figures"]:
            if figure["work"] == "connection" and figure["comparedWith"]:
                base = measured["connection", figure["comparedWith"]]
                ratios = map(float.__truediv__, figure["samples"], base)
                self.assertEqual(figure["ratio"]["middle"], statistics.median(ratios))
        tables = (directory / "tables.rst").read_text()
        self.assertEqual(tables.count(".. list-table::"), 4)
        self.assertIn(os.uname().release, tables)

    def test_beside(self) -> None:
        """
        The figures of an earlier run are shown beside those of this one, with
        what they were compared with.
        """
        directory = Path(self.mktemp())
        directory.mkdir()
        figures = directory / "figures.json"
        tables = directory / "tables.rst"
        for reactor, *beside in (("epoll",), ("asyncio", "--beside", figures)):
            done = subprocess.run(
                [
                    *(sys.executable, RUN, "--quick", "--reactor", reactor),
                    *("--only", "echo", "--json", figures, "--rst", tables, *beside),
                ],
                env=environment(),
                capture_output=True,
                text=True,
            )
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        facts = json.loads(figures.read_text())["figures"]
        compared = {
            (each["loop"], each["variant"]): each["comparedWith"] for each in facts
        }
        for loop in ("epoll", "asyncio"):
            self.assertIsNone(compared[loop, "stock"])
            self.assertEqual(compared[loop, "CONNECT"], "stock")
        self.assertIn("     - epoll\n     - asyncio\n", tables.read_text())
