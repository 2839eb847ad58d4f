"""
Tells everybody who connects who they are.

    python3 whoareyou.py
"""

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from twisted_peercred import CredentialedUNIXServerFactory, IPeerCredentials


class WhoAreYou(Protocol):
    def connectionMade(self):
        peer = IPeerCredentials(self.transport)
        self.transport.write(f"uid={peer.uid} pid={peer.pid}\n".encode())
        self.transport.loseConnection()


factory = CredentialedUNIXServerFactory(Factory.forProtocol(WhoAreYou))
reactor.listenUNIX("app.sock", factory)
reactor.run()
