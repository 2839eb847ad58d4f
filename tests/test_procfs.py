"""
Tests for L{twisted_peercred.kernels.procfs}.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.kernels import procfs

STAT = (
    b"4711 (%s) S 1 4711 4711 0 -1 4194560 109 0 0 0 0 0 0 0 20 0 1 0 %d 2568192 204"
    b" 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 7 8 9 10 11 12 13"
    b" %d\n"
)


class ProcFSTests(SynchronousTestCase):
    """
    Tests for the decoders.
    """

    def test_status(self) -> None:
        """
        Fields by their names; a name with a newline, which the kernel escapes,
        stays one field.
        """
        fields = procfs.decodeStatus(
            b"Name:\tx\\nUid:\\t0\nUmask:\t0022\nUid:\t1000\t1000\t1000\t1000\n\xff:\n"
        )
        self.assertEqual(fields["Uid"], "1000\t1000\t1000\t1000")
        self.assertEqual(fields["Name"], "x\\nUid:\\t0")
        self.assertEqual(fields["\\xff"], "")

    def test_commandLine(self) -> None:
        """
        Arguments of any bytes, empty ones among them; none for a thread of the
        kernel.
        """
        for data, words in (
            (b"", ()),
            (b"a\0", (b"a",)),
            (b"a\0\0b\xff c\0", (b"a", b"", b"b\xff c")),
            # A process may overwrite them.
            (b"unended", (b"unended",)),
        ):
            self.assertEqual(procfs.decodeCommandLine(data), words)

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=16).filter(lambda name: b"\0" not in name))
    def test_stat(self, name: bytes) -> None:
        """
        The command's name, whatever is in it, moves no field.
        """
        data = STAT % (name, 250, 256)
        self.assertEqual(procfs.decodeStartTime(data) * 4, 10.0)
        self.assertEqual(procfs.decodeExitStatus(data), 256)

    def test_cgroup(self) -> None:
        """
        The path is that of systemd's own hierarchy, else the unified one.
        """
        for data, path in (
            (b"0::/system.slice/a.service\n", "/system.slice/a.service"),
            (b"9:name=systemd:/s\n8:pids:/p\n1:cpu,cpuacct:/c:d\n0::/\n", "/s"),
            (b"4:memory:/m\n", None),
            (b"0::/a:b\xff\n", "/a:b\udcff"),
            (b"", None),
        ):
            self.assertEqual(procfs.decodeCgroup(data), path)

    def test_otherLineEnds(self) -> None:
        """
        Neither a process's name nor that of a cgroup, which users make too, adds
        a line: the kernel keeps them from a newline alone.
        """
        for end in "\r\v\f\x1c\x1d\x1e\x85\u2028":
            path = f"/user.slice/x{end}0::/system.slice/sshd.service"
            data = f"0::{path}\n".encode()
            self.assertEqual(procfs.decodeCgroup(data), path)
            name = f"x{end}CapEff:\tf"
            status = procfs.decodeStatus(f"Name:\t{name}\nUid:\t7\n".encode())
            self.assertEqual(list(status), ["Name", "Uid"])

    def test_unit(self) -> None:
        """
        The unit is the first below the slices: what a unit, or a user's own
        service manager, has made further down is not taken for one.
        """
        for path, unit in (
            ("/system.slice/ssh.service", "ssh.service"),
            ("/system.slice/ssh.service/evil.service", "ssh.service"),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                "getty@tty1.service",
            ),
            ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/ssh.service",
                "user@1000.service",
            ),
            ("/init.scope", "init.scope"),
            ("/system.slice/_cpu.service", "cpu.service"),
            ("/system.slice/a\\x2db.service", "a\\x2db.service"),
            ("/system.slice", None),
            ("/", None),
            ("", None),
            ("/docker/0123456789ab/system.slice/ssh.service", None),
            # Outside of this process's cgroup namespace.
            ("/../../system.slice/ssh.service", None),
            ("/system.slice/../ssh.service", None),
            ("/system.slice/ssh.service\n", None),
            ("/system.slice/.service", None),
        ):
            self.assertEqual(procfs.unitOf(path), unit, path)
