"""Answers that come bit by bit: each bit is passed on when it comes, and a cut shows."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from fairway_snapshot.filters import Header, ResponseHeaders
from tests.fairway_dataplane.request_path.conftest import BACKEND, PATIENCE_SECONDS, route, to

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Link, StageMaker

EVENT = b"id: 1\ndata: x\n\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
EDIT = ResponseHeaders(set=(Header(name="x-a", value="1"),))


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize(
    ("framing", "event"),
    [
        (b"transfer-encoding: chunked\r\n", b"%x\r\n%b\r\n" % (len(EVENT), EVENT)),
        (b"connection: close\r\n", EVENT),
        (b"content-length: 1000000\r\n", EVENT),
    ],
    ids=["chunked", "until close", "counted"],
)
async def test_an_event_arrives_before_the_next_is_sent(
    make_stage: "StageMaker", *, framing: bytes, event: bytes, version: bytes, edited: bool
) -> None:
    next_one = asyncio.Semaphore(0)

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(HEAD + framing + b"\r\n")
        while True:
            await next_one.acquire()
            link.writer.write(event)

    stage = await make_stage(script)
    stage.serve(route(filters=(EDIT,) if edited else ()), **{BACKEND: to(stage.upstream.port)})
    client = await stage.connect()
    client.send(b"GET /events HTTP/" + version + b"\r\nHost: a.example\r\n\r\n")
    head = await client.head()
    assert (b"x-a: 1" in head) is edited
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(5):
            next_one.release()
            await client.reader.readuntil(EVENT)
            stage.advance(stage.limits.backend_idle_seconds - 1.0)


async def test_a_long_poll_is_answered_when_there_is_news(make_stage: "StageMaker") -> None:
    news = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        await news.wait()
        link.writer.write(b"4\r\nnews\r\n0\r\n\r\n")
        await link.wait_closed()

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(b"GET /poll HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    stage.advance(stage.limits.backend_idle_seconds - 1.0)
    news.set()
    assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\nnews\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("version", "framing"),
    [
        (b"1.0", b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (b"1.0", b"content-length: 10\r\n\r\nhalf"),
        (b"1.1", b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        (b"1.1", b"content-length: 10\r\n\r\nhalf"),
    ],
)
async def test_a_body_that_is_cut_short_never_looks_whole(
    make_stage: "StageMaker", version: bytes, framing: bytes
) -> None:
    cut = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await cut.wait()

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(b"GET /x HTTP/" + version + b"\r\nHost: a.example\r\n\r\n")
    head = await client.head()
    await client.reader.readuntil(b"half")
    cut.set()
    if b"content-length" in head or b"chunked" in head:
        assert b"0\r\n\r\n" not in await client.rest()
    else:
        # Nothing but the end of the connection would tell: it must not be a clean one.
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
    assert stage.tally.terminations == {"upstream-reset": 1}
