"""
C{python -m tests.sandbox ALLOWED DESCRIPTOR PROGRAM...}: run a program as a
service manager does that has a filter of system calls for it (seccomp(2)), and a
listening socket.  Linux on x86_64.
"""

import ctypes
import errno
import os
import re
import struct
import sys
from pathlib import Path

HEADERS = (
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm/unistd_64.h"),
)
#: linux/audit.h, linux/prctl.h, linux/seccomp.h, linux/bpf_common.h.
AUDIT_ARCH_X86_64 = 0xC000003E
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 22, 38, 65
SECCOMP_MODE_FILTER = 2
KILL, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def numbers() -> dict[str, int]:
    """
    System calls by name; none where there is no header.
    """
    for header in HEADERS:
        if header.exists():
            found = re.findall(r"^#define __NR_(\w+) (\d+)", header.read_text(), re.M)
            return {name: int(number) for name, number in found}
    return {}


def program(allowed: set[str]) -> bytes:
    """
    The filter: what is not allowed fails with C{EPERM}.
    """
    code = [
        # struct seccomp_data: the number, then the architecture.
        (LOAD, 0, 0, 4),
        (JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH_X86_64),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
    ]
    for name, number in numbers().items():
        if name in allowed:
            code += [(JUMP_IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, ERRNO | errno.EPERM))
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def confine(allowed: set[str]) -> None:
    """
    From now on nothing else is allowed to this process, nor memory that is
    writable and executable, nor more privileges.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    code = program(allowed)
    buffer = ctypes.create_string_buffer(code)
    packed = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    # Before Linux 6.3 there is no such thing.
    libc.prctl(PR_SET_MDWE, 1, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, packed
    ):
        raise OSError(ctypes.get_errno(), "the filter cannot be set")


if __name__ == "__main__":
    allowed, descriptor, *command = sys.argv[1:]
    # sd_listen_fds(3).
    os.dup2(int(descriptor), 3)
    os.environ |= {
        "LISTEN_FDS": "1",
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDNAMES": "echo",
    }
    confine(set(allowed.split(",")))
    os.execv(command[0], command)
