"""
A web site whose visitors are logged in without a password: administrators get
one page, everybody else another, and one user none.

    python3 login.py web.sock
    curl --unix-socket web.sock http://localhost/
"""

import sys

from twisted.cred.portal import IRealm, Portal
from twisted.internet import endpoints, reactor
from twisted.web.resource import IResource, Resource
from twisted.web.server import Site
from zope.interface import implementer

from twisted_peercred import Policy
from twisted_peercred.checkers import AvatarMap, PeerCredentialsChecker
from twisted_peercred.endpoints import PeerCredentialsServerEndpoint
from twisted_peercred.web import PeerAuthSessionWrapper, peerLogFormatter

AVATARS = """
root, self -> admin
any        -> {user}
"""


class Page(Resource):
    isLeaf = True

    def __init__(self, text):
        super().__init__()
        self.text = text

    def render_GET(self, request):
        return self.text


@implementer(IRealm)
class Pages:
    def requestAvatar(self, avatarID, mind, *interfaces):
        return IResource, Page(b"Hello, " + avatarID + b".\n"), lambda: None


if __name__ == "__main__":
    checker = PeerCredentialsChecker(
        policy=Policy.fromString("!uid/4000000000,any"),
        avatarID=AvatarMap.fromString(AVATARS),
    )
    site = Site(
        PeerAuthSessionWrapper(Portal(Pages(), [checker])),
        logPath="access.log",
        logFormatter=peerLogFormatter,
    )
    endpoint = PeerCredentialsServerEndpoint(
        endpoints.UNIXServerEndpoint(reactor, sys.argv[1], mode=0o666)
    )
    endpoint.listen(site)
    reactor.run()
