"""
Tests for L{twisted_peercred.web}, L{twisted_peercred.proxy} and
L{twisted_peercred.forwarded}.
"""

import json
import os
import tempfile

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import endpoints, reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerCredentials,
)
from twisted_peercred.forwarded import (
    Forwarded,
    Malformed,
    clientAddress,
    readForwarded,
)
from twisted_peercred.names import accountName
from twisted_peercred.web import (
    PeerAuthSessionWrapper,
    PeerWSGIResource,
    TrustedProxy,
    peerLogFormatter,
)

from .support import LiveTestCase


class Who(Resource):
    """
    Says what it knows of a request.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests = []

    def render_GET(self, request):
        self.requests.append(request)
        peer = IPeerCredentials(request, None)
        return json.dumps(
            {
                "path": request.path.decode(),
                "prepath": [each.decode() for each in request.prepath],
                "pid": peer and peer.pid,
                "client": getattr(request.getClientAddress(), "host", None),
                "secure": bool(request.isSecure()),
                "host": request.getRequestHostname().decode(),
                "headers": sorted(
                    name.decode()
                    for name, _ in request.requestHeaders.getAllRawHeaders()
                ),
            }
        ).encode()


def request(path="/", *headers: str, version="1.1", close=True) -> bytes:
    """
    The bytes of a request.
    """
    lines = [f"GET {path} HTTP/{version}", "Host: here", *headers]
    if close and version == "1.1":
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def bodies(answer: bytes) -> list:
    """
    The JSON bodies of some responses.
    """
    decoder, found = json.JSONDecoder(), []
    text = answer.decode()
    for part in text.split("\r\n\r\n")[1:]:
        found.append(decoder.raw_decode(part)[0])
    return found


class WebTestCase(LiveTestCase):
    """
    A site on a Unix-domain socket.
    """

    def serveSite(self, resource, capture=Capture.CONNECT, **options) -> str:
        """
        @return: the address.
        """
        site = Site(resource, **options)
        site.noisy = False
        # Its clock for the log's dates would go on after the test.
        self.addCleanup(site.stopFactory)
        return self.listen(CredentialedUNIXServerFactory(site, capture=capture))

    async def ask(self, address, *requests: bytes) -> bytes:
        """
        Send requests at once.

        @return: all that comes back.
        """
        peer = self.connect(address)
        peer.sendall(b"".join(requests))
        return await self.closed(peer)

    async def learn(self, address, *headers: str) -> dict:
        """
        What L{Who} says of a request with some headers.
        """
        (said,) = bodies(await self.ask(address, request("/", *headers)))
        return said


class RequestTests(WebTestCase):
    """
    Tests for the identity of a request.
    """

    async def test_versions(self) -> None:
        """
        HTTP/1.0, HTTP/1.1, on a connection that is kept, and pipelined, in
        each capture: every request has its peer.
        """
        for capture in Capture:
            address = self.serveSite(Who(), capture)
            for requests in (
                [request(version="1.0")],
                [request()],
                [request(close=False), request(close=False), request()],
            ):
                said = bodies(await self.ask(address, *requests))
                self.assertEqual(
                    [each["pid"] for each in said], [os.getpid()] * len(requests)
                )

    async def test_kept(self) -> None:
        """
        On a connection that is kept the next request, and one whose answer is
        waited for, have the peer.
        """
        waiting = []

        class Slow(Who):
            def render_GET(self, request):
                waiting.append(request)
                return NOT_DONE_YET

        peer = self.connect(self.serveSite(Slow()))
        for count in (1, 2):
            peer.sendall(request(close=count == 2))
            await self.until(lambda: len(waiting) == count)
            self.assertEqual(IPeerCredentials(waiting[-1]).pid, os.getpid())
            waiting[-1].finish()
        await self.closed(peer)

    async def test_gone(self) -> None:
        """
        A request whose peer is gone still says who it was.
        """
        waiting, lost = [], []

        class Slow(Who):
            def render_GET(self, request):
                waiting.append(request)
                request.notifyFinish().addErrback(lost.append)
                return NOT_DONE_YET

        peer = self.connect(self.serveSite(Slow()))
        peer.sendall(request())
        await self.until(lambda: waiting)
        peer.close()
        await self.until(lambda: lost)
        self.assertEqual(IPeerCredentials(waiting[0]).pid, os.getpid())

    async def test_tcp(self) -> None:
        """
        A request that came by TCP has nobody.
        """
        who = Who()
        site = Site(TrustedProxy(who, Trusting(True)))
        site.noisy = False
        endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(site)
        self.adoptPort(port)
        said = await self.fetchTCP(port.getHost().port)
        self.assertEqual((said["pid"], said["client"]), (None, "127.0.0.1"))
        self.assertNotIn("X-Forwarded-For", said["headers"])

    async def fetchTCP(self, number: int) -> dict:
        """
        What a site on TCP says.
        """
        import socket

        peer = socket.create_connection(("127.0.0.1", number))
        self.addCleanup(peer.close)
        peer.sendall(request("/", "X-Forwarded-For: 192.0.2.1"))
        (said,) = bodies(await self.closed(peer))
        return said


@implementer(ICredentialsChecker)
class Checker:
    """
    Takes everybody, or fails as it is told.
    """

    credentialInterfaces = (IPeerCredentials,)

    def __init__(self, problem=None) -> None:
        self.problem = problem

    def requestAvatarId(self, credentials):
        if self.problem is not None:
            raise self.problem
        return succeed(str(credentials.uid))


@implementer(IRealm)
class Realm:
    """
    Has one resource, and counts who is in.
    """

    def __init__(self, resource) -> None:
        self.resource = resource
        self.avatars = []
        self.out = 0
        self.wait = None

    def requestAvatar(self, avatarID, mind, *interfaces):
        self.avatars.append(avatarID)
        answer = (IResource, self.resource, self.logout)
        if self.wait is None:
            return answer
        return self.wait.addCallback(lambda _: answer)

    def logout(self) -> None:
        self.out += 1


class LoginTests(WebTestCase):
    """
    Tests for L{PeerAuthSessionWrapper}.
    """

    def setUp(self):
        self.realm = Realm(Who())
        return super().setUp()

    def site(self, problem=None) -> str:
        """
        A site with a login, at the root.
        """
        portal = Portal(self.realm, [Checker(problem)])
        return self.serveSite(PeerAuthSessionWrapper(portal))

    async def test_login(self) -> None:
        """
        Each request gets the avatar's resource, as if there were nothing around
        it, and is logged out once when it is over.
        """
        answers = await self.ask(
            self.site(), request("/", close=False), request("/a/b")
        )
        said = bodies(answers)
        self.assertEqual([each["path"] for each in said], ["/", "/a/b"])
        self.assertEqual([each["prepath"] for each in said], [[], []])
        self.assertEqual(self.realm.avatars, [str(os.geteuid())] * 2)
        await self.until(lambda: self.realm.out == 2)

    async def test_leaf(self) -> None:
        """
        It can be rendered itself.
        """
        wrapper = PeerAuthSessionWrapper(Portal(self.realm, [Checker()]))
        wrapper.isLeaf = True
        (said,) = bodies(await self.ask(self.serveSite(wrapper), request()))
        self.assertEqual(said["pid"], os.getpid())

    async def test_refused(self) -> None:
        """
        Who may not come in gets 403, and no more.
        """
        answer = await self.ask(self.site(UnauthorizedLogin("secret")), request())
        self.assertTrue(answer.startswith(b"HTTP/1.1 403 "), answer)
        self.assertNotIn(b"secret", answer)
        self.assertEqual(self.realm.avatars, [])

    async def test_failed(self) -> None:
        """
        A checker that fails is 500, and logged.
        """
        answer = await self.ask(self.site(ZeroDivisionError("secret")), request())
        self.assertTrue(answer.startswith(b"HTTP/1.1 500 "), answer)
        self.assertNotIn(b"secret", answer)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_goneWhileLoggingIn(self) -> None:
        """
        Who goes while he is being logged in is logged out.
        """
        self.realm.wait = Deferred()
        wait = self.realm.wait
        peer = self.connect(self.site())
        peer.sendall(request())
        await self.until(lambda: self.realm.avatars)
        peer.close()
        await self.until(self.readUp)
        wait.callback(None)
        await self.until(lambda: self.realm.out == 1)

    def test_interface(self) -> None:
        """
        It is a resource, without children of its own.
        """
        wrapper = PeerAuthSessionWrapper(Portal(self.realm))
        verifyObject(IResource, wrapper)
        self.assertRaises(NotImplementedError, wrapper.putChild, b"a", Resource())


class WSGITests(WebTestCase):
    """
    Tests for L{PeerWSGIResource}.
    """

    def setUp(self):
        pool = ThreadPool(0, 2)
        pool.start()
        self.addCleanup(pool.stop)

        def application(environ, startResponse):
            texts = {k: v for k, v in environ.items() if isinstance(v, str)}
            body = json.dumps(texts).encode()
            startResponse("200 OK", [("Content-Length", str(len(body)))])
            return [body]

        self.resource = PeerWSGIResource(reactor, pool, application)
        return super().setUp()

    async def test_environ(self) -> None:
        """
        The application is told who it is.
        """
        (environ,) = bodies(
            await self.ask(self.serveSite(self.resource), request("/x?y"))
        )
        self.assertEqual(environ["REMOTE_USER"], accountName(os.geteuid()))
        self.assertEqual(environ["PEERCRED_UID"], str(os.geteuid()))
        self.assertEqual(environ["PEERCRED_GID"], str(os.getegid()))
        self.assertEqual(environ["PEERCRED_PID"], str(os.getpid()))
        groups = sorted({os.getegid(), *os.getgroups()})
        self.assertEqual(environ["PEERCRED_GROUPS"], ",".join(map(str, groups)))
        self.assertEqual(environ["PATH_INFO"], "/x")
        self.assertEqual(
            (environ["SERVER_NAME"], environ["SERVER_PORT"]), ("here", "80")
        )
        self.assertEqual(environ["REMOTE_ADDR"], "")
        self.assertNotIn("REMOTE_PORT", environ)

    async def test_forged(self) -> None:
        """
        No spelling of a header makes or hides a variable.
        """
        names = [
            *("Remote-User", "REMOTE_USER", "remote_user", "Proxy"),
            *("Peercred-Uid", "PEERCRED_UID", "Peercred_Gid", "peercred-groups"),
            *("HTTP-Peercred-Uid", "Peercred-Pid", "Http_Remote_User"),
        ]
        (environ,) = bodies(
            await self.ask(
                self.serveSite(self.resource),
                request("/", "X-Fine: forged", *(f"{name}: forged" for name in names)),
            )
        )
        forged = {name for name, value in environ.items() if "forged" in value}
        # What is behind another HTTP_ is nobody's variable.
        self.assertEqual(
            forged, {"HTTP_X_FINE", "HTTP_HTTP_PEERCRED_UID", "HTTP_HTTP_REMOTE_USER"}
        )
        self.assertEqual(environ["PEERCRED_UID"], str(os.geteuid()))

    async def test_unknown(self) -> None:
        """
        What the kernel did not say is not there.
        """
        peer = PeerCredentials(uid=4_000_000_000, gid=7)
        environ = {"REMOTE_ADDR": ""}
        environ["REMOTE_PORT"] = "0"
        told = []
        resource = PeerWSGIResource(None, None, lambda environ, _: told.append(environ))
        resource._call(peer, environ, None)
        self.assertEqual(
            told,
            [
                {
                    "REMOTE_ADDR": "",
                    "REMOTE_USER": "4000000000",
                    "PEERCRED_UID": "4000000000",
                    "PEERCRED_GID": "7",
                }
            ],
        )

    async def test_behindProxy(self) -> None:
        """
        What a trusted proxy says is there: the address of whom it speaks for.
        """
        address = self.serveSite(TrustedProxy(self.resource, Trusting(True)))
        (environ,) = bodies(
            await self.ask(
                address,
                request("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"),
            )
        )
        self.assertEqual(
            [environ[each] for each in ("REMOTE_ADDR", "REMOTE_PORT", "SERVER_PORT")],
            ["192.0.2.1", "0", "443"],
        )

    async def test_noPeer(self) -> None:
        """
        A request without a peer does not reach the application.
        """
        self.assertRaises(TypeError, self.resource.render, object())

    def test_interface(self) -> None:
        """
        It is a resource; all of the path is the application's.
        """
        verifyObject(IResource, self.resource)
        self.assertRaises(RuntimeError, self.resource.putChild, b"a", Resource())
        self.assertRaises(RuntimeError, self.resource.getChildWithDefault, b"a", None)


class Trusting:
    """
    A policy that says one thing.
    """

    rule = "test"

    def __init__(self, admitted: bool, late: bool = False) -> None:
        self.admitted = admitted
        self.late = late

    def decide(self, identity):
        return succeed(self) if self.late else self


CLAIMS = [
    *("X-Forwarded-For: 192.0.2.9, 192.0.2.1", "X-Forwarded-Proto: https"),
    *("X-Forwarded-Host: example.com", "X-Real-IP: 192.0.2.1"),
    *("X_Forwarded_For: 192.0.2.2", "X-Forwarded_Proto: https", "FORWARDED: for=x"),
    *("x-forwarded-user: root", "X-Fine: 1"),
]


class ProxyTests(WebTestCase):
    """
    Tests for L{TrustedProxy}.
    """

    def site(self, *decision: bool) -> str:
        """
        A site behind it.
        """
        return self.serveSite(TrustedProxy(Who(), Trusting(*decision)))

    async def test_stripped(self) -> None:
        """
        From a peer that the policy does not admit nothing is believed, and
        nothing of it is left, however it is spelled.
        """
        for late in (False, True):
            said = await self.learn(self.site(False, late), *CLAIMS)
            self.assertEqual(
                (said["client"], said["secure"], said["host"]), (None, False, "here")
            )
            self.assertEqual(said["headers"], ["Connection", "Host", "X-Fine"])

    async def test_believed(self) -> None:
        """
        From one that it admits the last of each is; what is spelled with
        underscores is not.
        """
        claims = [each for each in CLAIMS if not each.startswith("FORWARDED")]
        for late in (False, True):
            said = await self.learn(self.site(True, late), *claims)
            self.assertEqual(
                (said["client"], said["secure"], said["host"]),
                ("192.0.2.1", True, "example.com"),
            )
            self.assertEqual([each for each in said["headers"] if "_" in each], [])
            self.assertIn("X-Forwarded-User", said["headers"])

    async def test_silent(self) -> None:
        """
        A proxy that says nothing changes nothing, one that says one thing
        just that.
        """
        address = self.site(True)
        said = await self.learn(address)
        self.assertEqual(
            (said["client"], said["secure"], said["host"]), (None, False, "here")
        )
        said = await self.learn(address, "X-Forwarded-Proto: https")
        self.assertEqual(
            (said["client"], said["secure"], said["host"]), (None, True, "here")
        )
        said = await self.learn(address, "Forwarded: for=unknown;host=x.org:8080")
        self.assertEqual(
            (said["client"], said["secure"], said["host"]), (None, False, "x.org")
        )

    async def test_clients(self) -> None:
        """
        Addresses of both kinds, with and without a port.
        """
        address = self.site(True)
        for client, host in (
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("_secret", None),
        ):
            said = await self.learn(address, f"X-Forwarded-For: {client}")
            self.assertEqual(said["client"], host)

    async def test_contradiction(self) -> None:
        """
        What makes no sense, or contradicts itself, is 400.
        """
        address = self.site(True)
        for headers in (
            ["Forwarded: for=192.0.2.1", "X-Forwarded-For: 192.0.2.2"],
            ["X-Forwarded-For: localhost"],
            ["X-Forwarded-Proto: gopher"],
            ["X-Forwarded-Host: a/b"],
            ["Forwarded: for"],
        ):
            answer = await self.ask(address, request("/", *headers))
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)

    async def test_path(self) -> None:
        """
        The resource has all of its path, as if there were nothing around it;
        as a leaf too.
        """
        for leaf in (False, True):
            root = Resource()
            proxy = TrustedProxy(root, Trusting(True))
            proxy.putChild(b"a", Who())
            if leaf:
                proxy = TrustedProxy(Who(), Trusting(True))
                proxy.isLeaf = True
            verifyObject(IResource, proxy)
            (said,) = bodies(await self.ask(self.serveSite(proxy), request("/a/b")))
            self.assertEqual(said["prepath"], [] if leaf else ["a"])


class ForwardedTests(SynchronousTestCase):
    """
    Tests for L{readForwarded}.
    """

    def read(self, *lines: bytes) -> Forwarded:
        """
        C{Forwarded} headers.
        """
        return readForwarded(Headers({b"Forwarded": list(lines)}))

    def test_last(self) -> None:
        """
        The last element counts, of all lines, whatever is quoted before it.
        """
        self.assertEqual(
            self.read(
                b'for="a, for=b";proto=http', b'host="x\\"y" ,For=_c;proto=https'
            ),
            Forwarded(b"_c", b"https", None),
        )

    def test_malformed(self) -> None:
        """
        What is no C{Forwarded} header, or says a thing twice, is an error.
        """
        for text in (b"", b"for=", b'for="a', b"for=a;for=b", b"for=a b=c", b"for=a,,"):
            self.assertRaises(Malformed, self.read, text)

    def test_scope(self) -> None:
        """
        An address with a scope, which may be any text, is none.
        """
        for client in (b'fe80::1% - - "x', b"[fe80::1%1]:80"):
            self.assertRaises(Malformed, clientAddress, client)

    def test_client(self) -> None:
        """
        An address stands as RFC 7239 has it, or as some proxies do; a port that
        can be none is not told.
        """
        for client, host, port in (
            (b"::1", "::1", 0),
            (b"[::1]", "::1", 0),
            (b"[::1]:80", "::1", 80),
            (b"[::1]:65535", "::1", 65535),
            (b"[::1]:65536", "::1", 0),
            (b"[::1]:_hidden", "::1", 0),
            (b"[::1]:" + b"9" * 5000, "::1", 0),
        ):
            self.assertEqual(clientAddress(client), IPv6Address("TCP", host, port))
        self.assertEqual(
            clientAddress(b"192.0.2.1:80"), IPv4Address("TCP", "192.0.2.1", 80)
        )
        for client in (b"[::1", b"[::1]80", b"[::1]]", b"[192.0.2.1]", b"::1]", b""):
            self.assertRaises(Malformed, clientAddress, client)

    def test_agreeing(self) -> None:
        """
        Both kinds may say the same, each in its way.
        """
        for forwarded, name, value, agree in (
            (b"for=192.0.2.1", b"X-Forwarded-For", b"x, 192.0.2.1", True),
            (b'for="192.0.2.1:80"', b"X-Forwarded-For", b"192.0.2.1", True),
            (b'for="[2001:DB8::1]"', b"X-Forwarded-For", b"2001:db8::1", True),
            (b"for=unknown", b"X-Forwarded-For", b"_hidden", True),
            (b"for=192.0.2.1", b"X-Forwarded-For", b"192.0.2.2", False),
            (b"for=192.0.2.1", b"X-Forwarded-For", b"unknown", False),
            (b"for=192.0.2.1", b"X-Forwarded-For", b"nonsense", False),
            (b"proto=HTTPS", b"X-Forwarded-Proto", b"https", True),
            (b"proto=http", b"X-Forwarded-Proto", b"https", False),
            (b"host=Example.org", b"X-Forwarded-Host", b"example.org", True),
            (b"host=example.org", b"X-Forwarded-Host", b"example.com", False),
        ):
            headers = Headers({b"Forwarded": [forwarded], name: [value]})
            if agree:
                said = [each for each in readForwarded(headers) if each is not None]
                self.assertEqual(said, [value.rpartition(b" ")[2]])
            else:
                self.assertRaises(Malformed, readForwarded, headers)


class LogTests(WebTestCase):
    """
    Tests for L{peerLogFormatter}.
    """

    async def test_uid(self) -> None:
        """
        The access log has the uid where the user goes, and nothing that a
        client could make up.
        """
        path = tempfile.mktemp(dir=self.directory)
        site = Site(Who(), logPath=path, logFormatter=peerLogFormatter)
        site.noisy = False
        address = self.listen(CredentialedUNIXServerFactory(site))
        await self.ask(
            address, request("/", "Authorization: Basic cm9vdDp4", "User-Agent: - - x")
        )
        site.logFile.flush()
        with open(path) as file:
            (line,) = file
        self.assertTrue(line.startswith(f'"-" - {os.geteuid()} ['), line)
        self.assertIn('"GET / HTTP/1.1" 200', line)

    def test_interface(self) -> None:
        """
        It is a formatter.
        """
        self.assertTrue(IAccessLogFormatter.providedBy(peerLogFormatter))

    def test_noPeer(self) -> None:
        """
        A request without a peer is logged as Twisted does.
        """

        class Request:
            method = uri = clientproto = b"x"
            code = 200
            sentLength = 0

            def getClientAddress(self):
                return IPv4Address("TCP", "192.0.2.1", 1)

            def getHeader(self, name):
                return None

        self.assertTrue(
            peerLogFormatter("[now]", Request()).startswith('"192.0.2.1" - - [now] ')
        )
