"""
Tests for L{twisted_peercred.kernels.linux}.
"""

import errno
import os
import resource
import socket
import struct

from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import (
    Capture,
    CredentialsTruncated,
    CredentialsUnavailable,
    CredentialsUnsupported,
)
from twisted_peercred.kernels import Kernel, Message, closeAll, linux, thisKernel
from twisted_peercred.kernels.linux import (
    Linux,
    decodeCredentials,
    decodeGroups,
    isWhole,
    longGetsockopt,
    optionsOf,
)

from .support import RecordedSocket, credentialsMessage, openDescriptors, ucred

if not platform.isLinux():
    skip = "its numbers are those of this machine's Linux"

INITIAL_MAP = "         0          0 4294967295\n"


class DecoderTests(SynchronousTestCase):
    """
    Tests for the functions from bytes to values.
    """

    def test_credentials(self) -> None:
        """
        C{struct ucred} is pid, uid, gid; the IDs are unsigned (THREATS K6).
        """
        for uid in (0, 1000, 2**31, 2**32 - 2):
            self.assertEqual(decodeCredentials(ucred(7, uid, uid)), (7, uid, uid))

    def test_byteOrder(self) -> None:
        """
        Both byte orders are read.
        """
        for order in "<>":
            data = struct.pack(order + "iII", 1, 2, 3)
            self.assertEqual(decodeCredentials(data, order), (1, 2, 3))
            self.assertEqual(
                decodeGroups(struct.pack(order + "2I", 9, 8), 8, order), (8, 9)
            )

    def test_noPeer(self) -> None:
        """
        IDs of all ones are nobody (THREATS K3).
        """
        for data in (ucred(0, 2**32 - 1, 2**32 - 1), ucred(1, 2**32 - 1, 0)):
            self.assertRaises(CredentialsUnavailable, decodeCredentials, data)
        self.assertRaises(
            CredentialsUnavailable, decodeCredentials, ucred(1, 0, 2**32 - 1)
        )

    def test_otherSizes(self) -> None:
        """
        Any other length than the structure's is refused.
        """
        for size in (*range(12), 13, 24):
            self.assertRaises(CredentialsUnavailable, decodeCredentials, bytes(size))

    def test_groups(self) -> None:
        """
        Groups are sorted, once each, the primary among them; no answer for a
        peer without supplementary groups is the primary alone (THREATS K7).
        """
        self.assertEqual(decodeGroups(b"", 5), (5,))
        data = struct.pack("4I", 2**32 - 2, 7, 7, 5)
        self.assertEqual(decodeGroups(data, 6), (5, 6, 7, 2**32 - 2))

    def test_groupsOfOtherSizes(self) -> None:
        """
        A broken array is refused.
        """
        self.assertRaises(CredentialsUnavailable, decodeGroups, bytes(5), 0)

    def test_mapping(self) -> None:
        """
        user_namespaces(7): each line maps a range; a namespace is whole where
        all of them are every ID.
        """
        for text, whole in (
            ("         0          0 4294967295\n", True),
            ("0 1 4294967294\n4294967294 0 1\n", True),
            ("0 100000 65536\n", False),
            ("0 0 4294967294\n", False),
            ("", False),
        ):
            self.assertIs(isWhole(text), whole, text)


class OptionTests(SynchronousTestCase):
    """
    Tests for the numbers of the options.
    """

    def test_architectures(self) -> None:
        """
        Each architecture has the numbers of its own header.
        """
        self.assertEqual(optionsOf("x86_64"), (16, 17, 31, 59, 83))
        self.assertEqual(optionsOf("aarch64"), optionsOf("x86_64"))
        self.assertEqual(optionsOf("mips64"), (17, 18, 30, 59, 83))
        self.assertEqual(optionsOf("ppc64le"), (20, 21, 31, 59, 83))
        self.assertEqual(optionsOf("sparc64"), (2, 0x40, 0x1E, 0x3D, 0x5C))

    def test_neverGuessed(self) -> None:
        """
        A number that nobody confirmed for an architecture, and that CPython
        does not know either, is not there.
        """
        for name in ("SO_PASSCRED", "SO_PEERCRED", "SO_PEERSEC"):
            self.patch(socket, name, None)
        self.assertEqual(optionsOf("parisc64"), (None, None, None, 0x4034, None))
        self.assertEqual(optionsOf("vax"), (None,) * 5)

    def test_headers(self) -> None:
        """
        On this machine the table says what the header said to CPython.
        """
        options = optionsOf(os.uname().machine)
        self.assertEqual(options.passCred, socket.SO_PASSCRED)
        self.assertEqual(options.peerCred, socket.SO_PEERCRED)
        self.assertEqual(options.peerSec, socket.SO_PEERSEC)
        self.assertEqual(linux.SCM_CREDENTIALS, socket.SCM_CREDENTIALS)


class LinuxTests(SynchronousTestCase):
    """
    Tests for L{Linux} with recorded answers.
    """

    def setUp(self) -> None:
        self.kernel = self.namespace()

    def namespace(self, uidMap=INITIAL_MAP, gidMap=INITIAL_MAP, overflow="65534"):
        """
        A kernel in a user namespace of such maps.
        """
        proc = self.mktemp()
        os.makedirs(os.path.join(proc, "self"))
        os.makedirs(os.path.join(proc, "sys", "kernel"))
        for name, text in (
            ("self/uid_map", uidMap),
            ("self/gid_map", gidMap),
            ("sys/kernel/overflowuid", overflow),
            ("sys/kernel/overflowgid", overflow),
        ):
            if text is not None:
                with open(os.path.join(proc, name), "w") as file:
                    file.write(text)
        return Linux("x86_64", proc)

    def connection(self, kernel=None, cred=None, **options):
        """
        The connect-time credentials that such answers make.
        """
        answers = {17: ucred(7, 1000, 100) if cred is None else cred, 59: b""}
        answers.update({int(name[1:]): each for name, each in options.items()})
        return (kernel or self.kernel).connectionCredentials(RecordedSocket(answers))

    def test_connection(self) -> None:
        """
        All three options make one value.
        """
        peer = self.connection(_59=struct.pack("2I", 4, 27), _31=b"label\0")
        self.assertEqual((peer.uid, peer.gid, peer.pid), (1000, 100, 7))
        self.assertEqual(peer.groups, (4, 27, 100))
        self.assertEqual(peer.securityLabel, b"label")
        self.assertIs(peer.capture, Capture.CONNECT)
        self.assertIsNone(peer.realUID)

    def test_otherPIDNamespace(self) -> None:
        """
        pid 0 is "not known" (THREATS K8).
        """
        self.assertIsNone(self.connection(cred=ucred(0, 1000, 100)).pid)

    def test_missingOptions(self) -> None:
        """
        What a kernel or a sandbox does not tell is L{None} (THREATS K16).
        """
        self.patch(linux, "longGetsockopt", self.fail)
        for error in (OSError(92, "ENOPROTOOPT"), OSError(1, "EPERM")):
            peer = self.connection(_59=error, _31=error)
            self.assertIsNone(peer.groups)
            self.assertIsNone(peer.securityLabel)

    def test_kept(self) -> None:
        """
        The same answers are the same object, others never are; what is kept is
        bounded.
        """
        first = self.connection(_59=struct.pack("I", 4))
        self.assertIs(self.connection(_59=struct.pack("I", 4)), first)
        for other in (
            self.connection(_59=struct.pack("I", 5)),
            self.connection(_59=OSError(92, "ENOPROTOOPT")),
            self.connection(_59=struct.pack("I", 4), _31=b"label"),
            self.connection(cred=ucred(8, 1000, 100), _59=struct.pack("I", 4)),
        ):
            self.assertNotEqual(other, first)
        for pid in range(1, 2 * linux.KEPT):
            self.assertEqual(self.connection(cred=ucred(pid, 1000, 100)).pid, pid)
            self.assertLessEqual(len(self.kernel._kept), linux.KEPT)

    def test_keptUntilFull(self) -> None:
        """
        So many are kept, and none is forgotten before there are more; of a peer
        in more groups than L{linux.KEPT_GROUPS} none at all.
        """
        first = self.connection(cred=ucred(1, 1000, 100))
        for pid in range(2, linux.KEPT + 1):
            self.connection(cred=ucred(pid, 1000, 100))
        self.assertEqual(len(self.kernel._kept), linux.KEPT)
        self.assertIs(self.connection(cred=ucred(1, 1000, 100)), first)
        self.connection(cred=ucred(0, 1000, 100))
        self.assertEqual(len(self.kernel._kept), 1)
        # The primary group is one more.
        for count, kept in (
            (linux.KEPT_GROUPS - 1, True),
            (linux.KEPT_GROUPS, False),
        ):
            groups = struct.pack(f"{count}I", *range(1000, 1000 + count))
            again = [self.connection(_59=groups) for _ in range(2)]
            self.assertEqual(len(again[0].groups), count + 1)
            self.assertIs(again[0] is again[1], kept, count)

    def test_keptMessages(self) -> None:
        """
        So with messages; of each capture by itself.
        """

        def credentials(capture):
            message = credentialsMessage(b"x", ucred(7, 1000, 100))
            sock = RecordedSocket(messages=[message])
            return self.kernel.receiveMessage(sock, 1, False, capture).credentials

        for capture in (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE):
            self.assertIs(credentials(capture), credentials(capture))
            self.assertIs(credentials(capture).capture, capture)

    def test_keptButFlagged(self) -> None:
        """
        A known writer's message is looked at in full where something was lost
        of it, or nothing says who wrote it.
        """
        stamp = ucred(7, 1000, 100)
        for flags, problem in (
            (0, None),
            (socket.MSG_CTRUNC, CredentialsTruncated),
        ):
            message = credentialsMessage(b"x", stamp, flags=flags)
            arguments = (
                RecordedSocket(messages=[message]),
                1,
                True,
                Capture.EVERY_MESSAGE,
            )
            if problem is None:
                self.assertEqual(self.kernel.receiveMessage(*arguments).data, b"x")
            else:
                self.assertRaises(problem, self.kernel.receiveMessage, *arguments)
        bare = RecordedSocket(messages=[(b"x", [], 0, None)] * 2)
        for call in (
            lambda: self.kernel.receiveMessage(bare, 1, True, Capture.EVERY_MESSAGE),
            lambda: self.kernel.peekMessage(bare, Capture.EVERY_MESSAGE),
        ):
            self.assertRaises(CredentialsUnavailable, call)

    def test_endIsNobodys(self) -> None:
        """
        The end of a stream has no writer, though it came with a known one's
        credentials.
        """
        stamp = ucred(7, 1000, 100)
        capture = Capture.EVERY_MESSAGE
        for read in (
            lambda sock: self.kernel.receiveMessage(sock, 1, False, capture),
            lambda sock: self.kernel.peekMessage(sock, capture),
        ):
            messages = [credentialsMessage(data, stamp) for data in (b"x", b"")]
            sock = RecordedSocket(messages=messages)
            self.assertEqual(read(sock).credentials.uid, 1000)
            self.assertIsNone(read(sock).credentials)

    def test_notAPlaceholder(self) -> None:
        """
        The overflow ID as one of two, or with a PID, is no placeholder.
        """
        for cred in (ucred(7, 5, 65534), ucred(7, 65534, 65534), ucred(0, 5, 65534)):
            sock = RecordedSocket(messages=[credentialsMessage(b"x", cred)])
            known = self.kernel.receiveMessage(sock, 1, False, Capture.EVERY_MESSAGE)
            self.assertEqual(known.credentials.gid, 65534)

    def test_cutWithinANumber(self) -> None:
        """
        Of descriptors that end within an int the whole ones are taken, and
        closed with the message that is refused.
        """
        before = openDescriptors()
        rights = (socket.SOL_SOCKET, 1, self.openPipes(2) + b"..")
        stamp = (socket.SOL_SOCKET, 2, ucred(7, 1000, 100))
        message = self.receive([rights, stamp], False)
        self.assertEqual(message.descriptors, [])
        self.assertEqual(openDescriptors(), before)

    def test_numbersToSend(self) -> None:
        """
        What fits no C{struct ucred} is refused, and real IDs stand for what is
        not given.
        """
        self.assertRaises(ValueError, self.kernel.credentialsToSend, uid=-1)
        ((level, kind, payload),) = self.kernel.credentialsToSend(1, 2, 3)
        self.assertEqual((level, kind), (socket.SOL_SOCKET, 2))
        self.assertEqual(payload, ucred(1, 2, 3))
        ((_, _, payload),) = self.kernel.credentialsToSend()
        self.assertEqual(payload, ucred(os.getpid(), os.getuid(), os.getgid()))

    def test_datagrams(self) -> None:
        """
        A datagram has its writer, also an empty one; one that was cut, and one
        that nothing says the writer of, has the error in the writer's place.
        """
        stamp = ucred(7, 1000, 100)
        another = socket.MSG_CMSG_CLOEXEC
        cut = (b"x", [], socket.MSG_CTRUNC, None)
        for message, expected in (
            (credentialsMessage(b"x", stamp), None),
            (credentialsMessage(b"", stamp), None),
            (credentialsMessage(b"x", stamp, flags=socket.MSG_CTRUNC), None),
            (credentialsMessage(b"x", stamp, flags=another), None),
            (
                credentialsMessage(b"x", stamp, flags=socket.MSG_TRUNC),
                CredentialsTruncated,
            ),
            ((b"x", [], 0, None), CredentialsUnavailable),
            ((b"x", [], another, None), CredentialsUnavailable),
            (cut, CredentialsTruncated),
        ):
            sock = RecordedSocket(messages=[message])
            datagram = self.kernel.receiveDatagram(sock, 1)
            self.assertEqual(datagram.data, message[0])
            if expected is None:
                self.assertEqual(datagram.credentials.uid, 1000)
            else:
                self.assertIs(type(datagram.credentials), expected)

    def test_notKept(self) -> None:
        """
        An ID whose meaning hangs on the namespace's map is looked up there each
        time: it may be written later (user_namespaces(7)).
        """
        for cred, groups in (
            (ucred(7, 65534, 5), b""),
            (ucred(7, 5, 65534), b""),
            (ucred(7, 5, 5), struct.pack("I", 65534)),
        ):
            kernel = self.namespace()
            self.connection(kernel, cred, _59=groups)
            for name in ("uid_map", "gid_map"):
                with open(os.path.join(kernel._proc, "self", name), "w") as file:
                    file.write("0 1000 10\n")
            if groups:
                self.assertIsNone(self.connection(kernel, cred, _59=groups).groups)
            else:
                self.assertRaises(
                    CredentialsUnavailable, self.connection, kernel, cred, _59=groups
                )

    def test_noLabels(self) -> None:
        """
        Where no security module labels this process, which is told by EINVAL
        (proc_pid_attr(5)), no socket is asked for a label.
        """

        class Unlabelled(Linux):
            attribute: str | OSError = OSError(errno.EINVAL, "Invalid argument")

            def _read(self, name: str) -> str:
                if name != "self/attr/current":
                    return super()._read(name)
                if isinstance(self.attribute, OSError):
                    raise self.attribute
                return self.attribute

        self.assertIsNone(
            self.connection(Unlabelled("x86_64"), _31=b"label").securityLabel
        )
        for attribute in (
            "unconfined\n",
            OSError(errno.EACCES, "Permission denied"),
            OSError(errno.ENOSYS, "Function not implemented"),
        ):
            Unlabelled.attribute = attribute
            self.assertEqual(
                self.connection(Unlabelled("x86_64"), _31=b"label").securityLabel,
                b"label",
            )

    def test_unknownArchitecture(self) -> None:
        """
        Without a number for the option there are no credentials, and no groups.
        """
        self.kernel.options = self.kernel.options._replace(peerGroups=None)
        self.assertIsNone(self.connection().groups)
        self.kernel.options = self.kernel.options._replace(peerCred=None)
        self.assertRaises(CredentialsUnavailable, self.connection)

    def test_refusedOption(self) -> None:
        """
        An error is never an identity.
        """
        self.assertRaises(
            CredentialsUnavailable, self.connection, cred=OSError(1, "EPERM")
        )

    def test_longAnswer(self) -> None:
        """
        An answer that CPython has no room for is asked for once more (THREATS
        K7), and where that fails too it is "not known".
        """
        calls = []

        def long(sock, option, limit):
            calls.append((option, limit))
            return struct.pack("300I", *range(300)) if option == 59 else None

        self.patch(linux, "longGetsockopt", long)
        tooSmall = OSError(34, "ERANGE")
        peer = self.connection(_59=tooSmall, _31=tooSmall)
        self.assertEqual(peer.groups, tuple(range(300)))
        self.assertIsNone(peer.securityLabel)
        self.assertEqual(calls, [(59, 4 * 65536), (31, 1024)])

    def test_longGetsockopt(self) -> None:
        """
        The call that has room for it asks the real kernel.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            answer = longGetsockopt(ours, socket.SO_PEERCRED, 4096)
            self.assertEqual(
                decodeCredentials(answer), (os.getpid(), os.geteuid(), os.getegid())
            )
            self.assertIsNone(longGetsockopt(ours, 9999, 4096))

    def test_unmapped(self) -> None:
        """
        The overflow ID is nobody where the namespace does not map every ID, for
        uid and gid alike (THREATS K8), also if it has a user of that number;
        the error says where to look.
        """
        small = "0 1000 10\n"
        container = "0 100000 65536\n"
        for kernel, cred, name in (
            (self.namespace(uidMap=container), ucred(7, 65534, 5), "uid"),
            (self.namespace(gidMap=container), ucred(7, 5, 65534), "gid"),
            (self.namespace(uidMap=small), ucred(7, 65534, 5), "uid"),
            (self.namespace(gidMap=small), ucred(7, 5, 65534), "gid"),
            (self.namespace(uidMap=None), ucred(7, 65534, 5), "uid"),
            (self.namespace(small, small, "60000"), ucred(7, 60000, 5), "uid"),
            (self.namespace(small, small, None), ucred(7, 65534, 5), "uid"),
        ):
            with self.assertRaises(CredentialsUnavailable) as raised:
                self.connection(kernel, cred)
            self.assertIn(f"/{name}_map", str(raised.exception))

    def test_mapped(self) -> None:
        """
        Where all IDs are mapped it is the user of that number.
        """
        peer = self.connection(self.namespace(), ucred(7, 65534, 65534))
        self.assertEqual((peer.uid, peer.gid), (65534, 65534))

    def test_unmappedGroup(self) -> None:
        """
        Groups of which one is not mapped are not the complete list.
        """
        groups = struct.pack("2I", 5, 65534)
        peer = self.connection(self.namespace(gidMap="0 0 1000\n"), _59=groups)
        self.assertIsNone(peer.groups)
        peer = self.connection(self.namespace(), _59=groups)
        self.assertEqual(peer.groups, (5, 100, 65534))

    def peek(self, message, kernel=None):
        """
        What one peeked message makes.
        """
        return (kernel or self.kernel).peekMessage(
            RecordedSocket(messages=[message]), Capture.FIRST_MESSAGE
        )

    def test_message(self) -> None:
        """
        A message says who wrote it, and no more than that.
        """
        peer = self.peek(credentialsMessage(b"x", ucred(7, 1000, 100))).credentials
        self.assertEqual((peer.uid, peer.gid, peer.pid), (1000, 100, 7))
        self.assertIs(peer.capture, Capture.FIRST_MESSAGE)
        self.assertIsNone(peer.groups)

    def test_outOfBand(self) -> None:
        """
        Before a look, bytes that were sent with C{MSG_OOB} are put in line;
        where they cannot be, nobody is identified.
        """
        message = credentialsMessage(b"x", ucred(7, 1000, 100))
        sock = RecordedSocket(messages=[message])
        self.kernel.peekMessage(sock, Capture.FIRST_MESSAGE)
        self.assertEqual(sock.sets, [(socket.SO_OOBINLINE, 1)])
        sock = RecordedSocket({socket.SO_OOBINLINE: OSError(1, "EPERM")}, [message])
        self.assertRaises(
            CredentialsUnavailable,
            self.kernel.peekMessage,
            sock,
            Capture.FIRST_MESSAGE,
        )

    def test_endOfFile(self) -> None:
        """
        The credentials of zeros at the end of the stream are nobody's
        (THREATS K1).
        """
        message = self.peek(credentialsMessage(b"", ucred(0, 0, 0)))
        self.assertEqual(message.data, b"")
        self.assertIsNone(message.credentials)

    def test_zeros(self) -> None:
        """
        Nor does any byte make them anybody's.
        """
        with self.assertRaises(CredentialsUnavailable) as raised:
            self.peek(credentialsMessage(b"x", ucred(0, 0, 0)))
        self.assertIn("Capture.CONNECT", str(raised.exception))

    def test_notAllZeros(self) -> None:
        """
        With one number that is none, they are somebody's; so are three that are
        the same.
        """
        for numbers in ((5, 0, 0), (0, 1000, 0), (0, 0, 100), (5, 5, 0), (5, 5, 5)):
            known = self.peek(credentialsMessage(b"x", ucred(*numbers))).credentials
            self.assertEqual((known.pid or 0, known.uid, known.gid), numbers)

    def test_messageFromOtherPIDNamespace(self) -> None:
        """
        pid 0 with another uid is a peer whose pid is not known (THREATS K8).
        """
        peer = self.peek(credentialsMessage(b"x", ucred(0, 1000, 100))).credentials
        self.assertEqual((peer.uid, peer.pid), (1000, None))

    def test_placeholder(self) -> None:
        """
        The placeholder is not nobody(65534), wherever that is mapped (THREATS
        K2).
        """
        message = credentialsMessage(b"x", ucred(0, 65534, 65534))
        self.assertRaises(CredentialsUnavailable, self.peek, message, self.namespace())

    def test_unmappedMessage(self) -> None:
        """
        A writer whose ID is not mapped is not known (THREATS K8).
        """
        message = credentialsMessage(b"x", ucred(7, 65534, 5))
        kernel = self.namespace(uidMap="0 0 10\n")
        self.assertRaises(CredentialsUnavailable, self.peek, message, kernel)
        self.assertEqual(self.peek(message, self.namespace()).credentials.uid, 65534)

    def test_noneOrSeveral(self) -> None:
        """
        No credentials, different ones, and truncated ones are no identity;
        the same twice are.
        """
        one, other = ucred(7, 1000, 100), ucred(8, 0, 0)
        for credentials in ((), (one, other), (other, one), (one[:8],)):
            self.assertRaises(
                CredentialsUnavailable,
                self.peek,
                credentialsMessage(b"x", *credentials),
            )
        self.peek(credentialsMessage(b"x", one, one))
        # Not even now that the first is known.
        for read in (self.peekMessages, self.receiveMessages):
            self.assertEqual(read(b"x", one).credentials.uid, 1000)
            self.assertRaises(CredentialsUnavailable, read, b"x", one, other)

    def peekMessages(self, data, *credentials):
        return self.peek(credentialsMessage(data, *credentials))

    def receiveMessages(self, data, *credentials):
        capture = Capture.FIRST_MESSAGE
        sock = RecordedSocket(messages=[credentialsMessage(data, *credentials)])
        return self.kernel.receiveMessage(sock, 1, False, capture)

    def receive(self, ancillary, descriptors, flags=0, capture=Capture.EVERY_MESSAGE):
        """
        What one received message with such control data makes.
        """
        return self.kernel.receiveMessage(
            RecordedSocket(messages=[(b"x", ancillary, flags, None)]),
            16,
            descriptors,
            capture,
        )

    def openPipes(self, count: int) -> bytes:
        """
        Some descriptors, packed as in C{SCM_RIGHTS}.
        """
        opened = []
        for _ in range(count):
            reader, writer = os.pipe()
            os.close(writer)
            opened.append(reader)
        return struct.pack(f"{count}i", *opened)

    def test_anyOrder(self) -> None:
        """
        Control messages are told apart by level and type, in any order and
        number; unknown ones are passed over, handles nobody asked for are
        closed (THREATS K5).
        """
        before = openDescriptors()
        first, second = self.openPipes(2), self.openPipes(1)
        message = self.receive(
            [
                (socket.SOL_SOCKET, 1, first),
                (socket.SOL_SOCKET, 3, b"label"),
                (0, 2, b"somebody else's"),
                (41, 2, b"another's"),
                (socket.SOL_SOCKET, 2, ucred(7, 1000, 100)),
                (socket.SOL_SOCKET, 4, self.openPipes(1)),
                (socket.SOL_SOCKET, 1, second + b"\x01\x02"),
            ],
            True,
        )
        self.assertEqual(message.credentials.uid, 1000)
        self.assertEqual(message.descriptors, list(struct.unpack("3i", first + second)))
        self.assertEqual(openDescriptors(), before + 3)
        for each in message.descriptors:
            os.close(each)

    def test_unwantedDescriptors(self) -> None:
        """
        Descriptors that nobody wants are closed (THREATS A8).
        """
        before = openDescriptors()
        rights = (socket.SOL_SOCKET, 1, self.openPipes(3))
        message = self.receive([rights], False, capture=None)
        self.assertEqual(message, Message(b"x", None, []))
        self.peek(
            (b"x", [(*rights[:2], self.openPipes(1)), (1, 2, ucred(7, 1, 1))], 8, 0)
        )
        self.assertEqual(openDescriptors(), before)

    def test_truncated(self) -> None:
        """
        Where descriptors are wanted and some were lost, none is kept (THREATS
        K4).
        """
        before = openDescriptors()
        other = socket.MSG_CMSG_CLOEXEC
        for flags in (socket.MSG_CTRUNC, socket.MSG_CTRUNC | other):
            rights = (socket.SOL_SOCKET, 1, self.openPipes(3))
            self.assertRaises(CredentialsTruncated, self.receive, [rights], True, flags)
        self.assertEqual(openDescriptors(), before)
        # Other flags say nothing of the kind.
        stamp = (socket.SOL_SOCKET, linux.SCM_CREDENTIALS, ucred(7, 1000, 100))
        self.assertEqual(self.receive([stamp], True, other).data, b"x")

    def test_closedOnError(self) -> None:
        """
        A message whose writer is not known leaves nothing open.
        """
        before = openDescriptors()
        rights = (socket.SOL_SOCKET, 1, self.openPipes(3))
        self.assertRaises(CredentialsUnavailable, self.receive, [rights], True)
        self.assertEqual(openDescriptors(), before)

    def test_noNumberForMessages(self) -> None:
        """
        An architecture without a number for C{SO_PASSCRED} has no message-time
        credentials.
        """
        self.kernel.options = self.kernel.options._replace(passCred=None)
        self.assertRaises(OSError, self.kernel.askForMessages, RecordedSocket())
        self.kernel.checkCapture(Capture.CONNECT)
        self.assertRaises(
            CredentialsUnsupported, self.kernel.checkCapture, Capture.EVERY_MESSAGE
        )

    def test_refuseDescriptors(self) -> None:
        """
        C{SO_PASSRIGHTS} is set where it is there, and not tried twice where it
        is not.
        """
        sock = RecordedSocket()
        self.kernel.setDescriptorsWanted(sock, False)
        self.assertEqual(sock.sets, [(83, False)])
        refusing = RecordedSocket({83: OSError(92, "ENOPROTOOPT")})
        self.kernel.setDescriptorsWanted(refusing, False)
        self.kernel.setDescriptorsWanted(sock, False)
        self.assertEqual(sock.sets, [(83, False)])


class ProbeTests(SynchronousTestCase):
    """
    Tests for L{Linux.probes}.
    """

    def test_turnedOff(self) -> None:
        """
        C{SO_PASSRIGHTS} is asked for by turning it off.
        """
        sock = RecordedSocket()
        (probe,) = [
            each for each in Linux("x86_64").probes() if each.name == "SO_PASSRIGHTS"
        ]
        probe.ask(sock, RecordedSocket())
        self.assertEqual(sock.sets, [(83, 0)])

    def test_realMessage(self) -> None:
        """
        This kernel's message says who wrote it.
        """
        ours, theirs = socket.socketpair()
        (probe,) = [
            each for each in thisKernel().probes() if each.name == "SO_PASSCRED"
        ]
        with ours, theirs:
            self.assertIn(f"uid={os.getuid()} ", probe.ask(ours, theirs))

    def ask(self, kernel, answers):
        """
        What each of them gives, or the error's name.
        """
        said = {}
        for probe in kernel.probes():
            message = credentialsMessage(b"?", ucred(7, 1000, 100))
            try:
                said[probe.name] = probe.ask(
                    RecordedSocket(answers, [message]), RecordedSocket()
                )
            except OSError as error:
                said[probe.name] = errno.errorcode[error.errno]
        return said

    def test_probes(self) -> None:
        """
        Each option says what it gave, by itself.
        """
        answers = {17: ucred(7, 1000, 100), 59: bytes(12), 31: b"label\0"}
        self.assertEqual(
            self.ask(Linux("x86_64"), answers),
            {
                "SO_PEERCRED": "pid=7 uid=1000 gid=100",
                "SO_PEERGROUPS": "3 groups",
                "SO_PEERSEC": ascii(b"label\0"),
                "SO_PASSCRED": "uid=1000 gid=100 pid=7",
                "SO_PASSRIGHTS": "off",
            },
        )

    def test_unknownArchitecture(self) -> None:
        """
        What has no known number is not there.
        """
        kernel = Linux("x86_64")
        kernel.options = linux.Options(None, None, None, None, None)
        self.assertEqual(set(self.ask(kernel, {}).values()), {"ENOPROTOOPT"})


class ThisKernelTests(SynchronousTestCase):
    """
    Tests for L{thisKernel} and for the real kernel.
    """

    def test_linux(self) -> None:
        """
        On Linux it is L{Linux}, made once.
        """
        self.assertIsInstance(thisKernel(), Linux)
        self.assertIs(thisKernel(), thisKernel())

    def test_protocol(self) -> None:
        """
        It has every method that a server calls.
        """
        for name in vars(Kernel):
            if not name.startswith("_"):
                self.assertTrue(callable(getattr(Linux, name)), name)

    def test_captures(self) -> None:
        """
        All captures are there, tried on real sockets, and nothing stays open.
        """
        before = openDescriptors()
        for capture in Capture:
            thisKernel().checkCapture(capture)
        self.assertEqual(openDescriptors(), before)

    def test_unstamped(self) -> None:
        """
        A kernel whose messages are not stamped is found out.
        """

        class Silent(Linux):
            def askForMessages(self, sock):
                pass

        for capture in (Capture.FIRST_MESSAGE, Capture.EVERY_MESSAGE):
            self.assertRaises(CredentialsUnsupported, Silent().checkCapture, capture)

    def test_look(self) -> None:
        """
        A look takes one byte, and leaves it where it is.
        """
        kernel = thisKernel()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            kernel.askForMessages(ours)
            theirs.send(b"xyz")
            for _ in range(2):
                message = kernel.peekMessage(ours, Capture.FIRST_MESSAGE)
                self.assertEqual(message.data, b"x")
                self.assertEqual(message.credentials.uid, os.getuid())
            self.assertEqual(ours.recv(10), b"xyz")

    def test_asManyAsThereMayBe(self) -> None:
        """
        There is room for as many descriptors as the kernel sends at once
        (C{SCM_MAX_FD}, 253), and for the credentials.
        """
        kernel = thisKernel()
        ours, theirs = socket.socketpair()
        with ours, theirs, open(os.devnull) as null:
            kernel.askForMessages(ours)
            rights = struct.pack("i", null.fileno()) * 253
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            message = kernel.receiveMessage(ours, 1, True, Capture.EVERY_MESSAGE)
            self.assertEqual(len(message.descriptors), 253)
            closeAll(message.descriptors)

    def test_exhausted(self) -> None:
        """
        A real kernel that cannot install all descriptors for want of room in
        this process's table is a truncation, and what it did install is
        closed (THREATS K4).
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            null = os.open(os.devnull, os.O_RDONLY)
            self.addCleanup(os.close, null)
            theirs.sendmsg(
                [b"x"], [(socket.SOL_SOCKET, 1, struct.pack("i", null) * 10)]
            )
            # The table is as large as the highest number in it, and three.
            before = openDescriptors()
            highest = max(map(int, os.listdir("/proc/self/fd")))
            filler = []
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 3, limits[1]))
            try:
                while True:
                    filler.append(os.dup(null))
            except OSError:
                os.close(filler.pop())
                os.close(filler.pop())
                self.assertRaises(
                    CredentialsTruncated,
                    thisKernel().receiveMessage,
                    ours,
                    10,
                    True,
                    None,
                )
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for each in filler:
                    os.close(each)
            self.assertEqual(openDescriptors(), before)
