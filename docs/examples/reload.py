"""
Lets in whom a file says, and reads it again at SIGHUP.

    echo self > rules
    python3 reload.py app.sock rules
    kill -HUP PID
"""

import signal
import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.python import log

from twisted_peercred import CredentialedUNIXServerFactory
from twisted_peercred.policyfile import PolicyFile
from twisted_peercred.signals import SignalService


class Welcome(Protocol):
    def connectionMade(self):
        self.transport.write(b"come in\n")
        self.transport.loseConnection()


if __name__ == "__main__":
    # What is wrong with a file, and who is refused.
    log.startLogging(sys.stderr)
    policy = PolicyFile(sys.argv[2])
    factory = CredentialedUNIXServerFactory(
        Factory.forProtocol(Welcome), policy=policy, maxPerUID=20
    )
    SignalService(signal.SIGHUP, policy.reload).startService()
    reactor.listenUNIX(sys.argv[1], factory)
    reactor.run()
