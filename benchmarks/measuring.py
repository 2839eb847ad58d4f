"""
How one work of several servers is measured.

Variants take turns in rounds, and every few rounds all servers are started
anew: two processes of one program never cost quite the same.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import works
from figures import Figure
from processes import CountedServer, Server

LOOPS = ("epoll", "asyncio", "uvloop")
IDLE = 20_000


@dataclass(frozen=True)
class Subject:
    """
    A server to be measured.
    """

    variant: str
    loop: str
    idle: int = 0

    @property
    def name(self) -> str:
        """
        What it is called in a table.
        """
        return f"{self.variant}, {self.idle:,} idle" if self.idle else self.variant


@dataclass(frozen=True)
class Bench:
    """
    How a run measures.

    @ivar generations: how often servers are started anew.
    @ivar rounds: rounds of each generation.
    @ivar scale: how much of a work's count is done in a measurement.
    @ivar idle: the largest number of idle connections.
    @ivar cpu: where servers run; the client's, unless that is another one.
    """

    directory: Path
    loops: tuple[str, ...] = LOOPS
    generations: int = 5
    rounds: int = 8
    scale: float = 1.0
    idle: int = IDLE
    server: type[Server] = Server
    cpu: int = 0

    @property
    def unit(self) -> str:
        """
        Of a figure.
        """
        return "instructions" if self.server is CountedServer else "µs"

    @contextmanager
    def started(self, subject: Subject) -> Iterator[Server]:
        """
        Its server, while it is needed.
        """
        server = self.server(
            subject.variant, subject.loop, self.directory, subject.idle
        )
        os.sched_setaffinity(server.pid, {self.cpu})
        try:
            yield server
        finally:
            server.stop()

    def compare(
        self, name: str, work: type[works.Work], bases: dict[Subject, Subject | None]
    ) -> list[Figure]:
        """
        Have some servers do the same work in turn.

        @param bases: each subject, and what it is compared with.
        """
        figures = {
            subject: Figure(name, subject.loop, subject.name, self.unit)
            for subject in bases
        }
        for subject, base in bases.items():
            figures[subject].base = None if base is None else figures[base]
        count = max(1, int(work.count * self.scale))
        for _ in range(self.generations):
            with ExitStack() as stack:
                measured = []
                for subject in bases:
                    server = stack.enter_context(self.started(subject))
                    client = stack.enter_context(closing(work(server.address)))
                    client.run(count)
                    measured.append((figures[subject], server, client))
                for _ in range(self.rounds):
                    random.shuffle(measured)
                    for figure, server, client in measured:
                        before = server.used()
                        client.run(count)
                        figure.samples.append((server.used() - before) / count)
        return list(figures.values())
