"""
systemd as process 1 of namespaces of its own, to run units as they are: on a
file system that it cannot write to but for C{/run}, C{/tmp}, C{/var} and what it
thinks is C{/etc}.
"""

import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = ("--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--uts")
#: $1: the directory with the units; then pairs of what to have where.
BOOT = """
set -e
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/units /run/lock /run/etc/upper /run/etc/work
cp -r "$1"/. /run/units
shift
while test $# -gt 0; do
    mkdir -p "$2"
    mount --bind "$1" "$2"
    shift 2
done
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work \\
    overlay /etc
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var
mkdir /var/log /var/lib /var/tmp
mount -o remount,bind,ro /
mount -t proc proc /proc
exec env -i container=other SYSTEMD_UNIT_PATH=/run/units \\
    PATH=/usr/sbin:/usr/bin:/sbin:/bin "$SYSTEMD" --system --unit=basic.target \\
    --log-target=console --log-level=warning --show-status=no
"""
#: Whether that much is possible here: what L{BOOT} does, without systemd.
TRY = """
set -e
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
mount -o remount,bind,ro /
mount -t proc proc /proc
"""
#: What each unit hangs on, if nothing is said; and what is started.
TARGETS = {
    "sysinit.target": "",
    "shutdown.target": "",
    "basic.target": "Requires={wanted}\nAfter={wanted}\n",
}


def cgroups() -> Path | None:
    """
    Where the second version of cgroups is mounted (cgroups(7)).
    """
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2" and "rw" in options.split(","):
            return Path(where)
    return None


@cache
def lacks() -> str:
    """
    What is missing to boot, in a word for whoever runs the tests.
    """
    if not SYSTEMD.exists():
        return f"needs {SYSTEMD}"
    if os.geteuid() != 0:
        return "needs root: systemd is process 1 of namespaces"
    where = cgroups()
    if where is None or not os.access(where, os.W_OK):
        return "needs cgroups, version 2, that can be written"
    done = subprocess.run(
        ["unshare", *NAMESPACES, "--net", "--ipc", "sh", "-c", TRY],
        capture_output=True,
        text=True,
    )
    return f"needs namespaces: {done.stderr.strip()}" if done.returncode else ""


def _this() -> tuple[list[str], str, str]:
    """
    How to have this Python, and all that it imports, where every user may come.

    @return: pairs of what to have where, and the Python and its path there.
    """
    base = Path(sys.base_prefix).resolve()
    binds = {base: "/run/python/base"}
    for number, each in enumerate([Path(__file__).parents[1], *map(Path, sys.path)]):
        if each.is_dir() and base not in each.resolve().parents:
            binds.setdefault(each.resolve(), f"/run/python/{number}")
    program = Path(os.path.realpath(sys.executable)).relative_to(base)
    _, *path = binds.values()
    pairs = [str(each) for pair in binds.items() for each in pair]
    return pairs, f"/run/python/base/{program}", ":".join(path)


class Booted:
    """
    A running systemd.

    @param directory: where to write the units, an empty one.
    @param units: the text of each there is by its name; C{/usr/bin/twistd} and
        C{/usr/bin/python3} in it are this Python's.
    @param wanted: which of them to start.
    @ivar python: this Python, as it is called there.
    """

    def __init__(self, directory: Path, units: dict[str, str], wanted: str) -> None:
        binds, self.python, path = _this()
        # Its own library may be in a home, which a unit does not see.
        environment = f"PYTHONPATH={path} LD_LIBRARY_PATH=/run/python/base/lib"
        twistd = f'{self.python} -S -c "from twisted.scripts.twistd import run; run()"'
        for name, text in TARGETS.items():
            description = f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            units = {**units, name: description + text.format(wanted=wanted)}
        for name, text in units.items():
            file = directory / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(
                text.replace("/usr/bin/twistd", twistd)
                .replace("/usr/bin/python3", f"{self.python} -S")
                .replace("[Service]", f"[Service]\nEnvironment={environment}")
            )
        where = cgroups()
        assert where is not None
        self._cgroup = where / f"peercred-{os.getpid()}"
        self._cgroup.mkdir()
        self._process = subprocess.Popen(
            [
                *("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"'),
                *(str(self._cgroup), "unshare", *NAMESPACES, "--net", "--ipc"),
                *("sh", "-c", BOOT, "sh", str(directory), *binds),
            ],
            env={**os.environ, "SYSTEMD": str(SYSTEMD)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> str:
        """
        Run a command beside the units.

        @return: what it printed.
        """
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--", *command],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def pid(self) -> int | None:
        """
        Of process 1, as it is seen from here.
        """
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return int(children[0]) if children else None

    def outside(self, path: str) -> Path:
        """
        A file of theirs, as it is seen from here.
        """
        return Path(f"/proc/{self.pid}/root{path}")

    def wait(self, path: str) -> Path:
        """
        Wait for a file to be there.
        """
        for _ in range(400):
            if self._process.poll() is not None:
                raise AssertionError(self._process.stdout.read())
            if self.pid is not None and self.outside(path).exists():
                return self.outside(path)
            time.sleep(0.05)
        raise AssertionError(f"systemd has made no {path}")

    def stop(self) -> None:
        """
        Kill all that runs there.
        """
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self._process.communicate()
        for directory, _, _ in os.walk(self._cgroup, topdown=False):
            os.rmdir(directory)
