"""
Tests for L{twisted_peercred.kernels}.
"""

import ctypes
import sys
from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import CredentialsUnsupported
from twisted_peercred.kernels import PLATFORMS, Kernel, thisKernel


class ThisKernelTests(SynchronousTestCase):
    """
    Tests for L{thisKernel}.
    """

    def on(self, platform: str) -> Kernel:
        """
        The kernel of a platform.
        """
        self.patch(sys, "platform", platform)
        return thisKernel.__wrapped__()

    def test_platforms(self) -> None:
        """
        L{sys.platform} decides, whatever release is in it.
        """
        self.patch(ctypes, "CDLL", Mock())
        known = {
            "linux": "Linux",
            "android": "Linux",
            "freebsd": "FreeBSD",
            "freebsd15": "FreeBSD",
            "netbsd11": "NetBSD",
            "openbsd7": "OpenBSD",
            "dragonfly6": "DragonFly",
            "darwin": "Darwin",
            "ios": "Darwin",
            "sunos5": "Illumos",
            "aix": "AIX",
            "aix7": "AIX",
            "cygwin": "Posix",
            "qnx7": "Posix",
        }
        for platform, name in known.items():
            kernel = self.on(platform)
            self.assertEqual(type(kernel).__name__, name)
            for method in vars(Kernel):
                if not method.startswith("_"):
                    self.assertTrue(callable(getattr(kernel, method)), method)
        self.assertEqual({each[2] for each in PLATFORMS}, set(known.values()))

    def test_unknown(self) -> None:
        """
        A platform that nobody taught us, and whose libc does not tell either,
        is named, not guessed at.
        """
        self.patch(ctypes, "CDLL", lambda *arguments, **options: object())
        with self.assertRaises(CredentialsUnsupported) as raised:
            self.on("plan9")
        self.assertIn("plan9", str(raised.exception))
