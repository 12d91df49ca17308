"""Connections to backends: what is reused, what is tried again, what is given up."""

import asyncio
import os
import socket
from ipaddress import ip_network
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane import clock as clocks
from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.ports import turn_away
from fairway_dataplane.upstream import silence
from fairway_dataplane.upstream.balancer import Split, build_balancer
from fairway_dataplane.upstream.health import Endpoint
from fairway_snapshot.model import Backend, BackendId, Balance, HashKey, Retry, Timeouts
from tests.fairway_dataplane.request_path.conftest import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
BACKEND = "shop/web:80"


async def test_requests_share_one_connection(stage: "Stage") -> None:
    client = await stage.connect()
    for _ in range(3):
        client.send(GET)
        assert (await client.response()).status == 200

    assert len(stage.upstream.links) == 1
    assert stage.tally.backends[BACKEND].connects == 1
    stage.upstreams.measure()
    assert stage.tally.backends[BACKEND].reuses == 2


@pytest.mark.parametrize(
    ("answer", "reused"),
    [
        pytest.param(OK, True, id="a whole answer"),
        pytest.param(OK + b"x", False, id="bytes behind the answer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            False,
            id="the backend wants to close",
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False, id="HTTP/1.0 closes"
        ),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            True,
            id="HTTP/1.0 that is kept",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2;x=1\r\nok\r\n0\r\nt: 1\r\n\r\n",
            True,
            id="chunks with an extension and a trailer",
        ),
    ],
)
async def test_a_connection_is_reused_only_when_both_sides_agree_where_the_answer_ended(
    make_stage: "StageMaker", *, answer: bytes, reused: bool
) -> None:
    async def script(link: "Link") -> None:
        while True:
            await link.request()
            link.writer.write(answer)

    stage = await make_stage(script)
    for _ in range(2):
        response = await stage.ask(GET)
        assert (response.status, response.body) == (200, b"ok")

    assert len(stage.upstream.links) == (1 if reused else 2)


async def test_bytes_on_an_idle_connection_close_it(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(OK)
        await link.writer.drain()
        await asyncio.sleep(0.01)
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        await link.wait_closed()

    stage = await make_stage(script)
    assert (await stage.ask(GET)).body == b"ok"
    link = await stage.upstream.link()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await link.closed.wait()
    assert (await stage.ask(GET)).body == b"ok"
    assert len(stage.upstream.links) == 2


async def test_an_idle_connection_ends_in_time(stage: "Stage") -> None:
    await stage.ask(GET)
    link = await stage.upstream.link()
    stage.advance(stage.limits.idle_endpoint_seconds + 1.1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await link.closed.wait()


@pytest.mark.parametrize("number", [2, 3, 4])
async def test_so_many_idle_connections_are_kept(make_stage: "StageMaker", number: int) -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        await go_on.wait()
        link.writer.write(OK)
        await link.wait_closed()

    stage = await make_stage(script, idle_per_endpoint=3)
    clients = [await stage.connect() for _ in range(number)]
    for client in clients:
        client.send(GET)
    await stage.settle(lambda: len(stage.upstream.requests) == number)
    go_on.set()
    for client in clients:
        assert (await client.response()).status == 200
    closed = max(0, number - 3)
    await stage.settle(lambda: sum(link.closed.is_set() for link in stage.upstream.links) == closed)
    stage.upstreams.measure()
    assert stage.tally.backends[BACKEND].idle == min(number, 3)


class Restarting:
    """A backend that closes each kept connection instead of answering on it."""

    async def __call__(self, link: "Link") -> None:
        await link.request()
        link.writer.write(OK)
        await link.writer.drain()
        await link.request()
        link.writer.transport.abort()


async def test_a_stale_connection_does_not_fail_an_idempotent_request(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(Restarting())
    assert (await stage.ask(GET)).status == 200
    assert (await stage.ask(GET)).status == 200
    assert stage.tally.backends[BACKEND].retries == 1


async def test_a_request_that_may_have_been_acted_on_is_not_sent_twice(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(Restarting())
    assert (await stage.ask(POST)).status == 200
    response = await stage.ask(POST)
    assert (response.status, response.reason) == (502, "upstream-reset")
    assert len(stage.upstream.requests) == 2


async def test_an_idempotent_body_that_is_at_hand_is_sent_again(make_stage: "StageMaker") -> None:
    stage = await make_stage(Restarting())
    put = POST.replace(b"POST", b"PUT")
    for _ in range(2):
        assert (await stage.ask(put)).status == 200
    assert [request.partition(b"\r\n\r\n")[2] for request in stage.upstream.requests] == [
        b"hello"
    ] * 3


PUT = b"PUT /x HTTP/1.1\r\nHost: a.example\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("late", [0, 1, 60, 99])
@pytest.mark.parametrize("size", [99, 100, 101])
async def test_so_much_of_a_body_is_kept_to_be_sent_again(
    make_stage: "StageMaker", *, size: int, late: int, chunked: bool
) -> None:
    stage = await make_stage(Restarting(), replay_bytes=100)
    assert (await stage.ask(GET)).status == 200
    body = b"x" * size
    if chunked:
        raw = PUT + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    else:
        raw = PUT + b"Content-Length: %d\r\n\r\n%b" % (size, body)
    client = await stage.connect()
    client.send(raw[: len(raw) - late])
    if late:
        link = await stage.upstream.link()
        await stage.settle(lambda: b"PUT" in link.received)
        client.send(raw[len(raw) - late :])
    answer = await client.response()
    assert answer.status == (200 if size <= 100 else 502)
    if size <= 100:
        sent = stage.upstream.requests[-1].partition(b"\r\n\r\n")[2]
        assert sent.count(b"x") == size


async def test_what_comes_after_the_first_endpoint_is_lost_reaches_the_second(
    make_stage: "StageMaker",
) -> None:
    async def script(link: "Link") -> None:
        if link is stage.upstream.links[0]:
            await link.request()
            link.writer.write(OK)
            await link.read()
            link.writer.transport.abort()
            return
        await link.request()
        link.writer.write(OK)

    stage = await make_stage(script)
    assert (await stage.ask(GET)).status == 200
    client = await stage.connect()
    client.send(PUT + b"Content-Length: 10\r\n\r\nhello")
    link = await stage.upstream.link(2)
    await stage.settle(lambda: link.received.endswith(b"hello"))
    client.send(b"world")
    assert (await client.response()).status == 200
    assert stage.upstream.requests[-1].endswith(b"\r\n\r\nhelloworld")


async def test_a_body_that_may_have_been_acted_on_is_not_sent_twice(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(Restarting())
    assert (await stage.ask(GET)).status == 200
    client = await stage.connect()
    client.send(POST[:-1])
    link = await stage.upstream.link()
    await stage.settle(lambda: b"POST" in link.received)
    client.send(POST[-1:])
    assert (await client.response()).reason == "upstream-reset"
    assert len(stage.upstream.links) == 1


async def test_an_answer_that_has_begun_is_never_asked_for_again(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-")
        await link.writer.drain()
        link.writer.transport.abort()

    stage = await make_stage(script)
    assert (await stage.ask(GET)).status == 502
    assert len(stage.upstream.links) == 1


@pytest.mark.parametrize("length", [2, 50_000])
@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Content-Length: 4000000"])
async def test_a_backend_that_refuses_a_body_and_closes_is_heard(
    stage: "Stage", framing: bytes, length: int
) -> None:
    part = b"3e8\r\n" + b"x" * 1000 + b"\r\n" if b"chunked" in framing else b"x" * 1000
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)  # noqa: FBT003 - the socket module's own
        serve(stage, ports=(server.getsockname()[1],))
        client = await stage.connect()
        client.send(b"POST /x HTTP/1.1\r\nHost: a.example\r\n" + framing + b"\r\n\r\n" + part)
        backend, _ = await asyncio.get_running_loop().sock_accept(server)
        await asyncio.get_running_loop().sock_recv(backend, 10)
        # In one turn of the loop: the body goes on, and its next write finds a connection that
        # was reset, for the backend closes without having read all. The answer came before.
        os.write(client.writer.get_extra_info("socket").fileno(), part)
        head = b"HTTP/1.1 413 Too Large\r\ncontent-length: %d\r\n\r\n" % length
        assert backend.send(head + b"x" * length) == len(head) + length
        backend.close()
        answer = await client.response()
    assert (answer.status, len(answer.body)) == (413, length)
    assert answer.field(b"connection") == b"close"


async def test_a_short_body_never_ends_well(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    await client.head()
    assert await client.rest() in (b"half", b"")
    await stage.settle(lambda: stage.tally.terminations == {"upstream-reset": 1})


async def test_short_chunks_never_get_a_last_one(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    await client.head()
    assert b"0\r\n\r\n" not in await client.rest()


async def test_a_status_is_tried_again_if_the_route_says_so(make_stage: "StageMaker") -> None:
    answers = iter([b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", OK])

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(next(answers))
        await link.writer.drain()
        await link.wait_closed()

    stage = await make_stage(script)
    serve(stage, retry=Retry(attempts=1, codes=(503,)))
    assert (await stage.ask(GET)).status == 200


async def test_retries_have_a_budget(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")

    stage = await make_stage(script)
    serve(stage, retry=Retry(attempts=3, codes=(503,)))
    for _ in range(20):
        assert (await stage.ask(GET)).status == 503
    assert stage.tally.backends[BACKEND].retries == 10


async def test_a_budget_of_nothing_is_no_retry(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")

    stage = await make_stage(script)
    serve(stage, retry=Retry(attempts=3, codes=(503,), budget=0))
    for _ in range(3):
        assert (await stage.ask(GET)).status == 503
    assert stage.tally.backends[BACKEND].retries == 0


async def test_a_refused_connection_is_an_answer_and_the_next_endpoint_serves(
    stage: "Stage",
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens, and nobody else can
        nobody = taken.getsockname()[1]
        serve(stage, ports=(nobody,))
        response = await stage.ask(POST)
        assert (response.status, response.reason) == (503, "upstream-connect")

        serve(stage, ports=(nobody, stage.upstream.port))
        for _ in range(4):
            assert (await stage.ask(POST)).status == 200


async def test_a_black_hole_is_raced_by_another_endpoint(
    make_stage: "StageMaker", black_hole: int
) -> None:
    # Without a race nobody would be answered before the hole is given up.
    stage = await make_stage(connect_race_seconds=0.05, connect_seconds=10 * PATIENCE_SECONDS)
    serve(stage, ports=(black_hole, stage.upstream.port))
    for _ in range(4):
        assert (await stage.ask(POST)).status == 200


async def test_a_black_hole_is_remembered(make_stage: "StageMaker", black_hole: int) -> None:
    stage = await make_stage(connect_race_seconds=0.02, connect_seconds=0.1)
    serve(stage, ports=(black_hole, stage.upstream.port), timeouts=Timeouts(connect=0.1))
    tally = stage.tally.backends[BACKEND]
    for _ in range(2):
        assert (await stage.ask(POST)).status == 200
    # Each of the two may have tried it, for it had not failed yet when the second one came.
    await stage.settle(lambda: tally.connect_failures > 0 and not is_opening(stage))
    failures = tally.connect_failures
    # The clock stands still here: whatever is asked for now, the hole is not tried again.
    for _ in range(10):
        assert (await stage.ask(POST)).status == 200
    assert tally.connect_failures == failures
    assert not is_opening(stage)
    stage.upstreams.measure()
    assert tally.reuses + tally.connects >= 12


def is_opening(stage: "Stage") -> bool:
    endpoints = stage.upstreams.backend(BackendId(BACKEND))._endpoints.values()
    return any(endpoint.opening for endpoint in endpoints)


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an acknowledgement for 0.3 s and not for seconds."""
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.3)


async def test_a_kept_connection_into_a_black_hole_does_not_fail_an_idempotent_request(
    make_stage: "StageMaker", impatience: None
) -> None:
    stage = await make_stage()
    assert (await stage.ask(GET)).status == 200
    link = await stage.upstream.link()
    # From here on its kernel drops whatever comes, and acknowledges nothing.
    turn_away(link.writer.get_extra_info("socket"))
    assert (await stage.ask(GET)).status == 200
    assert [len(link.requests) for link in stage.upstream.links] == [1, 1]


async def test_a_backend_that_vanishes_before_it_answers_does_not_fail_an_idempotent_request(
    make_stage: "StageMaker", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(silence, "IDLE_SECONDS", 1)
    vanished: list[Link] = []

    async def script(link: "Link") -> None:
        await link.request()
        if not vanished:
            # The request has arrived and is acknowledged; nothing is, from here on.
            vanished.append(link)
            turn_away(link.writer.get_extra_info("socket"))
            await asyncio.Event().wait()
        link.writer.write(OK)
        await link.writer.drain()

    stage = await make_stage(script)
    assert (await stage.ask(GET)).status == 200
    assert [len(link.requests) for link in stage.upstream.links] == [1, 1]


async def test_a_backend_may_read_a_large_body_as_slowly_as_it_likes(
    make_stage: "StageMaker", impatience: None
) -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        # Reads nothing at all at first: the kernel's buffers fill up.
        link.writer.transport.pause_reading()  # type: ignore[attr-defined] # of every socket
        await go_on.wait()
        link.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await link.request()
        link.writer.write(OK)
        await link.writer.drain()

    body = bytes(16 << 20)
    stage = await make_stage(script, body_bytes=len(body))
    client = await stage.connect()
    client.send(b"PUT /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % len(body))
    client.send(body)
    await stage.upstream.link()
    # What is waited for is that nothing happens, for three times the limit.
    await asyncio.sleep(0.9)
    go_on.set()
    assert (await client.response()).status == 200
    assert len(stage.upstream.links) == 1


async def test_an_endpoint_that_comes_while_others_are_tried_is_tried_too(
    make_stage: "StageMaker", black_hole: int
) -> None:
    stage = await make_stage(connect_race_seconds=0.02, connect_seconds=30.0)
    serve(stage, ports=(black_hole,))
    client = await stage.connect()
    client.send(POST)
    await stage.settle(lambda: stage.tally.requests == 1)
    serve(stage, ports=(stage.upstream.port,))
    assert (await client.response()).status == 200


async def test_no_endpoint_is_an_answer(stage: "Stage") -> None:
    serve(stage, ports=())
    response = await stage.ask(GET)
    assert (response.status, response.reason) == (503, "no-endpoints")


async def test_an_endpoint_that_leaves_finishes_what_it_has(make_stage: "StageMaker") -> None:
    go_on = asyncio.Event()

    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
        await go_on.wait()
        link.writer.write(b"lf")
        await link.wait_closed()

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    await client.head()
    serve(stage, ports=())
    go_on.set()
    assert await client.reader.readexactly(4) == b"half"
    # Nothing is kept to an endpoint that is gone.
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await stage.upstream.link()).closed.wait()


async def test_idle_connections_to_an_endpoint_that_leaves_close(stage: "Stage") -> None:
    await stage.ask(GET)
    serve(stage, ports=())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await (await stage.upstream.link()).closed.wait()


async def test_a_client_that_leaves_ends_the_request_to_the_backend(
    make_stage: "StageMaker",
) -> None:
    async def script(link: "Link") -> None:
        await link.request()
        await link.wait_closed()

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    link = await stage.upstream.link()
    client.abort()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await link.closed.wait()
    await stage.settle(lambda: stage.tally.terminations == {"client-closed": 1})


async def test_a_backend_that_does_not_answer_is_given_up_in_time(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        await link.wait_closed()

    stage = await make_stage(script)
    serve(stage, timeouts=Timeouts(backend_request=0.5))
    client = await stage.connect()
    client.send(GET)
    await stage.settle(lambda: bool(stage.upstream.requests))
    stage.advance(0.4)
    stage.advance(0.2)
    response = await client.response()
    assert (response.status, response.reason) == (504, "upstream-timeout")


async def test_a_body_that_stalls_is_cut(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        await link.wait_closed()

    stage = await make_stage(script)
    client = await stage.connect()
    client.send(GET)
    await client.head()
    stage.advance(stage.limits.backend_idle_seconds + 1.1)
    await client.rest()
    assert stage.tally.terminations == {"upstream-timeout": 1}


def serve(
    stage: "Stage",
    *,
    ports: tuple[int, ...] | None = None,
    backend: dict[str, Any] | None = None,
    **more: Any,
) -> None:
    """Serve a route; ``more`` is of the route, ``backend`` of its backend."""
    from tests.fairway_dataplane.request_path.conftest import BACKEND, route, to  # noqa: PLC0415

    at = (stage.upstream.port,) if ports is None else ports
    stage.serve(route(**more), **{BACKEND: to(*at, **(backend or {}))})


# Decisions without sockets.


def exchange() -> Exchange:
    made = Exchange(None)  # type: ignore[arg-type]
    made.client_address = "192.0.2.1"
    return made


def endpoints(*hosts: str) -> list[Endpoint]:
    return [Endpoint(host, 80, None, 10) for host in hosts]  # type: ignore[arg-type]


def test_a_split_is_exact_over_its_sum_of_weights() -> None:
    split = Split([("a", 90), ("b", 10), ("never", 0)])
    chosen = [split.choose() for _ in range(100)]
    assert (chosen.count("a"), chosen.count("b"), chosen.count("never")) == (90, 10, 0)
    assert "b" in chosen[:10]


WAYS = [
    *(Backend(endpoints=(), balance=balance) for balance in Balance),
    Backend(endpoints=(), sticky_cookie="at"),
]


@pytest.mark.parametrize("leaf", WAYS, ids=lambda leaf: leaf.sticky_cookie or str(leaf.balance))
def test_every_balancer_avoids_what_failed_and_despairs_last(leaf: Backend) -> None:
    found = endpoints("192.0.2.1", "192.0.2.2", "192.0.2.3")
    balancer = build_balancer(leaf, found)
    found[0].note_failure(10.0)
    found[1].note_failure(10.0)
    assert {balancer.choose(exchange(), 10.1) for _ in range(20)} == {found[2]}

    tried = exchange()
    tried.tried = (found[2],)
    assert balancer.choose(tried, 10.1) in found[:2]
    tried.tried = tuple(found)
    assert balancer.choose(tried, 10.1) in found
    assert build_balancer(leaf, ()).choose(exchange(), 10.0) is None


def test_a_failure_is_remembered_for_longer_each_time() -> None:
    (endpoint,) = endpoints("192.0.2.1")
    waits = []
    for _ in range(10):
        endpoint.note_failure(100.0)
        waits.append(endpoint.retry_at - 100.0)
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits[-1] == 30.0
    endpoint.note_success(100.0)
    assert endpoint.retry_at == 0.0


def test_round_robin_takes_turns() -> None:
    found = endpoints("192.0.2.1", "192.0.2.2", "192.0.2.3")
    turns = build_balancer(Backend(endpoints=()), found)
    assert {turns.choose(exchange(), 0.0) for _ in range(3)} == set(found)


def test_least_requests_prefers_the_less_busy_of_two() -> None:
    busy, free = found = endpoints("192.0.2.1", "192.0.2.2")
    busy.active = 10
    balancer = build_balancer(Backend(endpoints=(), balance=Balance.LEAST_REQUESTS), found)
    assert {balancer.choose(exchange(), 0.0) for _ in range(100)} == {free}
    # What is being opened counts: otherwise all would go where nothing is connected yet.
    free.opening = 20
    assert {balancer.choose(exchange(), 0.0) for _ in range(100)} == {busy}


HASHED = Backend(endpoints=(), balance=Balance.CONSISTENT_HASH)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        pytest.param(HashKey(), b"", id="client address"),
        pytest.param(HashKey(header="x-user"), b"\r\nX-User: %d", id="header"),
        pytest.param(HashKey(cookie="s"), b"\r\ncookie: t=1; s=%d; u=2", id="cookie"),
    ],
)
def test_a_hash_moves_few_keys_when_an_endpoint_leaves(key: HashKey, fields: bytes) -> None:
    found = endpoints(*(f"192.0.2.{number}" for number in range(1, 11)))
    leaf = Backend(endpoints=(), balance=Balance.CONSISTENT_HASH, hash_key=key)

    def choices(chosen_of: list[Endpoint]) -> list[Endpoint | None]:
        balancer = build_balancer(leaf, chosen_of)
        asked = []
        for number in range(1000):
            one = exchange()
            one.client_address = "192.0.2.1" if fields else f"10.0.{number // 250}.{number % 250}"
            one.fields = fields % number if fields else b""
            asked.append(balancer.choose(one, 0.0))
        return asked

    before, after = choices(found), choices(found[1:])
    assert all(50 < before.count(endpoint) < 180 for endpoint in found)
    moved = [old for old, new in zip(before, after, strict=True) if old is not new]
    assert set(moved) == {found[0]}


def test_no_key_can_drown_an_endpoint() -> None:
    found = endpoints("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
    balancer = build_balancer(HASHED, found)
    for number in range(1, 101):
        chosen = balancer.choose(exchange(), 0.0)
        assert chosen is not None
        chosen.active += 1
        assert chosen.active <= 1 + 1.25 * number / 4


async def test_a_client_with_a_sticky_cookie_stays_at_its_endpoint(
    make_stage: "StageMaker",
) -> None:
    from tests.fairway_dataplane.request_path.conftest import Upstream  # noqa: PLC0415

    stage = await make_stage()
    other = Upstream()
    await other.start()
    ports = (stage.upstream.port, other.port)
    serve(stage, ports=ports, backend={"sticky_cookie": "at"})
    first = await stage.ask(GET)
    cookie = first.field(b"set-cookie")
    assert cookie is not None
    assert cookie.endswith(b"; Path=/; HttpOnly; SameSite=Lax")
    ours = GET.replace(b"\r\n\r\n", b"\r\nCookie: a=b; " + cookie.partition(b";")[0] + b"\r\n\r\n")
    served = other if other.requests else stage.upstream
    for number in range(2, 8):
        response = await stage.ask(ours)
        assert response.field(b"set-cookie") is None
        assert len(served.requests) == number

    # Its endpoint leaves: another serves, and says so.
    left = ports[0] if served is other else ports[1]
    serve(stage, ports=(left,), backend={"sticky_cookie": "at"})
    moved = await stage.ask(ours)
    assert moved.field(b"set-cookie") not in {None, cookie}
    await other.stop()


async def test_a_sticky_cookie_that_was_set_over_tls_is_for_tls_alone(
    make_stage: "StageMaker",
) -> None:
    ours = Forwarding(trusted=(ip_network("127.0.0.0/8"),))
    stage = await make_stage(forwarding=ours)
    serve(stage, backend={"sticky_cookie": "at"})
    for scheme, end in ((b"https", b"SameSite=Lax; Secure"), (b"http", b"SameSite=Lax")):
        claim = b"\r\nX-Forwarded-Proto: " + scheme + b"\r\n\r\n"
        answer = await stage.ask(GET.replace(b"\r\n\r\n", claim))
        assert (answer.field(b"set-cookie") or b"").endswith(b"; Path=/; HttpOnly; " + end)


class Thing:
    """Something with a deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.slot = 0
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.deadline = float("inf")


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.95, 1.0, 1.05, 7.77, 60.0])
async def test_a_deadline_is_met_within_a_tick_and_never_early(seconds: float) -> None:
    time = [50.0]
    clock = Clock(asyncio.get_running_loop(), read=lambda: time[0])
    thing = Thing(float("inf"))
    clock.watch(thing)
    for _ in range(3):
        time[0] += 0.1
        clock.advance()
    thing.deadline = due = clock.now + seconds
    if seconds < 1.0:
        clock.hasten(thing)
    for _ in range(int(seconds / 0.1) + 12):
        time[0] += 0.1
        clock.advance()
    (expired,) = thing.expired
    assert due <= expired <= due + 0.1001


async def test_what_is_forgotten_does_not_expire() -> None:
    time = [50.0]
    clock = Clock(asyncio.get_running_loop(), read=lambda: time[0])
    thing = Thing(50.5)
    clock.watch(thing)
    clock.forget(thing)
    for _ in range(30):
        time[0] += 0.1
        clock.advance()
    assert thing.expired == []


async def test_many_that_expire_at_once_let_others_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = [50.0]
    loop = asyncio.get_running_loop()
    clock = Clock(loop, read=lambda: time[0])
    things = [Thing(51.0) for _ in range(1000)]
    for thing in things:
        clock.watch(thing)
    time[0] = 60.0
    for _ in range(9):
        clock.advance()
    for thing in things:
        thing.expired.clear()
        thing.deadline = 61.0
        clock.hasten(thing)
    for _ in range(9):
        clock.advance()
    time[0] = 61.0
    clock.start()
    # One tick and no second: a slow machine would begin with it before it is through.
    monkeypatch.setattr(clocks, "TICK_SECONDS", 3600.0)
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (number := sum(bool(thing.expired) for thing in things)) < 1000:
            seen.append(number)
            await asyncio.sleep(0)
        clock.stop()
    steps = sorted(set(seen))
    assert max(after - before for before, after in pairwise(steps)) <= 64
    assert all(len(thing.expired) == 1 for thing in things)


async def test_what_is_forgotten_while_others_expire_stays_forgotten() -> None:
    time = [50.0]
    clock = Clock(asyncio.get_running_loop(), read=lambda: time[0])
    things = [Thing(50.5) for _ in range(20)]

    def forget_all(now: float) -> None:
        for thing in things:
            clock.forget(thing)
            thing.deadline = 50.5

    for thing in things:
        clock.watch(thing)
        clock.hasten(thing)
        thing.expire = forget_all  # type: ignore[method-assign] # whoever is first
    for _ in range(30):
        time[0] += 0.1
        clock.advance()
    assert not any(clock._slots)
