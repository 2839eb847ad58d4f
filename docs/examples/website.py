"""
A web site on a Unix-domain socket that knows its visitors.

    python3 website.py web.sock
    curl --unix-socket web.sock http://localhost/
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

from twisted_peercred import CredentialedUNIXServerFactory, IPeerCredentials


class Visitor(Resource):
    isLeaf = True

    def render_GET(self, request):
        return f"You are {IPeerCredentials(request)}.\n".encode()


if __name__ == "__main__":
    endpoint = endpoints.UNIXServerEndpoint(reactor, sys.argv[1], mode=0o666)
    endpoint.listen(CredentialedUNIXServerFactory(Site(Visitor())))
    reactor.run()
