"""
The names that the API reference may link to outside of this package, each
with its place: read off what is installed, so that no network is needed and a
name that does not exist is found out.
"""

import builtins
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import twisted
import zope.interface

TWISTED = "https://docs.twisted.org/en/stable/api"
ZOPE = "https://zopeinterface.readthedocs.io/en/latest"
PYTHON = "https://docs.python.org/3"

#: What docs of the standard library are linked to, beside the built-in names.
STANDARD = {
    "struct": "library/struct.html",
    "socket.socket": "library/socket.html#socket.socket",
}


def builtinNames() -> Iterator[tuple[str, str]]:
    """
    The names of L{builtins}, and the page of each.
    """
    for name in dir(builtins):
        if name in ("None", "True", "False"):
            yield name, f"library/constants.html#{name}"
        elif isinstance(getattr(builtins, name), type) and issubclass(
            getattr(builtins, name), BaseException
        ):
            yield name, f"library/exceptions.html#{name}"
        elif not name.startswith("_"):
            yield name, f"library/functions.html#{name}"


def zopeNames() -> Iterator[tuple[str, str]]:
    """
    The public names of L{zope.interface}.
    """
    for name in dir(zope.interface):
        if not name.startswith("_"):
            yield f"zope.interface.{name}", f"api/index.html#{name}"


def write(file: Path, project: str, names: Iterable[tuple[str, str]]) -> None:
    """
    An inventory in the form that Sphinx calls version 2.
    """
    lines = "".join(f"{name} py:obj 1 {page} -\n" for name, page in names)
    file.write_bytes(
        b"# Sphinx inventory version 2\n"
        + f"# Project: {project}\n# Version:\n".encode()
        + b"# The remainder of this file is compressed using zlib.\n"
        + zlib.compress(lines.encode())
    )


def make(directory: Path) -> list[tuple[Path, str]]:
    """
    @param directory: where to keep them; what is there already is taken.
    @return: the inventories, each with the address that its pages are below.
    """
    directory.mkdir(parents=True, exist_ok=True)
    python, zopes = directory / "python.inv", directory / "zope.inv"
    write(python, "Python", [*builtinNames(), *STANDARD.items()])
    write(zopes, "zope.interface", zopeNames())
    twisteds = directory / twisted.__version__ / "objects.inv"
    if not twisteds.exists():
        source = Path(twisted.__file__).parent
        subprocess.run(
            [
                *(sys.executable, "-m", "pydoctor", "-qqq", "--make-intersphinx"),
                *("--html-output", str(twisteds.parent)),
                *("--project-base-dir", str(source.parent), str(source)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return [(python, PYTHON), (zopes, ZOPE), (twisteds, TWISTED)]
