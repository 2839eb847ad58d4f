"""
Perspective Broker without passwords: a server that greets its users by name,
and a client of it.

    python3 perspective.py pb.sock &
    python3 perspective.py pb.sock greet
"""

import sys

from twisted.cred.portal import IRealm, Portal
from twisted.internet import endpoints, reactor
from twisted.internet.task import react
from twisted.spread import pb
from zope.interface import implementer

from twisted_peercred.checkers import PeerCredentialsChecker
from twisted_peercred.endpoints import PeerCredentialsServerEndpoint
from twisted_peercred.pb import PeerPortalRoot, login


class Person(pb.Avatar):
    def __init__(self, name):
        self.name = name

    def perspective_greet(self):
        return "Hello, " + self.name.decode()


@implementer(IRealm)
class People:
    def requestAvatar(self, avatarID, mind, *interfaces):
        return pb.IPerspective, Person(avatarID), lambda: None


def serve(path):
    portal = Portal(People(), [PeerCredentialsChecker()])
    endpoint = PeerCredentialsServerEndpoint(
        endpoints.UNIXServerEndpoint(reactor, path, mode=0o666)
    )
    endpoint.listen(pb.PBServerFactory(PeerPortalRoot(portal)))
    reactor.run()


async def greet(reactor, path):
    factory = pb.PBClientFactory()
    await endpoints.UNIXClientEndpoint(reactor, path).connect(factory)
    person = await login(factory)
    print(await person.callRemote("greet"))


if __name__ == "__main__":
    if sys.argv[2:] == ["greet"]:
        react(greet, sys.argv[1:2])
    else:
        serve(sys.argv[1])
