"""
The sdist and the wheel of a release, the same bytes whoever builds them and
when: C{python .ci/dist.py DIRECTORY}, from the top of a checkout.

The time of everything in them is C{SOURCE_DATE_EPOCH}, or else that of the last
commit.  setuptools makes a wheel by that, but not an sdist, whose files keep
the times, owners and modes that they have on this machine.
"""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path


def lastCommit() -> str:
    """
    The time of the last commit, in seconds of the epoch.
    """
    return subprocess.check_output(
        ["git", "log", "-1", "--format=%ct"], text=True
    ).strip()


def build(kind: str, source: Path, out: Path, suffix: str) -> Path:
    """
    Build one archive.
    """
    subprocess.run(
        [sys.executable, "-m", "build", kind, "--outdir", out, source],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (made,) = out.glob("*" + suffix)
    return made


def normalise(archive: Path, epoch: int) -> None:
    """
    Leave in an sdist nothing of the machine that it was made on.
    """
    packed = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, epoch
            runs = member.isdir() or member.mode & 0o100
            plain.mode = 0o755 if runs else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    with (
        open(archive, "wb") as file,
        gzip.GzipFile("", "wb", 9, file, mtime=epoch) as out,
    ):
        out.write(packed.getvalue())


def main() -> None:
    """
    Both, in that directory.
    """
    out = Path(sys.argv[1])
    epoch = os.environ.setdefault("SOURCE_DATE_EPOCH", lastCommit())
    os.umask(0o022)
    source = build("--sdist", Path(), out, ".tar.gz")
    normalise(source, int(epoch))
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(source) as archive:
        # What everybody can get is what the wheel is made of.  No filter: it is
        # our own, and Python 3.11.2 knows none.
        archive.extractall(scratch)
        (top,) = Path(scratch).iterdir()
        build("--wheel", top, out, ".whl")


if __name__ == "__main__":
    main()
