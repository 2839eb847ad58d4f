"""
A WSGI application that is told who its visitor is, here or behind a proxy that
may speak for others.

    python3 wsgi.py web.sock
    curl --unix-socket web.sock http://localhost/
    curl --unix-socket web.sock -H 'X-Forwarded-For: 192.0.2.1' http://localhost/
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.web.server import Site

from twisted_peercred import Policy
from twisted_peercred.web import PeerWSGIResource, TrustedProxy


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    user, uid = environ["REMOTE_USER"], environ["PEERCRED_UID"]
    address = environ["REMOTE_ADDR"] or "this machine"
    return [f"{user} (uid {uid}) at {address}\n".encode()]


if __name__ == "__main__":
    resource = PeerWSGIResource(reactor, reactor.getThreadPool(), application)
    # The proxy runs as root, or as this server's user; others are taken at
    # their kernel's word, and not at their headers'.
    site = Site(TrustedProxy(resource, Policy.fromString("root,self")))
    path = endpoints.quoteStringArgument(sys.argv[1])
    endpoint = endpoints.serverFromString(reactor, f"peercred:unix:{path}:mode=666")
    endpoint.listen(site)
    reactor.run()
