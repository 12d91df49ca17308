"""
A whole data plane in a test: real processes, a real operator's stream, real TLS.

``Operator`` speaks the real protocol from a gRPC server in the test;
``Dataplane`` is the program as it is shipped, started from its environment;
``Backend`` is a small HTTP server that can be told to hold its answers back.
"""

import asyncio
import contextlib
import datetime as dt
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import aiohttp
import grpc
import grpc.aio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairway_snapshot.digest import Digest
from fairway_snapshot.model import (
    Backend as BackendLeaf,
)
from fairway_snapshot.model import (
    BackendId,
    Certificate,
    CertificateId,
    Endpoint,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    ServerName,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.protocol import (
    METHOD,
    Ack,
    Hello,
    Message,
    Nack,
    PublisherSession,
    SnapshotHistory,
    decode,
    encode,
)
from fairway_snapshot.secret import SecretBytes
from fairway_snapshot.tree import EMPTY, Edit, Snapshot

LIMIT_SECONDS = 60.0
"""No wait in these tests is longer; each ends by an event long before, even on a slow machine."""


# Certificates.


class Authority:
    """Signs what a test needs, in memory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._certificate = _sign(name, name, self._key, self._key, names=(), authority=True)
        self._name = name
        self.trusted = self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Return a certificate for a DNS name, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = _sign(subject, self._name, key, self._key, names=(name,), authority=False)
        return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def covering(self, snapshot: Snapshot, host: str) -> Snapshot:
        """Return the snapshot with a certificate for a host."""
        chain, key = self.issue(host)
        name = CertificateId(f"test/{host}")
        return snapshot.evolve(
            [
                Edit(Section.CERTIFICATES, name, Certificate(chain=chain, key=SecretBytes(key))),
                Edit(Section.SERVER_NAMES, host, ServerName(certificate=name)),
            ]
        )


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    names: Sequence[str],
    authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    """Return an authority that nobody trusts."""
    return Authority()


# The operator.

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


@dataclass(eq=False)
class Operator:
    """The publishing side of the stream; ``port`` stays the same over a restart."""

    authority: Authority
    port: int = 0
    server: grpc.aio.Server | None = None
    sent_bytes: int = 0
    hellos: list[Hello] = field(default_factory=list)
    peers: list[bytes] = field(default_factory=list)
    """The certificate that each subscriber showed."""
    acks: list[Digest] = field(default_factory=list)
    nacks: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    spoil: Callable[[Message], Message] | None = None
    """Changes what is sent."""
    _history: SnapshotHistory = field(default_factory=lambda: SnapshotHistory(limit=16))
    _newest: Snapshot | None = None
    _sequence: int = 0
    _calls: "dict[PublisherSession, _Context]" = field(default_factory=dict)

    async def start(self) -> None:
        """Listen, with mutual TLS."""
        chain, key = self.authority.issue("fairway-operator")
        handler = grpc.stream_stream_rpc_method_handler(self._subscribe)
        service, _, method = METHOD.strip("/").partition("/")
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], self.authority.trusted, require_client_auth=True
        )
        self.port = self.server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self.server.start()

    async def stop(self) -> None:
        """Go away, with every call."""
        if self.server is not None:
            await self.server.stop(None)
            self.server = None

    async def publish(self, snapshot: Snapshot) -> None:
        """Send a snapshot to whoever subscribes, now and later."""
        self._newest = snapshot
        self._sequence += 1
        for session, context in tuple(self._calls.items()):
            await self._send(context, session.publish(snapshot, 1, self._sequence))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that is recorded here holds."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def acked(self, snapshot: Snapshot) -> None:
        """Wait until a snapshot is acknowledged."""
        await self.until(lambda: bool(self.acks) and self.acks[-1] == snapshot.root)

    async def _subscribe(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        session = PublisherSession(self._history)
        self._calls[session] = context
        try:
            async for data in requests:
                message = decode(data)
                match message:
                    case Hello():
                        self.hellos.append(message)
                        self.peers.extend(context.auth_context()["x509_pem_cert"])
                    case Ack():
                        self.acks.append(message.root)
                    case Nack():
                        self.nacks.append(message.reason)
                    case _:
                        raise AssertionError(message)
                await self._send(context, session.receive(message))
                if isinstance(message, Hello) and self._newest is not None:
                    update = session.publish(self._newest, 1, self._sequence)
                    await self._send(context, update)
                self.changed.set()
        finally:
            del self._calls[session]

    async def _send(self, context: _Context, messages: list[Message]) -> None:
        for message in messages:
            data = encode(message if self.spoil is None else self.spoil(message))
            self.sent_bytes += len(data)
            await context.write(data)


@pytest.fixture
async def operator(authority: Authority) -> AsyncIterator[Operator]:
    running = Operator(authority)
    await running.start()
    yield running
    await running.stop()


# Backends.


@dataclass(eq=False)
class Backend:
    """Answers every request with its name; ``hold`` keeps answers back until it is set."""

    name: str
    port: int = 0
    requests: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    def edits(self, host: str) -> list[Edit]:
        """Send a host here."""
        name = BackendId(f"test/{self.name}:80")
        route = Route(
            name=f"test/{host}/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=name),),
        )
        endpoints = (Endpoint(host="127.0.0.1", port=self.port),)
        return [
            Edit(Section.HOSTS, host, VirtualHost(routes=(route,))),
            Edit(Section.BACKENDS, name, BackendLeaf(endpoints=endpoints)),
        ]

    def unbuildable(self, host: str) -> Snapshot:
        """Return a verifiable snapshot with a route that no table can hold."""
        path = PathMatch(kind=PathKind.REGEX, value="/(unbalanced")
        route = Route(name=f"test/{host}/0", match=RouteMatch(path=path))
        return EMPTY.evolve([Edit(Section.HOSTS, host, VirtualHost(routes=(route,)))])

    def serving(self, host: str) -> Snapshot:
        """Return the snapshot that sends a host here and nothing else anywhere."""
        return EMPTY.evolve(self.edits(host))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.arrived.set()
                if self.hold is not None:
                    await self.hold.wait()
                body = self.name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


StartBackend: TypeAlias = Callable[[str], Awaitable[Backend]]


@pytest.fixture
async def start_backend() -> AsyncIterator[StartBackend]:
    servers = []

    async def start(name: str) -> Backend:
        backend = Backend(name)
        server = await asyncio.start_server(backend.serve, "127.0.0.1", 0)
        backend.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        return backend

    yield start
    for server in servers:
        server.close()


# The data plane.


@dataclass(eq=False)
class Answer:
    """What came back, or what broke."""

    status: int
    body: str


@dataclass(eq=False)
class Dataplane:
    """The supervisor's process and what it says on stderr."""

    command: tuple[str, ...]
    environ: dict[str, str]
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    events: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    """Its stderr has ended: neither it nor a worker of it lives."""
    http_port: int = 0
    https_port: int = 0
    admin_port: int = 0

    async def listen(self) -> None:
        """Collect its log until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode()
            self.lines.append(text)
            if text.startswith("{"):
                self.events.append(json.loads(text))
            self.news.set()
        self.silent.set()

    async def event(self, name: str, *, count: int = 1) -> dict[str, object]:
        """Wait until it has logged an event for the nth time; return that."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(found := [one for one in self.events if one["event"] == name]) < count:
                self.news.clear()
                await self.news.wait()
        return found[count - 1]

    async def get(self, host: str = "shop.example", path: str = "/") -> Answer:
        """Send one request on a connection of its own."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        headers = {"host": host, "connection": "close"}
        async with self.session.get(url, headers=headers) as response:
            return Answer(response.status, await response.text())

    async def admin(self, path: str) -> Answer:
        """Read a page of the admin port."""
        async with self.session.get(f"http://127.0.0.1:{self.admin_port}{path}") as response:
            return Answer(response.status, await response.text())

    async def ready(self) -> None:
        """Wait until it serves, which is when it must say that it is ready."""
        await self.event("snapshot_served")
        assert (await self.admin("/readyz")).status == 200

    async def workers(self) -> list[int]:
        """Return the process ids of the workers that serve, by slot."""
        rows = json.loads((await self.admin("/debug/connections")).body)["workers"]
        return [row["pid"] for row in rows if row["serves"]]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection to the HTTP port."""
        return await asyncio.open_connection("127.0.0.1", self.http_port)

    def signal(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    async def refuses(self) -> None:
        """Wait until nobody listens at the HTTP port."""
        async with asyncio.timeout(LIMIT_SECONDS):
            with contextlib.suppress(ConnectionRefusedError):
                while True:
                    _, writer = await self.connect()
                    writer.close()

    async def dead(self) -> None:
        """Wait until the supervisor itself is gone, whoever outlives it."""
        gone = asyncio.Event()
        descriptor = os.pidfd_open(self.process.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, gone.set)
        async with asyncio.timeout(LIMIT_SECONDS):
            await gone.wait()
        loop.remove_reader(descriptor)
        os.close(descriptor)

    async def ended(self) -> int:
        """Wait for the end, that of its workers included; return the exit code."""
        async with asyncio.timeout(LIMIT_SECONDS):
            return await self.process.wait()


StartDataplane: TypeAlias = Callable[..., Awaitable[Dataplane]]


@pytest.fixture
def settings(operator: Operator, authority: Authority, tmp_path: Path) -> dict[str, str]:
    """Settings of a data plane that subscribes to ``operator``; a test changes what it likes."""
    chain, key = authority.issue("dataplane")
    for name, content in (("tls.crt", chain), ("tls.key", key), ("ca.crt", authority.trusted)):
        (tmp_path / name).write_bytes(content)
    return {
        "BIND_ADDRESS": "127.0.0.1",
        "HTTP_PORT": "0",
        "HTTPS_PORT": "0",
        "ADMIN_PORT": "0",
        "WORKERS": "1",
        "DRAIN_SECONDS": "30",
        "OPERATORS": f"127.0.0.1:{operator.port}",
        "STREAM_CERTIFICATE": str(tmp_path / "tls.crt"),
        "STREAM_KEY": str(tmp_path / "tls.key"),
        "STREAM_AUTHORITY": str(tmp_path / "ca.crt"),
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }


@pytest.fixture
async def start_dataplane(settings: dict[str, str]) -> AsyncIterator[StartDataplane]:
    running: list[Dataplane] = []
    listening: list[asyncio.Task[None]] = []
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=LIMIT_SECONDS),
    )

    async def start(**changed: str) -> Dataplane:
        given = {name: value for name, value in os.environ.items() if "FAIRWAY" not in name}
        given |= {f"FAIRWAY__{name}": value for name, value in (settings | changed).items()}
        command = (sys.executable, "-m", "fairway_dataplane.supervisor")
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=given,
        )
        dataplane = Dataplane(command, given, process, session)
        running.append(dataplane)
        listening.append(asyncio.create_task(dataplane.listen()))
        started = await dataplane.event("started")
        for name in ("http_port", "https_port", "admin_port"):
            setattr(dataplane, name, started[name])
        return dataplane

    yield start
    for dataplane in running:
        if dataplane.process.returncode is None:
            dataplane.process.kill()
        await dataplane.process.wait()
    # Workers hold the other end of stderr: when it ends, they are gone as well.
    async with asyncio.timeout(LIMIT_SECONDS):
        await asyncio.gather(*listening)
    await session.close()
    for dataplane in running:  # pytest shows it when the test has failed
        sys.stderr.writelines(dataplane.lines)
