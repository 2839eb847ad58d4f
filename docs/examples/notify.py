"""
Starts a program, and believes that it is ready when it says so itself
(sd_notify(3)), and nobody else.

    python3 notify.py SOCKET PROGRAM [ARGUMENT...]
"""

import os
import sys

from twisted.internet import protocol, reactor

from twisted_peercred import PeerProcessError
from twisted_peercred.datagrams import (
    CredentialedDatagramProtocol,
    listenCredentialedUNIXDatagram,
)


class Notifications(CredentialedDatagramProtocol):
    """
    Hears what anybody has to say.
    """

    def __init__(self, child):
        self.child = child

    def datagramReceivedFrom(self, data, address, credentials, process):
        if b"READY=1" not in data.split(b"\n"):
            return
        if self.isChild(process):
            print("ready", flush=True)
        else:
            print(f"not believed: uid={credentials.uid}", flush=True)

    def isChild(self, process):
        """
        Whether it is our child, or has been started by it, as systemd-notify
        is.  The numbers come from the sender's own process, at once, and the
        child's is no other's as long as it has not been reaped.
        """
        try:
            info = process.info() if process is not None else None
        except PeerProcessError:
            return False
        if info is None or self.child.transport.pid is None:
            return False
        child = self.child.transport.pid
        return (info.pid, info.parent) == (child, os.getpid()) or info.parent == child


class Child(protocol.ProcessProtocol):
    def processEnded(self, reason):
        print("ended", flush=True)
        reactor.stop()


if __name__ == "__main__":
    address, *command = sys.argv[1:]
    child = Child()
    listenCredentialedUNIXDatagram(
        reactor, address, Notifications(child), mode=0o600, processHandles=True
    )
    reactor.spawnProcess(
        child,
        command[0],
        command,
        env={**os.environ, "NOTIFY_SOCKET": address},
        childFDs={0: 0, 1: 1, 2: 2},
    )
    reactor.run()
