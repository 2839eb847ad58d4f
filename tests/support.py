"""
What the tests share: recorded kernels, protocols that remember, and clients in
processes of their own, under users of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress

from twisted.internet import reactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IFileDescriptorReceiver,
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from twisted_peercred import (
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    PeerProcessError,
    PeerProcessUnsupported,
)
from twisted_peercred.kernels import thisKernel
from twisted_peercred.kernels.pidfd import Pidfd

isRoot = os.geteuid() == 0
needsRoot = "" if isRoot else "needs root: clients run under other users"
needsAnotherUser = (
    "65534 is known by a look at the uid map alone, for which no descriptor is free"
    if os.geteuid() == 65534
    else ""
)
needsLongRun = (
    "" if os.environ.get("PEERCRED_LONG_TESTS") else "long; set PEERCRED_LONG_TESTS=1"
)


def _lacksProcessHandles() -> str:
    """
    Why tests of processes cannot run here, in a word for whoever runs them.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            handle = Pidfd.ofPeer(sock)
    except PeerProcessUnsupported:
        return "needs Linux 6.13: this kernel has no SO_PEERPIDFD"
    except PeerProcessError:
        pass
    else:
        handle.close()
    handle = Pidfd(os.pidfd_open(os.getpid()))
    try:
        handle.info()
    except PeerProcessUnsupported:
        return "needs Linux 6.13: this kernel has no PIDFD_GET_INFO"
    finally:
        handle.close()
    return ""


needsProcessHandles = _lacksProcessHandles()

#: What each client process starts with.
PRELUDE = """
import array, json, os, socket, struct, sys, time
address = sys.argv[1]
if address.startswith("@"):
    address = "\\0" + address[1:]

def become(uid, gid, groups=(), euid=None):
    os.setgroups(groups)
    os.setgid(gid)
    os.setresuid(uid, uid if euid is None else euid, 0 if euid is not None else uid)

def connect():
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(address)
    return peer

def readAll(peer):
    data = b""
    try:
        while (more := peer.recv(65536)):
            data += more
    except ConnectionResetError:
        data += b"RESET"
    return data
"""

#: Two users write on one connection, one after the other.
TWO_WRITERS = """
peer = connect()
pid = os.fork()
if not pid:
    become(1001, 1001)
    time.sleep(0.2)
    peer.send(b"mallory")
    os._exit(0)
become(1000, 1000)
peer.send(b"alice")
os.waitpid(pid, 0)
"""


def runClient(
    address: str, code: str, *arguments: str, timeout: float = 60
) -> Deferred[str]:
    """
    Run a client's code in a process of its own.

    @return: what it printed.
    """

    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", PRELUDE + code, address, *arguments],
            capture_output=True,
            timeout=timeout,
        )
        if done.returncode:
            raise AssertionError(done.stderr.decode())
        return done.stdout.decode()

    return deferToThread(run)


def environment(**variables: str) -> dict[str, str]:
    """
    The environment for a program that imports what this process imports.
    """
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join([here, *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": path, **variables}


def openDescriptors() -> int:
    """
    How many files this process has open.
    """
    if os.path.isdir("/proc/self/fd"):
        return len(os.listdir("/proc/self/fd"))
    # Where there is no such directory, or it shows the first three alone.
    count = 0
    for descriptor in range(1024):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
            count += 1
    return count


def openHandles() -> int:
    """
    How many of them are handles on processes.
    """
    count = 0
    for each in os.listdir("/proc/self/fd"):
        # One of them was for the listing.
        with suppress(FileNotFoundError):
            count += os.readlink(f"/proc/self/fd/{each}") == "anon_inode:[pidfd]"
    return count


@implementer(IHalfCloseableProtocol)
class Remembering(Protocol):
    """
    Remembers all that happens to it.
    """

    halfClosed = False
    lost = None

    def connectionMade(self) -> None:
        self.factory.made.append(self)
        self.peer = IPeerCredentials(self.transport)
        self.received = []
        self.ended = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received.append(data)

    def readConnectionLost(self) -> None:
        self.halfClosed = True
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason) -> None:
        self.lost = reason
        self.ended.callback(self)


@implementer(IFileDescriptorReceiver)
class Receiving(Remembering):
    """
    Wants descriptors, and remembers when they came.
    """

    def fileDescriptorReceived(self, descriptor: int) -> None:
        self.received.append(descriptor)
        self.factory.descriptors.append(descriptor)


class RememberingFactory(Factory):
    """
    Makes protocols, and keeps those that were connected.
    """

    protocol = Remembering
    noisy = False

    def __init__(self, protocol: type[Protocol] = Remembering) -> None:
        self.protocol = protocol
        self.made = []
        self.descriptors = []


class UVLoopReactor(AsyncioSelectorReactor):
    """
    The asyncio reactor over uvloop, where that is installed.
    """

    def __init__(self) -> None:
        import uvloop

        super().__init__(uvloop.new_event_loop())


class RecordedSocket:
    """
    A socket that answers as it was told to.

    @param options: what getsockopt(2) answers, or raises, by option.
    @param messages: what recvmsg(2) returns, or raises, in turn.
    """

    def __init__(self, options=None, messages=()):
        self.options = dict(options or {})
        self.messages = list(messages)
        self.sets = []

    def fileno(self) -> int:
        return -1

    def getsockopt(self, level, option, size):
        answer = self.options.get(option, OSError(92, "Protocol not available"))
        if isinstance(answer, Exception):
            raise answer
        return answer[:size]

    def setsockopt(self, level, option, value):
        answer = self.options.get(option)
        if isinstance(answer, Exception):
            raise answer
        self.sets.append((option, value))

    def send(self, data):
        return len(data)

    def recvmsg(self, size, room, flags=0):
        answer = self.messages.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ucred(pid: int, uid: int, gid: int) -> bytes:
    """
    C{struct ucred}.
    """
    return struct.pack("iII", pid, uid, gid)


def credentialsMessage(data: bytes, *credentials: bytes, flags: int = 0):
    """
    What recvmsg(2) of Linux returns for a message of such a writer.
    """
    return (
        data,
        [(socket.SOL_SOCKET, 2, each) for each in credentials],
        flags,
        None,
    )


class FailingKernel:
    """
    This machine's kernel, but for one call.

    @param broken: the call's name.
    @param problem: what it raises.
    """

    def __init__(self, broken: str, problem: Exception) -> None:
        self._broken = broken
        self._problem = problem

    def __getattr__(self, name):
        if name == self._broken:
            return self._fail
        return getattr(thisKernel(), name)

    def _fail(self, *arguments, **options):
        raise self._problem


class LiveTestCase(TestCase):
    """
    Real servers in this process, on trial's reactor.
    """

    timeout = 120

    def setUp(self) -> Deferred[None]:
        # Short, and within the reach of other users.
        self.directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.events = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.addCleanup(self.checkNothingWasLeftUnread)
        # What other tests have left to the collector is not closed while a test
        # counts,
        gc.collect()
        # and what a reactor opens when it starts is open before a test counts.
        return deferLater(reactor, 0)

    def checkNothingWasLeftUnread(self) -> None:
        """
        Stock Twisted's transport logs control messages that it does not know;
        no connection of ours ever gets there.
        """
        for event in self.events:
            self.assertNotIn("unsupported ancillary data", formatEvent(event) or "")

    def listen(self, factory: IProtocolFactory, **options) -> str:
        """
        @return: the address to connect to.
        """
        address = os.path.join(self.directory, str(len(os.listdir(self.directory))))
        self.adoptPort(reactor.listenUNIX(address, factory, **options))
        return address

    def adoptPort(self, port: IListeningPort) -> None:
        """
        Have a port closed after the test.
        """
        self.addCleanup(port.stopListening)

    def refusals(self) -> list:
        """
        The errors by which peers were refused.
        """
        return [each["error"] for each in self.events if each.get("what") == "refused"]

    def until(self, condition) -> Deferred[None]:
        """
        Wait for a condition to hold.
        """

        async def wait() -> None:
            while not condition():
                await deferLater(reactor, 0.005)

        return Deferred.fromCoroutine(wait())

    turns = 0

    def readUp(self) -> bool:
        """
        Whether the reactor has had a few turns.
        """
        self.turns += 1
        return self.turns % 3 == 0

    def serve(self, protocol=Remembering, **options):
        """
        @return: the address, and the wrapped factory.
        """
        wrapped = RememberingFactory(protocol)
        self.factory = CredentialedUNIXServerFactory(wrapped, **options)
        return self.listen(self.factory), wrapped

    def connect(self, address) -> socket.socket:
        """
        A client's end, in this process.
        """
        peer = socket.socket(socket.AF_UNIX)
        self.addCleanup(peer.close)
        peer.connect(address)
        return peer

    def listens(self, address: str) -> bool:
        """
        Whether somebody can connect.
        """
        try:
            self.connect(address).close()
        except OSError:
            return False
        return True

    async def made(self, wrapped, count=1):
        """
        The protocol made last, when there are so many.
        """
        await self.until(lambda: len(wrapped.made) == count)
        return wrapped.made[-1]

    async def closed(self, peer) -> bytes:
        """
        Wait for the server to close.

        @return: what it sent.
        """
        peer.setblocking(False)
        data = []

        def ended() -> bool:
            try:
                data.append(peer.recv(1024))
            except BlockingIOError:
                return False
            except ConnectionResetError:
                return True
            return data[-1] == b""

        await self.until(ended)
        return b"".join(data)

    def sendDescriptor(self, peer, data: bytes, count: int = 1) -> None:
        """
        Send bytes and some descriptors of /dev/null in one message.
        """
        with open(os.devnull) as null:
            peer.sendmsg(
                [data],
                [
                    (
                        socket.SOL_SOCKET,
                        socket.SCM_RIGHTS,
                        struct.pack("i", null.fileno()) * count,
                    )
                ],
            )

    def exhaust(self, free=0):
        """
        Take all descriptors but some.
        """
        _soft, hard = self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.limits)
        # The lowest that is free.
        spare = os.open(os.devnull, os.O_RDONLY)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + free, hard))

    def restore(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)


def flat(received: Iterable[bytes]) -> bytes:
    """
    Bytes received, joined.
    """
    return b"".join(each for each in received if isinstance(each, bytes))
