"""
FreeBSD: unix(4), C{sys/un.h}, C{sys/socket.h}, C{sys/ucred.h}.

===========================  =====  ==================  ===================
name                         value  header              since
===========================  =====  ==================  ===================
C{LOCAL_PEERCRED}            1      C{sys/un.h}         (pid from 13)
C{LOCAL_CREDS}               2      C{sys/un.h}
C{LOCAL_CREDS_PERSISTENT}    3      C{sys/un.h}         13
C{SCM_CREDS}                 3      C{sys/socket.h}
C{SCM_CREDS2}                8      C{sys/socket.h}     13
===========================  =====  ==================  ===================

Connect-time: L{struct xucred <twisted_peercred.kernels.bsd>}.  Message-time,
by the option that was set:

  - C{LOCAL_CREDS_PERSISTENT} stamps each message with a C{SCM_CREDS2}, which
    no sender can make; but not what sendfile(2) writes from 15 on.
  - C{LOCAL_CREDS} stamps the first message alone, with a C{SCM_CREDS} that is
    a C{struct sockcred}.
  - Without an option a sender may attach a C{SCM_CREDS} that is a C{struct
    cmsgcred}; the kernel fills it in.

C{struct sockcred} is as long as C{struct cmsgcred} when it has 16 groups, and
where the one has the uid the other has the pid: whoever reads one for the
other lets a peer be anybody whose uid is its pid.  The option says which it
should be, yet the kernel leaves its stamp out when it is short of memory
(C{unp_addsockcred} in C{uipc_usrreq.c}), and it cannot stamp what was written
before it was asked to: so a C{SCM_CREDS} that could be either is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from tempfile import TemporaryFile
from weakref import WeakKeyDictionary

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnavailable, CredentialsUnsupported
from . import Message, Probe
from .base import BaseKernel, Control
from .bsd import (
    CMSGCRED_SIZE,
    GROUPS,
    SCM_CREDS,
    SOL_LOCAL,
    askXucred,
    decodeCmsgcred,
    decodeXucred,
)
from .decoding import identity, unpackListed
from .trials import messageProbe, peerProbe

LOCAL_CREDS = 2
LOCAL_CREDS_PERSISTENT = 3
SCM_CREDS2 = 8

#: What follows the groups in C{struct xucred}: a union of a pointer and the
#: pid, by the bytes of a pointer.
XUCRED_TAILS = {4: "i", 8: "4xi4x"}


# Decoders: bytes to values.


def decodeSockcred(
    data: bytes, capture: Capture, byteOrder: str = "="
) -> PeerCredentials:
    """
    C{struct sockcred}: uid, euid, gid, egid, the number of groups, and these;
    12.1 has the effective gid among them, 15 has not.

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    realUID, uid, realGID, gid, groups = unpackListed(
        "sockcred", "IIIIi", data, byteOrder
    )
    return identity(
        uid,
        gid,
        groups if len(groups) < GROUPS else None,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )


def decodeSockcred2(
    data: bytes, capture: Capture, byteOrder: str = "="
) -> PeerCredentials:
    """
    C{struct sockcred2}: version, pid, and the fields of C{struct sockcred}.

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    version, pid, realUID, uid, realGID, gid, groups = unpackListed(
        "sockcred2", "IiIIIIi", data, byteOrder
    )
    if version != 0:
        raise CredentialsUnavailable(f"struct sockcred2 has version {version}, not 0")
    return identity(
        uid,
        gid,
        groups if len(groups) < GROUPS else None,
        pid=pid,
        capture=capture,
        realUID=realUID,
        realGID=realGID,
    )


# Socket calls.


class FreeBSD(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.

    @param option: what is to stamp messages: C{LOCAL_CREDS_PERSISTENT}, or
        C{LOCAL_CREDS} where the kernel does not know that; C{LOCAL_CREDS}; or
        L{None} for what senders attach.
    @param pointerSize: bytes of a pointer.
    """

    name = "FreeBSD"

    def __init__(
        self,
        option: int | None = LOCAL_CREDS_PERSISTENT,
        pointerSize: int = struct.calcsize("P"),
    ) -> None:
        self._option = option
        self._tail = XUCRED_TAILS[pointerSize]
        self._unfinished: WeakKeyDictionary[socket.socket, PeerCredentials] = (
            WeakKeyDictionary()
        )

    @property
    def scmCredentials(self) -> int:  # type: ignore[override]
        return SCM_CREDS2 if self._option == LOCAL_CREDS_PERSISTENT else SCM_CREDS

    def lacks(self, capture: Capture) -> str | None:
        if capture is Capture.EVERY_MESSAGE and self._option != LOCAL_CREDS_PERSISTENT:
            return (
                "each message is stamped by LOCAL_CREDS_PERSISTENT alone, which is"
                " there from FreeBSD 13"
            )
        return None

    def tryEveryMessage(self, ours: socket.socket, theirs: socket.socket) -> None:
        # From 15 on unix(4) has a way of its own for it (uipc_sendfile in
        # uipc_usrreq.c), on which nothing is stamped: the bytes of one process
        # would be taken for those of the one that wrote before.
        with TemporaryFile() as file:
            file.write(b"?")
            file.flush()
            os.sendfile(theirs.fileno(), file.fileno(), 0, 1)
        try:
            self.receiveMessage(ours, 2, False, Capture.EVERY_MESSAGE)
        except CredentialsUnavailable as error:
            raise CredentialsUnsupported(
                "what sendfile(2) writes comes without a stamp"
            ) from error

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        return decodeXucred(askXucred(sock), self._tail)

    def askForMessages(self, sock: socket.socket) -> None:
        if self._option == LOCAL_CREDS_PERSISTENT:
            try:
                sock.setsockopt(SOL_LOCAL, LOCAL_CREDS_PERSISTENT, 1)
                return
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
            self._option = LOCAL_CREDS
        if self._option == LOCAL_CREDS:
            sock.setsockopt(SOL_LOCAL, LOCAL_CREDS, 1)
        elif sock.getsockopt(SOL_LOCAL, LOCAL_CREDS):
            raise CredentialsUnsupported(
                "somebody set LOCAL_CREDS on this socket, so that its SCM_CREDS"
                " would be other ones than those that senders attach"
            )

    def decodeMessage(self, data: bytes, capture: Capture) -> PeerCredentials:
        if self._option == LOCAL_CREDS_PERSISTENT:
            return decodeSockcred2(data, capture)
        if self._option is None:
            return decodeCmsgcred(data, capture)
        if len(data) == CMSGCRED_SIZE:
            raise CredentialsUnavailable(
                f"SCM_CREDS of {CMSGCRED_SIZE} bytes may be the sender's own, or of"
                f" one with {GROUPS} groups or more, whom FreeBSD before 13 can"
                " tell by Capture.CONNECT alone"
            )
        return decodeSockcred(data, capture)

    def receiveMessage(
        self,
        sock: socket.socket,
        size: int,
        descriptors: bool,
        capture: Capture | None,
    ) -> Message:
        message = super().receiveMessage(sock, size, descriptors, capture)
        if capture is Capture.EVERY_MESSAGE:
            # The stamp of a message that is longer than a read comes with its
            # first part.
            if message.credentials is not None and len(message.data) == size:
                self._unfinished[sock] = message.credentials
            else:
                self._unfinished.pop(sock, None)
        return message

    def _unstamped(self, sock: socket.socket) -> PeerCredentials:
        writer = self._unfinished.get(sock)
        return super()._unstamped(sock) if writer is None else writer

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[Control]:
        super().credentialsToSend(pid, uid, gid)
        # The kernel writes all of it.
        return [(self.solSocket, SCM_CREDS, bytes(CMSGCRED_SIZE))]

    def probes(self) -> Sequence[Probe]:
        return (
            peerProbe("LOCAL_PEERCRED", self),
            *(
                messageProbe(name, FreeBSD(number), SOL_LOCAL, number)
                for name, number in (
                    ("LOCAL_CREDS", LOCAL_CREDS),
                    ("LOCAL_CREDS_PERSISTENT", LOCAL_CREDS_PERSISTENT),
                )
            ),
            messageProbe("SCM_CREDS attached", FreeBSD(None)),
        )
