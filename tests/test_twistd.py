"""
Tests for Twisted's own services over C{peercred:}, unchanged, as a user runs
them.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from unittest import skipIf

from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.protocols.ftp import FTPFactory, FTPRealm

from .support import LiveTestCase, environment, needsRoot, runClient

noConch = (
    ""
    if all(map(find_spec, ("appdirs", "bcrypt", "cryptography")))
    else "needs Twisted[conch]"
)

TWISTD = "from twisted.scripts.twistd import run; run()"
TWIST = "from twisted.application.twist._twist import Twist; Twist.main()"
GET = 'peer = connect()\npeer.sendall(b"GET /page HTTP/1.0\\r\\n\\r\\n")\n'


class ServiceTests(LiveTestCase):
    """
    Tests for services that are not ours.
    """

    async def start(self, program: str, *arguments: str) -> str:
        """
        Start a service on C{peercred:unix:}; C{ADDRESS} in its arguments is
        its description.

        @return: where it listens.
        """
        address = os.path.join(self.directory, "s")
        log = os.path.join(self.directory, "log")
        description = f"peercred:unix:{address}:mode=666:rules=self"
        with open(log, "wb") as output:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-c", program),
                    *(each.replace("ADDRESS", description) for each in arguments),
                ],
                env=environment(),
                cwd=self.directory,
                stdout=output,
                stderr=output,
            )

        def stop() -> None:
            server.terminate()
            server.wait()
            self.assertFalse(os.path.exists(address))

        self.addCleanup(stop)
        await self.until(lambda: self.listens(address) or server.poll() is not None)
        with open(log) as file:
            self.assertIsNone(server.poll(), file.read())
        return address

    def page(self) -> str:
        """
        A file for a web site.

        @return: its directory.
        """
        site = os.path.join(self.directory, "site")
        os.mkdir(site)
        with open(os.path.join(site, "page"), "w") as file:
            file.write("hello from a file")
        return site

    async def test_web(self) -> None:
        """
        C{twistd web} serves its files to whom the rules admit.
        """
        site = self.page()
        address = await self.start(
            TWISTD, "-n", "--pidfile=", "web", "--listen", "ADDRESS", "--path", site
        )
        shown = await runClient(address, GET + "print(readAll(peer))")
        self.assertIn("hello from a file", shown)

    async def test_twistWeb(self) -> None:
        """
        C{twist web} does.
        """
        site = self.page()
        address = await self.start(TWIST, "web", "--listen", "ADDRESS", "--path", site)
        shown = await runClient(address, GET + "print(readAll(peer))")
        self.assertIn("hello from a file", shown)

    @skipIf(needsRoot, needsRoot)
    async def test_others(self) -> None:
        """
        Others get nothing from it.
        """
        site = self.page()
        address = await self.start(TWIST, "web", "--listen", "ADDRESS", "--path", site)
        shown = await runClient(
            address, "become(1000, 1000)\nprint(readAll(connect()))"
        )
        self.assertEqual(shown.strip(), "b''")

    async def test_ftp(self) -> None:
        """
        Twisted's FTP server logs in and answers.  C{twistd ftp --port} takes
        a number and no description; a program of three lines takes both.
        """
        realm = FTPRealm(self.directory)
        factory = FTPFactory(Portal(realm, [AllowAnonymousAccess()]))
        factory.noisy = False
        address = os.path.join(self.directory, "s")
        endpoint = serverFromString(reactor, f"peercred:unix:{address}:rules=self")
        self.adoptPort(await endpoint.listen(factory))
        shown = await runClient(
            address,
            "lines = connect().makefile('rw', newline='\\r\\n')\n"
            "print(lines.readline(), end='')\n"
            "for line in ('USER anonymous', 'PASS ann', 'PWD', 'QUIT'):\n"
            "    lines.write(line + '\\n')\n"
            "    lines.flush()\n"
            "    print(lines.readline(), end='')\n",
        )
        self.assertEqual(
            [each[:3] for each in shown.splitlines()],
            ["220", "331", "230", "257", "221"],
        )

    @skipIf(noConch, noConch)
    async def test_conch(self) -> None:
        """
        So does a telnet manhole of Twisted's own.
        """
        passwd = os.path.join(self.directory, "passwd")
        with open(passwd, "w") as file:
            file.write("ann:pw\n")
        address = await self.start(
            *(TWISTD, "-n", "--pidfile=", "manhole", "--telnetPort", "ADDRESS"),
            *("--passwd", passwd),
        )
        shown = await runClient(address, "print(connect().recv(100))")
        self.assertIn("Username: ", shown)
