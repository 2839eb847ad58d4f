"""
Servers in processes of their own, and what they use: CPU time, instructions,
memory.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
#: The checkout is what is measured, whatever else is installed.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent)}
sys.path.append(str(HERE.parent))


def raiseDescriptorLimit() -> int:
    """
    Let this process, and those it starts, open as many files as they may.

    @return: how many that is.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def compileServer(directory: Path) -> None:
    """
    Make the server in C, if there is a compiler.
    """
    compiler = shutil.which("cc")
    if compiler is not None:
        program = directory / "server"
        source = HERE / "server.c"
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
        ENVIRONMENT["BENCHMARK_C_SERVER"] = str(program)


def _start(*command: object, **options: object) -> subprocess.Popen[str]:
    """
    Start a process, and wait for its first line.
    """
    process = subprocess.Popen(
        [str(each) for each in command],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    if not process.stdout.readline():
        process.wait()
        raise RuntimeError(f"it did not start: {' '.join(map(str, command))}")
    return process


class Server:
    """
    A server that listens.

    @ivar address: where.
    @param idle: connections that it has beside those that are measured, kept
        by a process of their own.
    """

    #: What it is run under.
    under: tuple[str, ...] = ()

    def __init__(self, variant: str, loop: str, directory: Path, idle: int = 0) -> None:
        name = re.sub(r"\W", "", f"{variant}{loop}{idle}")
        self.directory = directory
        self.address = str(directory / f"{name}.sock")
        Path(self.address).unlink(missing_ok=True)
        command: tuple[object, ...]
        if variant == "C":
            command = (ENVIRONMENT["BENCHMARK_C_SERVER"], self.address)
        else:
            program = HERE / "servers.py"
            command = (sys.executable, program, variant, loop, self.address)
        self._process = _start(*self.under, *command, cwd=directory)
        self.pid = self._process.pid
        self._crowd = None
        if idle:
            self._crowd = _start(
                sys.executable,
                HERE / "works.py",
                self.address,
                idle,
                stdin=subprocess.PIPE,
            )

    def used(self) -> float:
        """
        CPU time so far, in microseconds: user's and system's, of all threads;
        getrusage(2)'s sum, which only the process itself could ask for.
        """
        clock = ctypes.c_int()
        if ctypes.CDLL(None).clock_getcpuclockid(self.pid, ctypes.byref(clock)):
            raise ProcessLookupError(f"{self.address}: the server is gone")
        before = time.clock_gettime(clock.value)
        # What the client has seen done may not be all that there was to do.
        while True:
            time.sleep(0.001)
            now = time.clock_gettime(clock.value)
            if now - before < 20e-6:
                return now * 1e6
            before = now

    def memory(self) -> int:
        """
        Bytes of memory, what is shared with other processes by halves
        (proc_pid_smaps(5): Pss).
        """
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def stop(self) -> None:
        """
        End it.
        """
        for process in (self._crowd, self._process):
            if process is not None:
                process.kill()
                process.communicate()


class CountedServer(Server):
    """
    The same under valgrind, which counts the instructions of user space: no
    time, nothing of the kernel's part, and little difference between two runs.
    """

    under = ("valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=counts")
    _counted = 0

    def used(self) -> float:
        """
        Instructions so far.
        """
        subprocess.run(
            ["callgrind_control", "--dump", str(self.pid)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Each dump has what was counted since the last.
        for dump in self.directory.glob("counts.*"):
            found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
            assert found is not None
            self._counted += int(found[1])
            dump.unlink()
        return self._counted
