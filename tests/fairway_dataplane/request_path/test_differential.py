"""
The same bytes, read by us and by h11.

Valid requests are damaged and cut into pieces. Whatever of them reaches a
backend must be what h11, which shares no code with us, reads in the bytes of
the client, and it must read the forwarded bytes in the same way. What we refuse
and h11 takes is policy; the opposite is a way to smuggle.
"""

import asyncio
import os
from dataclasses import dataclass, field, replace
from typing import Any, cast

import h11
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.listener import Forwarding, Listener
from fairway_dataplane.policy import Limits
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
from fairway_snapshot.target import TargetRefused, normalize_path
from fairway_snapshot.tree import EMPTY as NOTHING
from fairway_snapshot.tree import snapshot_of

BACKEND = BackendId("shop/web:80")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

REQUESTS = (
    b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n",
    b"GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\nHost: a.example\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
    (
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n3;a=b\r\n\r\n0\r\n0\r\nX: y\r\n\r\n"
    ),
    b"DELETE /a/../b HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
    b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n0\r\n",
    b"GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
)

DAMAGE = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\x80", b":", b",",
    b";", b"0", b"1", b"f", b"-", b"+", b"_", b"0\r\n\r\n", b"%2e", b"/", b"?", b"#", b"*",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked, gzip\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n",
    b"Connection: close\r\n", b"Connection: content-length\r\n", b"Host: b.example\r\n",
    b"Expect: 100-continue\r\n", b" folded\r\n", b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
)  # fmt: skip


@dataclass
class Pipe:
    """A transport whose other end is the test."""

    written: bytearray = field(default_factory=bytearray)
    over: bool = False

    def write(self, data: bytes) -> None:
        if not self.over:
            self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.over = True

    abort = write_eof = close

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing more comes than what was given."""

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.1", 1) if name == "peername" else default


Reading = tuple[bytes, bytes, bytes]
"""Method, target and body."""


class Oracle:
    """h11, reading requests one after the other."""

    def __init__(self, whole: list[Reading], *, skips_empty_lines: bool) -> None:
        self._skips_empty_lines = skips_empty_lines
        self.refused = ""
        self._whole = whole
        self._head: tuple[bytes, bytes] | None = None
        self._body = b""
        self._connection = h11.Connection(h11.SERVER)

    def feed(self, data: bytes) -> int:
        """Return how many requests became whole."""
        before = len(self._whole)
        try:
            self._connection.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self.refused = str(error)
        return len(self._whole) - before

    def _read(self) -> None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request):
                self._head, self._body = (event.method, event.target), b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert self._head is not None
                self._whole.append((*self._head, self._body))
                # Whether the connection goes on is not the question: read on with a new one.
                rest = self._connection.trailing_data[0]
                if self._skips_empty_lines:
                    rest = without_empty_lines(rest)
                self._connection = h11.Connection(h11.SERVER)
                if not rest:
                    return
                self._connection.receive_data(rest)
            else:
                return


@dataclass
class Wire:
    """The request path of a worker without a socket."""

    client: Pipe
    connection: HttpConnection
    backends: list[tuple[BackendTask, Pipe, Oracle]]
    forwarded: list[Reading]

    async def send(self, data: bytes) -> None:
        if not self.client.over:
            self.connection.data_received(data)
        moved = True
        while moved:
            await asyncio.sleep(0)
            moved = False
            for task, pipe, oracle in self.backends:
                if pipe.written:
                    data = bytes(pipe.written)
                    pipe.written.clear()
                    moved = True
                    for _ in range(oracle.feed(data)):
                        task.data_received(OK)


def make_wire() -> Wire:
    loop = asyncio.get_running_loop()
    clock, tally, tables = Clock(loop), Tally(), Tables()
    limits = replace(Limits(), header_block_bytes=8192)
    upstreams = Upstreams(loop, clock, limits, tally, ClientContexts(None))
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
    tables.swap(
        build_table(
            EMPTY, list(changes(NOTHING, snapshot)), upstreams=upstreams, limits=limits, tally=tally
        )
    )

    def raise_it(_: str, bug: BaseException) -> None:
        raise bug

    proxy = Proxy(
        tables=tables, clock=clock, limits=limits, tally=tally, on_finished=None, on_bug=raise_it
    )
    listener = Listener(loop, proxy, clock, limits, tally, Forwarding())
    (endpoint,) = upstreams.backend(BACKEND)._endpoints.values()
    backends = []
    forwarded: list[Reading] = []
    for _ in range(8):
        task, pipe = BackendTask(endpoint, clock, limits), Pipe()
        task.connection_made(cast("Any", pipe))
        task.keep()
        backends.append((task, pipe, Oracle(forwarded, skips_empty_lines=False)))
    client = Pipe()
    connection = HttpConnection(listener, secure=False)
    connection.connection_made(cast("Any", client))
    return Wire(client, connection, backends, forwarded)


@st.composite
def damaged(draw: st.DrawFn) -> list[bytes]:
    raw = b"".join(draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        drop = draw(st.sampled_from((0, 0, 1, 2, 5)))
        raw = raw[:at] + draw(st.sampled_from(DAMAGE)) + raw[at + drop :]
    cuts = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if a < b]


@given(damaged())
@example([REQUESTS[3] + REQUESTS[0]])
@settings(
    max_examples=int(os.environ.get("FAIRWAY_TEST_EXAMPLES", "400")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_what_is_forwarded_is_what_h11_reads(pieces: list[bytes]) -> None:
    wire = make_wire()
    for piece in pieces:
        await wire.send(piece)

    expected: list[Reading] = []
    Oracle(expected, skips_empty_lines=True).feed(without_empty_lines(b"".join(pieces)))
    assert [oracle.refused for _, _, oracle in wire.backends if oracle.refused] == []
    assert wire.forwarded == [settled(reading) for reading in expected][: len(wire.forwarded)]


def without_empty_lines(raw: bytes) -> bytes:
    """Return what follows up to two empty lines (row 33), which h11 would refuse."""
    return raw.removeprefix(b"\r\n").removeprefix(b"\r\n")


def settled(reading: Reading) -> Reading | None:
    """Return a reading with its target as we forward it."""
    method, target, body = reading
    path, mark, query = target.partition(b"?")
    try:
        return method, normalize_path(path) + mark + query, body
    except TargetRefused:
        return None
