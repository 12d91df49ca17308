"""The data plane says by itself when finding a route has become slow."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from fairway_dataplane import supervisor
from fairway_dataplane.supervisor import ROUTER_SAMPLES, SLOW_MATCH_SECONDS, Supervisor
from fairway_dataplane.tally import MATCH_SECONDS, Tally
from fairway_dataplane.totals import Report, Totals
from tests.fairway_dataplane.counted import report_of

PATIENCE_SECONDS = 30.0


class Watched:
    """A supervisor of one worker, as far as it watches the router."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tally = Tally()
        self.looked = asyncio.Event()
        monkeypatch.setattr(supervisor, "ROUTER_SECONDS", 0.001)
        crew: Any = SimpleNamespace(known_reports=self._look)
        self._supervisor = object.__new__(Supervisor)
        self._supervisor._gone = Totals()
        self._supervisor._crew = crew

    def _look(self) -> list[Report]:
        self.looked.set()
        return [report_of(self.tally)]

    def observe(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.tally.match.observe(MATCH_SECONDS, seconds)

    async def look_twice(self) -> None:
        """Wait until what was observed has been looked at."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(2):
                self.looked.clear()
                await self.looked.wait()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._supervisor._watch_router())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("fast", "slow", "warned"),
    [
        pytest.param(ROUTER_SAMPLES, 0, False, id="all fast"),
        pytest.param(10 * ROUTER_SAMPLES, 5, False, id="one in two hundred"),
        pytest.param(ROUTER_SAMPLES, 5, True, id="one in twenty"),
        pytest.param(0, 5, False, id="too few to say"),
    ],
)
async def test_it_warns_when_the_slowest_hundredth_takes_more_than_fifty_microseconds(
    monkeypatch: pytest.MonkeyPatch,
    fast: int,
    slow: int,
    warned: bool,  # noqa: FBT001 - a column of the table
) -> None:
    watched = Watched(monkeypatch)
    with capture_logs() as logs:
        async with watched.watching():
            watched.observe(0.000004, fast)
            watched.observe(0.00009, slow)
            await watched.look_twice()
    told = [entry for entry in logs if entry["event"] == "router_slow"]
    assert bool(told) is warned
    assert all(entry["p99_below_seconds"] > SLOW_MATCH_SECONDS for entry in told)


async def test_it_warns_of_what_is_new_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    with capture_logs() as logs:
        async with watched.watching():
            watched.observe(0.00009, ROUTER_SAMPLES)
            await watched.look_twice()
            watched.observe(0.000004, ROUTER_SAMPLES)
            await watched.look_twice()
    assert [entry["event"] for entry in logs] == ["router_slow"]
