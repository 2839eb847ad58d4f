"""
From a kernel's bytes to values: what the decoders of all kernels share.

Byte order is C{"="} (this machine's), C{"<"} or C{">"}, as in L{struct};
layouts are in its language too, padding written out as C{x}, so that they are
the same on every machine.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnavailable

#: uid_t and gid_t of all ones are no ID: "unset" everywhere (setreuid(2)).
NO_ID = 0xFFFFFFFF


def unpack(name: str, layout: str, data: bytes, byteOrder: str) -> tuple[Any, ...]:
    """
    The fields of a structure.

    @param name: what the header calls it.
    @raise CredentialsUnavailable: C{data} is longer or shorter.
    """
    size = struct.calcsize(byteOrder + layout)
    if len(data) != size:
        raise CredentialsUnavailable(
            f"the kernel gave {len(data)} bytes where struct {name} has {size}"
        )
    return struct.unpack(byteOrder + layout, data)


def unpackListed(
    name: str, layout: str, data: bytes, byteOrder: str
) -> tuple[Any, ...]:
    """
    The fields of a structure whose last one, an C{int}, says how many groups
    follow: those fields but it, and a tuple of the groups.

    @raise CredentialsUnavailable: C{data} is not as long as it says.
    """
    size = struct.calcsize(byteOrder + layout)
    if len(data) < size:
        raise CredentialsUnavailable(
            f"the kernel gave {len(data)} bytes where struct {name} has {size} or more"
        )
    *fields, count = struct.unpack_from(byteOrder + layout, data)
    if count < 0 or len(data) != size + 4 * count:
        raise CredentialsUnavailable(
            f"the kernel gave {len(data)} bytes for a struct {name} of {count} groups"
        )
    return (*fields, struct.unpack_from(f"{byteOrder}{count}I", data, size))


def identity(
    uid: int,
    gid: int,
    groups: Iterable[int] | None = None,
    *,
    pid: int = 0,
    capture: Capture = Capture.CONNECT,
    realUID: int | None = None,
    realGID: int | None = None,
) -> PeerCredentials:
    """
    The value for numbers of a kernel's.

    @param groups: all of them, in any order, with C{gid} or without; L{None} if
        there may be more.
    @param pid: C{0} if the kernel has none to tell.
    @raise CredentialsUnavailable: one of them is no number of anybody.
    """
    if NO_ID in (uid, gid, realUID, realGID) or pid < 0:
        raise CredentialsUnavailable(
            f"the kernel knows no peer: it said uid {uid}, gid {gid}, pid {pid}"
        )
    return PeerCredentials(
        uid=uid,
        gid=gid,
        groups=None if groups is None else tuple(sorted({gid, *groups})),
        pid=pid or None,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )
