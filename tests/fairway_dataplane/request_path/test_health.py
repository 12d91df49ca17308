"""Endpoints that answer badly, backends that have enough, endpoints that are new."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane.exchange import Exchange
from fairway_dataplane.tally import Tally
from fairway_dataplane.upstream.balancer import build_balancer
from fairway_dataplane.upstream.health import Endpoint, Judge
from fairway_snapshot.model import Backend, Retry
from tests.fairway_dataplane.request_path.conftest import (
    BACKEND,
    OK,
    PATIENCE_SECONDS,
    Held,
    Link,
    Stage,
    Upstream,
    answer_ok,
    route,
    to,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"


class Moody:
    """A backend whose answers can be changed; None closes the connection instead."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def __call__(self, link: Link) -> None:
        while True:
            await link.request()
            if self.answer is None:
                link.writer.transport.abort()
                return
            link.writer.write(self.answer)


@pytest.fixture
async def good() -> AsyncIterator[Upstream]:
    upstream = Upstream(answer_ok)
    await upstream.start()
    yield upstream
    await upstream.stop()


async def ask(stage: Stage, times: int) -> list[int]:
    return [(await stage.ask(GET)).status for _ in range(times)]


def serve(stage: Stage, *others: Upstream, retry: Retry | None = None, **backend: Any) -> None:
    ports = [stage.upstream.port, *(other.port for other in others)]
    stage.serve(route(retry=retry), **{BACKEND: to(*ports, **backend)})


@pytest.mark.parametrize(
    ("answer", "retry"),
    [
        pytest.param(BUSY, None, id="it says that it cannot serve"),
        pytest.param(BUSY, Retry(codes=(503,)), id="it says so, and another is asked"),
        pytest.param(None, Retry(attempts=0), id="it resets"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nx",
            None,
            id="it stalls",
        ),
    ],
)
async def test_an_endpoint_that_fails_in_a_row_is_left_out_for_a_growing_time(
    make_stage: "StageMaker", good: Upstream, *, answer: bytes | None, retry: Retry | None
) -> None:
    mood = Moody(answer)
    stage = await make_stage(mood, eject_failures=3, backend_idle_seconds=0.2)
    serve(stage, good, retry=retry)
    tally = stage.tally.backends[BACKEND]

    async def until_ejected(number: int) -> None:
        while tally.ejections.get("failures", 0) < number:
            client = await stage.connect()
            client.send(GET)
            answered = asyncio.create_task(
                client.rest() if mood.answer and b"10" in mood.answer else client.head()
            )
            while not answered.done():
                stage.advance(0.1)
                await asyncio.sleep(0.001)

    await until_ejected(1)
    seen = len(stage.upstream.requests)
    assert seen == 3
    assert await ask(stage, 6) == [200] * 6
    assert len(stage.upstream.requests) == seen

    # It is back after its time, fails on, and is out for twice as long.
    stage.advance(stage.limits.eject_seconds + 0.2)
    await until_ejected(2)
    seen = len(stage.upstream.requests)
    stage.advance(stage.limits.eject_seconds + 0.2)
    assert await ask(stage, 6) == [200] * 6
    assert len(stage.upstream.requests) == seen

    mood.answer = OK
    stage.advance(stage.limits.eject_seconds + 0.2)
    assert await ask(stage, 6) == [200] * 6
    assert len(stage.upstream.requests) == seen + 3


@pytest.mark.parametrize("heals", [False, True])
async def test_an_endpoint_comes_back_on_trial(
    make_stage: "StageMaker", good: Upstream, *, heals: bool
) -> None:
    mood = Moody(BUSY)
    stage = await make_stage(mood, eject_failures=3)
    serve(stage, good)
    ejections = stage.tally.backends[BACKEND].ejections
    await ask(stage, 6)
    assert ejections == {"failures": 1}
    stage.advance(stage.limits.eject_seconds + 0.2)
    mood.answer = OK if heals else BUSY
    await ask(stage, 2)
    assert ejections == {"failures": 1 if heals else 2}
    # Acquitted, it may fail as often as any other.
    mood.answer = BUSY
    await ask(stage, 4)
    assert ejections == {"failures": 1 if heals else 2}
    await ask(stage, 2)
    assert ejections == {"failures": 2}


@pytest.mark.parametrize(("percent", "ejected"), [(0, 0), (24, 0), (25, 1), (26, 1), (50, 2)])
async def test_the_share_that_may_be_left_out_is_a_setting(
    make_stage: "StageMaker", percent: int, ejected: int
) -> None:
    stage = await make_stage(Moody(BUSY), eject_failures=1, eject_percent=percent)
    others = [Upstream(Moody(BUSY)) for _ in range(3)]
    for other in others:
        await other.start()
    serve(stage, *others)
    await ask(stage, 12)
    for other in others:
        await other.stop()
    assert stage.tally.backends[BACKEND].ejections.get("failures", 0) == ejected


async def test_one_good_answer_makes_up_for_bad_ones(
    make_stage: "StageMaker", good: Upstream
) -> None:
    mood = Moody(BUSY)
    stage = await make_stage(mood, eject_failures=3)
    serve(stage, good)
    for _ in range(5):
        mood.answer = BUSY
        await ask(stage, 4)
        mood.answer = OK
        assert await ask(stage, 2) == [200, 200]
    assert not stage.tally.backends[BACKEND].ejections
    assert not stage.upstreams.backend(BACKEND).attentive


async def test_what_fails_everywhere_ejects_no_more_than_its_share(
    make_stage: "StageMaker", good: Upstream
) -> None:
    stage = await make_stage(Moody(BUSY), eject_failures=2)
    good.script = Moody(BUSY)
    serve(stage, good)
    assert set(await ask(stage, 12)) == {503}
    assert stage.tally.backends[BACKEND].ejections == {"failures": 1}

    # Alone, an endpoint is never left out.
    serve(stage)
    assert set(await ask(stage, 6)) == {503}


async def test_the_answers_of_an_application_eject_nothing(make_stage: "StageMaker") -> None:
    stage = await make_stage(
        Moody(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"), eject_failures=1
    )
    assert set(await ask(stage, 5)) == {500}
    assert not stage.upstreams.backend(BACKEND).attentive


async def test_requests_above_the_limit_of_a_backend_are_refused_and_it_recovers(
    make_stage: "StageMaker",
) -> None:
    held = Held()
    stage = await make_stage(held)
    serve(stage, max_requests=2)
    clients = [await stage.connect() for _ in range(2)]
    for client in clients:
        client.send(GET)
    await stage.settle(lambda: len(stage.upstream.requests) == 2)

    refused = await stage.ask(GET)
    assert (refused.status, refused.reason) == (503, "overloaded")
    assert refused.field(b"retry-after") == b"1"

    held.go_on.set()
    assert [(await client.response()).status for client in clients] == [200, 200]
    assert (await stage.ask(GET)).status == 200


async def test_no_more_than_so_many_wait_for_a_connection(
    make_stage: "StageMaker", black_hole: int
) -> None:
    stage = await make_stage(connect_seconds=10 * PATIENCE_SECONDS)
    stage.serve(route(), **{BACKEND: to(black_hole, max_pending=2)})
    clients = [await stage.connect() for _ in range(2)]
    for client in clients:
        client.send(GET)
    backend = stage.upstreams.backend(BACKEND)
    await stage.settle(lambda: backend.waiting == 2)
    refused = await stage.ask(GET)
    assert (refused.status, refused.reason) == (503, "overloaded")

    # A client that leaves makes room.
    clients[0].abort()
    await stage.settle(lambda: backend.waiting == 1)
    serve(stage, max_pending=2)
    assert (await clients[1].response()).status == 200
    assert backend.waiting == 0


# Decisions without sockets.


def test_the_share_of_a_new_endpoint_grows() -> None:
    old, new = found = [
        Endpoint(host, 80, None, 10)  # type: ignore[arg-type] # nothing is counted
        for host in ("192.0.2.1", "192.0.2.2")
    ]
    new.warm_since = 100.0
    balancer = build_balancer(Backend(endpoints=(), slow_start_seconds=10.0), found)
    one = Exchange(None)  # type: ignore[arg-type] # nobody answers

    def share(now: float) -> float:
        chosen = [balancer.choose(one, now) for _ in range(2000)]
        assert set(chosen) <= {old, new}
        return chosen.count(new) / len(chosen)

    assert share(100.0) < share(105.0) < share(110.0)
    assert share(100.0) > 0.01
    assert share(110.0) == 0.5


def test_an_ejection_outlasts_a_connection_and_is_forgiven_in_the_end() -> None:
    ill, well = found = [
        Endpoint(host, 80, None, 10)  # type: ignore[arg-type] # nothing is counted
        for host in ("192.0.2.1", "192.0.2.2")
    ]
    judge = Judge(Tally().backend("b"), strikes=1, seconds=10.0, percent=50)
    judge.keep(found, 1000.0)
    judge.note_failure(ill, 1000.0)
    judge.note_failure(well, 1000.0)
    assert [each.is_out(1000.0) for each in found] == [True, False]
    ill.note_success(1001.0)
    assert ill.retry_at == 1010.0
    judge.note_success(ill, 1011.0)
    judge.note_success(well, 1011.0)
    assert not judge.suspects
    assert ill.retry_at == 0.0

    judge.note_failure(ill, 1012.0)
    assert ill.retry_at == 1032.0
    judge.note_failure(ill, 2000.0)
    assert ill.retry_at == 2010.0
