"""A worker that is short of something: what it refuses, what it still serves, how it recovers."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from fairway_dataplane.downstream.overload import (
    LEAST_REQUESTS,
    UNSEEN_ACCEPTS,
    Descriptors,
    Memory,
    Overload,
)
from fairway_dataplane.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fairway_dataplane.request_path.conftest import Client, Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LIMIT = 1_000_000


def held(go_on: asyncio.Event) -> "Callable[[Link], asyncio.Future[None]]":
    async def script(link: "Link") -> None:
        while True:
            await link.request()
            await go_on.wait()
            link.writer.write(OK)

    return script  # type: ignore[return-value]


async def in_flight(stage: "Stage", number: int) -> "list[Client]":
    clients = [await stage.connect() for _ in range(number)]
    for client in clients:
        client.send(GET)
    await stage.settle(lambda: stage.tally.requests_active == number)
    return clients


async def test_so_many_requests_at_once_and_no_more(make_stage: "StageMaker") -> None:
    go_on = asyncio.Event()
    stage = await make_stage(held(go_on), active_requests=3)
    busy = await in_flight(stage, 3)
    for raw in (GET, POST + b"x" * 1000):
        refused = await stage.ask(raw)
        assert (refused.status, refused.reason) == (503, "overloaded")
        assert refused.field(b"retry-after") == b"1"
        assert refused.field(b"connection") == b"close"
    assert stage.tally.rejected == {"overloaded": 2}
    go_on.set()
    for client in busy:
        answer = await client.response()
        assert (answer.status, answer.field(b"connection")) == (200, None)
    await stage.settle(lambda: stage.tally.requests_active == 0)
    assert (await stage.ask(GET)).status == 200


class Group:
    """A control group in a folder, as the kernel shows it."""

    def __init__(self, folder: "Path") -> None:
        self.folder = folder
        (folder / "memory.max").write_text(f"{LIMIT}\n")
        self.use(0)

    def use(self, used: int, *, cached: int = 0) -> None:
        (self.folder / "memory.current").write_text(f"{used}\n")
        (self.folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\n")


@pytest.fixture
def group(tmp_path: "Path") -> Group:
    return Group(tmp_path)


@pytest.mark.parametrize(
    ("used", "cached", "percent"),
    [(0, 0, 0), (899_999, 0, 99), (900_000, 0, 100), (990_000, 0, 110), (990_000, 100_000, 98)],
)
def test_memory_is_a_share_of_what_the_container_may_have(
    group: Group, used: int, cached: int, percent: int
) -> None:
    group.use(used, cached=cached)
    memory = Memory(Limits(memory_percent=90), group.folder)
    assert memory.percent() == percent
    assert memory.resident_bytes > 1 << 20
    memory.close()


@pytest.mark.parametrize(("factor", "full"), [(0.5, True), (2.0, False)])
def test_memory_of_the_process_has_a_limit_of_its_own(
    tmp_path: "Path", *, factor: float, full: bool
) -> None:
    probe = Memory(Limits(), tmp_path)
    assert probe.percent() == 0, "nothing limits"
    limits = Limits(memory_bytes=int(probe.resident_bytes * factor))
    memory = Memory(limits, tmp_path)
    assert (memory.percent() >= 100) is full
    memory.close()
    probe.close()


async def test_short_of_memory_a_worker_sheds_and_recovers(
    make_stage: "StageMaker", group: Group
) -> None:
    go_on = asyncio.Event()
    told: list[tuple[str, bool]] = []
    stage = await make_stage(held(go_on))
    memory = Memory(stage.limits, group.folder)
    overload = Overload(stage.listener, memory, lambda what, short, _: told.append((what, short)))
    overload.start()
    idle = await stage.connect()
    await stage.settle(lambda: stage.tally.connections_open == 1)
    stage.advance(stage.limits.keep_alive_pressure_seconds + 0.2)
    busy = await in_flight(stage, LEAST_REQUESTS + 4)

    group.use(900_000)
    stage.advance(0.2)
    assert await idle.rest() == b"", "who asks for nothing goes first"
    refused = await stage.ask(GET)
    assert (refused.status, refused.reason) == (503, "overloaded")
    assert (stage.tally.shedding, stage.tally.overloads) == (1, {"memory": 1})
    assert told == [("memory", True)]

    # However long it lasts, those in flight end well, and a few are always served.
    stage.advance(3.0)
    assert stage.listener.admitted == LEAST_REQUESTS
    go_on.set()
    for client in busy:
        assert (await client.response()).status == 200
    await stage.settle(lambda: stage.tally.requests_active == 0)
    assert (await stage.ask(GET)).status == 200

    group.use(880_000)
    stage.advance(0.2)
    assert stage.tally.shedding == 1, "not before it is well below"
    group.use(800_000)
    stage.advance(0.2)
    assert stage.tally.shedding == 0
    assert told == [("memory", True), ("memory", False)]
    go_on.clear()
    await in_flight(stage, LEAST_REQUESTS + 8)
    go_on.set()
    overload.stop()


def test_descriptors_are_counted_by_their_numbers() -> None:
    found = Descriptors(Limits(descriptors_percent=90))
    used = found.used()
    assert 0 < used < found.recovered < found.limit
    found.close()
    assert Descriptors(Limits(descriptors_percent=0)).limit > found.limit


class Watched(Descriptors):
    """Descriptors of this process that know how often they were looked at."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.looks = 0

    def used(self) -> int:
        self.looks += 1
        return super().used()

    def leave(self, left: int) -> None:
        """Have a limit that is so many away."""
        self.limit = self.used() + left


async def test_descriptors_are_looked_at_before_each_connection_when_few_are_left(
    make_stage: "StageMaker", group: Group
) -> None:
    stage = await make_stage(OK)
    overload = Overload(stage.listener, Memory(stage.limits, group.folder), lambda *_: None)
    overload._descriptors.close()
    overload._descriptors = found = Watched(stage.limits)
    overload.start()

    def looks(accepts: int, *, left: int) -> int:
        found.leave(left)
        overload.look_at_descriptors()
        before = found.looks
        for _ in range(accepts):
            overload.note_accept()
        return found.looks - before

    assert looks(2 * (UNSEEN_ACCEPTS + 1), left=10 * UNSEEN_ACCEPTS) == 2
    assert looks(110, left=80) == 10
    assert looks(10, left=7) == 10
    paused = [stage.listener.is_paused]
    found.leave(0)
    overload.note_accept()
    paused.append(stage.listener.is_paused)
    assert paused == [False, True], "by the look before that connection"
    overload.stop()


async def test_a_paused_listener_lets_clients_wait_and_takes_them_later(stage: "Stage") -> None:
    stage.listener.pause_accepting()
    waiting = await stage.connect()
    waiting.send(GET)
    await asyncio.sleep(0.05)
    assert stage.tally.connections_accepted == 0
    stage.listener.resume_accepting()
    assert (await waiting.response()).status == 200


async def test_a_door_that_was_given_up_stays_shut_over_a_pause(stage: "Stage") -> None:
    stage.listener.pause_accepting()
    stage.listener.stop_accepting()
    stage.listener.resume_accepting()
    await asyncio.sleep(0.05)
    with pytest.raises(OSError, match="onnect"):
        await stage.connect()
