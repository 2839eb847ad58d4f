"""
Builds the wheel and the sdist and looks into them; installs the package in
each way and asks twistd for the plugin.  C{python tests/check_packaging.py DIR},
from the top of the checkout.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

PLUGIN = "twisted/plugins/twisted_peercred_plugin.py"
#: How often each plugin is found; Twisted's own too, which ours must not hide.
ASK = """
from twisted.application.service import IServiceMaker
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor
from twisted.internet.interfaces import IStreamServerEndpointStringParser
from twisted.plugin import getPlugins

for interface, attribute, names in (
    (IServiceMaker, "tapname", ["peercred-echo", "peercred-manhole", "web"]),
    (IStreamServerEndpointStringParser, "prefix", ["peercred", "systemd"]),
    (IStreamClientEndpointStringParserWithReactor, "prefix", ["peercred", "tls"]),
    (ICheckerFactory, "authType", ["peercred", "memory"]),
):
    found = [getattr(each, attribute) for each in getPlugins(interface)]
    print(*map(found.count, names))
"""
FOUND = "1 1 1\n1 1\n1 1\n1 1\n"
#: The plugin file imports nothing that not every machine has.
LIGHT = """
import sys, twisted.plugins.twisted_peercred_plugin
print([each for each in sys.modules
    if each in ("twisted.internet.endpoints", "twisted.conch", "OpenSSL")
    or each.endswith("reactor")])
"""


def run(*command: object, **options: object) -> str:
    """
    Run a command, and show what it said if it failed.
    """
    done = subprocess.run(
        [str(each) for each in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode:
        raise SystemExit(f"{command}:\n{done.stdout}")
    return done.stdout


def tracked() -> set[str]:
    """
    The files of the package in this checkout.
    """
    top = Path()
    return {
        str(each)
        for each in top.glob("twisted_peercred/**/*")
        if each.suffix == ".py" or each.name == "py.typed"
    } | {PLUGIN}


def checkWheel(wheel: Path) -> None:
    """
    The wheel has every file of the package, and nothing else.
    """
    names = {
        each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in each
    }
    if names != tracked():
        raise SystemExit(f"wrong in the wheel: {sorted(names ^ tracked())}")


def checkSource(source: Path) -> None:
    """
    The sdist has what is needed to build, to test and to read.
    """
    with tarfile.open(source) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    needed = {
        *tracked(),
        *map(str, Path("tests").glob("**/*.py")),
        *map(str, Path("tests").glob("vectors/*")),
        *map(str, Path("tests").glob("c/*.c")),
        *map(str, Path("tests").glob("fuzz/corpus/*/*")),
        *map(str, Path("docs").glob("**/*.py")),
        *("LICENSE", "Makefile", "NEWS.rst", "README.rst", "pyproject.toml"),
        *("setup.cfg", "tox.ini"),
    }
    if not needed <= names:
        raise SystemExit(f"not in the sdist: {sorted(needed - names)}")


def pythons() -> list[str]:
    """
    This Python, and each other version that is here and supported.
    """
    ours = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    found = [sys.executable]
    for minor in range(10, 15):
        python = shutil.which(f"python3.{minor}")
        if python is None or Path(python).name == ours:
            continue
        # It may be a name without a Python, or one without venv.
        if not subprocess.run(
            [python, "-c", "import ensurepip, venv"], stderr=subprocess.DEVNULL
        ).returncode:
            found.append(python)
    return found


def checkInstall(interpreter: str, directory: Path, *arguments: object) -> None:
    """
    After pip install with those arguments twistd finds the plugin, once, and
    Twisted's own; after pip uninstall Twisted's folder is as it was.
    """
    run(interpreter, "-m", "venv", directory)
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "Twisted", "zope.interface")
    (folder,) = directory.glob("lib/*/site-packages/twisted/plugins")

    def files() -> set[Path]:
        return {
            each
            for each in folder.parent.rglob("*")
            if each.suffix != ".pyc" and each.name != "dropin.cache"
        }

    before = files()
    run(python, "-m", "pip", "install", "--quiet", *arguments)
    counts = run(python, "-W", "error", "-c", ASK, cwd=directory)
    if counts != FOUND:
        raise SystemExit(f"pip install {arguments}: plugins found: {counts!r}")
    light = run(python, "-W", "error", "-c", LIGHT, cwd=directory)
    if light != "[]\n":
        raise SystemExit(f"pip install {arguments}: imports too much: {light!r}")
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "twisted_peercred")
    if files() != before:
        raise SystemExit(f"pip uninstall left {files() ^ before}")


def checkTarget(directory: Path, wheel: Path) -> None:
    """
    After pip install --target into a folder of its own, beside a Twisted that
    is somewhere else, twistd finds the plugins.
    """
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "Twisted", "zope.interface")
    target = directory / "target"
    run(
        *(python, "-m", "pip", "install", "--quiet", "--no-deps"),
        *("--target", target, wheel),
    )
    found = run(
        *(python, "-W", "error", "-c", ASK),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    if found != FOUND:
        raise SystemExit(f"pip install --target: plugins found: {found!r}")


def main() -> None:
    """
    All of it.
    """
    scratch = Path(sys.argv[1])
    out, again = scratch / "dist", scratch / "again"
    for each in (out, again):
        run(sys.executable, ".ci/dist.py", each)
    (wheel,) = out.glob("*.whl")
    (source,) = out.glob("*.tar.gz")
    for archive in (wheel, source):
        if archive.read_bytes() != (again / archive.name).read_bytes():
            raise SystemExit(f"{archive.name} is another one each time it is built")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    run(sys.executable, "-m", "check_manifest")
    checkWheel(wheel)
    checkSource(source)
    checkInstall(sys.executable, scratch / "editable", "--editable", ".")
    checkTarget(scratch / "target", wheel)
    for each in pythons():
        place = scratch / f"with-{Path(each).name}"
        checkInstall(each, place / "wheel", wheel)
        checkInstall(each, place / "sdist", source)
        print(f"{each}: wheel and sdist are good")
    print("wheel and sdist are the same each time; all ways to install are good")


if __name__ == "__main__":
    main()
