"""
PROXY protocol towards a backend: whose request a connection is for.

The header says one client, so such a connection serves one request and is never
kept. It comes before TLS, as inbound. Source: haproxy.org, doc/proxy-protocol.txt.
"""

import asyncio
import ipaddress
import struct
from typing import TypeAlias, cast

Ends: TypeAlias = tuple[tuple[str, int], tuple[str, int]]
"""Address and port of the client, and of the socket of ours that it reached."""

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def announce(version: int, ends: Ends | None) -> bytes:
    """
    Return a header of version 1 or 2; None speaks for ourselves, as a health check does.

    What is no address is left unsaid too; an IPv4 address beside an IPv6
    address is written as one.
    """
    parsed = None if ends is None else _parse(ends)
    if parsed is None:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _SIGNATURE + b"\x20\0\0\0"
    assert ends is not None
    client, ours = parsed
    ports = ends[0][1], ends[1][1]
    if version == 1:
        return b"PROXY TCP%d %b %b %d %d\r\n" % (
            client.version,
            str(client).encode(),
            str(ours).encode(),
            *ports,
        )
    block = client.packed + ours.packed + struct.pack(">HH", *ports)
    family = 0x11 if client.version == 4 else 0x21
    return _SIGNATURE + struct.pack(">BBH", 0x21, family, len(block)) + block


_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def _parse(ends: Ends) -> tuple[_Address, _Address] | None:
    """Return both addresses, of one family; None if one is none."""
    try:
        client, ours = (ipaddress.ip_address(host.partition("%")[0]) for host, _ in ends)
    except ValueError:
        return None
    if client.version == ours.version:
        return client, ours
    return _widen(client), _widen(ours)


def _widen(address: _Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)


class Announcement(asyncio.Protocol):
    """Writes the header first, and steps aside."""

    __slots__ = ("_header", "_inner")

    def __init__(self, inner: asyncio.Protocol, header: bytes) -> None:
        self._inner = inner
        self._header = header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the header; the rest is the inner protocol's."""
        # uvloop's transports have the interface and not the class.
        made = cast("asyncio.Transport", transport)
        made.write(self._header)
        made.set_protocol(self._inner)
        self._inner.connection_made(transport)
