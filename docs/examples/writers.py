"""
Shows who writes each piece of a connection that several processes share.

    python3 writers.py app.sock
"""

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    IPeerCredentialsReceiver,
)


@implementer(IPeerCredentialsReceiver)
class Writers(Protocol):
    def dataReceived(self, data):
        peer = IPeerCredentials(self.transport)
        self.transport.write(b"%d wrote %d bytes\n" % (peer.uid, len(data)))

    def peerCredentialsChanged(self, old, new):
        self.transport.write(b"pid %d takes over\n" % new.pid)


if __name__ == "__main__":
    factory = CredentialedUNIXServerFactory(
        Factory.forProtocol(Writers), capture=Capture.EVERY_MESSAGE
    )
    reactor.listenUNIX(sys.argv[1], factory)
    reactor.run()
