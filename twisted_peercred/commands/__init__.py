"""
The commands of C{python -m twisted_peercred}: a module each, with a
L{twisted.python.usage.Options} that is also a L{Command}.
"""

from __future__ import annotations

from typing import Protocol

from twisted.python import usage

from .. import __version__


class CommandFailed(Exception):
    """
    A command cannot do what it was asked.  Its text is one line for the user:
    what, and what to do about it.
    """


class Command(Protocol):
    """
    What a command's options can do once they are parsed.
    """

    def run(self) -> int:
        """
        Do it, and print what it gives.

        @return: the exit status.
        @raise CommandFailed: it cannot be done.
        """


class CommandOptions(usage.Options):
    """
    The options of a command.

    @cvar words: what its name is followed by.
    @cvar example: what the usage text teaches by.
    """

    words = ""
    example = ""

    def getSynopsis(self) -> str:
        # usage.Options would put the program's own before it.
        name = type(self).__module__.rpartition(".")[2]
        return f"Usage: peercred {name} {self.words}"

    def getUsage(self, width: int | None = None) -> str:
        # usage.Options would fill its longdesc into one paragraph.
        return super().getUsage(width) + self.example

    def opt_version(self) -> None:
        """
        Print the version, and exit.
        """
        print(f"twisted_peercred {__version__}")
        raise SystemExit(0)
