"""
Tests for the package as a whole.
"""

import ast
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import twisted_peercred

from .support import environment

PUBLIC = {
    "SYNC_WORD",
    "Capture",
    "CredentialedUNIXClientFactory",
    "CredentialedUNIXServerFactory",
    "CredentialsRejected",
    "CredentialsTimeout",
    "CredentialsTruncated",
    "CredentialsUnavailable",
    "CredentialsUnsupported",
    "IPeerCredentials",
    "IPeerCredentialsReceiver",
    "IPeerIdentity",
    "IPeerPolicy",
    "PeerChanged",
    "PeerCredentials",
    "PeerCredentialsError",
    "PeerProcessError",
    "PeerProcessGone",
    "PeerProcessUnavailable",
    "PeerProcessUnsupported",
    "PeerRefused",
    "Policy",
    "PolicyError",
    "sendCredentials",
}


class PackageTests(SynchronousTestCase):
    """
    Tests for L{twisted_peercred}.
    """

    def test_publicNames(self) -> None:
        """
        The public names are a promise.
        """
        self.assertEqual(set(twisted_peercred.__all__), PUBLIC)
        for name in PUBLIC:
            self.assertTrue(hasattr(twisted_peercred, name), name)

    def test_import(self) -> None:
        """
        Importing it imports neither a reactor nor the endpoints.
        """
        code = (
            "import sys, twisted_peercred\n"
            "print([each for each in sys.modules if each.endswith('reactor')"
            " or each == 'twisted.internet.endpoints'])"
        )
        done = subprocess.run(
            [sys.executable, "-Wall", "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
        )
        self.assertEqual(done.stdout, "[]\n", done.stderr)

    def test_plugins(self) -> None:
        """
        Neither does the plugin file, which has instances and nothing else:
        twistd shows a traceback where it cannot be imported.
        """
        code = (
            "import sys, twisted.plugins.twisted_peercred_plugin as plugins\n"
            "print([each for each in sys.modules if each.endswith('reactor')"
            " or each in ('twisted.internet.endpoints', 'twisted.conch', 'OpenSSL')])\n"
            "print(sorted(each for each in vars(plugins) if each.startswith('peer')))"
        )
        done = subprocess.run(
            [sys.executable, "-Wall", "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
        )
        names = ["Checker", "Client", "Echo", "Manhole", "Server"]
        self.assertEqual(
            done.stdout,
            f"[]\n{[f'peercred{each}' for each in names]}\n",
            done.stderr,
        )

    def test_kernelsAreFreeOfTwisted(self) -> None:
        """
        No module of the kernels imports anything of Twisted's.
        """
        kernels = Path(twisted_peercred.__file__).parent / "kernels"
        for each in kernels.glob("*.py"):
            for node in ast.walk(ast.parse(each.read_text())):
                names = [alias.name for alias in getattr(node, "names", [])]
                module = getattr(node, "module", None) or ""
                for name in [module, *names]:
                    self.assertNotEqual(name.split(".")[0], "twisted", each)
