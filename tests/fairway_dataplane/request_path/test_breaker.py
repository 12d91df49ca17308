"""What a backend is spared: slow endpoints, too much of everything, and retries that add up."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane.upstream.review import Review
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Balance,
    Endpoint,
    PathKind,
    PathMatch,
    Retry,
    Route,
    RouteMatch,
    WeightedBackend,
)
from tests.fairway_dataplane.request_path.conftest import (
    BACKEND,
    OK,
    Client,
    Held,
    Link,
    Response,
    Stage,
    Upstream,
    answer_ok,
    route,
    to,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Script, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
BUSY = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"

StartUpstream = Callable[["Script"], Awaitable[Upstream]]


@pytest.fixture
async def start() -> AsyncIterator[StartUpstream]:
    """Start further backends."""
    started: list[Upstream] = []

    async def begin(script: "Script") -> Upstream:
        upstream = Upstream(script)
        await upstream.start()
        started.append(upstream)
        return upstream

    yield begin
    for upstream in started:
        await upstream.stop()


class Slow:
    """A backend that takes its time, and far more than the others on any machine."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.served = 0
        self.held = 0
        """Requests of this round that are not answered."""
        self._go_on = asyncio.Event()

    async def __call__(self, link: Link) -> None:
        while True:
            await link.request()
            self.served += 1
            if self.seconds:
                self.held += 1
                await self._go_on.wait()
            link.writer.write(OK)

    async def round(self, stage: Stage, asking: "list[asyncio.Task[Response]]") -> None:
        """Answer once all others have answered, and the time since then is several times that."""
        begun = time.monotonic()
        await stage.settle(lambda: sum(task.done() for task in asking) + self.held == len(asking))
        if self.held:
            await asyncio.sleep(max(self.seconds, 3.0 * (time.monotonic() - begun)))
            go_on, self._go_on, self.held = self._go_on, asyncio.Event(), 0
            go_on.set()


def serve(stage: Stage, *others: Upstream, retry: Retry | None = None, **backend: Any) -> None:
    ports = [stage.upstream.port, *(other.port for other in others)]
    stage.serve(route(retry=retry), **{BACKEND: to(*ports, **backend)})


async def seconds_of_asking(stage: Stage, seconds: int, clients: int = 12) -> None:
    """Let seconds pass in which each of several clients asks once."""
    for _ in range(seconds):
        asking = [asyncio.create_task(stage.ask(GET)) for _ in range(clients)]
        if isinstance(stage.upstream.script, Slow):
            await stage.upstream.script.round(stage, asking)
        answers = await asyncio.gather(*asking)
        assert {answer.status for answer in answers} == {200}
        stage.advance(1.0)


async def until_ejected(stage: Stage, times: int) -> None:
    """Ask until an endpoint was ejected so often; the next review may be seconds off."""
    for _ in range(20):
        await seconds_of_asking(stage, 1)
        if stage.tally.backends[BACKEND].ejections == {"latency": times}:
            return
    raise AssertionError(stage.tally.backends[BACKEND].ejections)


async def test_an_endpoint_far_slower_than_the_others_is_left_out_for_longer_each_time(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    slow = Slow(0.2)
    stage = await make_stage(
        slow, eject_latency_factor=2.0, eject_latency_seconds=3.0, eject_seconds=8.0
    )
    serve(stage, await start(answer_ok), await start(answer_ok))
    tally = stage.tally.backends[BACKEND]

    await seconds_of_asking(stage, 3, clients=36)
    assert not tally.ejections, "it has not been slow for long enough"
    await until_ejected(stage, 1)
    seen = slow.served
    await seconds_of_asking(stage, 5)
    assert slow.served == seen

    stage.advance(8.0)
    await until_ejected(stage, 2)
    stage.advance(10.0)
    seen = slow.served
    await seconds_of_asking(stage, 1)
    assert slow.served == seen, "twice as long"
    stage.advance(8.0)
    slow.seconds = 0.0
    await seconds_of_asking(stage, 6)
    assert slow.served > seen
    assert tally.ejections == {"latency": 2}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param({"eject_latency_factor": 0.0}, id="turned off"),
        pytest.param({"eject_latency_factor": 1_000_000.0}, id="not that slow"),
        pytest.param({"sticky_cookie": "at"}, id="clients that stay differ by design"),
    ],
)
async def test_a_slow_endpoint_may_stay(
    make_stage: "StageMaker", start: StartUpstream, backend: dict[str, Any]
) -> None:
    stage = await make_stage(Slow(0.06), eject_latency_seconds=1.0)
    serve(stage, await start(answer_ok), **backend)
    await seconds_of_asking(stage, 5)
    assert not stage.tally.backends[BACKEND].ejections


async def test_an_endpoint_that_warms_up_may_be_slow(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    stage = await make_stage(Slow(0.2), eject_latency_factor=2.0, eject_latency_seconds=1.0)
    old = [(await start(answer_ok)).port for _ in range(2)]
    stage.serve(route(), **{BACKEND: to(*old)})
    stage.serve(route(), **{BACKEND: to(*old, stage.upstream.port)})
    await seconds_of_asking(stage, 5)
    assert not stage.tally.backends[BACKEND].ejections
    stage.advance(30.0)
    await until_ejected(stage, 1)


class Bottleneck:
    """A backend that works on four requests at once; all others wait in its own line."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(4)

    async def __call__(self, link: Link) -> None:
        while True:
            await link.request()
            async with self._free:
                await asyncio.sleep(0.04)  # so long that what the machine adds is little
            link.writer.write(OK)


async def latencies(stage: Stage, *, clients: int, seconds: float) -> list[float]:
    """Return what answers took in the second half of a time in which many clients always ask."""
    took: list[float] = []
    begin = time.monotonic()

    async def tick() -> None:
        while True:
            await asyncio.sleep(0.1)
            stage.advance(0.1)

    async def ask(client: Client) -> None:
        while (sent := time.monotonic()) < begin + seconds:
            client.send(GET)
            answer = await client.response()
            if answer.status == 503:
                assert answer.reason == "overloaded"
                assert answer.field(b"retry-after") == b"1"
                await asyncio.sleep(0.2)
            elif sent > begin + seconds / 2:
                took.append(time.monotonic() - sent)

    ticking = asyncio.create_task(tick())
    try:
        await asyncio.gather(*[ask(await stage.connect()) for _ in range(clients)])
    finally:
        ticking.cancel()
    return took


async def test_adaptive_concurrency_keeps_the_latency_of_a_busy_backend(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(Bottleneck(), requests_per_connection=1_000_000)
    serve(stage)
    without = await latencies(stage, clients=80, seconds=3.0)
    serve(stage, adaptive_concurrency=True)
    bounded = await latencies(stage, clients=80, seconds=6.0)
    assert len(bounded) > 100, "what it can bear is still served"
    assert median(bounded) < median(without) / 2
    stage.upstreams.measure()
    assert 3 <= stage.tally.backends[BACKEND].limit <= 30


async def test_no_more_connections_than_allowed_are_opened(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    held = Held()
    stage = await make_stage(held)
    other = await start(held)
    serve(stage, other, max_connections=3)
    clients = [await stage.connect() for _ in range(3)]
    for client in clients:
        client.send(GET)
    await stage.settle(lambda: len(stage.upstream.requests + other.requests) == 3)
    refused = await stage.ask(GET)
    assert (refused.status, refused.reason) == (503, "overloaded")
    assert refused.field(b"retry-after") == b"1"

    held.go_on.set()
    assert [(await client.response()).status for client in clients] == [200] * 3
    # All three are kept now: one makes room where another endpoint needs a connection.
    for _ in range(6):
        assert (await stage.ask(GET)).status == 200
    stage.upstreams.measure()
    tally = stage.tally.backends[BACKEND]
    assert tally.active + tally.idle <= 3


async def test_a_kept_connection_is_closed_for_one_that_is_needed(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    stage = await make_stage()
    other = await start(answer_ok)
    serve(stage, other, max_connections=1)
    for _ in range(6):
        assert (await stage.ask(GET)).status == 200
    assert len(stage.upstream.requests) == len(other.requests) == 3
    assert stage.tally.backends[BACKEND].connects == 6


async def reset(link: Link) -> None:
    await link.request()
    link.writer.transport.abort()


async def test_no_more_retries_than_allowed_are_under_way(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    stage = await make_stage(reset, eject_failures=0)
    held = Held()
    serve(stage, await start(held), max_retries=1, balance=Balance.ROUND_ROBIN)
    backend = stage.upstreams.backend(BACKEND)
    clients = [await stage.connect() for _ in range(6)]
    for client in clients:
        client.send(GET)
    # Three are reset; one of them may go to the other endpoint, and waits there.
    failed = [asyncio.create_task(client.response()) for client in clients]
    await stage.settle(lambda: sum(task.done() for task in failed) == 2)
    assert len(backend._breaker.retrying) == 1
    assert stage.tally.backends[BACKEND].retries == 1
    held.go_on.set()
    statuses = sorted([(await task).status for task in failed])
    assert statuses == [200, 200, 200, 200, 502, 502]
    assert not backend._breaker.retrying
    assert not backend.attentive

    # There is room for the next.
    assert [(await stage.ask(GET)).status for _ in range(4)] == [200] * 4
    assert stage.tally.backends[BACKEND].retries > 1


async def test_a_retry_that_a_client_gives_up_makes_room(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    stage = await make_stage(reset, eject_failures=0)
    held = Held()
    serve(stage, await start(held), max_retries=1)
    backend = stage.upstreams.backend(BACKEND)
    clients = [await stage.connect() for _ in range(2)]
    for client in clients:
        client.send(GET)
    await stage.settle(lambda: len(backend._breaker.retrying) == 1)
    for client in clients:
        client.abort()
    await stage.settle(lambda: not backend._breaker.retrying)


@pytest.mark.parametrize(
    ("of_backend", "of_route", "retries"),
    [
        pytest.param(None, None, 10, id="a quiet backend has a few for free"),
        pytest.param(0, None, 0, id="the Service allows none"),
        pytest.param(0, 50, 15, id="the route says otherwise"),
        pytest.param(100, 0, 0, id="the route allows none"),
        pytest.param(100, None, 30, id="the Service allows all"),
    ],
)
async def test_a_budget_is_of_the_route_then_of_the_backend(
    make_stage: "StageMaker", of_backend: int | None, of_route: int | None, retries: int
) -> None:
    stage = await make_stage(reset)
    serve(stage, retry=Retry(attempts=1, budget=of_route), retry_budget=of_backend)
    for _ in range(30):
        assert (await stage.ask(GET)).status == 502
    assert stage.tally.backends[BACKEND].retries == retries


class Tired:
    """Two backends: the one that is asked first serves once, and is busy ever after."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.busy = 0

    async def __call__(self, link: Link) -> None:
        port = link.writer.get_extra_info("sockname")[1]
        while True:
            await link.request()
            if self.first == port:
                self.busy += 1
                link.writer.write(BUSY)
            else:
                self.first = self.first or port
                link.writer.write(OK)


async def test_a_status_is_tried_at_another_endpoint_also_where_clients_stay(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    tired = Tired()
    stage = await make_stage(tired, eject_failures=0)
    retry = Retry(attempts=1, codes=(503,), budget=100)
    serve(stage, await start(tired), retry=retry, balance=Balance.CONSISTENT_HASH)
    # The first answer leaves a connection, so the second request meets no attempt to connect.
    for _ in range(6):
        assert (await stage.ask(GET)).status == 200
    assert tired.busy == 5


class Going:
    """Upstreams of which whichever answers first resets whatever it is asked after that."""

    def __init__(self) -> None:
        self.first: int | None = None

    async def __call__(self, link: Link) -> None:
        port = link.writer.get_extra_info("sockname")[1]
        while True:
            await link.request()
            if self.first == port:
                link.writer.transport.abort()
                return
            self.first = self.first or port
            link.writer.write(OK)


async def test_what_an_endpoint_reset_is_asked_of_another_one(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    going = Going()
    stage = await make_stage(going, eject_failures=0)
    # The hash would lead to the same one from the connection that the first answer leaves.
    serve(stage, await start(going), balance=Balance.CONSISTENT_HASH)
    for _ in range(4):
        assert (await stage.ask(GET)).status == 200


async def test_an_answer_that_began_with_early_hints_is_not_asked_for_again(
    make_stage: "StageMaker",
) -> None:
    async def hints(link: Link) -> None:
        await link.request()
        link.writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n")
        await link.writer.drain()

    stage = await make_stage(hints)
    client = await stage.connect()
    client.send(GET)
    answers = [await client.response() for _ in range(2)]
    assert [answer.status for answer in answers] == [103, 502]
    assert answers[1].reason == "upstream-reset"
    assert len(stage.upstream.requests) == 1


async def test_a_share_without_endpoints_is_refused_and_no_other_share_grows(
    stage: Stage,
) -> None:
    gone = BackendId("shop/next:80")
    split = Route(
        name="shop/web/0",
        match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
        backends=(
            WeightedBackend(backend=BACKEND, weight=3),
            WeightedBackend(backend=gone, weight=1),
            WeightedBackend(backend=BackendId("shop/never:80"), weight=0),
        ),
    )
    stage.serve(split, **{BACKEND: to(stage.upstream.port), gone: Backend(endpoints=())})
    answers = [await stage.ask(GET) for _ in range(40)]
    assert [answer.status for answer in answers].count(200) == 30
    assert {answer.reason for answer in answers} == {"", "no-endpoints"}


def reviews(stage: Stage) -> int:
    """Return how many backends are looked at."""
    return sum(isinstance(each, Review) for slot in stage.clock._slots for each in slot)


async def test_a_backend_is_looked_at_while_somebody_is_connected_to_it(
    make_stage: "StageMaker", start: StartUpstream
) -> None:
    stage = await make_stage(idle_endpoint_seconds=10.0)
    serve(stage, await start(answer_ok))
    for _ in range(2):
        assert reviews(stage) == 0
        assert (await stage.ask(GET)).status == 200
        assert reviews(stage) == 1
        stage.advance(5.0)
        assert reviews(stage) == 1
        stage.advance(10.0)


@pytest.mark.parametrize("adaptive", [False, True])
async def test_nothing_is_left_of_a_backend_that_is_gone(
    make_stage: "StageMaker",
    start: StartUpstream,
    adaptive: bool,  # noqa: FBT001 - a column of the table
) -> None:
    stage = await make_stage()
    serve(stage, await start(answer_ok), adaptive_concurrency=adaptive)
    assert (await stage.ask(GET)).status == 200
    assert reviews(stage) == 1
    stage.upstreams.update(BACKEND, None)
    assert reviews(stage) == 0


async def test_a_retry_that_finds_nobody_makes_room(make_stage: "StageMaker") -> None:
    stage = await make_stage()

    async def leave(link: Link) -> None:
        await link.request()
        assert stage.upstream._server is not None
        stage.upstream._server.close()
        link.writer.transport.abort()

    stage.upstream.script = leave
    serve(stage, max_retries=1)
    answer = await stage.ask(GET)
    assert (answer.status, answer.reason) == (503, "upstream-connect")
    assert stage.tally.backends[BACKEND].retries == 1
    assert not stage.upstreams.backend(BACKEND)._breaker.retrying


async def test_many_that_refuse_cost_no_request(make_stage: "StageMaker") -> None:
    """As when a node leaves: one endpoint in seven is alive."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(6):
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", 0))  # nobody listens
            ports.append(taken.getsockname()[1])
        stage = await make_stage()
        stage.serve(route(), **{BACKEND: to(stage.upstream.port, *ports)})
        for _ in range(7):
            assert (await stage.ask(GET)).status == 200


async def test_no_more_than_three_are_raced(make_stage: "StageMaker", black_hole: int) -> None:
    holes = [Endpoint(host=f"127.0.0.{at}", port=black_hole) for at in range(1, 8)]
    stage = await make_stage(connect_race_seconds=0.01, connect_seconds=1.0)
    with contextlib.ExitStack() as stack:
        for hole in holes[1:]:
            full = stack.enter_context(socket.socket())
            full.bind((hole.host, hole.port))
            full.listen(0)
            for _ in range(4):
                stuffing = stack.enter_context(socket.socket())
                stuffing.settimeout(0.0)
                stuffing.connect_ex((hole.host, hole.port))
        stage.serve(route(), **{BACKEND: Backend(endpoints=tuple(holes))})
        backend = stage.upstreams.backend(BACKEND)
        asking = asyncio.create_task(stage.ask(GET))
        most = 0
        while not asking.done():
            most = max(most, sum(each.opening for each in backend._endpoints.values()))
            await asyncio.sleep(0.005)
        assert (await asking).reason == "upstream-connect"
        assert most == 3


async def test_the_kernel_ends_a_connection_whose_other_end_is_silent(stage: Stage) -> None:
    assert (await stage.ask(GET)).status == 200
    (endpoint,) = stage.upstreams.backend(BACKEND)._endpoints.values()
    transport = endpoint.idle[0]._transport
    assert transport is not None
    connection = transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 6_000
