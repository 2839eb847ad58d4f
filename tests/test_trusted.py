"""
Tests for L{twisted_peercred.trusted}: real files of real users.
"""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import Policy, PolicyError, trusted
from twisted_peercred.errors import visible
from twisted_peercred.trusted import readTrusted

from .support import needsRoot, openDescriptors


class TrustedTests(SynchronousTestCase):
    """
    Tests for L{readTrusted}.
    """

    def setUp(self) -> None:
        # Below /tmp, which is sticky.
        self.directory = tempfile.mkdtemp(prefix="pc", dir="/tmp")
        os.chmod(self.directory, 0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = os.path.join(self.directory, "rules")
        self.write(b"root\n")
        before = openDescriptors()
        self.addCleanup(lambda: self.assertEqual(openDescriptors(), before))

    def write(self, data: bytes) -> None:
        """
        Have a file there that can be trusted.
        """
        with open(self.path, "wb") as file:
            file.write(data)
        os.chmod(self.path, 0o644)

    def refused(self, word: str, path=None) -> PolicyError:
        """
        The file is refused, with a word on it.
        """
        path = path or self.path
        error = self.assertRaises(PolicyError, readTrusted, path)
        self.assertIn(word, str(error))
        self.assertTrue(str(error).startswith(f"{visible(path)}: "), str(error))
        self.assertEqual((error.line, error.column, error.source), (None, None, path))
        return error

    def test_good(self) -> None:
        """
        A file of ours is read: by its path as text, as bytes or as an object,
        and relative to the working directory.
        """
        # The checkout may be where others can write.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)
        for path in (self.path, os.fsencode(self.path), "rules", Path("./rules")):
            self.assertEqual(readTrusted(path), "root\n")
        self.assertEqual(Policy.fromFile(self.path), Policy.fromString("root"))

    def test_mistakeInFile(self) -> None:
        """
        A mistake in the text is named with the file.
        """
        self.write("# h\u00f6he\nroot\n any,uid/x\n".encode())
        error = self.assertRaises(PolicyError, Policy.fromFile, self.path)
        self.assertEqual((error.line, error.column, error.source), (3, 10, self.path))
        self.assertTrue(str(error).startswith(f"{self.path}:3:10: "))

    def test_notUTF8(self) -> None:
        """
        A byte that is no text is a mistake with a place too.
        """
        self.write("# h\u00f6he\n\u00f6\xe9".encode("utf-8") + b"x\xff")
        error = self.assertRaises(PolicyError, readTrusted, self.path)
        self.assertEqual((error.line, error.column), (2, 4))
        self.assertIn("0xff", error.problem)

    def test_unreadable(self) -> None:
        """
        What cannot be opened is said in the system's words.
        """
        self.refused("No such file", self.path + "x")
        self.refused("Not a directory", self.path + "/x")
        self.refused("it is a directory", self.directory)
        self.refused("it is a directory", "/")
        self.refused("null", self.path + "\0")
        os.symlink("loop", os.path.join(self.directory, "loop"))
        self.refused("symbolic links", os.path.join(self.directory, "loop"))

    def test_noFile(self) -> None:
        """
        A FIFO, a socket, a device is refused and not waited for.
        """
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.refused("no regular file")
        os.unlink(self.path)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.path)
            self.refused("cannot be read")
        self.refused("", "/dev/null")

    def test_writableFile(self) -> None:
        """
        A file that its group or anybody may write is refused.
        """
        for mode in (0o664, 0o646, 0o622, 0o1666):
            os.chmod(self.path, mode)
            self.refused("chmod go-w")

    def test_writableDirectory(self) -> None:
        """
        So is one in a directory, however far above, that others may write;
        unless its sticky bit keeps them from replacing what is ours.
        """
        below = os.path.join(self.directory, "a", "b")
        os.makedirs(below)
        path = os.path.join(below, "rules")
        shutil.move(self.path, path)
        for mode in (0o775, 0o757, 0o777):
            for directory in (self.directory, below):
                os.chmod(directory, mode)
                error = self.refused(f"chmod go-w {directory}", path)
                self.assertIn(f"mode {mode:o}", str(error))
                os.chmod(directory, 0o755)
        os.chmod(below, 0o1777)
        self.assertEqual(readTrusted(path), "root\n")

    @skipIf(needsRoot, needsRoot)
    def test_owner(self) -> None:
        """
        A file, a directory or a symbolic link of another user's is refused.
        """
        os.chown(self.path, 1000, 1000)
        self.refused("belongs to uid 1000")
        os.chown(self.path, 0, 1000)
        self.assertEqual(readTrusted(self.path), "root\n")
        os.chown(self.directory, 1000, 1000)
        self.refused("belongs to uid 1000")
        os.chown(self.directory, 0, 0)
        link = os.path.join(self.directory, "link")
        os.symlink(self.path, link)
        self.assertEqual(readTrusted(link), "root\n")
        os.lchown(link, 1000, 1000)
        self.refused("link belongs to uid 1000", link)

    @skipIf(needsRoot, needsRoot)
    def test_asUser(self) -> None:
        """
        A server of another user believes its own files and root's.
        """
        os.seteuid(1000)
        try:
            self.assertEqual(readTrusted(self.path), "root\n")
            self.refused("Permission denied", "/etc/shadow")
        finally:
            os.seteuid(0)
        os.chown(self.directory, 1000, 1000)
        os.chown(self.path, 1000, 1000)
        self.refused("belongs to uid 1000")
        os.seteuid(1000)
        try:
            self.assertEqual(readTrusted(self.path), "root\n")
        finally:
            os.seteuid(0)

    def test_links(self) -> None:
        """
        The way behind a symbolic link is looked at like any other.
        """
        safe = os.path.join(self.directory, "safe")
        unsafe = os.path.join(self.directory, "unsafe")
        for each in (safe, unsafe):
            os.mkdir(each, 0o755)
        shutil.copy(self.path, unsafe)
        os.symlink("../unsafe", os.path.join(safe, "relative"))
        os.symlink(unsafe, os.path.join(safe, "absolute"))
        for each in ("relative", "absolute"):
            path = os.path.join(safe, each, "rules")
            self.assertEqual(readTrusted(path), "root\n")
            os.chmod(unsafe, 0o777)
            self.refused("unsafe", path)
            os.chmod(unsafe, 0o755)
        # To the kernel, the directory above is that of the link's target.
        os.symlink(unsafe, os.path.join(self.directory, "deep"))
        self.assertEqual(
            readTrusted(os.path.join(self.directory, "deep", "..", "rules")), "root\n"
        )

    def test_changedMeanwhile(self) -> None:
        """
        A file that grows while it is read, and may be half of itself, is
        refused.
        """
        dup = os.dup

        def dupAndWrite(descriptor):
            with open(self.path, "ab") as file:
                file.write(b"any\n")
            return dup(descriptor)

        self.patch(os, "dup", dupAndWrite)
        self.refused("changed while it was read")

    def test_tooLong(self) -> None:
        """
        A file of a size that no policy has is not read.
        """
        self.patch(trusted, "MAX_SIZE", 4)
        self.refused("more than 4 bytes")
