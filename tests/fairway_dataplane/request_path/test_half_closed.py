"""Clients that end their side after a request: they are owed an answer, and not for ever."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from fairway_snapshot.filters import DirectResponse
from tests.fairway_dataplane.request_path.conftest import (
    BACKEND,
    PATIENCE_SECONDS,
    Held,
    route,
    to,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Client, Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
GONE = {"client-closed": 1}


async def silent(link: "Link") -> None:
    """Take a request and never answer."""
    await link.request()
    await link.wait_closed()


async def half_closed(stage: "Stage", raw: bytes) -> "Client":
    """Return a client that has sent all it ever will, and whose end the proxy has seen."""
    client = await stage.connect()
    client.send(raw)
    await stage.settle(lambda: bool(stage.upstream.requests))
    client.writer.write_eof()
    # What another client is answered came later than that end.
    other = await stage.connect()
    other.send(b"GET / HTTP/1.1\r\n\r\n")
    await other.response()
    other.abort()
    return client


@pytest.mark.parametrize("raw", [GET, POST, GET.replace(b"1.1", b"1.0")])
async def test_the_answer_comes_and_is_the_last(make_stage: "StageMaker", raw: bytes) -> None:
    held = Held()
    stage = await make_stage(held)
    client = await half_closed(stage, raw)
    held.go_on.set()
    answer = await client.response()
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.field(b"connection") == b"close"
    assert await client.rest() == b""
    assert stage.tally.terminations == {"bad-host": 1}, "that of the other client"


async def test_all_that_was_pipelined_before_the_end_is_answered(make_stage: "StageMaker") -> None:
    held = Held()
    stage = await make_stage(held)
    client = await half_closed(stage, GET * 20 + b"GET /half")
    held.go_on.set()
    answers = [await client.response() for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert await client.rest() == b""
    assert len(stage.upstream.requests) == 20


async def test_answers_of_our_own_come_too(stage: "Stage") -> None:
    stage.serve(route(filters=(DirectResponse(status=200, body="hi"),)))
    client = await stage.connect()
    client.send(GET * 40)
    client.writer.write_eof()
    assert [(await client.response()).body for _ in range(40)] == [b"hi"] * 40
    assert await client.rest() == b""


@pytest.mark.parametrize("left", [0.2, -0.2])
async def test_who_is_gone_is_given_up_after_a_while(make_stage: "StageMaker", left: float) -> None:
    stage = await make_stage(silent, half_close_seconds=1.5)
    client = await half_closed(stage, GET)
    link = await stage.upstream.link()
    stage.advance(1.5 - left)
    if left > 0:
        await asyncio.sleep(0.01)
        assert stage.tally.requests_active == 1
        stage.advance(0.5)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await link.closed.wait()
    assert await client.rest() == b""
    assert stage.tally.terminations == {"bad-host": 1, **GONE}


async def test_an_answer_that_goes_on_may_take_long(make_stage: "StageMaker") -> None:
    more = asyncio.Semaphore(0)

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        for _ in range(10):
            await more.acquire()
            link.writer.write(b"x")
        await link.wait_closed()

    stage = await make_stage(script)
    client = await half_closed(stage, GET)
    await client.head()
    for _ in range(9):
        more.release()
        assert await client.reader.readexactly(1) == b"x"
        stage.advance(stage.limits.half_close_seconds - 0.3)
    assert stage.tally.requests_active == 1
    # Nothing goes to it any more.
    stage.advance(2 * stage.limits.half_close_seconds)
    assert await client.rest() == b""
    await stage.settle(lambda: stage.tally.requests_active == 0)


async def test_it_can_be_turned_off(make_stage: "StageMaker") -> None:
    stage = await make_stage(silent, half_close_seconds=0.0)
    client = await stage.connect()
    client.send(GET)
    link = await stage.upstream.link()
    client.writer.write_eof()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await link.closed.wait()
    await stage.settle(lambda: stage.tally.terminations == GONE)


@pytest.mark.parametrize("raw", [b"", b"GET /x HT", POST[:-1], b"\r\n"])
async def test_half_a_request_is_owed_nothing(stage: "Stage", raw: bytes) -> None:
    client = await stage.connect()
    client.send(raw)
    client.writer.write_eof()
    assert await client.rest() == b""
    await stage.settle(lambda: stage.tally.connections_open == 0)
    assert stage.tally.requests_active == 0


async def test_who_has_left_for_good_costs_a_stream_its_next_event_at_most(
    make_stage: "StageMaker",
) -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        await go_on.wait()
        while not link.writer.is_closing():
            link.writer.write(b"data: x\n\n")
            await asyncio.sleep(0.01)

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    await client.head()
    client.writer.close()
    go_on.set()
    await stage.settle(lambda: stage.tally.terminations == GONE)
    await stage.settle(lambda: stage.tally.connections_open == 0)


async def test_a_drain_waits_for_that_answer(make_stage: "StageMaker") -> None:
    held = Held()
    stage = await make_stage(held)
    stage.serve(route(), **{BACKEND: to(stage.upstream.port)})
    client = await half_closed(stage, GET)
    draining = asyncio.ensure_future(stage.listener.drain(PATIENCE_SECONDS))
    await asyncio.sleep(0)
    held.go_on.set()
    assert (await client.response()).status == 200
    assert (await draining).aborted == 0
