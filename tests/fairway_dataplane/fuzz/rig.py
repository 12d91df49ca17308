"""
The request path of one worker, without sockets and without a loop.

The real connection, proxy and backend task run on pipes that only remember what
was written. Nothing waits: whatever the path wants to do later is done by
:meth:`Rig.run_ready`. One rig serves one case after the other, and each must
leave it as it was.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Self, cast

from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.listener import Forwarding, Listener
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.table import EMPTY, Tables, build_table
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.upstream.backend_task import BackendTask
from fairway_dataplane.upstream.pool import Upstreams
from fairway_snapshot.diff import changes
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.tree import EMPTY as NOTHING
from fairway_snapshot.tree import snapshot_of

BACKEND = BackendId("shop/web:80")

LIMITS = replace(
    Limits(),
    header_block_bytes=4096,
    header_line_bytes=2048,
    request_line_bytes=1024,
    retry_budget_percent=0,
)
"""Small ones are reached by short cases; a retry would open a socket."""

_SOCKET = socket.socket()
"""What takes socket options in place of a pipe."""


class Pipe:
    """A transport whose other end is the test."""

    __slots__ = ("aborted", "closed", "half_closed", "lost", "paused", "written")

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False
        self.half_closed = False
        self.aborted = False
        self.paused = False
        self.lost = False
        """The protocol was told of the end."""

    @property
    def over(self) -> bool:
        """No byte goes in any direction any more."""
        return self.closed or self.aborted

    def write(self, data: bytes | memoryview) -> None:
        if not (self.over or self.half_closed):
            self.written += data

    def writelines(self, parts: list[bytes | memoryview]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.half_closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.over

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.1", 1), "socket": _SOCKET}.get(name, default)


class Link:
    """A connection to the backend, as the backend holds it."""

    __slots__ = ("pipe", "task")

    def __init__(self, task: BackendTask) -> None:
        self.task = task
        self.pipe = Pipe()
        task.connection_made(cast("Any", self.pipe))
        task.keep()


class _Loop:
    """As much of a loop as the path asks for."""

    def __init__(self) -> None:
        self.ready: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def call_soon(self, call: Callable[..., object], *values: object) -> None:
        self.ready.append((call, values))

    def is_running(self) -> bool:
        return True


class _Recorder(Proxy):
    """A proxy that remembers which exchanges it was given."""

    def forward(self, exchange: Exchange) -> None:
        self.begun.append(exchange)
        super().forward(exchange)

    begun: list[Exchange]


class Rig(AbstractContextManager["Rig"]):
    """The path, and what a case sees of it."""

    def __init__(self) -> None:
        self._loop = loop = cast("Any", _Loop())
        self._clock = clock = Clock(loop, read=lambda: 1000.0)
        self.tally = tally = Tally()
        tables = Tables()
        upstreams = Upstreams(loop, clock, LIMITS, tally, ClientContexts(None))
        route = Route(
            name="shop/web/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=BACKEND),),
        )
        leaf = Backend(endpoints=(Endpoint(host="192.0.2.2", port=80),))
        snapshot = snapshot_of(
            hosts={HostPattern(""): VirtualHost(routes=(route,))}, backends={BACKEND: leaf}
        )
        upstreams.update(BACKEND, leaf)
        leaves = list(changes(NOTHING, snapshot))
        tables.swap(build_table(EMPTY, leaves, upstreams=upstreams, limits=LIMITS, tally=tally))
        self._proxy = _Recorder(
            tables=tables,
            clock=clock,
            limits=LIMITS,
            tally=tally,
            on_finished=None,
            on_bug=_raise,
        )
        self._listener = Listener(loop, self._proxy, clock, LIMITS, tally, Forwarding())
        (self.endpoint,) = upstreams.backend(BACKEND)._endpoints.values()
        self.links: list[Link] = []
        self.client = Pipe()
        self.connection = HttpConnection(self._listener, secure=False)

    def __enter__(self) -> Self:
        asyncio._set_running_loop(self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(None)

    @property
    def begun(self) -> list[Exchange]:
        """Every request of this case whose head was accepted."""
        return self._proxy.begun

    def begin(self) -> None:
        """Start a case: a new client, and one idle connection to the backend."""
        self._proxy.begun = []
        self._loop.ready.clear()
        self.links = []
        self.endpoint.idle.clear()
        self.endpoint.active = 0
        self.client = Pipe()
        self.connection = HttpConnection(self._listener, secure=False)
        self.connection.connection_made(cast("Any", self.client))
        self.supply()

    def supply(self) -> None:
        """See to it that there is an idle connection to the backend."""
        if not self.endpoint.idle:
            self.links.append(Link(BackendTask(self.endpoint, self._clock, LIMITS)))

    def from_client(self, data: bytes) -> None:
        """Let the client send."""
        self.supply()
        self.connection.data_received(data)
        self.run_ready()

    def from_backend(self, link: Link, data: bytes) -> None:
        """Let the backend send on one connection."""
        self.supply()
        link.task.data_received(data)
        self.run_ready()

    def take_all(self) -> None:
        """Let the client take what was written, and go on if it was slow."""
        if not self.client.over:
            self.connection.resume_writing()
            self.run_ready()

    def run_ready(self) -> None:
        """Do what was to be done soon, the ends of connections too."""
        while True:
            for link in self.links:
                if link.pipe.over and not link.pipe.lost:
                    link.pipe.lost = True
                    link.task.connection_lost(None)
            if self.client.over and not self.client.lost:
                self.client.lost = True
                self.connection.connection_lost(None)
            if not self._loop.ready:
                return
            self.supply()
            call, values = self._loop.ready.pop(0)
            call(*values)

    def end_client(self) -> None:
        """Let the client go away."""
        if not self.client.lost:
            self.client.aborted = self.client.lost = True
            self.connection.connection_lost(None)
            self.run_ready()

    def end_backend(self, link: Link, error: Exception | None) -> None:
        """Let the backend close one connection, or reset it."""
        if link.pipe.lost:
            return
        if error is None and link.task.eof_received():
            return
        link.pipe.closed = link.pipe.lost = True
        link.task.connection_lost(error)
        self.run_ready()


def _raise(_: str, bug: BaseException) -> None:
    raise bug
