"""
Tests for L{twisted_peercred.credentials} and the interfaces it provides.
"""

import dataclasses
import json

from twisted.cred.credentials import ICredentials
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from twisted_peercred import Capture, IPeerCredentials, IPeerIdentity, PeerCredentials

FULL = PeerCredentials(
    uid=1000,
    gid=100,
    groups=(27, 100),
    securityLabel=b"evil\n;uid=0 \xff",
    pid=42,
    capture=Capture.EVERY_MESSAGE,
    realUID=1001,
    realGID=101,
)


class PeerCredentialsTests(SynchronousTestCase):
    """
    Tests for L{PeerCredentials}.
    """

    def test_interfaces(self) -> None:
        """
        It is an identity, peer credentials, and a credential of L{twisted.cred}.
        """
        for interface in (IPeerIdentity, IPeerCredentials, ICredentials):
            verifyObject(interface, FULL)

    def test_equalByValue(self) -> None:
        """
        Two with the same fields are one key; any other field makes another.
        """
        again = dataclasses.replace(FULL)
        self.assertIsNot(again, FULL)
        self.assertEqual(again, FULL)
        self.assertEqual(hash(again), hash(FULL))
        for field in dataclasses.fields(FULL):
            other = dataclasses.replace(FULL, **{field.name: None})
            self.assertNotEqual(other, FULL, field.name)

    def test_frozen(self) -> None:
        """
        No field can be assigned, and none be added.
        """
        with self.assertRaises(dataclasses.FrozenInstanceError):
            FULL.uid = 0
        self.assertFalse(hasattr(FULL, "__dict__"))

    def test_string(self) -> None:
        """
        C{str()} is one line in the manner of id(1), of numbers alone, whatever
        a label holds.
        """
        self.assertEqual(
            str(FULL),
            "uid=1000 gid=100 ruid=1001 rgid=101 groups=27,100 pid=42"
            " context=evil\\n;uid=0 \\xff",
        )

    def test_stringOfWhatIsKnown(self) -> None:
        """
        What is not known is left out, and unlike what is empty.
        """
        self.assertEqual(str(PeerCredentials(uid=0, gid=0)), "uid=0 gid=0")

    def test_asDict(self) -> None:
        """
        C{asDict} is plain types that survive JSON.
        """
        fields = FULL.asDict()
        self.assertEqual(json.loads(json.dumps(fields)), fields)
        self.assertEqual(
            fields,
            {
                "uid": 1000,
                "gid": 100,
                "groups": [27, 100],
                "securityLabel": "evil\n;uid=0 \\xff",
                "pid": 42,
                "capture": "every-message",
                "realUID": 1001,
                "realGID": 101,
            },
        )

    def test_asDictOfWhatIsNotKnown(self) -> None:
        """
        What is not known is null.
        """
        fields = PeerCredentials(uid=1, gid=2).asDict()
        self.assertIsNone(fields["groups"])
        self.assertIsNone(fields["securityLabel"])
        self.assertEqual(fields["capture"], "connect")
