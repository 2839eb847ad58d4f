"""
C{python -m tests.soak [--minutes N]}: eight users on two reactors.  Fails if one
identity was wrong, or if anything is left over.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REACTORS = (
    "twisted.internet.epollreactor",
    "twisted.internet.asyncioreactor",
)
USERS = range(2000, 2008)
HERE = Path(__file__).parent
#: How much more there may be afterwards; of anything else there may be none.  A
#: delayed call of each factory will tell of refusals that were left out.
ALLOWED = {"KiB": 8 * 1024, "delayedCalls": 3}


class Server:
    """
    A server in a process of its own.
    """

    def __init__(self, reactor: str, directory: str) -> None:
        self.reactor = reactor
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.server", reactor, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def counts(self) -> dict[str, int]:
        """
        What it has open.
        """
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def settled(self) -> dict[str, int]:
        """
        The same, when all connections have come to their end.
        """
        for _ in range(100):
            if not self.counts()["connections"]:
                break
            time.sleep(0.1)
        # A policy that is being loaded has files open for a moment.
        return min(
            (self.counts() for _ in range(20)), key=lambda each: each["descriptors"]
        )

    def stop(self) -> None:
        """
        End it.
        """
        self._process.stdin.close()
        self._process.wait()


def users(seconds: float, directories: list[str]) -> collections.Counter[str]:
    """
    Have all users at the servers at once.

    @return: what came of it.
    """
    command = [sys.executable, "-I", "-S", str(HERE / "client.py")]
    running = [
        subprocess.Popen(
            [*command, str(uid), str(seconds), *directories],
            stdout=subprocess.PIPE,
            text=True,
        )
        for uid in USERS
    ]
    counts: collections.Counter[str] = collections.Counter()
    for each in running:
        output, _ = each.communicate()
        if each.returncode:
            raise SystemExit(f"a client failed with status {each.returncode}")
        counts.update(json.loads(output))
    return counts


def soak(minutes: float) -> bool:
    """
    @return: whether all was as it should be.
    """
    directories = [tempfile.mkdtemp(prefix="soak") for _ in REACTORS]
    for each in directories:
        os.chmod(each, 0o755)
    servers = list(map(Server, REACTORS, directories))
    try:
        for server in servers:
            # It answers when it listens.
            server.counts()
        # What a first run allocates for good does not count.
        users(min(20, minutes * 6), directories)
        before = [server.settled() for server in servers]
        counts = users(minutes * 60, directories)
        after = [server.settled() for server in servers]
    finally:
        for server in servers:
            server.stop()
    good = not counts["wrong"] and counts["identified"] > 0
    print(f"{minutes:g} minutes, {len(USERS)} users:")
    for name, count in sorted(counts.items()):
        print(f"  {name:14}{count:>12,}")
    for server, old, new in zip(servers, before, after, strict=True):
        print(f"{server.reactor}:")
        for name in old:
            more = new[name] - old[name]
            kept = abs(more) <= ALLOWED.get(name, 0) or (name == "KiB" and more < 0)
            good = good and kept
            print(
                f"  {name:14}{old[name]:>12,}{new[name]:>12,}"
                + ("" if kept else "  <- left over")
            )
    print("all good" if good else "NOT as it should be")
    return good


def main() -> int:
    """
    The command.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    options = parser.parse_args()
    if os.geteuid():
        print("a soak needs root: its clients are eight users", file=sys.stderr)
        return 1
    return 0 if soak(options.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
