"""
C{python -m tests.asks SOCKET}: a service, started by systemd for C{SOCKET}, that
tells each peer what it can find out about the peer's process, and about the
server of that socket as a client of it.  How the process ended it prints.
"""

import json
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, serverFromString
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from twisted_peercred import (
    CredentialedUNIXClientFactory,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerProcessError,
)
from twisted_peercred.process import IPeerProcess

QUESTIONS = ("info", "status", "commandLine", "executable", "cgroup", "startTime")


@implementer(IHalfCloseableProtocol)
class Asks(Protocol):
    """
    Asks everything there is.
    """

    def readConnectionLost(self) -> None:
        pass

    def writeConnectionLost(self) -> None:
        pass

    def connectionMade(self) -> None:
        if IPeerCredentials(self.transport).uid:
            Deferred.fromCoroutine(self.tell())

    async def tell(self) -> None:
        process = IPeerProcess(self)
        exited = process.whenExited()
        said = {}
        asks = {name: getattr(process, name) for name in QUESTIONS}
        asks["signal"] = lambda: process.signal(0)
        for name, ask in asks.items():
            try:
                answer = ask()
                if isinstance(answer, Deferred):
                    await answer
                said[name] = "answers"
            except PeerProcessError as problem:
                said[name] = type(problem).__name__
        said["server"] = await self.server()
        self.transport.write(json.dumps(said).encode())
        self.transport.loseConnection()
        exit = await exited
        print(
            json.dumps({"exitCode": exit.exitCode, "source": exit.source}), flush=True
        )

    async def server(self) -> dict:
        """
        Whom a client of this socket would find there.
        """
        factory = CredentialedUNIXClientFactory(Factory.forProtocol(Protocol))
        client = await UNIXClientEndpoint(reactor, sys.argv[1]).connect(factory)
        known = IPeerCredentials(client.transport)
        client.transport.loseConnection()
        return {"uid": known.uid, "pid": known.pid}


def main() -> None:
    """
    Serve until killed.
    """
    endpoint = serverFromString(reactor, "systemd:domain=UNIX:name=echo")
    endpoint.listen(CredentialedUNIXServerFactory(Factory.forProtocol(Asks)))
    reactor.run()


if __name__ == "__main__":
    main()
