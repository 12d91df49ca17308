"""A proxy between real sockets: a client that sends bytes, a backend that records bytes."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import uvloop

from fairway_dataplane.clock import TICK_SECONDS, Clock
from fairway_dataplane.downstream.listener import Forwarding, Listener
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.table import EMPTY, Tables, build_table
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.client import ClientContexts
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

PATIENCE_SECONDS = 30.0
"""No test waits longer for something that must happen; a machine may be busy or slow."""

STILL_LOOKS = 20
"""At 0.02 s each they outlast what the kernel does by itself, as to probe a closed window."""

BACKEND = BackendId("shop/web:80")

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that workers run on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Link:
    """One connection to a backend, as the backend sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[bytes] = field(default_factory=list)
    """Each whole request as it arrived."""
    sent: int = 0
    """Bytes of an answer without end that could be written so far."""

    async def read(self) -> bytes:
        data = await self.reader.read(65536)
        self.received += data
        return data

    async def request(self) -> bytes:
        """Read one whole request, naively: what is sent here has to be unambiguous."""
        held = bytearray()
        while b"\r\n\r\n" not in held:
            held += await self._more()
        head, _, body = held.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: ([0-9]+)", head)
        if re.search(rb"\r\ntransfer-encoding: chunked", head):
            while not body.endswith(b"0\r\n\r\n"):
                body += await self._more()
        elif length:
            while len(body) < int(length[1]):
                body += await self._more()
        whole = bytes(head + b"\r\n\r\n" + body)
        self.requests.append(whole)
        return whole

    async def _more(self) -> bytes:
        data = await self.read()
        if not data:
            raise EOFError
        return data

    async def wait_closed(self) -> None:
        """Wait until the proxy has closed its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionError):
                while await self.read():
                    pass


Script = Callable[[Link], Awaitable[None]]


async def answer_ok(link: Link) -> None:
    """Answer each request with 200."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            await link.request()
            link.writer.write(OK)


def answering(*responses: bytes) -> Script:
    """Answer the requests of a connection with these bytes, then close it."""

    async def script(link: Link) -> None:
        for response in responses:
            await link.request()
            link.writer.write(response)
        await link.writer.drain()

    return script


class Held:
    """A backend that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, link: Link) -> None:
        while True:
            await link.request()
            await self.go_on.wait()
            link.writer.write(OK)


class Upstream:
    """A backend with a script; it records what it gets."""

    def __init__(self, script: Script = answer_ok) -> None:
        self.script = script
        self.links: list[Link] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._linked = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        for link in self.links:
            link.writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def link(self, number: int = 1) -> Link:
        """Wait for the n-th connection."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._linked:
            await self._linked.wait_for(lambda: len(self.links) >= number)
        return self.links[number - 1]

    @property
    def requests(self) -> list[bytes]:
        return [request for link in self.links for request in link.requests]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            async with self._linked:
                self.links.append(link)
                self._linked.notify_all()
            await self.script(link)
        except (EOFError, ConnectionError, asyncio.CancelledError):
            pass  # the other side went away, or the test is over
        finally:
            self._tasks.discard(task)
            link.closed.set()
            writer.close()

    def sent(self) -> int:
        """Return what :func:`without_end` could write."""
        return sum(link.sent for link in self.links)


async def without_end(link: Link) -> None:
    """Answer with as much as is taken, up to a gigabyte."""
    await link.request()
    link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
    block = b"x" * 65536
    while True:
        link.writer.write(block)
        await link.writer.drain()
        link.sent += len(block)


@dataclass
class Response:
    """A response as a strict reader sees it."""

    status: int
    head: bytes
    body: bytes

    def field(self, name: bytes) -> bytes | None:
        found = re.search(rb"\r\n(?i:" + re.escape(name) + rb"): ([^\r]*)", self.head)
        return None if found is None else found[1]

    @property
    def reason(self) -> str:
        return (self.field(b"fairway-reason") or b"").decode()


class Client:
    """A client that sends bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def response(self, *, head_only: bool = False) -> Response:
        """Read one response; interim ones come as responses of their own."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head[9:12])
            found = Response(status, head, b"")
            length = found.field(b"content-length")
            if head_only or status < 200 or status in (204, 304):
                return found
            if found.field(b"transfer-encoding") == b"chunked":
                while True:
                    size = int(await self.reader.readuntil(b"\r\n"), 16)
                    data = await self.reader.readexactly(size + 2)
                    assert data.endswith(b"\r\n")
                    if not size:
                        return found
                    found.body += data[:-2]
            if length is not None:
                found.body = await self.reader.readexactly(int(length))
            else:
                found.body = await self.reader.read()
            return found

    async def rest(self) -> bytes:
        """Read until the proxy ends the connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def abort(self) -> None:
        """Leave with a reset: an end without one may be that of this side alone."""
        transport = self.writer.transport
        if not transport.is_closing():
            end_at_once = struct.pack("ii", 1, 0)
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, end_at_once)
        transport.abort()


@dataclass
class Stage:
    """The request path of one worker, and its surroundings."""

    upstream: Upstream
    upstreams: Upstreams
    listener: Listener
    clock: Clock
    tally: Tally
    tables: Tables
    limits: Limits
    port: int
    bugs: list[BaseException]
    _time: list[float]
    _clients: list[Client]

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = Client(reader, writer)
        self._clients.append(client)
        return client

    async def ask(self, raw: bytes) -> Response:
        """Send a request on a connection of its own and return its response."""
        client = await self.connect()
        client.send(raw)
        return await client.response()

    def advance(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        for _ in range(round(seconds / TICK_SECONDS)):
            self._time[0] += TICK_SECONDS
            self.clock.advance()

    async def settle(self, until: Callable[[], bool]) -> None:
        """Run the loop until something is so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not until():  # noqa: ASYNC110 - what is waited for belongs to another object
                await asyncio.sleep(0.001)

    async def heard(self, *sizes: int) -> None:
        """Wait until the proxy has read so many bytes of heads that are not complete."""
        await self.settle(
            lambda: (
                [row["held_bytes"] for row in self.listener.connections() if row["held_bytes"]]
                == list(sizes)
            )
        )

    async def still(self, read: Callable[[], int]) -> None:
        """
        Wait until a number that has begun to grow grows no more.

        Each look is a turn of the loop, in which whatever could move would have:
        a machine that is elsewhere for a while is not taken for the end.
        """
        looks, last = 0, 0
        async with asyncio.timeout(PATIENCE_SECONDS):
            while looks < STILL_LOOKS:
                await asyncio.sleep(0.02)
                now = read()
                looks, last = (looks + 1 if now == last and now else 0), now

    def serve(self, *routes: Route, **backends: Backend) -> None:
        """Serve these routes for any host."""
        snapshot = snapshot_of(
            hosts={HostPattern(""): VirtualHost(routes=routes)},
            backends={BackendId(name): leaf for name, leaf in backends.items()},
        )
        table = build_table(
            EMPTY,
            list(changes(NOTHING, snapshot)),
            upstreams=self.upstreams,
            limits=self.limits,
            tally=self.tally,
        )
        for name, leaf in backends.items():
            self.upstreams.update(BackendId(name), leaf)
        self.tables.swap(table)


def to(*ports: int, **more: Any) -> Backend:
    """Return a backend with endpoints on this machine."""
    return Backend(
        endpoints=tuple(Endpoint(host="127.0.0.1", port=port) for port in sorted(ports)), **more
    )


def route(*, path: str = "/", **more: Any) -> Route:
    """Return a route to the backend of the stage."""
    return Route(
        name="shop/web/0",
        match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value=path)),
        backends=(WeightedBackend(backend=BACKEND),),
        **more,
    )


StageMaker = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def make_stage() -> AsyncIterator[StageMaker]:
    """Make a stage; keyword arguments are limits, but for ``script``, ``forwarding``, ``wrap``."""
    stages: list[Stage] = []

    async def make(
        script: Script = answer_ok,
        *,
        forwarding: Forwarding | None = None,
        wrap: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None,
        on_finished: Callable[[Exchange], None] | None = None,
        **limits: Any,
    ) -> Stage:
        upstream = Upstream(script)
        await upstream.start()
        loop = asyncio.get_running_loop()
        time = [1000.0]
        clock = Clock(loop, read=lambda: time[0])
        tally, tables = Tally(), Tables()
        settings = replace(Limits(), **limits)
        bugs: list[BaseException] = []
        upstreams = Upstreams(loop, clock, settings, tally, ClientContexts(None))
        proxy = Proxy(
            tables=tables,
            clock=clock,
            limits=settings,
            tally=tally,
            on_finished=on_finished,
            on_bug=lambda _, bug: bugs.append(bug),
        )
        listener = Listener(loop, proxy, clock, settings, tally, forwarding or Forwarding())
        sock = socket.create_server(("127.0.0.1", 0))
        await listener.accept(sock, wrap)
        port = sock.getsockname()[1]
        sock.close()
        stage = Stage(
            upstream, upstreams, listener, clock, tally, tables, settings, port, bugs, time, []
        )
        stage.serve(route(), **{BACKEND: to(upstream.port)})
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        for client in stage._clients:
            client.abort()
        stage.listener.stop_accepting()
        await stage.listener.drain(0.0)
        stage.upstreams.close()
        await stage.upstream.stop()
        await stage.settle(partial(_is_empty, stage.listener))
        assert not stage.bugs


def _is_empty(listener: Listener) -> bool:
    return not listener.connections()


@pytest.fixture
async def stage(make_stage: StageMaker) -> Stage:
    return await make_stage()


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Return a port that swallows connections, as the address of a dead pod does."""
    # A full backlog: the kernel drops further attempts.
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        for _ in range(4):
            stuffing = stack.enter_context(socket.socket())
            stuffing.settimeout(0.0)
            stuffing.connect_ex(("127.0.0.1", port))
        yield port
