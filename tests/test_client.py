"""
Tests for L{twisted_peercred.client} and the client's endpoint: real
connections on trial's reactor.
"""

import os
import socket
from collections import namedtuple

from twisted.application.internet import ClientService
from twisted.internet import error, reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
)
from twisted.internet.interfaces import (
    ILoggingContext,
    IProtocolFactory,
    IStreamClientEndpoint,
    IUNIXTransport,
)
from twisted.internet.protocol import (
    ClientFactory,
    Factory,
    Protocol,
    ReconnectingClientFactory,
)
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_peercred import (
    CredentialedUNIXClientFactory,
    CredentialsUnavailable,
    CredentialsUnsupported,
    IPeerCredentials,
    IPeerPolicy,
    PeerRefused,
)
from twisted_peercred.endpoints import PeerCredentialsClientEndpoint

from .support import (
    FailingKernel,
    LiveTestCase,
    Receiving,
    Remembering,
    RememberingFactory,
    flat,
    openDescriptors,
)

Answer = namedtuple("Answer", "admitted rule")
YES, NO = Answer(True, "root"), Answer(False, "!any")


@implementer(IPeerPolicy)
class Saying:
    """
    A policy that answers what it was told to, in turn, and remembers whom it
    was asked about.
    """

    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asked = []

    def decide(self, identity):
        self.asked.append(identity)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Telling(RememberingFactory, ClientFactory):
    """
    A client's factory that remembers what its connector told it.
    """

    def __init__(self, protocol=Remembering) -> None:
        super().__init__(protocol)
        self.told = []

    def startFactory(self) -> None:
        self.told.append("start")

    def stopFactory(self) -> None:
        self.told.append("stop")

    def startedConnecting(self, connector) -> None:
        self.told.append("connecting")

    def clientConnectionFailed(self, connector, reason) -> None:
        self.told.append(reason.value)

    def clientConnectionLost(self, connector, reason) -> None:
        self.told.append("lost")


class FactoryTests(SynchronousTestCase):
    """
    Tests for L{CredentialedUNIXClientFactory} without a connection.
    """

    def test_interfaces(self) -> None:
        """
        The factory and the endpoint provide what Twisted expects of them.
        """
        factory = CredentialedUNIXClientFactory(Telling())
        verifyObject(IProtocolFactory, factory)
        verifyObject(ILoggingContext, factory)
        endpoint = PeerCredentialsClientEndpoint(UNIXClientEndpoint(reactor, "a"))
        verifyObject(IStreamClientEndpoint, endpoint)

    def test_logging(self) -> None:
        """
        C{noisy} and C{logPrefix} are the wrapped factory's.
        """
        factory = CredentialedUNIXClientFactory(Telling())
        self.assertFalse(factory.noisy)
        self.assertEqual(factory.logPrefix(), "Telling (peer credentials)")

        @implementer(IProtocolFactory)
        class Bare:
            pass

        factory = CredentialedUNIXClientFactory(Bare())
        self.assertTrue(factory.noisy)
        self.assertEqual(factory.logPrefix(), "Bare (peer credentials)")

    def test_noConnector(self) -> None:
        """
        Started by something else than a connector it starts the wrapped
        factory, and connects to nobody.
        """
        wrapped = Telling()
        factory = CredentialedUNIXClientFactory(wrapped)
        factory.doStart()
        self.assertRaises(CredentialsUnsupported, factory.buildProtocol, None)
        factory.doStop()
        self.assertEqual(wrapped.told, ["start", "stop"])

    def test_notVerified(self) -> None:
        """
        Who asks for a protocol without having looked at the server gets none.
        """
        wrapped = Telling()
        factory = CredentialedUNIXClientFactory(wrapped)
        self.assertRaises(CredentialsUnsupported, factory.buildProtocol, None)
        self.assertEqual(wrapped.made, [])

    def test_options(self) -> None:
        """
        A mistake in an endpoint's options is told when the endpoint is made.
        """
        with self.assertRaises(TypeError):
            PeerCredentialsClientEndpoint(UNIXClientEndpoint(reactor, "a"), policty=1)


class ClientTestCase(LiveTestCase):
    """
    A stock server, and clients of ours.
    """

    def setUp(self) -> Deferred[None]:
        ready = super().setUp()
        self.server = RememberingFactory()
        self.address = self.listen(self.server)
        return ready

    def connectUNIX(self, protocol=Remembering, **options):
        """
        @return: the connector and the wrapped factory.
        """
        wrapped = Telling(protocol)
        factory = CredentialedUNIXClientFactory(wrapped, **options)
        connector = reactor.connectUNIX(self.address, factory)
        self.addCleanup(connector.disconnect)
        return connector, wrapped

    def endpoint(self, **options) -> PeerCredentialsClientEndpoint:
        """
        An endpoint that looks at the server.
        """
        return PeerCredentialsClientEndpoint(
            UNIXClientEndpoint(reactor, self.address), **options
        )

    def assertBroken(self, problem: Exception) -> None:
        """
        A policy could not decide.
        """
        self.assertIsInstance(problem, PeerRefused)
        self.assertEqual(problem.reason, "policy-failed")
        self.assertIsInstance(problem.__cause__, ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def assertNothingCame(self, connections: int) -> None:
        """
        The server has seen so many connections, and not a byte.
        """
        await self.until(lambda: len(self.server.made) == connections)
        for each in self.server.made:
            await each.ended
            self.assertEqual(each.received, [])


class ConnectTests(ClientTestCase):
    """
    Tests for C{reactor.connectUNIX} with a L{CredentialedUNIXClientFactory}.
    """

    async def test_connect(self) -> None:
        """
        The server's credentials are there in C{connectionMade}, on the
        transport and by adaptation; the transport is the protocol's own.
        """
        policy = Saying(YES)
        connector, wrapped = self.connectUNIX(policy=policy)
        protocol = await self.made(wrapped)
        transport = protocol.transport
        self.assertEqual(
            (protocol.peer.uid, protocol.peer.gid, protocol.peer.pid),
            (os.geteuid(), os.getegid(), os.getpid()),
        )
        self.assertEqual(policy.asked, [protocol.peer])
        self.assertIs(transport.peerCredentials, protocol.peer)
        self.assertIs(transport.connectionCredentials, protocol.peer)
        self.assertIs(transport.protocol, protocol)
        self.assertIs(connector.transport, transport)
        verifyObject(IUNIXTransport, transport)
        self.assertEqual(transport.logstr, "Remembering,client")
        transport.write(b"hello")
        server = await self.made(self.server)
        await self.until(lambda: server.received)
        server.transport.write(b"hello yourself")
        await self.until(lambda: protocol.received)
        connector.disconnect()
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertEqual(wrapped.told, ["start", "connecting", "lost", "stop"])
        self.assertEqual(flat(server.received), b"hello")
        self.assertEqual(flat(protocol.received), b"hello yourself")

    async def test_refused(self) -> None:
        """
        A refused server is a connect that failed, with the credentials in it:
        no protocol is asked for, not a byte is sent, nothing stays open, and
        one event is logged.
        """
        policy = Saying(NO)
        before = openDescriptors()
        _, wrapped = self.connectUNIX(policy=policy)
        await self.until(lambda: wrapped.told[-1] == "stop")
        start, connecting, problem, stop = wrapped.told
        self.assertEqual((start, connecting, stop), ("start", "connecting", "stop"))
        self.assertIsInstance(problem, PeerRefused)
        self.assertEqual(problem.rule, "!any")
        self.assertEqual([problem.credentials], policy.asked)
        self.assertEqual(problem.credentials.uid, os.geteuid())
        await self.assertNothingCame(1)
        self.assertEqual(wrapped.made, [])
        self.assertEqual(self.refusals(), [problem])
        self.assertEqual(openDescriptors(), before)

    async def test_unknown(self) -> None:
        """
        A server that the kernel does not identify is none that a client
        without a policy would talk to.
        """
        _, wrapped = self.connectUNIX(
            kernel=FailingKernel("connectionCredentials", CredentialsUnavailable("?"))
        )
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertIsInstance(wrapped.told[-2], CredentialsUnavailable)
        await self.assertNothingCame(1)

    async def test_brokenPolicy(self) -> None:
        """
        A policy that raises admits nobody; its error is logged, and told as the
        cause.
        """
        _, wrapped = self.connectUNIX(policy=Saying(ZeroDivisionError()))
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertBroken(wrapped.told[-2])
        await self.assertNothingCame(1)

    async def test_descriptors(self) -> None:
        """
        Whatever the protocol provides works: it gets descriptors.
        """
        _, wrapped = self.connectUNIX(Receiving)
        protocol = await self.made(wrapped)
        server = await self.made(self.server)
        with open(os.devnull) as null:
            server.transport.sendFileDescriptor(null.fileno())
            server.transport.write(b"here")
            await self.until(lambda: flat(protocol.received) == b"here")
        (descriptor,) = wrapped.descriptors
        os.close(descriptor)

    async def test_noServer(self) -> None:
        """
        Where nobody listens, Twisted's own error is told.
        """
        self.address += "not"
        _, wrapped = self.connectUNIX()
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertIsInstance(wrapped.told[-2], error.ConnectError)
        self.assertEqual(self.refusals(), [])

    async def test_noProtocol(self) -> None:
        """
        A wrapped factory that returns L{None} closes, as in Twisted.
        """
        _, wrapped = self.connectUNIX(lambda: None)
        self.patch(wrapped, "buildProtocol", lambda addr: None)
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertEqual(wrapped.told, ["start", "connecting", "lost", "stop"])

    async def test_brokenFactory(self) -> None:
        """
        A wrapped factory that raises is a connect that failed, and logged.
        """

        def broken():
            raise ZeroDivisionError

        before = openDescriptors()
        _, wrapped = self.connectUNIX(broken)
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertIsInstance(wrapped.told[-2], ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        await self.assertNothingCame(1)
        self.assertEqual(openDescriptors(), before)

    async def test_brokenProtocol(self) -> None:
        """
        A protocol that raises in C{connectionMade} is logged, and has its
        connection, as in Twisted.
        """

        class Broken(Remembering):
            def connectionMade(self) -> None:
                super().connectionMade()
                raise ZeroDivisionError

        _, wrapped = self.connectUNIX(Broken)
        protocol = await self.made(wrapped)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        protocol.transport.loseConnection()
        await protocol.ended
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertEqual(wrapped.told, ["start", "connecting", "lost", "stop"])

    async def test_reconnecting(self) -> None:
        """
        L{ReconnectingClientFactory} looks at the server each time.
        """

        class Returning(RememberingFactory, ReconnectingClientFactory):
            initialDelay = maxDelay = 0.01

        policy = Saying(NO, YES, NO, YES)
        wrapped = Returning()
        connector = reactor.connectUNIX(
            self.address, CredentialedUNIXClientFactory(wrapped, policy=policy)
        )
        first = await self.made(wrapped)
        self.assertEqual(len(policy.asked), 2)
        first.transport.loseConnection()
        await self.made(wrapped, 2)
        self.assertEqual(len(policy.asked), 4)
        wrapped.stopTrying()
        connector.disconnect()
        await self.assertNothingCame(4)

    async def test_reconnectAtOnce(self) -> None:
        """
        So is one that connects again in the call that says it has failed.
        """

        class Stubborn(Telling):
            def clientConnectionFailed(self, connector, reason) -> None:
                super().clientConnectionFailed(connector, reason)
                connector.connect()

        wrapped = Stubborn()
        connector = reactor.connectUNIX(
            self.address,
            CredentialedUNIXClientFactory(wrapped, policy=Saying(NO, NO, YES)),
        )
        await self.made(wrapped)
        connector.disconnect()
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertEqual(
            [str(each).partition(" ")[0] for each in wrapped.told],
            [
                *("start", "connecting"),
                *(f"uid={os.geteuid()}", "connecting") * 2,
                *("lost", "stop"),
            ],
        )

    async def test_nested(self) -> None:
        """
        Of two factories in each other both have to admit the server.
        """
        for outer, inner in ((YES, YES), (NO, YES), (YES, NO)):
            wrapped = Telling()
            factory = CredentialedUNIXClientFactory(
                CredentialedUNIXClientFactory(wrapped, policy=Saying(inner)),
                policy=Saying(outer),
            )
            connector = reactor.connectUNIX(self.address, factory)
            await self.until(lambda: wrapped.made or wrapped.told[-1] == "stop")
            self.assertEqual(bool(wrapped.made), outer is inner)
            connector.disconnect()
            await self.until(lambda: wrapped.told[-1] == "stop")


class WaitingTests(ClientTestCase):
    """
    Tests for policies that take their time.
    """

    async def waiting(self, answer, **options):
        """
        A client whose policy has been asked and thinks; the server has sent
        something already.
        """
        policy = Saying(answer)
        connector, wrapped = self.connectUNIX(policy=policy, **options)
        server = await self.made(self.server)
        server.transport.write(b"welcome")
        await self.until(lambda: policy.asked)
        await self.until(self.readUp)
        self.assertEqual(wrapped.told, ["start", "connecting"])
        self.assertEqual(wrapped.made, [])
        self.assertEqual(server.received, [])
        return connector, wrapped

    async def test_admitted(self) -> None:
        """
        The connection waits for a L{Deferred} or a coroutine, and nothing is
        read or sent meanwhile; then everything comes.
        """

        async def coroutine(answer):
            return await answer

        for kind in (lambda answer: answer, coroutine):
            answer = Deferred()
            connector, wrapped = await self.waiting(kind(answer))
            answer.callback(YES)
            protocol = await self.made(wrapped)
            await self.until(lambda: protocol.received)
            self.assertEqual(flat(protocol.received), b"welcome")
            connector.disconnect()
            await protocol.ended
            self.server.made.clear()

    async def test_refused(self) -> None:
        """
        A refusal that comes late is one too.
        """
        answer = Deferred()
        _, wrapped = await self.waiting(answer)
        answer.callback(NO)
        self.assertIsInstance(wrapped.told[2], PeerRefused)
        self.assertEqual(wrapped.told[3:], ["stop"])
        await self.assertNothingCame(1)

    async def test_error(self) -> None:
        """
        So is an error.
        """
        answer = Deferred()
        _, wrapped = await self.waiting(answer)
        answer.errback(ZeroDivisionError())
        self.assertBroken(wrapped.told[2])
        await self.assertNothingCame(1)

    async def test_stopConnecting(self) -> None:
        """
        C{stopConnecting} and C{disconnect} cancel the policy.
        """
        for stop in ("stopConnecting", "disconnect"):
            cancelled = []
            answer = Deferred(cancelled.append)
            connector, wrapped = await self.waiting(answer)
            getattr(connector, stop)()
            self.assertEqual(cancelled, [answer])
            self.assertEqual(self.refusals(), [])
            self.assertIsInstance(wrapped.told[2], error.UserError)
            self.assertEqual(wrapped.told[3:], ["stop"])
            await self.assertNothingCame(1)
            self.server.made.clear()

    async def test_timeout(self) -> None:
        """
        The connector's timeout goes on, and cancels the policy.
        """
        cancelled = []
        connector, wrapped = await self.waiting(Deferred(cancelled.append))
        connector.timeoutID.reset(0)
        await self.until(lambda: wrapped.told[-1] == "stop")
        self.assertIsInstance(wrapped.told[2], error.TimeoutError)
        self.assertEqual(len(cancelled), 1)
        await self.assertNothingCame(1)

    async def test_stubbornPolicy(self) -> None:
        """
        A policy that answers although it was cancelled is not listened to.
        """

        async def stubborn(last):
            try:
                await Deferred()
            except CancelledError:
                return last()

        for last in (lambda: YES, lambda: 1 / 0):
            connector, wrapped = await self.waiting(stubborn(last))
            connector.stopConnecting()
            self.assertIsInstance(wrapped.told[2], error.UserError)
            self.assertEqual(wrapped.told[3:], ["stop"])
            self.assertEqual(self.refusals(), [])
            await self.assertNothingCame(1)
            self.server.made.clear()


class EndpointTests(ClientTestCase):
    """
    Tests for L{PeerCredentialsClientEndpoint}, and for endpoints of Twisted's
    with the factory.
    """

    async def test_connect(self) -> None:
        """
        The L{Deferred} has the protocol, which knows the server.
        """
        protocol = await self.endpoint(policy=Saying(YES)).connect(Telling())
        self.assertEqual(protocol.peer.uid, os.geteuid())
        self.assertIs(IPeerCredentials(protocol), protocol.peer)
        protocol.transport.loseConnection()
        await protocol.ended

    async def test_refused(self) -> None:
        """
        A refusal is the L{Deferred}'s failure, by every endpoint that connects
        to Unix sockets, around the factory and in it.
        """
        stock = UNIXClientEndpoint(reactor, self.address)
        string = clientFromString(reactor, "unix:" + self.address)
        for count, endpoint in enumerate((stock, string, self.endpoint()), 1):
            wrapped = Telling()
            factory = CredentialedUNIXClientFactory(wrapped, policy=Saying(NO))
            problem = await self.assertFailure(endpoint.connect(factory), PeerRefused)
            self.assertEqual(problem.credentials.uid, os.geteuid())
            await self.until(lambda: wrapped.told == ["start", "stop"])
            await self.assertNothingCame(count)
        connecting = self.endpoint(policy=Saying(NO)).connect(Telling())
        await self.assertFailure(connecting, PeerRefused)
        await self.assertNothingCame(count + 1)

    async def test_cancel(self) -> None:
        """
        Who cancels the connect cancels the policy.
        """
        cancelled = []
        policy = Saying(Deferred(cancelled.append))
        connecting = self.endpoint(policy=policy).connect(Telling())
        await self.until(lambda: policy.asked)
        connecting.cancel()
        await self.assertFailure(connecting, error.ConnectingCancelledError)
        self.assertEqual(len(cancelled), 1)
        await self.assertNothingCame(1)

    async def test_timeout(self) -> None:
        """
        The endpoint's timeout holds.
        """
        endpoint = UNIXClientEndpoint(reactor, self.address, timeout=0.1)
        factory = CredentialedUNIXClientFactory(Telling(), policy=Saying(Deferred()))
        await self.assertFailure(endpoint.connect(factory), error.TimeoutError)
        await self.assertNothingCame(1)

    async def test_otherEndpoint(self) -> None:
        """
        An endpoint of another kind of socket connects to nobody.
        """
        tcp = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.adoptPort(tcp)
        wrapped = Telling()
        endpoint = PeerCredentialsClientEndpoint(
            TCP4ClientEndpoint(reactor, "127.0.0.1", tcp.getHost().port)
        )
        await self.assertFailure(endpoint.connect(wrapped), CredentialsUnsupported)
        self.assertEqual(wrapped.told, [])

    async def test_deafFactory(self) -> None:
        """
        A factory around ours that does not pass C{doStart} on connects to
        nobody.
        """

        class Deaf(Factory):
            noisy = False

            def __init__(self, inner) -> None:
                self.buildProtocol = inner.buildProtocol

        wrapped = Telling()
        connecting = UNIXClientEndpoint(reactor, self.address).connect(
            Deaf(CredentialedUNIXClientFactory(wrapped))
        )
        await self.assertFailure(connecting, CredentialsUnsupported)
        await self.assertNothingCame(1)
        self.assertEqual(wrapped.made, [])

    async def test_adopted(self) -> None:
        """
        A connection that somebody else made is not looked at, and refused.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        factory = CredentialedUNIXClientFactory(Telling())
        with self.assertRaises(CredentialsUnsupported):
            reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)

    async def test_service(self) -> None:
        """
        L{ClientService} looks at the server each time, around the factory and
        with the endpoint.
        """
        for around in (True, False):
            policy = Saying(NO, YES, NO, YES)
            wrapped = Telling()
            if around:
                service = ClientService(
                    UNIXClientEndpoint(reactor, self.address),
                    CredentialedUNIXClientFactory(wrapped, policy=policy),
                    lambda attempts: 0.01,
                )
            else:
                service = ClientService(
                    self.endpoint(policy=policy), wrapped, lambda attempts: 0.01
                )
            service.startService()
            protocol = await self.made(wrapped)
            self.assertEqual(len(policy.asked), 2)
            self.assertEqual(protocol.peer.uid, os.geteuid())
            protocol.transport.loseConnection()
            await self.made(wrapped, 2)
            self.assertEqual(len(policy.asked), 4)
            await service.stopService()

    async def test_protocolOnTheTransport(self) -> None:
        """
        With C{connectUNIX} nothing of ours is between the protocol and the
        transport; with an endpoint, Twisted's own wrapper alone.
        """
        protocol = await self.endpoint().connect(Factory.forProtocol(Protocol))
        between = protocol.transport.protocol
        self.assertEqual(type(between).__module__, "twisted.internet.endpoints")
        protocol.transport.loseConnection()
        await self.until(lambda: not protocol.transport.connected)
