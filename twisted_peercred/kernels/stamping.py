"""
Linux, with a handle on its writer beside each message: C{SO_PASSPIDFD} and
C{SCM_PIDFD}, from 6.5, C{net/core/scm.c}.

It costs each read a descriptor that has to be closed again, so it is there for
those who ask.
"""

from __future__ import annotations

import errno
import os
import socket

from ..credentials import Capture
from ..errors import PeerProcessUnsupported
from . import Kernel, closeAll
from .linux import DESCRIPTORS_ROOM, Linux, known
from .pidfd import passOption


class StampingLinux(Linux):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>} whose messages have a
    C{process}.
    """

    # Descriptors come between the credentials and the handle, and would take
    # its room.
    room = DESCRIPTORS_ROOM

    def setStamping(self, sock: socket.socket, wanted: bool) -> None:
        """
        Have the kernel give handles with what is read from C{sock}, or no
        more.

        @raise OSError: it cannot.
        """
        option = known(passOption(os.uname().machine))
        sock.setsockopt(socket.SOL_SOCKET, option, wanted)

    def askForMessages(self, sock: socket.socket) -> None:
        super().askForMessages(sock)
        self.setStamping(sock, True)

    def checkCapture(self, capture: Capture) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                self.setStamping(sock, True)
            except OSError as problem:
                raise PeerProcessUnsupported(
                    f"SO_PASSPIDFD: {problem.strerror}; Linux has it from 6.5: leave"
                    " processHandles out here"
                ) from problem
        super().checkCapture(capture)

    def _process(self, data: bytes, processes: list[int]) -> int | None:
        if not data or len(processes) != 1:
            closeAll(processes)
            # There was no room: descriptors took it, and all there are.
            return -errno.EMFILE if data else None
        return processes[0]


def stamping(kernel: Kernel) -> StampingLinux:
    """
    A kernel that gives a handle with each message.

    @param kernel: the one that would be asked otherwise.
    @raise PeerProcessUnsupported: it cannot.
    """
    if isinstance(kernel, StampingLinux):
        return kernel
    if isinstance(kernel, Linux):
        return StampingLinux()
    raise PeerProcessUnsupported(
        f"{type(kernel).__name__} gives no handle on a message's writer: leave"
        " processHandles out here"
    )
