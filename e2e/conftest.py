"""
What every scenario starts from: the chart installed, and two backends behind it.

Scenarios share the release, since users do, and each makes hosts of its own. A
namespace that enforces Pod Security ``restricted`` holds the release, so that
installing it proves that its pods keep to it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Generator, Iterator

import pytest
import pytest_asyncio

from e2e import objects
from e2e.kubectl import CommandError, Namespace, image
from e2e.load import ENDED, Load
from e2e.privileged import Privileged
from e2e.world import World

_LOAD = "load"


@pytest.fixture(scope="session")
def installed() -> Iterator[World]:
    """Install once for all scenarios."""
    world = World()
    asyncio.run(world.begin())
    yield world
    if not os.environ.get("FAIRWAY_E2E_KEEP"):
        asyncio.run(world.end())


@pytest_asyncio.fixture
async def world(installed: World) -> World:
    """Return the release once all of it is ready, whatever the scenario before did."""
    await asyncio.gather(
        installed.system.rolled_out("deployment/fairway-operator"),
        installed.system.rolled_out("deployment/fairway-dataplane"),
    )
    return installed


@pytest_asyncio.fixture
async def load(world: World) -> AsyncIterator[Load]:
    """Ask a site that no scenario changes, from beginning to end; no request may fail."""
    site = world.site("steady.test")
    await world.apps.apply(objects.ingress("steady", "steady.test", "red"))
    await world.everywhere(site, "red")
    async with Load(site) as load:
        yield load
    assert load.answered > 100, load.story()
    assert not load.failures, load.story()


@pytest_asyncio.fixture
async def privileged() -> AsyncIterator[Privileged]:
    """Return the means to do harm that no client of the API can do."""
    namespace = Namespace("fairway-e2e-privileged")
    await namespace.create("privileged")
    yield Privileged(namespace, image())
    await namespace.remove()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what kills the control plane where that belongs to somebody else."""
    if os.environ.get("CLUSTER") != "existing":
        return
    deadly = [item for item in items if item.get_closest_marker("control_plane")]
    items[:] = [item for item in items if item not in deadly]
    config.hook.pytest_deselected(items=deadly)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the pods said when a scenario fails."""
    report = yield
    if report.failed:
        report.sections.append(("cluster", asyncio.run(_diagnosis())))
    while ENDED:
        load = ENDED.pop()
        report.user_properties.append((_LOAD, (load.answered, len(load.failures))))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what every scenario cost the clients."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    ]
    terminalreporter.section("requests under load: failed, answered")
    for report in sorted(reports, key=lambda report: report.nodeid):
        for name, value in report.user_properties:
            if name == _LOAD and isinstance(value, tuple):
                answered, failed = value
                terminalreporter.line(f"{failed:6} {answered:8}  {report.nodeid}")


async def _diagnosis() -> str:
    system = Namespace("fairway-system")
    parts = []
    for arguments in (
        ("get", "pods,services,endpointslices", "--output=wide"),
        ("describe", "pods"),
        ("logs", "--selector=app.kubernetes.io/component=operator", "--tail=60", "--prefix"),
        ("logs", "--selector=app.kubernetes.io/component=dataplane", "--tail=60", "--prefix"),
        ("get", "ingresses,routes", "--all-namespaces", "--output=yaml"),
        ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
    ):
        try:
            parts.append(f"$ kubectl {' '.join(arguments)}\n{await system.kubectl(*arguments)}")
        except CommandError as error:
            parts.append(str(error))
    return "\n".join(parts)
