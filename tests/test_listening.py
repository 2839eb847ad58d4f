"""
Tests for L{twisted_peercred.listening}: what it relies on in Twisted, each by
its name, and what it makes of it.
"""

import os
import socket
import tempfile

from twisted.internet import tcp, unix
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import WrappingFactory
from twisted.python.reflect import requireModule
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import thisKernel
from twisted_peercred.listening import (
    AcceptedServer,
    adoptTransport,
    findStartingPort,
)
from twisted_peercred.transport import CredentialedServer

from .support import LiveTestCase, RememberingFactory

reactor = requireModule("twisted.internet.reactor")
MESSAGES = (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)


class ProbeFactory(Factory):
    """
    Notes what a port has done when it calls C{doStart}.
    """

    noisy = False

    def doStart(self):
        self.port = findStartingPort()
        self.hadSocket = hasattr(self.port, "socket")
        self.calls = []

        def note(name):
            real = getattr(self.port, name)

            def called(*arguments):
                self.calls.append(name)
                return real(*arguments)

            setattr(self.port, name, called)

        note("createInternetSocket")
        note("startReading")
        note("transport")


class TwistedTests(LiveTestCase):
    """
    What is relied on.  A failure here means that Twisted has moved it, and
    that L{twisted_peercred.listening} has to follow.
    """

    def test_startListeningCallsDoStart(self) -> None:
        """
        C{Port.startListening} calls C{factory.doStart} before there is a
        socket, and is found on the stack.
        """
        factory = ProbeFactory()
        port = unix.Port(os.path.join(self.directory, "s"), factory, reactor=reactor)
        port.startListening()
        self.adoptPort(port)
        self.assertIs(factory.port, port)
        self.assertFalse(factory.hadSocket)

    def test_createInternetSocket(self) -> None:
        """
        C{Port.createInternetSocket} makes the socket before it listens, and
        C{Port.startReading} comes once it does.
        """
        factory = ProbeFactory()
        self.listen(factory)
        self.assertEqual(factory.calls, ["createInternetSocket", "startReading"])

    def test_adopting(self) -> None:
        """
        C{Port._preexistingSocket} is the socket that a port is to adopt, and
        C{Port._bindPath} (C{Port.port} before 26) its path.
        """
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.join(self.directory, "s"))
            port = unix.Port._fromListeningDescriptor(
                reactor, made.fileno(), RememberingFactory()
            )
            self.addCleanup(port._preexistingSocket.close)
            path = made.getsockname().encode()
        self.assertEqual(port._preexistingSocket.getsockname(), path.decode())
        self.assertEqual(getattr(port, "_bindPath", port.port), path)
        port = unix.Port(path, RememberingFactory(), reactor=reactor)
        self.assertIsNone(port._preexistingSocket)
        self.assertEqual(getattr(port, "_bindPath", port.port), path)

    async def test_transport(self) -> None:
        """
        C{Port.transport} makes the transport of an accepted connection.
        """
        factory = ProbeFactory.forProtocol(Protocol)
        self.connect(self.listen(factory))
        await self.until(lambda: "transport" in factory.calls)

    def test_attributes(self) -> None:
        """
        What C{unix.Server.__init__} sets is what ours sets, to the same values,
        but for the two texts that it has no use for.
        """
        left, right = socket.socketpair()
        port = unix.Port(os.path.join(self.directory, "s"), Factory(), reactor=reactor)
        with left, right:
            for name in ("", "/a/name", b"\0abstract"):
                found = []
                for kind in (unix.Server, AcceptedServer):
                    made = kind(left, Protocol(), name, port, 7, reactor)
                    found.append({**vars(made)})
                    reactor.removeReader(made)
                stock, ours = found
                for text in ("repstr", "logstr"):
                    del stock[text]
                self.assertEqual(set(ours), set(stock))
                for attribute in ("protocol", "fileno"):
                    self.assertIs(type(ours.pop(attribute)), type(stock.pop(attribute)))
                self.assertEqual(ours, stock)


class PortTests(LiveTestCase):
    """
    Tests for what is arranged with a port.
    """

    def option(self, port) -> int:
        """
        C{SO_PASSCRED} of a port's socket.
        """
        return port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED)

    def factoryOf(self, capture) -> CredentialedUNIXServerFactory:
        """
        A factory with that capture.
        """
        return CredentialedUNIXServerFactory(RememberingFactory(), capture=capture)

    async def test_optionBeforeListen(self) -> None:
        """
        The kernel is asked to stamp messages before the socket listens
        (THREATS K2), and not at all where nobody asks for it; nothing of it
        stays with the port.
        """
        states = []

        class Kernel:
            def __getattr__(self, name):
                return getattr(thisKernel(), name)

            def askForMessages(self, sock):
                states.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
                thisKernel().askForMessages(sock)

        for capture in Capture:
            factory = CredentialedUNIXServerFactory(
                RememberingFactory(), capture=capture, kernel=Kernel()
            )
            path = os.path.join(self.directory, capture.value)
            endpoint = UNIXServerEndpoint(reactor, path)
            port = await endpoint.listen(factory)
            self.adoptPort(port)
            asks = capture in MESSAGES
            self.assertEqual(self.option(port), asks)
            self.assertEqual(states, [0] if asks else [])
            self.assertNotIn("createInternetSocket", vars(port))
            self.assertNotIn("startReading", vars(port))
            states.clear()

    async def test_inherited(self) -> None:
        """
        A connection that is made before the reactor has had a turn has the
        option when it is accepted (THREATS K2).
        """
        for capture in MESSAGES:
            factory = self.factoryOf(capture)
            address = self.listen(factory)
            peer = self.connect(address)
            peer.send(b"hello")
            protocol = await self.made(factory.wrappedFactory)
            self.assertEqual(protocol.peer.pid, os.getpid())

    async def test_adoptedPort(self) -> None:
        """
        A listening socket that is adopted, in the way of C{systemd:}, gets the
        option too; a connection that was made before it was ours works.
        """
        for capture in Capture:
            path = os.path.join(self.directory, "adopted-" + capture.value)
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(path)
            listening.listen(5)
            listening.setblocking(False)
            early = self.connect(path)
            early.send(b"early")
            factory = self.factoryOf(capture)
            port = reactor.adoptStreamPort(listening.fileno(), socket.AF_UNIX, factory)
            listening.close()
            self.adoptPort(port)
            self.assertEqual(self.option(port), capture in MESSAGES)
            self.connect(path).send(b"later")
            await self.made(factory.wrappedFactory, 2)
            self.assertEqual(
                {type(each.transport) for each in factory.wrappedFactory.made},
                {AcceptedServer},
            )
            for each in factory.wrappedFactory.made:
                await self.until(lambda: each.received)
                self.assertEqual(each.peer.pid, os.getpid())

    async def test_adoptedConnection(self) -> None:
        """
        A connection that is adopted works too; what its peer wrote before the
        kernel was asked is nobody's (THREATS K2).
        """
        for capture in Capture:
            for early in (b"", b"early"):
                path = tempfile.mktemp(dir=self.directory)
                listening = socket.socket(socket.AF_UNIX)
                listening.bind(path)
                listening.listen(5)
                peer = self.connect(path)
                accepted, _ = listening.accept()
                listening.close()
                accepted.setblocking(False)
                if early:
                    peer.send(early)
                factory = self.factoryOf(capture)
                wrapped = factory.wrappedFactory
                reactor.adoptStreamConnection(
                    accepted.fileno(), socket.AF_UNIX, factory
                )
                accepted.close()
                if early and capture in MESSAGES:
                    self.assertEqual(await self.closed(peer), b"")
                    self.assertIsInstance(self.refusals()[-1], CredentialsUnavailable)
                    self.assertIn("placeholder", str(self.refusals()[-1]))
                    self.assertEqual(wrapped.made, [])
                else:
                    peer.send(b"later")
                    protocol = await self.made(wrapped)
                    await self.until(lambda: protocol.received)
                    self.assertIsInstance(protocol.transport, CredentialedServer)
                    peer.close()
                    await protocol.ended

    def test_tcp(self) -> None:
        """
        A TCP port is refused when it starts to listen, with a word on what to
        use instead.
        """
        factory = self.factoryOf(Capture.CONNECT)
        with self.assertRaises(CredentialsUnsupported) as raised:
            reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.assertIn("listenUNIX", str(raised.exception))
        self.assertEqual(factory.wrappedFactory.numPorts, 0)

    def test_wrapped(self) -> None:
        """
        A factory that is not the outermost is refused when it starts to
        listen.
        """
        factory = WrappingFactory(self.factoryOf(Capture.CONNECT))
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.listen(factory)
        self.assertIn("outermost", str(raised.exception))

    async def test_startedAgain(self) -> None:
        """
        A port whose first start failed can be started again, in every capture,
        and nothing of it stays with the port.
        """
        for capture in Capture:
            factory = self.factoryOf(capture)
            path = os.path.join(self.directory, capture.value, "s")
            port = unix.Port(path, factory, reactor=reactor)
            self.assertRaises(CannotListenError, port.startListening)
            os.mkdir(os.path.dirname(path))
            port.startListening()
            self.adoptPort(port)
            self.assertNotIn("createInternetSocket", vars(port))
            self.assertNotIn("startReading", vars(port))
            self.connect(path).send(b"hello")
            protocol = await self.made(factory.wrappedFactory)
            self.assertIs(protocol.peer.capture, capture)

    def test_otherTransports(self) -> None:
        """
        A port that makes transports of its own is refused when it starts to
        listen, and keeps them.
        """

        class Other(unix.Server):
            pass

        class OtherPort(unix.Port):
            transport = Other

        port = OtherPort(
            os.path.join(self.directory, "s"), self.factoryOf(Capture.CONNECT)
        )
        with self.assertRaises(CredentialsUnsupported) as raised:
            port.startListening()
        self.assertIn("OtherPort", str(raised.exception))
        self.assertIs(port.transport, Other)


class SeamTests(SynchronousTestCase):
    """
    Tests for the parts, without a port.
    """

    def test_noPort(self) -> None:
        """
        Outside of C{startListening} there is no port, whatever is called so.
        """

        def startListening():
            return findStartingPort()

        class Port:
            def startListening(self):
                return findStartingPort()

        self.assertIsNone(findStartingPort())
        self.assertIsNone(startListening())
        self.assertIsNone(Port().startListening())

    def test_noFrames(self) -> None:
        """
        A Python without frames has no port to be found.
        """
        self.patch(__import__("inspect"), "currentframe", lambda: None)
        self.assertIsNone(findStartingPort())

    def test_otherTransport(self) -> None:
        """
        A stock TCP transport is not adopted.
        """
        self.assertRaises(
            CredentialsUnsupported, adoptTransport, object.__new__(tcp.Server)
        )
