"""
Twisted's own tests of Unix transports, with our factories at both ends:
protocols, producers, half-close, abort and descriptors behave as on stock, in
every capture.  (Private test code of Twisted's, which ships with it.)
"""

from __future__ import annotations

from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorUNIX
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.internet.test.test_tcp import AbortConnectionMixin
from twisted.internet.test.test_unix import UNIXCreator
from twisted.internet.test.test_unix import UNIXTestsBuilder as StockTestsBuilder

from twisted_peercred import Capture, CredentialedUNIXServerFactory
from twisted_peercred.endpoints import PeerCredentialsClientEndpoint

SYNC = b"\x11\x22\x33\x44"


class CredentialedEndpoint:
    """
    A server endpoint that wraps whatever listens on it.
    """

    def __init__(self, endpoint, capture: Capture) -> None:
        self.endpoint = endpoint
        self.capture = capture

    def listen(self, factory):
        return self.endpoint.listen(
            CredentialedUNIXServerFactory(factory, capture=self.capture, syncWord=SYNC)
        )


class CredentialedCreator(UNIXCreator):
    """
    Makes such endpoints.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def server(self, reactor):
        endpoint = super().server(reactor)
        assert isinstance(endpoint, UNIXServerEndpoint)
        return CredentialedEndpoint(endpoint, self.capture)

    def client(self, reactor, serverAddress):
        # The tests' own clients often say nothing, and would never be known by
        # a message: a sync word is one.
        return PeerCredentialsClientEndpoint(
            super().client(reactor, serverAddress), syncWord=SYNC, sendCredentials=True
        )


class _Reactors:
    """
    One reactor of each way to call a transport is enough here.
    """

    _reactors = [
        "twisted.internet.epollreactor.EPollReactor",
        "twisted.internet.asyncioreactor.AsyncioSelectorReactor",
    ]


def _define() -> None:
    for capture in Capture:
        name = capture.name.title().replace("_", "")

        class Transport(_Reactors, StockTestsBuilder):
            endpoints = CredentialedCreator(capture)

        class Abort(_Reactors, ReactorBuilder, AbortConnectionMixin):
            requiredInterfaces = (IReactorUNIX,)
            endpoints = CredentialedCreator(capture)

            def runAbortTest(self, client, server, clientConnectionLostReason=None):
                # Written for TCP, where a server that aborts resets its peer's
                # connection.  On stock Unix transports too it is just closed.
                if clientConnectionLostReason is ConnectionLost:
                    clientConnectionLostReason = ConnectionDone
                super().runAbortTest(client, server, clientConnectionLostReason)

        for builder in (Transport, Abort):
            builder.__name__ = builder.__qualname__ = name + builder.__name__
            builder.__module__ = __name__
            globals().update(builder.makeTestCaseClasses())


_define()
