"""Other ways to install: taken by the API server, and one of them tried to its end."""

from contextlib import suppress
from pathlib import Path

import pytest

from e2e import objects
from e2e.chart import GOLDEN, KUBE_VERSION
from e2e.kubectl import CommandError, Namespace, Release, node, run
from e2e.load import Site, ask
from e2e.places import CHART
from e2e.world import IMAGE_VALUES, World

ABSENT = {
    # No monitoring is installed here, and the addresses of Services are all of one family.
    "everything": (
        "metrics.serviceMonitor.enabled=false",
        "dataplane.service.ipFamilyPolicy=",
        "dataplane.service.ipFamilies=null",
    ),
    # Those ports of the nodes are the release's.
    "namespaced": (
        "operator.watchNamespaces={fairway-e2e-apps}",
        "dataplane.service.http.nodePort=null",
        "dataplane.service.https.nodePort=null",
    ),
}
"""What a rendering asks for that cannot be had here."""

HTTP_HOST_PORT = 18080


@pytest.mark.parametrize("values", sorted(GOLDEN.glob("*.values.yaml")), ids=lambda path: path.name)
async def test_the_api_server_takes_every_object_of_the_chart(world: World, values: Path) -> None:
    release = ("ways", str(CHART), "--namespace", world.apps.name)
    absent = ABSENT.get(values.name.partition(".")[0], ())
    rendered = await run(
        *("helm", "template", "--skip-tests", *KUBE_VERSION, *release),
        *("--values", str(values), *(f"--set={value}" for value in absent)),
    )
    taken = await world.apps.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "--filename=-", "--output=name"),
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
    ingress = objects.ingress("shared-edge", "edge.test", "red")
    ingress["spec"]["ingressClassName"] = "edge"
    try:
        await release.install()
        await edge.rolled_out("daemonset/edge-fairway-dataplane")
        await world.apps.apply(ingress)
        await edge.apply({**ingress, "metadata": {"name": "elsewhere"}})

        await world.answers(Site(node(), HTTP_HOST_PORT, "edge.test"), "red")
        assert (await ask(world.site("edge.test"))).status == 404
        await world.apps.kubectl(
            *("wait", "ingress/shared-edge", "--timeout=30s"),
            "--for=jsonpath={.status.loadBalancer.ingress[0].ip}=203.0.113.77",
        )
        assert not (await edge.get("ingress", "elsewhere"))["status"]["loadBalancer"]
        assert await _may_read_secrets(edge, world.apps.name)
        assert not await _may_read_secrets(edge, "kube-system")
        assert "Phase:          Succeeded" in await release.test()
    finally:
        await release.uninstall()
        await edge.remove()
        await world.apps.delete("ingress", "shared-edge")


async def _may_read_secrets(namespace: Namespace, where: str) -> bool:
    account = f"system:serviceaccount:{namespace.name}:edge-fairway-operator"
    with suppress(CommandError):
        await run(
            "kubectl", "--namespace", where, "auth", "can-i", "list", "secrets", "--as", account
        )
        return True
    return False
