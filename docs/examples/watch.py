"""
Says which program is at the other end, and when it ends.

    python3 watch.py app.sock
"""

import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger

from twisted_peercred import CredentialedUNIXServerFactory, PeerProcessError
from twisted_peercred.process import IPeerProcess


class Watch(Protocol):
    log = Logger()

    def connectionMade(self):
        Deferred.fromCoroutine(self.watch()).addErrback(
            lambda reason: self.log.failure("Watching failed", reason)
        )

    async def watch(self):
        try:
            process = IPeerProcess(self.transport)
            exited = process.whenExited()
            path, unit = await process.executable(), await process.systemdUnit()
            self.transport.write(b"you run %s of unit %a\n" % (path, unit))
            exit = await exited
        except PeerProcessError as problem:
            self.log.info("No more to say: {problem}", problem=problem)
            return
        print(f"ended: status {exit.exitCode}, signal {exit.signal}", flush=True)


if __name__ == "__main__":
    factory = CredentialedUNIXServerFactory(Factory.forProtocol(Watch))
    reactor.listenUNIX(sys.argv[1], factory)
    reactor.run()
