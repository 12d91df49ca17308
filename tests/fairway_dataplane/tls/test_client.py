"""The TLS layer towards backends: whom it speaks to, and how it fails."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.client import ClientContexts, TlsClientProtocol
from tests.fairway_dataplane.tls.conftest import FALLBACK, Inner, Server


class Caller(Inner):
    """An inner protocol on the side that connects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        layer: object = transport
        assert isinstance(layer, TlsClientProtocol)
        self.layer = layer
        self.made.set()


class Attempt:
    """One connection to a server, and what became of it."""

    def __init__(self, clock: Clock, contexts: ClientContexts, name: str | None) -> None:
        self.inner = Caller()
        self.failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.protocol = TlsClientProtocol(
            self.inner,
            context=contexts(name),
            server_name=name,
            clock=clock,
            limits=Limits(),
            failed=self.failure.set_result,
        )

    async def connect(self, port: int) -> "Attempt":
        protocol = cast("asyncio.Protocol", self.protocol)
        await asyncio.get_running_loop().create_connection(lambda: protocol, "127.0.0.1", port)
        return self


async def test_bytes_pass_without_verification(server: Server) -> None:
    attempt = await Attempt(server.clock, ClientContexts(None), None).connect(server.port)
    inner = await server.inner()
    await attempt.inner.made.wait()
    attempt.inner.layer.write(b"ping")
    await inner.until_received(b"ping")
    inner.tls().write(b"pong")
    await attempt.inner.until_received(b"pong")
    attempt.inner.layer.close()

    assert await inner.lost is None
    assert await attempt.inner.lost is None
    assert not attempt.failure.done()


async def test_a_backend_that_proves_its_name_is_spoken_to(server: Server, bundle: Path) -> None:
    contexts = ClientContexts(str(bundle))
    attempt = await Attempt(server.clock, contexts, "localhost").connect(server.port)
    inner = await server.inner()
    await attempt.inner.made.wait()

    assert inner.tls().server_name == b"localhost"
    attempt.inner.layer.abort()
    await attempt.inner.lost


@pytest.mark.parametrize("trusted", [True, False], ids=["another name", "an unknown authority"])
async def test_a_backend_that_does_not_is_never_spoken_to(
    server: Server, bundle: Path, *, trusted: bool
) -> None:
    contexts = ClientContexts(str(bundle) if trusted else None)
    name = "other.example" if trusted else "localhost"
    attempt = await Attempt(server.clock, contexts, name).connect(server.port)

    assert isinstance(await attempt.failure, ssl.SSLCertVerificationError)
    assert not attempt.inner.made.is_set()
    assert not attempt.inner.lost.done()


def test_contexts_are_made_once() -> None:
    contexts = ClientContexts(None)

    assert contexts(None) is contexts(None)
    assert contexts("a.example") is contexts("b.example")
    assert contexts(None) is not contexts("a.example")


@pytest.fixture
async def mute() -> AsyncIterator[int]:
    """A server that takes connections and says nothing."""
    listening = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def test_a_backend_that_says_nothing_has_ten_seconds(server: Server, mute: int) -> None:
    attempt = await Attempt(server.clock, ClientContexts(None), None).connect(mute)
    server.advance(9.8)
    assert not attempt.failure.done()
    server.advance(0.4)

    assert isinstance(await attempt.failure, TimeoutError)


async def test_a_backend_that_does_not_speak_tls_is_a_failure(server: Server) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    attempt = await Attempt(server.clock, ClientContexts(None), None).connect(port)

    assert isinstance(await attempt.failure, ssl.SSLError)
    listening.close()


async def test_the_certificate_shown_is_that_of_the_server(server: Server) -> None:
    attempt = await Attempt(server.clock, ClientContexts(None), None).connect(server.port)
    await attempt.inner.made.wait()
    shown = attempt.inner.layer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    assert shown == ssl.PEM_cert_to_DER_cert(FALLBACK.chain.decode())
    attempt.inner.layer.abort()
    await attempt.inner.lost
