"""
The value that says who a peer is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum

from zope.interface import implementer

from .interfaces import IPeerCredentials


class Capture(Enum):
    """
    Which of a kernel's credentials are read, and when.
    """

    CONNECT = "connect"
    """
    The effective IDs at connect(2), one system call after accept(2).  The
    peer need not send anything.
    """

    FIRST_MESSAGE = "first-message"
    """
    Who wrote the first bytes, stamped by the kernel at sendmsg(2).
    """

    EVERY_MESSAGE = "every-message"
    """
    Who wrote each of the bytes; another writer is told of or ends the
    connection.
    """

    # Members are one of a kind, and keys of what is looked up for each message;
    # Enum's own hash is written in Python.
    __hash__ = object.__hash__


@implementer(IPeerCredentials)
@dataclass(frozen=True, kw_only=True, slots=True)
class PeerCredentials:
    """
    What a kernel said about a peer: equal by value, hashable, never changed.
    L{IPeerCredentials} says what each field means.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] | None = None
    securityLabel: bytes | None = None
    pid: int | None = None
    capture: Capture = Capture.CONNECT
    realUID: int | None = None
    realGID: int | None = None

    def __str__(self) -> str:
        """
        One line in the manner of id(1), of numbers alone; what is not known
        is left out.
        """
        words = [f"uid={self.uid}", f"gid={self.gid}"]
        if self.realUID is not None:
            words.append(f"ruid={self.realUID}")
        if self.realGID is not None:
            words.append(f"rgid={self.realGID}")
        if self.groups is not None:
            words.append("groups=" + ",".join(map(str, self.groups)))
        if self.pid is not None:
            words.append(f"pid={self.pid}")
        if self.securityLabel is not None:
            # A label is bytes of the security module's: never trusted to be
            # printable.
            words.append("context=" + ascii(self.securityLabel)[2:-1])
        return " ".join(words)

    def asDict(self) -> dict[str, object]:
        """
        The fields as plain types, fit for JSON: groups a list, the label text
        (bytes that are not ASCII as C{\\xNN}), the capture its command-line
        name.
        """
        fields = asdict(self)
        fields["capture"] = self.capture.value
        if self.groups is not None:
            fields["groups"] = list(self.groups)
        if self.securityLabel is not None:
            fields["securityLabel"] = self.securityLabel.decode(
                "ascii", "backslashreplace"
            )
        return fields
