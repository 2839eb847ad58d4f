"""
Lets root in at any time and others from nine to five, by a policy that is not
made of rules.

    python3 officehours.py app.sock
"""

import sys
import time

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_peercred import CredentialedUNIXServerFactory, IPeerPolicy
from twisted_peercred.policy import Decision


@implementer(IPeerPolicy)
class OfficeHours:
    async def decide(self, identity):
        if identity.uid == 0:
            return Decision(True, "root")
        # A database that answers with a Deferred could be awaited here.
        return Decision(9 <= time.localtime().tm_hour < 17, "office hours")


class Welcome(Protocol):
    def connectionMade(self):
        self.transport.write(b"come in\n")
        self.transport.loseConnection()


if __name__ == "__main__":
    factory = CredentialedUNIXServerFactory(
        Factory.forProtocol(Welcome), policy=OfficeHours()
    )
    reactor.listenUNIX(sys.argv[1], factory)
    reactor.run()
