"""
The soak itself, for a moment.
"""

import subprocess
import sys
from unittest import skipIf

from twisted.internet.threads import deferToThread

from .support import LiveTestCase, environment, needsLongRun, needsRoot


class SoakTests(LiveTestCase):
    """
    Tests for C{make soak}.
    """

    @skipIf(needsRoot, needsRoot)
    @skipIf(needsLongRun, needsLongRun)
    async def test_soak(self) -> None:
        """
        Eight users do everything at once to two reactors: nobody is taken for
        somebody else, and nothing is left over.
        """
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-m", "tests.soak", "--minutes", "0.1"],
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("all good", done.stdout)
