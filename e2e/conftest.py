"""
What every scenario starts from: the chart installed, and two backends behind it.

Scenarios share the release, since users do, and each makes hosts of its own. A
namespace that enforces Pod Security ``restricted`` holds the release, so that
installing it proves that its pods keep to it.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress

import pytest
import pytest_asyncio

from e2e import objects
from e2e.kubectl import CommandError, Namespace, Release, eventually, image, node, run
from e2e.load import Site, ask
from e2e.privileged import Privileged

HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443

_repository, _, _tag = os.environ.get("FAIRWAY_E2E_IMAGE", "").rpartition(":")
IMAGE_VALUES = (f"image.repository={_repository}", f"image.tag={_tag}")
VALUES = (
    *IMAGE_VALUES,
    f"dataplane.service.http.nodePort={HTTP_NODE_PORT}",
    f"dataplane.service.https.nodePort={HTTPS_NODE_PORT}",
)


class World:
    """The release and the namespace of its users."""

    def __init__(self) -> None:
        self.system = Namespace("fairway-system")
        self.apps = Namespace("fairway-e2e-apps")
        self.release = Release(self.system, "fairway", VALUES)

    async def begin(self) -> None:
        """Start from nothing, whatever an earlier run has left."""
        await self.end()
        await asyncio.gather(self.system.create("restricted"), self.apps.create("restricted"))
        await self.apps.apply(objects.program(), *objects.backend("red"), *objects.backend("blue"))
        await self.release.install()
        await self.apps.rolled_out("deployment/red")
        await self.apps.rolled_out("deployment/blue")

    async def end(self) -> None:
        """Remove it all."""
        with suppress(CommandError):
            await self.release.uninstall()
        await asyncio.gather(self.system.remove(), self.apps.remove())

    def site(self, host: str, path: str = "/", *, secure: bool = False) -> Site:
        """Return a host as a client outside the cluster reaches it."""
        if not secure:
            return Site(node(), HTTP_NODE_PORT, host, path)
        # The scenarios compare certificates byte by byte, which is stricter than a chain.
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return Site(node(), HTTPS_NODE_PORT, host, path, trusting)

    async def answers(self, site: Site, app: str) -> float:
        """Wait until a backend answers for a site once; return after how many seconds."""

        async def by_the_app() -> bool:
            with suppress(OSError, EOFError, ValueError, TimeoutError):
                answer = await ask(site)
                return answer.status == 200 and answer.told()["app"] == app
            return False

        return await eventually(f"{site.host}{site.path} is answered by {app}", by_the_app)

    async def everywhere(self, site: Site, app: str) -> None:
        """Wait until a backend answers for a site, whichever data plane is asked."""
        await self.answers(site, app)
        await self.one_snapshot()

    async def one_snapshot(self) -> None:
        """Wait until every data plane serves the same snapshot."""
        pods = await self.system.pods("dataplane")

        async def equal() -> bool:
            return len(set(await asyncio.gather(*map(self.snapshot, pods)))) == 1

        await eventually("all data planes serve one snapshot", equal)

    async def metric(self, pod: str, start: str) -> float:
        """Return the sum of a pod's samples that start like this."""
        pods = f"/api/v1/namespaces/{self.system.name}/pods"
        text = await run("kubectl", "get", "--raw", f"{pods}/{pod}:9000/proxy/metrics")
        lines = [line for line in text.splitlines() if line.startswith(start)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def snapshot(self, pod: str) -> str:
        """Return the digest of what a data plane serves."""
        pods = f"/api/v1/namespaces/{self.system.name}/pods"
        text = await run("kubectl", "get", "--raw", f"{pods}/{pod}:9000/proxy/debug/snapshot")
        digest: str = json.loads(text)["digest"]
        return digest


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
    return report


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
