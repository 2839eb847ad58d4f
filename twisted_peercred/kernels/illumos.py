"""
illumos and Solaris: getpeerucred(3C), ucred_get(3C), C{ucred.h},
C{sys/socket.h}.

====================  ======  ==================
name                  value   header
====================  ======  ==================
C{SOL_SOCKET}         0xffff  C{sys/socket.h}
C{SCM_RIGHTS}         0x1010  C{sys/socket.h}
C{SO_RECVUCRED}       0x0400  C{sys/socket.h}
C{SCM_UCRED}          0x1012  C{sys/socket.h}
====================  ======  ==================

Connect-time and message-time alike are a C{ucred_t}, whose structure is libc's
own affair: read by its functions alone, each of which may answer -1 for a
field that is not there.  C{SO_RECVUCRED} is for datagrams first of all;
whether a stream's messages are stamped is tried when listening starts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from ..credentials import Capture, PeerCredentials
from ..errors import CredentialsUnavailable, CredentialsUnsupported
from . import Probe
from .base import BaseKernel
from .decoding import NO_ID, identity
from .trials import messageProbe, peerProbe

SO_RECVUCRED = 0x0400
SCM_RIGHTS = 0x1010
SCM_UCRED = 0x1012

#: Functions that take a structure, and nothing else.
POINTER_FUNCTIONS = (
    "ucred_geteuid",
    "ucred_getegid",
    "ucred_getruid",
    "ucred_getrgid",
    "ucred_getpid",
    "ucred_free",
)


# Decoder: libc's own structure to a value.


def decodeUcred(libc: Any, ucred: Any, capture: Capture) -> PeerCredentials:
    """
    C{ucred_t}.

    @param libc: the library whose structure it is.
    @param ucred: a pointer to it.
    @raise CredentialsUnavailable: it is nobody.
    """
    from ctypes import POINTER, c_uint32, pointer

    def askID(name: str) -> int:
        return int(getattr(libc, name)(ucred)) & NO_ID

    def askRealID(name: str) -> int | None:
        number = askID(name)
        return None if number == NO_ID else number

    listed = POINTER(c_uint32)()
    count = libc.ucred_getgroups(ucred, pointer(listed))
    groups = None if count < 0 else listed[:count]
    pid = libc.ucred_getpid(ucred)
    return identity(
        askID("ucred_geteuid"),
        askID("ucred_getegid"),
        # One that is absent is one that is missing in the list.
        None if groups is None or NO_ID in groups else groups,
        pid=max(pid, 0),
        capture=capture,
        realUID=askRealID("ucred_getruid"),
        realGID=askRealID("ucred_getrgid"),
    )


# Socket calls.


class Illumos(BaseKernel):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.

    @param libc: the library; this process's own, if L{None}.
    @raise CredentialsUnsupported: it has no such functions.
    """

    name = "SunOS"
    scmRights = SCM_RIGHTS
    scmCredentials = SCM_UCRED

    def __init__(self, libc: Any = None) -> None:
        try:
            import ctypes

            self._libc = ctypes.CDLL(None, use_errno=True) if libc is None else libc
            # A pointer is longer than the int that ctypes takes an argument for
            # unless it is told.
            for name in POINTER_FUNCTIONS:
                getattr(self._libc, name).argtypes = [ctypes.c_void_p]
            self._libc.ucred_getgroups.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            self._libc.ucred_free.restype = None
            self._libc.ucred_size.restype = ctypes.c_size_t
        except (ImportError, OSError, AttributeError) as error:
            raise CredentialsUnsupported(
                f"this C library has no getpeerucred and its like: {error}"
            ) from error

    def lacks(self, capture: Capture) -> str | None:
        if capture is Capture.EVERY_MESSAGE:
            return (
                "nothing says that bytes of two writers are never in one read of a"
                " stream"
            )
        return None

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        import ctypes

        libc = self._libc
        # Where it points to nothing, the function makes a structure.
        ucred = ctypes.c_void_p()
        if libc.getpeerucred(sock.fileno(), ctypes.pointer(ucred)):
            number = ctypes.get_errno()
            error = OSError(number, os.strerror(number))
            raise CredentialsUnavailable(f"getpeerucred: {error}") from error
        try:
            return decodeUcred(libc, ucred, Capture.CONNECT)
        finally:
            libc.ucred_free(ucred)

    def askForMessages(self, sock: socket.socket) -> None:
        sock.setsockopt(self.solSocket, SO_RECVUCRED, 1)

    def decodeMessage(self, data: bytes, capture: Capture) -> PeerCredentials:
        import ctypes

        libc = self._libc
        if len(data) % 4:
            raise CredentialsUnavailable(
                f"SCM_UCRED of {len(data)} bytes ends within a number"
            )
        # The functions may look as far as a whole structure goes.  What was not
        # sent is all ones, which is -1, absent: zeros would be root.
        room = data.ljust(libc.ucred_size(), b"\xff")
        buffer = ctypes.create_string_buffer(room, len(room))
        return decodeUcred(libc, ctypes.addressof(buffer), capture)

    def probes(self) -> Sequence[Probe]:
        return (
            peerProbe("getpeerucred", self),
            messageProbe("SO_RECVUCRED", self, self.solSocket, SO_RECVUCRED),
        )
