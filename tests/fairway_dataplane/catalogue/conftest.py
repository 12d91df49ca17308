"""
A real proxy between raw sockets.

The client side sends raw bytes and sees raw bytes. The backend reads with h11,
an implementation that shares nothing with ours: what it cannot read, or reads
differently, is a desynchronisation. Answers are raw bytes too.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import h11
import pytest

from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.limits import Limits
from fairway_dataplane.link import Door
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.traffic import Traffic
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
from fairway_snapshot.protocol import Offer, Position
from fairway_snapshot.tree import EMPTY, Snapshot, snapshot_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE_SECONDS = 30.0
"""No test waits longer for something that must happen; a machine may be busy or slow."""


@dataclass(slots=True)
class Seen:
    """One request as the backend read it."""

    connection: int
    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    complete: bool = False

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class BackendServer:
    """Reads with h11, records, and answers what it is told."""

    port: int = 0
    raw: list[bytearray] = field(default_factory=list)
    """What came on each connection."""
    seen: list[Seen] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    answer: Callable[[Seen], bytes] = lambda _: OK
    close_after_answer: bool = False
    early: bool = False
    """Answer at the head, not at the end of the body."""

    tasks: "set[asyncio.Task[None] | None]" = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        number = len(self.raw)
        self.raw.append(bytearray())
        self.closed.append(False)
        connection = _BackendConnection(self, number, writer)
        try:
            while data := await reader.read(1 << 16):
                self.raw[number] += data
                connection.receive(data)
                if connection.over:
                    break
        except h11.RemoteProtocolError as error:
            self.unreadable.append(str(error))
        except ConnectionError:
            pass  # the proxy cut us off, which is what some rows are about
        finally:
            self.closed[number] = True
            writer.close()


class _BackendConnection:
    def __init__(self, backend: BackendServer, number: int, writer: asyncio.StreamWriter) -> None:
        self.over = False
        self._backend = backend
        self._number = number
        self._writer = writer
        self._parser = h11.Connection(h11.SERVER)
        self._request: Seen | None = None

    def receive(self, data: bytes) -> None:
        self._parser.receive_data(data)
        while (event := self._parser.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            match event:
                case h11.Request():
                    headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                    self._request = Seen(self._number, event.method, event.target, headers)
                    self._backend.seen.append(self._request)
                    if self._backend.early:
                        self._answer(self._request)
                case h11.Data():
                    assert self._request is not None
                    self._request.body += bytes(event.data)
                case h11.EndOfMessage():
                    assert self._request is not None
                    self._request.complete = True
                    if not self._backend.early:
                        self._answer(self._request)
                    # The raw answer is none of h11's business: read on with a new one.
                    rest = self._parser.trailing_data[0]
                    self._parser = h11.Connection(h11.SERVER)
                    if rest:
                        self._parser.receive_data(rest)

    def _answer(self, request: Seen) -> None:
        self._writer.write(self._backend.answer(request))
        self.over = self._backend.close_after_answer


@dataclass(slots=True)
class Answer:
    """One response as the client read it."""

    status: int
    head: bytes
    body: bytes
    interim: list[bytes]

    def field(self, name: bytes) -> bytes | None:
        found = re.search(rb"\r\n(?i:" + re.escape(name) + rb"): *([^\r]*)", self.head)
        return found[1] if found else None


class Client:
    """A raw connection to the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, *, head_only: bool = False) -> Answer | None:
        """Read one response; None when the connection ended instead."""
        interim: list[bytes] = []
        while True:
            try:
                head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None
            status = int(head.split(b" ", 2)[1])
            if status < 200 and status != 101:
                interim.append(head)
                continue
            answer = Answer(status, head, b"", interim)
            if head_only or status in (101, 204, 304):
                return answer
            answer.body = await asyncio.wait_for(self._body(answer), PATIENCE_SECONDS)
            return answer

    async def _body(self, answer: Answer) -> bytes:
        length = answer.field(b"content-length")
        if length is not None:
            return await self.reader.readexactly(int(length))
        if answer.field(b"transfer-encoding") == b"chunked":
            body = b""
            while True:
                size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
                chunk = await self.reader.readexactly(size + 2)
                assert chunk[size:] == b"\r\n"
                if size == 0:
                    return body
                body += chunk[:size]
        return await self.reader.read()

    async def ended(self) -> bool:
        """Say whether the proxy closes and sends nothing more."""
        try:
            return await asyncio.wait_for(self.reader.read(1), PATIENCE_SECONDS) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@dataclass(slots=True)
class Wire:
    """The proxy, its backend, and a way to connect."""

    port: int
    backend: BackendServer
    traffic: Traffic
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, *, head_only: bool = False) -> tuple[Client, Answer | None]:
        client = await self.connect()
        await client.send(data)
        return client, await client.receive(head_only=head_only)


def snapshot(port: int) -> Snapshot:
    """Every host goes to the backend, but ``*.none.example`` is nobody's."""
    backend = BackendId("test/backend:80")
    route = Route(
        name="test/all/0",
        match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
        backends=(WeightedBackend(backend=backend),),
    )
    return snapshot_of(
        hosts={
            HostPattern(""): VirtualHost(routes=(route,)),
            HostPattern("none.example"): VirtualHost(routes=()),
        },
        backends={backend: Backend(endpoints=(Endpoint(host="127.0.0.1", port=port),))},
    )


LIMITS = Limits(shutdown_seconds=0.3)


@pytest.fixture
def limits() -> Limits:
    """Return what the proxy allows; a row that is about a limit of time has a short one."""
    return LIMITS


@pytest.fixture
async def wire(limits: Limits) -> AsyncIterator[Wire]:
    """Start backend and proxy; nothing the backend could not read may be left behind."""
    backend = BackendServer()
    server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
    backend.port = server.sockets[0].getsockname()[1]
    doors = []
    port = 0
    for scheme in ("http", "https"):
        door = socket.socket()
        door.bind(("127.0.0.1", 0))
        door.listen()
        door.setblocking(False)  # noqa: FBT003 - the socket module's own
        port = port or door.getsockname()[1]
        doors.append(Door(slot=0, scheme=scheme, descriptor=door.detach()))
    config = DataplaneConfig(
        operators=("127.0.0.1:1",), limits=limits, trusted_networks=("127.0.0.2/32",)
    )
    traffic = Traffic(asyncio.get_running_loop(), config, doors, new_ticket_keys())
    offer = Offer(snapshot=snapshot(backend.port), position=Position(1, 1), previous=EMPTY)
    await traffic.apply(offer)
    await traffic.open(0)
    wire = Wire(port, backend, traffic)
    try:
        yield wire
    finally:
        for client in wire.clients:
            client.writer.close()
        await traffic.drain(0.2, closing=False)
        server.close()
        await asyncio.wait_for(asyncio.gather(*filter(None, backend.tasks)), PATIENCE_SECONDS)
