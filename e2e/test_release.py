"""The chart as a release: checked, upgraded, removed."""

import asyncio

from e2e import objects
from e2e.kubectl import Namespace, Release, eventually, everything, may
from e2e.load import Load
from e2e.world import IMAGE_VALUES, World


async def test_helm_test_passes(world: World) -> None:
    assert "Phase:          Succeeded" in await world.release.test()


async def test_pods_are_restricted_and_data_planes_know_no_credentials(world: World) -> None:
    namespace = await world.system.get("namespace", world.system.name)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in await world.system.items("pods", "app.kubernetes.io/component=dataplane"):
        mounts = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
        assert "/var/run/secrets/kubernetes.io/serviceaccount" not in mounts
    account = f"system:serviceaccount:{world.system.name}:fairway-dataplane"
    allowed = await world.system.kubectl("auth", "can-i", "--list", f"--as={account}")
    resources = {line.split()[0] for line in allowed.splitlines()[1:] if line[:1].isalpha()}
    assert all(name.startswith("self") for name in resources), allowed


async def test_users_of_a_namespace_may_do_with_routes_what_they_may_do_there(
    world: World,
) -> None:
    bindings = [objects.role_binding(role, f"e2e-{role}") for role in ("view", "edit")]
    await world.apps.apply(*bindings)

    async def given() -> bool:
        # The API server's controllers put the parts of these roles together in their own time.
        return await may("e2e-edit", "create", "routes.fairway.dev", world.apps.name)

    await eventually("who may edit the namespace may write Routes", given)
    assert await may("e2e-view", "list", "routes.fairway.dev", world.apps.name)
    assert not await may("e2e-view", "create", "routes.fairway.dev", world.apps.name)
    assert not await may("e2e-edit", "create", "routes.fairway.dev", "default")


async def test_an_upgrade_fails_no_request(world: World) -> None:
    site = world.site("upgraded.test")
    secure = world.site("upgraded-tls.test", secure=True)
    await world.apps.apply(
        objects.certified("upgraded-tls", "upgraded-tls.test").secret,
        objects.ingress("upgraded", "upgraded.test", "red"),
        objects.ingress("upgraded-tls", "upgraded-tls.test", "blue", secret="upgraded-tls"),
    )
    await world.answers(site, "red")
    await world.everywhere(secure, "blue")
    old = set(await world.system.pods("dataplane")) | set(await world.system.pods("operator"))
    async with Load(site) as load, Load(secure) as secure_load:
        await world.release.install(
            "dataplane.podAnnotations.revision=two", "operator.podAnnotations.revision=two"
        )

        async def replaced() -> bool:
            items = await world.system.items("pods", "app.kubernetes.io/instance=fairway")
            return old.isdisjoint(item["metadata"]["name"] for item in items)

        await eventually("every pod of the old revision is gone", replaced, seconds=120)
        await asyncio.sleep(1)
    assert not load.failures, load.story()
    assert not secure_load.failures, secure_load.story()


async def test_uninstall_leaves_nothing_behind(world: World) -> None:
    namespace = Namespace("fairway-e2e-leaving")
    await namespace.create("restricted")
    try:

        async def settled() -> bool:
            return f"ConfigMap/{namespace.name}/kube-root-ca.crt" in await everything()

        await eventually("the namespace is complete", settled)
        before = await everything()
        release = Release(
            namespace,
            "leaving",
            (
                *IMAGE_VALUES,
                "controllerName=fairway.dev/leaving",
                "ingressClass.name=leaving",
                "dataplane.service.type=NodePort",
            ),
        )
        await release.install()
        assert any("leaving-fairway-dataplane" in name for name in await everything())
        await release.uninstall()

        async def gone() -> bool:
            return not {name for name in await everything() - before if "leaving" in name}

        await eventually("all objects of the release are gone", gone, seconds=120)
    finally:
        await namespace.remove()
