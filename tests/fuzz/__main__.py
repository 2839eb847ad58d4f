"""
C{python -m tests.fuzz [--minutes N] [TARGET...]}: fuzz the targets, one after
the other, for so long together.  Fails at the first input that shows a mistake,
and keeps it under C{build/fuzz/}; C{--replay FILE TARGET} gives it to its
target again, for which no fuzzer is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

#: Where what was found is kept.
FOUND = Path("build") / "fuzz"
#: Bytes of an input.
LONGEST = 512


def fuzz(name: str, seconds: int) -> None:
    """
    Fuzz one target in this process, which ends with it.
    """
    import atheris

    with atheris.instrument_imports(include=["twisted_peercred"]):
        from .targets import CORPUS, TARGETS
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            "-timeout=20",
            "-print_final_stats=1",
            f"-artifact_prefix={FOUND}/{name}-",
            str(found),
            str(CORPUS / name),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


def main() -> int:
    """
    The command.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of all together")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    if options.seconds is not None:
        fuzz(options.targets[0], options.seconds)
    # Not before the fuzzer has seen to what is imported.
    from .targets import TARGETS

    chosen = options.targets or list(TARGETS)
    for each in chosen:
        if each not in TARGETS:
            parser.error(f"{each} is none of {', '.join(TARGETS)}")
    if options.replay is not None:
        for each in chosen:
            TARGETS[each](options.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"there is no atheris for this Python {version}: take one that has it")
        return 1
    seconds = max(1, int(options.minutes * 60 / len(chosen)))
    for each in chosen:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--seconds", str(seconds), each],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            # What came before is the fuzzer's progress.
            start = done.stdout.rfind(" === Uncaught")
            print(done.stdout[max(start, len(done.stdout) - 5000) :])
            print(f"{each}: a mistake; its input is in {FOUND}/")
            return 1
        (count,) = re.findall(r"number_of_executed_units:\s*(\d+)", done.stdout)
        print(f"{each:18} {int(count):10,} inputs, no mistake", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
