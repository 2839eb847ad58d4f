"""
A POSIX system that nobody named, by what its libc says: getpeereid(3), a
function that BSD, AIX, QNX, Cygwin and others have; C{unistd.h}.

Connect-time: the effective uid and gid, and nothing else.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from ..credentials import Capture, PeerCredentials
from ..errors import (
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerCredentialsError,
)
from . import Probe
from .base import BaseKernel
from .decoding import NO_ID, identity
from .trials import peerProbe


class Posix(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.

    @param libc: the library; this process's own, if L{None}.
    @raise CredentialsUnsupported: it has no such function.
    """

    #: Which library ctypes is to load; L{None}: what this process has loaded.
    library: str | None = None

    def __init__(self, libc: Any = None) -> None:
        self.name = self.name or sys.platform
        try:
            import ctypes

            libc = ctypes.CDLL(self.library, use_errno=True) if libc is None else libc
            self._getpeereid = libc.getpeereid
        except (ImportError, OSError, AttributeError, TypeError) as error:
            raise CredentialsUnsupported(
                f"{self.name} is no platform whose credentials twisted_peercred"
                f" knows, and its C library has no getpeereid: {error}"
            ) from error

    def checkCapture(self, capture: Capture) -> None:
        super().checkCapture(capture)
        with socket.socket(socket.AF_UNIX) as unconnected:
            try:
                known = self.connectionCredentials(unconnected)
            except PeerCredentialsError:
                return
        raise CredentialsUnsupported(
            f"getpeereid of {self.name} says {known} for a socket that is not"
            " connected: it answers with this process's own IDs, not a peer's"
        )

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        import ctypes

        # Not zeros: what a function leaves as it was must not be root.
        uid, gid = ctypes.c_uint32(NO_ID), ctypes.c_uint32(NO_ID)
        if self._getpeereid(sock.fileno(), ctypes.pointer(uid), ctypes.pointer(gid)):
            number = ctypes.get_errno()
            error = OSError(number, os.strerror(number))
            raise CredentialsUnavailable(f"getpeereid: {error}") from error
        return identity(uid.value, gid.value)

    def probes(self) -> Sequence[Probe]:
        return (peerProbe("getpeereid", self),)
