"""
The clock of one operator is an hour ahead, and it leads.

Nothing may depend on two clocks that agree: the Lease is measured by each
replica's own watching, certificates begin two hours before they are made, and
which object is older is for the API server to say.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest_asyncio

from e2e import faketime, objects
from e2e.kubectl import Body, eventually
from e2e.load import Load
from e2e.world import World

SHIFT = "+1h"
NEARLY_AN_HOUR_SECONDS = 3500
RENEWALS = 10
"""Of every 2 s: longer than the 15 s after which a Lease that is not renewed may be taken."""

NAME = "fairway-operator-ahead"
DEPLOYMENT = "deployment/fairway-operator"


@pytest_asyncio.fixture
async def ahead(world: World) -> AsyncIterator[str]:
    """Return a leader whose clock is wrong; the replica beside it has the right one."""
    (deployment,) = await world.system.items("deployments", "app.kubernetes.io/component=operator")
    await world.system.apply(faketime.config_map())
    await world.system.scale(DEPLOYMENT, 0)
    try:
        await world.system.apply(_pod(deployment))
        await world.system.kubectl("wait", f"pod/{NAME}", "--for=condition=Ready", "--timeout=60s")
        await eventually("the operator whose clock is wrong leads", _holds(world, NAME))
        await world.system.scale(DEPLOYMENT, 1)
        yield NAME
    finally:
        await world.system.kubectl("delete", "pod", NAME, "--ignore-not-found")
        await world.system.scale(DEPLOYMENT, 2)


async def test_an_operator_whose_clock_is_wrong_by_an_hour_does_no_harm(
    world: World, load: Load, ahead: str
) -> None:
    leader, follower = await world.leader_and_follower()
    assert leader == ahead
    site = world.site("ahead.test")
    await world.apps.apply(
        objects.ingress("ahead-older", "ahead.test", "red"),
        objects.route("ahead", "ahead-r.test", {"red": 1}),
    )
    await world.everywhere(site, "red")
    # Loses to the older one, whoever compares.
    await world.apps.apply(objects.ingress("ahead-younger", "ahead.test", "blue"))

    # New processes check every certificate anew, and each connects to either operator.
    await world.system.kubectl("rollout", "restart", "deployment/fairway-dataplane")
    await world.system.rolled_out("deployment/fairway-dataplane")
    await world.system.kubectl("delete", "pod", follower)
    await world.system.rolled_out(DEPLOYMENT)
    await eventually("every data plane is connected to an operator", _connected(world))
    await eventually("both operators publish the same", _agreed(world))
    await world.everywhere(site, "red")

    assert _ahead_by(await _transition(world, "ahead")) > NEARLY_AN_HOUR_SECONDS
    await _renewed(world, ahead, RENEWALS)

    await world.system.kubectl("delete", "pod", ahead)
    assert await world.leader() != ahead
    await world.apps.apply(
        objects.ingress("ahead-older", "ahead.test", "blue"),
        objects.route("ahead", "ahead-r.test", {"missing": 1}),
    )
    await world.everywhere(site, "blue")
    await eventually("the status is written by the clock that is right", _unresolved(world))
    assert load.answered


def _pod(deployment: Body) -> Body:
    """Return a pod as the Deployment's, but for its clock; no ReplicaSet adopts it."""
    template = deployment["spec"]["template"]
    volume, mount = faketime.mount()
    (container,) = template["spec"]["containers"]
    container = {
        **container,
        "env": [*container["env"], *faketime.environment(SHIFT)],
        "volumeMounts": [*container["volumeMounts"], mount],
    }
    spec = {
        **template["spec"],
        "containers": [container],
        "volumes": [*template["spec"]["volumes"], volume],
    }
    # Refused by the API server with the hash of a revision that it does not have.
    for constraint in spec.get("topologySpreadConstraints", []):
        constraint.pop("matchLabelKeys", None)
    metadata = {"name": NAME, "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _holds(world: World, pod: str) -> Callable[[], Awaitable[bool]]:
    async def held() -> bool:
        return await world.holder() == pod

    return held


async def _renewed(world: World, holder: str, times: int) -> None:
    """Wait until the Lease was renewed so often; nobody else may take it meanwhile."""
    seen: set[str] = set()

    async def often() -> bool:
        spec = (await world.system.get("lease", "fairway-operator"))["spec"]
        assert spec["holderIdentity"] == holder
        assert _ahead_by(spec["renewTime"]) > NEARLY_AN_HOUR_SECONDS
        seen.add(spec["renewTime"])
        return len(seen) > times

    await eventually(f"the Lease was renewed {times} times", often)


def _connected(world: World) -> Callable[[], Awaitable[bool]]:
    async def connected() -> bool:
        planes = await world.system.pods("dataplane")
        name = "fairway_stream_connected"
        found = await asyncio.gather(*(world.metric(plane, name) for plane in planes))
        return sum(found) == len(planes)

    return connected


def _agreed(world: World) -> Callable[[], Awaitable[bool]]:
    async def agreed() -> bool:
        operators = await world.system.pods("operator")
        roots = await asyncio.gather(*map(world.published, operators))
        return len(operators) == 2 and len(set(roots)) == 1 and "" not in roots

    return agreed


async def _transition(world: World, route: str) -> str:
    """Wait for a Route's first condition; return when its writer says that it began."""

    async def told() -> bool:
        return bool((await world.apps.get("route", route)).get("status", {}).get("conditions"))

    await eventually("the Route has a status", told)
    body = await world.apps.get("route", route)
    began: str = body["status"]["conditions"][0]["lastTransitionTime"]
    return began


def _unresolved(world: World) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        conditions = (await world.apps.get("route", "ahead"))["status"]["conditions"]
        (resolved,) = [each for each in conditions if each["type"] == "ResolvedRefs"]
        return resolved["status"] == "False" and abs(_ahead_by(resolved["lastTransitionTime"])) < 60

    return told


def _ahead_by(stamp: str) -> float:
    """Return by how many seconds a timestamp is ahead of the clock of this process."""
    return (datetime.fromisoformat(stamp) - datetime.now(UTC)).total_seconds()
