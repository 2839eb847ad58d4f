"""
Tests for L{twisted_peercred.commands.telnet}.
"""

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_peercred.commands.telnet import (
    DO,
    DONT,
    ECHO,
    IAC,
    NAWS,
    SB,
    SE,
    SGA,
    WILL,
    WONT,
    Telnet,
)

LINEMODE = 34


class TelnetTests(SynchronousTestCase):
    """
    Tests for L{Telnet}.
    """

    def exchange(self, *data: bytes, size=(80, 24)) -> tuple[bytes, bytes]:
        """
        @return: all that is shown, and all that is answered.
        """
        telnet = Telnet(lambda: size)
        both = [telnet.receive(each) for each in data]
        return b"".join(each for each, _ in both), b"".join(each for _, each in both)

    def test_text(self) -> None:
        """
        Text is shown; an escaped 255 is one 255, either way, and the return
        key is what telnet makes of it.
        """
        self.assertEqual(self.exchange(b"a\xff\xffb"), (b"a\xffb", b""))
        self.assertEqual(Telnet(lambda: None).send(b"a\xffb"), b"a\xff\xffb")
        self.assertEqual(Telnet(lambda: None).send(b"a\rb\r\nc\r"), b"a\r\0b\r\nc\r\0")

    def test_negotiation(self) -> None:
        """
        The server may echo, and is told the window's size; all else is
        declined, and what is declined already is not answered.
        """
        said = bytes(
            [
                *(IAC, WILL, ECHO, IAC, WILL, SGA, IAC, WILL, LINEMODE),
                *(IAC, DO, NAWS, IAC, DO, SGA, IAC, DO, LINEMODE),
                *(IAC, DONT, ECHO, IAC, WONT, ECHO, IAC, 241),
                *(IAC, SB, LINEMODE, 1, 2, IAC, SE),
            ]
        )
        answer = bytes(
            [
                *(IAC, DO, ECHO, IAC, DO, SGA, IAC, DONT, LINEMODE),
                *(IAC, WILL, NAWS, IAC, SB, NAWS, 0, 80, 0, 24, IAC, SE),
                *(IAC, WILL, SGA, IAC, WONT, LINEMODE),
            ]
        )
        self.assertEqual(self.exchange(b"a", said, b"b"), (b"ab", answer))
        pieces = [bytes([each]) for each in said]
        self.assertEqual(self.exchange(b"a", *pieces, b"b"), (b"ab", answer))

    def test_noWindow(self) -> None:
        """
        What is no window has no size to tell.
        """
        asked = bytes([IAC, DO, NAWS])
        self.assertEqual(
            self.exchange(asked, size=None), (b"", bytes([IAC, WONT, NAWS]))
        )
        telnet = Telnet(lambda: None)
        telnet._sendsSize = True
        self.assertEqual(telnet.resized(), b"")

    def test_resized(self) -> None:
        """
        A new size is told if it was asked for, with a 255 in it escaped.
        """
        telnet = Telnet(lambda: (255, 24))
        self.assertEqual(telnet.resized(), b"")
        telnet.receive(bytes([IAC, DO, NAWS]))
        self.assertEqual(
            telnet.resized(), bytes([IAC, SB, NAWS, 0, 255, 255, 0, 24, IAC, SE])
        )

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=8))
    def test_pieces(self, data, cuts) -> None:
        """
        It does not matter in what pieces the bytes come, whatever they are.
        """
        data = data.replace(b"\x01", bytes([IAC])).replace(b"\x02", bytes([IAC, SB]))
        places = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
        pieces = [data[a:b] for a, b in itertools.pairwise(places)]
        self.assertEqual(self.exchange(*pieces), self.exchange(data))
