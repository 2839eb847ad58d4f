"""
AMP: a responder that asks who calls, and a client of it.

    python3 calls.py amp.sock &
    python3 calls.py amp.sock ask
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols import amp

from twisted_peercred import IPeerCredentials


class WhoAmI(amp.Command):
    response = [(b"uid", amp.Integer()), (b"pid", amp.Integer())]


class Responder(amp.AMP):
    @WhoAmI.responder
    def whoAmI(self):
        peer = IPeerCredentials(self)
        return {"uid": peer.uid, "pid": peer.pid}


def serve(path):
    path = endpoints.quoteStringArgument(path)
    endpoint = endpoints.serverFromString(reactor, f"peercred:unix:{path}:mode=666")
    endpoint.listen(Factory.forProtocol(Responder))
    reactor.run()


async def ask(reactor, path):
    endpoint = endpoints.UNIXClientEndpoint(reactor, path)
    client = await endpoints.connectProtocol(endpoint, amp.AMP())
    answer = await client.callRemote(WhoAmI)
    print(f"uid={answer['uid']} pid={answer['pid']}")


if __name__ == "__main__":
    if sys.argv[2:] == ["ask"]:
        react(ask, sys.argv[1:2])
    else:
        serve(sys.argv[1])
