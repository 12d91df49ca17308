"""
Accepting: listening sockets, the connections that came from them, and their end.

A listener owns every connection it accepted until that is closed; nobody else
counts them.
"""

import asyncio
import contextlib
import heapq
import ipaddress
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import cast

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.ids import RequestIds
from fairway_dataplane.downstream.introduction import Introduction
from fairway_dataplane.limits import Limits
from fairway_dataplane.policy import RequestReader
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.tally import Tally

__all__ = ("DrainReport", "Forwarding", "Listener")

_PRESSURE = 0.8
"""Above this share of the connection limit, idle connections are closed to make room."""

_BACKLOG = 4096

_ALL = sys.maxsize


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain ended."""

    finished: int
    """Connections whose last answer was complete."""
    aborted: int
    """Connections cut off at the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    """A listening socket, and what speaks on its connections."""

    sock: socket.socket
    make: Callable[[], asyncio.Protocol]


class Listener:
    """The client connections of one worker, from all of its sockets."""

    wary: bool
    """Not every request is welcome: asked for each one, so that :meth:`sheds` seldom is."""
    admitted: int
    """Requests that may be in flight."""
    before_accept: Callable[[], None] | None
    """Looks at what a further connection needs; it may pause accepting."""

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
        self.ids = RequestIds()
        self._loop = loop
        self._doors: dict[int, _Door] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._resuming: asyncio.Task[None] | None = None
        self.is_paused = False
        self._connections: dict[HttpConnection, None] = {}
        self._per_client: dict[str, int] = {}
        self.arrivals = Arrivals(admits=self._has_room, on_leave=self._note_leave)
        self.draining = False
        self.admit_requests(None)
        self.before_accept = None
        self._empty: asyncio.Event | None = None
        self._eviction_at = 0.0
        self._is_crowded = False
        self._evicted: set[HttpConnection] = set()

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
        if key in self._doors:
            return

        def make() -> asyncio.Protocol:
            if self.before_accept is not None:
                self.before_accept()
            # It has a protocol's methods and not its class: a compiled class has no base in Python.
            made = cast("asyncio.Protocol", HttpConnection(self, secure=wrap is not None))
            return made if wrap is None else wrap(made)

        def introduce() -> asyncio.Protocol:
            return Introduction(
                make(),
                forwarding=self.forwarding,
                clock=self.clock,
                limits=self.limits,
                tally=self.tally,
                arrivals=self.arrivals,
            )

        # A server closes its socket, so a pause needs another; the one given stays the caller's.
        made = introduce if self.forwarding.introducers else make
        self._doors[key] = _Door(sock=sock.dup(), make=made)
        await self._open(key)

    def stop_accepting(self, sock: socket.socket | None = None) -> None:
        """Accept no more on one socket, or on all. Sockets stay open: they are the supervisor's."""
        for key in tuple(self._doors) if sock is None else (sock.fileno(),):
            self._shut(key)
            door = self._doors.pop(key, None)
            if door is not None:
                door.sock.close()

    def pause_accepting(self) -> None:
        """Let connections wait in the queues of the sockets, until :meth:`resume_accepting`."""
        self.is_paused = True
        for key in tuple(self._servers):
            self._shut(key)

    def resume_accepting(self) -> None:
        """Accept again on every socket that was not given up meanwhile."""
        self.is_paused = False
        self._resuming = self._loop.create_task(self._reopen())

    async def _reopen(self) -> None:
        for key in tuple(self._doors):
            await self._open(key)

    async def _open(self, key: int) -> None:
        if key in self._servers or not self._is_wanted(key):
            return
        door = self._doors[key]
        server = await self._loop.create_server(door.make, sock=door.sock.dup(), backlog=_BACKLOG)
        self._servers[key] = server
        if not self._is_wanted(key):
            self._shut(key)

    def _is_wanted(self, key: int) -> bool:
        return key in self._doors and not self.is_paused

    def _shut(self, key: int) -> None:
        server = self._servers.pop(key, None)
        if server is not None:
            server.close()

    async def drain(self, limit_seconds: float) -> DrainReport:
        """
        Stop accepting, say ``connection: close`` on last answers, close what is idle.

        Exchanges in flight have ``limit_seconds`` to finish; then they are cut
        off. An idle client may bring one more request for a moment: it may have
        been on its way.
        """
        self.stop_accepting()
        self.draining = self.wary = True
        before = len(self._connections) + len(self.arrivals)
        idle_seconds = min(self.limits.drain_idle_seconds, limit_seconds)
        for connection in tuple(self._connections):
            connection.drain(self.clock.now + idle_seconds)
        self._empty = empty = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                while self._connections or len(self.arrivals):
                    # One that arrived is a connection in the same turn of the loop.
                    empty.clear()
                    await empty.wait()
        left = tuple(self._connections)
        for connection in left:
            connection.cut()
        aborted = len(left) + self.arrivals.cut()
        return DrainReport(finished=before - aborted, aborted=aborted)

    def connections(self, limit: int | None = None) -> list[dict[str, object]]:
        """Describe each open connection, or so many, for the debug page."""
        return [connection.describe() for connection in islice(self._connections, limit)]

    # What a worker that is short of something takes on.

    def admit_requests(self, most: int | None) -> None:
        """Take on so many requests at once, or as many as the setting says."""
        setting = self.limits.active_requests or _ALL
        self.admitted = setting if most is None else min(most, setting)
        self.wary = self.draining or self.admitted < _ALL

    def sheds(self) -> bool:
        """Tell whether a request that comes now is refused."""
        return self.tally.requests_active >= self.admitted

    def close_idle(self) -> None:
        """Close every connection that has been idle for a while."""
        limits = self.limits
        until = self.clock.now + limits.keep_alive_seconds - limits.keep_alive_pressure_seconds
        for connection in tuple(self._connections):
            if connection.is_idle() and connection.deadline <= until:
                self._close(connection)

    # Called by connections.

    def admit(self, connection: HttpConnection, address: str) -> bool:
        """Give a connection its place; False if there is none for it."""
        tally, limits = self.tally, self.limits
        tally.connections_accepted += 1
        if not self._has_room():
            tally.connections_refused += 1
            return False
        if self._counts(address):
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
        self._evicted.discard(connection)
        self.tally.connections_open -= 1
        if self._counts(address):
            client = _client(address)
            held = self._per_client[client] - 1
            if held:
                self._per_client[client] = held
            else:
                del self._per_client[client]
        self._note_leave()

    def note_bug(self, bug: Exception) -> None:
        """Count and log what ended a connection before there was an exchange."""
        self.proxy.note_bug(b"", bug)

    def _counts(self, address: str) -> bool:
        """Tell whether an address is one client; behind a proxy of ours there are many."""
        return self.limits.connections_per_client > 0 and not self.forwarding.trusts(address)

    def _note_leave(self) -> None:
        if self._empty is not None and not self._connections and not len(self.arrivals):
            self._empty.set()

    def _has_room(self) -> bool:
        """Tell whether one more may come, after those that do nothing have made room."""
        limit = self.limits.connections
        count = self._count()
        if count < limit * _PRESSURE:
            return True
        self._make_room(full=count >= limit)
        return self._count() < limit

    def _count(self) -> int:
        """Return how many there are; those that are being closed will be gone in a moment."""
        return len(self._connections) - len(self._evicted) + len(self.arrivals)

    def _make_room(self, *, full: bool) -> None:
        """
        Close those that were idle for longest; when it is full, also who is slowest to ask.

        That looks at all, so at most once in a tick, or again in it when it has helped: a crowd
        that presses in must not cost those that are served their turn.
        """
        now = self.clock.now
        if now <= self._eviction_at and (self._is_crowded or not full):
            return
        self._eviction_at = now
        self.close_idle()
        self._evict(HttpConnection.is_idle)
        if full:
            # Half a head is all that a flood of them ever sends; who means it is done by now.
            self._evict(HttpConnection.is_asking)
        self._is_crowded = self._surplus() > 0

    def _surplus(self) -> int:
        """Return how many connections are too many to be at ease."""
        return max(0, self._count() - int(self.limits.connections * _PRESSURE) + 1)

    def _evict(self, is_fit: Callable[[HttpConnection], bool]) -> None:
        """Close of those that fit as many as are too many."""
        # The one whose time ends first has been so for longest.
        fit = (connection for connection in self._connections if is_fit(connection))
        for connection in heapq.nsmallest(self._surplus(), fit, key=lambda found: found.deadline):
            self._close(connection)

    def _close(self, connection: HttpConnection) -> None:
        self.tally.connections_evicted += 1
        self._evicted.add(connection)
        connection.close_idle()


def _client(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    if ":" not in address:
        return address
    packed = int(ipaddress.IPv6Address(address.partition("%")[0])) >> 64
    return f"{packed:x}"
