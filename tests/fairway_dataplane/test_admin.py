"""The admin port, asked by those who do not read their answers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from fairway_dataplane import admin
from fairway_dataplane.admin import COSTLY_AT_ONCE, Status, start_admin
from fairway_dataplane.metrics import Readings
from fairway_dataplane.tally import DURATION_SECONDS, Tally
from tests.fairway_dataplane.counted import totals_of

ROUTES = 3_000
"""More text than any buffer of a socket holds."""

PATIENCE_SECONDS = 30.0


class Served:
    """As much of a supervisor as a scrape asks."""

    def __init__(self) -> None:
        self._tally = Tally()
        for number in range(ROUTES):
            route = self._tally.route(f"shop/web-{number}/0")
            route.durations.observe(DURATION_SECONDS, 0.001)
            route.others["GET 404"] = 1

    async def readings(self) -> Readings:
        return Readings(
            totals=totals_of(self._tally),
            digest="",
            sequence=0,
            applied_at=0.0,
            rejected={},
            certificate_seconds={},
            workers=1,
            connected=True,
        )


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    runner = await start_admin(cast("Status", Served()), listening)
    yield listening.getsockname()[1]
    await runner.cleanup()


async def asked(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask for all metrics, and read the first byte."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)  # noqa: FBT003 - the socket module's signature
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=narrow)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert await reader.readexactly(1) == b"H"
    return reader, writer


async def read(port: int) -> list[str]:
    """Return the lines of all metrics."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    head, _, text = (await reader.read()).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.0 200 ")
    assert "text/plain; version=0.0.4" in head
    writer.close()
    return text.splitlines()


async def test_all_metrics_are_read_in_parts(port: int) -> None:
    name = "fairway_requests_total"
    assert [line for line in await read(port) if line.startswith(f"{name}{{")] == [
        f'{name}{{code="404",method="GET",route="shop/web-{number}/0"}} 1.0'
        for number in range(ROUTES)
    ]


async def test_who_does_not_read_keeps_nobody_from_reading(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "SCRAPE_LIMIT_SECONDS", 0.5)
    stuck = [await asked(port) for _ in range(COSTLY_AT_ONCE)]
    monkeypatch.setattr(admin, "SCRAPE_LIMIT_SECONDS", PATIENCE_SECONDS)
    async with asyncio.timeout(PATIENCE_SECONDS):
        lines = len(await read(port))
        # Their connections have ended, before all was written.
        for reader, writer in stuck:
            assert (await reader.read()).count(b"\n") < lines
            writer.close()


async def test_who_leaves_in_the_middle_is_no_error(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asked(port)
    await reader.readexactly(1_000)
    writer.transport.abort()
    assert await read(port)
    assert not caplog.records
