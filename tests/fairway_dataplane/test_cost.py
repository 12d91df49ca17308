"""
What one ordinary request costs, counted and not timed: the same on a busy machine.

The twin of ``make bench-gate``. The request path is the real one; only the
event loop's transports are stood in for, so that every read and write is seen.
A ceiling that is exceeded says that a request does more than it did. Either
the change is worth it, and then the ceiling is raised in the same commit and
the reason given, or it is not.
"""

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from types import CodeType, FrameType
from typing import Any, cast

import pytest
import uvloop

from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream import http1
from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.listener import Forwarding, Listener
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


class Worker:
    """The request path of one worker, for one endpoint."""

    def __init__(self, loop: asyncio.AbstractEventLoop, endpoint: Endpoint) -> None:
        self.clock, tally, tables = Clock(loop), Tally(), Tables()
        self.limits = Limits(requests_per_connection=1_000_000)
        upstreams = Upstreams(loop, self.clock, self.limits, tally, ClientContexts(None))
        proxy = Proxy(
            tables=tables,
            clock=self.clock,
            limits=self.limits,
            tally=tally,
            on_finished=None,
            on_bug=_raise,
        )
        self.listener = Listener(loop, proxy, self.clock, self.limits, tally, Forwarding())
        route = Route(
            name="shop/web/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=BACKEND),),
        )
        leaf = Backend(endpoints=(endpoint,))
        snapshot = snapshot_of(
            hosts={HostPattern("shop.example"): VirtualHost(routes=(route,))},
            backends={BACKEND: leaf},
        )
        found = list(changes(NOTHING, snapshot))
        table = build_table(EMPTY, found, upstreams=upstreams, limits=self.limits, tally=tally)
        tables.swap(table)
        upstreams.update(BACKEND, leaf)
        (self.endpoint,) = upstreams.backend(BACKEND)._endpoints.values()


class Path:
    """That path between two wires."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        worker = Worker(loop, Endpoint(host="192.0.2.2", port=80))
        self.to_client, self.to_backend = Wire(), Wire()
        self._backend = BackendTask(worker.endpoint, worker.clock, worker.limits)
        self._backend.connection_made(cast("asyncio.Transport", self.to_backend))
        self._backend.keep()
        self._client = HttpConnection(worker.listener, secure=False)
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
    made = Path(loop)
    # The collector may come at any time, and those who watch it would be counted.
    gc.collect()
    gc.disable()
    yield made
    gc.enable()
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


if sys.version_info >= (3, 12):  # since then a trace function no longer sees every instruction

    def instructions_of(work: Callable[[], None]) -> int:
        """Return how many bytecode instructions are carried out, but for those of this file."""
        monitoring, count = sys.monitoring, 0

        def note(code: CodeType, _offset: int) -> None:
            nonlocal count
            count += code.co_filename != __file__

        tool = monitoring.PROFILER_ID
        monitoring.use_tool_id(tool, "cost")
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, note)
        monitoring.set_events(tool, monitoring.events.INSTRUCTION)
        try:
            work()
        finally:
            monitoring.set_events(tool, 0)
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
            monitoring.free_tool_id(tool)
        return count

else:

    def instructions_of(work: Callable[[], None]) -> int:
        """Return how many bytecode instructions are carried out, but for those of this file."""
        count = 0

        def note(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal count
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            if event == "opcode":
                count += frame.f_code.co_filename != __file__
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


CEILINGS = {"again": (60, 1_300), "new": (115, 2_050)}
"""
Calls and instructions: of a request whose lines and answer came before, and of one all new.

Those of Python 3.11, which counts most instructions; a few percent are left for what moves.
"""

LEFT = {"again": (5, 30), "new": (5, 30)}
"""Of those, what is left when the request path is compiled: more is a part that no longer is."""

IS_COMPILED = not (http1.__file__ or "").endswith(".py")


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
    most_calls, most_instructions = most = (LEFT if IS_COMPILED else CEILINGS)[kind]
    found = f"{calls} calls and {instructions} instructions, not {most}"
    assert (calls <= most_calls, instructions <= most_instructions) == (True, True), found
    # Much less is no success but a count that saw nothing.
    assert IS_COMPILED or (calls > most_calls / 2, instructions > most_instructions / 2) == (
        True,
        True,
    ), found


def test_each_half_is_written_once(path: Path) -> None:
    path.ask(REQUEST, ANSWER)
    for number in range(1, 100):
        path.ask(REQUEST, ANSWER)
        path.ask(*fresh(number))
        assert len(path.to_backend.written) == len(path.to_client.written) == 1 + 2 * number


def test_a_request_is_four_system_calls() -> None:
    """One read and one write on either side, between real sockets and as the kernel counts."""
    requests = 200
    with served() as (client, backend, counted):
        for _ in range(3):
            exchange(client, backend)
        before = counted()
        for _ in range(requests):
            exchange(client, backend)
        # The kernel counts a write after the other side has been woken.
        assert abs(counted() - before - 4 * requests) <= 1


def exchange(client: socket.socket, backend: socket.socket) -> None:
    """Pass one request and its answer through, in lockstep."""
    client.sendall(REQUEST)
    assert backend.recv(65536).startswith(b"GET /128 ")
    backend.sendall(ANSWER)
    assert client.recv(65536).endswith(b"x" * 128)


@contextlib.contextmanager
def served() -> Iterator[tuple[socket.socket, socket.socket, Callable[[], int]]]:
    """Serve in a thread; yield both connections, and what counts that thread's reads and writes."""
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        before = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        loop = uvloop.new_event_loop()
        worker = Worker(loop, Endpoint(host="127.0.0.1", port=behind.getsockname()[1]))
        loop.run_until_complete(worker.listener.accept(before))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        stack.callback(thread.join)
        stack.callback(loop.call_soon_threadsafe, loop.stop)
        client = stack.enter_context(socket.create_connection(before.getsockname(), 30.0))
        client.sendall(REQUEST)
        backend = stack.enter_context(behind.accept()[0])
        backend.settimeout(30.0)
        backend.recv(65536)
        backend.sendall(ANSWER)
        client.recv(65536)
        counters = FilePath(f"/proc/self/task/{thread.native_id}/io")

        def counted() -> int:
            fields = dict(line.split(": ") for line in counters.read_text().splitlines())
            return int(fields["syscr"]) + int(fields["syscw"])

        yield client, backend, counted
        loop.call_soon_threadsafe(worker.listener.stop_accepting)
    loop.close()


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
