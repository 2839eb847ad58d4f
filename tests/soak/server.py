"""
The server of a soak: C{python -m tests.soak.server REACTOR DIRECTORY}.  One
socket a capture in the directory, named after it; a policy that is loaded anew
from its file again and again.  Answers each line on stdin with what it has open.
"""

import gc
import json
import os
import sys

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorAlreadyInstalledError
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineReceiver
from twisted.python.reflect import namedAny
from zope.interface import implementer

#: Everybody but the last; and the same but for one of them, by a group.
POLICIES = ["!uid/2007,uid/2000-2006,!any", "gid/3000-3005,!any"]


def install(name: str) -> None:
    """
    Have the reactor of that module.
    """
    try:
        namedAny(name).install()
    except ReactorAlreadyInstalledError as problem:
        raise SystemExit(f"{name}: {problem}") from problem


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Says who the peer is, then echoes, all of it.
    """

    def connectionMade(self) -> None:
        from twisted_peercred import IPeerCredentials

        peer = IPeerCredentials(self.transport)
        self.transport.write(f"{peer.uid} {peer.gid} {peer.pid}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


class Counts(LineReceiver):
    """
    Tells what is open.
    """

    delimiter = b"\n"

    def __init__(self, reactor, factories, kinds) -> None:
        self.reactor = reactor
        self.factories = factories
        self.kinds = kinds

    def lineReceived(self, line: bytes) -> None:
        gc.collect()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        counts = {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "delayedCalls": len(self.reactor.getDelayedCalls()),
            "readers": len(self.reactor.getReaders()),
            "connections": sum(
                isinstance(each, self.kinds) for each in gc.get_objects()
            ),
            "KiB": pages * os.sysconf("SC_PAGESIZE") // 1024,
            "waiting": sum(len(each._waiting) for each in self.factories),
            "users": sum(len(each._slots) for each in self.factories),
        }
        self.transport.write(json.dumps(counts).encode() + b"\n")

    def connectionLost(self, reason) -> None:
        self.reactor.stop()


def main() -> None:
    """
    Serve.
    """
    name, directory = sys.argv[1:]
    install(name)
    from twisted.internet import reactor
    from twisted.internet.task import LoopingCall

    from twisted_peercred import Capture, CredentialedUNIXServerFactory
    from twisted_peercred.arrival import Arrival
    from twisted_peercred.policyfile import PolicyFile
    from twisted_peercred.transport import CredentialedServer

    path = os.path.join(directory, "rules")

    def write() -> None:
        with open(path + ".new", "w") as file:
            file.write(POLICIES[0])
        os.replace(path + ".new", path)
        POLICIES.reverse()

    write()
    policy = PolicyFile(path)

    def reload() -> Deferred:
        write()
        return policy.reload()

    wrapped = Factory.forProtocol(Echo)
    wrapped.noisy = False
    factories = []
    for capture in Capture:
        factories.append(
            CredentialedUNIXServerFactory(
                wrapped,
                capture=capture,
                policy=policy,
                timeout=2,
                maxUnidentified=64,
                maxPerUID=20,
                syncWord=b"sync",
            )
        )
        reactor.listenUNIX(os.path.join(directory, capture.value), factories[-1])
    LoopingCall(reload).start(0.1)
    kinds = (Arrival, CredentialedServer, Echo)
    StandardIO(Counts(reactor, factories, kinds))
    reactor.run()


if __name__ == "__main__":
    main()
