"""
One server to be measured, in this process: C{python servers.py VARIANT LOOP
ADDRESS}.  It says C{listening} when it does.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

BACKLOG = 1024
UCRED = struct.Struct("iII")


def _ucred(connected: socket.socket) -> tuple[int, int, int]:
    return UCRED.unpack(
        connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    )


def _say(listening: str = "listening") -> None:
    print(listening, flush=True)


# Twisted.


def _installReactor(loop: str) -> None:
    if loop == "epoll":
        from twisted.internet import epollreactor

        epollreactor.install()
        return
    from twisted.internet import asyncioreactor

    asyncioreactor.install(_newLoop(loop))


def _wrapStock(factory: Any) -> Any:
    return factory


def _wrapToday(factory: Any) -> Any:
    """
    What is written today for want of better.
    """
    from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

    class Asking(ProtocolWrapper):
        def makeConnection(self, transport: Any) -> None:
            self.pid, self.uid, self.gid = _ucred(transport.getHandle())
            super().makeConnection(transport)

    wrapper = WrappingFactory(factory)
    wrapper.protocol = Asking
    wrapper.noisy = False
    return wrapper


def _wrapCredentialed(**options: Any) -> Callable[[Any], Any]:
    def wrap(factory: Any) -> Any:
        from twisted_peercred import Capture, CredentialedUNIXServerFactory

        capture = Capture[options.pop("capture", "CONNECT")]
        return CredentialedUNIXServerFactory(factory, capture=capture, **options)

    return wrap


def _wrapPolicy(count: int) -> Callable[[Any], Any]:
    """
    With rules of all kinds, of which the last one admits this user.
    """

    def wrap(factory: Any) -> Any:
        from twisted_peercred import Policy

        other = os.geteuid() + 1
        kinds = itertools.cycle(
            (
                "uid/{0}",
                "gid/{0}",
                "!uid/{0}-{1}",
                "uid/{0}+gid/{1}",
                "gid/{0}+label/other_*",
                "!gid/{0}",
            )
        )
        rules = [
            next(kinds).format(other + 10 * each, other + 10 * each + 9)
            for each in range(count - 1)
        ]
        policy = Policy.fromString(",".join([*rules, f"uid/{os.geteuid()}"]))
        return _wrapCredentialed(policy=policy)(factory)

    return wrap


#: From the name of a variant to what it makes of a factory.
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "stock": _wrapStock,
    "wrapper": _wrapToday,
    "CONNECT": _wrapCredentialed(),
    "FIRST_MESSAGE": _wrapCredentialed(capture="FIRST_MESSAGE"),
    "EVERY_MESSAGE": _wrapCredentialed(capture="EVERY_MESSAGE"),
    **{f"policy of {count:,}": _wrapPolicy(count) for count in (1, 100, 1000)},
}


def serveEcho(variant: str, loop: str, address: str) -> None:
    """
    Echo, on a reactor.
    """
    _installReactor(loop)
    from twisted.internet import reactor
    from twisted.internet.protocol import Factory, Protocol

    class Echo(Protocol):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

    class Echoes(Factory):
        protocol = Echo
        noisy = False

    reactor.listenUNIX(address, WRAPPERS[variant](Echoes()), backlog=BACKLOG)
    reactor.callWhenRunning(_say)
    reactor.run()


def serveWeb(variant: str, loop: str, address: str) -> None:
    """
    A page that depends on who asks for it, by C{twisted.web}.
    """
    _installReactor(loop)
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString
    from twisted.web.resource import Resource
    from twisted.web.server import Site

    from twisted_peercred import IPeerCredentials

    def uidByUs(request: Any) -> int:
        return IPeerCredentials(request).uid

    def uidByWrapper(request: Any) -> int:
        return request.channel.transport.uid

    def nobody(request: Any) -> int:
        return 0

    wrap, prefix, uidOf = {
        "unix:": (_wrapStock, "", nobody),
        "unix: and wrapper": (_wrapToday, "", uidByWrapper),
        "peercred:unix:": (_wrapStock, "peercred:", uidByUs),
    }[variant]

    class Page(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            return b"Good morning, %d.\n" % uidOf(request)

    site = Site(Page())
    site.noisy = False
    endpoint = serverFromString(reactor, f"{prefix}unix:{address}:backlog={BACKLOG}")
    endpoint.listen(wrap(site))
    reactor.callWhenRunning(_say)
    reactor.run()


# Others.


def _newLoop(loop: str) -> asyncio.AbstractEventLoop:
    if loop == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def serveAsyncio(variant: str, loop: str, address: str) -> None:
    """
    Echo, by a protocol of asyncio's.
    """

    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:
            self.transport = transport
            connected = transport.get_extra_info("socket")
            # What uvloop gives in place of a socket has the method too.
            self.pid, self.uid, self.gid = _ucred(connected)

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def serve() -> None:
        await running.create_unix_server(Echo, address, backlog=BACKLOG)
        _say()

    running = _newLoop(loop)
    running.run_until_complete(serve())
    running.run_forever()


def serveCheroot(variant: str, loop: str, address: str) -> None:
    """
    The same page, by cheroot, which can ask for credentials too.
    """
    from cheroot.wsgi import Server

    def page(environ: Any, start: Any) -> list[bytes]:
        body = b"Good morning, %s.\n" % environ["X_REMOTE_UID"].encode()
        start(
            "200 OK",
            [("Content-Type", "text/html"), ("Content-Length", str(len(body)))],
        )
        return [body]

    server = Server(address, page, request_queue_size=BACKLOG)
    server.peercreds_enabled = True
    server.prepare()
    _say()
    server.serve()


SERVERS = {
    **dict.fromkeys(WRAPPERS, serveEcho),
    **dict.fromkeys(("unix:", "unix: and wrapper", "peercred:unix:"), serveWeb),
    "asyncio": serveAsyncio,
    "cheroot": serveCheroot,
}

if __name__ == "__main__":
    variant, loop, address = sys.argv[1:]
    SERVERS[variant](variant, loop, address)
