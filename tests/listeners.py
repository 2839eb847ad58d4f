"""
Servers in processes of their own, under users of their own, that never run a
line of Twisted's.
"""

from __future__ import annotations

import subprocess
import sys

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from .support import PRELUDE

#: What each starts with: be somebody, listen, say so.
LISTEN = """
# Later nothing may be to be imported any more.
import selectors, signal
uid, gid, kind = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if os.getuid() == 0:
    os.setgroups([gid + 1])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
server = socket.socket(socket.AF_UNIX, getattr(socket, "SOCK_" + kind.upper()))
server.bind(address)
if kind != "dgram":
    server.listen(1000)
"""

#: What one does that serves: take all that comes, and say what that was.
TAKE = """
print("ready", flush=True)
server.settimeout(60)
peer, _ = server.accept()
print(repr(readAll(peer)), flush=True)
"""

#: What one does that only listens.
WAIT = """
print("ready", flush=True)
sys.stdin.read()
"""


class Listener:
    """
    A server.

    @param case: the test that it lives for.
    @param user: the uid and gid to become, where this is root.
    @param kind: C{"stream"}, C{"seqpacket"} or C{"dgram"}.
    @param code: what it does once it listens.
    """

    def __init__(
        self,
        case,
        address: str,
        user: tuple[int, int],
        kind: str = "stream",
        code: str = WAIT,
    ) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", PRELUDE + LISTEN + code),
                *(address, *map(str, user), kind),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        case.addCleanup(self.process.__exit__, None, None, None)
        case.addCleanup(self.process.kill)

    def line(self) -> Deferred[str]:
        """
        What it prints next.
        """
        return deferToThread(self.process.stdout.readline)

    def end(self) -> None:
        """
        End it, and wait.
        """
        self.process.kill()
        self.process.wait()
