"""
Linux: unix(7), socket(7); C{include/uapi/asm-generic/socket.h} and its
brothers for the numbers, C{include/linux/socket.h} for the control messages.

Connect-time: C{SO_PEERCRED} is C{struct ucred} of the moment of connect(2),
effective IDs; C{SO_PEERGROUPS} (4.13) the supplementary groups, without the
primary; C{SO_PEERSEC} the label.  Message-time: C{SO_PASSCRED} makes the
kernel put C{SCM_CREDENTIALS}, real IDs unless the sender chose another of its
own, beside what is read.

====================  =======  ====  =======  =====  ======
option                generic  mips  powerpc  sparc  parisc
====================  =======  ====  =======  =====  ======
C{SO_PASSCRED}        16       17    20       2      -
C{SO_PEERCRED}        17       18    21       0x40   -
C{SO_PEERSEC}         31       30    31       0x1e   -
C{SO_PEERGROUPS}      59       59    59       0x3d   0x4034
C{SO_PASSRIGHTS}      83       83    83       0x5c   -
====================  =======  ====  =======  =====  ======

What has no number here is taken from CPython, which was compiled against the
header, or is not there: never guessed.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from ..credentials import Capture, PeerCredentials
from ..errors import (
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
    PeerCredentialsError,
)
from . import Datagram, Message, Probe, closeAll

UCRED_SIZE = 12
SCM_CREDENTIALS = 2
SCM_PIDFD = 4
#: uid_t and gid_t of all ones are no ID (credentials(7)): "unset".
NO_ID = 0xFFFFFFFF
#: CPython's getsockopt takes no longer buffer.
GETSOCKOPT_LIMIT = 1024
#: NGROUPS_MAX (C{linux/limits.h}), a u32 each: more cannot be said.
GROUPS_SIZE = 4 * 65536
#: What the IDs of another user namespace look like, unless
#: /proc/sys/kernel/overflowuid and overflowgid say otherwise.
OVERFLOW_ID = 65534

#: Of a named tuple, whose own __new__ takes half as long again (measured).
_newMessage = tuple.__new__

#: How many answers are kept together with what they mean.
KEPT = 256
#: Of no more groups than this.
KEPT_GROUPS = 256

CREDENTIALS_ROOM = socket.CMSG_SPACE(UCRED_SIZE)
#: Room for SCM_MAX_FD (253, C{net/scm.h}) descriptors and any control message
#: that an option set by somebody else may add: what stock Twisted offers.
DESCRIPTORS_ROOM = socket.CMSG_SPACE(4096)


#: What the kernel answered, and what else decides what it means.
Answers: TypeAlias = tuple[object, ...]


class Options(NamedTuple):
    """
    Numbers of socket options on one architecture; L{None}: not confirmed.
    """

    passCred: int | None
    peerCred: int | None
    peerSec: int | None
    peerGroups: int | None
    passRights: int | None


ARCHITECTURES = (
    (
        r"x86_64|i[3-6]86|arm|aarch64|riscv|s390|loongarch",
        Options(16, 17, 31, 59, 83),
    ),
    (r"mips", Options(17, 18, 30, 59, 83)),
    (r"ppc|powerpc", Options(20, 21, 31, 59, 83)),
    (r"sparc", Options(2, 0x40, 0x1E, 0x3D, 0x5C)),
    (r"parisc", Options(None, None, None, 0x4034, None)),
)


def optionsOf(machine: str) -> Options:
    """
    The option numbers of an architecture.

    @param machine: its name, as uname(2) gives it.
    """
    known = Options(None, None, None, None, None)
    for pattern, options in ARCHITECTURES:
        if re.match(pattern, machine):
            known = options
    return Options(
        *(
            getattr(socket, "SO_" + name.upper(), None) if number is None else number
            for name, number in known._asdict().items()
        )
    )


# Decoders: bytes to values.


def decodeCredentials(data: bytes, byteOrder: str = "=") -> tuple[int, int, int]:
    """
    C{struct ucred}: pid, uid and gid.

    @param byteOrder: C{"="}, C{"<"} or C{">"}, as in L{struct}.
    @raise CredentialsUnavailable: it has another size, or no IDs in it.
    """
    if len(data) != UCRED_SIZE:
        raise CredentialsUnavailable(
            f"the kernel gave credentials of {len(data)} bytes where struct ucred"
            f" has {UCRED_SIZE}"
        )
    pid, uid, gid = struct.unpack(byteOrder + "iII", data)
    if uid == NO_ID or gid == NO_ID:
        raise CredentialsUnavailable(
            "the kernel knows no peer: this is no connected Unix-domain socket"
        )
    return pid, uid, gid


def decodeGroups(data: bytes, gid: int, byteOrder: str = "=") -> tuple[int, ...]:
    """
    The answer of C{SO_PEERGROUPS}, completed with the primary group.

    @raise CredentialsUnavailable: it is no array of u32.
    """
    count, rest = divmod(len(data), 4)
    if rest:
        raise CredentialsUnavailable(f"the kernel gave groups of {len(data)} bytes")
    return tuple(sorted({gid, *struct.unpack(f"{byteOrder}{count}I", data)}))


def isWhole(mapping: str) -> bool:
    """
    Whether every ID there is has a number in this user namespace, so that the
    overflow ID is nobody's but its own.  Where some have none, it may be any of
    those, also if the namespace has a user of that number.

    @param mapping: text of C{/proc/self/uid_map} or C{gid_map}
        (user_namespaces(7)): first ID inside, first ID outside, how many.
    """
    return sum(int(line.split()[2]) for line in mapping.splitlines()) >= NO_ID


# Socket calls.


class Linux:
    """
    A L{Kernel <twisted_peercred.kernels.Kernel>}.

    @param machine: the architecture, as uname(2) names it; this one's if
        L{None}.
    @param proc: the directory of proc(5).
    @cvar room: bytes for control messages, where no descriptors are wanted.
    """

    room = CREDENTIALS_ROOM

    def __init__(self, machine: str | None = None, proc: str = "/proc") -> None:
        self.options = optionsOf(os.uname().machine if machine is None else machine)
        self._proc = proc
        # 65534 is suspect in any case: the number may have been changed since
        # credentials were made.
        self._overflow = {
            OVERFLOW_ID,
            self._overflowID("overflowuid"),
            self._overflowID("overflowgid"),
        }
        self._kept: dict[Answers, PeerCredentials] = {}
        self._peerSec = self.options.peerSec if self._mayLabel() else None

    def _read(self, name: str) -> str:
        with open(f"{self._proc}/{name}") as file:
            return file.read()

    def _overflowID(self, name: str) -> int:
        try:
            return int(self._read(f"sys/kernel/{name}"))
        except OSError:
            return OVERFLOW_ID

    def _mayLabel(self) -> bool:
        """
        Whether there may be a security module with labels.  One that labels
        sockets labels processes (SELinux, Smack, AppArmor), and modules are
        there from the kernel's start or never; so where this process can have
        no label, no connection need be asked for one.
        """
        try:
            self._read("self/attr/current")
        except OSError as error:
            # "No module has such an attribute" (proc_pid_attr(5)).
            return error.errno != errno.EINVAL
        return True

    def checkCapture(self, capture: Capture) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self.connectionCredentials(ours)
                if capture is not Capture.CONNECT:
                    self.askForMessages(ours)
                    theirs.send(b"?")
                    message = self.receiveMessage(ours, 1, False, capture)
                    closeAll([message.process])
            except (OSError, PeerCredentialsError) as error:
                raise CredentialsUnsupported(
                    f"Linux {os.uname().release} ({os.uname().machine}) does not give"
                    f" credentials at {capture.value} to this process: {error};"
                    " look for a seccomp filter, a sandbox or a user namespace"
                ) from error

    def askForMessages(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, known(self.options.passCred), 1)

    def setDescriptorsWanted(self, sock: socket.socket, wanted: bool) -> None:
        if self.options.passRights is None:
            return
        try:
            sock.setsockopt(socket.SOL_SOCKET, self.options.passRights, wanted)
        except OSError:
            # Linux before 6.16, or a filter.  Nothing depends on it: what
            # arrives all the same is discarded by recv(2), or closed.
            self.options = self.options._replace(passRights=None)

    def connectionCredentials(self, sock: socket.socket) -> PeerCredentials:
        options = self.options
        if options.peerCred is None:
            raise CredentialsUnavailable("SO_PEERCRED has no known number here")
        try:
            answer = sock.getsockopt(socket.SOL_SOCKET, options.peerCred, UCRED_SIZE)
        except OSError as error:
            raise CredentialsUnavailable(f"SO_PEERCRED: {error}") from error
        groups = label = None
        if options.peerGroups is not None:
            groups = self._getsockopt(sock, options.peerGroups, GROUPS_SIZE)
        if self._peerSec is not None:
            label = self._getsockopt(sock, self._peerSec, GETSOCKOPT_LIMIT)
        answers = (answer, groups, label)
        return self._kept.get(answers) or self._keep(
            answers, self._decodeConnection(*answers)
        )

    def _decodeConnection(
        self, answer: bytes, groups: bytes | None, label: bytes | None
    ) -> PeerCredentials:
        pid, uid, gid = decodeCredentials(answer)
        self._requireMapped(uid, gid)
        return PeerCredentials(
            uid=uid,
            gid=gid,
            groups=None if groups is None else self._mappedGroups(groups, gid),
            securityLabel=None if label is None else label.rstrip(b"\0"),
            pid=pid or None,
        )

    def _mappedGroups(self, answer: bytes, gid: int) -> tuple[int, ...] | None:
        """
        All groups, or L{None} where one of them has no number here.
        """
        groups = decodeGroups(answer, gid)
        if not self._overflow.isdisjoint(groups) and not self._sees("gid"):
            return None
        return groups

    def _keep(self, answers: Answers, known: PeerCredentials) -> PeerCredentials:
        """
        Have the same answers make the same object next time: a process that
        connects or writes once most often does so again.  But not where it
        takes a look at this namespace to tell what they mean, nor where
        somebody's 65,536 groups would take megabytes.
        """
        groups = known.groups or ()
        if len(groups) <= KEPT_GROUPS and self._overflow.isdisjoint(
            (known.uid, known.gid, *groups)
        ):
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[answers] = known
        return known

    def _getsockopt(self, sock: socket.socket, option: int, limit: int) -> bytes | None:
        """
        An answer of any length, or L{None} where there is none: the kernel is
        too old, has no security module, or may not be asked.
        """
        try:
            return sock.getsockopt(socket.SOL_SOCKET, option, GETSOCKOPT_LIMIT)
        except OSError as error:
            if error.errno != errno.ERANGE:
                return None
        return longGetsockopt(sock, option, limit)

    def peekMessage(self, sock: socket.socket, capture: Capture) -> Message:
        # A look passes over a byte that was sent with MSG_OOB, and would take
        # for the first writer who wrote the next; nor would such a byte alone
        # ever stop to make the socket readable (measured).
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        except OSError as error:
            raise CredentialsUnavailable(f"SO_OOBINLINE: {error}") from error
        # There is room for the credentials alone.  The kernel puts them
        # first; descriptors that do not fit in a look are neither installed
        # nor lost.
        data, ancillary, flags, _ = sock.recvmsg(1, self.room, socket.MSG_PEEK)
        if data and len(ancillary) == 1 and not flags:
            known = self._kept.get((ancillary[0], capture))
            if known is not None:
                return _newMessage(Message, (data, known, [], None))
        credentials, descriptors, processes = self._sort(ancillary)
        closeAll(descriptors)
        try:
            writer = self._writer(data, credentials, capture)
        except PeerCredentialsError:
            closeAll(processes)
            raise
        return Message(data, writer, [], self._process(data, processes))

    def receiveMessage(
        self,
        sock: socket.socket,
        size: int,
        descriptors: bool,
        capture: Capture | None,
    ) -> Message:
        room = DESCRIPTORS_ROOM if descriptors else self.room
        data, ancillary, flags, _ = sock.recvmsg(size, room)
        if data and len(ancillary) == 1 and not flags:
            # As it mostly is: credentials alone, and known ones.
            known = self._kept.get((ancillary[0], capture))
            if known is not None:
                return _newMessage(Message, (data, known, [], None))
        credentials, received, processes = self._sort(ancillary)
        try:
            # Without room for descriptors their loss is what was asked for.
            if descriptors and flags & socket.MSG_CTRUNC:
                raise CredentialsTruncated(
                    f"{len(received)} descriptors came and others were lost: too"
                    " many were sent, or this process has too many files open"
                )
            writer = None
            if capture is not None:
                writer = self._writer(data, credentials, capture)
        except PeerCredentialsError:
            closeAll([*received, *processes])
            raise
        if received and not descriptors:
            closeAll(received)
            received = []
        return Message(data, writer, received, self._process(data, processes))

    def receiveDatagram(self, sock: socket.socket, size: int) -> Datagram:
        """
        Take a datagram from a socket that messages were asked for.  Descriptors
        that come with it are closed.

        @param size: bytes of room.
        """
        data, ancillary, flags, address = sock.recvmsg(size, self.room)
        credentials, descriptors, processes = self._sort(ancillary)
        closeAll(descriptors)
        # An empty one is one too: a datagram socket has no end of file.
        marked = data or b"?"
        try:
            if flags & socket.MSG_TRUNC:
                raise CredentialsTruncated(
                    f"a datagram of more than {size} bytes came: see maxPacketSize"
                )
            if flags & socket.MSG_CTRUNC and not credentials:
                raise CredentialsTruncated("there was no room for the credentials")
            writer = self._writer(marked, credentials, Capture.EVERY_MESSAGE)
        except PeerCredentialsError as problem:
            closeAll(processes)
            return Datagram(data, address, problem)
        assert writer is not None
        return Datagram(data, address, writer, self._process(marked, processes))

    def _process(self, data: bytes, processes: list[int]) -> int | None:
        """
        The handle to pass on with C{data}: none was asked for, so those that
        came (somebody set the option before the socket was ours) are closed.
        """
        closeAll(processes)
        return None

    def credentialsToSend(
        self, pid: int | None = None, uid: int | None = None, gid: int | None = None
    ) -> list[tuple[int, int, bytes]]:
        # Real IDs, where nothing else is asked for: what the kernel writes by
        # itself.  Said all the same, they are there for a reader that has not
        # asked for them yet, where the kernel would put a placeholder.
        try:
            payload = struct.pack(
                "=iII",
                os.getpid() if pid is None else pid,
                os.getuid() if uid is None else uid,
                os.getgid() if gid is None else gid,
            )
        except struct.error as error:
            raise ValueError(
                f"no pid, uid and gid: {pid!r}, {uid!r}, {gid!r} ({error})"
            ) from error
        return [(socket.SOL_SOCKET, SCM_CREDENTIALS, payload)]

    def _sort(
        self, ancillary: Iterable[tuple[int, int, bytes]]
    ) -> tuple[list[bytes], list[int], list[int]]:
        """
        Credentials, descriptors and handles on processes (C{SCM_PIDFD}, each a
        descriptor or a negative error number) among control messages, in
        whatever order and number they come.
        """
        credentials: list[bytes] = []
        descriptors: list[int] = []
        processes: list[int] = []
        for level, kind, payload in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == SCM_CREDENTIALS:
                credentials.append(payload)
            elif kind in (socket.SCM_RIGHTS, SCM_PIDFD):
                # A truncated one may end within an int.
                count = len(payload) // 4
                numbers = struct.unpack(f"={count}i", payload[: 4 * count])
                (processes if kind == SCM_PIDFD else descriptors).extend(numbers)
        return credentials, descriptors, processes

    def _writer(
        self, data: bytes, credentials: list[bytes], capture: Capture
    ) -> PeerCredentials | None:
        """
        Who wrote C{data}.
        """
        if not data:
            # The end of the stream comes with credentials of zeros, which
            # would be root.
            return None
        if len(credentials) != 1 and len(set(credentials)) != 1:
            raise CredentialsUnavailable(
                f"{len(credentials)} credentials came with a message: SO_PASSCRED"
                " is not set, or a sandbox rewrites messages"
            )
        return self._keep(
            ((socket.SOL_SOCKET, SCM_CREDENTIALS, credentials[0]), capture),
            self._decodeMessage(credentials[0], capture),
        )

    def _decodeMessage(self, answer: bytes, capture: Capture) -> PeerCredentials:
        pid, uid, gid = decodeCredentials(answer)
        if pid == 0 and uid in self._overflow and gid in self._overflow:
            raise CredentialsUnavailable(
                "a placeholder came instead of credentials: the message was"
                " written before the kernel was asked to stamp messages"
            )
        if pid == uid == gid == 0:
            raise CredentialsUnavailable(
                "the credentials are all zeros, which is root of a PID namespace"
                " that this one cannot see, or nobody: use Capture.CONNECT for it"
            )
        self._requireMapped(uid, gid)
        return PeerCredentials(uid=uid, gid=gid, pid=pid or None, capture=capture)

    def _requireMapped(self, uid: int, gid: int) -> None:
        """
        @raise CredentialsUnavailable: one of the two is only how IDs of
            another user namespace look like from here.
        """
        for name, number in (("uid", uid), ("gid", gid)):
            if number in self._overflow and not self._sees(name):
                raise CredentialsUnavailable(
                    f"{name} {number} may be any ID that this user namespace"
                    f" does not map: have /proc/{os.getpid()}/{name}_map map those"
                    " that peers have (/etc/subuid and /etc/subgid,"
                    " user_namespaces(7)), or run the server in the namespace of"
                    " its peers"
                )

    def probes(self) -> Sequence[Probe]:
        options = self.options

        def askMessage(ours: socket.socket, theirs: socket.socket) -> str:
            self.askForMessages(ours)
            theirs.send(b"?")
            message = self.receiveMessage(ours, 1, False, Capture.FIRST_MESSAGE)
            return str(message.credentials)

        def askPassRights(ours: socket.socket, _: socket.socket) -> str:
            ours.setsockopt(socket.SOL_SOCKET, known(options.passRights), 0)
            return "off"

        def ask(
            option: int | None, show: Callable[[bytes], str]
        ) -> Callable[[socket.socket, socket.socket], str]:
            return lambda ours, _: show(
                ours.getsockopt(socket.SOL_SOCKET, known(option), GETSOCKOPT_LIMIT)
            )

        return (
            Probe(
                "SO_PEERCRED",
                ask(
                    options.peerCred,
                    lambda data: "pid={} uid={} gid={}".format(
                        *decodeCredentials(data)
                    ),
                ),
            ),
            Probe(
                "SO_PEERGROUPS",
                ask(options.peerGroups, lambda data: f"{len(data) // 4} groups"),
            ),
            Probe("SO_PEERSEC", ask(options.peerSec, ascii)),
            Probe("SO_PASSCRED", askMessage),
            Probe("SO_PASSRIGHTS", askPassRights),
        )

    def _sees(self, kind: str) -> bool:
        """
        Whether each C{"uid"} or C{"gid"} is what it looks like.
        """
        # Read each time, and only for the one ID in four billion that may be
        # no ID: the map can be written, and the namespace changed, while a
        # server runs.  Two lines of this process's own proc(5), no disk.
        try:
            return isWhole(self._read(f"self/{kind}_map"))
        except OSError:
            return False


def known(option: int | None) -> int:
    """
    The number of an option.

    @raise OSError: nobody has confirmed one (C{ENOPROTOOPT}).
    """
    if option is None:
        raise OSError(errno.ENOPROTOOPT, "no known number on this architecture")
    return option


def longGetsockopt(sock: socket.socket, option: int, limit: int) -> bytes | None:
    """
    getsockopt(2) at C{SOL_SOCKET} for answers that CPython has no room for.

    @param limit: bytes of room.
    @return: the answer, or L{None} for an error.
    """
    # Hardly any process has so many groups, and a Python may be without ctypes.
    import ctypes

    buffer = ctypes.create_string_buffer(limit)
    length = ctypes.c_uint32(limit)
    failed = ctypes.CDLL(None).getsockopt(
        sock.fileno(), socket.SOL_SOCKET, option, buffer, ctypes.byref(length)
    )
    return None if failed else buffer.raw[: length.value]
