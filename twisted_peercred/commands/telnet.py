"""
The client's side of telnet, without a socket and without a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import pack

# RFC 854, 857, 858, 1073.
IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
ECHO, SGA, NAWS = 1, 3, 31


class Telnet:
    """
    The client's side of telnet: bytes in, bytes out.

    @param size: the window's columns and lines, now; L{None} without a window.
    """

    def __init__(self, size: Callable[[], tuple[int, int] | None]) -> None:
        self._size = size
        self._sendsSize = False
        self._pending = b""

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """
        @return: what is for the terminal, and what has to be answered.
        """
        data, self._pending = self._pending + data, b""
        shown, answer = bytearray(), bytearray()
        position = 0
        while (start := data.find(IAC, position)) >= 0:
            shown += data[position:start]
            position = self._command(data, start, shown, answer)
            if position == start:
                # The rest of it is still to come.
                self._pending = data[start:]
                return bytes(shown), bytes(answer)
        shown += data[position:]
        return bytes(shown), bytes(answer)

    def _command(
        self, data: bytes, start: int, shown: bytearray, answer: bytearray
    ) -> int:
        """
        @return: where what follows the command begins; C{start}, if it is not
            all there.
        """
        verb = data[start + 1 : start + 2]
        if verb == bytes([IAC]):
            shown.append(IAC)
        elif verb == bytes([SB]):
            end = data.find(bytes([IAC, SE]), start)
            return start if end < 0 else end + 2
        elif verb and verb[0] >= WILL:
            if len(data) < start + 3:
                return start
            answer += self._negotiate(verb[0], data[start + 2])
            return start + 3
        return start + 2 if verb else start

    def _negotiate(self, verb: int, option: int) -> bytes:
        if verb == WILL:
            return bytes([IAC, DO if option in (ECHO, SGA) else DONT, option])
        if verb == DO:
            if option == NAWS and self._size() is not None:
                self._sendsSize = True
                return bytes([IAC, WILL, NAWS]) + self.resized()
            return bytes([IAC, WILL if option == SGA else WONT, option])
        # DONT and WONT say what is so already.
        return b""

    def resized(self) -> bytes:
        """
        @return: what tells the server the window's size, if it wants to know.
        """
        size = self._size()
        if not self._sendsSize or size is None:
            return b""
        return bytes([IAC, SB, NAWS]) + _escape(pack("!HH", *size)) + bytes([IAC, SE])

    def send(self, keys: bytes) -> bytes:
        """
        @return: what carries keys to the server.
        """
        # A carriage return by itself is followed by a NUL, RFC 854.
        return re.sub(rb"\r(?!\n)", b"\r\0", _escape(keys))


def _escape(data: bytes) -> bytes:
    return data.replace(b"\xff", b"\xff\xff")
