"""kopf, embedded, against an API server over real sockets."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from fairway_operator.config import OperatorConfig
from fairway_operator.handlers import Watch, WatchHooks
from fairway_operator.inbox import Inbox
from fairway_operator.kube.client import KubeClient
from fairway_operator.refs import Kind

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Eventually = Callable[..., Awaitable[None]]


class Run:
    """A watch and what it told of."""

    def __init__(self, client: KubeClient, config: OperatorConfig, kind: Kind) -> None:
        self.inbox = Inbox()
        self.gaps: list[Kind] = []
        self.claims = 0
        hooks = WatchHooks(client.access, self.gaps.append, self.claim)
        self.watch = Watch(kind, self.inbox, config, hooks)

    def claim(self) -> None:
        self.claims += 1
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        self.watch.readable.set()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def run(client: KubeClient, config: OperatorConfig) -> Run:
    return Run(client, config, Kind.SERVICE)


async def test_objects_and_their_changes_and_deletion_are_told(
    api: "ApiServer", run: Run, eventually: Eventually
) -> None:
    api.put(Kind.SERVICE, "a")
    async with run.running():
        await eventually(lambda: len(run.inbox) == 1)
        assert [event.ref.name for event in run.inbox.drain().events] == ["a"]
        await eventually(lambda: len(api.watchers) > 0)

        api.put(Kind.SERVICE, "a", spec={"type": "ClusterIP"})
        await eventually(lambda: len(run.inbox) == 1)
        assert run.inbox.drain().events[0].body["spec"] == {"type": "ClusterIP"}

        api.delete(Kind.SERVICE, "a")
        await eventually(lambda: len(run.inbox) == 1)
        assert run.inbox.drain().events[0].deleted


async def test_nothing_is_written_to_watched_objects(
    api: "ApiServer", run: Run, eventually: Eventually
) -> None:
    async with run.running():
        api.put(Kind.SERVICE, "a")
        await eventually(lambda: len(run.inbox) == 1)
        api.delete(Kind.SERVICE, "a")
        await eventually(lambda: run.inbox.drain().events[-1:][0].deleted if run.inbox else False)

    assert {method for method, _, _ in api.requests} == {"GET"}


async def test_an_expired_watch_tells_of_a_gap(
    api: "ApiServer", run: Run, eventually: Eventually
) -> None:
    async with run.running():
        await eventually(lambda: len(api.watchers) > 0)
        gaps = len(run.gaps)

        api.gone = True
        api.end_watches()

        await eventually(lambda: len(run.gaps) > gaps)
        api.gone = False


async def test_a_watch_that_may_not_go_on_is_started_again(
    api: "ApiServer", run: Run, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway_operator.handlers.REQUEST_BACKOFFS", (0.01,))
    api.denied = {"services"}
    async with run.running():
        await eventually(lambda: run.watch.failures > 0)
        api.denied.clear()
        api.put(Kind.SERVICE, "a")

        await eventually(lambda: len(run.inbox) == 1)

    assert run.claims >= 2


async def test_a_watch_begins_anew_when_the_storage_of_its_kind_does(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    """A replaced CRD refuses the watch that goes on; one that is resumed may stay silent."""
    api.absent.clear()
    run = Run(client, config, Kind.ROUTE)
    async with run.running():
        await eventually(lambda: len(api.watchers) == 1)
        lists = len(run.gaps)
        api.busy = {"routes"}
        api.end_watches()
        await eventually(lambda: run.watch.failures > 0)
        api.busy.clear()
        api.put(Kind.ROUTE, "a")

        await eventually(lambda: len(run.inbox) == 1)

    assert len(run.gaps) > lists


async def test_other_tasks_outlive_a_watch_that_stopped(
    api: "ApiServer", run: Run, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway_operator.handlers.REQUEST_BACKOFFS", (0.01,))
    api.denied = {"services"}
    async with run.running():
        await eventually(lambda: run.claims > 0)
        bystander = asyncio.create_task(asyncio.Event().wait())
        await eventually(lambda: run.watch.failures > 0)

        assert not bystander.done()
        bystander.cancel()


async def test_only_tls_secrets_are_watched(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    run = Run(client, config, Kind.SECRET)
    async with run.running():
        await eventually(lambda: len(api.watchers) > 0)

    watches = [query for _, path, query in api.requests if path.endswith("/secrets")]
    assert {query["fieldSelector"] for query in watches} == {"type=kubernetes.io/tls"}


async def test_a_kind_that_discovery_shows_late_is_watched(
    api: "ApiServer", run: Run, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway_operator.handlers.BEGIN_SECONDS", 0.2)
    monkeypatch.setattr("fairway_operator.handlers.CHECK_SECONDS", 0.05)
    api.undiscovered = {"services"}
    api.put(Kind.SERVICE, "a")
    async with run.running():
        await eventually(lambda: run.watch.failures > 0)
        # The next attempt has all the time that a busy machine may take to begin.
        monkeypatch.undo()
        api.undiscovered.clear()

        await eventually(lambda: len(run.inbox) == 1)


async def test_a_watch_that_asks_for_nothing_any_more_is_started_again(
    api: "ApiServer", run: Run, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairway_operator.handlers.STALL_SECONDS", 0.2)
    monkeypatch.setattr("fairway_operator.handlers.CHECK_SECONDS", 0.05)
    async with run.running():
        await eventually(lambda: run.watch.failures > 0)
        assert len(run.gaps) > 0
