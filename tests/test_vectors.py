"""
Every record of what real kernels gave, through the decoders: as it is, cut
short everywhere, and with every byte changed.
"""

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsTruncated,
    CredentialsUnavailable,
    PeerCredentials,
)
from twisted_peercred.kernels import freebsd
from twisted_peercred.kernels.freebsd import FreeBSD
from twisted_peercred.kernels.netbsd import NetBSD

from .fuzz.decoders import fuzz, swap
from .recorded import VECTORS, RecordedConnection, cut
from .structures import NAMES, STRUCTURES

FIRST = Capture.FIRST_MESSAGE


def expected(decoded: dict, capture: Capture) -> PeerCredentials:
    """
    The value for what a record says it means.
    """
    kind = decoded["type"]
    groups = decoded.get("groups")
    real = kind not in ("xucred", "unpcbid")
    gid = decoded["egid"] if "egid" in decoded else groups[0]
    if groups is not None and len(groups) == 16 and kind != "netbsd sockcred":
        groups = None
    return PeerCredentials(
        uid=decoded["uid"] if kind == "xucred" else decoded["euid"],
        gid=gid,
        groups=None if groups is None else tuple(sorted({gid, *groups})),
        pid=decoded.get("pid") or None,
        capture=capture,
        realUID=decoded["uid"] if real else None,
        realGID=decoded["gid"] if real else None,
    )


def parts():
    """
    Each structure in the records: its name, its bytes, and what it means.
    """
    for each in VECTORS:
        data = bytes.fromhex(each["hex"])
        if each["what"] == "peer":
            decoded = each["decoded"]
            yield NAMES[decoded["type"]], data, expected(decoded, Capture.CONNECT)
            continue
        for (_, _, payload), decoded in zip(cut(data), each["decoded"], strict=True):
            yield NAMES[decoded["type"]], payload, expected(decoded, FIRST)


def kernelOf(record: dict):
    """
    The kernel that a record is of, with the option that was set for it.
    """
    if record["kernel"].startswith("NetBSD"):
        return NetBSD()
    if record["context"].startswith("no option"):
        return FreeBSD(None, 8)
    if record["context"].startswith("LOCAL_CREDS_PERSISTENT"):
        return FreeBSD(freebsd.LOCAL_CREDS_PERSISTENT, 8)
    return FreeBSD(freebsd.LOCAL_CREDS, 8)


class Reading:
    """
    A socket with one message to read.
    """

    def __init__(self, control: bytes, flags: int = 0) -> None:
        self._answer = (b"x", cut(control), flags, None)

    def recvmsg(self, *arguments):
        return self._answer


class VectorTests(SynchronousTestCase):
    """
    Tests with all records.
    """

    def test_exactly(self) -> None:
        """
        Every record decodes to what it means, field by field.
        """
        count = 0
        for name, data, meaning in parts():
            self.assertEqual(STRUCTURES[name].decode(data, "<"), meaning)
            self.assertEqual(STRUCTURES[name].read(data, "<"), meaning)
            count += 1
        self.assertEqual(count, len(VECTORS) + 1)

    def test_throughKernels(self) -> None:
        """
        Every record, given as the answer of its kernel, makes the identity that
        it means; but the one that could be two structures is refused (THREATS
        K12).
        """
        for each in VECTORS:
            kernel = kernelOf(each)
            data = bytes.fromhex(each["hex"])
            if each["what"] == "peer":
                option = 3 if isinstance(kernel, NetBSD) else 1
                sock = RecordedConnection(None, {(0, option): data}, [])
                self.assertEqual(
                    kernel.connectionCredentials(sock),
                    expected(each["decoded"], Capture.CONNECT),
                )
            elif each["context"] == "LOCAL_CREDS / many groups" and isinstance(
                kernel, FreeBSD
            ):
                self.assertRaises(
                    CredentialsUnavailable, kernel.peekMessage, Reading(data), FIRST
                )
            else:
                self.assertEqual(
                    kernel.peekMessage(Reading(data), FIRST).credentials,
                    expected(each["decoded"][0], FIRST),
                )

    def test_cutStructures(self) -> None:
        """
        Each structure, cut at each byte, is refused.
        """
        for name, data, _ in parts():
            for length in range(len(data)):
                if (name, length, len(data)) == ("NetBSD sockcred", 24, 28):
                    # What was cut off is room for a group of none, and not part
                    # of what it says.
                    continue
                self.assertRaises(
                    CredentialsUnavailable,
                    STRUCTURES[name].decode,
                    data[:length],
                    "<",
                )

    def test_cutBuffers(self) -> None:
        """
        Each control buffer, cut at each byte as a kernel cuts it, with
        C{MSG_CTRUNC}, is refused in each way to read; so is each answer of
        getsockopt(2).
        """
        for each in VECTORS:
            kernel = kernelOf(each)
            data = bytes.fromhex(each["hex"])
            for length in range(len(data)):
                if each["what"] == "peer":
                    option = 3 if isinstance(kernel, NetBSD) else 1
                    sock = RecordedConnection(None, {(0, option): data[:length]}, [])
                    self.assertRaises(
                        CredentialsUnavailable, kernel.connectionCredentials, sock
                    )
                    continue
                reading = Reading(data[:length], socket.MSG_CTRUNC)
                self.assertRaises(
                    CredentialsTruncated, kernel.peekMessage, reading, FIRST
                )
                self.assertRaises(
                    CredentialsTruncated,
                    kernel.receiveMessage,
                    reading,
                    9,
                    True,
                    FIRST,
                )

    def test_cutBuffersUnsaid(self) -> None:
        """
        The same without the flag: who is read, if anybody, is who was meant.
        """
        for each in VECTORS:
            if each["what"] == "peer":
                continue
            kernel = kernelOf(each)
            data = bytes.fromhex(each["hex"])
            meaning = expected(each["decoded"][0], FIRST)
            for length in range(len(data)):
                try:
                    message = kernel.peekMessage(Reading(data[:length]), FIRST)
                except CredentialsUnavailable:
                    continue
                self.assertEqual(message.credentials, meaning)

    def test_netbsdShortBuffer(self) -> None:
        """
        NetBSD's answer to a control buffer that is too small: a header that
        promises 52 bytes where there are 24.
        """
        (data,) = (
            bytes.fromhex(each["hex"])
            for each in VECTORS
            if each["kernel"] == "NetBSD 11.0_RC6 amd64"
            and "one, two" in each["context"]
        )
        for flags, error in (
            (0, CredentialsUnavailable),
            (socket.MSG_CTRUNC, CredentialsTruncated),
        ):
            self.assertRaises(
                error, NetBSD().peekMessage, Reading(data[:24], flags), FIRST
            )

    def test_everyByteChanged(self) -> None:
        """
        Each byte of each structure set to each value yields what the changed
        bytes say, or a typed error.
        """
        for name, data, _ in parts():
            structure = STRUCTURES[name]
            for at in range(len(data)):
                for value in (0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1, data[at] ^ 0x80):
                    changed = data[:at] + bytes([value]) + data[at + 1 :]
                    says = structure.read(changed, "<")
                    try:
                        known = structure.decode(changed, "<")
                    except CredentialsUnavailable:
                        known = None
                    self.assertEqual(known, says, (name, at, value))

    def test_padding(self) -> None:
        """
        Padding may hold anything: what the kernel had in memory is not looked
        at.
        """
        for name, at, length in (
            ("FreeBSD xucred", 10, 2),
            ("FreeBSD xucred", 76, 4),
            ("FreeBSD xucred", 84, 4),
            ("DragonFly xucred", 76, 12),
            ("cmsgcred", 18, 2),
        ):
            structure = STRUCTURES[name]
            data = structure.example
            dirty = data[:at] + b"\xa5" * length + data[at + length :]
            self.assertEqual(
                structure.decode(dirty, "<"), structure.decode(data, "<"), (name, at)
            )

    def test_byteOrders(self) -> None:
        """
        Each structure is read in either byte order, at 32 and 64 bits.
        """
        for name, structure in STRUCTURES.items():
            data = structure.example
            self.assertEqual(
                structure.decode(swap(data, name), ">"),
                structure.decode(data, "<"),
                name,
            )

    def test_wrongStructure(self) -> None:
        """
        The trap itself (THREATS K12): a sender's own credentials read as
        C{sockcred} would make its pid the uid.  So the decoder is never chosen
        by what the bytes look like.
        """
        forged = struct.pack("<iIIIh2x16I", 0, 0, 1002, 0, 16, *range(16))
        self.assertEqual(freebsd.decodeSockcred(forged, FIRST, "<").realUID, 0)
        sock = RecordedConnection(None, {}, [])
        sock.recvmsg = lambda *arguments: (b"x", [(0xFFFF, 3, forged)], 0, None)
        for option in (freebsd.LOCAL_CREDS_PERSISTENT, freebsd.LOCAL_CREDS):
            self.assertRaises(
                CredentialsUnavailable, FreeBSD(option).peekMessage, sock, FIRST
            )


class FuzzTests(SynchronousTestCase):
    """
    Tests with random inputs.
    """

    def test_fuzz(self) -> None:
        """
        2,000 changed inputs for each decoder yield what they say or a typed
        error; C{python -m tests.fuzz.decoders} tries a million.
        """
        names = []
        for name, said in fuzz(2000, seed=3):
            names.append(name)
            # Neither all of them nor none are somebody.
            self.assertTrue(100 < said < 1900, f"{name}: {said}")
        self.assertEqual(len(names), len(STRUCTURES) + 2)
