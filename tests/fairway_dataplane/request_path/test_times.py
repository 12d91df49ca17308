"""
Every limit of time: shortly before it nothing has happened, shortly after it has.

The clock is moved by hand, tick by tick; a deadline is met within one tick.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.fairway_dataplane.request_path.conftest import OK, without_end
from tests.fairway_dataplane.request_path.test_clients import GET, SWITCH, UPGRADE, has_arrived

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.fairway_dataplane.request_path.conftest import (
        Client,
        Link,
        Script,
        Stage,
        StageMaker,
    )

LIMIT = 20.0
POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n"


async def silent(link: "Link") -> None:
    await link.request()
    await link.wait_closed()


async def half(link: "Link") -> None:
    await link.request()
    link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await link.wait_closed()


async def switching(link: "Link") -> None:
    await link.request()
    link.writer.write(SWITCH)
    await link.wait_closed()


async def answered_early(link: "Link") -> None:
    await link.read()
    link.writer.write(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n")
    await link.wait_closed()


async def kept(link: "Link") -> None:
    await link.request()
    link.writer.write(OK)
    await link.wait_closed()


async def asked(stage: "Stage", client: "Client") -> None:
    client.send(GET)
    await stage.settle(lambda: bool(stage.upstream.requests))


async def begun(stage: "Stage", client: "Client") -> None:
    client.send(GET)
    await client.head()


async def upgraded(stage: "Stage", client: "Client") -> None:
    client.send(UPGRADE)
    await client.head()


async def stuck(stage: "Stage", client: "Client") -> None:
    client.reader._transport.pause_reading()  # type: ignore[attr-defined] # of every socket
    client.send(GET)
    await stage.still(stage.upstream.sent)


async def uploading(stage: "Stage", client: "Client") -> None:
    client.send(POST + b"x" * 1000)
    link = await stage.upstream.link()
    await stage.settle(partial(has_arrived, stage, link, 1000))


async def refused_early(stage: "Stage", client: "Client") -> None:
    client.send(POST)
    assert (await client.response()).status == 403


async def served(stage: "Stage", client: "Client") -> None:
    client.send(GET)
    await client.response()
    client.abort()
    await stage.settle(lambda: stage.tally.connections_open == 0)


Over: TypeAlias = "Callable[[Stage, Client], bool]"


def is_gone(stage: "Stage", client: "Client") -> bool:
    return stage.tally.connections_open == 0


def has_ended(reason: str) -> Over:
    return lambda stage, _: stage.tally.terminations == {reason: 1}


def is_unused(stage: "Stage", client: "Client") -> bool:
    return stage.upstream.links[0].closed.is_set()


TIMES: "dict[str, tuple[Script, Callable[[Stage, Client], Awaitable[None]], Over, str]]" = {
    "request_seconds": (silent, asked, has_ended("request-timeout"), "504 request-timeout"),
    "backend_request_seconds": (
        silent, asked, has_ended("upstream-timeout"), "504 upstream-timeout",
    ),
    "backend_idle_seconds": (half, begun, has_ended("upstream-timeout"), ""),
    "tunnel_idle_seconds": (switching, upgraded, has_ended("idle-timeout"), ""),
    "send_seconds": (without_end, stuck, has_ended("send-timeout"), ""),
    "body_idle_seconds": (silent, uploading, has_ended("body-timeout"), "408 body-timeout"),
    "shutdown_seconds": (answered_early, refused_early, is_gone, ""),
    "idle_endpoint_seconds": (kept, served, is_unused, ""),
}  # fmt: skip
"""What the backend does, what leads to the wait, how its end shows, and what is answered then."""


@pytest.mark.parametrize("name", TIMES)
async def test_time(make_stage: "StageMaker", name: str) -> None:
    script, wait, is_over, answer = TIMES[name]
    settings = {
        "backend_request_seconds": 1000.0, "backend_idle_seconds": 1000.0,
        "body_bytes_per_second": 0, name: LIMIT,
    }  # fmt: skip
    stage = await make_stage(script, **settings)
    client = await stage.connect()
    await wait(stage, client)
    stage.advance(LIMIT - 0.3)
    await asyncio.sleep(0.02)
    assert not is_over(stage, client)
    stage.advance(0.5)
    if answer:
        response = await client.response()
        assert f"{response.status} {response.reason}" == answer
    await stage.settle(lambda: is_over(stage, client))


@pytest.mark.parametrize(("each", "late"), [(99, True), (101, False)])
async def test_the_least_rate_of_a_body(make_stage: "StageMaker", *, each: int, late: bool) -> None:
    stage = await make_stage(body_bytes_per_second=100, body_grace_seconds=5.0)
    client = await stage.connect()
    client.send(POST)
    link = await stage.upstream.link()
    await stage.settle(lambda: len(link.received) > 0)
    sent = 0
    for _ in range(12):
        client.send(b"x" * each)
        sent += each
        await stage.settle(partial(has_arrived, stage, link, sent))
        stage.advance(1.0)
    assert stage.tally.rejected == ({"body-timeout": 1} if late else {})


async def test_a_body_may_be_slow_for_its_grace(make_stage: "StageMaker") -> None:
    stage = await make_stage(body_bytes_per_second=100, body_grace_seconds=LIMIT)
    client = await stage.connect()
    await uploading(stage, client)
    client.send(b"x")
    stage.advance(LIMIT - 0.3)
    assert stage.tally.rejected == {}
    stage.advance(0.6)
    assert (await client.response()).reason == "body-timeout"


@pytest.mark.parametrize(("age", "last"), [(LIMIT - 0.2, False), (LIMIT, True)])
async def test_the_age_of_a_connection(make_stage: "StageMaker", *, age: float, last: bool) -> None:
    stage = await make_stage(connection_age_seconds=LIMIT)
    client = await stage.connect()
    await stage.settle(lambda: stage.tally.connections_open == 1)
    stage.advance(age)
    client.send(GET)
    assert (await client.response()).field(b"connection") == (b"close" if last else None)


async def test_the_last_request_of_an_idle_client_while_draining(make_stage: "StageMaker") -> None:
    stage = await make_stage(drain_idle_seconds=LIMIT)
    clients = [await stage.connect() for _ in range(2)]
    await stage.settle(lambda: stage.tally.connections_open == 2)
    draining = asyncio.ensure_future(stage.listener.drain(1000.0))
    await asyncio.sleep(0)
    stage.advance(LIMIT - 0.3)
    clients[0].send(GET)
    assert (await clients[0].response()).status == 200
    await stage.settle(lambda: stage.tally.connections_open == 1)
    stage.advance(0.5)
    assert await clients[1].rest() == b""
    await draining


@pytest.mark.parametrize("idle", [True, False])
async def test_idle_clients_under_pressure(make_stage: "StageMaker", *, idle: bool) -> None:
    stage = await make_stage(connections=10, keep_alive_pressure_seconds=LIMIT)
    clients = [await stage.connect() for _ in range(7)]
    await stage.settle(lambda: stage.tally.connections_open == 7)
    # One of them has asked lately, if it was idle for less than the limit.
    stage.advance(LIMIT + (0.2 if idle else -0.2))
    last = await stage.connect()
    last.send(GET)
    await last.response()
    stage.advance(0.1)
    stage.listener.close_idle()
    await stage.settle(lambda: stage.tally.connections_open == (1 if idle else 8))
    for client in clients if idle else ():
        assert await client.rest() == b""
