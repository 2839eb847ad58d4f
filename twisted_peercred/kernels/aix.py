"""
AIX: getpeereid(3) of its libc, C{sys/socket.h}.

The kernel's own C{SO_PEERID} (0x1009) has a structure that differs by word
size; the function is there for that.
"""

from __future__ import annotations

import sys

from .posix import Posix


class AIX(Posix):
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.
    """

    name = "AIX"
    # A shared object within an archive, as everywhere on AIX.
    library = "libc.a(shr_64.o)" if sys.maxsize > 2**32 else "libc.a(shr.o)"
