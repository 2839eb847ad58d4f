"""
Tests for L{twisted_peercred.commands.platform}.
"""

import errno
import gc
import io
import json
import os
import socket
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Capture, CredentialsUnavailable, CredentialsUnsupported
from twisted_peercred.__main__ import main
from twisted_peercred.commands import platform
from twisted_peercred.commands.platform import SOCKETS, Pair, tryCapture, tryProbe
from twisted_peercred.kernels import Probe
from twisted_peercred.kernels.base import BaseKernel
from twisted_peercred.kernels.linux import Linux
from twisted_peercred.kernels.namespaces import FIRST_USER, Namespaces

from .support import environment, openDescriptors


class Strange(BaseKernel):
    """
    A kernel that answers in every way there is.
    """

    name = "Strange"

    def probes(self):
        def fail(number):
            def ask(ours, theirs):
                raise OSError(number, "no")

            return ask

        def nobody(ours, theirs):
            raise CredentialsUnavailable("nobody")

        def caused(ours, theirs):
            try:
                fail(errno.EACCES)(ours, theirs)
            except OSError as error:
                raise CredentialsUnavailable("no") from error

        return [
            Probe("GIVES", lambda ours, theirs: "uid=5"),
            Probe("UNKNOWN", fail(errno.ENOPROTOOPT)),
            Probe("REFUSED", fail(errno.EPERM)),
            Probe("CAUSED", caused),
            Probe("NOBODY", nobody),
            Probe("SILENT", lambda ours, theirs: str(ours.recv(1))),
        ]

    def checkCapture(self, capture):
        if capture is not Capture.CONNECT:
            raise CredentialsUnsupported("no such thing")


class ProbeTests(SynchronousTestCase):
    """
    Tests for L{tryProbe} and L{tryCapture}.
    """

    def test_states(self) -> None:
        """
        What came of each thing: supported, unsupported or refused, errors by
        name; on a pair and on a connection; nothing stays open.
        """
        self.patch(platform, "PATIENCE", 0.01)
        before = openDescriptors()
        found = {
            probe.name: [tryProbe(probe, sockets) for sockets in SOCKETS.values()]
            for probe in Strange().probes()
        }
        self.assertEqual(openDescriptors(), before)
        for name, state, gave, error in (
            ("GIVES", "supported", "uid=5", None),
            ("UNKNOWN", "unsupported", None, "ENOPROTOOPT"),
            ("REFUSED", "refused", None, "EPERM"),
            ("CAUSED", "refused", None, "EACCES"),
            ("NOBODY", "refused", "nobody", None),
            ("SILENT", "refused", "timed out", None),
        ):
            self.assertEqual(
                found[name], [{"state": state, "gave": gave, "errno": error}] * 2
            )

    def test_pair(self) -> None:
        """
        A socket pair is two ends of one connection, closed afterwards.
        """
        with Pair() as (ours, theirs):
            theirs.send(b"x")
            self.assertEqual(ours.recv(2), b"x")
        self.assertEqual((ours.fileno(), theirs.fileno()), (-1, -1))

    def test_captures(self) -> None:
        """
        A capture is available, or there is a reason.
        """
        self.assertIsNone(tryCapture(Strange(), Capture.CONNECT))
        self.assertEqual(tryCapture(Strange(), Capture.EVERY_MESSAGE), "no such thing")


class CommandTests(SynchronousTestCase):
    """
    Tests for the command.
    """

    def setUp(self) -> None:
        self.stdout = io.StringIO()
        self.patch(sys, "stdout", self.stdout)

    def test_table(self) -> None:
        """
        A line for each thing and each way to try it, in columns.
        """
        self.patch(platform, "thisKernel", Strange)
        self.patch(platform, "PATIENCE", 0.01)
        self.assertEqual(main(["platform"]), 0)
        rows = [line.split() for line in self.stdout.getvalue().splitlines()]
        for row in (
            ["kernel", "Strange"],
            ["release", os.uname().release],
            ["GIVES", "socketpair", "supported", "uid=5"],
            ["GIVES", "connection", "supported", "uid=5"],
            ["UNKNOWN", "connection", "unsupported", "ENOPROTOOPT"],
            ["Capture", "connect", "yes"],
            ["Capture", "every-message", "no", "no", "such", "thing"],
        ):
            self.assertIn(row, rows)
        for line in self.stdout.getvalue().splitlines():
            self.assertEqual(line, line.rstrip())

    def test_namespaces(self) -> None:
        """
        On Linux the table shows this process's namespaces and maps, what
        follows from them, and what there is for processes; nothing stays open.
        """
        here = Namespaces("pid:[7]", FIRST_USER, ((0, 1000, 1),), ((5, 100, 9),))
        self.patch(platform, "thisKernel", Linux)
        self.patch(platform, "namespaces", lambda: here)
        # What other tests have left to the collector is not closed meanwhile,
        # and what a first call opens for good is open.
        gc.collect()
        main(["platform"])
        before = openDescriptors()
        self.stdout.seek(0)
        self.stdout.truncate()
        self.assertEqual(main(["platform"]), 0)
        self.assertEqual(openDescriptors(), before)
        lines = self.stdout.getvalue().splitlines()
        rows = [line.split() for line in lines]
        for row in (
            ["Namespace", "pid", "another", "pid:[7]"],
            ["Namespace", "user", "first", FIRST_USER],
            ["uidMap", "mapped", "0", "is", "1000,", "1", "of", "them"],
            ["gidMap", "mapped", "5", "is", "100,", "9", "of", "them"],
        ):
            self.assertIn(row, rows)
        self.assertEqual(lines[-3:], here.remarks())
        tried = {row[0] for row in rows}
        self.assertTrue({"SO_PEERPIDFD", "PIDFD_GET_INFO", "SO_PASSPIDFD"} <= tried)

    def test_json(self) -> None:
        """
        The same as one object.
        """
        self.patch(platform, "thisKernel", Strange)
        self.patch(platform, "PATIENCE", 0.01)
        self.assertEqual(main(["platform", "--json"]), 0)
        report = json.loads(self.stdout.getvalue())
        self.assertEqual(
            report["options"]["REFUSED"]["connection"],
            {"state": "refused", "gave": None, "errno": "EPERM"},
        )
        self.assertEqual(
            report["captures"],
            {
                "connect": None,
                "first-message": "no such thing",
                "every-message": "no such thing",
            },
        )

    def test_unknownPlatform(self) -> None:
        """
        A platform that is not known is reported all the same, with status 1.
        """

        def thisKernel():
            raise CredentialsUnsupported("plan9 is no platform")

        self.patch(platform, "thisKernel", thisKernel)
        for arguments in (["platform"], ["platform", "--json"]):
            self.assertEqual(main(arguments), 1)
            self.assertIn("plan9 is no platform", self.stdout.getvalue())

    def test_program(self) -> None:
        """
        On this machine every option of its kernel is there, tried for real; the
        output names no host.
        """
        done = subprocess.run(
            [sys.executable, "-m", "twisted_peercred", "platform"],
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in (
            *("SO_PEERCRED", "SO_PEERGROUPS", "SO_PEERSEC", "SO_PASSCRED"),
            *("SO_PASSRIGHTS", "uid=", "every-message", "python", "twisted"),
        ):
            self.assertIn(word, done.stdout)
        self.assertNotIn(socket.gethostname(), done.stdout.split())

    def test_help(self) -> None:
        """
        C{--help} shows it by example.
        """
        with self.assertRaises(SystemExit):
            main(["platform", "--help"])
        self.assertIn("peercred platform --json |", self.stdout.getvalue())
