"""
Tests for C{docs/examples/systemd}: units that give a service nothing but what
it needs, and what is left to it.
"""

import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from unittest import skipIf

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from twisted_peercred import Capture

from .sandbox import numbers
from .support import LiveTestCase, environment, needsRoot, runClient

UNITS = Path(__file__).parents[1] / "docs" / "examples" / "systemd"
SERVICE = UNITS / "peercred-echo.service"
#: In tenths, of ten: systemd calls less than 1.0 "safe", and no settings 9.6 "unsafe".
EXPOSURE = 10
needsSystemd = "" if shutil.which("systemd-analyze") else "needs systemd-analyze"
needsFilter = needsSystemd or (
    ""
    if platform.machine() == "x86_64" and numbers()
    else "needs Linux's headers, on x86_64"
)
PROBE = """
import os, sys
imports = "import twisted_peercred, twisted.plugins, tests, twisted.internet.endpoints"
os.execv(sys.executable, [sys.executable, "-S", "-c", imports])
"""
READ_ONLY = 'mount -o remount,bind,ro / && exec "$@"'
#: A user that nobody is, as DynamicUser= makes one.
STRANGER = 61184


def settings(name: str) -> list[str]:
    """
    The values of a setting of the service's, in order.
    """
    lines = SERVICE.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def analyze(*arguments: str) -> subprocess.CompletedProcess:
    """
    Run systemd-analyze(1).
    """
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{UNITS}:"},
        capture_output=True,
        text=True,
    )


def expanded(names: list[str]) -> set[str]:
    """
    System calls, with those of the C{@groups} among them.
    """
    calls = set()
    for name in names:
        if name.startswith("@"):
            lines = analyze("syscall-filter", name).stdout.splitlines()[1:]
            words = [line.strip() for line in lines]
            calls |= expanded([each for each in words if each and each[0] != "#"])
        else:
            calls.add(name)
    return calls


def allowedCalls() -> set[str]:
    """
    What the service's filter lets through (systemd.exec(5)).
    """
    allowed = expanded(["@default"])
    for value in settings("SystemCallFilter"):
        if value.startswith("~"):
            allowed -= expanded(value[1:].split())
        else:
            allowed |= expanded(value.split())
    return allowed


@skipIf(needsSystemd, needsSystemd)
class UnitTests(SynchronousTestCase):
    """
    Tests for the units as systemd reads them.
    """

    def test_verify(self) -> None:
        """
        systemd knows every setting.
        """
        for name in ("peercred-echo.service", "peercred-echo.socket"):
            done = analyze("verify", "--man=no", str(UNITS / name))
            said = [line for line in done.stderr.splitlines() if "peercred" in line]
            # Twisted need not be installed for the test.
            said = [line for line in said if "twistd is not executable" not in line]
            self.assertEqual(said, [])

    def test_exposure(self) -> None:
        """
        systemd's own judgement of what the service is left with is as good as the
        documentation says.
        """
        done = analyze(
            *("security", "--offline=yes", f"--threshold={EXPOSURE}", str(SERVICE))
        )
        self.assertEqual(done.returncode, 0, done.stdout[-500:] + done.stderr)


def drop(user: int) -> list[str]:
    """
    A command that another one is run by: as a user, without a capability.
    """
    return [
        *("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        *(f"--reuid={user}", f"--regid={user}", "--clear-groups"),
    ]


def interpreterFor(user: int) -> str | None:
    """
    A Python that a user may start, with all that the service is made of and
    nothing that another one has installed.
    """
    for python in (sys.executable, "/usr/bin/python3"):
        # Twice: the first is found before setpriv gives up its capabilities.
        done = subprocess.run(
            [*drop(user), python, "-S", "-c", PROBE],
            env=environment(PYTHONDONTWRITEBYTECODE="1"),
            cwd="/",
            stderr=subprocess.DEVNULL,
        )
        if not done.returncode:
            return python
    return None


@skipIf(needsRoot, needsRoot)
@skipIf(needsFilter, needsFilter)
class ServiceTests(LiveTestCase):
    """
    Tests for the service under its unit's filter, without capabilities, in
    namespaces of its own and on a file system that it cannot write to.
    """

    def start(self, user: int, *arguments: str, without: str = "") -> subprocess.Popen:
        """
        The service, as the unit starts it.

        @param without: a system call that it is refused beside.
        """
        python = interpreterFor(user)
        if python is None:
            raise SkipTest(f"no user but root may read {sys.executable}")
        self.address = os.path.join(self.directory, "sock")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.address)
            os.chmod(self.address, 0o666)
            listening.listen(50)
            _, *options = shlex.split(settings("ExecStart")[0])
            allowed = ",".join(allowedCalls() - {without})
            twistd = "from twisted.scripts.twistd import run; run()"
            service = subprocess.Popen(
                [
                    *("unshare", "--mount", "--net", "sh", "-c", READ_ONLY, "sh"),
                    *(*drop(user), python, "-S", "-m", "tests.sandbox", allowed),
                    *(str(listening.fileno()), python, "-S", "-c", twistd),
                    *(*options, *arguments),
                ],
                env=environment(PYTHONDONTWRITEBYTECODE="1"),
                cwd="/",
                pass_fds=[listening.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        def stop() -> None:
            service.kill()
            service.wait()
            service.stdout.close()

        self.addCleanup(stop)
        return service

    def checkConfined(self, service: subprocess.Popen, user: int) -> None:
        """
        The kernel says of a process what the unit asks for (proc_pid_status(5)).
        """
        lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        self.assertEqual(status["Seccomp"].strip(), "2")
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        self.assertEqual(set(status["Uid"].split()), {str(user)})
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)

    async def identify(self, user: int) -> None:
        """
        Who connects is known, by number, in every capture, with its groups at
        connect-time, and judged by the rules.
        """
        for capture in Capture:
            service = self.start(
                user, f"--capture={capture.value}", "--rules=!uid/2002,any"
            )
            for uid in (0, 2001, 2002):
                said = await runClient(
                    self.address,
                    f"become({uid}, {uid}, [{uid}, 7])\n"
                    "peer = connect()\n"
                    "try:\n"
                    "    peer.sendall(b'hello')\n"
                    "    peer.shutdown(socket.SHUT_WR)\n"
                    "except OSError:\n"
                    "    pass\n"
                    "print(readAll(peer).decode())",
                )
                if uid == 2002:
                    self.assertNotIn("uid", said)
                    continue
                self.checkConfined(service, user)
                greeting = json.loads(said.splitlines()[0])
                self.assertEqual((greeting["uid"], greeting["gid"]), (uid, uid))
                if capture is Capture.CONNECT:
                    self.assertEqual(greeting["groups"], sorted({7, uid}))
            os.unlink(self.address)

    async def test_stranger(self) -> None:
        """
        A service knows who connects, as a user that nobody is.
        """
        await self.identify(STRANGER)

    async def test_withoutCapabilities(self) -> None:
        """
        So does one of root's, who may read Python wherever it is.
        """
        await self.identify(0)

    async def test_filtered(self) -> None:
        """
        Where the filter keeps it from asking the kernel, the service does not
        start, and says why in a line.
        """
        service = self.start(0, without="getsockopt")
        said, _ = await deferToThread(service.communicate, timeout=60)
        self.assertEqual(service.returncode, 1, said)
        (line,) = [each for each in said.splitlines() if each.startswith("peercred")]
        self.assertIn("seccomp", line)
        self.assertNotIn("Traceback", said)
