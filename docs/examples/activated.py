"""
A server that systemd starts when somebody connects, on a socket that systemd
has made.

    systemd-socket-activate --listen=$PWD/app.sock --fdname=app python3 activated.py
"""

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory, Protocol

from twisted_peercred import IPeerCredentials


class WhoAreYou(Protocol):
    def connectionMade(self):
        peer = IPeerCredentials(self.transport)
        self.transport.write(f"uid={peer.uid} pid={peer.pid}\n".encode())
        self.transport.loseConnection()


if __name__ == "__main__":
    endpoint = endpoints.serverFromString(
        reactor, "peercred:systemd:domain=UNIX:name=app:rules=any"
    )
    endpoint.listen(Factory.forProtocol(WhoAreYou))
    reactor.run()
