"""
Accepting: listening sockets, the connections that came from them, and their end.

A listener owns every connection it accepted until that is closed; nobody else
counts them.
"""

import asyncio
import heapq
import ipaddress
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.introduction import Introduction
from fairway_dataplane.policy import Limits, RequestReader
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.tally import Tally

__all__ = ("DrainReport", "Forwarding", "Listener")

_PRESSURE = 0.8
"""Above this share of the connection limit, idle connections are closed to make room."""

_BACKLOG = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain ended."""

    finished: int
    """Connections whose last answer was complete."""
    aborted: int
    """Connections cut off at the limit."""


class Listener:
    """The client connections of one worker, from all of its sockets."""

    def __init__(  # noqa: PLR0913, PLR0917 - each belongs to another owner
        self,
        loop: asyncio.AbstractEventLoop,
        proxy: Proxy,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        forwarding: Forwarding,
    ) -> None:
        self.proxy = proxy
        self.clock = clock
        self.limits = limits
        self.tally = tally
        self.forwarding = forwarding
        self.reader = RequestReader(limits)
        self._loop = loop
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: dict[HttpConnection, None] = {}
        self._per_client: dict[str, int] = {}
        self.draining = False
        self._empty: asyncio.Event | None = None
        self._id_prefix = os.urandom(9).hex().encode()
        self._ids = int.from_bytes(os.urandom(4), "big")
        self._eviction_at = 0.0

    async def accept(
        self,
        sock: socket.socket,
        wrap: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None,
    ) -> None:
        """
        Accept on a listening socket from now on; nothing if that is so already.

        ``wrap`` puts the TLS layer around the protocol of one connection; None
        is plain HTTP.
        """
        key = sock.fileno()
        if key in self._servers:
            return

        def make() -> asyncio.Protocol:
            if wrap is None:
                return HttpConnection(self, secure=False)
            return wrap(HttpConnection(self, secure=True))

        def introduce() -> asyncio.Protocol:
            return Introduction(
                make(),
                forwarding=self.forwarding,
                clock=self.clock,
                limits=self.limits,
                tally=self.tally,
            )

        # A server closes its socket; the one given stays open.
        self._servers[key] = await self._loop.create_server(
            introduce if self.forwarding.introducers else make, sock=sock.dup(), backlog=_BACKLOG
        )

    def stop_accepting(self, sock: socket.socket | None = None) -> None:
        """Accept no more on one socket, or on all. Sockets stay open: they are the supervisor's."""
        if sock is None:
            servers, self._servers = list(self._servers.values()), {}
        else:
            server = self._servers.pop(sock.fileno(), None)
            servers = [] if server is None else [server]
        for server in servers:
            server.close()

    async def drain(self, limit_seconds: float) -> DrainReport:
        """
        Stop accepting, say ``connection: close`` on last answers, close what is idle.

        Exchanges in flight have ``limit_seconds`` to finish; then they are cut
        off. An idle client may bring one more request for a moment: it may have
        been on its way.
        """
        self.stop_accepting()
        self.draining = True
        before = len(self._connections)
        idle_seconds = min(self.limits.drain_idle_seconds, limit_seconds)
        for connection in tuple(self._connections):
            connection.drain(self.clock.now + idle_seconds)
        self._empty = asyncio.Event()
        if self._connections:
            try:
                async with asyncio.timeout(limit_seconds):
                    await self._empty.wait()
            except TimeoutError:
                pass
        left = tuple(self._connections)
        for connection in left:
            connection.cut()
        return DrainReport(finished=before - len(left), aborted=len(left))

    def connections(self) -> list[dict[str, object]]:
        """Describe each open connection, for the debug page."""
        return [connection.describe() for connection in self._connections]

    # Called by connections.

    def admit(self, connection: HttpConnection, address: str) -> bool:
        """Give a connection its place; False if there is none for it."""
        tally, limits = self.tally, self.limits
        tally.connections_accepted += 1
        count = len(self._connections)
        if count >= limits.connections * _PRESSURE:
            self._make_room(count)
            if len(self._connections) >= limits.connections:
                tally.connections_refused += 1
                return False
        if limits.connections_per_client:
            client = _client(address)
            held = self._per_client.get(client, 0)
            if held >= limits.connections_per_client:
                tally.connections_refused += 1
                return False
            self._per_client[client] = held + 1
        self._connections[connection] = None
        tally.connections_open += 1
        return True

    def forget(self, connection: HttpConnection, address: str) -> None:
        """Take a connection's place back."""
        del self._connections[connection]
        self.tally.connections_open -= 1
        if self.limits.connections_per_client:
            client = _client(address)
            held = self._per_client[client] - 1
            if held:
                self._per_client[client] = held
            else:
                del self._per_client[client]
        if self._empty is not None and not self._connections:
            self._empty.set()

    def next_id(self) -> bytes:
        """Return an id for a request: unguessable per worker, then counted."""
        self._ids = number = self._ids + 1
        return b"%b%010x" % (self._id_prefix, number)

    def note_bug(self, bug: Exception) -> None:
        """Count and log what ended a connection before there was an exchange."""
        self.proxy.note_bug(b"", bug)

    def _make_room(self, count: int) -> None:
        """Close those that were idle for longest; at most once in a tick, for it looks at all."""
        now = self.clock.now
        full = count >= self.limits.connections
        if now <= self._eviction_at and not full:
            return
        self._eviction_at = now
        wanted = count - int(self.limits.connections * _PRESSURE) + 1
        idle = (connection for connection in self._connections if connection.is_idle())
        # Of idle connections, the one whose time ends first has been idle for longest.
        for connection in heapq.nsmallest(wanted, idle, key=lambda found: found.deadline):
            self.tally.connections_evicted += 1
            connection.close_idle()


def _client(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    if ":" not in address:
        return address
    packed = int(ipaddress.IPv6Address(address.partition("%")[0])) >> 64
    return f"{packed:x}"
