"""
C{twistd peercred-echo}: greets each peer with who it is, then echoes.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence

from twisted.application import service, strports
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python import usage
from twisted.python.failure import Failure
from zope.interface import implementer

from .audit import AuditLog
from .credentials import Capture, PeerCredentials
from .errors import PolicyError
from .interfaces import IPeerCredentials, IPeerPolicy
from .names import groupName, userName
from .policy import Policy
from .policyfile import PolicyFile
from .server import CredentialedUNIXServerFactory
from .signals import SignalService
from .starting import (
    CannotStart,
    StartingService,
    defaultEndpoint,
    endpointOption,
)
from .transport import CredentialedServer

SOCKET_NAME = "peercred-echo.sock"


def greeting(peer: IPeerCredentials) -> str:
    """
    Who a peer is, for people: numbers and names in the manner of id(1).
    """

    def named(number: int, name: str | None) -> str:
        return str(number) if name is None else f"{number}({name})"

    words = [
        "uid=" + named(peer.uid, userName(peer.uid)),
        "gid=" + named(peer.gid, groupName(peer.gid)),
    ]
    if peer.groups is not None:
        words.append(
            "groups=" + ",".join(named(gid, groupName(gid)) for gid in peer.groups)
        )
    if peer.pid is not None:
        words.append(f"pid={peer.pid}")
    if peer.securityLabel is not None:
        words.append("context=" + ascii(peer.securityLabel)[2:-1])
    words.append("captured at " + peer.capture.value.replace("-", " "))
    return " ".join(words)


def jsonGreeting(peer: PeerCredentials) -> str:
    """
    Who a peer is, for programs: one object, the fields of
    L{PeerCredentials.asDict} and the names.
    """
    return json.dumps(
        {
            **peer.asDict(),
            "userName": userName(peer.uid),
            "groupName": groupName(peer.gid),
        }
    )


def _ignoreCancelled(failure: Failure) -> None:
    failure.trap(CancelledError)


@implementer(IHalfCloseableProtocol)
class EchoWithIdentity(Protocol):
    """
    One line that says who the peer is; then its own bytes.
    """

    factory: EchoFactory
    transport: CredentialedServer

    def connectionMade(self) -> None:
        # The greeting comes first, and no faster than the peer reads.
        self.transport.registerProducer(self.transport, True)
        self.transport.pauseProducing()
        self._greeting = Deferred.fromCoroutine(self._greet())
        self._greeting.addErrback(_ignoreCancelled)

    async def _greet(self) -> None:
        peer = IPeerCredentials(self.transport)
        line = await self.factory.lookUp(self.factory.greeting, peer)
        self.transport.write(line.encode() + b"\n")
        self.transport.resumeProducing()

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)

    def readConnectionLost(self) -> None:
        # What it sent before is still to be echoed.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Never comes: this end does not half-close.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._greeting.cancel()


class EchoFactory(Factory):
    """
    Makes L{EchoWithIdentity}.

    @param greeting: from the peer to the line that it is greeted with; it may
        block.
    @param lookUp: calls that where blocking is allowed.
    """

    # Twisted declares what only an instance has; stricter since 26.10.
    protocol = EchoWithIdentity  # type: ignore[assignment]

    def __init__(
        self,
        greeting: Callable[[PeerCredentials], str],
        lookUp: Callable[..., Deferred[str]] = deferToThread,
    ) -> None:
        self.greeting = greeting
        self.lookUp = lookUp


class EchoService(StartingService):
    """
    Serves, or says in one line why not.

    @param log: runs as long as there is something to be written down.
    """

    def __init__(
        self,
        description: str,
        factory: CredentialedUNIXServerFactory,
        log: AuditLog | None = None,
    ) -> None:
        super().__init__(
            "peercred-echo",
            description,
            lambda: strports.service(description, factory),
        )
        self._log = log

    def startService(self) -> None:
        if self._log is not None:
            self._log.startService()
        super().startService()

    async def _stop(self) -> None:
        await super().stopService()
        # Not before: what was left out of the record is told when the port
        # has stopped.
        if self._log is not None:
            self._log.stopService()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())


class Options(usage.Options):
    """
    What C{twistd peercred-echo} can be told.
    """

    synopsis = "[options]"
    optFlags = [["json", "j", "Greet with one JSON object."]]
    optParameters = [
        endpointOption(SOCKET_NAME),
        [
            "capture",
            "c",
            "connect",
            "Which credentials to read: connect, first-message or every-message.",
        ],
        [
            "rules",
            "r",
            None,
            "Whom to admit, such as !user/nobody,group/staff,root."
            "  [default: everybody]",
        ],
        [
            "rules-file",
            "f",
            None,
            "The same from a file, a rule on each line, read again at SIGHUP.",
        ],
        [
            "max-per-uid",
            "m",
            None,
            "Connections at once of one user.  [default: any number]",
        ],
        [
            "audit-log",
            "a",
            None,
            "Write a line of JSON for each admission and each refusal to this"
            " file, reopened at SIGUSR1 and when it was moved away.",
        ],
    ]
    example = f"""
Example, to be pasted; the server in one terminal:

twistd -n peercred-echo

and a client in another, in the same directory:

python3 -c 'import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(b"hello")
peer.shutdown(socket.SHUT_WR)
print(peer.makefile().read())' "${{XDG_RUNTIME_DIR:-.}}/{SOCKET_NAME}"
"""

    def getUsage(self, width: int | None = None) -> str:
        # usage.Options would fill its longdesc into one paragraph.
        return super().getUsage(width) + self.example

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        @raise CannotStart: they cannot be understood.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as problem:
            raise CannotStart(
                f"peercred-echo: {problem}; see twistd peercred-echo --help"
            ) from problem

    def postOptions(self) -> None:
        if self["endpoint"] is None:
            self["endpoint"] = defaultEndpoint(SOCKET_NAME)
        try:
            self["capture"] = Capture(self["capture"])
        except ValueError:
            names = ", ".join(each.value for each in Capture)
            raise usage.UsageError(
                f"--capture is one of {names}, not {self['capture']!r}"
            ) from None
        if self["rules"] is not None and self["rules-file"] is not None:
            raise usage.UsageError("--rules or --rules-file, not both")
        limit = self["max-per-uid"]
        if limit is not None:
            if not (limit.isascii() and limit.isdigit() and int(limit) > 0):
                raise usage.UsageError(f"--max-per-uid is 1 or more, not {limit!r}")
            self["max-per-uid"] = int(limit)


def makeService(options: Options) -> service.IService:
    """
    @raise CannotStart: the endpoint or the policy cannot be understood, or the
        audit log not be had.
    """
    echo = EchoFactory(jsonGreeting if options["json"] else greeting)
    policy: IPeerPolicy | None = None
    log: AuditLog | None = None
    signals = service.MultiService()
    try:
        # Names are looked up here, before the reactor runs.
        if options["rules"] is not None:
            policy = Policy.fromString(options["rules"], source="--rules")
        elif options["rules-file"] is not None:
            policy = file = PolicyFile(options["rules-file"])
            SignalService(signal.SIGHUP, file.reload).setServiceParent(signals)
    except PolicyError as problem:
        raise CannotStart(f"peercred-echo: {problem}") from problem
    if options["audit-log"] is not None:
        log = AuditLog(options["audit-log"])
        try:
            log.open()
        except OSError as problem:
            raise CannotStart(
                f"peercred-echo: cannot write {log.path}: {problem.strerror}"
            ) from problem
        SignalService(signal.SIGUSR1, log.reopen).setServiceParent(signals)
    echoes = EchoService(
        options["endpoint"],
        CredentialedUNIXServerFactory(
            echo,
            capture=options["capture"],
            policy=policy,
            maxPerUID=options["max-per-uid"],
        ),
        log,
    )
    signals.setServiceParent(echoes)
    return echoes
