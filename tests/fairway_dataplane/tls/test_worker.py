"""HTTP over TLS through all of a worker's traffic, to backends with and without it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.limits import Limits
from fairway_dataplane.link import Door
from fairway_dataplane.tls.certificates import load
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.traffic import Traffic
from fairway_snapshot.model import (
    Backend,
    BackendId,
    BackendProtocol,
    CertificateId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ServerName,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.protocol import Offer, Position
from fairway_snapshot.tree import EMPTY, snapshot_of
from tests.fairway_dataplane.tls.conftest import FALLBACK, PATIENCE_SECONDS, SHOP, WILD, Client

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LIMITS = Limits(drain_idle_seconds=0.2, shutdown_seconds=1.0)


@dataclass
class Behind:
    """A backend over TLS: what it heard, and of whom it was asked."""

    heard: bytearray = field(default_factory=bytearray)
    names: list[str | None] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.heard += data
                self.news.set()
                if self.heard.endswith(b"\r\n\r\n"):
                    writer.write(ANSWER)
        except (ConnectionError, ssl.SSLError):
            pass  # the proxy cuts connections whose request it gives up
        finally:
            self.gone.set()
            writer.close()


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    made = Behind()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, FALLBACK)
    context.sni_callback = lambda _, name, __: made.names.append(name)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@dataclass
class Worker:
    traffic: Traffic
    behind: Behind
    port: int
    clients: list[Client] = field(default_factory=list)
    drained: bool = False

    async def connect(self, name: str = "shop.example") -> Client:
        client = await Client.connect(self.port, name)
        self.clients.append(client)
        return client

    async def serve(self, *, server_name: str | None) -> None:
        route = Route(
            name="t/all/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=BackendId("t/backend:443")),),
        )
        at = Endpoint(host="127.0.0.1", port=self.behind.port)
        shop, wild = CertificateId("t/shop"), CertificateId("t/wild")
        names = {
            HostPattern("shop.example"): shop,
            HostPattern("*.shop.example"): wild,
            HostPattern("other.example"): wild,
        }
        made = snapshot_of(
            hosts={HostPattern(""): VirtualHost(routes=(route,))},
            backends={
                BackendId("t/backend:443"): Backend(
                    endpoints=(at,), protocol=BackendProtocol.HTTPS, server_name=server_name
                )
            },
            certificates={shop: SHOP, wild: WILD},
            server_names={name: ServerName(certificate=to) for name, to in names.items()},
        )
        await self.traffic.apply(Offer(snapshot=made, position=Position(1, 1), previous=EMPTY))


@pytest.fixture
async def worker(behind: Behind, bundle: Path) -> AsyncIterator[Worker]:
    doors, ports = [], []
    for scheme in ("http", "https"):
        door = socket.create_server(("127.0.0.1", 0))
        door.setblocking(False)  # noqa: FBT003 - the socket module's own
        ports.append(door.getsockname()[1])
        doors.append(Door(slot=0, scheme=scheme, descriptor=door.detach()))
    config = DataplaneConfig(
        operators=("127.0.0.1:1",), limits=LIMITS, backend_authorities=str(bundle)
    )
    traffic = Traffic(asyncio.get_running_loop(), config, doors, new_ticket_keys())
    await traffic.open(0)
    made = Worker(traffic, behind, ports[1])
    yield made
    for client in made.clients:
        client.cut()
    if not made.drained:
        await traffic.drain(0.0, closing=False)


async def ask(client: Client, host: str) -> int:
    """Return the status of the answer, whose body is read too."""
    client.send(b"GET / HTTP/1.1\r\nhost: %b\r\n\r\n" % host.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await client.receive(1)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await client.receive(length)
    return int(head.split()[1])


async def test_t104_a_host_of_another_certificate_is_misdirected_and_the_connection_goes_on(
    worker: Worker,
) -> None:
    await worker.serve(server_name=None)
    client = await worker.connect("a.shop.example")

    assert await ask(client, "a.shop.example") == 200
    assert await ask(client, "shop.example") == 421
    assert await ask(client, "other.example") == 200, "the same certificate"
    assert worker.behind.heard.count(b"GET /") == 2


async def test_every_context_of_a_worker_prefers_the_suite_that_costs_least(worker: Worker) -> None:
    await worker.serve(server_name=None)
    for name in ("shop.example", "a.shop.example", "nobody.example"):
        client = await worker.connect(name)
        # Its own order is that of OpenSSL: SHA-384 first.
        assert client.tls.cipher() == ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128), name


@pytest.mark.parametrize(
    ("server_name", "status", "asked"),
    [
        pytest.param(None, 200, [None], id="not verified"),
        pytest.param("localhost", 200, ["localhost"], id="verified"),
        pytest.param("other.example", 503, ["other.example"], id="with another name"),
    ],
)
async def test_a_backend_over_tls_is_asked_for_the_name_that_it_must_prove(
    worker: Worker, server_name: str | None, status: int, asked: list[str | None]
) -> None:
    await worker.serve(server_name=server_name)
    client = await worker.connect()

    assert await ask(client, "shop.example") == status
    assert set(worker.behind.names) == set(asked)
    assert bool(worker.behind.heard) is (status == 200)


async def test_a_body_cut_off_by_the_end_of_tcp_is_not_passed_on_as_whole(worker: Worker) -> None:
    await worker.serve(server_name=None)
    client = await worker.connect()
    head = b"POST / HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n"
    client.send(head + b"4\r\nhalf")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while b"half" not in worker.behind.heard:
            worker.behind.news.clear()
            await worker.behind.news.wait()
    client.end()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await worker.behind.gone.wait()
    assert not worker.behind.heard.endswith(b"0\r\n\r\n")


async def test_a_drain_says_goodbye_to_idle_clients_and_waits_for_none_of_them(
    worker: Worker,
) -> None:
    await worker.serve(server_name=None)
    client = await worker.connect()
    assert await ask(client, "shop.example") == 200
    worker.drained = True
    draining = asyncio.create_task(worker.traffic.drain(10 * PATIENCE_SECONDS, closing=False))

    await client.receive_goodbye()
    # It says nothing more, and is waited for a second and not to the end of the drain.
    report = await asyncio.wait_for(draining, PATIENCE_SECONDS)
    assert (report.finished, report.aborted) == (1, 0)
