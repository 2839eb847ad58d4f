"""
A klein application that knows its visitors, unchanged but for one line.

    python3 kleinsite.py web.sock
    curl --unix-socket web.sock http://localhost/hello
"""

import sys

from klein import Klein
from twisted.internet import endpoints, reactor
from twisted.web.server import Site

from twisted_peercred import IPeerCredentials

app = Klein()


@app.route("/hello")
def hello(request):
    return f"Hello, {IPeerCredentials(request)}.\n"


if __name__ == "__main__":
    path = endpoints.quoteStringArgument(sys.argv[1])
    endpoint = endpoints.serverFromString(reactor, f"peercred:unix:{path}:mode=666")
    endpoint.listen(Site(app.resource()))
    reactor.run()
