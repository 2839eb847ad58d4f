"""
DragonFly BSD: unix(4), C{sys/un.h}, C{sys/socket.h}, C{sys/ucred.h}.

The numbers and structures of L{bsd <twisted_peercred.kernels.bsd>}, but that
C{struct xucred} has no pid: 88 bytes, whose last 12 are padding and an unused
pointer.

Message-time: no option stamps the messages of a stream (C{SO_PASSCRED},
0x4000, is for datagrams: C{uipc_send} in C{uipc_usrreq.c}); a sender has to
attach a C{SCM_CREDS}, a C{struct cmsgcred}, which the kernel fills in.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from ..credentials import Capture, PeerCredentials
from . import Probe
from .base import BaseKernel, Control
from .bsd import CMSGCRED_SIZE, SCM_CREDS, askXucred, decodeCmsgcred, decodeXucred
from .trials import messageProbe, peerProbe

#: What follows the groups in C{struct xucred}.
XUCRED_TAIL = "12x"


class DragonFly(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.
    """

    name = "DragonFly"
    scmCredentials = SCM_CREDS

    def lacks(self, capture: Capture) -> str | None:
        if capture is Capture.EVERY_MESSAGE:
            return (
                "only messages whose sender attaches SCM_CREDS have credentials, and"
                " bytes that follow without are read together with them"
            )
        return None

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        return decodeXucred(askXucred(sock), XUCRED_TAIL)

    def askForMessages(self, sock: socket.socket) -> None:
        """
        Nothing: it is for the sender to ask.
        """

    def decodeMessage(self, data: bytes, capture: Capture) -> PeerCredentials:
        return decodeCmsgcred(data, capture)

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[Control]:
        super().credentialsToSend(pid, uid, gid)
        # The kernel writes all of it.
        return [(self.solSocket, SCM_CREDS, bytes(CMSGCRED_SIZE))]

    def probes(self) -> Sequence[Probe]:
        return (
            peerProbe("LOCAL_PEERCRED", self),
            messageProbe("SCM_CREDS attached", self),
        )
