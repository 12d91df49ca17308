"""
A worker serves while it changes over to another table.

What the loop does at a stretch is counted in units of work and not timed: calls
of functions, and blocks of memory that are taken or given back. Either would be
in the hundreds of thousands for a whole table.
"""

import asyncio
import gc
import sys
from collections.abc import Generator, Iterator
from types import FrameType
from typing import Any

import pytest

from fairway_dataplane import slices
from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.slices import Slices, in_slices, let_go
from fairway_dataplane.table import EMPTY as NO_TABLE
from fairway_dataplane.table import RoutingTable, build_table, build_table_in_steps
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.upstream.pool import Upstreams
from fairway_snapshot.diff import changes, missing_blobs, release_in_steps
from fairway_snapshot.filters import StripPrefix
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.protocol import Commit, Nodes, SubscriberSession
from fairway_snapshot.tree import EMPTY, Snapshot, snapshot_of

HOSTS = 1_000

MOST_CALLS = 300
"""Of one step, which is what 0.1 ms is about; the longest takes the forms of 16 leaves."""

MOST_BLOCKS = 700
"""Of memory, in one step; so many has the mapping that is made anew when a shard grows."""


def host(number: int, path: str) -> VirtualHost:
    route = Route(
        name=f"shop/web-{number}/0",
        match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value=path)),
        filters=(StripPrefix(prefix="/a"),),
        backends=(WeightedBackend(backend=BackendId(f"shop/web-{number}:80")),),
    )
    return VirtualHost(routes=(route,))


def site(path: str) -> Snapshot:
    endpoints = (Endpoint(host="192.0.2.1", port=80),)
    return snapshot_of(
        hosts={HostPattern(f"h{at}.example"): host(at, path) for at in range(HOSTS)},
        backends={
            BackendId(f"shop/web-{at}:80"): Backend(endpoints=endpoints) for at in range(HOSTS)
        },
    )


class Meter:
    """Counts what one step does, and keeps the most of any."""

    def __init__(self) -> None:
        self.steps = self.calls = self.blocks = 0
        self._count = 0

    def measured(self, steps: "Generator[None, None, object]") -> object:
        """Run steps to their end; return what they made."""
        while True:
            self._count, before = 0, sys.getallocatedblocks()
            sys.setprofile(self._note)
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            finally:
                sys.setprofile(None)
                self.steps += 1
                self.calls = max(self.calls, self._count)
                self.blocks = max(self.blocks, abs(sys.getallocatedblocks() - before))

    def _note(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            self._count += 1


@pytest.fixture
def meter() -> Iterator[Meter]:
    gc.collect()
    gc.disable()
    yield Meter()
    gc.enable()


def expect_small_steps(meter: Meter) -> None:
    assert meter.steps > HOSTS
    assert (meter.calls <= MOST_CALLS, meter.blocks <= MOST_BLOCKS) == (True, True), (
        f"one step: {meter.calls} calls, {meter.blocks} blocks"
    )


def test_a_snapshot_is_verified_in_small_steps(meter: Meter) -> None:
    first, second = site("/"), site("/b")
    session = SubscriberSession(instance="test", version="", snapshot=first)
    session.receive(Nodes(blobs=tuple(missing_blobs(first, second))))

    offer = meter.measured(session.commit_in_steps(Commit(epoch=1, sequence=1, root=second.root)))

    assert offer is session._offer
    expect_small_steps(meter)


def test_a_table_is_built_and_the_one_before_let_go_of_in_small_steps(meter: Meter) -> None:
    loop = asyncio.new_event_loop()
    limits, tally = Limits(), Tally()
    upstreams = Upstreams(loop, Clock(loop), limits, tally, ClientContexts(None))
    first, second = site("/"), site("/b")
    found = list(changes(EMPTY, first))
    before: RoutingTable | None = build_table(
        NO_TABLE, found, upstreams=upstreams, limits=limits, tally=tally
    )
    found = list(changes(first, second))
    assert before is not None

    table = meter.measured(
        build_table_in_steps(before, found, upstreams=upstreams, limits=limits, tally=tally)
    )
    held: list[list[Any]] = [[*before.parts()], found]
    before = None
    found = []
    meter.measured(let_go(held))

    assert isinstance(table, RoutingTable)
    expect_small_steps(meter)
    assert meter.steps > 2 * HOSTS
    loop.close()


def test_what_a_snapshot_held_alone_is_let_go_of_in_small_steps(meter: Meter) -> None:
    held, kept = [site("/")], site("/b")
    steps = release_in_steps(held[0], kept)
    next(steps)
    held.clear()
    before = sys.getallocatedblocks()

    meter.measured(steps)

    assert before - sys.getallocatedblocks() > 5 * HOSTS
    expect_small_steps(meter)


async def test_other_work_has_its_turn_between_two_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    turns: list[str] = []

    def steps() -> Generator[None, None, str]:
        for _ in range(3):
            turns.append("step")
            yield
        return "made"

    async def other() -> None:
        for _ in range(3):
            turns.append("other")
            await asyncio.sleep(0)

    made, _ = await asyncio.gather(in_slices(steps()), other())

    assert made == "made"
    assert turns == ["step", "other"] * 3


async def test_what_follows_at_once_shares_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(slices, "monotonic", lambda: now)
    monkeypatch.setattr(slices, "SLICE_SECONDS", 4.0)
    turns: list[str] = []

    def steps(name: str) -> Generator[None, None, None]:
        nonlocal now
        for _ in range(3):
            now += 1.0
            turns.append(name)
            yield

    async def worker() -> None:
        work = Slices()
        await work.run(steps("one"))
        await work.run(steps("two"))
        turns.append("end")

    async def other() -> None:
        while turns[-1:] != ["end"]:
            turns.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(worker(), other())

    # The first step begins a moment; then four go into each, of whatever piece.
    assert turns == ["one", "other", "one", "one", "two", "two", "other", "two", "end"]
