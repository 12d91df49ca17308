"""Upgrades: what a tunnel passes on, how it ends, and what becomes of it meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from fairway_dataplane.tally import Tally
from tests.fairway_dataplane.request_path.conftest import (
    BACKEND,
    OK,
    PATIENCE_SECONDS,
    Upstream,
    route,
    to,
)
from tests.fairway_dataplane.request_path.test_clients import (
    GET,
    SWITCH,
    UPGRADE,
    echo,
    resident_bytes,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Client, Link, Stage, StageMaker


async def opened(stage: "Stage") -> "Client":
    client = await stage.connect()
    client.send(UPGRADE)
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    return client


async def test_a_tunnel_pushes_back_towards_the_client_too(make_stage: "StageMaker") -> None:
    total, read = 32 << 20, asyncio.Event()
    taken = 0

    async def script(link: "Link") -> None:
        nonlocal taken
        await link.request()
        link.writer.write(SWITCH)
        link.writer.transport.pause_reading()  # type: ignore[attr-defined] # of every socket
        await read.wait()
        link.writer.transport.resume_reading()  # type: ignore[attr-defined] # as above
        while data := await link.reader.read(1 << 20):
            taken += len(data)
            await asyncio.sleep(0)

    stage = await make_stage(script)
    client = await opened(stage)
    before, sent, block = resident_bytes(), 0, b"x" * 65536
    while sent < total:
        client.send(block)
        sent += len(block)
        try:
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        except TimeoutError:
            break
    assert sent < total, "the client has to wait"
    assert resident_bytes() - before < 16 << 20
    read.set()
    while sent < total:
        client.send(block)
        sent += len(block)
        await client.writer.drain()
    client.writer.write_eof()
    await stage.settle(lambda: taken == total)


@pytest.fixture
async def other() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    await upstream.start()
    yield upstream
    await upstream.stop()


async def test_a_tunnel_outlives_tables_and_the_endpoint_it_leads_to(
    make_stage: "StageMaker", other: Upstream
) -> None:
    stage = await make_stage(echo)
    client = await opened(stage)
    for ports in ((other.port,), (), (other.port,)):
        stage.serve(route(path="/"), **{BACKEND: to(*ports)})
        stage.advance(5.0)
        client.send(b"still there?")
        assert await client.reader.readexactly(12) == b"still there?"
    assert (await stage.ask(GET)).status == 200, "and who comes now goes elsewhere"
    assert len(other.requests) == 1


async def test_a_drain_lets_a_tunnel_finish(make_stage: "StageMaker") -> None:
    stage = await make_stage(echo)
    client = await opened(stage)
    draining = asyncio.ensure_future(stage.listener.drain(PATIENCE_SECONDS))
    for _ in range(3):
        client.send(b"x")
        assert await client.reader.readexactly(1) == b"x"
        stage.advance(1.0)
    assert not draining.done()
    client.writer.write_eof()
    assert await client.rest() == b""
    report = await draining
    assert (report.finished, report.aborted) == (1, 0)


async def test_a_drain_ends_a_tunnel_at_its_limit_on_both_sides(make_stage: "StageMaker") -> None:
    stage = await make_stage(echo)
    client = await opened(stage)
    report = await stage.listener.drain(0.05)
    assert (report.finished, report.aborted) == (0, 1)
    with pytest.raises(ConnectionResetError):
        await client.reader.readexactly(1)
    await (await stage.upstream.link()).wait_closed()
    assert nothing_is_left(stage.tally)


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_either_side_may_end_first_and_still_hear_the_other(
    make_stage: "StageMaker", who: str
) -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(SWITCH)
        if who == "backend":
            link.writer.write_eof()
            link.received.clear()
            while await link.read():
                pass
        else:
            while await link.read():
                pass
            link.writer.write(b"last words")

    stage = await make_stage(script)
    client = await opened(stage)
    if who == "backend":
        assert await client.rest() == b""
        client.send(b"last words")
        client.writer.write_eof()
        link = await stage.upstream.link()
        await stage.settle(lambda: bytes(link.received) == b"last words")
    else:
        client.writer.write_eof()
        assert await client.rest() == b"last words"
    await stage.settle(lambda: nothing_is_left(stage.tally))


async def test_an_end_that_comes_before_the_switch_is_the_end_of_that_side(
    make_stage: "StageMaker",
) -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        await go_on.wait()
        link.writer.write(SWITCH)
        while data := await link.read():
            link.writer.write(data)

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(UPGRADE + b"early")
    client.writer.write_eof()
    await stage.settle(lambda: bool(stage.upstream.requests))
    await asyncio.sleep(0.01)
    go_on.set()
    assert (await client.head()).startswith(b"HTTP/1.1 101 ")
    assert await client.rest() == b"early"
    await stage.settle(lambda: nothing_is_left(stage.tally))


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_a_reset_of_one_side_ends_the_other(make_stage: "StageMaker", who: str) -> None:
    stage = await make_stage(echo)
    client = await opened(stage)
    link = await stage.upstream.link()
    if who == "client":
        client.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await link.closed.wait()
    else:
        link.writer.transport.abort()
        assert await client.rest() == b""
        client.writer.close()
    await stage.settle(lambda: nothing_is_left(stage.tally))


@pytest.mark.parametrize(
    "answer",
    [OK, b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n"],
)
async def test_a_refused_upgrade_is_an_answer_and_the_connection_goes_on(
    make_stage: "StageMaker", answer: bytes
) -> None:
    async def script(link: "Link") -> None:
        while True:
            await link.request()
            link.writer.write(answer)

    stage = await make_stage(script)
    client = await stage.connect()
    for request in (UPGRADE, GET, UPGRADE):
        client.send(request)
        assert (await client.response()).status == int(answer[9:12])
    assert stage.tally.tunnels_active == 0


def nothing_is_left(tally: Tally) -> bool:
    return (tally.tunnels_active, tally.requests_active, tally.connections_open) == (0, 0, 0)
