"""
C{python -m twisted_peercred}, installed as C{peercred} too: what the kernel
says about peers, from a shell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import cast

from twisted.python import usage

from . import __version__
from .commands import (
    Command,
    CommandFailed,
    attach,
    explain,
    platform,
    whoami,
    whois,
)
from .errors import visible


class Options(usage.Options):
    """
    Which command, and what it is to do.
    """

    synopsis = "Usage: peercred COMMAND [options]"
    longdesc = (
        "What the kernel says about the peers of Unix-domain sockets.  Each command"
        " teaches itself by --help."
    )
    subCommands: list[list[object]] = [
        ["attach", None, attach.Options, "Use a manhole from this terminal."],
        ["explain", None, explain.Options, "Which rule of a policy decides, and why."],
        ["platform", None, platform.Options, "What this kernel says about peers."],
        ["whoami", None, whoami.Options, "How a server sees whoever calls it."],
        ["whois", None, whois.Options, "Who listens on a socket."],
    ]

    def opt_version(self) -> None:
        """
        Print the version, and exit.
        """
        print(f"twisted_peercred {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise usage.UsageError("which command? see --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    @param arguments: the command line's words; this process's own, if L{None}.
    @return: the exit status: C{1} for a mistake or a failure, after one line on
        stderr.
    """
    options = Options()
    try:
        options.parseOptions(sys.argv[1:] if arguments is None else arguments)
        return cast(Command, options.subOptions).run()
    except (usage.UsageError, CommandFailed) as problem:
        print(f"peercred: {visible(str(problem))}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        return 1


if __name__ == "__main__":
    sys.exit(main())
