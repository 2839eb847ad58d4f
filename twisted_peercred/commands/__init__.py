"""
The commands of C{python -m twisted_peercred}: a module each, with a
L{twisted.python.usage.Options} that is also a L{Command}.
"""

from __future__ import annotations

from typing import Protocol


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
