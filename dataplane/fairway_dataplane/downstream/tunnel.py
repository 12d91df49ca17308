"""
After a 101: bytes both ways, as they come.

Nothing is looked at any more, so what is left is lifetime: back-pressure is the
same two calls as for bodies, each side may end alone, and a tunnel in which
nothing moves in either direction for too long is cut.
"""

import asyncio

from fairway_dataplane.exchange import Exchange


class Tunnel:
    """The downstream half of a tunnel; the upstream half is the exchange's ``upstream``."""

    __slots__ = ("_client_over", "_exchange", "_server_over", "_transport")

    def __init__(self, exchange: Exchange, transport: asyncio.Transport) -> None:
        self._exchange = exchange
        self._transport = transport
        self._client_over = False
        self._server_over = False

    def from_client(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self._exchange.bytes_in += len(data)
        upstream = self._exchange.upstream
        if upstream is not None:
            upstream.send_body(data)

    def from_server(self, data: bytes | memoryview) -> None:
        """Pass on what the backend sent."""
        self._exchange.bytes_out += len(data)
        self._transport.write(data)

    def end_client(self) -> bool:
        """Take the end of the client's side; True if the other side goes on."""
        self._client_over = True
        upstream = self._exchange.upstream
        if upstream is None or self._server_over:
            return False
        upstream.end_body()
        return True

    def end_server(self) -> bool:
        """Take the end of the backend's side; True if the other side goes on."""
        self._server_over = True
        if self._client_over or self._exchange.upstream is None:
            return False
        if not self._transport.can_write_eof():
            return False
        self._transport.write_eof()
        return True
