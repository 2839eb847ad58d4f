"""
What is measured: works, variants and reactors, and the budget.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec

import works
from figures import Figure, Limit
from measuring import Bench, Subject
from processes import ENVIRONMENT

TWISTED = ("stock", "wrapper", "CONNECT", "FIRST_MESSAGE", "EVERY_MESSAGE")
POLICIES = ("policy of 1", "policy of 100", "policy of 1,000")
OTHERS = {"epoll": ("C",), "asyncio": ("asyncio",), "uvloop": ("asyncio",)}
#: What has to be installed for a variant or a loop, or it is left out.
NEEDS = {
    "uvloop": "uvloop",
    "cheroot": "cheroot",
    "peercred:unix:": "twisted_peercred.endpoints",
}

BUDGET = [
    Limit("connection", "CONNECT", 1.00),
    Limit("connection", "policy of 1,000", 1.10),
    Limit("connection", "FIRST_MESSAGE", 1.10),
    Limit("echo", "CONNECT", 0.90),
    Limit("echo", "FIRST_MESSAGE", 0.90),
    Limit("echo", "EVERY_MESSAGE", 1.00),
    Limit("bulk", "CONNECT", 1.00),
    Limit("bulk", "FIRST_MESSAGE", 1.00),
    Limit("bulk", "EVERY_MESSAGE", 1.00),
    Limit("memory", "CONNECT", 1.05),
    Limit("memory", "FIRST_MESSAGE", 1.05),
    Limit("memory", "EVERY_MESSAGE", 1.05),
    Limit("crowd", "CONNECT", 1.10),
]


def _against(stock: Subject, *others: Subject) -> dict[Subject, Subject | None]:
    return {stock: None, **dict.fromkeys(others, stock)}


def available(variant: str) -> bool:
    """
    Whether what a variant or a loop needs is installed.
    """
    if variant == "C":
        return "BENCHMARK_C_SERVER" in ENVIRONMENT
    return variant not in NEEDS or find_spec(NEEDS[variant]) is not None


def _onEachLoop(
    bench: Bench, name: str, work: type[works.Work], *more: str
) -> list[Figure]:
    figures = []
    for loop in bench.loops:
        variants = TWISTED + (more if loop == "epoll" else ()) + OTHERS[loop]
        figures += bench.compare(
            name,
            work,
            _against(*(Subject(each, loop) for each in variants if available(each))),
        )
    return figures


def connection(bench: Bench) -> list[Figure]:
    """
    One connection: connect, echo of 64 bytes, close
    """
    return _onEachLoop(bench, "connection", works.Connection, *POLICIES)


def connections(bench: Bench) -> list[Figure]:
    """
    The same, 32 connections at once
    """
    return _onEachLoop(bench, "connections", works.Connections)


def late(bench: Bench) -> list[Figure]:
    """
    The same, with a message that comes 0.1 ms after the connection
    """
    return _onEachLoop(bench, "late", works.Late)


def strangers(bench: Bench) -> list[Figure]:
    """
    The same, each connection from a process of its own
    """
    return _onEachLoop(bench, "strangers", works.Strangers)


def echo(bench: Bench) -> list[Figure]:
    """
    Echo of 64 bytes on an open connection
    """
    return _onEachLoop(bench, "echo", works.Echo)


def bulk(bench: Bench) -> list[Figure]:
    """
    Echo of 64 KiB on an open connection
    """
    return _onEachLoop(bench, "bulk", works.Bulk)


def web(bench: Bench) -> list[Figure]:
    """
    A web request on an open connection
    """
    stock, *others = (
        Subject(variant, "epoll")
        for variant in ("unix:", "unix: and wrapper", "peercred:unix:", "cheroot")
        if available(variant)
    )
    return bench.compare("web", works.Request, _against(stock, *others))


def crowd(bench: Bench) -> list[Figure]:
    """
    One connection beside many idle ones, compared with beside few
    """
    bases: dict[Subject, Subject | None] = {}
    for variant in ("stock", "CONNECT"):
        few = Subject(variant, "epoll", bench.idle // 200)
        bases |= _against(
            few,
            Subject(variant, "epoll", bench.idle // 4),
            Subject(variant, "epoll", bench.idle),
        )
    return bench.compare("crowd", works.Connection, bases)


def memory(bench: Bench) -> list[Figure]:
    """
    Memory of an idle connection
    """
    figures: list[Figure] = []
    for loop in bench.loops:
        base = None
        for variant in TWISTED + OTHERS[loop]:
            if not available(variant):
                continue
            figure = Figure("memory", loop, variant, "bytes", base)
            base = base or figure
            with bench.started(Subject(variant, loop)) as server:
                # What the first connections allocate for good is not counted.
                works.Crowd(server.address, 100).close()
                server.used()
                before = server.memory()
                with closing(works.Crowd(server.address, bench.idle)):
                    server.used()
                    figure.samples.append((server.memory() - before) / bench.idle)
            figures.append(figure)
    return figures


WORKS: dict[str, Callable[[Bench], list[Figure]]] = {
    each.__name__: each
    for each in (
        *(connection, late, strangers, connections),
        *(echo, bulk, web, crowd, memory),
    )
}
