"""
The targets of C{make fuzz}, each with the inputs that are kept for it; and that
they notice mistakes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import arrival, checkers, forwarded, proxy, rules, strings
from twisted_peercred.commands import peers
from twisted_peercred.kernels import base, decoding, linux, procfs

from .fuzz.targets import CORPUS, TARGETS, corpus
from .support import openDescriptors


def nothing(*arguments: object) -> None:
    """
    Does not do it.
    """


async def everybody(policy: object, peer: object) -> bool:
    """
    Admits.
    """
    return True


def cgroup(data: bytes) -> str | None:
    """
    As it was, when a cgroup's name could end a line.
    """
    paths = {}
    for line in os.fsdecode(data).splitlines():
        number, controllers, path = line.split(":", 2)
        paths[controllers or number] = path
    return paths.get("name=systemd", paths.get("0"))


#: For each target a mistake in the package: where, and what is there instead.
MISTAKES = {
    "answers": (decoding, "NO_ID", 0),
    "bsd-messages": (base, "closeAll", nothing),
    "endpoints": (strings, "_quote", str),
    "endpoint-keywords": (strings, "_quote", str),
    "forwarded": (forwarded, "ip_address", lambda host: SimpleNamespace(version=4)),
    "greeting": (peers, "printable", str),
    "headers": (proxy, "_speaksForOthers", lambda folded: False),
    "linux-messages": (linux, "closeAll", nothing),
    "map": (checkers, "_admits", everybody),
    "policy": (rules.Rule, "holds", lambda self, identity: True),
    "processes": (procfs, "decodeCgroup", cgroup),
    "structures": (decoding, "NO_ID", 1002),
    "sync-word": (arrival, "closeAll", nothing),
}


class CorpusTests(SynchronousTestCase):
    """
    Tests for the targets.
    """

    def replay(self, name: str) -> None:
        """
        Give a target all of its inputs.
        """
        for each in corpus(name):
            try:
                TARGETS[name](each.read_bytes())
            except Exception as problem:
                raise AssertionError(f"{each.name}: {problem!r}") from problem

    def test_corpus(self) -> None:
        """
        No input that was ever of interest shows a mistake, or leaves a
        descriptor open.
        """
        before = openDescriptors()
        for name in TARGETS:
            self.replay(name)
        self.assertEqual(openDescriptors(), before)

    def test_mistakes(self) -> None:
        """
        With a mistake in the package each target fails on its inputs, so that
        it is no promise of nothing.
        """
        self.assertEqual(set(MISTAKES), set(TARGETS))
        for name, (place, attribute, instead) in MISTAKES.items():
            with patch.object(place, attribute, instead):
                self.assertRaises(AssertionError, self.replay, name)

    def test_inputs(self) -> None:
        """
        Every input belongs to a target, and all of them together are few and
        small.
        """
        self.assertEqual({each.name for each in CORPUS.iterdir()}, set(TARGETS))
        files = [each for each in CORPUS.rglob("*") if each.is_file()]
        self.assertTrue(len(files) < 100)
        self.assertTrue(all(each.stat().st_size <= 512 for each in files))

    def test_noFuzzer(self) -> None:
        """
        None of this needs a fuzzer to be installed.
        """
        self.assertNotIn("atheris", sys.modules)
        self.assertTrue(Path(CORPUS).is_dir())
