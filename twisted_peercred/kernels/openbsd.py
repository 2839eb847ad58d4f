"""
OpenBSD: unix(4), getsockopt(2), C{sys/socket.h}.

====================  ======  ==================
name                  value   header
====================  ======  ==================
C{SOL_SOCKET}         0xffff  C{sys/socket.h}
C{SO_PEERCRED}        0x1022  C{sys/socket.h}
====================  ======  ==================

Connect-time: C{struct sockpeercred} is uid, gid, pid, in another order than
Linux's, of the moment of connect(2); a client sees that of the server's
bind(2).  There are no groups, and nothing at message-time.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..credentials import PeerCredentials
from ..errors import CredentialsUnavailable
from . import Probe
from .base import ANSWER_ROOM, BaseKernel
from .decoding import identity, unpack
from .trials import peerProbe

SO_PEERCRED = 0x1022


# Decoder: bytes to a value.


def decodeSockpeercred(data: bytes, byteOrder: str = "=") -> PeerCredentials:
    """
    C{struct sockpeercred}: effective uid and gid, pid.

    @raise CredentialsUnavailable: it is another structure, or nobody.
    """
    uid, gid, pid = unpack("sockpeercred", "IIi", data, byteOrder)
    return identity(uid, gid, pid=pid)


# Socket calls.


class OpenBSD(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.
    """

    name = "OpenBSD"

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        try:
            answer = sock.getsockopt(self.solSocket, SO_PEERCRED, ANSWER_ROOM)
        except OSError as error:
            raise CredentialsUnavailable(f"SO_PEERCRED: {error}") from error
        return decodeSockpeercred(answer)

    def probes(self) -> Sequence[Probe]:
        return (peerProbe("SO_PEERCRED", self),)
