"""
What the structures of each kernel say, by the offsets in their headers: to
hold the decoders against.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from twisted_peercred import Capture, PeerCredentials
from twisted_peercred.kernels import bsd, freebsd, netbsd, openbsd
from twisted_peercred.kernels.dragonfly import XUCRED_TAIL

NO_ID = 0xFFFFFFFF
ORDERS = {"<": "little", ">": "big"}


class Field:
    """
    Reads numbers where the header says they are; nothing of L{struct}, which
    the decoders are made of.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data = data
        self._order = ORDERS[order]

    def unsigned(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4], self._order)

    def signed(self, at: int, size: int = 4) -> int:
        return int.from_bytes(self._data[at : at + size], self._order, signed=True)

    def groups(self, at: int, count: int) -> list[int]:
        return [self.unsigned(at + 4 * each) for each in range(count)]


def saying(uid, gid, groups, pid=0, capture=Capture.CONNECT, ruid=None, rgid=None):
    """
    The value for such numbers, or L{None} if they are nobody.
    """
    if NO_ID in (uid, gid, ruid, rgid) or pid < 0:
        return None
    return PeerCredentials(
        uid=uid,
        gid=gid,
        groups=groups and tuple(sorted({gid, *groups})),
        pid=pid or None,
        capture=capture,
        realUID=ruid,
        realGID=rgid,
    )


def readXucred(data, order, size, pidAt):
    field = Field(data, order)
    count = field.signed(8, 2)
    if len(data) != size or field.unsigned(0) != 0 or not 1 <= count <= 16:
        return None
    return saying(
        field.unsigned(4),
        field.unsigned(12),
        field.groups(12, count) if count < 16 else None,
        field.signed(pidAt) if pidAt else 0,
    )


def readCmsgcred(data, order):
    field = Field(data, order)
    count = field.signed(16, 2)
    if len(data) != 84 or not 1 <= count <= 16:
        return None
    return saying(
        field.unsigned(8),
        field.unsigned(20),
        field.groups(20, count) if count < 16 else None,
        field.signed(0),
        Capture.FIRST_MESSAGE,
        field.unsigned(4),
        field.unsigned(12),
    )


def readSockcred(data, order, idsAt, pidAt, head, limit, versionAt=None, loose=False):
    field = Field(data, order)
    count = field.signed(head - 4) if len(data) >= head else -1
    size = head + 4 * count
    if count < 0 or (len(data) != size and not (loose and count == 0)):
        return None
    if loose and count == 0 and len(data) not in (head, head + 4):
        return None
    if versionAt is not None and field.unsigned(versionAt) != 0:
        return None
    gid = field.unsigned(idsAt + 12)
    groups = [gid, *field.groups(head, count)]
    return saying(
        field.unsigned(idsAt + 4),
        gid,
        groups if count < limit else None,
        field.signed(pidAt) if pidAt is not None else 0,
        Capture.FIRST_MESSAGE,
        field.unsigned(idsAt),
        field.unsigned(idsAt + 8),
    )


def readThree(data, order, pidAt, uidAt, gidAt):
    field = Field(data, order)
    if len(data) != 12:
        return None
    return saying(
        field.unsigned(uidAt), field.unsigned(gidAt), None, field.signed(pidAt)
    )


class Structure(NamedTuple):
    """
    A structure of some kernel's.

    @ivar decode: the package's decoder of it, of bytes and byte order.
    @ivar read: what its bytes say, by the offsets in the header; L{None} for
        nobody.
    @ivar example: bytes of it, little-endian.
    """

    decode: Callable[[bytes, str], PeerCredentials]
    read: Callable[[bytes, str], PeerCredentials | None]
    example: bytes


def xucred(tail: str, *pid: int) -> bytes:
    """
    C{struct xucred} of uid 1002 with groups 2002 to 2004.
    """
    return struct.pack(
        f"<IIh2x16I{tail}", 0, 1002, 3, 2002, 2003, 2004, *[0] * 13, *pid
    )


FIRST = Capture.FIRST_MESSAGE

STRUCTURES = {
    "FreeBSD xucred": Structure(
        lambda data, order: bsd.decodeXucred(data, freebsd.XUCRED_TAILS[8], order),
        lambda data, order: readXucred(data, order, 88, 80),
        xucred("4xi4x", 8),
    ),
    "FreeBSD xucred, 32-bit": Structure(
        lambda data, order: bsd.decodeXucred(data, freebsd.XUCRED_TAILS[4], order),
        lambda data, order: readXucred(data, order, 80, 76),
        xucred("i", 8),
    ),
    "DragonFly xucred": Structure(
        lambda data, order: bsd.decodeXucred(data, XUCRED_TAIL, order),
        lambda data, order: readXucred(data, order, 88, None),
        xucred("12x"),
    ),
    "Darwin xucred": Structure(
        lambda data, order: bsd.decodeXucred(data, "", order),
        lambda data, order: readXucred(data, order, 76, None),
        xucred(""),
    ),
    "cmsgcred": Structure(
        lambda data, order: bsd.decodeCmsgcred(data, FIRST, order),
        readCmsgcred,
        struct.pack("<iIIIh2x16I", 8, 1001, 1002, 2001, 3, 2002, 2003, 2004, *[0] * 13),
    ),
    "FreeBSD sockcred": Structure(
        lambda data, order: freebsd.decodeSockcred(data, FIRST, order),
        lambda data, order: readSockcred(data, order, 0, None, 20, 16),
        struct.pack("<4Ii2I", 1001, 1002, 2001, 2002, 2, 2003, 2004),
    ),
    "sockcred2": Structure(
        lambda data, order: freebsd.decodeSockcred2(data, FIRST, order),
        lambda data, order: readSockcred(data, order, 8, 4, 28, 16, versionAt=0),
        struct.pack("<Ii4Ii2I", 0, 8, 1001, 1002, 2001, 2002, 2, 2003, 2004),
    ),
    "NetBSD sockcred": Structure(
        lambda data, order: netbsd.decodeSockcred(data, FIRST, order),
        lambda data, order: readSockcred(data, order, 4, 0, 24, 2**31, loose=True),
        struct.pack("<i4Ii2I", 8, 1001, 1002, 2001, 2002, 2, 2003, 2004),
    ),
    "unpcbid": Structure(
        netbsd.decodeUnpcbid,
        lambda data, order: readThree(data, order, 0, 4, 8),
        struct.pack("<iII", 8, 1002, 2002),
    ),
    "sockpeercred": Structure(
        openbsd.decodeSockpeercred,
        lambda data, order: readThree(data, order, 8, 0, 4),
        struct.pack("<IIi", 1002, 2002, 8),
    ),
}

#: What the vectors call the structures.
NAMES = {
    "xucred": "FreeBSD xucred",
    "unpcbid": "unpcbid",
    "cmsgcred": "cmsgcred",
    "freebsd sockcred": "FreeBSD sockcred",
    "sockcred2": "sockcred2",
    "netbsd sockcred": "NetBSD sockcred",
}
