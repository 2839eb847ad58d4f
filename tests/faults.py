"""
What makes one call of many fail.
"""

import errno
import os

#: getsockopt(2), setsockopt(2), recvmsg(2) and recv(2), and what a seccomp
#: filter may answer.
ERRORS = (
    *(errno.EACCES, errno.EAGAIN, errno.EBADF, errno.ECONNREFUSED, errno.ECONNRESET),
    *(errno.EDOM, errno.EFAULT, errno.EINTR, errno.EINVAL, errno.EIO, errno.EISCONN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENODATA, errno.ENOMEM),
    *(errno.ENOPROTOOPT, errno.ENOSYS, errno.ENOTCONN, errno.ENOTSOCK, errno.EPERM),
    *(errno.EOPNOTSUPP, errno.EPIPE, errno.ERANGE, errno.ESRCH, errno.ETIMEDOUT),
)

#: accept(2): its own, and those that it passes on from a network.
ACCEPT_ERRORS = (
    *(errno.EAGAIN, errno.EBADF, errno.ECONNABORTED, errno.EFAULT, errno.EHOSTDOWN),
    *(errno.EHOSTUNREACH, errno.EINTR, errno.EINVAL, errno.EMFILE, errno.ENETDOWN),
    *(errno.ENETUNREACH, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENONET),
    *(errno.ENOPROTOOPT, errno.ENOSR, errno.ENOTSOCK, errno.EOPNOTSUPP, errno.EPERM),
    *(errno.EPROTO, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.ETIMEDOUT),
)
#: poll(2), fstat(2), waitid(2), epoll_ctl(2), ioctl(2), pidfd_send_signal(2) and
#: open(2) of proc(5), beside L{ERRORS}.
PROCESS_ERRORS = (
    *ERRORS,
    *(errno.ECHILD, errno.EEXIST, errno.ELOOP, errno.ENODEV, errno.ENOENT),
    *(errno.ENOSPC, errno.ENOTTY, errno.EOVERFLOW),
)


class Fault:
    """
    One error at one of the calls that are counted.

    @ivar call: the name of the call that failed, once it has.
    @ivar option: the socket option that it was about.
    """

    def __init__(self, count: int, number: int) -> None:
        self.count = count
        self.number = number
        self.call = None
        self.option = None

    def pass_(self, call, *arguments) -> None:
        self.count -= 1
        if self.count == 0:
            self.call = call
            self.option = arguments[1] if "sockopt" in call else None
            raise OSError(self.number, os.strerror(self.number))


class Faulty:
    """
    A module or an object some of whose calls may fail.
    """

    def __init__(self, real, fault, *counted) -> None:
        self._real = real
        self._fault = fault
        self._counted = counted

    def __getattr__(self, name):
        real = getattr(self._real, name)
        if name not in self._counted:
            return real

        def call(*arguments):
            self._fault.pass_(name, *arguments)
            return real(*arguments)

        return call


class FaultySocket(Faulty):
    """
    A socket whose calls may fail.
    """

    def __init__(self, sock, fault: Fault) -> None:
        calls = ("getsockopt", "setsockopt", "recvmsg", "recv", "accept")
        super().__init__(sock, fault, *calls)
