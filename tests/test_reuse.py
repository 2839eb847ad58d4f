"""
Rows A1 and A2 of the threat model, staged for real: a process number that goes
to somebody else, and a process that becomes another program.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
from unittest import skipIf

from twisted.internet.threads import deferToThread

from twisted_peercred import IPeerCredentials
from twisted_peercred.process import IPeerProcess

from .support import LiveTestCase, environment, needsProcessHandles, needsRoot

#: Has a process of its own in between: the namespace ends with it.
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


async def inNamespace(*arguments: str) -> dict:
    """
    Run a program of the tests as the first process of a PID namespace.

    @return: what it reports.
    """
    done = await deferToThread(
        subprocess.run,
        [*NAMESPACE, sys.executable, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


@skipIf(needsRoot, needsRoot)
@skipIf(needsProcessHandles, needsProcessHandles)
class ReuseTests(LiveTestCase):
    """
    Tests with other users' processes.
    """

    async def test_A1_numberReused(self) -> None:
        """
        The number of a peer that has handed its connection on and ended is
        taken by a process of another user: no method ever speaks of that one,
        or reaches it, whether one asked before, asks now for the first time,
        or is reading just then.
        """
        os.chmod(self.directory, 0o777)
        report = await inNamespace("-m", "tests.reuse", self.directory)
        # It was staged.
        self.assertIn("Uid:\t2000\t", report["newcomer"])
        self.assertIn("realUID=1000", report["alive"]["info"])
        self.assertIn("'1000\\t1000\\t1000\\t1000'", report["alive"]["status"])
        self.assertEqual(len(report["alive"]), 7)
        self.assertEqual(len(report["after"]), 8)
        self.assertEqual(len(report["between"]), 6)
        for answers in (report["after"], report["between"]):
            self.assertEqual(set(answers.values()), {"PeerProcessGone"})
        self.assertEqual(report["first"], "PeerProcessGone")
        self.assertEqual(report["exit"], "9")
        self.assertEqual(report["credentials"], 1000)
        self.assertTrue(report["newcomerLives"])
        # The newcomer is of the writer's user too, and writes.
        self.assertEqual(report["Told True"], ["victim", "same", "newcomer"])
        self.assertEqual(report["Keeping True"], ["victim", "PeerChanged"])
        # By the numbers alone there is no difference to be seen.
        self.assertEqual(report["Told False"], ["victim", "newcomer"])

    async def test_A2_programExecuted(self) -> None:
        """
        A peer that executes a setuid program is the user that it was when it
        connected; that it is another program now, with other IDs, is there for
        those who ask, and is the same process.
        """
        program = os.path.join(self.directory, "privileged")
        shutil.copy("/bin/sleep", program)
        os.chmod(program, stat.S_ISUID | 0o755)
        if os.statvfs(program).f_flag & os.ST_NOSUID:
            self.skipTest("no setuid programs in /tmp: it is mounted nosuid")
        address, wrapped = self.serve()
        go, going = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.setgroups([])
                os.setgid(1000)
                os.setuid(1000)
                peer = self.connect(address)
                peer.set_inheritable(True)
                os.read(go, 1)
                os.execv(program, [program, "1000"])
            finally:
                os._exit(99)
        try:
            protocol = await self.made(wrapped)
            process = IPeerProcess(protocol)
            self.assertEqual(process.info().effectiveUID, 1000)
            os.write(going, b".")
            await self.until(lambda: process.info().effectiveUID == 0)
            info = process.info()
            self.assertEqual((info.pid, info.realUID), (pid, 1000))
            self.assertEqual(await process.executable(), os.fsencode(program))
            self.assertEqual(await process.commandLine(), (program.encode(), b"1000"))
            self.assertEqual(IPeerCredentials(protocol).uid, 1000)
            self.assertTrue(process.isSame(protocol))
            # Nothing of this is in what a policy looks at.
            self.assertFalse(
                {"executable", "commandLine", "systemdUnit"}
                & set(dir(IPeerCredentials(protocol)))
            )
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            os.close(go)
            os.close(going)
