"""
Rollouts of a backend under load, however its pods end.

A pod without a preStop hook ends while every data plane still sends to it, and
one whose address swallows packets does not even say so. Neither may cost a
request: what was not answered is asked of another pod.

    FAIRWAY_E2E_ROLLOUTS=50 python -m e2e.run test -k rollouts --capture=no
"""

import os

from e2e import objects
from e2e.kubectl import Body, Namespace, eventually
from e2e.load import Load
from e2e.objects import Ending
from e2e.world import World

ROLLOUTS = int(os.environ.get("FAIRWAY_E2E_ROLLOUTS", "4"))
REPLICAS = 3
ENDINGS = (Ending.AT_ONCE, Ending.AFTER_HOOK, Ending.SILENT, Ending.AFTER_HOOK)


async def test_rollouts_fail_no_request_however_the_pods_end(world: World) -> None:
    site = world.site("rollouts.test")
    place = Namespace("fairway-e2e-rollouts")
    await place.create("privileged")
    try:
        await place.apply(
            objects.program(),
            *_backend(0),
            objects.ingress("rollouts", "rollouts.test", "rollouts"),
        )
        await place.rolled_out("deployment/rollouts")
        await world.everywhere(site, "rollouts")
        async with Load(site, keeping=8, opening=4, pause_seconds=0.01) as load:
            for number in range(1, ROLLOUTS + 1):
                await _roll(place, load, number)
        print(load.story())
    finally:
        await place.remove()
    assert not load.failures, load.story()


async def _roll(place: Namespace, load: Load, number: int) -> None:
    """Replace every pod by one of the next version, and wait until no other is left."""
    await place.apply(*_backend(number))
    await place.rolled_out("deployment/rollouts")

    async def alone() -> bool:
        pods = await place.items("pods", "app=rollouts")
        return len(pods) == REPLICAS

    await eventually("the pods of the version before are gone", alone)
    load.forget()

    async def answered() -> bool:
        return sum(load.versions.values()) > 0

    await eventually("the new version answers", answered)
    assert set(load.versions) == {str(number)}


def _backend(number: int) -> tuple[Body, Body]:
    ending = ENDINGS[number % len(ENDINGS)]
    return objects.backend("rollouts", replicas=REPLICAS, version=str(number), ending=ending)
