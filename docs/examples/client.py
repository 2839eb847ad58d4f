"""
A client that tells its secret to nobody but the right server:
``client.py ADDRESS RULES``; ``client.py app.sock user/app``, for example.
"""

import sys

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import react

from twisted_peercred import IPeerCredentials, PeerRefused, Policy
from twisted_peercred.endpoints import PeerCredentialsClientEndpoint


class Telling(Protocol):
    def connectionMade(self):
        self.ended = Deferred()
        print(f"told to uid {IPeerCredentials(self.transport).uid}")
        self.transport.write(b"secret\n")
        self.transport.loseConnection()

    def connectionLost(self, reason):
        self.ended.callback(None)


async def main(reactor, address, rules):
    endpoint = PeerCredentialsClientEndpoint(
        UNIXClientEndpoint(reactor, address), policy=Policy.fromString(rules)
    )
    try:
        protocol = await endpoint.connect(Factory.forProtocol(Telling))
    except PeerRefused as refusal:
        print(f"told to nobody: {refusal}")
    else:
        await protocol.ended


react(lambda *arguments: Deferred.fromCoroutine(main(*arguments)), sys.argv[1:])
