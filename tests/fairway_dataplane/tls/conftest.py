"""Certificates, a server that speaks TLS, and clients that use OpenSSL by hand."""

import asyncio
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.certificates import self_signed
from fairway_dataplane.tls.contexts import (
    BUILT_LIMIT,
    BuiltContexts,
    Contexts,
    CurrentContexts,
    build_contexts,
    no_contexts,
)
from fairway_dataplane.tls.server import TlsServerProtocol
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_snapshot.diff import Change
from fairway_snapshot.model import Certificate, CertificateId, Section, ServerName
from fairway_snapshot.secret import SecretBytes

PATIENCE_SECONDS = 30.0
"""No test waits longer for something that must happen; a machine may be busy or slow."""


def certificate(*names: str, now: float | None = None) -> Certificate:
    """Make a certificate for these names."""
    return self_signed(names, now=time.time() if now is None else now, valid_seconds=86400)


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> SecretBytes:
    return SecretBytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def signed_like(
    like: Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> Certificate:
    """Say the same as another certificate, and sign it with another kind of key."""
    said = x509.load_pem_x509_certificate(like.chain)
    signed = (
        x509.CertificateBuilder()
        .subject_name(said.subject)
        .issuer_name(said.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(said.not_valid_before_utc)
        .not_valid_after(said.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    return Certificate(chain=signed.public_bytes(serialization.Encoding.PEM), key=pem_of(key))


def certificates(**leaves: Certificate | None) -> list[Change]:
    return [Change(Section.CERTIFICATES, f"n/{name}", None, leaf) for name, leaf in leaves.items()]


def server_names(names: dict[str, str | None]) -> list[Change]:
    """Return changes from server names to certificates."""
    return [
        Change(
            Section.SERVER_NAMES,
            name,
            None,
            None if target is None else ServerName(certificate=CertificateId(f"n/{target}")),
        )
        for name, target in names.items()
    ]


_open: "weakref.WeakSet[Inner | Client]" = weakref.WeakSet()
"""Both ends of all connections."""


class Inner(asyncio.Protocol):
    """The protocol above TLS: keeps what it gets, and does as a test tells it."""

    def __init__(self) -> None:
        self.transport: TlsServerProtocol | None = None
        self.received = bytearray()
        self.paused = False
        self.goodbye = False
        self.stays_open = False
        self.made = asyncio.Event()
        self.news = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.on_data: Callable[[bytes], None] | None = None
        _open.add(self)

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        layer: object = transport
        assert isinstance(layer, TlsServerProtocol)
        self.transport = layer
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.news.set()
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.goodbye = True
        self.news.set()
        return self.stays_open

    def pause_writing(self) -> None:
        self.paused = True
        self.news.set()

    def resume_writing(self) -> None:
        self.paused = False
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.lost.set_result(exc)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds():
                self.news.clear()
                await self.news.wait()

    async def until_received(self, data: bytes) -> None:
        await self.until(lambda: bytes(self.received) == data)

    def tls(self) -> TlsServerProtocol:
        assert self.transport is not None
        return self.transport


class Counts(dict[str, int]):
    """Counters that tell when one has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.news = asyncio.Event()

    def __setitem__(self, word: str, count: int) -> None:
        super().__setitem__(word, count)
        self.news.set()


@dataclass
class Server:
    """A listening TLS server, its clock in the hands of the test."""

    clock: Clock
    current: CurrentContexts
    handshakes: "Counts" = field(default_factory=Counts)
    inners: "asyncio.Queue[Inner]" = field(default_factory=asyncio.Queue)
    port: int = 0
    time: float = 1000.0
    limits: Limits = field(default_factory=lambda: Limits(linger_bytes=64 * 1024))
    arrivals: Arrivals = field(
        default_factory=lambda: Arrivals(admits=lambda: True, on_leave=lambda: None)
    )

    def make(self) -> asyncio.Protocol:
        inner = Inner()
        self.inners.put_nowait(inner)
        layer = TlsServerProtocol(
            inner,
            contexts=self.current,
            clock=self.clock,
            limits=self.limits,
            handshakes=self.handshakes,
            arrivals=self.arrivals,
        )
        return cast("asyncio.Protocol", layer)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 10)):
            self.time += 0.1
            self.clock.advance()

    async def inner(self) -> Inner:
        """Return the inner protocol of the next connection once its handshake is complete."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            inner = await self.inners.get()
            await inner.made.wait()
        return inner

    async def arrived(self) -> None:
        """Wait until a connection has begun its handshake."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not len(self.arrivals):  # noqa: ASYNC110 - it counts and tells nobody
                await asyncio.sleep(0.001)

    async def counted(self, word: str) -> None:
        """Wait until a handshake was counted so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while word not in self.handshakes:
                self.handshakes.news.clear()
                await self.handshakes.news.wait()


class Client:
    """A TLS client whose records a test can hold back, cut and repeat."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO,
    ) -> None:  # fmt: skip
        self.reader = reader
        self.writer = writer
        self.tls = tls
        self.incoming = incoming
        self.outgoing = outgoing
        _open.add(self)

    def cut(self) -> None:
        self.writer.transport.abort()

    @classmethod
    async def connect(
        cls,
        port: int,
        name: str | None = "localhost",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        finish: bool = True,
    ) -> "Client":
        """Connect, and complete the handshake unless told not to."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = (context or trusting()).wrap_bio(
            incoming, outgoing, server_hostname=name, session=session
        )
        client = cls(reader, writer, tls, incoming, outgoing)
        if finish:
            await client.handshake()
        return client

    async def handshake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                await self.fill()
            except ssl.SSLError:
                self.flush()
                self.close()
                raise
            else:
                self.flush()
                return

    async def fill(self) -> None:
        """Take what the server has sent; raises EOFError at the end of its bytes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            data = await self.reader.read(1 << 16)
        if not data:
            raise EOFError
        self.incoming.write(data)

    def flush(self) -> None:
        data = self.outgoing.read()
        if data:
            self.writer.write(data)

    def records(self, data: bytes) -> bytes:
        """Encrypt without sending."""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data: bytes) -> None:
        self.writer.write(self.records(data))

    async def receive(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        found = b""
        while len(found) < size:
            try:
                found += self.tls.read(size - len(found))
            except ssl.SSLWantReadError:
                await self.fill()
        return found

    async def receive_goodbye(self) -> None:
        """Wait for close_notify; raises EOFError if the server ends without."""
        while True:
            try:
                assert self.tls.read(1) == b""
            except ssl.SSLWantReadError:
                await self.fill()
            except ssl.SSLZeroReturnError:
                return
            else:
                return

    def say_goodbye(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def end(self) -> None:
        """End our side of the connection without a word."""
        self.writer.write_eof()

    def close(self) -> None:
        """Close; what was not read, such as a session ticket, makes it a reset."""
        self.writer.close()

    def peer(self) -> bytes:
        """Return the server's certificate."""
        found = self.tls.getpeercert(binary_form=True)
        assert found is not None
        return found


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def der(leaf: Certificate) -> bytes:
    """Return a certificate as a client sees it."""
    return ssl.PEM_cert_to_DER_cert(leaf.chain.decode())


FALLBACK = certificate("localhost")
SHOP = certificate("shop.example")
WILD = certificate("*.shop.example")


def built(
    refused: list[tuple[CertificateId, str]] | None = None, *, limit: int = BUILT_LIMIT
) -> BuiltContexts:
    """Return a place for contexts that notes what is refused."""
    noted = [] if refused is None else refused
    return BuiltContexts(
        new_ticket_keys(), lambda name, reason: noted.append((name, reason)), limit=limit
    )


def contexts(*changes: Change, strict: bool = False) -> Contexts:
    return build_contexts(no_contexts(FALLBACK, built(), strict=strict), changes)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of the product, and the one that documents what a transport is."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server with the fallback certificate."""
    loop = asyncio.get_running_loop()
    made = Server(Clock(loop), CurrentContexts(contexts()))
    made.clock = Clock(loop, lambda: made.time)
    listening = await loop.create_server(made.make, "127.0.0.1", 0)
    made.port = listening.sockets[0].getsockname()[1]
    yield made
    listening.close()
    # A loop of uvloop is not closed before its connections are: of a test that failed, too.
    for one in tuple(_open):
        one.cut()
    await asyncio.sleep(0)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The fallback certificate as a bundle that trusts it."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(FALLBACK.chain)
    return path
