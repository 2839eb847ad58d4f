"""
Every way to listen, on every reactor: the one module that uses Twisted's own
L{ReactorBuilder}, which is private test code.
"""

import os
import socket
import tempfile
import threading

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.test.reactormixins import ReactorBuilder

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerProcessUnavailable,
    PeerRefused,
)
from twisted_peercred.endpoints import PeerCredentialsClientEndpoint
from twisted_peercred.exits import ExitReader
from twisted_peercred.policy import Decision
from twisted_peercred.process import IPeerProcess


class Greeting(Protocol):
    """
    Says who the peer is, then echoes.
    """

    def connectionMade(self) -> None:
        peer = IPeerCredentials(self.transport)
        self.transport.write(f"{peer.uid} {peer.pid} {peer.capture.value}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)
        self.transport.loseConnection()


def byListenUNIX(reactor, address, factory):
    """
    C{reactor.listenUNIX}.
    """
    reactor.listenUNIX(address, factory)


def byEndpoint(reactor, address, factory):
    """
    An endpoint object.
    """
    return UNIXServerEndpoint(reactor, address).listen(factory)


def byString(reactor, address, factory):
    """
    An endpoint string.
    """
    return serverFromString(reactor, "unix:" + address).listen(factory)


def byAdoption(reactor, address, factory):
    """
    A socket that listens already, as C{systemd:} gets it.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(5)
    listening.setblocking(False)
    # Closed by the endpoint, once it is adopted.
    descriptor = listening.detach()
    return AdoptedStreamServerEndpoint(reactor, descriptor, socket.AF_UNIX).listen(
        factory
    )


class EveryReactorTestsBuilder(ReactorBuilder):
    """
    Tests for L{CredentialedUNIXServerFactory} on a reactor.
    """

    requiredInterfaces = (IReactorUNIX,)
    _reactors = [
        "twisted.internet.selectreactor.SelectReactor",
        "twisted.internet.pollreactor.PollReactor",
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
        "tests.support.UVLoopReactor",
    ]

    def conversation(self, listen, address: str) -> None:
        """
        Listen, with each capture, and talk as a client to each.
        """
        expected = f"{os.getuid()} {os.getpid()} "
        addresses = [address + capture.value for capture in Capture]
        answers = []

        def client() -> None:
            for each in addresses:
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.connect(each)
                    peer.sendall(b"hello")
                    peer.shutdown(socket.SHUT_WR)
                    with peer.makefile() as lines:
                        answers.append(lines.read())

        def converse() -> None:
            try:
                client()
            finally:
                reactor.callFromThread(reactor.stop)

        def start() -> None:
            for each, capture in zip(addresses, Capture, strict=True):
                factory = Factory.forProtocol(Greeting)
                factory.noisy = False
                listen(
                    reactor,
                    each,
                    CredentialedUNIXServerFactory(factory, capture=capture),
                )
            thread.start()

        reactor = self.buildReactor()
        thread = threading.Thread(target=converse)
        reactor.callWhenRunning(start)
        self.runReactor(reactor, timeout=10)
        thread.join()
        self.assertEqual(
            answers, [f"{expected}{capture.value}\nhello" for capture in Capture]
        )

    def path(self) -> str:
        """
        A short path.
        """
        return tempfile.mktemp(dir=".", prefix="s")

    def test_listenUNIX(self) -> None:
        """
        C{reactor.listenUNIX} serves all captures.
        """
        self.conversation(byListenUNIX, self.path())

    def test_endpoint(self) -> None:
        """
        L{UNIXServerEndpoint} serves all captures.
        """
        self.conversation(byEndpoint, self.path())

    def test_string(self) -> None:
        """
        A C{unix:} endpoint string serves all captures.
        """
        self.conversation(byString, self.path())

    def test_adopted(self) -> None:
        """
        An adopted listening socket serves all captures.
        """
        self.conversation(byAdoption, self.path())

    def test_abstract(self) -> None:
        """
        Addresses in the abstract namespace serve all captures.
        """
        name = "\0peercred-" + os.urandom(8).hex()
        self.conversation(byListenUNIX, name)
        self.assertNotIn(name[1:], os.listdir("."))

    def test_abstractAdopted(self) -> None:
        """
        So do adopted sockets there.
        """
        self.conversation(byAdoption, "\0peercred-" + os.urandom(8).hex())

    def test_client(self) -> None:
        """
        A client knows its server: one that it refuses is a connect that
        failed; with another it talks, after a policy that takes its time.
        """
        reactor = self.buildReactor()
        address = self.path()
        heard = []

        class Asking(Protocol):
            def connectionMade(self) -> None:
                heard.append(IPeerCredentials(self.transport).pid)
                self.transport.write(b"hello")

            def dataReceived(self, data: bytes) -> None:
                heard.append(data)

            def connectionLost(self, reason) -> None:
                reactor.stop()

        class Policy:
            answers = iter([False, True])

            def decide(self, identity):
                answer = Deferred()
                decision = Decision(next(self.answers), "any")
                reactor.callLater(0.01, answer.callback, decision)
                return answer

        def start() -> None:
            factory = Factory.forProtocol(Greeting)
            byListenUNIX(reactor, address, CredentialedUNIXServerFactory(factory))
            endpoint = PeerCredentialsClientEndpoint(
                UNIXClientEndpoint(reactor, address), policy=Policy()
            )

            def again(failure) -> None:
                heard.append(failure.type)
                endpoint.connect(Factory.forProtocol(Asking))

            endpoint.connect(Factory.forProtocol(Asking)).addErrback(again)

        reactor.callWhenRunning(start)
        self.runReactor(reactor, timeout=10)
        refusal, pid, *data = heard
        self.assertEqual((refusal, pid), (PeerRefused, os.getpid()))
        greeting = f"{os.getuid()} {os.getpid()} connect\nhello"
        self.assertEqual(b"".join(data).decode(), greeting)

    def test_whenExited(self) -> None:
        """
        The end of a peer's process is told, and nothing stays with the
        reactor.
        """
        address = self.path()
        reactor = self.buildReactor()
        told = []
        ready, go = os.pipe()

        class Waiting(Protocol):
            def connectionMade(self) -> None:
                waits = [IPeerProcess(self.transport).whenExited() for _ in range(3)]
                waits[0].addErrback(lambda reason: told.append("cancelled"))
                waits[0].cancel()
                os.write(go, b".")
                for each in waits[1:]:
                    each.addCallback(tell)

        def tell(exit) -> None:
            told.append(exit.exitCode)
            if len(told) == 3:
                reactor.callLater(0, stop)

        def stop() -> None:
            told.append(
                [each for each in reactor.getReaders() if isinstance(each, ExitReader)]
            )
            reactor.stop()

        factory = Factory.forProtocol(Waiting)
        factory.noisy = False
        reactor.listenUNIX(address, CredentialedUNIXServerFactory(factory))
        pid = os.fork()
        if not pid:
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(address)
            os.read(ready, 1)
            os._exit(7)
        try:
            self.runReactor(reactor, timeout=10)
        finally:
            os.waitpid(pid, 0)
            os.close(ready)
            os.close(go)
        self.assertEqual(told, ["cancelled", 7, 7, []])

    def test_whenExitedAtTheEnd(self) -> None:
        """
        Those who still wait when the reactor stops are told that it can't.
        """
        address = self.path()
        reactor = self.buildReactor()
        told = []

        class Waiting(Protocol):
            def connectionMade(self) -> None:
                IPeerProcess(self.transport).whenExited().addErrback(told.append)
                reactor.callLater(0, reactor.stop)

        factory = Factory.forProtocol(Waiting)
        factory.noisy = False
        reactor.listenUNIX(address, CredentialedUNIXServerFactory(factory))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(address)
            self.runReactor(reactor, timeout=10)
        (problem,) = told
        problem.trap(PeerProcessUnavailable)


globals().update(EveryReactorTestsBuilder.makeTestCaseClasses())
