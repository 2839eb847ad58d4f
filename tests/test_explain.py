"""
Tests for L{twisted_peercred.commands.explain}.
"""

import io
import os
import pwd
import shutil
import sys
import tempfile
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred import PeerCredentials, Policy
from twisted_peercred.__main__ import main
from twisted_peercred.commands import explain

from .support import needsRoot


class Terminal(io.StringIO):
    """
    Somewhere that colours can be seen.
    """

    def isatty(self) -> bool:
        return True


class ExplainTests(SynchronousTestCase):
    """
    Tests for C{peercred explain}.
    """

    def explain(self, *arguments: str, stdout=None) -> tuple[int, list[str]]:
        """
        @return: the exit status, and the lines.
        """
        stdout, stderr = stdout or io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", stdout)
        self.patch(sys, "stderr", stderr)
        status = main(["explain", *arguments])
        return status, (stdout.getvalue() + stderr.getvalue()).splitlines()

    def test_decided(self) -> None:
        """
        Each rule has a line, with its place, and why it decides or does not;
        the last line is the decision.
        """
        status, lines = self.explain(
            *("--rules", "!uid/7,gid/20-30,any", "--uid", "5"),
            *("--gid", "10", "--groups", "10,27"),
        )
        self.assertEqual(
            (status, lines),
            (
                0,
                [
                    "uid=5 gid=10 groups=10,27",
                    "",
                    "1  !uid/7     does not match: uid 5 is not 7",
                    "1  gid/20-30  admits: its group 27 is one of 20-30",
                    "1  any        not asked",
                    "",
                    "admitted by gid/20-30, line 1",
                ],
            ),
        )

    def test_refused(self) -> None:
        """
        A refusal is a status of its own.
        """
        for rules, last in (
            ("!uid/5,any", "refused by !uid/5, line 1"),
            ("root", "refused: no rule admits it"),
        ):
            status, lines = self.explain("--rules", rules, "--uid", "5")
            self.assertEqual((status, lines[-1]), (explain.REFUSED, last))
            self.assertEqual(lines[0], "uid=5")

    def test_words(self) -> None:
        """
        Whatever a condition makes of somebody has words.
        """
        me = os.geteuid()
        known = PeerCredentials(uid=5, gid=10, groups=(10, 27), securityLabel=b"a\n")
        unknown = PeerCredentials(uid=5, gid=10)
        for rule, peer, words in (
            ("any", known, "admits: it is anybody"),
            ("!any", known, "refuses: it is anybody"),
            (
                "self",
                known,
                f"does not match: uid 5 is not {me}, which runs this command",
            ),
            (
                "self",
                PeerCredentials(uid=me, gid=0),
                f"admits: uid {me} is {me}, which runs this command",
            ),
            ("root", known, "does not match: uid 5 is not 0"),
            ("uid/5", known, "admits: uid 5 is 5"),
            ("uid/6-7", known, "does not match: uid 5 is not one of 6-7"),
            ("gid/10", known, "admits: gid 10 is 10"),
            ("gid/27", known, "admits: its group 27 is 27"),
            (
                "gid/7",
                known,
                "does not match: neither gid 10 nor one of its groups is 7",
            ),
            (
                "gid/7",
                unknown,
                "does not admit, as it might not match: gid 10 is not 7, and its"
                " groups are not known",
            ),
            (
                "!gid/7+uid/5",
                unknown,
                "refuses, as it might match: gid 10 is not 7, and its groups are not"
                " known",
            ),
            ("label/a*", known, "admits: its label a\\n is like that"),
            ("label/b", known, "does not match: its label a\\n is not like that"),
            (
                "label/a",
                unknown,
                "does not admit, as it might not match: its label is not known",
            ),
            ("uid/5+gid/10", known, "admits: uid 5 is 5, and gid 10 is 10"),
            ("uid/5+uid/6+uid/7", known, "does not match: uid 5 is not 6"),
        ):
            (parsed,) = Policy.fromString(rule).rules
            self.assertEqual(explain.explanation(parsed, peer), words)

    def test_agreesWithPolicy(self) -> None:
        """
        The row that decides is the one that the policy says.
        """
        rules = Policy.fromString("gid/7\n!label/x\nuid/5,any")
        peer = PeerCredentials(uid=5, gid=10)
        rows = list(explain.table(rules, peer, True))
        decision = rules.decide(peer)
        (row,) = [each for each in rows if each.startswith("\x1b[31m")]
        self.assertIn(decision.rule, row)
        (row,) = explain.table(Policy.fromString("any"), peer, True)
        self.assertTrue(row.startswith("\x1b[32m"))

    def test_colour(self) -> None:
        """
        There are colours on a terminal, and nowhere else.
        """
        arguments = ("--rules", "root", "--uid", "0")
        self.assertNotIn("\x1b", "".join(self.explain(*arguments)[1]))
        self.assertIn("\x1b", "".join(self.explain(*arguments, stdout=Terminal())[1]))

    def test_withoutGroup(self) -> None:
        """
        C{--uid} alone will do where no rule that is asked is about groups.
        """
        for rules in ("root,gid/7", "uid/5+gid/7,root", "!gid/7+uid/5,any"):
            self.assertEqual(self.explain("--rules", rules, "--uid", "0")[0], 0)
        status, lines = self.explain("--rules", "gid/7,root", "--uid", "0")
        self.assertEqual(
            (status, lines), (1, ["peercred: gid/7 asks for groups: give --gid"])
        )

    def test_user(self) -> None:
        """
        A user is taken with the groups of the databases.
        """
        root = pwd.getpwuid(0)
        status, lines = self.explain("--rules", "group/root", "--user", root.pw_name)
        self.assertEqual(status, 0)
        groups = sorted({root.pw_gid, *os.getgrouplist(root.pw_name, root.pw_gid)})
        listed = ",".join(map(str, groups))
        self.assertEqual(lines[0], f"uid=0 gid={root.pw_gid} groups={listed}")

    def test_process(self) -> None:
        """
        A process is taken as a server would see it connect.
        """
        pid = os.getpid()
        status, lines = self.explain("--rules", "self", "--pid", str(pid))
        self.assertEqual(status, 0)
        groups = ",".join(map(str, sorted({os.getegid(), *os.getgroups()})))
        self.assertTrue(
            lines[0].startswith(
                f"uid={os.geteuid()} gid={os.getegid()} groups={groups} pid={pid}"
            ),
            lines[0],
        )

    @skipIf(needsRoot, needsRoot)
    def test_effective(self) -> None:
        """
        Its effective IDs count.
        """
        os.setegid(1001)
        os.seteuid(1000)
        try:
            peer = explain.ofProcess(os.getpid(), None)
        finally:
            os.seteuid(0)
            os.setegid(0)
        self.assertEqual((peer.uid, peer.gid), (1000, 1001))

    def test_label(self) -> None:
        """
        The label is the process's own, where a security module gives labels,
        or the one that is given.
        """
        proc = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, proc)
        os.makedirs(os.path.join(proc, "7", "attr"))
        with open(os.path.join(proc, "7", "status"), "w", newline="") as file:
            file.write(
                "Name:\tx\rUid:\t0\nUmask\nUid:\t1\t2\t3\t4\n"
                "Gid:\t5\t6\t7\t8\nGroups:\t9 10 \n"
            )
        peer = explain.ofProcess(7, None, proc)
        self.assertEqual(peer, PeerCredentials(uid=2, gid=6, groups=(6, 9, 10), pid=7))
        for written, label in ((b"a (enforce)\n", b"a (enforce)"), (b"\0", None)):
            with open(os.path.join(proc, "7", "attr", "current"), "wb") as file:
                file.write(written)
            self.assertEqual(explain.ofProcess(7, None, proc).securityLabel, label)
        self.assertEqual(explain.ofProcess(7, b"x", proc).securityLabel, b"x")
        status, lines = self.explain(
            "--rules", "label/x?z", "--uid", "5", "--label", "x:z"
        )
        self.assertEqual(status, 0, lines)

    def test_file(self) -> None:
        """
        The policy may be a file, and is believed like any other.
        """
        directory = tempfile.mkdtemp(dir="/tmp")
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "rules")
        with open(path, "w") as file:
            file.write("# who\n\nroot\n" + "\n" * 10 + "any")
        os.chmod(path, 0o644)
        status, lines = self.explain("--rules-file", path, "--uid", "5")
        self.assertEqual(status, 0)
        self.assertEqual(
            lines[2:4],
            [
                " 3  root  does not match: uid 5 is not 0",
                "14  any   admits: it is anybody",
            ],
        )
        os.chmod(path, 0o666)
        status, lines = self.explain("--rules-file", path, "--uid", "5")
        self.assertEqual(status, 1)
        self.assertIn("chmod go-w", lines[0])

    def test_mistakes(self) -> None:
        """
        A mistake is one line.
        """
        for arguments, word in (
            ((), "give one of --rules, --rules-file"),
            (("--rules", "any"), "give one of --uid, --user, --pid"),
            (("--rules", "any", "--uid", "1", "--pid", "1"), "give one of"),
            (("--rules", "any", "--rules-file", "x", "--uid", "1"), "give one of"),
            (("--rules", "any", "--pid", "1", "--gid", "1"), "--gid goes with --uid"),
            (
                ("--rules", "any", "--uid", "1", "--groups", "1"),
                "--groups goes with --gid",
            ),
            (("--rules", "uid/x", "--uid", "1"), "--rules:1:5: 'x' is not"),
            (("--rules", "any", "--uid", "x"), "--uid is a number from 0"),
            (("--rules", "any", "--uid", "\u00b2"), "--uid is a number"),
            (("--rules", "any", "--uid", "4294967295"), "--uid is a number"),
            (("--rules", "any", "--uid", "0" * 5000), "--uid is a number"),
            (
                ("--rules", "any", "--uid", "1", "--gid", "1", "--groups", "1,x"),
                "--groups is a number",
            ),
            (("--rules", "any", "--user", "no-such-user"), "no user called"),
            (("--rules", "any", "--pid", "4294967294"), "cannot look at process"),
        ):
            status, lines = self.explain(*arguments)
            self.assertEqual((status, len(lines)), (1, 1), arguments)
            self.assertIn(word, lines[0])

    def test_controlCharacters(self) -> None:
        """
        What is shown of a path does nothing to a terminal.
        """
        for path in ("nope\x1b[31m", "/nope\n\x9b/x"):
            status, lines = self.explain("--rules-file", path, "--uid", "5")
            self.assertEqual((status, len(lines)), (1, 1))
            self.assertTrue(lines[0].isprintable(), lines)
        self.assertIn("/nope\\n\\x9b/x: cannot be read", lines[0])

    def test_help(self) -> None:
        """
        The usage teaches by example.
        """
        stdout = io.StringIO()
        self.patch(sys, "stdout", stdout)
        with self.assertRaises(SystemExit) as raised:
            main(["explain", "--help"])
        self.assertEqual(raised.exception.code, 0)
        text = stdout.getvalue()
        self.assertTrue(text.startswith("Usage: peercred explain ("), text)
        self.assertIn("\npeercred explain --rules '!user/nobody", text)
