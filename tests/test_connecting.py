"""
Tests for L{twisted_peercred.connecting}: that Twisted still does what it
relies on.  A failure here names what has moved.
"""

from twisted.internet import base, reactor, tcp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.protocol import ClientFactory
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import CredentialsUnsupported
from twisted_peercred.connecting import (
    CredentialedClient,
    CredentialedConnector,
    arrangeConnector,
    findStartingConnector,
    unsentBytes,
)


class Finding(ClientFactory):
    """
    Looks for its connector when it is started.
    """

    noisy = False

    def startFactory(self) -> None:
        self.found = findStartingConnector()

    def startedConnecting(self, connector) -> None:
        connector.stopConnecting()


class RelianceTests(SynchronousTestCase):
    """
    What Twisted does not promise.
    """

    def test_doStartWithinConnect(self) -> None:
        """
        L{BaseConnector.connect} calls C{doStart}, as a method of that name.
        """
        factory = Finding()
        connector = reactor.connectUNIX("/nowhere", factory)
        self.assertIs(factory.found, connector)
        self.assertIs(type(connector), unix.Connector)
        self.assertIsInstance(connector, base.BaseConnector)

    def test_makeTransport(self) -> None:
        """
        C{unix.Connector._makeTransport} is how it makes its transport, of
        C{address}, C{reactor} and C{checkPID}, after C{doStart}.
        """

        class Arranging(Finding):
            def startFactory(self) -> None:
                arrangeConnector(findStartingConnector(), self)

            def startedConnecting(self, connector) -> None:
                self.transport = connector.transport
                connector.stopConnecting()

        factory = Arranging()
        connector = reactor.connectUNIX("/nowhere", factory)
        self.assertIs(type(connector), CredentialedConnector)
        self.assertIs(type(factory.transport), CredentialedClient)

    def test_connectDone(self) -> None:
        """
        C{BaseClient._connectDone} asks for the protocol; that it is called at
        all is seen by each test of L{tests.test_client}.
        """
        self.assertIn("buildProtocol", tcp.BaseClient._connectDone.__code__.co_names)
        self.assertIs(unix.Client._connectDone, tcp.BaseClient._connectDone)

    def test_unsentBytes(self) -> None:
        """
        C{dataBuffer}, C{offset} and C{_tempDataLen} are what was written and
        not sent yet.
        """

        class Slow(FileDescriptor):
            connected = 1

            def startWriting(self) -> None:
                pass

            def writeSomeData(self, data) -> int:
                return 3

        transport = Slow(reactor)
        self.assertEqual(unsentBytes(transport), 0)
        transport.write(b"12345678")
        self.assertEqual(unsentBytes(transport), 8)
        transport.doWrite()
        self.assertEqual(unsentBytes(transport), 5)
        transport.writeSequence([b"9", b"0"])
        self.assertEqual(unsentBytes(transport), 7)


class FindingTests(SynchronousTestCase):
    """
    Tests for L{findStartingConnector} and L{arrangeConnector}.
    """

    def connect(self) -> object:
        """
        A method of the name, of something else.
        """
        return findStartingConnector()

    def test_nobody(self) -> None:
        """
        Without a connector on the stack there is none.
        """
        self.assertIsNone(self.connect())

    def test_otherConnector(self) -> None:
        """
        The connector of another kind of socket cannot be arranged, nor one
        that somebody else has made of Unix sockets.
        """

        class Others(unix.Connector):
            pass

        for each in (
            tcp.Connector("127.0.0.1", 1, None, 30, None, reactor),
            Others("/nowhere", None, 30, reactor, 0),
        ):
            with self.assertRaises(CredentialsUnsupported):
                arrangeConnector(each, object())

    def test_twice(self) -> None:
        """
        A verifier is asked once, however often it starts.
        """
        connector = unix.Connector("/nowhere", None, 30, reactor, 0)
        one, two = object(), object()
        for each in (one, two, one):
            arrangeConnector(connector, each)
        self.assertEqual(connector.verifiers, (one, two))
