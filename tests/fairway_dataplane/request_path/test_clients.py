"""Connections of clients: time, pace, order, and the end."""

import asyncio
import gc
import json
import os
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane.downstream.http1 import HttpConnection
from fairway_dataplane.downstream.listener import Forwarding
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.table import HostEntry, RoutingTable
from fairway_snapshot import shards
from fairway_snapshot.filters import DirectResponse, ResponseHeaders
from fairway_snapshot.filters import Header as HeaderLine
from fairway_snapshot.matcher import HostIndex
from fairway_snapshot.model import Timeouts
from tests.fairway_dataplane.request_path.conftest import PATIENCE_SECONDS, without_end

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def silent(link: "Link") -> None:
    """Take a request and never answer."""
    await link.request()
    await link.wait_closed()


# Time.


async def test_an_idle_client_is_closed_without_a_word(stage: "Stage") -> None:
    client = await stage.connect()
    client.send(GET)
    await client.response()
    stage.advance(stage.limits.keep_alive_seconds - 1.0)
    client.send(GET)
    await client.response()
    stage.advance(stage.limits.keep_alive_seconds + 1.1)
    assert await client.rest() == b""


async def test_a_head_has_its_time_however_busily_it_trickles(stage: "Stage") -> None:
    client = await stage.connect()
    for at, byte in enumerate((b"G", b"E", b"T", b" "), start=1):
        client.send(byte)
        await stage.heard(at)
        stage.advance(2.0)
    stage.advance(4.0)
    response = await client.response()
    assert (response.status, response.reason) == (408, "header-timeout")
    assert await client.rest() == b""


async def test_a_body_that_stops_is_answered_with_408(stage: "Stage") -> None:
    client = await stage.connect()
    client.send(POST + b"x" * 90_000)
    await stage.settle(lambda: bool(stage.upstream.links))
    await stage.settle(lambda: len((stage.upstream.links[0]).received) > 90_000)
    stage.advance(stage.limits.body_idle_seconds + 6.1)
    response = await client.response()
    assert (response.status, response.reason) == (408, "body-timeout")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await stage.upstream.link()).closed.wait()


async def test_a_body_slower_than_the_least_rate_is_answered_with_408(stage: "Stage") -> None:
    client = await stage.connect()
    client.send(POST)
    link = await stage.upstream.link()
    for sent in range(100, 900, 100):
        client.send(b"x" * 100)
        await stage.settle(partial(has_arrived, stage, link, sent))
        stage.advance(1.0)
    assert (await client.response()).reason == "body-timeout"


async def test_a_body_fast_enough_may_take_long(stage: "Stage") -> None:
    client = await stage.connect()
    client.send(POST)
    link = await stage.upstream.link()
    for sent in range(5000, 105_000, 5000):
        client.send(b"x" * 5000)
        await stage.settle(partial(has_arrived, stage, link, sent))
        stage.advance(5.0)
    assert (await client.response()).status == 200


async def test_a_request_has_its_time_in_all(make_stage: "StageMaker") -> None:
    stage = await make_stage(silent)
    serve(stage, timeouts=Timeouts(request=0.4))
    client = await stage.connect()
    client.send(GET)
    await stage.settle(lambda: bool(stage.upstream.requests))
    stage.advance(0.6)
    response = await client.response()
    assert (response.status, response.reason) == (504, "request-timeout")


async def test_a_client_that_reads_nothing_is_cut_off(make_stage: "StageMaker") -> None:
    stage = await make_stage(without_end)
    client = await stage.connect()
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    client.send(GET)
    await stage.still(stage.upstream.sent)
    assert stage.listener.connections()[0]["state"] == "wait"
    for _ in range(3):
        stage.advance(stage.limits.send_seconds)
    await stage.settle(lambda: stage.tally.terminations == {"send-timeout": 1})


# Pace.


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_slow_peer_costs_no_memory(make_stage: "StageMaker", direction: str) -> None:
    """``FAIRWAY_TEST_STREAM_BYTES`` makes it a gibibyte; see the module of the soak."""
    total = int(os.environ.get("FAIRWAY_TEST_STREAM_BYTES", str(64 << 20)))
    taken = 0

    async def script(link: "Link") -> None:
        nonlocal taken
        if direction == "down":
            await link.request()
            link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
            block = b"x" * 65536
            for _ in range(total // len(block)):
                link.writer.write(block)
                await link.writer.drain()
            return
        while taken < total:
            data = await link.reader.read(1 << 20)
            if not link.received:
                link.received += data
                data = data.partition(b"\r\n\r\n")[2]
            taken += len(data)
            await asyncio.sleep(0)
        link.writer.write(OK)
        await link.writer.drain()

    stage = await make_stage(script)
    before = resident_bytes()
    client = await stage.connect()
    if direction == "down":
        client.send(GET)
        await client.head()
        while taken < total:
            data = await client.reader.read(1 << 20)
            assert data
            taken += len(data)
            await asyncio.sleep(0)
    else:
        client.send(POST.replace(b"100000", b"%d" % total))
        block = b"x" * 65536
        for _ in range(total // len(block)):
            client.send(block)
            await client.writer.drain()
        assert (await client.response()).body == b"ok"
    assert taken == total
    assert resident_bytes() - before < 16 << 20


# Order.


async def test_pipelined_requests_are_answered_in_order_and_none_early(
    make_stage: "StageMaker",
) -> None:
    async def script(link: "Link") -> None:
        while True:
            target = (await link.request()).split(b" ")[1]
            assert len(link.requests) == 1 or link.requests[-2] != link.requests[-1]
            link.writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(target), target)
            )

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(b"".join(GET.replace(b"/x", b"/%d" % number) for number in range(50)))
    for number in range(50):
        assert (await client.response()).body == b"/%d" % number


async def test_a_flood_of_pipelined_requests_for_an_own_answer_lets_others_in(
    stage: "Stage",
) -> None:
    serve(stage, filters=(DirectResponse(status=200, body="hi"),))
    greedy, modest = await stage.connect(), await stage.connect()
    greedy.send(GET * 500)
    modest.send(GET)
    await modest.response()
    for _ in range(500):
        assert (await greedy.response()).body == b"hi"


async def test_a_connection_ends_after_so_many_requests(make_stage: "StageMaker") -> None:
    stage = await make_stage(requests_per_connection=3)
    client = await stage.connect()
    for number in range(3):
        client.send(GET)
        closing = (await client.response()).field(b"connection") == b"close"
        assert closing is (number == 2)
    assert await client.rest() == b""


async def test_a_connection_ends_when_it_is_old(make_stage: "StageMaker") -> None:
    stage = await make_stage(connection_age_seconds=10.0)
    client = await stage.connect()
    client.send(GET)
    assert (await client.response()).field(b"connection") is None
    stage.advance(10.0)
    client.send(GET)
    assert (await client.response()).field(b"connection") == b"close"


async def test_http_1_0_is_answered_until_close_and_kept_when_it_asks(
    make_stage: "StageMaker",
) -> None:
    async def script(link: "Link") -> None:
        while True:
            await link.request()
            link.writer.write(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            )

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.head()).endswith(b"connection: close\r\n\r\n")
    assert await client.rest() == b"ok"


# Bodies.


@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        pytest.param(
            b"Content-Length: 11\r\n\r\nhello world",
            b"content-length: 11|hello world",
            id="counted",
        ),
        pytest.param(
            b"Transfer-Encoding: Chunked\r\n\r\n"
            b"6;a=b\r\nhello \r\n05\r\nworld\r\n0\r\nx: y\r\n\r\n",
            b"transfer-encoding: chunked|b\r\nhello world\r\n0\r\n\r\n",
            id="chunks are made anew",
        ),
        pytest.param(b"Content-Length: 0\r\n\r\n", b"content-length: 0|", id="empty"),
    ],
)
async def test_a_body_arrives_in_one_form(stage: "Stage", sent: bytes, forwarded: bytes) -> None:
    response = await stage.ask(b"POST /x HTTP/1.1\r\nHost: a.example\r\n" + sent)
    assert response.status == 200
    head, _, body = stage.upstream.requests[0].partition(b"\r\n\r\n")
    framing, _, expected = forwarded.partition(b"|")
    assert b"\r\n" + framing + b"\r\n" in head
    assert body == expected


async def test_a_chunked_body_in_single_bytes_arrives(stage: "Stage") -> None:
    raw = (
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6;x\r\n world\r\n0\r\nt: 1\r\n\r\n"
    )
    client = await stage.connect()
    for byte in raw:
        client.send(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await client.response()).status == 200
    body = stage.upstream.requests[0].partition(b"\r\n\r\n")[2]
    chunks = body.split(b"\r\n")
    assert b"".join(chunks[1::2]) == b"hello world"


async def test_a_body_above_the_limit_is_413(make_stage: "StageMaker") -> None:
    stage = await make_stage(body_bytes=10)
    chunked = b"POST /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    for raw in (
        POST,
        chunked + b"b\r\nhello world\r\n0\r\n\r\n",
    ):
        response = await stage.ask(raw)
        assert (response.status, response.reason) == (413, "body-too-large")
    assert stage.upstream.requests == []
    client = await stage.connect()
    client.send(chunked + b"a\r\nhello worl\r\n")
    await stage.settle(lambda: bool(stage.upstream.links))
    client.send(b"1\r\nd\r\n0\r\n\r\n")
    assert (await client.response()).status == 413


# What is added and what is answered.


async def test_the_backend_is_told_about_the_client(stage: "Stage") -> None:
    await stage.ask(b"GET /x HTTP/1.1\r\nHost: a.example:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n")
    head = stage.upstream.requests[0]
    assert head.startswith(b"GET /x HTTP/1.1\r\nhost: a.example:8080\r\nx-forwarded-for: 127.0.0.1")
    for line in (
        b"x-forwarded-proto: http",
        b"x-forwarded-host: a.example:8080",
        b"x-forwarded-port: 8080",
        b"x-real-ip: 127.0.0.1",
        b"via: 1.1 fairway",
    ):
        assert b"\r\n" + line + b"\r\n" in head
    assert b"6.6.6.6" not in head


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param(
            b"X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.0.0.9\r\nX-Forwarded-Proto: https\r\n",
            (b"x-forwarded-for: 6.6.6.6, 192.0.2.7, 10.0.0.9, 127.0.0.1", b"x-real-ip: 192.0.2.7",
             b"x-forwarded-proto: https", b"x-forwarded-port: 443"),
            id="the right-most hop that is not ours",
        ),
        pytest.param(
            b"X-Forwarded-For: 192.0.2.7, nonsense, 10.0.0.9\r\n",
            (b"x-forwarded-for: 10.0.0.9, 127.0.0.1", b"x-real-ip: 10.0.0.9"),
            id="a chain is believed from the right until it does not parse",
        ),
        pytest.param(
            b'Forwarded: for="[2001:db8::1]";proto=https\r\n',
            (b"x-real-ip: 2001:db8::1",
             (b'forwarded: for="[2001:db8::1]";proto=https, '
             b'for=127.0.0.1;proto=http;host="a.example"')),
            id="Forwarded is read and appended to",
        ),
        pytest.param(
            b"X-Forwarded-For: 192.0.2.7:4711, [2001:db8::1]:80, 10.0.0.9:1\r\n",
            (b"x-forwarded-for: 192.0.2.7, 2001:db8::1, 10.0.0.9, 127.0.0.1",
             b"x-real-ip: 2001:db8::1"),
            id="ports of hops",
        ),
        pytest.param(
            b'Forwarded: for=192.0.2.7;by=10.0.0.1, FOR="[2001:db8::1]:80" ; proto=http\r\n'
            b'Forwarded: by="a,\\";for=6.6.6.6";for="10.0.0.9:1"\r\n',
            (b"x-forwarded-for: 192.0.2.7, 2001:db8::1, 10.0.0.9, 127.0.0.1",
             b"x-real-ip: 2001:db8::1"),
            id="Forwarded in several lines, quoted, with ports",
        ),
        *(
            pytest.param(
                b"Forwarded: for=6.6.6.6, " + element + b", for=10.0.0.9\r\n",
                (b"x-forwarded-for: 10.0.0.9, 127.0.0.1", b"x-real-ip: 10.0.0.9"),
                id="Forwarded is believed up to " + element.decode(),
            )
            for element in (b"for=unknown", b"for=_hidden", b"proto=http", b"for", b"xfor=1.2.3.4",
                            b"for=1.2.3.4;for=5.6.7.8", b"for = 1.2.3.4", b"for=1.2.3",
                            b"for=1.2.3.4 x")
        ),
        pytest.param(
            b'Forwarded: for=6.6.6.6;by="\r\nForwarded: for=10.0.0.9\r\n',
            (b"x-forwarded-for: 10.0.0.9, 127.0.0.1", b"x-real-ip: 10.0.0.9",
             b'forwarded: for=10.0.0.9, for=127.0.0.1;proto=http;host="a.example"'),
            id="a quote without an end swallows nothing",
        ),
        pytest.param(
            b"X-Request-Id: abc-123\r\n", (b"x-request-id: abc-123",), id="an id is kept"
        ),
    ],
)  # fmt: skip
async def test_a_proxy_of_ours_is_believed(
    make_stage: "StageMaker", claims: bytes, expected: tuple[bytes, ...]
) -> None:
    ours = tuple(ip_network(network) for network in ("127.0.0.0/8", "10.0.0.0/8"))
    stage = await make_stage(forwarding=Forwarding(trusted=ours, forwarded=True))
    await stage.ask(b"GET /x HTTP/1.1\r\nHost: a.example\r\n" + claims + b"\r\n")
    for line in expected:
        assert b"\r\n" + line + b"\r\n" in stage.upstream.requests[0]


async def test_an_error_is_text_or_json_and_names_nothing_of_the_request(stage: "Stage") -> None:
    serve(stage, path="/elsewhere")
    text = await stage.ask(GET)
    assert (text.status, text.reason) == (404, "no-route")
    assert text.body.startswith(b"404 Not Found: no-route (request ")
    client = await stage.connect()
    client.send(b"GET /secret HTTP/1.1\r\nHost: a.example\r\nAccept: application/json\r\n\r\n")
    answer = await client.response()
    found = json.loads(answer.body)
    assert found.keys() == {"status", "reason", "request_id"}
    assert found["request_id"].encode() == answer.field(b"x-request-id")
    assert b"secret" not in answer.head + answer.body
    client.send(GET.replace(b"GET", b"HEAD"))
    answer = await client.response(head_only=True)
    assert int(answer.field(b"content-length") or 0) > 0


async def test_a_response_edit_applies_to_backends_and_not_to_errors(stage: "Stage") -> None:
    edit = ResponseHeaders(set=(HeaderLine(name="x-a", value="1"),))
    serve(stage, filters=(edit,))
    assert (await stage.ask(GET)).field(b"x-a") == b"1"


# Tunnels.

UPGRADE = (
    b"GET /chat HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
)
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def echo(link: "Link") -> None:
    await link.request()
    link.writer.write(SWITCH)
    while data := await link.read():
        link.writer.write(data)
        await link.writer.drain()


async def test_a_tunnel_passes_bytes_both_ways_and_those_that_came_early(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(echo)
    client = await stage.connect()
    client.send(UPGRADE + b"early")
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nupgrade: websocket\r\n" in head
    assert await client.reader.readexactly(5) == b"early"
    client.send(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert await client.reader.readexactly(22) == b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    assert stage.tally.tunnels_active == 1
    client.writer.write_eof()
    assert await client.rest() == b""
    await stage.settle(lambda: stage.tally.tunnels_active == 0)
    assert b"connection: upgrade\r\nupgrade: websocket" in stage.upstream.requests[0]


async def test_a_tunnel_in_which_nothing_moves_is_cut(make_stage: "StageMaker") -> None:
    stage = await make_stage(echo, tunnel_idle_seconds=10.0)
    client = await stage.connect()
    client.send(UPGRADE)
    await client.head()
    for _ in range(3):
        stage.advance(9.0)
        client.send(b"x")
        assert await client.reader.readexactly(1) == b"x"
    stage.advance(11.2)
    assert await client.rest() == b""
    await stage.settle(lambda: stage.tally.tunnels_active == 0)


async def test_a_tunnel_pushes_back(make_stage: "StageMaker") -> None:
    total = 32 << 20

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(SWITCH)
        for _ in range(total >> 16):
            link.writer.write(b"x" * 65536)
            await link.writer.drain()

    stage = await make_stage(script)
    before = resident_bytes()
    client = await stage.connect()
    client.send(UPGRADE)
    await client.head()
    await asyncio.sleep(0.2)
    taken = 0
    while data := await client.reader.read(1 << 20):
        taken += len(data)
        await asyncio.sleep(0)
    assert taken == total
    assert resident_bytes() - before < 16 << 20


# The end.


async def test_a_drain_finishes_what_is_in_flight(make_stage: "StageMaker") -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        await go_on.wait()
        link.writer.write(OK)
        await link.wait_closed()

    stage = await make_stage(script)
    busy, idle = await stage.connect(), await stage.connect()
    busy.send(GET)
    await stage.settle(lambda: bool(stage.upstream.requests))
    await stage.settle(lambda: stage.tally.connections_open == 2)
    draining = asyncio.ensure_future(stage.listener.drain(PATIENCE_SECONDS))
    await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="onnect"):
        await stage.connect()
    stage.advance(1.1)
    assert await idle.rest() == b""
    go_on.set()
    response = await busy.response()
    assert response.field(b"connection") == b"close"
    report = await draining
    assert (report.finished, report.aborted) == (2, 0)


async def test_an_idle_client_may_bring_one_more_request_while_draining(stage: "Stage") -> None:
    client = await stage.connect()
    client.send(GET)
    await client.response()
    draining = asyncio.ensure_future(stage.listener.drain(PATIENCE_SECONDS))
    await asyncio.sleep(0.01)
    client.send(GET)
    response = await client.response()
    assert (response.status, response.field(b"connection")) == (200, b"close")
    assert (await draining).aborted == 0


async def test_a_drain_has_a_limit(make_stage: "StageMaker") -> None:
    stage = await make_stage(silent)
    client = await stage.connect()
    client.send(GET)
    await stage.settle(lambda: bool(stage.upstream.requests))
    report = await stage.listener.drain(0.05)
    assert (report.finished, report.aborted) == (0, 1)
    assert await client.rest() == b""


async def test_more_clients_than_the_limit_are_refused_and_idle_ones_make_room(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(silent, connections=10)
    busy = [await stage.connect() for _ in range(8)]
    for client in busy:
        client.send(GET)
    await stage.settle(lambda: len(stage.upstream.links) == 8)
    idle = await stage.connect()
    await stage.settle(lambda: stage.tally.connections_open == 9)
    stage.advance(0.2)
    await stage.connect()
    assert await idle.rest() == b""
    assert stage.tally.connections_evicted == 1
    for _ in range(2):
        (await stage.connect()).send(GET)
    await stage.settle(lambda: stage.tally.connections_open >= 9)
    crowd = [await stage.connect() for _ in range(4)]
    for client in crowd:
        client.send(GET)
    await stage.settle(lambda: stage.tally.connections_refused >= 2)
    assert stage.tally.connections_open <= 10


async def test_one_client_has_a_limit_of_its_own(make_stage: "StageMaker") -> None:
    stage = await make_stage(connections_per_client=2)
    first, second = await stage.connect(), await stage.connect()
    await stage.settle(lambda: stage.tally.connections_open == 2)
    third = await stage.connect()
    assert await third.rest() == b""
    second.abort()
    await stage.settle(lambda: stage.tally.connections_open == 1)
    fourth = await stage.connect()
    for client in (first, fourth):
        client.send(GET)
        assert (await client.response()).status == 200


async def test_many_clients_of_a_proxy_of_ours_are_not_one(make_stage: "StageMaker") -> None:
    ours = Forwarding(trusted=(ip_network("127.0.0.0/8"),))
    stage = await make_stage(connections_per_client=2, forwarding=ours)
    clients = [await stage.connect() for _ in range(5)]
    for client in clients:
        client.send(GET)
        assert (await client.response()).status == 200
    for client in clients:
        client.abort()
    await stage.settle(lambda: stage.tally.connections_open == 0)


async def test_an_ipv6_client_is_a_network_of_64_bits(make_stage: "StageMaker") -> None:
    balancer = Forwarding(introducers=(ip_network("127.0.0.0/8"),))
    stage = await make_stage(connections_per_client=1, forwarding=balancer)

    async def arrive(address: bytes) -> int:
        client = await stage.connect()
        client.send(b"PROXY TCP6 " + address + b" 2001:db8::ffff 1 80\r\n" + GET)
        try:
            return (await client.response()).status
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0

    assert await arrive(b"2001:db8:0:1::1") == 200
    assert await arrive(b"2001:db8:0:1:ffff::1") == 0, "the same network"
    assert await arrive(b"2001:db8:0:2::1") == 200


async def test_a_bug_ends_its_exchange_only(
    stage: "Stage", monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(HostIndex[HostEntry]):
        def find(self, _: bytes) -> None:
            raise ZeroDivisionError

    broken = RoutingTable(shards.EMPTY, Broken({}), shards.Sharded())
    good, stage.tables.current = stage.tables.current, broken
    client = await stage.connect()
    client.send(GET)
    response = await client.response()
    assert (response.status, response.reason) == (500, "internal-error")
    stage.tables.current = good
    client.send(GET)
    assert (await client.response()).status == 200
    assert stage.tally.bugs == 1
    assert isinstance(stage.bugs.pop(), ZeroDivisionError)


async def test_no_collector_is_needed_for_connections_that_ended(stage: "Stage") -> None:
    gc.collect()
    before = {id(found) for found in alive()}
    gc.disable()
    try:
        for _ in range(50):
            client = await stage.connect()
            client.send(GET)
            await client.response()
            client.abort()
        await stage.settle(lambda: stage.tally.connections_open == 0)
        # The loop lets go of some a turn or two later, and by itself.
        await stage.settle(lambda: all(id(found) in before for found in alive()))
    finally:
        gc.enable()


def alive() -> list[object]:
    return [found for found in gc.get_objects() if isinstance(found, HttpConnection | Exchange)]


def has_arrived(stage: "Stage", link: "Link", size: int) -> bool:
    """Tell whether so much of a body has come to the backend, or never will."""
    body = bytes(link.received).partition(b"\r\n\r\n")[2]
    return len(body) >= size or bool(stage.tally.rejected)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def serve(stage: "Stage", **more: Any) -> None:
    from tests.fairway_dataplane.request_path.conftest import BACKEND, route, to  # noqa: PLC0415

    stage.serve(route(**more), **{BACKEND: to(stage.upstream.port)})
