"""
PROXY protocol, versions 1 and 2: a load balancer says whose connection it passes on.

A peer either always sends a header or never does; to guess would let any client
say who it is. So a connection from a range that is trusted with this must begin
with a header, and from anywhere else the same bytes are a bad request. The
header is read before TLS and before HTTP, and nothing behind it knows of it but
for the address. Source: haproxy.org, doc/proxy-protocol.txt.
"""

import asyncio
import re
import socket
from typing import Any, NamedTuple, cast

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import LOOK_SECONDS, NEVER, Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.limits import Limits
from fairway_dataplane.tally import Tally

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_BYTES = 16
_LINE_BYTES = 107
"""Longest header of version 1, with its CRLF."""

_BLOCK_BYTES = 16 * 1024
"""Longest rest of a header of version 2: addresses, and what else a load balancer tells."""

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_ADDRESS_BYTES = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36}

_line = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5})"
    rb"|UNKNOWN(?: [\x20-\x7e]*)?)\r\n"
).fullmatch


class Introduced(NamedTuple):
    """A header that was read."""

    client: tuple[str, int] | None
    """Address and port; None where the peer speaks for itself (a health check)."""
    size: int
    """Bytes of the header."""


class BadHeaderError(ValueError):
    """What a peer sent is no header, and cannot become one."""


def read_header(data: bytes) -> Introduced | None:
    """Read the header at the start of ``data``; None if it is not whole yet."""
    if data[: len(_SIGNATURE)] == _SIGNATURE[: len(data)]:
        return _read_block(data)
    if data[:6] != b"PROXY "[: len(data)]:
        raise BadHeaderError("neither version 1 nor version 2")
    end = data.find(b"\r\n", 0, _LINE_BYTES) + 2
    if end < 2:
        if len(data) >= _LINE_BYTES:
            raise BadHeaderError("the line does not end")
        return None
    found = _line(data[:end])
    if found is None:
        raise BadHeaderError("the line does not parse")
    if found[1] is None:
        return Introduced(None, end)
    family = socket.AF_INET if found[1] == b"TCP4" else socket.AF_INET6
    source, _ = (_canonical(family, part.decode()) for part in found.group(2, 3))
    port, to_port = int(found[4]), int(found[5])
    if max(port, to_port) > 65535:
        raise BadHeaderError("a port above 65535")
    return Introduced((source, port), end)


def _read_block(data: bytes) -> Introduced | None:
    if len(data) < _FIXED_BYTES:
        return None
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if command not in {_LOCAL, _PROXY} or length > _BLOCK_BYTES:
        raise BadHeaderError("another version or command, or too long")
    end = _FIXED_BYTES + length
    if len(data) < end:
        return None
    if command == _LOCAL:
        return Introduced(None, end)
    block = data[_FIXED_BYTES:end]
    taken = _ADDRESS_BYTES.get(family)
    if taken is None or taken > length:
        raise BadHeaderError("another family than TCP, or its addresses cut short")
    _check_extensions(block[taken:])
    if family == _UNSPECIFIED:
        return Introduced(None, end)
    size = 4 if family == _TCP4 else 16
    address = socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, block[:size])
    return Introduced((address, int.from_bytes(block[2 * size : 2 * size + 2], "big")), end)


def _check_extensions(block: bytes) -> None:
    """Refuse extensions (type, length, value) that reach past the end of the header."""
    at = 0
    while at < len(block):
        at += 3 + int.from_bytes(block[at + 1 : at + 3], "big")
    if at != len(block):
        raise BadHeaderError("an extension reaches past the end")


def _canonical(family: int, text: str) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text))
    except OSError:
        raise BadHeaderError("not an address of its family") from None


class Introduction(asyncio.Protocol):
    """Reads the header of a connection, and then steps aside."""

    __slots__ = (
        "_arrivals", "_clock", "_forwarding", "_held", "_inner", "_limits", "_tally", "_transport",
        "deadline", "slot",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - each belongs to another owner
        self,
        inner: asyncio.Protocol,
        *,
        forwarding: Forwarding,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        arrivals: Arrivals,
    ) -> None:
        """``inner`` gets the connection once it is known whose it is, and nothing before."""
        self._inner: asyncio.Protocol | None = inner
        self._forwarding = forwarding
        self._clock = clock
        self._limits = limits
        self._tally = tally
        self._arrivals = arrivals
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self.deadline = NEVER
        self.slot = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a header, or step aside at once for a peer that sends none."""
        # uvloop's transports have the interface and not the class.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if not self._forwarding.is_introduced_by(peer[0] if isinstance(peer, tuple) else ""):
            self._step_aside(self._transport, b"")
            return
        if not self._arrivals.add(self):
            self._refuse()
            return
        self.deadline = self._clock.now + self._limits.header_seconds
        self._clock.watch(self)
        if self._limits.header_seconds < LOOK_SECONDS:
            self._clock.hasten(self)

    def data_received(self, data: bytes) -> None:
        """Read the header; whatever is behind it is for the inner protocol."""
        transport = self._transport
        if transport is None:
            return
        self._held = data = self._held + data
        try:
            found = read_header(data)
        except BadHeaderError:
            self._refuse()
            return
        if found is None:
            return
        if found.client is not None:
            transport = cast("asyncio.Transport", _Speaking(transport, found.client))
        self._step_aside(transport, data[found.size :])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Let go of everything."""
        self._let_go()

    def expire(self, now: float) -> None:  # noqa: ARG002 - called by the clock
        """Close a connection whose header does not come."""
        self._refuse()

    def abort(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()

    def _step_aside(self, transport: asyncio.Transport, rest: bytes) -> None:
        inner, outer = self._inner, self._transport
        assert inner is not None
        assert outer is not None
        self._let_go()
        outer.set_protocol(inner)
        inner.connection_made(transport)
        if rest and not outer.is_closing():
            inner.data_received(rest)

    def _refuse(self) -> None:
        transport = self._transport
        self._let_go()
        if transport is not None:
            self._tally.connections_accepted += 1
            self._tally.connections_refused += 1
            transport.abort()

    def _let_go(self) -> None:
        self._arrivals.remove(self)
        self._clock.forget(self)
        self.deadline = NEVER
        self._inner = self._transport = None
        self._held = b""


class _Speaking:
    """A transport that speaks for somebody else."""

    __slots__ = ("_client", "_transport")

    def __init__(self, transport: asyncio.Transport, client: tuple[str, int]) -> None:
        self._transport = transport
        self._client = client

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return the client's address as the peer's."""
        return self._client if name == "peername" else self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
