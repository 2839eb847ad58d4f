"""
The page on security names a test for each of its rows, and each of them is
there.
"""

import re
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase, TestCase

from twisted_peercred import Capture

PAGE = Path(__file__).resolve().parent.parent / "docs" / "security.rst"
TRAPS = [*(f"K{number}" for number in range(1, 17)), "K12a"]
MOVES = [f"A{number}" for number in range(1, 16)]


def rows() -> list[tuple[str, list[str]]]:
    """
    Of each row of the tables, what it is called and the tests that it names.
    """
    found = []
    for text in re.split(r"^   \* -", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        # A table ends where the text is not indented any more.
        text = re.split(r"\n(?=\S)", text)[0]
        name = text.partition("\n")[0].strip()
        if "Staged by" not in text:
            found.append((name, re.findall(r"\| ``([\w.]+)``", text)))
    return found


class SecurityPageTests(SynchronousTestCase):
    """
    Tests for C{docs/security.rst}.
    """

    def test_everyThreat(self) -> None:
        """
        No threat of the model is without a row, and no capture.
        """
        names = [name for name, _ in rows()]
        captures = [f"``{each.name}``" for each in Capture]
        self.assertEqual({*TRAPS, *MOVES, *captures} - set(names), set())

    def test_everyRowNamesTests(self) -> None:
        """
        Each row names tests, and each of them is one that runs.
        """
        for name, tests in rows():
            self.assertNotEqual(tests, [], name)
            for test in tests:
                case, _, method = f"tests.{test}".rpartition(".")
                self.assertTrue(callable(getattr(namedAny(case), method)), test)
                self.assertTrue(
                    issubclass(namedAny(case), (SynchronousTestCase, TestCase)), test
                )
                self.assertTrue(method.startswith("test"), test)
