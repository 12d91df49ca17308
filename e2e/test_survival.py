"""
The operator's cluster fails around it: under load, with no failed request, to the right end.

Each scenario breaks one thing for as long as it takes to be noticed, changes
something meanwhile, and waits for the state that the last version of every
object means.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest

from e2e import objects
from e2e.kubectl import Body, CommandError, Namespace, eventually, run
from e2e.load import Connection, Load, Site
from e2e.places import CHART
from e2e.privileged import Privileged
from e2e.world import World
from fairway_operator.kube.client import connect

API_SERVER_OUTAGE_SECONDS = 30.0
ETCD_OUTAGE_SECONDS = 10.0
OPERATOR_OUTAGE_SECONDS = 60.0
MANY = 200
EDITS = 1000
MOST_SNAPSHOTS = 100
"""Of 1,000 edits: two a second while they last, and room for a machine that pauses."""


@pytest.mark.control_plane
async def test_an_api_server_that_is_down_takes_nothing_with_it(
    world: World, load: Load, privileged: Privileged
) -> None:
    await world.apps.apply(
        objects.ingress("outlived", "outlived.test", "red"),
        objects.ingress("deleted", "deleted.test", "red"),
    )
    await world.answers(world.site("outlived.test"), "red")
    await world.everywhere(world.site("deleted.test"), "red")
    outage = asyncio.create_task(privileged.hold_down("kube-apiserver", API_SERVER_OUTAGE_SECONDS))
    await _down()
    assert load.answered
    await world.answers(world.site("outlived.test"), "red")

    # Whoever is first at the new API server deletes what no watch sees.
    await _insist(lambda: world.apps.delete("ingress", "deleted"))
    await _insist(lambda: world.apps.apply(objects.ingress("outlived", "outlived.test", "blue")))

    await world.answers(world.site("outlived.test"), "blue")
    await world.withdrawn("deleted.test")
    await outage


@pytest.mark.control_plane
async def test_an_etcd_that_is_down_takes_nothing_with_it(
    world: World, load: Load, privileged: Privileged
) -> None:
    site = world.site("stored.test")
    await world.apps.apply(objects.ingress("stored", "stored.test", "red"))
    await world.answers(site, "red")
    await privileged.hold_down("etcd", ETCD_OUTAGE_SECONDS)

    await _insist(lambda: world.apps.apply(objects.ingress("stored", "stored.test", "blue")))

    await world.answers(site, "blue")
    assert load.answered


@pytest.mark.control_plane
async def test_watches_whose_versions_are_forgotten_begin_again_with_a_list(
    world: World, load: Load, privileged: Privileged
) -> None:
    await world.apps.apply(
        objects.ingress("expired", "expired.test", "red"),
        objects.ingress("forgotten", "forgotten.test", "red"),
    )
    await world.answers(world.site("expired.test"), "red")
    await world.everywhere(world.site("forgotten.test"), "red")
    before = {pod: await _lists(world, pod) for pod in await world.system.pods("operator")}
    newest = max(
        int(item["metadata"]["resourceVersion"]) for item in await world.apps.items("ingresses")
    )
    # What the API server kept in memory goes with it, and the versions before this, with etcd's.
    await privileged.compact()
    await privileged.hold_down("kube-apiserver", 0.1)
    await _insist(lambda: world.apps.delete("ingress", "forgotten"))
    await _insist(lambda: world.apps.apply(objects.ingress("expired", "expired.test", "blue")))

    assert '"code":410' in await _watch(world, newest)
    await world.answers(world.site("expired.test"), "blue")
    await world.withdrawn("forgotten.test")
    for pod, lists in before.items():

        async def began_again(pod: str = pod, lists: Mapping[str, float] = lists) -> bool:
            now = await _lists(world, pod)
            return all(now[kind] > lists[kind] for kind in lists)

        await eventually(f"every watch of {pod} has begun with a list", began_again)
    assert load.answered


async def test_a_leader_killed_amid_200_status_writes_leaves_none_undone(
    world: World, load: Load
) -> None:
    names = [f"amid-{number}" for number in range(MANY)]
    leader = await world.leader()
    written = 'fairway_outbox_attempts_total{outcome="written"}'
    before = await world.metric(leader, written)
    await world.apps.apply(*(objects.route(name, f"{name}.test", {"red": 1}) for name in names))

    async def amid() -> bool:
        return await world.metric(leader, written) >= before + 20

    await eventually("20 of 200 statuses are written", amid)
    await world.system.kubectl("delete", "pod", leader, "--force", "--grace-period=0")

    async def all_told() -> bool:
        routes = {item["metadata"]["name"]: item for item in await world.apps.items("routes")}
        return all(_programmed(routes[name]) for name in names)

    await eventually("every Route says that it is programmed", all_told, 120)
    await world.apps.kubectl("delete", "routes", *names, "--wait=false")
    assert load.answered


async def test_changes_of_a_minute_without_operators_are_made_up_for(
    world: World, load: Load
) -> None:
    hosts = [f"unseen-{number}" for number in range(50)]
    kept, dropped = hosts[:25], hosts[25:]
    await world.apps.apply(*(objects.ingress(name, f"{name}.test", "red") for name in hosts))
    await world.answers(world.site("unseen-49.test"), "red")
    await world.system.scale("deployment/fairway-operator", 0)
    outage = asyncio.create_task(asyncio.sleep(OPERATOR_OUTAGE_SECONDS))
    try:
        await world.apps.apply(*(objects.ingress(name, f"{name}.test", "blue") for name in kept))
        await world.apps.kubectl("delete", "ingress", *dropped)
        await outage
        assert await world.system.items("pods", "app.kubernetes.io/component=operator") == []
    finally:
        await world.system.scale("deployment/fairway-operator", 2)
    await asyncio.gather(*(world.answers(world.site(f"{name}.test"), "blue") for name in kept))
    await asyncio.gather(*(world.withdrawn(f"{name}.test") for name in dropped))
    assert load.answered


@pytest.mark.control_plane
async def test_secrets_that_may_not_be_read_go_on_serving(
    world: World, load: Load, privileged: Privileged
) -> None:
    first, second = (objects.certified("denied-tls", "denied.test") for _ in range(2))
    secure = world.site("denied.test", secure=True)
    await world.apps.apply(
        first.secret, objects.ingress("denied", "denied.test", "red", secret="denied-tls")
    )
    await world.answers(secure, "red")
    role = json.loads(await run("kubectl", "get", "clusterrole", _ROLE, "--output=json"))
    rules = [rule for rule in role["rules"] if "secrets" not in rule["resources"]]
    assert len(rules) < len(role["rules"])
    await _set_rules(rules)
    try:
        # A watch that runs goes on without permission; this ends it.
        await privileged.hold_down("kube-apiserver", 0.1)
        await eventually("the operator is denied Secrets", lambda: _denied(world))
        await world.apps.apply(second.secret)
        await world.apps.apply(
            objects.ingress("denied", "denied.test", "blue", secret="denied-tls")
        )
        await world.answers(secure, "blue")
    finally:
        await _insist(lambda: _set_rules(role["rules"]))
    await eventually("the new certificate is served", _certified(secure, second.der), 90)
    assert load.answered


async def test_1000_rapid_edits_of_one_object_are_few_snapshots(world: World, load: Load) -> None:
    site = world.site("restless.test")
    await world.apps.apply(objects.ingress("restless", "restless.test", "red"))
    await world.answers(site, "red")
    leader = await world.leader()
    before = await world.sequence(leader)
    path = f"/apis/networking.k8s.io/v1/namespaces/{world.apps.name}/ingresses/restless"
    client = await connect(os.environ["KUBECONFIG"])
    try:
        for number in range(1, EDITS + 1):
            # Each means something else, so that none would be left out by itself.
            timeout = {"fairway.dev/request-timeout": f"{number}s"}
            edit = {"metadata": {"annotations": timeout}}
            await client.merge(path, edit, field_manager="fairway-e2e")
    finally:
        await client.close()
    await world.apps.apply(objects.ingress("restless", "restless.test", "blue"))

    await world.answers(site, "blue")
    assert 0 < await world.sequence(leader) - before < MOST_SNAPSHOTS
    assert load.answered


async def test_a_namespace_of_200_ingresses_goes_at_once(world: World, load: Load) -> None:
    crowd = Namespace("fairway-e2e-crowd")
    await crowd.create("restricted")
    names = [f"crowd-{number}" for number in range(MANY)]
    await crowd.apply(*(objects.ingress(name, f"{name}.test", "red") for name in names))
    # The Service is in another namespace, so the host is known and has no backend.
    await world.answered("crowd-199.test", 503)

    await crowd.remove()

    await asyncio.gather(*(world.withdrawn(f"{name}.test") for name in names))
    assert load.answered


async def test_a_crd_is_upgraded_in_place(world: World, load: Load) -> None:
    site = world.site("new-schema.test")
    await world.apps.apply(objects.route("new-schema", "new-schema.test", {"red": 1}))
    await world.answers(site, "red")
    crd = json.loads(await run("kubectl", "get", "crd", "routes.fairway.dev", "--output=json"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["later"] = {"type": "string"}
    try:
        await run("kubectl", "replace", "--filename=-", stdin=json.dumps(crd))
        await world.apps.apply(objects.route("new-schema", "new-schema.test", {"blue": 1}))
        await world.answers(site, "blue")
    finally:
        await run("kubectl", "replace", "--filename", str(_CRD))
    await world.apps.apply(objects.route("new-schema", "new-schema.test", {"red": 1}))
    await world.answers(site, "red")
    assert load.answered


_ROLE = "fairway-system:fairway"
_CRD: Path = CHART / "crds" / "fairway.dev_routes.yaml"


async def _down() -> None:
    async def refused() -> bool:
        try:
            await run("kubectl", "get", "--raw", "/readyz", "--request-timeout=2s")
        except CommandError:
            return True
        return False

    await eventually("the API server does not answer", refused)


async def _insist(act: Callable[[], Awaitable[object]]) -> None:
    """Do it until it is done."""

    async def done() -> bool:
        try:
            await act()
        except CommandError:
            return False
        return True

    await eventually("the API server takes a change", done)


async def _lists(world: World, pod: str) -> Mapping[str, float]:
    """Return how often the watch of each kind that the cluster knows began with a list."""
    kinds = ("Ingress", "Service", "EndpointSlice", "Secret", "IngressClass", "Route")
    name = "fairway_watch_lists_total"
    return {kind: await world.metric(pod, f'{name}{{kind="{kind}"}}') for kind in kinds}


async def _watch(world: World, version: int) -> str:
    """Return what a watch is told that begins at a version."""
    path = f"/apis/networking.k8s.io/v1/namespaces/{world.apps.name}/ingresses"
    query = f"watch=true&resourceVersion={version}&timeoutSeconds=5"
    return await run("kubectl", "get", "--raw", f"{path}?{query}")


def _certified(site: Site, der: bytes) -> Callable[[], Awaitable[bool]]:
    async def shown() -> bool:
        connection = await Connection.open(site)
        with closing(connection):
            return connection.certificate() == der

    return shown


def _programmed(route: Body) -> bool:
    conditions = route.get("status", {}).get("conditions", [])
    return any(each["type"] == "Programmed" and each["status"] == "True" for each in conditions)


async def _set_rules(rules: list[Body]) -> None:
    patch = json.dumps([{"op": "replace", "path": "/rules", "value": rules}])
    await run("kubectl", "patch", "clusterrole", _ROLE, "--type=json", f"--patch={patch}")


async def _denied(world: World) -> bool:
    state = 'fairway_list_state{kind="Secret",state="denied"}'
    with suppress(CommandError):
        found = [await world.metric(pod, state) for pod in await world.system.pods("operator")]
        return sum(found) == len(found)
    return False
