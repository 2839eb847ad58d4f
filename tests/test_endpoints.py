"""
Tests for L{twisted_peercred.endpoints}.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import skipIf

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.testing import MemoryReactor
from twisted.plugin import IPlugin
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_peercred import (
    Capture,
    CredentialsUnsupported,
    PeerRefused,
    Policy,
    policy,
)
from twisted_peercred.endpoints import (
    PeerCredentialsClientEndpoint,
    PeerCredentialsClientParser,
    PeerCredentialsServerEndpoint,
    PeerCredentialsServerParser,
)
from twisted_peercred.listening import pathToBind
from twisted_peercred.strings import SERVER_KEYWORDS

from .support import LiveTestCase, RememberingFactory, environment, needsRoot
from .test_socketfile import WATCHER

serverFromString = endpoints.serverFromString
clientFromString = endpoints.clientFromString


def options(description: str) -> dict:
    """
    What the server factory is told.
    """
    return serverFromString(MemoryReactor(), description)._options


def same(one: object, other: object) -> bool:
    """
    Whether two endpoints are of one class, with the same arguments.
    """
    return type(one) is type(other) and vars(one) == vars(other)


#: Text without NUL, rich in what has to be escaped.
texts = st.text(st.sampled_from("ab/:=\\ ,") | st.characters(exclude_characters="\0"))


class RecordingParser:
    """
    The parser of an endpoint that keeps what it is given.
    """

    prefix = "record"

    def parseStreamServer(self, reactor, /, *args, **kwargs):
        return args, kwargs


class StringTests(SynchronousTestCase):
    """
    Tests for what C{peercred:} makes of a description.
    """

    def test_anyKeyword(self) -> None:
        """
        A keyword that the parser's arguments are called by is one for what is
        described, as any other is.
        """
        self.patch(endpoints, "getPlugins", lambda interface: [RecordingParser()])
        for name in ("self", "reactor"):
            endpoint = PeerCredentialsServerParser().parseStreamServer(
                MemoryReactor(), "record", **{name: "a"}
            )
            self.assertEqual(endpoint.wrappedEndpoint, ((), {name: "a"}))

    def test_interfaces(self) -> None:
        """
        The parser is a plugin that Twisted finds, and makes an endpoint.
        """
        parser = PeerCredentialsServerParser()
        verifyObject(IPlugin, parser)
        verifyObject(IStreamServerEndpointStringParser, parser)
        endpoint = serverFromString(MemoryReactor(), "peercred:unix:/s")
        self.assertIsInstance(endpoint, PeerCredentialsServerEndpoint)
        verifyObject(IStreamServerEndpoint, endpoint)

    def roundTrip(self, description: str) -> None:
        """
        What is inside is what Twisted alone makes of it.
        """
        memory = MemoryReactor()
        alone = serverFromString(memory, description)
        wrapped = serverFromString(memory, f"peercred:{description}")
        self.assertTrue(
            same(alone, wrapped.wrappedEndpoint),
            f"{vars(alone)} != {vars(wrapped.wrappedEndpoint)}",
        )

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        texts,
        st.integers(0, 0o7777),
        st.integers(0, 10000),
        st.booleans(),
        st.permutations(["mode", "backlog", "lockfile"]),
        st.sets(st.sampled_from(["mode", "backlog", "lockfile"])),
    )
    def test_unix(self, path, mode, backlog, lock, order, given_) -> None:
        """
        Whatever the path and the keywords of C{unix:}, by whatever escaping
        they are written.
        """
        values = {"mode": f"{mode:o}", "backlog": backlog, "lockfile": int(lock)}
        words = [f"{each}={values[each]}" for each in order if each in given_]
        everything = "".join(f"\\{each}" if each in ":=\\" else each for each in path)
        self.roundTrip(":".join(["unix", everything, *words]))
        quoted = endpoints.quoteStringArgument(path)
        if "=" not in path:
            self.roundTrip(":".join(["unix", quoted, *words]))
        # As a keyword Twisted takes a path with = as it is.
        self.roundTrip(":".join(["unix", f"address={quoted}", *words]))

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(texts.filter(bool), max_size=4),
        st.dictionaries(
            st.text(st.characters(codec="ascii"), min_size=1).filter(
                lambda name: name not in ("reactor", "self")
            ),
            texts,
            max_size=4,
        ),
    )
    def test_anyEndpoint(self, args, kwargs) -> None:
        """
        Any other endpoint's parser gets the same arguments, whatever is in
        them: keywords too may be any text.
        """
        for own in SERVER_KEYWORDS:
            kwargs.pop(own, None)

        def quoted(text):
            return "".join(f"\\{each}" if each in ":=\\" else each for each in text)

        description = ":".join(
            ["record", *map(quoted, args)]
            + [f"{quoted(name)}={quoted(each)}" for name, each in kwargs.items()]
        )
        self.patch(
            endpoints,
            "getPlugins",
            lambda interface: [RecordingParser(), PeerCredentialsServerParser()],
        )
        alone = serverFromString(MemoryReactor(), description)
        self.assertEqual(alone, (tuple(args), kwargs))
        wrapped = serverFromString(MemoryReactor(), f"peercred:{description}")
        self.assertEqual(wrapped.wrappedEndpoint, alone)

    def test_listen(self) -> None:
        """
        What the reactor is asked for is what it is asked for without us.
        """
        for description in (
            "unix:/run/no-such/a\\=b\\:c\\\\d:mode=600:backlog=7:lockfile=0",
            "unix:address=/run/no-such/a=b",
        ):
            calls = []
            for prefix in ("", "peercred:"):
                memory = MemoryReactor()
                serverFromString(memory, prefix + description).listen(object())
                address, _, *rest = memory.unixServers[0]
                calls.append([address, *rest])
            self.assertEqual(calls[0], calls[1])

    def test_ownKeywords(self) -> None:
        """
        Our own keywords are the factory's, wherever they stand.
        """
        self.assertEqual(options("peercred:unix:/s"), {})
        self.assertEqual(
            options(
                "peercred:capture=first-message:unix:timeout=2.5:/s:sync=hi\\:=:mode=600"
            ),
            {"capture": Capture.FIRST_MESSAGE, "timeout": 2.5, "syncWord": b"hi:="},
        )
        self.assertEqual(
            options("peercred:rules=!uid/1-5,group/root+any:unix:/s:maxPerUID=3"),
            {"policy": Policy.fromString("!uid/1-5,group/root+any"), "maxPerUID": 3},
        )

    def test_rulesFile(self) -> None:
        """
        Rules can be in a file, for servers and for clients, and not in two
        places.
        """
        path = os.path.abspath(self.mktemp())
        with open(path, "w") as file:
            file.write("root\n!any\n")
        os.chmod(path, 0o600)
        # Trial's directory may be one that others write to.
        self.patch(policy, "readTrusted", lambda path: Path(path).read_text())
        for parse in (serverFromString, clientFromString):
            endpoint = parse(MemoryReactor(), f"peercred:unix:/s:rulesFile={path}")
            self.assertEqual(
                str(endpoint._options["policy"].policy), "root,!any", parse
            )
            with self.assertRaises(ValueError) as raised:
                parse(MemoryReactor(), f"peercred:unix:/s:rulesFile={path}:rules=any")
            self.assertIn("not both", str(raised.exception))

    def test_abstractOpen(self) -> None:
        """
        C{abstract=open} is the endpoint's.
        """
        endpoint = serverFromString(MemoryReactor(), "peercred:unix:/s:abstract=open")
        self.assertEqual(endpoint._file, (-1, -1, True))

    def test_noPort(self) -> None:
        """
        A reactor whose ports are not Twisted's own is asked to listen as well.
        """
        memory = MemoryReactor()
        serverFromString(memory, "peercred:unix:/s").listen(RememberingFactory())
        factory = memory.unixServers[0][1]
        factory.doStart()
        self.assertEqual(factory.wrappedFactory.numPorts, 1)

    def test_owners(self) -> None:
        """
        C{user} and C{group} are names, or numbers that no name is.
        """
        endpoint = serverFromString(
            MemoryReactor(), "peercred:unix:/s:user=root:group=4000000000"
        )
        self.assertEqual(endpoint._file, (0, 4000000000, False))
        endpoint = serverFromString(
            MemoryReactor(), "peercred:unix:/s:user=4000000000:group=root"
        )
        self.assertEqual(endpoint._file, (4000000000, 0, False))

    def test_mistakes(self) -> None:
        """
        A mistake is a L{ValueError} that names it.
        """
        for description, problem in (
            ("peercred", "stands before another"),
            ("peercred:mode=600", "stands before another"),
            ("peercred:nonsense:/s", "nonsense"),
            ("peercred:unix:/s:capture=later", "capture=later"),
            ("peercred:unix:/s:timeout=soon", "timeout=soon"),
            ("peercred:unix:/s:timeout=0", "more than 0"),
            ("peercred:unix:/s:abstract=1", "open"),
            ("peercred:unix:/s:maxPerUID=0", "1 or more"),
            ("peercred:unix:/s:rules=", "rules"),
            ("peercred:unix:/s:rules=rooot", "rooot"),
            ("peercred:unix:/s:user=no-such-user", "no such user"),
            ("peercred:unix:/s:group=4294967295", "no such group"),
            ("peercred:unix:/s:user=", "no such user"),
            ("peercred:tcp:80:user=root", "peercred:unix:"),
        ):
            with self.assertRaises(ValueError) as raised:
                serverFromString(MemoryReactor(), description)
            self.assertIn(problem, str(raised.exception), description)

    def test_unknownOption(self) -> None:
        """
        An option that there is not is told when the endpoint is made.
        """
        self.assertRaises(
            TypeError, PeerCredentialsServerEndpoint, object(), nonsense=1
        )

    def test_pathToBind(self) -> None:
        """
        C{UNIXServerEndpoint._address} and C{._wantPID}: L{pathToBind} has to
        follow when Twisted moves them.
        """
        endpoint = endpoints.UNIXServerEndpoint(MemoryReactor(), "/s", wantPID=True)
        self.assertEqual(pathToBind(endpoint), (b"/s", True))
        endpoint = endpoints.TCP4ServerEndpoint(MemoryReactor(), 80)
        self.assertEqual(pathToBind(endpoint), (None, False))


class ClientStringTests(SynchronousTestCase):
    """
    Tests for what C{peercred:} makes of a client's description.
    """

    def test_interfaces(self) -> None:
        """
        The parser is a plugin that Twisted finds, and makes an endpoint.
        """
        parser = PeerCredentialsClientParser()
        verifyObject(IPlugin, parser)
        verifyObject(IStreamClientEndpointStringParserWithReactor, parser)
        endpoint = clientFromString(MemoryReactor(), "peercred:unix:/s")
        self.assertIsInstance(endpoint, PeerCredentialsClientEndpoint)
        verifyObject(IStreamClientEndpoint, endpoint)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(texts, st.booleans(), st.none() | st.integers(0, 99), st.booleans())
    def test_unix(self, path, keyword, timeout, lock) -> None:
        """
        What is inside is what Twisted alone makes of it; C{timeout} is its
        own.
        """
        quoted = "".join(f"\\{each}" if each in ":=\\" else each for each in path)
        words = ["unix", f"path={quoted}" if keyword else quoted]
        words += [] if timeout is None else [f"timeout={timeout}"]
        description = ":".join([*words, f"lockfile={lock:d}"])
        memory = MemoryReactor()
        alone = clientFromString(memory, description)
        wrapped = clientFromString(memory, f"peercred:{description}:rules=root")
        self.assertTrue(same(alone, wrapped.wrappedEndpoint))

    def test_ownKeywords(self) -> None:
        """
        Our own keywords are the factory's.
        """
        endpoint = clientFromString(
            MemoryReactor(), "peercred:rules=root:unix:/s:sync=hi:sendCredentials=1"
        )
        self.assertEqual(
            endpoint._options,
            {
                "policy": Policy.fromString("root"),
                "syncWord": b"hi",
                "sendCredentials": True,
            },
        )

    def test_mistakes(self) -> None:
        """
        A mistake is a L{ValueError} that names it.
        """
        for description, problem in (
            ("peercred", "stands before another"),
            ("peercred:nonsense:/s", "NONSENSE"),
            ("peercred:unix:/s:sendCredentials=yes", "0 or 1"),
            ("peercred:unix:/s:rules=rooot", "rooot"),
        ):
            with self.assertRaises(ValueError) as raised:
                clientFromString(MemoryReactor(), description)
            self.assertIn(problem.lower(), str(raised.exception).lower())


class ListenTests(LiveTestCase):
    """
    Tests for listening.
    """

    def setUp(self) -> Deferred[None]:
        self.wrapped = RememberingFactory()
        done = super().setUp()
        self.path = os.path.join(self.directory, "s")
        return done

    async def start(self, description: str = "", inner: str | None = None):
        """
        Listen, by a description.
        """
        inner = inner or f"unix:{endpoints.quoteStringArgument(self.path)}"
        endpoint = serverFromString(reactor, f"peercred:{inner}{description}")
        port = await endpoint.listen(self.wrapped)
        self.adoptPort(port)
        return port

    async def assertCannotListen(self, why: str, description: str = "") -> None:
        """
        Listening fails, and says so; it leaves no lock of this process's.
        """
        files = sorted(os.listdir(self.directory))
        with self.assertRaises(CannotListenError) as raised:
            await self.start(description)
        self.assertIn(why, str(raised.exception))
        self.assertEqual(sorted(os.listdir(self.directory)), files)

    async def test_serves(self) -> None:
        """
        Peers are known; the port is called what Twisted alone calls it.
        """
        port = await self.start(":mode=600:capture=first-message")
        self.assertEqual(port.getHost().name, self.path.encode())
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.connect(self.path).send(b"x")
        protocol = await self.made(self.wrapped)
        self.assertEqual(protocol.peer.pid, os.getpid())
        self.assertEqual(protocol.peer.capture, Capture.FIRST_MESSAGE)

    async def test_stop(self) -> None:
        """
        A port that stops takes its file and its lock with it.
        """
        port = await self.start()
        self.assertEqual(sorted(os.listdir(self.directory)), ["s", "s.lock"])
        await port.stopListening()
        self.assertEqual(os.listdir(self.directory), [])

    async def test_stopWithoutFile(self) -> None:
        """
        One whose file was taken away, or replaced, stops as well, and leaves
        the other's.
        """
        for lock in (0, 1):
            port = await self.start(f":lockfile={lock}")
            os.unlink(self.path)
            other = socket.socket(socket.AF_UNIX)
            self.addCleanup(other.close)
            other.bind(self.path)
            await port.stopListening()
            self.assertEqual(os.listdir(self.directory), ["s"])
            os.unlink(self.path)

    @skipIf(needsRoot, needsRoot)
    async def test_stopUnprivileged(self) -> None:
        """
        One that may not remove its file any more, having dropped its
        privileges, stops as well, and says so.
        """
        port = await self.start()
        os.seteuid(1000)
        try:
            await port.stopListening()
        finally:
            os.seteuid(0)
        said = [each for each in self.events if "Cannot" in str(each.get("log_format"))]
        self.assertEqual(len(said), 2)
        self.assertEqual(sorted(os.listdir(self.directory)), ["s", "s.lock"])
        await self.start()

    async def watch(self, prefix: str, times: int) -> tuple[set, int]:
        """
        Listen again and again while another user's process looks, and tries
        to connect.

        @return: the modes and owners that it saw, and how often it could.
        """
        watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", WATCHER, self.path, "1005"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert watcher.stdout is not None
        self.assertEqual(watcher.stdout.readline(), b"ready\n")
        umask = os.umask(0)
        try:
            for _ in range(times):
                endpoint = serverFromString(
                    reactor, f"{prefix}unix:{self.path}:mode=660"
                )
                port = await endpoint.listen(self.wrapped)
                await port.stopListening()
        finally:
            os.umask(umask)
            said, _ = watcher.communicate()
        seen, connected = json.loads(said)
        return {tuple(each) for each in seen}, connected

    @skipIf(needsRoot, needsRoot)
    async def test_watched(self) -> None:
        """
        Whatever the umask, another process never sees the file wider than it
        is at last, nor can a stranger connect in between (THREATS A10); a
        stock endpoint's file it does see.
        """
        seen, connected = await self.watch("peercred:group=1002:user=1001:", 300)
        self.assertEqual(connected, 0)
        final = (0o660, 1001, 1002)
        self.assertIn(final, seen)
        self.assertEqual([each for each in seen - {final} if each[0] & 0o177], [])
        wider = set()
        while not any(mode & 0o117 for mode, _, _ in wider):
            wider, _ = await self.watch("", 300)

    @skipIf(needsRoot, needsRoot)
    async def test_owner(self) -> None:
        """
        The file has the owner, the group and the mode that were asked for.
        """
        await self.start(":mode=620:user=1001:group=1002")
        found = os.stat(self.path)
        self.assertEqual(
            (found.st_uid, found.st_gid, found.st_mode & 0o777), (1001, 1002, 0o620)
        )

    async def test_killed(self) -> None:
        """
        The file and the lock of a server that was killed are replaced; while
        it lives they are not.
        """
        code = (
            "import sys\n"
            "from twisted.internet import endpoints, reactor\n"
            "from twisted.internet.protocol import Factory, Protocol\n"
            "endpoint = endpoints.serverFromString(reactor, sys.argv[1])\n"
            "endpoint.listen(Factory.forProtocol(Protocol))\n"
            "reactor.callWhenRunning(print, 'ready', flush=True)\n"
            "reactor.run()\n"
        )
        for prefix in ("", "peercred:"):
            server = subprocess.Popen(
                [sys.executable, "-c", code, f"{prefix}unix:{self.path}"],
                env=environment(),
                stdout=subprocess.PIPE,
            )
            self.addCleanup(server.wait)
            self.addCleanup(server.kill)
            assert server.stdout is not None
            self.assertEqual(server.stdout.readline(), b"ready\n")
            await self.assertCannotListen("a server is using it")
            server.send_signal(signal.SIGKILL)
            server.communicate()
            self.assertEqual(sorted(os.listdir(self.directory)), ["s", "s.lock"])
            port = await self.start()
            await port.stopListening()

    async def test_sameNumber(self) -> None:
        """
        A lock that a dead server has left is no obstacle though this process
        has its number, as in a container that was started again.
        """
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        os.symlink(str(os.getpid()), self.path + ".lock")
        await self.start()

    async def test_staleLock(self) -> None:
        """
        A stale lock does not make Twisted remove what lives, or is somebody
        else's.
        """
        with subprocess.Popen([sys.executable, "-c", ""]) as dead:
            pass
        os.symlink(str(dead.pid), self.path + ".lock")
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(self.path)
            await self.assertCannotListen("a server is using it")
        os.unlink(self.path)
        os.mkdir(self.path)
        await self.assertCannotListen("it is no socket")

    async def test_livingLock(self) -> None:
        """
        A living process's lock is respected.
        """
        os.symlink(str(os.getppid()), self.path + ".lock")
        await self.assertCannotListen("Cannot acquire lock")

    async def test_failure(self) -> None:
        """
        A start that fails leaves no lock: the next one works.
        """
        os.mkdir(self.path)
        for lock in (0, 1):
            await self.assertCannotListen("it is no socket", f":lockfile={lock}")
        os.rmdir(self.path)
        os.mkdir(self.path + ".starting")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        await self.assertCannotListen("Is a directory")
        os.rmdir(self.path + ".starting")
        await self.start()

    async def test_hangup(self) -> None:
        """
        A file of rules is read again at SIGHUP, while the endpoint listens.
        """
        rules = os.path.join(self.directory, "rules")
        old = signal.getsignal(signal.SIGHUP)
        with open(rules, "w") as file:
            file.write("any")
        port = await self.start(f":rulesFile={rules}")
        self.connect(self.path)
        await self.made(self.wrapped)
        with open(rules, "w") as file:
            file.write("!any")
        os.kill(os.getpid(), signal.SIGHUP)

        def changed() -> bool:
            return any(each.get("what") == "policy-changed" for each in self.events)

        await self.until(changed)
        self.assertEqual(await self.closed(self.connect(self.path)), b"")
        await port.stopListening()
        self.assertEqual(signal.getsignal(signal.SIGHUP), old)

    async def test_client(self) -> None:
        """
        A client by a description talks to the server that it means, and to no
        other (THREATS A9).
        """
        await self.start()
        quoted = endpoints.quoteStringArgument(self.path)
        for rules in ("self", "!self"):
            endpoint = clientFromString(
                reactor, f"peercred:unix:{quoted}:rules={rules}"
            )
            connecting = endpoint.connect(RememberingFactory())
            if rules == "self":
                client = await connecting
                self.assertEqual(client.peer.pid, os.getpid())
                client.transport.loseConnection()
                await client.ended
                continue
            with self.assertRaises(PeerRefused):
                await connecting

    async def test_tcp(self) -> None:
        """
        A TCP endpoint is refused when it is to listen.
        """
        endpoint = serverFromString(reactor, "peercred:tcp:0:interface=127.0.0.1")
        with self.assertRaises(CredentialsUnsupported):
            await endpoint.listen(self.wrapped)

    def listening(self, name: bytes | str) -> int:
        """
        A listening socket of another's making, for an endpoint to close.
        """
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        made.bind(name)
        made.listen()
        return made.detach()

    async def test_abstract(self) -> None:
        """
        An abstract socket needs a policy, or the word C{open}, whether it is
        made here or adopted (THREATS A11).
        """

        def made(name):
            return endpoints.UNIXServerEndpoint(reactor, name)

        def adopted(name):
            return endpoints.AdoptedStreamServerEndpoint(
                reactor, self.listening(name), socket.AF_UNIX
            )

        for make in (made, adopted):
            for options, allowed in (
                ({}, False),
                ({"policy": Policy.fromString("any")}, True),
                ({"abstract": True}, True),
            ):
                name = "\0peercred-" + os.urandom(8).hex()
                endpoint = PeerCredentialsServerEndpoint(make(name), **options)
                if allowed:
                    self.adoptPort(await endpoint.listen(self.wrapped))
                    self.connect(name).close()
                    continue
                with self.assertRaises(CannotListenError) as raised:
                    await endpoint.listen(self.wrapped)
                self.assertIn("abstract=open", str(raised.exception))

    async def test_abstractString(self) -> None:
        """
        So it can be said in a string, where Twisted is to make no lock file.
        """
        for option in ("abstract=open", "rules=any"):
            name = "\0peercred-" + os.urandom(8).hex()
            endpoint = endpoints.serverFromString(
                reactor, f"peercred:unix:{name}:lockfile=0:{option}"
            )
            self.adoptPort(await endpoint.listen(self.wrapped))
            self.connect(name).close()

    async def test_adoptedFile(self) -> None:
        """
        The file of an adopted socket keeps its mode, and is there when the
        port has stopped: it is its maker's, who will need it again.
        """
        fileno = self.listening(self.path)
        os.chmod(self.path, 0o600)
        endpoint = PeerCredentialsServerEndpoint(
            endpoints.AdoptedStreamServerEndpoint(reactor, fileno, socket.AF_UNIX)
        )
        port = await endpoint.listen(self.wrapped)
        self.assertEqual(port.getHost().name, self.path.encode())
        self.connect(self.path)
        await self.made(self.wrapped)
        await port.stopListening()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    @skipIf(needsRoot, needsRoot)
    async def test_adoptedOfRoot(self) -> None:
        """
        A service that is not root may adopt the socket that root has made for
        it.
        """
        fileno = self.listening(self.path)
        endpoint = PeerCredentialsServerEndpoint(
            endpoints.AdoptedStreamServerEndpoint(reactor, fileno, socket.AF_UNIX)
        )
        os.seteuid(1000)
        try:
            port = await endpoint.listen(self.wrapped)
            await port.stopListening()
        finally:
            os.seteuid(0)
        self.assertTrue(os.path.exists(self.path))
