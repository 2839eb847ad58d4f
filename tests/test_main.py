"""
Tests for L{twisted_peercred.__main__}.
"""

import io
import runpy
import subprocess
import sys

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

import twisted_peercred
from twisted_peercred.__main__ import Options, main
from twisted_peercred.commands import CommandFailed, CommandOptions

from .support import environment


class Say(usage.Options):
    """
    A command of the tests' own.
    """

    optParameters = [["word", "w", "", "What to say."]]

    def run(self) -> int:
        if self["word"] == "pipe":
            raise BrokenPipeError(32, "Broken pipe")
        if not self["word"]:
            raise CommandFailed("nothing to say: give --word")
        print(self["word"])
        return 3


class MainTests(SynchronousTestCase):
    """
    Tests for L{main}.
    """

    def setUp(self) -> None:
        self.patch(Options, "subCommands", [["say", None, Say, "Say a word."]])
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.stdout)
        self.patch(sys, "stderr", self.stderr)

    def test_command(self) -> None:
        """
        A command gets its options, and its status is the program's.
        """
        self.assertEqual(main(["say", "--word", "hello"]), 3)
        self.assertEqual(self.stdout.getvalue(), "hello\n")

    def test_ownArguments(self) -> None:
        """
        Without arguments the process's own are taken.
        """
        self.patch(sys, "argv", ["peercred", "say", "--word", "hello"])
        self.assertEqual(main(), 3)

    def test_program(self) -> None:
        """
        As a program it ends with the status of its command.
        """
        self.patch(sys, "argv", ["peercred", "nothing-of-the-kind"])
        # As in a process where nobody has imported it.
        module = sys.modules.pop(main.__module__)
        self.addCleanup(sys.modules.__setitem__, main.__module__, module)
        ended = self.assertRaises(
            SystemExit, runpy.run_module, "twisted_peercred", run_name="__main__"
        )
        self.assertEqual(ended.code, 1)
        self.assertIn("nothing-of-the-kind", self.stderr.getvalue())

    def test_failures(self) -> None:
        """
        A mistake or a failure is one line, and status 1.
        """
        for arguments, line in (
            (["say"], "nothing to say: give --word"),
            ([], "which command? see --help"),
            (["dance"], "Unknown command: dance"),
            (["say", "--nonsense"], "option --nonsense not recognized"),
        ):
            self.stderr.truncate(self.stderr.seek(0))
            self.assertEqual(main(arguments), 1)
            self.assertEqual(self.stderr.getvalue(), f"peercred: {line}\n")

    def test_brokenPipe(self) -> None:
        """
        A reader that has seen enough is told nothing more.
        """
        self.assertEqual(main(["say", "--word", "pipe"]), 1)
        self.assertEqual(self.stderr.getvalue(), "")

    def test_version(self) -> None:
        """
        C{--version} says which this is.
        """
        with self.assertRaises(SystemExit) as raised:
            main(["--version"])
        self.assertEqual(raised.exception.code, 0)
        self.assertEqual(
            self.stdout.getvalue(),
            f"twisted_peercred {twisted_peercred.__version__}\n",
        )

    def test_versionOfCommand(self) -> None:
        """
        A command says the same, and not Twisted's.
        """

        class Silent(CommandOptions):
            pass

        self.patch(Options, "subCommands", [["say", None, Silent, "Say a word."]])
        with self.assertRaises(SystemExit) as raised:
            main(["say", "--version"])
        self.assertEqual(raised.exception.code, 0)
        self.assertIn("twisted_peercred ", self.stdout.getvalue())


class ProgramTests(SynchronousTestCase):
    """
    Tests for the program as a user runs it.
    """

    def test_help(self) -> None:
        """
        C{python -m twisted_peercred --help} shows how it is used.
        """
        done = subprocess.run(
            [sys.executable, "-m", "twisted_peercred", "--help"],
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("peercred COMMAND", done.stdout)
