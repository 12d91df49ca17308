"""Parts that fail: what goes on without them, and what they do when they are back."""

from e2e import objects
from e2e.kubectl import eventually
from e2e.load import Load
from e2e.privileged import Privileged
from e2e.world import World


async def test_traffic_goes_on_while_every_operator_is_killed(world: World) -> None:
    site = world.site("orphaned.test")
    await world.apps.apply(objects.ingress("orphaned", "orphaned.test", "red"))
    await world.everywhere(site, "red")
    async with Load(site) as load:
        pods = await world.system.pods("operator")
        await world.system.kubectl("delete", "pod", *pods, "--force", "--grace-period=0")
        await world.system.rolled_out("deployment/fairway-operator")
        await world.apps.apply(objects.ingress("orphaned", "orphaned.test", "blue"))
        await world.answers(site, "blue")
    assert not load.failures, load.story()


async def test_a_killed_data_plane_serves_its_last_snapshot_while_no_operator_answers(
    world: World, privileged: Privileged
) -> None:
    certificate = objects.certified("kept-tls", "kept.test")
    await world.apps.apply(
        certificate.secret,
        objects.ingress("kept", "kept.test", "red", secret="kept-tls"),
        objects.ingress("kept-plain", "kept-plain.test", "red"),
    )
    await world.answers(world.site("kept.test", secure=True), "red")
    await world.everywhere(world.site("kept-plain.test"), "red")
    await world.system.scale("deployment/fairway-operator", 0)
    await eventually("no operator is left", lambda: _no_operator(world))
    try:
        before = await _restarts(world)
        selector = "app.kubernetes.io/component=dataplane"
        await privileged.kill_containers(await world.system.items("pods", selector))

        async def restarted() -> bool:
            now = await _restarts(world)
            return now.keys() == before.keys() and all(now[pod] > before[pod] for pod in now)

        await eventually("every data plane has started again", restarted)
        await world.system.rolled_out("deployment/fairway-dataplane")
        await world.answers(world.site("kept.test", secure=True), "red")
        await world.answers(world.site("kept-plain.test"), "red")
        assert await world.system.pods("operator") == []
    finally:
        await world.system.scale("deployment/fairway-operator", 2)
    await world.apps.apply(objects.ingress("kept-plain", "kept-plain.test", "blue"))
    await world.answers(world.site("kept-plain.test"), "blue")


async def test_of_two_operators_one_writes_status(world: World) -> None:
    leader, follower = await world.leader_and_follower()
    written = 'fairway_outbox_attempts_total{outcome="written"}'
    before = await world.metric(leader, written), await world.metric(follower, written)
    for number in range(5):
        name = f"counted-{number}"
        await world.apps.apply(objects.route(name, f"{name}.test", {"red": 1}))

    async def told() -> bool:
        return await world.metric(leader, written) >= before[0] + 5

    await eventually("the leader has written the status of five Routes", told)
    assert await world.metric(follower, written) == before[1]
    assert await world.metric(leader, "fairway_leader") == 1
    assert await world.metric(follower, "fairway_leader") == 0


async def test_another_operator_writes_when_the_leader_is_killed(world: World) -> None:
    leader, _ = await world.leader_and_follower()
    await world.system.kubectl("delete", "pod", leader, "--force", "--grace-period=0")

    async def taken_over() -> bool:
        return await world.holder() not in ("", leader)

    await eventually("another replica holds the Lease", taken_over)
    await world.apps.apply(objects.route("taken-over", "taken-over.test", {"red": 1}))

    async def told() -> bool:
        body = await world.apps.get("routes.fairway.dev", "taken-over")
        return bool(body.get("status", {}).get("conditions"))

    await eventually("the status is written by another replica", told)


async def _no_operator(world: World) -> bool:
    return not await world.system.items("pods", "app.kubernetes.io/component=operator")


async def _restarts(world: World) -> dict[str, int]:
    items = await world.system.items("pods", "app.kubernetes.io/component=dataplane")
    return {
        item["metadata"]["name"]: item["status"]["containerStatuses"][0]["restartCount"]
        for item in items
    }
