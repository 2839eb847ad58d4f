"""
A server in a PID namespace of its own, whose peer's process number is taken by
another process, of another user, on purpose: C{python -m tests.reuse DIR} under
C{unshare --pid --fork --mount-proc}, as root.  Prints what each method says,
one JSON object.
"""

import json
import os
import signal
import socket
import sys

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react
from zope.interface import implementer

from twisted_peercred import (
    Capture,
    CredentialedUNIXServerFactory,
    IPeerCredentials,
    IPeerCredentialsReceiver,
    PeerProcessError,
)
from twisted_peercred.kernels.pidfd import Pidfd
from twisted_peercred.process import IPeerProcess

METHODS = (
    "info",
    "status",
    "commandLine",
    "executable",
    "cgroup",
    "startTime",
    "systemdUnit",
)
VICTIM, NEWCOMER = 1000, 2000


class Keeping(Protocol):
    """
    Keeps what happens.
    """

    def connectionMade(self):
        self.heard = []
        self.made.callback(self)

    def dataReceived(self, data):
        self.heard.append(data.decode())

    def connectionLost(self, reason):
        self.heard.append(type(reason.value).__name__)


@implementer(IPeerCredentialsReceiver)
class Told(Keeping):
    """
    Wants to know of other writers.
    """

    def peerCredentialsChanged(self, old, new):
        self.heard.append("same" if old == new else "other")


def become(uid):
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def sleepForGood():
    signal.set_wakeup_fd(-1)
    while True:
        signal.pause()


def takeNumber(number, uid, first=lambda: None):
    """
    Start a process of that number.
    """
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(number - 1))
    ready, there = os.pipe()
    pid = os.fork()
    if not pid:
        become(uid)
        first()
        os.write(there, b".")
        sleepForGood()
    os.close(there)
    os.read(ready, 1)
    os.close(ready)
    if pid != number:
        raise AssertionError(f"{pid} is not {number}")


def connectAndHandOn(address, sent=b""):
    """
    A victim: connects, leaves the connection to a child of its own, and waits
    to be ended.
    """
    # The parent keeps an end too, to have the newcomer write on it.
    peer = socket.socket(socket.AF_UNIX)
    pid = os.fork()
    if not pid:
        become(VICTIM)
        peer.connect(address)
        peer.send(sent)
        if os.fork():
            sleepForGood()
        sleepForGood()
    return pid, peer


def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


async def answers(process):
    """
    What each method says.
    """
    said = {}
    for name in METHODS:
        try:
            said[name] = repr(await maybeDeferred(getattr(process, name)))
        except PeerProcessError as problem:
            said[name] = type(problem).__name__
    return said


async def main(reactor, directory):
    served = []

    async def meet(sent=b"", protocol=Keeping, **options):
        address = os.path.join(directory, str(len(served)))
        kept = Deferred()
        factory = Factory.forProtocol(type("Kept", (protocol,), {"made": kept}))
        factory.noisy = False
        served.append(
            reactor.listenUNIX(
                address, CredentialedUNIXServerFactory(factory, **options)
            )
        )
        pid, peer = connectAndHandOn(address, sent)
        return pid, peer, await kept

    report = {}

    # Asked before, while it lived; and again, with another in its place.
    pid, _, protocol = await meet()
    process = IPeerProcess(protocol)
    exited = process.whenExited()
    report["alive"] = await answers(process)
    end(pid)
    takeNumber(pid, NEWCOMER)
    with open(f"/proc/{pid}/status") as file:
        report["newcomer"] = file.read()
    report["after"] = await answers(process)
    try:
        process.signal(signal.SIGKILL)
    except PeerProcessError as problem:
        report["after"]["signal"] = type(problem).__name__
    report["exit"] = str((await exited).signal)
    report["credentials"] = IPeerCredentials(protocol).uid
    # The newcomer has been sent no signal.
    os.kill(pid, 0)
    report["newcomerLives"] = os.waitpid(pid, os.WNOHANG)[0] == 0

    # Asked for the first time.
    pid, _, protocol = await meet()
    end(pid)
    takeNumber(pid, NEWCOMER)
    try:
        report["first"] = await answers(IPeerProcess(protocol))
    except PeerProcessError as problem:
        report["first"] = type(problem).__name__

    # The number is taken between looking it up and reading.
    report["between"] = {}
    number = Pidfd._number
    for name in METHODS[1:]:
        pid, _, protocol = await meet()
        process = IPeerProcess(protocol)

        def taken(self, pid=pid):
            found = number(self)
            end(pid)
            takeNumber(pid, NEWCOMER)
            return found

        Pidfd._number = taken
        try:
            report["between"][name] = repr(await getattr(process, name)())
        except PeerProcessError as problem:
            report["between"][name] = type(problem).__name__
        Pidfd._number = number

    # A process with the number and the user of the writer before writes.
    for protocolClass, handles in ((Told, True), (Keeping, True), (Told, False)):
        pid, peer, protocol = await meet(
            b"victim",
            protocolClass,
            capture=Capture.EVERY_MESSAGE,
            processHandles=handles,
        )
        while not protocol.heard:
            await deferLater(reactor, 0.01)
        end(pid)
        takeNumber(pid, VICTIM, lambda peer=peer: peer.send(b"newcomer"))
        while len(protocol.heard) < 2:
            await deferLater(reactor, 0.01)
        report[f"{protocolClass.__name__} {handles}"] = protocol.heard
    print(json.dumps(report))


if __name__ == "__main__":
    react(
        lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])),
    )
