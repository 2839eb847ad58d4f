"""
Every call about a peer's process is refused, in turn, on the real way of a
connection.
"""

import contextlib
import os
from unittest import skipIf

from twisted.internet import reactor
from twisted.internet.task import deferLater

from twisted_peercred import (
    Capture,
    CredentialsUnavailable,
    PeerProcessError,
    attachment,
)
from twisted_peercred.kernels import closeAll, pidfd
from twisted_peercred.kernels.stamping import StampingLinux
from twisted_peercred.process import IPeerProcess

from .faults import PROCESS_ERRORS, Fault, Faulty, FaultySocket
from .support import (
    LiveTestCase,
    Receiving,
    Remembering,
    needsLongRun,
    needsProcessHandles,
    openDescriptors,
)
from .test_process import Peer

MESSAGES = (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE)


@skipIf(needsProcessHandles, needsProcessHandles)
class ProcessFaultTests(LiveTestCase):
    """
    Tests with a fault in each place.
    """

    timeout = 300

    def setUp(self):
        pidfd.anonymousDevice()
        return super().setUp()

    def break_(self, fault) -> list:
        """
        Have the calls of L{pidfd} count for C{fault}.

        @return: what undoes it.
        """

        class Polls:
            POLLIN = pidfd.select.POLLIN

            @staticmethod
            def poll():
                return Faulty(select.poll(), fault, "poll")

        def openFile(*arguments):
            fault.pass_("open", *arguments)
            return open(*arguments)

        select = pidfd.select
        openHandle = attachment.openHandle
        calls = ("fstat", "waitid", "readlink")
        return [
            self.patch(pidfd, "os", Faulty(os, fault, *calls)),
            self.patch(pidfd, "fcntl", Faulty(pidfd.fcntl, fault, "ioctl")),
            self.patch(
                pidfd, "signal", Faulty(pidfd.signal, fault, "pidfd_send_signal")
            ),
            self.patch(pidfd, "select", Polls),
            self.patch(
                attachment,
                "openHandle",
                lambda sock, pid: openHandle(FaultySocket(sock, fault), pid),
            ),
            self.patchOpen(openFile),
        ]

    def patchOpen(self, openFile):
        pidfd.open = openFile

        class Undo:
            @staticmethod
            def restore():
                vars(pidfd).pop("open", None)

        self.addCleanup(Undo.restore)
        return Undo

    async def askAll(self, protocol, fault) -> None:
        """
        Everything that can be asked answers, or is a typed error.
        """
        try:
            process = IPeerProcess(protocol)
        except PeerProcessError:
            return
        process._reactor = Faulty(reactor, fault, "addReader")
        for ask in (process.info, lambda: process.signal(0)):
            with contextlib.suppress(PeerProcessError):
                ask()
        for ask in (process.startTime, process.executable):
            with contextlib.suppress(PeerProcessError):
                await ask()
        handle = process._handle
        handle.exit()
        handle.readExit()
        exited = process.whenExited()
        exited.addErrback(lambda reason: None)
        exited.cancel()

    async def everyFault(self, capture) -> set:
        """
        Have each call fail with each error.
        """
        address, wrapped = self.serve(capture=capture, processHandles=True)
        before = openDescriptors()
        places = set()
        for number in PROCESS_ERRORS[:: 9 if needsLongRun else 1]:
            for count in range(1, 60):
                fault = Fault(count, number)
                undo = self.break_(fault)
                try:
                    peer = self.connect(address)
                    peer.send(b"x")
                    await self.until(lambda: wrapped.made and wrapped.made[-1].received)
                    protocol = wrapped.made.pop()
                    await self.askAll(protocol, fault)
                finally:
                    for each in undo:
                        each.restore()
                peer.close()
                await protocol.ended
                del protocol
                await self.until(lambda: openDescriptors() == before)
                if fault.call is None:
                    break
                places.add(fault.call)
            else:
                self.fail("more calls than this")
        self.assertEqual(len(self.factory._waiting), 0)
        self.assertEqual(self.refusals(), [])
        return places

    async def test_everyCall(self) -> None:
        """
        Each call about a process fails with each error, in each capture: the
        connection is served, the answer is typed, and no descriptor is left.
        """
        for capture in Capture:
            places = await self.everyFault(capture)
            expected = {"fstat", "ioctl", "poll", "open", "waitid", "readlink"}
            expected |= {"pidfd_send_signal", "addReader"}
            if capture is Capture.CONNECT:
                expected.add("getsockopt")
            self.assertLessEqual(expected, places)

    async def test_whileWaiting(self) -> None:
        """
        Each call at the end of a process that is waited for fails with each
        error: who waits is told how it ended, or that this cannot be told, and
        no descriptor is left.
        """
        places = set()
        for capture in Capture:
            for reaped in (True, False):
                places |= await self.everyFaultAtTheEnd(capture, reaped)
        # As of another's child, that has yet to be reaped.
        self.patch(pidfd.Pidfd, "exit", lambda handle: None)
        places |= await self.everyFaultAtTheEnd(Capture.CONNECT, False)
        self.assertLessEqual({"poll", "ioctl", "waitid", "readlink", "open"}, places)

    async def everyFaultAtTheEnd(self, capture, reaped: bool) -> set:
        address, wrapped = self.serve(capture=capture, processHandles=True)
        before = openDescriptors()
        places = set()
        for number in PROCESS_ERRORS[:: 9 if needsLongRun else 1]:
            for count in range(1, 20):
                fault = Fault(count, number)
                client = Peer(self, address, before=lambda sock: sock.send(b"x"))
                await self.until(lambda: wrapped.made)
                protocol = wrapped.made.pop()
                exited = IPeerProcess(protocol).whenExited()
                undo = self.break_(fault)
                try:
                    (client.end if reaped else client.leave)()
                    exit = None
                    with contextlib.suppress(PeerProcessError):
                        exit = await exited
                finally:
                    for each in undo:
                        each.restore()
                if exit is not None and exit.exitCode is not None:
                    self.assertEqual(exit.exitCode, 0)
                client.end()
                await protocol.ended
                del protocol, exited
                await self.until(lambda: openDescriptors() == before)
                if fault.call is None:
                    self.assertIsNotNone(exit)
                    break
                places.add(fault.call)
            else:
                self.fail("more calls than this")
        return places

    async def test_noHandle(self) -> None:
        """
        The kernel sends each error in place of a handle: the writer is served,
        and his process is a typed error.
        """
        for number in PROCESS_ERRORS:

            def process(kernel, data, processes, number=number):
                closeAll(processes)
                return -number if data else None

            self.patch(StampingLinux, "_process", process)
            for capture in MESSAGES:
                address, wrapped = self.serve(capture=capture, processHandles=True)
                before = openDescriptors()
                peer = self.connect(address)
                peer.send(b"x")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                self.assertRaises(PeerProcessError, IPeerProcess, protocol)
                peer.close()
                await protocol.ended
                await self.until(lambda: openDescriptors() == before)

    async def test_stamping(self) -> None:
        """
        C{SO_PASSPIDFD} cannot be turned off: that is one refusal, before a
        protocol is made; the next one is served.
        """
        setStamping = StampingLinux.setStamping
        for number in PROCESS_ERRORS:
            for protocolClass in (Remembering, Receiving):
                failing = [number]

                def fail(kernel, sock, wanted, failing=failing):
                    if failing and not wanted:
                        raise OSError(failing.pop(), "x")
                    setStamping(kernel, sock, wanted)

                self.patch(StampingLinux, "setStamping", fail)
                self.events.clear()
                address, wrapped = self.serve(
                    protocolClass,
                    capture=Capture.FIRST_MESSAGE,
                    processHandles=True,
                    maxPerUID=1,
                )
                before = openDescriptors()
                peer = self.connect(address)
                peer.send(b"x")
                await self.closed(peer)
                peer.close()
                self.assertEqual(wrapped.made, [])
                (problem,) = self.refusals()
                self.assertIsInstance(problem, CredentialsUnavailable)
                await self.until(lambda: openDescriptors() == before)
                peer = self.connect(address)
                peer.send(b"x")
                protocol = await self.made(wrapped)
                await self.until(lambda: protocol.received)
                peer.close()
                await protocol.ended
                # The handle is let go of after that.
                await deferLater(reactor, 0)
