"""Every limit on what a client may send: at the limit, one below, and one above."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from fairway_snapshot.filters import DirectResponse
from fairway_snapshot.model import Retry
from tests.fairway_dataplane.request_path.conftest import BACKEND, PATIENCE_SECONDS, route, to

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Link, StageMaker

LINE = b"GET /x HTTP/1.1\r\n"
HOST = b"Host: a.example\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
ONE = b"1\r\nx\r\n"
OVER = b"0\r\n\r\n"


async def silent(link: "Link") -> None:
    """Take a request and never answer."""
    await link.request()
    await link.wait_closed()


def head(*lines: bytes) -> bytes:
    return LINE + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def padded(size: int) -> bytes:
    """Return a head of so many bytes, in lines that are all short."""
    found = head()
    while len(found) < size:
        room = size - len(found)
        line = b"x: " + b"a" * (min(room, 200) - 5)
        # No line is shorter than five bytes, so the last two share what is left.
        if 0 < room - len(line) - 2 < 5:
            line = line[:-5]
        found = found[:-2] + line + b"\r\n\r\n"
    return found


def target(size: int) -> bytes:
    """Return a head whose request line has so many bytes without its end."""
    return LINE.replace(b"/x", b"/" + b"a" * (size - 14)) + HOST + b"\r\n"


LIMITS: dict[str, tuple[dict[str, int], int, Callable[[int], bytes], int]] = {
    "bytes of a head": ({"header_block_bytes": 4096}, 4096, padded, 431),
    "bytes of a request line": ({"request_line_bytes": 300}, 300, target, 414),
    "bytes of a line": (
        {"header_line_bytes": 600}, 600, lambda size: head(b"x: " + b"a" * (size - 3)), 431,
    ),
    "lines": ({"headers": 20}, 20, lambda size: head(*[b"x: a"] * (size - 1)), 431),
    "proxies in Via": ({}, 9, lambda size: head(*[b"via: 1.1 p"] * size), 508),
    "bytes of a Content-Length above 2^53": (
        {}, 1 << 53,
        lambda size: b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size, 400,
    ),
    "bytes of a body that is counted": (
        {"body_bytes": 100}, 100,
        lambda size: b"POST /x HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % size
        + b"x" * size, 413,
    ),
    "bytes of a body in chunks": (
        {"body_bytes": 100}, 100,
        lambda size: CHUNKED + b"%x\r\n" % size + b"x" * size + b"\r\n" + OVER, 413,
    ),
    "digits of a chunk size": (
        {}, 16, lambda size: CHUNKED + b"0" * (size - 1) + ONE + OVER, 400,
    ),
    "bytes of a chunk": ({}, 1 << 31, lambda size: CHUNKED + b"%x\r\nx" % size, 400),
    "bytes of an extension": (
        {"chunk_extension_bytes": 40}, 40,
        lambda size: CHUNKED + b"1;" + b"a" * (size - 1) + b"\r\nx\r\n" + OVER, 400,
    ),
    "bytes of all extensions": (
        {"chunk_extensions_bytes": 400}, 400,
        lambda size: CHUNKED + (b"1;" + b"a" * 9 + b"\r\nx\r\n") * 30
        + b"1;" + b"a" * (size - 301) + b"\r\nx\r\n" + OVER, 400,
    ),
    "lines of trailers": (
        {"trailer_lines": 5}, 5,
        lambda size: CHUNKED + b"0\r\n" + b"x: a\r\n" * size + b"\r\n", 400,
    ),
    "bytes of trailers": (
        {"trailer_bytes": 200}, 200,
        lambda size: CHUNKED + b"0\r\nx: a\r\nx: " + b"a" * (size - 11) + b"\r\n\r\n", 400,
    ),
}  # fmt: skip
"""What is set, the greatest that passes, what is sent for a size, and the answer above."""

UNFINISHED = ("bytes of a chunk", "bytes of a Content-Length above 2^53")
"""Too large to be sent whole: that it is passed on is that it is not refused."""


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])
@pytest.mark.parametrize("off", [-1, 0, 1], ids=["below", "at", "above"])
async def test_limit(make_stage: "StageMaker", *, name: str, off: int, whole: bool) -> None:
    set_to, limit, make, status = LIMITS[name]
    stage = await make_stage(**set_to)
    sent = make(limit + off)
    client = await stage.connect()
    # The first piece ends within a line or a chunk.
    at = 0 if whole else max(1, len(sent) - 4)
    if at:
        client.send(sent[:at])
        await stage.ask(head())
    client.send(sent[at:])
    if off > 0:
        assert (await client.response()).status == status
        if status != 413 or at:
            # A body that was read to its end leaves its connection in step.
            assert await client.rest() == b""
    elif name in UNFINISHED:
        await stage.settle(lambda: stage.tally.requests == (2 if at else 1))
        assert stage.tally.rejected == {}
    else:
        assert (await client.response()).status == 200
        assert stage.tally.rejected == {}


@pytest.mark.parametrize("off", [-1, 0, 1])
async def test_connections(make_stage: "StageMaker", off: int) -> None:
    limit = 10
    stage = await make_stage(silent, connections=limit)
    clients = []
    for number in range(limit + off):
        # A request each, so that none is idle and makes room.
        clients.append(await stage.connect())
        clients[-1].send(LINE + HOST + b"\r\n")
        await stage.settle(
            lambda number=number: (  # type: ignore[misc] # mypy infers none
                stage.tally.requests_active + stage.tally.connections_refused == number + 1
            )
        )
    assert stage.tally.connections_refused == max(0, off)
    assert stage.tally.connections_open == min(limit, limit + off)
    if off > 0:
        assert await clients[-1].rest() == b""


@pytest.mark.parametrize("served", [2, 3])
async def test_requests_of_a_connection(make_stage: "StageMaker", served: int) -> None:
    stage = await make_stage(requests_per_connection=3)
    client = await stage.connect()
    for number in range(served):
        client.send(head())
        answer = await client.response()
        assert (answer.field(b"connection") == b"close") is (number == 2)


@pytest.mark.parametrize(
    ("name", "sent", "word"),
    [
        ("header_seconds", LINE, b"header-timeout"),
        ("body_idle_seconds", CHUNKED + b"f\r\nabc", b"body-timeout"),
        ("keep_alive_seconds", b"", b""),
    ],
)
async def test_times(make_stage: "StageMaker", name: str, sent: bytes, word: bytes) -> None:
    stage = await make_stage(**{name: 20.0}, body_bytes_per_second=0)
    client = await stage.connect()
    await stage.settle(lambda: stage.tally.connections_open == 1)
    client.send(sent)
    # What another client is answered came later than what this one sent.
    await stage.ask(head())
    stage.advance(19.8)
    client.send(b"")
    assert stage.tally.rejected == {}
    assert len(stage.listener.connections()) >= 1
    stage.advance(1.3)
    assert word in await client.rest()


@pytest.mark.parametrize(("sent", "turns"), [(3, [3]), (4, [4]), (5, [4, 5]), (9, [4, 8, 9])])
async def test_pipelined_requests_in_one_turn(
    make_stage: "StageMaker", sent: int, turns: list[int]
) -> None:
    stage = await make_stage(pipelined_requests=4)
    stage.serve(route(filters=(DirectResponse(status=200, body="hi"),)))
    client = await stage.connect()
    client.send(head() * sent)
    seen = [0]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while seen[-1] < sent:
            await asyncio.sleep(0)
            if stage.tally.requests != seen[-1]:
                seen.append(stage.tally.requests)
    assert seen[1:] == turns


@pytest.mark.parametrize("off", [-1, 0, 1])
async def test_what_is_read_of_a_body_after_its_answer(make_stage: "StageMaker", off: int) -> None:
    limit = 5000
    stage = await make_stage(linger_bytes=limit, body_bytes=1)
    client = await stage.connect()
    client.send(LINE.replace(b"GET", b"POST") + HOST + b"Content-Length: 100000\r\n\r\n")
    assert (await client.response()).status == 413
    client.send(b"x" * (limit + off))
    await stage.ask(head())
    assert await client.rest() == b""
    is_open = any(row["state"] == "linger" for row in stage.listener.connections())
    assert is_open is (off <= 0)


@pytest.mark.parametrize("percent", [0, 50, 100])
async def test_retries_are_a_share_of_requests(make_stage: "StageMaker", percent: int) -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")

    stage = await make_stage(script, retry_budget_percent=percent)
    stage.serve(route(retry=Retry(attempts=1, codes=(503,))), **{BACKEND: to(stage.upstream.port)})
    for _ in range(30):
        assert (await stage.ask(head())).status == 503
    # Where any are allowed, ten in ten seconds are for free; they are no requests themselves.
    retries = stage.tally.backends[BACKEND].retries
    assert retries == {0: 0, 50: 15, 100: 30}[percent]
