"""
Tests for L{twisted_peercred.errors}.
"""

import errno

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    CredentialsRejected,
    CredentialsTimeout,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerChanged,
    PeerCredentials,
    PeerCredentialsError,
    PeerRefused,
    PolicyError,
)

ALICE = PeerCredentials(uid=1000, gid=1000)
MALLORY = PeerCredentials(uid=1001, gid=1001)


class ErrorTests(SynchronousTestCase):
    """
    Tests for the errors.
    """

    def test_oneParent(self) -> None:
        """
        One except clause catches them all.
        """
        for each in (
            CredentialsRejected,
            CredentialsTimeout,
            CredentialsTruncated,
            CredentialsUnavailable,
            CredentialsUnsupported,
            PeerChanged,
            PeerRefused,
            PolicyError,
        ):
            self.assertTrue(issubclass(each, PeerCredentialsError))

    def test_refused(self) -> None:
        """
        L{PeerRefused} says who and by what.
        """
        error = PeerRefused(ALICE, "maxUnidentified")
        self.assertIs(error.credentials, ALICE)
        self.assertEqual(error.rule, "maxUnidentified")
        self.assertEqual(str(error), "uid=1000 gid=1000 is refused by maxUnidentified")

    def test_changed(self) -> None:
        """
        L{PeerChanged} says who wrote before and who writes now.
        """
        error = PeerChanged(ALICE, MALLORY)
        self.assertEqual((error.old, error.new), (ALICE, MALLORY))
        self.assertEqual(
            str(error),
            "written by uid=1001 gid=1001 on a connection of uid=1000 gid=1000",
        )

    def test_policy(self) -> None:
        """
        L{PolicyError} says where, as compilers do, and where it can.
        """
        error = PolicyError("no", 3, 7, "/etc/rules")
        self.assertEqual((error.line, error.column), (3, 7))
        self.assertEqual((error.problem, error.source), ("no", "/etc/rules"))
        self.assertEqual(str(error), "/etc/rules:3:7: no")
        self.assertEqual(str(PolicyError("no")), "rules: no")

    def test_rejected(self) -> None:
        """
        L{CredentialsRejected} says what was tried, what the kernel answered
        and what to do.
        """
        error = CredentialsRejected({"uid": 0, "gid": 5}, errno.EINVAL)
        self.assertEqual(error.claim, {"uid": 0, "gid": 5})
        self.assertEqual(error.errno, errno.EINVAL)
        self.assertEqual(
            str(error),
            "not sent as uid=0 gid=5: Invalid argument (no such uid or gid in this"
            " user namespace: see /proc/self/uid_map and gid_map)",
        )
        self.assertTrue(
            str(CredentialsRejected({}, errno.EPERM)).startswith(
                "not sent as this process itself: "
            )
        )
