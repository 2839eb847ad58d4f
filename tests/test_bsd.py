"""
Tests for L{twisted_peercred.kernels.bsd}.
"""

import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Capture, CredentialsUnavailable
from twisted_peercred.kernels.bsd import askXucred, decodeCmsgcred, decodeXucred

from .recorded import RecordedConnection


def xucred(version=0, uid=1002, groups=(2002, 7), count=None, tail=b"", order="="):
    """
    C{struct xucred}.
    """
    groups = [*groups, *[0] * 16][:16]
    count = len([each for each in groups if each]) if count is None else count
    return struct.pack(order + "IIh2x16I", version, uid, count, *groups) + tail


class XucredTests(SynchronousTestCase):
    """
    Tests for L{decodeXucred} and L{askXucred}.
    """

    def test_fields(self) -> None:
        """
        The first group is the gid; the effective IDs are all that it has.
        """
        known = decodeXucred(xucred())
        self.assertEqual((known.uid, known.gid, known.groups), (1002, 2002, (7, 2002)))
        self.assertEqual((known.pid, known.realUID, known.realGID), (None,) * 3)
        self.assertIs(known.capture, Capture.CONNECT)

    def test_unsigned(self) -> None:
        """
        uid and gid are unsigned (THREATS K6).
        """
        for number in (2**31, 2**32 - 2):
            known = decodeXucred(xucred(uid=number, groups=(number,)))
            self.assertEqual((known.uid, known.gid), (number, number))

    def test_manyGroups(self) -> None:
        """
        16 groups are not known to be all (THREATS K12a).
        """
        self.assertEqual(len(decodeXucred(xucred(groups=range(1, 16))).groups), 15)
        known = decodeXucred(xucred(groups=range(1, 17)))
        self.assertIsNone(known.groups)
        self.assertEqual(known.gid, 1)

    def test_tails(self) -> None:
        """
        What follows is there or is not, by kernel and word size; a pid in it is
        read in either byte order.
        """
        for order in "<>":
            for tail, pid in (("", None), ("12x", None), ("i", 9), ("4xi4x", 9)):
                data = struct.pack(order + tail, *[pid] if pid else [])
                data = xucred(tail=data, order=order)
                self.assertEqual(decodeXucred(data, tail, order).pid, pid)
                self.assertRaises(
                    CredentialsUnavailable, decodeXucred, data + b"\0", tail, order
                )

    def test_refused(self) -> None:
        """
        Another version, and a number of groups that cannot be, are refused: no
        group is no gid, and not the zero that stands in its place.
        """
        for wrong in (
            {"version": 1},
            {"count": 0},
            {"count": 17},
            {"count": -1},
            {"uid": 2**32 - 1},
            {"groups": (2**32 - 1,)},
        ):
            self.assertRaises(CredentialsUnavailable, decodeXucred, xucred(**wrong))

    def test_ask(self) -> None:
        """
        The option is asked for at C{SOL_LOCAL}; an error is never an identity.
        """
        answering = RecordedConnection(None, {(0, 1): b"answer"}, [])
        self.assertEqual(askXucred(answering), b"answer")
        failing = RecordedConnection(None, {(0, 1): OSError(57, "ENOTCONN")}, [])
        with self.assertRaises(CredentialsUnavailable) as raised:
            askXucred(failing)
        self.assertIn("ENOTCONN", str(raised.exception))


class CmsgcredTests(SynchronousTestCase):
    """
    Tests for L{decodeCmsgcred}.
    """

    def cmsgcred(self, count=2, order="=", gid=2002) -> bytes:
        """
        C{struct cmsgcred}.
        """
        groups = [gid, 7, *range(100, 114)]
        return struct.pack(order + "iIIIh2x16I", 9, 1001, 1002, 2001, count, *groups)

    def test_fields(self) -> None:
        """
        Effective and real IDs, and the first group the gid, in either byte
        order.
        """
        for order in "<>":
            known = decodeCmsgcred(
                self.cmsgcred(order=order), Capture.FIRST_MESSAGE, order
            )
            self.assertEqual((known.uid, known.gid), (1002, 2002))
            self.assertEqual((known.realUID, known.realGID), (1001, 2001))
            self.assertEqual((known.pid, known.groups), (9, (7, 2002)))
            self.assertIs(known.capture, Capture.FIRST_MESSAGE)

    def test_manyGroups(self) -> None:
        """
        16 groups are not known to be all (THREATS K12a).
        """
        known = decodeCmsgcred(self.cmsgcred(16), Capture.FIRST_MESSAGE)
        self.assertIsNone(known.groups)
        self.assertEqual(known.gid, 2002)

    def test_refused(self) -> None:
        """
        A number of groups that cannot be, and another length, are refused.
        """
        for wrong in (
            self.cmsgcred(0),
            self.cmsgcred(17),
            self.cmsgcred(-1),
            self.cmsgcred(gid=2**32 - 1),
            self.cmsgcred()[:-1],
            self.cmsgcred() + b"\0",
        ):
            self.assertRaises(
                CredentialsUnavailable, decodeCmsgcred, wrong, Capture.FIRST_MESSAGE
            )
