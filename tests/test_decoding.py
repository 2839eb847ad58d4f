"""
Tests for L{twisted_peercred.kernels.decoding}.
"""

import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Capture, CredentialsUnavailable
from twisted_peercred.kernels.decoding import NO_ID, identity, unpack, unpackListed


class UnpackTests(SynchronousTestCase):
    """
    Tests for L{unpack} and L{unpackListed}.
    """

    def test_length(self) -> None:
        """
        A structure is as long as it says, to the byte.
        """
        self.assertEqual(unpack("pair", "II", bytes(8), "="), (0, 0))
        for size in (0, 7, 9):
            with self.assertRaises(CredentialsUnavailable) as raised:
                unpack("pair", "II", bytes(size), "=")
            self.assertIn("struct pair", str(raised.exception))

    def test_listed(self) -> None:
        """
        The number of groups and the groups agree.
        """
        data = struct.pack(">Ii2I", 7, 2, 8, 9)
        self.assertEqual(unpackListed("list", "Ii", data, ">"), (7, (8, 9)))
        self.assertEqual(unpackListed("list", "Ii", bytes(8), ">"), (0, ()))
        for wrong in (data[:-1], data + b"\0", data[:8], data[:7], b""):
            self.assertRaises(
                CredentialsUnavailable, unpackListed, "list", "Ii", wrong, ">"
            )

    def test_absurdCount(self) -> None:
        """
        A number of groups that no memory holds, or less than none, is refused.
        """
        for count in (-1, -(2**31), 2**31 - 1):
            data = struct.pack("=Ii", 7, count)
            self.assertRaises(
                CredentialsUnavailable, unpackListed, "list", "Ii", data, "="
            )


class IdentityTests(SynchronousTestCase):
    """
    Tests for L{identity}.
    """

    def test_all(self) -> None:
        """
        Groups are sorted, once each, the gid among them; pid 0 is not known.
        """
        known = identity(1, 5, [9, 3, 9], capture=Capture.FIRST_MESSAGE, realUID=0)
        self.assertEqual(known.groups, (3, 5, 9))
        self.assertIsNone(known.pid)
        self.assertEqual((known.uid, known.gid, known.realUID), (1, 5, 0))
        self.assertIsNone(known.realGID)
        self.assertIs(known.capture, Capture.FIRST_MESSAGE)
        self.assertIsNone(identity(1, 5).groups)
        self.assertEqual(identity(1, 5, []).groups, (5,))

    def test_nobody(self) -> None:
        """
        An ID of all ones, and a pid below 0, are nobody's.
        """
        for wrong in (
            {"uid": NO_ID},
            {"gid": NO_ID},
            {"realUID": NO_ID},
            {"realGID": NO_ID},
            {"pid": -1},
        ):
            self.assertRaises(
                CredentialsUnavailable, identity, **{"uid": 1, "gid": 1, **wrong}
            )
