"""
What a client has a server do.  Plain blocking sockets: the server is what is
measured, and the client waits for it.
"""

from __future__ import annotations

import os
import socket
import time


def _connect(address: str) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(address)
    return peer


def _receive(peer: socket.socket, size: int) -> bytes:
    data = peer.recv(size)
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise EOFError("the server has closed the connection")
        data += more
    return data


class Work:
    """
    @ivar count: operations in one measurement.
    @ivar address: the server's.
    """

    count = 200

    def __init__(self, address: str) -> None:
        self.address = address

    def run(self, count: int) -> None:
        """
        Have so many operations done.
        """
        raise NotImplementedError()

    def close(self) -> None:
        """
        Let go of the server.
        """


class Connection(Work):
    """
    A connection: connect, one small echo, close.
    """

    def run(self, count: int) -> None:
        body = bytes(64)
        for _ in range(count):
            with _connect(self.address) as peer:
                peer.send(body)
                _receive(peer, len(body))


class Late(Connection):
    """
    The same, with a message that comes when the server has nothing else to do.
    """

    def run(self, count: int) -> None:
        body = bytes(64)
        for _ in range(count):
            with _connect(self.address) as peer:
                time.sleep(0.0001)
                peer.send(body)
                _receive(peer, len(body))


class Strangers(Connection):
    """
    The same, each from a process of its own.
    """

    count = 100

    def run(self, count: int) -> None:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                try:
                    super().run(1)
                    os._exit(0)
                finally:
                    os._exit(1)
            if os.waitpid(pid, 0)[1]:
                raise RuntimeError("a client failed")


class Connections(Work):
    """
    The same, 32 at once.
    """

    count = 320
    atOnce = 32

    def run(self, count: int) -> None:
        body = bytes(64)
        for _ in range(0, count, self.atOnce):
            peers = [_connect(self.address) for _ in range(self.atOnce)]
            for peer in peers:
                peer.send(body)
            for peer in peers:
                _receive(peer, len(body))
                peer.close()


class Echo(Work):
    """
    A small echo on a connection that is open.
    """

    count = 500
    size = 64

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.peer = _connect(address)

    def run(self, count: int) -> None:
        body = bytes(self.size)
        for _ in range(count):
            self.peer.sendall(body)
            _receive(self.peer, self.size)

    def close(self) -> None:
        self.peer.close()


class Bulk(Echo):
    """
    A large one.
    """

    count = 150
    size = 65536


class Request(Echo):
    """
    A web request on a connection that is open.
    """

    count = 100
    text = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def run(self, count: int) -> None:
        for _ in range(count):
            self.peer.sendall(self.text)
            head, _, body = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
            fields = dict(
                line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:]
            )
            missing = int(fields[b"content-length"]) - len(body)
            if missing:
                body += _receive(self.peer, missing)
            if not head.startswith(b"HTTP/1.1 200 ") or b"Good morning" not in body:
                raise ValueError(f"no page: {head!r}")

    def _until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            more = self.peer.recv(65536)
            if not more:
                raise EOFError("the server has closed the connection")
            data += more
        return data


class Crowd:
    """
    Connections that are open, known to the server, and idle.
    """

    def __init__(self, address: str, count: int) -> None:
        self.peers = []
        for _ in range(count):
            peer = _connect(address)
            peer.send(b"?")
            _receive(peer, 1)
            self.peers.append(peer)

    def close(self) -> None:
        """
        Close them all.
        """
        for peer in self.peers:
            peer.close()


if __name__ == "__main__":
    # A crowd in a process of its own, until standard input ends.
    import sys

    crowd = Crowd(sys.argv[1], int(sys.argv[2]))
    print("here", flush=True)
    sys.stdin.read()
