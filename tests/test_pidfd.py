"""
Tests for L{twisted_peercred.kernels.pidfd} and
L{twisted_peercred.kernels.processes}: decoders, and handles on processes of
this test's own, on kernels that say what the test tells them.
"""

import errno
import fcntl
import os
import signal
import struct
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    PeerProcessError,
    PeerProcessGone,
    PeerProcessUnavailable,
    PeerProcessUnsupported,
)
from twisted_peercred.kernels import pidfd
from twisted_peercred.kernels.pidfd import Pidfd
from twisted_peercred.kernels.processes import ProcessExit

from .support import needsRoot, openDescriptors

#: Some tests replace it.
waitid = os.waitid

#: What 6.18 x86-64 gave: for a shell of uid 1000, gid 100, setuid 1001, and for
#: one that exited with 7.
ALIVE = struct.pack(
    "=QQ11Ii", 0x17, 4711, 9, 9, 1, 1000, 100, 1001, 100, 1001, 100, 1001, 100, 0
)
REAPED = struct.pack("=QQ11Ii", 0x1C, 4711, *[0] * 11, 7 << 8)


class DecoderTests(SynchronousTestCase):
    """
    Tests for bytes to values.
    """

    def test_info(self) -> None:
        """
        The mask says what is there; IDs are unsigned.
        """
        mask, fields = pidfd.decodeInfo(ALIVE)
        self.assertEqual((mask, fields[:4]), (0x17, (4711, 9, 9, 1)))
        self.assertEqual(fields[4:6], (1000, 100))
        _, fields = pidfd.decodeInfo(
            struct.pack("=QQ11Ii", 3, 0, *[2**32 - 2] * 11, -1)
        )
        self.assertEqual(fields[4], 2**32 - 2)
        self.assertRaises(struct.error, pidfd.decodeInfo, ALIVE[:-1])

    def test_number(self) -> None:
        """
        The number is the handle's own, not one of a namespace further in.
        """
        text = (
            b"pos:\t0\nflags:\t02000002\nmnt_id:\t4\nino:\t7\nPid:\t%d\nNSpid:\t%d 9\n"
        )
        for number in (17554, 0, -1):
            self.assertEqual(pidfd.decodeNumber(text % (number, number)), number)
        self.assertRaises(PeerProcessUnsupported, pidfd.decodeNumber, b"NSpid:\t1\n")

    def test_options(self) -> None:
        """
        Option numbers of each architecture; unconfirmed ones are not guessed.
        """
        for machine, number in (
            ("x86_64", 76),
            ("aarch64", 76),
            ("mips64", 76),
            ("ppc64le", 76),
            ("alpha", 76),
            ("sparc64", 0x55),
            ("parisc64", 0x404A),
            ("vax", None),
        ):
            self.assertEqual(pidfd.passOption(machine), number, machine)

    def test_exit(self) -> None:
        """
        A wait status is decoded as wait(2) says.
        """
        for status, expected in (
            (7 << 8, ProcessExit(exitCode=7, source="x")),
            (9, ProcessExit(signal=9, source="x")),
            (11 | 0x80, ProcessExit(signal=11, coreDumped=True, source="x")),
        ):
            self.assertEqual(ProcessExit.fromStatus(status, "x"), expected)


class PidfdTests(SynchronousTestCase):
    """
    Tests for L{Pidfd}.
    """

    def setUp(self) -> None:
        pidfd.anonymousDevice()

    def spawn(self, code=0, killed=None):
        """
        A process that ends when it is told to.

        @return: a handle on it, its number, and a call that ends it.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.read(reading, 1)
            os._exit(code)
        os.close(reading)
        self.addCleanup(os.close, writing)
        # For tests alone: it is our child, and not reaped yet.
        handle = Pidfd(os.pidfd_open(pid))
        self.addCleanup(handle.close)

        def end(reap=True):
            if killed is None:
                os.write(writing, b".")
            else:
                os.kill(pid, killed)
            waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            if reap:
                os.waitpid(pid, 0)

        return handle, pid, end

    def test_descriptors(self) -> None:
        """
        A handle is closed once, by hand or with the object, and stays known by
        its inode.
        """
        handle, pid, end = self.spawn()
        before = openDescriptors()
        again = Pidfd(os.pidfd_open(pid))
        self.assertEqual(again.identity, handle.identity)
        self.assertNotEqual(Pidfd(os.pidfd_open(os.getpid())).identity, again.identity)
        self.assertEqual(openDescriptors(), before + 1)
        again.close()
        again.close()
        self.assertEqual(openDescriptors(), before)
        self.assertEqual(again.identity, handle.identity)
        end()

    def test_noDescriptorFree(self) -> None:
        """
        If it cannot be found out whether handles have inodes of their own,
        nothing is left open.
        """

        def fail():
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(pidfd, "anonymousDevice", fail)
        before = openDescriptors()
        self.assertRaises(PeerProcessUnavailable, Pidfd, os.pidfd_open(os.getpid()))
        self.assertEqual(openDescriptors(), before)

    def test_exitOfChild(self) -> None:
        """
        A child's exit is known before it is reaped, and after, and asking
        reaps nobody.
        """
        for killed, expected in (
            (None, {"exitCode": 5}),
            (signal.SIGKILL, {"signal": signal.SIGKILL}),
        ):
            handle, pid, end = self.spawn(5, killed)
            self.assertIsNone(handle.exit())
            self.assertFalse(handle.hasEnded())
            end(reap=False)
            self.assertTrue(handle.hasEnded())
            self.assertEqual(handle.exit(), ProcessExit(**expected, source="waitid"))
            os.waitpid(pid, 0)
            self.assertEqual(
                handle.exit(), ProcessExit(**expected, source="PIDFD_GET_INFO")
            )
            self.assertEqual(handle.readExit(), handle.exit())

    def unrelated(self) -> None:
        """
        Have no process be a child of ours, for waitid(2).
        """

        def noChild(*arguments):
            raise ChildProcessError()

        self.patch(os, "waitid", noChild)

    def withoutInfo(self, number=errno.ENOTTY) -> None:
        """
        Have the kernel not know C{PIDFD_GET_INFO}, or say something else of it.
        """

        def refuse(*arguments):
            raise OSError(number, os.strerror(number))

        self.patch(fcntl, "ioctl", refuse)

    def test_exitFromProc(self) -> None:
        """
        What is no child of ours and not reaped has its exit in /proc.
        """
        handle, pid, end = self.spawn(5)
        end(reap=False)
        self.unrelated()
        self.assertIsNone(handle.exit())
        expected = ProcessExit(exitCode=5, source="/proc/PID/stat")
        self.assertEqual(handle.readExit(), expected)
        os.waitpid(pid, 0)
        self.assertEqual(handle.readExit().source, "PIDFD_GET_INFO")

    @skipIf(needsRoot, needsRoot)
    def test_exitNotToBeKnown(self) -> None:
        """
        Where /proc says 0 for "you may not know", nothing is said: it is not
        taken for a success.
        """
        handle, pid, end = self.spawn(5)
        end(reap=False)
        self.unrelated()
        with open(f"/proc/{pid}/stat") as file:
            self.assertEqual(file.read().split()[-1], str(5 << 8))
        os.setresuid(1000, 1000, 0)
        try:
            with open(f"/proc/{pid}/stat") as file:
                self.assertEqual(file.read().split()[-1], "0")
            self.assertEqual(handle.readExit(), ProcessExit())
        finally:
            os.setresuid(0, 0, 0)
            os.waitpid(pid, 0)

    def test_exitReapedMeanwhile(self) -> None:
        """
        A status read in /proc while the process was reaped may be another's,
        and does not count.
        """
        handle, pid, end = self.spawn(5)
        end(reap=False)
        self.unrelated()
        decode = pidfd.procfs.decodeExitStatus

        def reap(data):
            os.waitpid(pid, 0)
            return decode(data)

        self.patch(pidfd.procfs, "decodeExitStatus", reap)
        self.assertEqual(
            handle.readExit(), ProcessExit(exitCode=5, source="PIDFD_GET_INFO")
        )

    def test_withoutInfo(self) -> None:
        """
        Before Linux 6.13 there is no info, and no exit of what was reaped.
        """
        handle, _pid, end = self.spawn(5)
        self.withoutInfo()
        problem = self.assertRaises(PeerProcessUnsupported, handle.info)
        self.assertIn("6.13", str(problem))
        end()
        self.assertIsNone(handle.exit())
        self.assertEqual(handle.readExit(), ProcessExit())

    def test_infoOutOfSight(self) -> None:
        """
        A process of another PID namespace is not taken for one that is gone,
        and one that is gone not for one that cannot be seen.
        """
        handle, _pid, end = self.spawn()
        self.withoutInfo(errno.EREMOTE)
        problem = self.assertRaises(PeerProcessUnavailable, handle.info)
        self.assertIn("PID namespace", str(problem))
        end()
        self.assertRaises(PeerProcessGone, handle.info)

    def test_infoGone(self) -> None:
        """
        An answer without IDs is none.
        """
        handle, _pid, end = self.spawn(5)
        end()
        gone = self.assertRaises(PeerProcessGone, handle.info)
        self.assertEqual(gone.exit.exitCode, 5)

    def test_infoUnmapped(self) -> None:
        """
        An ID that may be any that this user namespace does not map is L{None};
        where it maps all, each is itself, whatever it looks like.
        """
        uids = [65534, 1000, 65534, 1000]
        data = struct.pack(
            "=QQ11Ii",
            3,
            4711,
            9,
            9,
            0,
            *(each for uid in uids for each in (uid, 65534)),
            0,
        )

        def answer(descriptor, request, buffer):
            buffer[:] = data

        self.patch(fcntl, "ioctl", answer)
        proc = self.mktemp()
        os.makedirs(proc + "/self")
        with open(proc + "/self/uid_map", "w") as file:
            file.write("0 100000 65536\n")
        # A gid_map that cannot be read maps nothing.
        handle = Pidfd(os.pidfd_open(os.getpid()), proc)
        info = handle.info()
        self.assertEqual(
            (info.realUID, info.effectiveUID, info.savedUID, info.filesystemUID),
            (None, 1000, None, 1000),
        )
        self.assertEqual((info.realGID, info.filesystemGID), (None, None))
        self.assertEqual((info.parent, info.cgroupID), (None, None))
        info = Pidfd(os.pidfd_open(os.getpid())).info()
        self.assertEqual((info.realUID, info.realGID), (65534, 65534))

    def fakeProc(self, number) -> str:
        """
        A /proc in which handles have a number.
        """
        proc = self.mktemp()
        os.makedirs(proc + "/self/fdinfo")
        self.fdinfo = proc + "/self/fdinfo/"
        self.number = number
        return proc

    def inProc(self, number, files=()) -> Pidfd:
        """
        A handle on this process where /proc says what it is told to.
        """
        proc = self.fakeProc(number)
        handle = Pidfd(os.pidfd_open(os.getpid()), proc)
        with open(self.fdinfo + str(handle.fileno()), "w") as file:
            file.write(f"Pid:\t{number}\n")
        return handle

    def test_readOutOfSight(self) -> None:
        """
        A process that has no number in this /proc is not looked for there.
        """
        problem = self.assertRaises(
            PeerProcessUnavailable, self.inProc(0).read, "status"
        )
        self.assertIn("PID namespace", str(problem))
        self.assertRaises(PeerProcessGone, self.inProc(-1).read, "status")

    def test_noProc(self) -> None:
        """
        Without a /proc, or with one that hides processes, that is said.
        """
        handle = Pidfd(os.pidfd_open(os.getpid()), "/nowhere")
        problem = self.assertRaises(PeerProcessUnavailable, handle.read, "status")
        self.assertIn("/nowhere", str(problem))
        problem = self.assertRaises(PeerProcessUnavailable, self.inProc(7).read, "stat")
        self.assertIn("hidepid", str(problem))

    def test_readBracketed(self) -> None:
        """
        What was read does not count if the process ended before it had been
        read: neither the answer nor the error.
        """
        for name in ("status", "exe", "no such file"):
            handle, pid, end = self.spawn(5)
            handle.read("status")
            number = Pidfd._number

            def endsAfter(self, number=number, end=end):
                found = number(self)
                # The directory is there as long as it is not reaped.
                end(reap=False)
                return found

            self.patch(Pidfd, "_number", endsAfter)
            problem = self.assertRaises(PeerProcessGone, handle.read, name)
            self.assertEqual(problem.exit.exitCode, 5)
            self.patch(Pidfd, "_number", number)
            os.waitpid(pid, 0)

    @skipIf(needsRoot, needsRoot)
    def test_mayNot(self) -> None:
        """
        What this process may not know or do is not taken for a process that is
        gone.
        """
        handle, _pid, end = self.spawn()
        os.setresuid(1000, 1000, 0)
        try:
            problem = self.assertRaises(PeerProcessUnavailable, handle.read, "exe")
            self.assertIn("ptrace", str(problem))
            problem = self.assertRaises(PeerProcessUnavailable, handle.signal, 15)
            self.assertIn("CAP_KILL", str(problem))
        finally:
            os.setresuid(0, 0, 0)
            end()

    def test_signalUnreaped(self) -> None:
        """
        A process that has ended and is still to be reaped, to which the kernel
        lets any signal go, is gone.
        """
        handle, pid, end = self.spawn()
        end(reap=False)
        signal.pidfd_send_signal(handle.fileno(), signal.SIGTERM)
        self.assertRaises(PeerProcessGone, handle.signal, signal.SIGTERM)
        os.waitpid(pid, 0)

    def test_signalErrors(self) -> None:
        """
        Each error of pidfd_send_signal(2) has its type.
        """
        handle = Pidfd(os.pidfd_open(os.getpid()))
        for number, kind in (
            (errno.ESRCH, PeerProcessGone),
            (errno.EINVAL, PeerProcessUnavailable),
            (errno.EPERM, PeerProcessUnavailable),
        ):

            def refuse(*arguments, number=number):
                raise OSError(number, os.strerror(number))

            self.patch(signal, "pidfd_send_signal", refuse)
            self.assertRaises(kind, handle.signal, 0)

    def test_unknownArchitecture(self) -> None:
        """
        Where the option's number is not confirmed it is not tried.
        """
        self.patch(pidfd, "passOption", lambda machine: None)
        self.assertRaises(PeerProcessUnsupported, Pidfd.ofPeer, None)

    def test_messages(self) -> None:
        """
        What comes with a message is a handle or an error number.
        """
        self.assertRaises(PeerProcessGone, Pidfd.ofMessage, -errno.ESRCH)
        self.assertRaises(PeerProcessUnavailable, Pidfd.ofMessage, -errno.EMFILE)
        handle = Pidfd.ofMessage(os.pidfd_open(os.getpid()))
        self.assertFalse(handle.hasEnded())

    def test_oneParent(self) -> None:
        """
        One except clause catches them all.
        """
        for each in (PeerProcessGone, PeerProcessUnavailable, PeerProcessUnsupported):
            self.assertTrue(issubclass(each, PeerProcessError))
