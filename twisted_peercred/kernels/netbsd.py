"""
NetBSD: unix(4), C{sys/un.h}, C{sys/socket.h}.

===================  =====  ==================  =========================
name                 value  header              since
===================  =====  ==================  =========================
C{SOL_LOCAL}         0      C{sys/un.h}
C{LOCAL_PEEREID}     3      C{sys/un.h}         5.0
C{LOCAL_CREDS}       4      C{sys/un.h}         8 (was 1, without a pid)
C{SCM_CREDS}         0x10   C{sys/socket.h}     8 (was 4)
===================  =====  ==================  =========================

Connect-time: C{struct unpcbid}, pid, euid, egid; no groups; nothing for a
socketpair(2).  Message-time: C{LOCAL_CREDS} stamps the first message that is
sent after it was set, then it is off again; a sender cannot attach credentials
of its own (C{unp_internalize} refuses all but descriptors).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnavailable
from . import Probe
from .base import ANSWER_ROOM, BaseKernel
from .decoding import identity, unpack, unpackListed
from .trials import messageProbe, peerProbe

SOL_LOCAL = 0
LOCAL_PEEREID = 3
LOCAL_CREDS = 4
SCM_CREDS = 0x10

SOCKCRED_LAYOUT = "iIIIIi"
#: Without groups, in a structure that was declared with room for one.
SOCKCRED_SIZE, SOCKCRED_DECLARED_SIZE = 24, 28


# Decoders: bytes to values.


def decodeUnpcbid(data: bytes, byteOrder: str = "=") -> PeerCredentials:
    """
    C{struct unpcbid}: pid, euid, egid.

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    pid, uid, gid = unpack("unpcbid", "iII", data, byteOrder)
    return identity(uid, gid, pid=pid)


def decodeSockcred(
    data: bytes, capture: Capture, byteOrder: str = "="
) -> PeerCredentials:
    """
    C{struct sockcred}: pid, uid, euid, gid, egid, the number of supplementary
    groups, and these: all of them, for 16 are all that a process may have
    (C{NGROUPS_MAX}).

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    if len(data) == SOCKCRED_DECLARED_SIZE:
        # The last four bytes are a group if the count says so, and what was
        # left in the kernel's memory if it says there is none.
        count = unpack("sockcred", SOCKCRED_LAYOUT + "4x", data, byteOrder)[-1]
        data = data[:SOCKCRED_SIZE] if count == 0 else data
    pid, realUID, uid, realGID, gid, groups = unpackListed(
        "sockcred", SOCKCRED_LAYOUT, data, byteOrder
    )
    return identity(
        uid,
        gid,
        groups,
        pid=pid,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )


# Socket calls.


class NetBSD(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.
    """

    name = "NetBSD"
    scmCredentials = SCM_CREDS

    def lacks(self, capture: Capture) -> str | None:
        if capture is Capture.EVERY_MESSAGE:
            return (
                "LOCAL_CREDS stamps one message, and others may come without a"
                " stamp before it can be set again"
            )
        return None

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        try:
            answer = sock.getsockopt(SOL_LOCAL, LOCAL_PEEREID, ANSWER_ROOM)
        except OSError as error:
            raise CredentialsUnavailable(f"LOCAL_PEEREID: {error}") from error
        return decodeUnpcbid(answer)

    def askForMessages(self, sock: socket.socket) -> None:
        sock.setsockopt(SOL_LOCAL, LOCAL_CREDS, 1)

    def decodeMessage(self, data: bytes, capture: Capture) -> PeerCredentials:
        return decodeSockcred(data, capture)

    def probes(self) -> Sequence[Probe]:
        return (
            peerProbe("LOCAL_PEEREID", self),
            messageProbe("LOCAL_CREDS", self, SOL_LOCAL, LOCAL_CREDS),
        )
