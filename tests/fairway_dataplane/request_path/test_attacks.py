"""
Clients that mean harm, on real sockets with raw bytes: what they get, and what they cost others.

Here in small numbers; ``python -m tests.fairway_dataplane.flood`` sends ten
thousand half heads and measures.
"""

import asyncio
import os
import ssl
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.contexts import CurrentContexts
from fairway_dataplane.tls.server import TlsServerProtocol
from fairway_snapshot.model import Certificate
from tests.fairway_dataplane.tls.conftest import (
    SHOP,
    WILD,
    certificates,
    contexts,
    server_names,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Client, Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def crowd(stage: "Stage", number: int, sent: bytes) -> "list[Client]":
    clients = [await stage.connect() for _ in range(number)]
    for client in clients:
        client.send(sent)
    return clients


async def one_by_one(stage: "Stage", number: int, sent: bytes) -> "list[Client]":
    """Return clients of which each has begun to ask before the next one comes."""
    clients: list[Client] = []
    for _ in range(number):
        accepted = stage.tally.connections_accepted + 1
        clients += await crowd(stage, 1, sent)
        await stage.settle(partial(all_ask, stage, accepted))
    return clients


def all_ask(stage: "Stage", accepted: int) -> bool:
    rows = stage.listener.connections()
    return stage.tally.connections_accepted >= accepted and not any(
        row["state"] == "head" and not row["held_bytes"] for row in rows
    )


@pytest.mark.parametrize("sent", [b"G", GET[:-2], b"GET /x HTTP/1.1\r\nX: " + b"a" * 5000])
async def test_half_open_heads(stage: "Stage", sent: bytes) -> None:
    clients = await crowd(stage, 100, sent)
    for _ in range(3):
        assert (await stage.ask(GET)).status == 200
        stage.advance(3.0)
        for client in clients:
            client.send(b"a")  # busily, but without an end
    await stage.heard(*[len(sent) + 3] * 100)
    stage.advance(stage.limits.header_seconds - 9.0 + 1.2)
    for client in clients:
        assert (await client.response()).reason == "header-timeout"
        assert await client.rest() == b""
    assert stage.tally.rejected == {"header-timeout": 100}
    assert (await stage.ask(GET)).status == 200


async def test_half_open_heads_cannot_keep_others_out(make_stage: "StageMaker") -> None:
    stage = await make_stage(connections=20)
    patient = await one_by_one(stage, 5, GET[:-2])
    stage.advance(1.0)
    late = await one_by_one(stage, 15, b"G")
    assert stage.tally.connections_open == 20
    stage.advance(0.2)
    assert (await stage.ask(GET)).status == 200
    # First who has been asking for longest; who asks since a moment may go on.
    for client in patient:
        assert await client.rest() == b""
    assert stage.tally.connections_evicted == 5
    assert stage.tally.connections_refused == 0
    late[-1].send(GET[1:])
    assert (await late[-1].response()).status == 200


async def test_a_crowd_at_the_door_costs_one_look_in_a_tick(
    make_stage: "StageMaker", monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(link: "Link") -> None:
        await link.request()
        await link.wait_closed()

    stage = await make_stage(script, connections=10)
    busy = await one_by_one(stage, 10, GET)
    looks = 0
    close_idle = stage.listener.close_idle

    def look() -> None:
        nonlocal looks
        looks += 1
        close_idle()

    monkeypatch.setattr(stage.listener, "close_idle", look)
    for tick in range(1, 4):
        stage.advance(0.1)
        for _ in range(10):
            assert await (await stage.connect()).rest() == b""
        assert looks == tick
    assert stage.tally.connections_refused == 30
    busy[0].abort()
    await stage.settle(lambda: stage.tally.connections_open == 9)
    (await stage.connect()).send(GET)
    await stage.settle(lambda: stage.tally.requests_active == 10)


async def test_a_client_with_no_window(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        request = await link.request()
        if b"/large" not in request:
            link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            return
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            link.writer.write(b"x" * 65536)
            await link.writer.drain()
            link.sent += 65536

    stage = await make_stage(script)
    before = resident_bytes()
    for _ in range(8):
        client = await stage.connect()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined] # of every socket
        client.send(GET.replace(b"/x", b"/large"))
    await stage.still(stage.upstream.sent)
    # The kernel's buffers hold what they can; beyond them a backend has to wait.
    assert resident_bytes() - before < 32 << 20
    assert (await stage.ask(GET)).status == 200
    for _ in range(3):
        stage.advance(stage.limits.send_seconds)
    await stage.settle(lambda: stage.tally.terminations == {"send-timeout": 8})


async def test_a_client_that_asks_and_never_reads(make_stage: "StageMaker") -> None:
    asked = 2_000
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000

    async def script(link: "Link") -> None:
        while True:
            await link.request()
            link.writer.write(answer)
            await link.writer.drain()

    stage = await make_stage(script, requests_per_connection=asked + 1)
    client = await stage.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined] # of every socket
    before = resident_bytes()
    client.send(GET * asked)
    await stage.still(lambda: stage.tally.requests)
    assert stage.tally.requests < asked // 4, "no further request is taken"
    assert resident_bytes() - before < 32 << 20
    assert (await stage.ask(GET)).status == 200
    client.reader._transport.resume_reading()  # type: ignore[attr-defined] # as above
    for _ in range(asked):
        assert len((await client.response()).body) == 100_000


async def test_a_long_head_in_single_bytes(stage: "Stage") -> None:
    client = await stage.connect()
    for byte in GET[:-2] + b"X: " + b"a" * 4000 + b"\r\n\r\n":
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    "piece",
    [b"1;" + b"a" * 200 + b"\r\nx\r\n", b"1;a\r\nx\r\n"],
    ids=["long extensions", "short ones"],
)
async def test_extensions_without_end(make_stage: "StageMaker", piece: bytes) -> None:
    async def script(link: "Link") -> None:
        while await link.read():
            pass

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n")
    extension = len(piece) - 6
    for _ in range(stage.limits.chunk_extensions_bytes // extension + 1):
        client.send(piece)
    response = await client.response()
    assert (response.status, response.reason) == (400, "bad-chunk")


BALANCERS = Forwarding(introducers=(ip_network("127.0.0.0/8"),))


async def test_who_does_not_say_who_it_is_counts_too(make_stage: "StageMaker") -> None:
    stage = await make_stage(forwarding=BALANCERS, connections=5)
    silent = [await stage.connect() for _ in range(5)]
    await stage.settle(lambda: len(stage.listener.arrivals) == 5)
    assert await (await stage.connect()).rest() == b""
    assert stage.tally.connections_refused == 1
    silent[0].abort()
    await stage.settle(lambda: len(stage.listener.arrivals) == 4)
    line = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"
    assert (await stage.ask(line + GET)).status == 200


async def test_a_drain_waits_for_who_is_still_arriving(make_stage: "StageMaker") -> None:
    stage = await make_stage(forwarding=BALANCERS)
    late, never = await stage.connect(), await stage.connect()
    await stage.settle(lambda: len(stage.listener.arrivals) == 2)
    draining = asyncio.ensure_future(stage.listener.drain(2.0))
    await asyncio.sleep(0.01)
    late.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n" + GET)
    answer = await late.response()
    assert (answer.status, answer.field(b"connection")) == (200, b"close")
    late.abort()
    report = await draining
    assert (report.finished, report.aborted) == (1, 1)
    assert await never.rest() == b""


def tls(**limits: int) -> "partial[TlsServerProtocol]":
    made = contexts(
        *certificates(shop=SHOP, wild=WILD),
        *server_names({"shop.example": "shop", "*.shop.example": "wild"}),
    )
    most = limits.get("connections", 1000)
    arrivals = Arrivals(admits=lambda: len(arrivals) < most, on_leave=lambda: None)
    return partial(
        TlsServerProtocol,
        contexts=CurrentContexts(made),
        clock=Clock(asyncio.get_running_loop()),
        limits=Limits(),
        handshakes={},
        arrivals=arrivals,
    )


async def test_handshakes_that_never_end_count_too(make_stage: "StageMaker") -> None:
    wrap = tls(connections=3)
    stage = await make_stage(wrap=wrap)
    for _ in range(3):
        await stage.connect()
    await stage.settle(lambda: len(wrap.keywords["arrivals"]) == 3)
    assert await (await stage.connect()).rest() == b""
    assert wrap.keywords["handshakes"] == {"none false refused": 1}
    wrap.keywords["arrivals"].cut()


async def test_a_host_of_another_certificate_is_misdirected(make_stage: "StageMaker") -> None:
    stage = await make_stage(wrap=tls())
    client = await stage.connect()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await client.writer.start_tls(context, server_hostname="shop.example")
    for host, status in ((b"shop.example", 200), (b"a.shop.example", 421), (b"shop.example", 200)):
        client.send(GET.replace(b"a.example", host))
        response = await client.response()
        assert response.status == status
    assert stage.tally.rejected == {"misdirected": 1}


def test_a_chain_out_of_order_is_served() -> None:
    chain = SHOP.chain + WILD.chain + SHOP.chain
    made = contexts(
        *certificates(shop=Certificate(chain=chain, key=SHOP.key)),
        *server_names({"shop.example": "shop"}),
    )
    chosen = made.choose(b"shop.example")
    assert chosen is not None
    assert chosen.certificate == "n/shop"
