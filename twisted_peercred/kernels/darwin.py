"""
macOS and its brothers: unix(4), C{sys/un.h}, C{sys/ucred.h}.

====================  =====  ============================================
name                  value  header
====================  =====  ============================================
C{SOL_LOCAL}          0      C{sys/un.h}
C{LOCAL_PEERCRED}     1      C{sys/un.h}
C{LOCAL_PEERPID}      2      C{sys/un.h}
====================  =====  ============================================

Connect-time: L{struct xucred <twisted_peercred.kernels.bsd>}, 76 bytes,
without a pid.  C{LOCAL_PEERPID} gives that of the process that used the
socket last, which need not be the one that connected, and nothing once the
peer has closed.  There is nothing of use at message-time.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

from ..credentials import PeerCredentials
from . import Probe
from .base import BaseKernel
from .bsd import SOL_LOCAL, askXucred, decodeXucred

LOCAL_PEERPID = 2


class Darwin(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.
    """

    name = "Darwin"

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        known = decodeXucred(askXucred(sock))
        try:
            return replace(known, pid=self._pid(sock))
        except OSError:
            # The peer has closed (ENOTCONN); the IDs are kept.
            return known

    def _pid(self, sock: socket.socket) -> int | None:
        pid = sock.getsockopt(SOL_LOCAL, LOCAL_PEERPID)
        return pid if pid > 0 else None

    def probes(self) -> Sequence[Probe]:
        return (
            Probe(
                "LOCAL_PEERCRED",
                lambda ours, theirs: str(decodeXucred(askXucred(ours))),
            ),
            Probe("LOCAL_PEERPID", lambda ours, _: f"pid={self._pid(ours)}"),
        )
