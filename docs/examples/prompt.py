"""
A program with a Python prompt inside, for its own user and root only.

    python3 prompt.py manhole.sock &
    python3 -m twisted_peercred attach manhole.sock
    >>> counter.count
"""

import sys

from twisted.internet import endpoints, reactor, task

from twisted_peercred.manhole import ManholeFactory, manholeEndpoint


class Counter:
    count = 0

    def increase(self):
        self.count += 1


if __name__ == "__main__":
    counter = Counter()
    task.LoopingCall(counter.increase).start(1.0)
    endpoint = manholeEndpoint(
        endpoints.UNIXServerEndpoint(reactor, sys.argv[1], mode=0o600)
    )
    endpoint.listen(ManholeFactory({"counter": counter}))
    reactor.run()
