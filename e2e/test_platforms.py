"""Other ways to install: taken by the API server, and two of them tried to their end."""

import ssl
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from e2e import objects
from e2e.chart import GOLDEN, KUBE_VERSION
from e2e.kubectl import Body, CommandError, Namespace, Release, eventually, may, run
from e2e.load import Site, ask
from e2e.places import CHART
from e2e.within import ask_within
from e2e.world import IMAGE_VALUES, World, addresses, condition

ABSENT = {
    # No monitoring is installed here, and the addresses of Services are all of one family.
    "everything": (
        "metrics.serviceMonitor.enabled=false",
        "dataplane.service.ipFamilyPolicy=",
        "dataplane.service.ipFamilies=null",
    ),
    "shared": ("operator.watchNamespaces={fairway-e2e-apps}",),
    # Those ports of the nodes are the release's.
    "namespaced": (
        "operator.watchNamespaces={fairway-e2e-apps}",
        "dataplane.service.http.nodePort=null",
        "dataplane.service.https.nodePort=null",
    ),
}
"""What a rendering asks for that cannot be had here."""

HTTP_HOST_PORT = 18080

OF_THE_CLUSTER = (
    *("clusterroles", "clusterrolebindings", "ingressclasses", "customresourcedefinitions"),
    *("validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
)
"""Kinds without a namespace that a release may have something of."""


@pytest.mark.parametrize("values", sorted(GOLDEN.glob("*.values.yaml")), ids=lambda path: path.name)
async def test_the_api_server_takes_every_object_of_the_chart(world: World, values: Path) -> None:
    release = ("ways", str(CHART), "--namespace", world.apps.name)
    absent = ABSENT.get(values.name.partition(".")[0], ())
    rendered = await run(
        *("helm", "template", "--skip-tests", *KUBE_VERSION, *release),
        *("--values", str(values), *(f"--set={value}" for value in absent)),
    )
    taken = await run(
        *("kubectl", "apply", "--filename=-", "--output=name"),
        *("--dry-run=server", "--validate=strict"),
        stdin=rendered,
    )
    assert len(taken.split()) == rendered.count("\nkind: ")


async def test_a_share_of_a_cluster_is_served_at_ports_of_the_nodes(world: World) -> None:
    edge = Namespace("fairway-e2e-edge")
    await edge.create("privileged")
    release = Release(
        edge,
        "edge",
        (
            *IMAGE_VALUES,
            "controllerName=fairway.dev/edge",
            "ingressClass.name=edge",
            f"operator.watchNamespaces={{{world.apps.name}}}",
            "operator.replicas=1",
            "dataplane.kind=DaemonSet",
            "dataplane.service.enabled=false",
            "dataplane.hostPorts.enabled=true",
            f"dataplane.hostPorts.http={HTTP_HOST_PORT}",
            "dataplane.hostPorts.https=18443",
            "webhook.enabled=false",
            "publish.addresses={203.0.113.77}",
        ),
    )
    ingress = _of_class("edge", objects.ingress("shared-edge", "edge.test", "red"))
    try:
        await release.install()
        await edge.rolled_out("daemonset/edge-fairway-dataplane")
        await world.apps.apply(ingress)
        await edge.apply({**ingress, "metadata": {"name": "elsewhere"}})

        (pod, *_) = await edge.items("pods", "app.kubernetes.io/component=dataplane")
        await _answered(world, Site(pod["status"]["hostIP"], HTTP_HOST_PORT, "edge.test"), "red")
        assert (await ask(world.site("edge.test"))).status == 404
        await world.apps.kubectl(
            *("wait", "ingress/shared-edge", "--timeout=60s"),
            "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=203.0.113.77",
        )
        assert not addresses(await edge.get("ingress", "elsewhere"))
        account = f"system:serviceaccount:{edge.name}:edge-fairway-operator"
        assert await may(account, "list", "secrets", world.apps.name)
        assert not await may(account, "list", "secrets", "kube-system")
        assert await may(account, "create", "events.events.k8s.io", "default")
        assert not await may(account, "list", "services", "default")
        assert "Phase:          Succeeded" in await release.test()
    finally:
        await release.uninstall()
        await edge.remove()
        await world.apps.delete("ingress", "shared-edge")


async def test_who_has_no_right_to_the_cluster_installs_and_is_served(world: World) -> None:
    tenant = Namespace("fairway-e2e-tenant")
    await tenant.create("restricted")
    for namespace in (tenant, world.apps):
        await namespace.apply(objects.role_binding("cluster-admin", "tenant"))
    release = Release(
        tenant,
        "tenant",
        (
            *IMAGE_VALUES,
            f"operator.watchNamespaces={{{world.apps.name}}}",
            "ingressClass.create=false",
            "ingressClass.name=tenant",
            "webhook.enabled=false",
        ),
        user="tenant",
    )
    certified = objects.certified("tenant-tls", "tenant.test")
    mine = _of_class("tenant", objects.ingress("tenant", "tenant.test", "red", secret="tenant-tls"))
    route = _of_class("tenant", objects.route("tenant", "tenant-r.test", {"blue": 1}))
    strange = objects.ingress("tenant-strange", "tenant-strange.test", "red")
    try:
        await release.install()
        address = await world.balanced(tenant, "tenant-fairway")
        await world.apps.apply(certified.secret, mine, route, strange)
        await tenant.apply(mine, route)

        secure = _at_service(tenant, "tenant.test", secure=True)
        await _answered(world, secure, "red")
        assert (await ask_within(world.apps, secure)).certificate == certified.der
        await _answered(world, _at_service(tenant, "tenant-r.test"), "blue")
        unserved = await ask_within(world.apps, _at_service(tenant, "tenant-strange.test"))
        assert unserved.status == 404

        await eventually("Ingress and Route are told", lambda: _told(world, address))
        assert not addresses(await tenant.get("ingress", "tenant"))
        assert "status" not in await tenant.get("routes.fairway.dev", "tenant")
        assert "Phase:          Succeeded" in await release.test()

        of_release = "--selector=app.kubernetes.io/instance=tenant"
        listed = ("kubectl", "get", "--output=name", of_release)
        assert not await run(*listed, ",".join(OF_THE_CLUSTER))
        assert not await run(*listed, "roles,rolebindings", "--namespace=default")
        await _is_well_without_classes(tenant)
    finally:
        await release.uninstall()
        await tenant.remove()
        await world.apps.kubectl(
            *("delete", "--wait=false", "rolebinding/tenant", "secret/tenant-tls"),
            *("ingress/tenant", "ingress/tenant-strange", "routes.fairway.dev/tenant"),
        )


async def _told(world: World, address: list[str]) -> bool:
    """Return whether status and events have all that is to be said of what ``tenant`` serves."""
    ingress = await world.apps.get("ingress", "tenant")
    route = await world.apps.get("routes.fairway.dev", "tenant")
    about = "--field-selector=reason=Programmed,regarding.kind=Ingress,regarding.name=tenant"
    told = await world.apps.kubectl("get", "events.events.k8s.io", about, "--output=name")
    return bool(addresses(ingress) == address and condition(route, "Programmed") == "True" and told)


async def _is_well_without_classes(namespace: Namespace) -> None:
    """Check that a kind that may not be read is shown, and is no trouble beyond that."""
    status = await run(Path(sys.executable).with_name("fairway"), "status", "-n", namespace.name)
    assert status.count("degraded: ") == 1
    assert "degraded: IngressClass is denied" in status
    operator = "--selector=app.kubernetes.io/component=operator"
    log = await namespace.kubectl("logs", operator, "--tail=-1")
    assert log.count('"class_assumed"') == 2
    stopped = [line for line in log.splitlines() if '"watch_stopped"' in line]
    assert not [line for line in stopped if "IngressClass" in line]
    containers = [
        container
        for pod in await namespace.items("pods", "app.kubernetes.io/instance=tenant")
        for container in pod["status"]["containerStatuses"]
    ]
    assert {container["restartCount"] for container in containers} == {0}


async def _answered(world: World, site: Site, app: str) -> None:
    """Wait until a backend answers a pod of the users that asks for a site."""

    async def by_the_app() -> bool:
        with suppress(CommandError):
            return (await ask_within(world.apps, site)).app == app
        return False

    await eventually(f"{site.host} is answered by {app}", by_the_app)


def _at_service(namespace: Namespace, host: str, *, secure: bool = False) -> Site:
    address = f"tenant-fairway.{namespace.name}.svc"
    trusting = ssl.create_default_context() if secure else None
    return Site(address, 443 if secure else 80, host, tls=trusting)


def _of_class(name: str, body: Body) -> Body:
    return {**body, "spec": {**body["spec"], "ingressClassName": name}}
