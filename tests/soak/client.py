"""
A user who does all that a peer can do, well-behaved or not, for a time; run as
a program that needs nothing but Python's own library::

    python client.py UID SECONDS DIRECTORY [DIRECTORY ...]

Prints what came of it as one JSON object.
"""

import array
import collections
import contextlib
import json
import os
import random
import socket
import sys
import time

WORD = b"sync"
#: Who is never let in, by any of the policies.
REFUSED = 2007


class Wrong(Exception):
    """
    The server took this process for somebody else, or bytes were lost.
    """


class User:
    """
    One user's process.

    @ivar counts: how often what came of a connection.
    """

    def __init__(self, directories: list[str], seed: int) -> None:
        self.directories = directories
        self.random = random.Random(seed)
        self.counts: collections.Counter[str] = collections.Counter()
        self.held: list[socket.socket] = []

    def connect(self, capture: str) -> socket.socket:
        """
        A connection to the server of a capture.
        """
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(60)
        peer.connect(os.path.join(self.random.choice(self.directories), capture))
        self.counts["connections"] += 1
        return peer

    def readAll(self, peer: socket.socket) -> bytes:
        """
        What the server sends until it closes.
        """
        data = []
        try:
            while more := peer.recv(65536):
                data.append(more)
        except ConnectionResetError:
            pass
        return b"".join(data)

    def check(self, answer: bytes, body: bytes) -> None:
        """
        What a server answered to some bytes.

        @raise Wrong: it is neither nothing nor what it has to be.
        """
        if not answer:
            self.counts["refused"] += 1
            return
        greeting, _, echo = answer.partition(b"\n")
        expected = f"{os.getuid()} {os.getgid()} {os.getpid()}".encode()
        if greeting != expected or echo != body or os.getuid() == REFUSED:
            raise Wrong(f"{greeting!r} for {expected!r}, {len(echo)} of {len(body)}")
        self.counts["identified"] += 1

    def send(self, peer: socket.socket, data: bytes) -> None:
        """
        Send to a server that may have closed already.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer.sendall(data)

    def echo(self, capture: str) -> None:
        """
        A peer that does as it should.
        """
        body = self.random.randbytes(self.random.randint(1, 4096))
        with self.connect(capture) as peer:
            self.send(peer, WORD + body)
            peer.shutdown(socket.SHUT_WR)
            self.check(self.readAll(peer), body)

    def slowly(self, capture: str) -> None:
        """
        Byte for byte.
        """
        with self.connect(capture) as peer:
            for byte in WORD + b"body":
                self.send(peer, bytes([byte]))
            peer.shutdown(socket.SHUT_WR)
            self.check(self.readAll(peer), b"body")

    def reset(self, capture: str) -> None:
        """
        Go with the answer unread.
        """
        with self.connect(capture) as peer:
            self.send(peer, WORD + bytes(1000))

    def silent(self, capture: str) -> None:
        """
        Go without a word.
        """
        with self.connect(capture) as peer:
            if self.random.random() < 0.5:
                peer.shutdown(socket.SHUT_WR)
                self.expectNothing(peer)

    def stall(self, capture: str) -> None:
        """
        Stay without a word, or with half of one, and let the server end it.
        """
        peer = self.connect(capture)
        self.send(peer, WORD[: self.random.randint(0, 3)])
        self.held.append(peer)
        if len(self.held) > 30:
            for each in self.held:
                with each:
                    self.expectNothing(each)
            self.held.clear()

    def garbage(self, capture: str) -> None:
        """
        Send no word of the protocol.
        """
        with self.connect(capture) as peer:
            self.send(peer, b"?" + self.random.randbytes(100))
            self.expectNothing(peer)

    def descriptors(self, capture: str) -> None:
        """
        Send descriptors that nobody asked for, after the word.
        """
        with self.connect(capture) as peer, open(os.devnull) as null:
            self.send(peer, WORD)
            ancillary = array.array("i", [null.fileno()] * self.random.randint(1, 50))
            try:
                peer.sendmsg(
                    [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, ancillary)]
                )
            except (BrokenPipeError, ConnectionResetError):
                pass
            except PermissionError:
                # Linux from 6.16 refuses them here.
                self.send(peer, b"x")
            peer.shutdown(socket.SHUT_WR)
            self.check(self.readAll(peer), b"x")

    def handedOn(self, capture: str) -> None:
        """
        Have another process write on the same connection.
        """
        with self.connect(capture) as peer:
            self.send(peer, WORD + b"mine")
            peer.settimeout(60)
            greeting = b""
            try:
                while not greeting.endswith(b"mine"):
                    more = peer.recv(100)
                    if not more:
                        break
                    greeting += more
            except ConnectionResetError:
                pass
            self.check(greeting, b"mine")
            if not greeting:
                return
            pid = os.fork()
            if not pid:
                self.send(peer, b"not mine")
                os._exit(0)
            os.waitpid(pid, 0)
            peer.shutdown(socket.SHUT_WR)
            rest = self.readAll(peer)
            if rest != (b"" if capture == "every-message" else b"not mine"):
                raise Wrong(f"another process's bytes: {rest!r}")

    def expectNothing(self, peer: socket.socket) -> None:
        """
        Nobody who has not said who it is gets an answer.
        """
        answer = self.readAll(peer)
        if answer:
            raise Wrong(f"an answer to nobody: {answer!r}")
        self.counts["unidentified"] += 1

    def run(self, seconds: float) -> None:
        """
        Go on until the time is up.
        """
        ways = [self.reset, self.silent, self.stall, self.garbage, self.descriptors]
        ways += [self.handedOn, self.slowly, *[self.echo] * 12]
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            capture = self.random.choice(["connect", "first-message", "every-message"])
            self.random.choice(ways)(capture)
        for each in self.held:
            each.close()


def main() -> None:
    """
    Be that user.
    """
    uid, seconds, *directories = sys.argv[1:]
    os.setgroups([int(uid) + 1000])
    os.setgid(int(uid) + 1000)
    os.setuid(int(uid))
    user = User(directories, int(uid))
    try:
        user.run(float(seconds))
    except Wrong as problem:
        user.counts["wrong"] += 1
        print(problem, file=sys.stderr)
    print(json.dumps(user.counts))


if __name__ == "__main__":
    main()
