"""Changes under load: whatever moves behind the proxy, no request fails."""

import asyncio
from collections.abc import Awaitable, Callable

from e2e import objects
from e2e.kubectl import eventually
from e2e.load import Load
from e2e.world import World

STEADY_SECONDS = 1.0
"""Of load before and after a change, to see what is not part of it."""


async def test_an_edit_moves_the_traffic_and_fails_no_request(world: World) -> None:
    site = world.site("edited.test")
    await world.apps.apply(objects.ingress("edited", "edited.test", "red"))
    await world.everywhere(site, "red")
    async with Load(site) as load:
        for app in ("blue", "red", "blue"):
            await asyncio.sleep(STEADY_SECONDS)
            await world.apps.apply(objects.ingress("edited", "edited.test", app))
            await eventually(f"{app} alone answers", _alone(load, app))
    assert not load.failures, load.story()


async def test_new_pods_take_part_and_leaving_pods_fail_no_request(world: World) -> None:
    site = world.site("scaled.test")
    await world.apps.apply(
        *objects.backend("scaled"), objects.ingress("scaled", "scaled.test", "scaled")
    )
    await world.everywhere(site, "scaled")
    async with Load(site) as load:
        await asyncio.sleep(STEADY_SECONDS)
        await world.apps.scale("deployment/scaled", 4)
        load.forget()
        await eventually("four pods answer", _pods(load, 4))
        await world.apps.scale("deployment/scaled", 1)
        await eventually("one pod is left", _left(world, "scaled", 1))
        load.forget()
        await asyncio.sleep(STEADY_SECONDS)
        assert len(load.pods) == 1
    assert not load.failures, load.story()


async def test_a_rollout_of_the_backend_fails_no_request(world: World) -> None:
    site = world.site("rolled.test")
    await world.apps.apply(
        *objects.backend("rolled", replicas=3), objects.ingress("rolled", "rolled.test", "rolled")
    )
    await world.apps.rolled_out("deployment/rolled")
    await world.everywhere(site, "rolled")
    async with Load(site) as load:
        await asyncio.sleep(STEADY_SECONDS)
        await world.apps.apply(*objects.backend("rolled", replicas=3, version="2"))
        await world.apps.rolled_out("deployment/rolled")
        await eventually("the old pods are gone", _left(world, "rolled", 3))
        load.forget()
        await asyncio.sleep(STEADY_SECONDS)
        assert set(load.versions) == {"2"}
    assert not load.failures, load.story()


def _alone(load: Load, app: str) -> Callable[[], Awaitable[bool]]:
    async def alone() -> bool:
        load.forget()
        await asyncio.sleep(STEADY_SECONDS)
        return {_app(pod) for pod in load.pods} == {app}

    return alone


def _app(pod: str) -> str:
    """Return the Deployment of a pod."""
    return pod.rsplit("-", 2)[0]


def _pods(load: Load, count: int) -> Callable[[], Awaitable[bool]]:
    async def answered() -> bool:
        return len(load.pods) == count

    return answered


def _left(world: World, app: str, count: int) -> Callable[[], Awaitable[bool]]:
    async def gone() -> bool:
        return len(await world.apps.items("pods", f"app={app}")) == count

    return gone
