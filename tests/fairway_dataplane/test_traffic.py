"""What one worker keeps from snapshot to snapshot, and what it forgets."""

import asyncio
import re
import socket

import pytest
import structlog

from fairway_dataplane import slices
from fairway_dataplane import traffic as traffic_module
from fairway_dataplane.accesslog import AccessLogSettings
from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.link import Door
from fairway_dataplane.table import HostEntry, RoutingTable
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.traffic import Traffic
from fairway_snapshot import shards
from fairway_snapshot.matcher import HostIndex
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Endpoint,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.protocol import Offer, Position
from fairway_snapshot.tree import EMPTY, Edit, Snapshot

BACKEND = Backend(endpoints=(Endpoint(host="127.0.0.1", port=1),))


def host(name: str, *backends: str) -> Edit:
    route = Route(
        name=f"a/{name}/0",
        match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
        backends=tuple(WeightedBackend(backend=BackendId(each)) for each in backends),
    )
    return Edit(Section.HOSTS, f"{name}.example", VirtualHost(routes=(route,)))


def unbuildable() -> Edit:
    path = PathMatch(kind=PathKind.REGEX, value="/(unbalanced")
    route = Route(name="a/bad/0", match=RouteMatch(path=path))
    return Edit(Section.HOSTS, "bad.example", VirtualHost(routes=(route,)))


@pytest.fixture
async def serving() -> "Serving":
    return Serving()


class Serving:
    def __init__(self) -> None:
        config = DataplaneConfig(
            operators=("127.0.0.1:1",), access_log=AccessLogSettings(format="off")
        )
        self.traffic = Traffic(asyncio.get_running_loop(), config, (), new_ticket_keys())
        self.snapshot: Snapshot = EMPTY
        self.sequence = 0

    async def edit(self, *edits: Edit) -> None:
        self.sequence += 1
        changed = self.snapshot.evolve(edits)
        await self.traffic.apply(Offer(changed, Position(1, self.sequence), self.snapshot))
        self.snapshot = changed

    async def forgotten(self) -> None:
        task = self.traffic._forgetting
        assert task is not None
        await asyncio.wait_for(task, 30)


async def test_what_cannot_be_built_changes_nothing(serving: Serving) -> None:
    await serving.edit(host("one", "a/one:80"), Edit(Section.BACKENDS, "a/one:80", BACKEND))
    table = serving.traffic._tables.current

    with pytest.raises(Exception, match="unbalanced"):
        await serving.edit(unbuildable(), Edit(Section.BACKENDS, "a/one:80", None))

    assert serving.traffic._tables.current is table
    backend = serving.traffic._upstreams.backend(BackendId("a/one:80"))
    assert "127.0.0.1:1" in repr(backend)
    await serving.traffic.drain(0, closing=False)


async def test_counters_of_what_is_gone_are_forgotten_and_all_others_kept(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_module, "FORGET_SECONDS", 0.0)
    await serving.edit(
        host("gone", "a/gone:80"),
        host("kept", "a/kept:80", "a/missing:80"),
        Edit(Section.BACKENDS, "a/gone:80", BACKEND),
        Edit(Section.BACKENDS, "a/kept:80", BACKEND),
        Edit(Section.BACKENDS, "a/unused:80", BACKEND),
    )
    unused = serving.traffic._upstreams.backend(BackendId("a/unused:80"))

    await serving.edit(
        Edit(Section.HOSTS, "gone.example", None), Edit(Section.BACKENDS, "a/gone:80", None)
    )
    await serving.forgotten()

    assert set(serving.traffic.tally.routes) == {"a/kept/0"}
    assert set(serving.traffic.tally.backends) == {"a/kept:80", "a/missing:80", "a/unused:80"}
    assert serving.traffic._upstreams.backend(BackendId("a/unused:80")) is unused
    await serving.traffic.drain(0, closing=False)


async def test_what_comes_while_it_looks_is_not_forgotten(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_module, "FORGET_SECONDS", 0.0)
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    await serving.edit(*(host(f"h{at}", "a/one:80") for at in range(50)))
    await serving.edit(Edit(Section.HOSTS, "h0.example", None))

    for _ in range(20):  # it is among the first routes now
        await asyncio.sleep(0)
    await serving.edit(host("late", "a/late:80"), Edit(Section.BACKENDS, "a/late:80", BACKEND))
    late = serving.traffic._upstreams.backend(BackendId("a/late:80"))
    await serving.forgotten()

    assert serving.traffic._upstreams.backend(BackendId("a/late:80")) is late
    assert "a/late/0" in serving.traffic.tally.routes
    assert "a/h0/0" not in serving.traffic.tally.routes
    await serving.traffic.drain(0, closing=False)


async def test_until_a_table_is_whole_the_one_before_serves(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_SECONDS", 0.0)
    await serving.edit(*(host(f"h{at}", "a/one:80") for at in range(100)))
    tables = serving.traffic._tables
    before = tables.current
    seen = [before]
    changing = asyncio.create_task(serving.edit(*(host(f"h{at}", "a/two:80") for at in range(100))))

    while not changing.done():
        await asyncio.sleep(0)
        if tables.current is not seen[-1]:
            seen.append(tables.current)
        served = {found.backends[0].backend for _, found in seen[-1].routes()}
        assert len(served) == 1

    assert seen == [before, tables.current]
    assert seen[-1] is not before
    await serving.traffic.tidy()
    await serving.traffic.drain(0, closing=False)


async def test_a_bug_in_one_exchange_is_logged_once_with_its_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = socket.create_server(("127.0.0.1", 0))
    door.setblocking(False)  # noqa: FBT003 - the socket module's own
    port = door.getsockname()[1]
    other = socket.create_server(("127.0.0.1", 0))
    doors = (
        Door(slot=0, scheme="http", descriptor=door.detach()),
        Door(slot=0, scheme="https", descriptor=other.detach()),
    )
    config = DataplaneConfig(operators=("127.0.0.1:1",), access_log=AccessLogSettings(format="off"))
    traffic = Traffic(asyncio.get_running_loop(), config, doors, new_ticket_keys())
    await traffic.open(0)

    class Broken(HostIndex[HostEntry]):
        def find(self, _: bytes) -> None:
            raise ZeroDivisionError("of user text, nothing")

    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    get = b"GET /secret HTTP/1.1\r\nHost: a.example\r\n\r\n"
    with structlog.testing.capture_logs() as logs, monkeypatch.context() as broken:
        table = RoutingTable(shards.EMPTY, Broken({}), shards.Sharded())
        broken.setattr(traffic._tables, "current", table)
        writer.write(get)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (answered,) = re.findall(r"x-request-id: (\S+)", head)
        await reader.readexactly(int(re.findall(r"content-length: (\d+)", head)[0]))
    writer.write(get)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 404"), "the connection goes on"
    (line,) = logs
    assert (line["event"], line["request_id"]) == ("exchange_bug", answered)
    assert isinstance(line["exc_info"], ZeroDivisionError)
    assert "secret" not in str(line)
    assert traffic.tally.bugs == 1
    writer.transport.abort()
    await traffic.drain(1.0, closing=False)
