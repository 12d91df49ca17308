"""
What one ordinary request costs, counted and not timed: the same on a busy machine.

The twin of ``make bench-gate``. The request path is the real one; only the
event loop's transports are stood in for, so that every read and write is seen.
A ceiling that is exceeded says that a request does more than it did. Either
the change is worth it, and then the ceiling is raised in the same commit and
the reason given, or it is not.
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import pytest

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
from fairway_snapshot.tree import EMPTY as NOTHING
from fairway_snapshot.tree import snapshot_of

BACKEND = BackendId("shop/web:80")

REQUEST = b"GET /128 HTTP/1.1\r\nHost: shop.example\r\n\r\n"

BROWSER = (
    b"GET /128 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en,de;q=0.3\r\n"
    b"Accept-Encoding: gzip, br\r\nReferer: https://shop.example/\r\nDNT: 1\r\nCookie: a=b; c=d\r\n"
    b"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nPriority: u=0, i\r\n\r\n"
)

ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 21 Nov 2026 11:46:02 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 128\r\nConnection: keep-alive\r\n\r\n"
    + b"x"
    * 128
)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def get_extra_info(self, name: str) -> object:
        return ("192.0.2.1", 50_000) if name == "peername" else None

    def abort(self) -> None:
        raise AssertionError("the connection was given up")


class Path:
    """The request path of one worker, between two wires."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        clock, tally, tables = Clock(loop), Tally(), Tables()
        limits = Limits(requests_per_connection=1_000_000)
        upstreams = Upstreams(loop, clock, limits, tally, ClientContexts(None))
        proxy = Proxy(
            tables=tables,
            clock=clock,
            limits=limits,
            tally=tally,
            on_finished=None,
            on_bug=_raise,
        )
        listener = Listener(loop, proxy, clock, limits, tally, Forwarding())
        route = Route(
            name="shop/web/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=BACKEND),),
        )
        leaf = Backend(endpoints=(Endpoint(host="192.0.2.2", port=80),))
        snapshot = snapshot_of(
            hosts={HostPattern("shop.example"): VirtualHost(routes=(route,))},
            backends={BACKEND: leaf},
        )
        found = list(changes(NOTHING, snapshot))
        tables.swap(build_table(EMPTY, found, upstreams=upstreams, limits=limits, tally=tally))
        upstreams.update(BACKEND, leaf)
        (endpoint,) = upstreams.backend(BACKEND)._endpoints.values()
        self.to_client, self.to_backend = Wire(), Wire()
        self._backend = BackendTask(endpoint, clock, limits)
        self._backend.connection_made(cast("asyncio.Transport", self.to_backend))
        self._backend.keep()
        self._client = HttpConnection(listener, secure=False)
        self._client.connection_made(cast("asyncio.Transport", self.to_client))

    def ask(self, request: bytes, answer: bytes) -> None:
        """Pass one request and its answer through, as the loop does: one read each."""
        self._client.data_received(request)
        self._backend.data_received(answer)


def _raise(_: str, bug: BaseException) -> None:
    raise bug


@pytest.fixture
def path() -> Iterator[Path]:
    loop = asyncio.new_event_loop()
    yield Path(loop)
    loop.close()


def calls_of(work: Callable[[], None]) -> int:
    """Return how many functions are called, those written in C included."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        if event in {"call", "c_call"}:
            count += 1

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def instructions_of(work: Callable[[], None]) -> int:
    """Return how many bytecode instructions are carried out."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count += 1
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def fresh(number: int) -> tuple[bytes, bytes]:
    """Return a request and an answer whose heads have not been seen before."""
    mark = b"\r\nX-Mark: %06d\r\n\r\n" % number
    return BROWSER.replace(b"\r\n\r\n", mark), ANSWER.replace(b"\r\n\r\n", mark, 1)


CEILINGS = {"again": (60, 1_300), "new": (76, 1_600)}
"""
Calls and instructions: of a request whose lines and answer came before, and of one all new.

Those of Python 3.11, which counts most instructions; a few percent are left for what moves.
"""


@pytest.mark.parametrize("kind", CEILINGS)
def test_a_request_does_no_more_than_it_did(path: Path, kind: str) -> None:
    for number in range(3):
        path.ask(*fresh(number))
        path.ask(REQUEST, ANSWER)
    request, answer = (REQUEST, ANSWER) if kind == "again" else fresh(99)
    calls = calls_of(lambda: path.ask(request, answer))
    request, answer = (REQUEST, ANSWER) if kind == "again" else fresh(100)
    if kind == "again":
        path.ask(request, answer)
    instructions = instructions_of(lambda: path.ask(request, answer))
    most_calls, most_instructions = CEILINGS[kind]
    assert (calls <= most_calls, instructions <= most_instructions) == (True, True), (
        f"{calls} calls and {instructions} instructions, not {CEILINGS[kind]}"
    )


def test_each_half_is_written_once(path: Path) -> None:
    """With one read each, that is four system calls for a request."""
    path.ask(REQUEST, ANSWER)
    for number in range(1, 100):
        path.ask(REQUEST, ANSWER)
        path.ask(*fresh(number))
        assert len(path.to_backend.written) == len(path.to_client.written) == 1 + 2 * number


def test_a_request_leaves_nothing_behind(path: Path) -> None:
    """No allocation outlives its request, and none waits for the garbage collector."""
    requests = 1_000
    for _ in range(50):
        path.ask(REQUEST, ANSWER)
    path.to_client.written.clear()
    path.to_backend.written.clear()
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(requests):
            path.ask(REQUEST, ANSWER)
            path.to_client.written.clear()
            path.to_backend.written.clear()
        left = sys.getallocatedblocks() - before
    finally:
        gc.enable()
    assert left < requests // 20, f"{left} blocks after {requests} requests"
