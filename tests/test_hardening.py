"""
Tests for C{docs/examples/systemd} and C{docs/examples/apparmor}: units and a
profile that give a service nothing but what it needs, and what is left to it.
"""

import json
import os
import platform
import pwd
import re
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

from .booted import Booted, lacks
from .sandbox import numbers
from .support import PRELUDE, LiveTestCase, environment, needsRoot, runClient

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
UNITS = EXAMPLES / "systemd"
PROFILE = EXAMPLES / "apparmor" / "peercred-echo"
SERVICE = UNITS / "peercred-echo.service"
#: In tenths, of ten: systemd calls less than 1.0 "safe", and no settings 9.6 "unsafe".
EXPOSURE = 10
needsSystemd = "" if shutil.which("systemd-analyze") else "needs systemd-analyze"
#: It is where only root looks for programs.
PARSER = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
needsParser = "" if PARSER else "needs apparmor_parser"
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
#: What each client says, if it is let.
HELLO = """
peer = connect()
try:
    peer.sendall(b"hello")
    peer.shutdown(socket.SHUT_WR)
except OSError:
    pass
"""
#: Where the socket unit has it.
SOCKET = "/run/peercred-echo.sock"


def settings(name: str) -> list[str]:
    """
    The values of a setting of the service's, in order.
    """
    lines = SERVICE.read_text().replace("\\\n", "").splitlines()
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


@skipIf(needsParser, needsParser)
class ProfileTests(SynchronousTestCase):
    """
    Tests for the profile as AppArmor's own compiler reads it.  It need not be
    in the kernel.
    """

    def parse(self, text: str) -> subprocess.CompletedProcess:
        file = Path(self.mktemp())
        file.write_text(text)
        return subprocess.run(
            [PARSER, "--skip-kernel-load", "--skip-cache", str(file)],
            capture_output=True,
            text=True,
        )

    def test_parse(self) -> None:
        """
        It is understood, down to the names of permissions.
        """
        text = PROFILE.read_text()
        done = self.parse(text)
        self.assertEqual(done.returncode, 0, done.stderr)
        done = self.parse(text.replace("getopt,", "getoption,"))
        self.assertNotEqual(done.returncode, 0)


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


def confinedUser(test: LiveTestCase, pid: int) -> int:
    """
    The kernel says of a process what the unit asks for (proc_pid_status(5)).

    @return: the user it runs as.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    test.assertEqual(status["Seccomp"].strip(), "2")
    test.assertEqual(status["NoNewPrivs"].strip(), "1")
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        test.assertEqual(int(status[name], 16), 0, name)
    (uid,) = set(status["Uid"].split())
    return int(uid)


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
                    f"become({uid}, {uid}, [{uid}, 7])\n{HELLO}"
                    "print(readAll(peer).decode())",
                )
                if uid == 2002:
                    self.assertNotIn("uid", said)
                    continue
                self.assertEqual(confinedUser(self, service.pid), user)
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


@skipIf(lacks(), lacks())
class BootedTests(LiveTestCase):
    """
    Tests for the units as they are, and for what the documentation adds, under
    systemd itself, as process 1.
    """

    def boot(self, *dropIns: str) -> Booted:
        """
        @param dropIns: what is added to the service.
        """
        units = {
            each.name: each.read_text()
            for each in UNITS.iterdir()
            if each.suffix in (".service", ".socket")
        }
        for number, text in enumerate(dropIns):
            units[f"peercred-echo.service.d/{number}.conf"] = text
        directory = Path(self.directory, "units")
        directory.mkdir()
        booted = Booted(directory, units, "peercred-echo.socket")
        self.addCleanup(booted.stop)
        booted.wait(SOCKET)
        self.booted = booted
        return booted

    async def say(self, uid: int, groups=()) -> str:
        """
        What a client of some user has to tell: its PID, and what it was told.
        """
        client = (
            f"become({uid}, {uid}, {list(groups)})\n{HELLO}"
            "print(os.getpid(), readAll(peer).decode())"
        )
        python = (self.booted.python, "-I", "-S", "-c", PRELUDE + client)
        return await deferToThread(self.booted.run, *python, SOCKET)

    async def greeting(self, uid: int, groups=()) -> dict | None:
        """
        How a user is greeted; L{None} for one who is refused.
        """
        said = await self.say(uid, groups)
        pid, _, greeting = said.splitlines()[0].partition(" ")
        if not greeting.startswith("{"):
            return None
        known = json.loads(greeting)
        self.assertEqual(known["pid"], int(pid))
        return known

    def mainProcess(self, booted: Booted) -> int:
        """
        The service's process, as it is seen from here.
        """
        show = ("systemctl", "show", "-P", "MainPID", "peercred-echo.service")
        inner = booted.run(*show).strip()
        for each in Path("/proc").glob("[0-9]*/status"):
            try:
                status = each.read_text()
            except ProcessLookupError:
                continue
            (numbers,) = re.findall(r"^NSpid:(.*)", status, re.M)
            same = os.path.samefile
            if numbers.split()[1:] == [inner] and same(
                each.parent / "ns/pid", f"/proc/{booted.pid}/ns/pid"
            ):
                return int(each.parent.name)
        raise AssertionError(f"no process {inner} there")

    async def test_units(self) -> None:
        """
        The socket unit makes the socket, and the first who connects starts the
        service: as a user that nobody is, without a capability, under its filter;
        it knows who connects, by all of 2,000 groups.
        """
        booted = self.boot()
        self.assertEqual(os.stat(booted.outside(SOCKET)).st_mode & 0o777, 0o666)
        for uid, count in ((0, 0), (2001, 2000)):
            groups = range(5000, 5000 + count)
            greeting = await self.greeting(uid, groups)
            self.assertEqual((greeting["uid"], greeting["gid"]), (uid, uid))
            self.assertEqual(greeting["groups"], [uid, *groups])
        pid = self.mainProcess(booted)
        # systemd.exec(5).
        self.assertIn(confinedUser(self, pid), range(61184, 65520))

    async def test_seenByClients(self) -> None:
        """
        The client that has the service started sees systemd, which called
        listen(2); those that come later the service, which has done so too.
        """
        booted = self.boot()
        client = (
            f"{HELLO}readAll(peer)\n"
            "ucred = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)\n"
            "print(*struct.unpack('iII', ucred))"
        )
        python = (booted.python, "-I", "-S", "-c", PRELUDE + client, SOCKET)
        first, second = [await deferToThread(booted.run, *python) for _ in range(2)]
        self.assertEqual(first, "1 0 0\n")
        uid = os.stat(f"/proc/{self.mainProcess(booted)}").st_uid
        self.assertEqual(second.split()[1], str(uid))

    async def test_rules(self) -> None:
        """
        Rules with names, C{systemctl reload} and the audit log work with what
        C{rules.conf} adds.
        """
        booted = self.boot((UNITS / "rules.conf").read_text())
        rules = booted.outside("/etc/peercred-echo.rules")
        rules.write_text("user/daemon\n")
        daemon, other = pwd.getpwnam("daemon").pw_uid, pwd.getpwnam("bin").pw_uid
        self.assertEqual((await self.greeting(daemon))["userName"], "daemon")
        self.assertIsNone(await self.greeting(other))
        rules.write_text("user/bin\n")
        booted.run("systemctl", "reload", "peercred-echo.service")
        for _ in range(100):
            if await self.greeting(other) is not None:
                break
        self.assertIsNone(await self.greeting(daemon))
        log = booted.outside("/var/log/peercred-echo/audit.jsonl")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        said = {(each["uid"], each["what"]) for each in records}
        self.assertLessEqual({(daemon, "admitted"), (other, "refused")}, said)
        self.assertLessEqual({(other, "admitted"), (daemon, "refused")}, said)

    async def test_processes(self) -> None:
        """
        What can be told of a peer's process: that it is there, who it is by the
        handle and that it ended; nothing of C{/proc}, and no signal.  A client of
        the socket finds the service, which is who called listen(2) last.
        """
        self.boot(
            "[Service]\n"
            "ExecStart=\n"
            f"ExecStart=/usr/bin/python3 -m tests.asks {SOCKET}\n"
            "StandardOutput=append:/run/asked\n"
        )
        said = json.loads((await self.say(2001)).partition(" ")[2])
        hidden = "PeerProcessUnavailable"
        names = ("status", "commandLine", "executable", "cgroup", "startTime")
        server = said.pop("server")
        self.assertEqual(
            said,
            {"info": "answers", **dict.fromkeys(names, hidden), "signal": hidden},
        )
        pid = self.mainProcess(self.booted)
        self.assertEqual(server["uid"], os.stat(f"/proc/{pid}").st_uid)
        told = self.booted.wait("/run/asked")
        await self.until(lambda: told.read_text().endswith("\n"))
        # How, only if it was reaped before that was asked.
        self.assertIn(json.loads(told.read_text())["exitCode"], (None, 0))

    async def test_userNamespace(self) -> None:
        """
        With C{PrivateUsers=yes}, which the unit says not to set, nobody is known
        but root and the service's own user.
        """
        self.boot("[Service]\nPrivateUsers=yes\n")
        self.assertEqual((await self.greeting(0))["uid"], 0)
        self.assertIsNone(await self.greeting(2001))
