"""
A server in a process of its own, for tests that put it into another
namespace: C{python -m tests.serve ADDRESS CAPTURE [RULES]}.  Writes a line when it
listens, one for each peer, and one for each refusal.
"""

import json
import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    Policy,
)


class Telling(Protocol):
    """
    Writes down who the peer is, and lets it go.
    """

    def connectionMade(self) -> None:
        print(json.dumps(IPeerCredentials(self.transport).asDict()), flush=True)
        self.transport.loseConnection()


def tellRefusals(event) -> None:
    """
    A log observer.
    """
    if event.get("what") == "refused":
        print("refused", event["error"], flush=True)


def main() -> None:
    """
    Listen.
    """
    address, capture, *rules = sys.argv[1:]
    globalLogPublisher.addObserver(tellRefusals)
    factory = CredentialedUNIXServerFactory(
        Factory.forProtocol(Telling),
        capture=Capture(capture),
        policy=Policy.fromString(rules[0]) if rules else None,
    )
    reactor.listenUNIX(address, factory)
    print("ready", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
