"""
What proxies write, and what servers greet with.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyChannel

from twisted_peercred import IPeerCredentials, PeerCredentials, Policy
from twisted_peercred.commands.peers import table
from twisted_peercred.commands.whoami import decodeGreeting, rows
from twisted_peercred.forwarded import Malformed, clientAddress, readForwarded
from twisted_peercred.proxy import TrustedProxy

from .choices import Choices

NAMES = (
    b"X-Forwarded-For",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Host",
    b"Forwarded",
    b"X-Real-IP",
    b"X_Forwarded-For",
    b"x-forwarded_for",
    b"X-Forwarded-Port",
    b"Host",
)
PEER = PeerCredentials(uid=7, gid=7)


class Transport(DummyChannel.TCP):
    """
    One that knows its peer.
    """

    def __conform__(self, interface: object) -> PeerCredentials | None:
        return PEER if interface is IPeerCredentials else None


def lines(data: bytes) -> Headers:
    """
    Headers of an input's lines: a byte for the name, and the value.
    """
    headers = Headers()
    for line in data.split(b"\n"):
        if line:
            headers.addRawHeader(NAMES[line[0] % len(NAMES)], line[1:])
    return headers


def forwarded(data: bytes) -> None:
    """
    What a proxy wrote is L{Malformed}, or L{bytes}, and the client L{Malformed},
    unnamed or an address of no scope.
    """
    try:
        said = readForwarded(lines(data))
        assert all(each is None or isinstance(each, bytes) for each in said)
        address = None if said.client is None else clientAddress(said.client)
    except Malformed:
        return
    if address is not None:
        version = ip_address(address.host).version
        assert isinstance(address, IPv4Address if version == 4 else IPv6Address)
        assert "%" not in address.host and 0 <= address.port < 65536


def headers(data: bytes) -> None:
    """
    Whoever may not speak for others has no header left that does; whoever may
    has none in another spelling, and what it says of the client is an address
    or the answer is 400.
    """
    choices = Choices(data)
    trusted = bool(choices.below(2))
    channel = DummyChannel()
    channel.transport = Transport()
    request: Any = Request(channel)
    assert IPeerCredentials(request) is PEER
    request.requestHeaders = lines(choices.rest())
    request.client = before = IPv4Address("TCP", "127.0.0.1", 1)
    resource = Resource()
    served = TrustedProxy(
        resource, Policy.fromString("any" if trusted else "!any")
    )._served(request)
    for name, _ in request.requestHeaders.getAllRawHeaders():
        folded = name.lower().replace(b"_", b"-")
        speaks = folded in (b"forwarded", b"x-real-ip") or folded.startswith(
            b"x-forwarded"
        )
        assert not speaks or (trusted and b"_" not in name), name
    if not trusted:
        assert served is resource and request.client is before
    elif served is resource:
        assert isinstance(request.client, (IPv4Address, IPv6Address))
        ip_address(request.client.host)
    else:
        served.render(request)
        assert request.code == 400


def greeting(data: bytes) -> None:
    """
    Whatever a server greets with is none, or can be printed as JSON and as a
    table of visible text, with a line for each thing.
    """
    line = data.partition(b"\n")[0].decode("utf-8", "backslashreplace")
    seen = decodeGreeting(line)
    if seen is None:
        return
    assert type(seen["uid"]) is type(seen["gid"]) is int
    json.dumps(seen)
    found = rows(seen)
    shown = table(found)
    assert len(shown.split("\n")) == len(found), shown
    assert all(each.isprintable() for each in shown.split("\n")), shown
