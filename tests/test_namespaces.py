"""
Tests for L{twisted_peercred.kernels.namespaces}.
"""

import json
import os
import subprocess
import sys
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.kernels.namespaces import (
    ALL,
    FIRST_PID,
    FIRST_USER,
    Namespaces,
    decodeMap,
    namespaces,
)

from .support import environment, needsRoot

EVERYBODY = ((0, 0, ALL),)


class NamespacesTests(SynchronousTestCase):
    """
    Tests for what is said about them.
    """

    def test_decode(self) -> None:
        """
        Each line is a range.
        """
        self.assertEqual(
            decodeMap("         0       1000          1\n1 100000 65536\n"),
            ((0, 1000, 1), (1, 100000, 65536)),
        )
        self.assertEqual(decodeMap("0 0 4294967295\n"), EVERYBODY)
        self.assertEqual(decodeMap(""), ())

    def test_first(self) -> None:
        """
        Where everything is to be seen there is nothing to say.
        """
        first = Namespaces(FIRST_PID, FIRST_USER, EVERYBODY, EVERYBODY)
        self.assertEqual(first.remarks(), [])

    def test_others(self) -> None:
        """
        What cannot be seen is said, and what to do.
        """
        some = ((0, 1000, 1), (1, 100000, 10))
        there = Namespaces("pid:[7]", "user:[8]", some, EVERYBODY)
        pid, uid = there.remarks()
        self.assertIn("PID namespace", pid)
        self.assertIn("11 uids", uid)
        self.assertIn("/etc/subuid", uid)
        (gid,) = Namespaces(FIRST_PID, "user:[8]", EVERYBODY, ()).remarks()
        self.assertIn("0 gids", gid)

    def test_here(self) -> None:
        """
        This process's are those that /proc says.
        """
        here = namespaces()
        self.assertEqual(here.pid, os.readlink("/proc/self/ns/pid"))
        self.assertEqual(here.user, os.readlink("/proc/self/ns/user"))
        self.assertTrue(here.uidMap and here.gidMap)

    def test_noProc(self) -> None:
        """
        Without /proc nothing is known, and that is not taken for the best.
        """
        nowhere = namespaces("/nowhere")
        self.assertEqual(nowhere, Namespaces("", "", (), ()))
        self.assertEqual(len(nowhere.remarks()), 3)

    @skipIf(needsRoot, needsRoot)
    def test_container(self) -> None:
        """
        In namespaces of its own a server is told what it does not see.
        """
        code = (
            "import json; from twisted_peercred.kernels.namespaces import namespaces;"
            "here = namespaces(); print(json.dumps([here, here.remarks()]))"
        )
        done = subprocess.run(
            [
                *("unshare", "--user", "--map-root-user", "--pid", "--fork"),
                *("--mount-proc", sys.executable, "-c", code),
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        (pid, user, uids, gids), remarks = json.loads(done.stdout)
        self.assertNotIn(FIRST_PID, pid)
        self.assertNotIn(FIRST_USER, user)
        self.assertEqual((uids, gids), ([[0, 0, 1]], [[0, 0, 1]]))
        self.assertEqual(len(remarks), 3)
