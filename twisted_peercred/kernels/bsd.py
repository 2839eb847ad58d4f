"""
Two structures that several kernels have from FreeBSD.

====================  =====  ============================================
name                  value  header
====================  =====  ============================================
C{SOL_LOCAL}          0      C{sys/un.h}
C{LOCAL_PEERCRED}     1      C{sys/un.h}
C{XUCRED_VERSION}     0      C{sys/ucred.h}
C{XU_NGROUPS}         16     C{sys/ucred.h} (C{NGROUPS} on some)
C{CMGROUP_MAX}        16     C{sys/socket.h}
C{SCM_CREDS}          3      C{sys/socket.h}
====================  =====  ============================================

C{struct xucred} (connect-time): version (u32 at byte 0), effective uid (4),
number of groups (i16, 8), 16 groups (12), of which the first is the effective
gid; what follows at byte 76 differs.  C{struct cmsgcred} (message-time, 84
bytes): pid (i32, 0), real uid (4), effective uid (8), real gid (12), number of
groups (i16, 16), 16 groups (20), the first the effective gid.  Neither says
whether there were more groups than it has room for.
"""

from __future__ import annotations

import socket

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnavailable
from .base import ANSWER_ROOM
from .decoding import identity, unpack

SOL_LOCAL = 0
LOCAL_PEERCRED = 1
XUCRED_VERSION = 0
SCM_CREDS = 3
GROUPS = 16
CMSGCRED_SIZE = 84


def decodeXucred(data: bytes, tail: str = "", byteOrder: str = "=") -> PeerCredentials:
    """
    C{struct xucred}.

    @param tail: layout of what follows the groups; a number in it is the pid.
    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    version, uid, count, *rest = unpack(
        "xucred", f"IIh2x{GROUPS}I{tail}", data, byteOrder
    )
    if version != XUCRED_VERSION:
        raise CredentialsUnavailable(f"struct xucred has version {version}, not 0")
    groups, pid = rest[:GROUPS], rest[GROUPS:]
    return _withGroups("xucred", uid, count, groups, pid=pid[0] if pid else 0)


def decodeCmsgcred(
    data: bytes, capture: Capture, byteOrder: str = "="
) -> PeerCredentials:
    """
    C{struct cmsgcred}.

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    pid, realUID, uid, realGID, count, *groups = unpack(
        "cmsgcred", f"iIIIh2x{GROUPS}I", data, byteOrder
    )
    return _withGroups(
        "cmsgcred",
        uid,
        count,
        groups,
        pid=pid,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )


def _withGroups(
    name: str,
    uid: int,
    count: int,
    groups: list[int],
    *,
    pid: int,
    capture: Capture = Capture.CONNECT,
    realUID: int | None = None,
    realGID: int | None = None,
) -> PeerCredentials:
    if not 1 <= count <= GROUPS:
        raise CredentialsUnavailable(
            f"struct {name} has {count} groups, not 1 to {GROUPS}"
        )
    return identity(
        uid,
        groups[0],
        # As many as there is room for may be as many as there was room for.
        groups[:count] if count < GROUPS else None,
        pid=pid,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )


def askXucred(sock: socket.socket) -> bytes:
    """
    The answer of C{LOCAL_PEERCRED}, unix(4).

    @raise CredentialsUnavailable: there is none.
    """
    try:
        return sock.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, ANSWER_ROOM)
    except OSError as error:
        raise CredentialsUnavailable(f"LOCAL_PEERCRED: {error}") from error
