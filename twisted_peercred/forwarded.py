"""
What proxies write about those they speak for: C{X-Forwarded-} headers, and
C{Forwarded} (RFC 7239).
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web.http_headers import Headers

# RFC 7239, section 4; RFC 9110, section 5.6.
_PAIR = re.compile(
    rb"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([^\s",;]+|"(?:[^"\\]|\\.)*")[ \t]*"""
)


class Malformed(ValueError):
    """
    What was forwarded makes no sense, or contradicts itself.
    """


class Forwarded(NamedTuple):
    """
    What the nearest proxy says; L{None} is what it does not say.

    @ivar client: who connected to it.
    @ivar scheme: C{http} or C{https}.
    @ivar host: what it was asked for, a C{Host} header's value.
    """

    client: bytes | None = None
    scheme: bytes | None = None
    host: bytes | None = None


def readForwarded(headers: Headers) -> Forwarded:
    """
    What the nearest proxy says, in either way or in both.

    @raise Malformed: it makes no sense.
    """

    def last(name: bytes) -> bytes | None:
        values = headers.getRawHeaders(name)
        return values[-1].rpartition(b",")[2].strip() if values else None

    one = Forwarded(
        last(b"x-forwarded-for"), last(b"x-forwarded-proto"), last(b"x-forwarded-host")
    )
    values = headers.getRawHeaders(b"forwarded")
    if not values:
        return one
    other = _parse(b",".join(values))
    merged = []
    for a, b, meaning in zip(one, other, _MEANINGS, strict=True):
        if a is not None and b is not None and meaning(a) != meaning(b):
            raise Malformed("Forwarded and X-Forwarded- headers say different things")
        merged.append(b if a is None else a)
    return Forwarded(*merged)


def _parse(text: bytes) -> Forwarded:
    """
    The last element of a C{Forwarded} header.
    """
    pairs: dict[bytes, bytes] = {}
    position = 0
    while True:
        found = _PAIR.match(text, position)
        if found is None:
            raise Malformed("a Forwarded header that is none")
        name, value = found[1].lower(), found[2]
        if name in pairs:
            raise Malformed("a Forwarded header that says a thing twice")
        if value[:1] == b'"':
            value = re.sub(rb"\\(.)", rb"\1", value[1:-1])
        pairs[name] = value
        position = found.end()
        separator = text[position : position + 1]
        if not separator:
            break
        if separator == b",":
            pairs = {}
        elif separator != b";":
            raise Malformed("a Forwarded header that is none")
        position += 1
    return Forwarded(pairs.get(b"for"), pairs.get(b"proto"), pairs.get(b"host"))


def clientAddress(client: bytes) -> IPv4Address | IPv6Address | None:
    """
    @return: the address; L{None} for one that the proxy will not name (RFC
        7239, section 6).
    @raise Malformed: it is none.
    """
    text = client.decode("latin-1")
    if text.startswith("_") or text.lower() == "unknown":
        return None
    # RFC 7239, section 6; some write an IPv6 address without its brackets.
    host, port = text, ""
    bracketed = re.fullmatch(r"\[([^]]*)\](?::(.*))?", text)
    if bracketed is not None:
        host, port = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        version = ip_address(host).version
        # A scope is of the proxy's machine, and may be any text.
        if "%" in host or (bracketed is not None and version == 4):
            raise ValueError(host)
        kind = IPv4Address if version == 4 else IPv6Address
    except ValueError:
        raise Malformed("a forwarded client that is no address") from None
    # Of more digits int() may make an error.
    good = re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 65536
    return kind("TCP", host, int(port) if good else 0)


def _whom(client: bytes) -> object:
    """
    What counts of a client where two headers are to agree: X-Forwarded-For has
    no port.
    """
    address = clientAddress(client)
    return None if address is None else ip_address(address.host)


#: How the fields of L{Forwarded} are compared.
_MEANINGS = (_whom, bytes.lower, bytes.lower)
