"""The whole operator, between an API server and a data plane over real sockets."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import pytest

from fairway_operator.app import Operator
from fairway_operator.authority import OPERATOR_NAME, Credentials, credentials_from_files
from fairway_operator.cli import status as status_command
from fairway_operator.cli.forms import Output
from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import KubeClient
from fairway_operator.kube.paths import KIND_PATHS, lease_path, secret_path
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resync import ListState
from fairway_snapshot.model import BackendId, HostPattern
from fairway_snapshot.protocol import METHOD, SubscriberSession, decode, encode
from fairway_snapshot.tree import Snapshot
from tests.fairway_operator.cluster.conftest import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Eventually = Callable[..., Awaitable[None]]
GRACE_SECONDS = 30.0
"""What Kubernetes gives a pod to end; a request without a limit would not end in it."""

CREATED = {"creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}


@pytest.fixture
def config(config: OperatorConfig) -> OperatorConfig:
    return replace(config, instance_address="127.0.0.1", status_addresses=("203.0.113.7",))


@pytest.fixture
def shop(api: "ApiServer") -> "ApiServer":
    """A cluster with a class, a Service with an endpoint, an Ingress and a Route."""
    api.absent = {KIND_PATHS[Kind.REFERENCE_GRANT].plural}
    put_class(api, "fairway")
    api.put(
        Kind.SERVICE,
        "web",
        metadata=dict(CREATED),
        spec={"type": "ClusterIP", "ports": [{"port": 80, "targetPort": 8080}]},
    )
    put_endpoints(api, "10.0.0.1")
    put_ingress(api, "shop", "shop.example")
    api.put(
        Kind.ROUTE,
        "route",
        metadata=dict(CREATED),
        spec={
            "ingressClassName": "fairway",
            "hosts": ["route.example"],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": "web", "port": 80}],
                }
            ],
        },
    )
    return api


def put_class(api: "ApiServer", name: str, annotations: dict[str, str] | None = None) -> None:
    api.put(
        Kind.INGRESS_CLASS,
        name,
        metadata={**CREATED, "annotations": annotations or {}},
        spec={"controller": "fairway.dev/ingress-controller"},
    )


def put_ingress(
    api: "ApiServer",
    name: str,
    host: str,
    *,
    port: int = 80,
    generation: int = 1,
    ingress_class: str = "fairway",
) -> None:
    path = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": port}}},
    }
    rules = [{"host": host, "http": {"paths": [path]}}]
    spec = {"ingressClassName": ingress_class, "rules": rules}
    api.put(Kind.INGRESS, name, metadata={**CREATED, "generation": generation}, spec=spec)


def put_endpoints(api: "ApiServer", *addresses: str) -> None:
    api.put(
        Kind.ENDPOINT_SLICE,
        "web-1",
        metadata={**CREATED, "labels": {"kubernetes.io/service-name": "web"}},
        addressType="IPv4",
        ports=[{"name": "", "port": 8080, "protocol": "TCP"}],
        endpoints=[{"addresses": [address]} for address in addresses],
    )


@asynccontextmanager
async def running(
    client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> AsyncIterator[Operator]:
    operator = Operator(config, client)
    task = asyncio.create_task(operator.run())
    try:
        await eventually(lambda: operator.stream_port > 0 or task.done())
        yield operator
    finally:
        operator.stop()
        assert await asyncio.wait_for(task, timeout=PATIENCE_SECONDS) == 0


class DataPlane:
    """Takes and acknowledges everything."""

    def __init__(self, call: "grpc.aio.StreamStreamCall[bytes, bytes]", name: str) -> None:
        self._call = call
        self._session = SubscriberSession(instance=name, version="1")

    @property
    def snapshot(self) -> Snapshot:
        return self._session.snapshot

    def hosts(self) -> set[str]:
        return set(self.snapshot.hosts)

    async def follow(self) -> None:
        await self._call.write(encode(self._session.hello()))
        while isinstance(data := await self._call.read(), bytes):
            offer = self._session.receive(decode(data))
            if offer is not None:
                await self._call.write(encode(self._session.accept(offer)))


@asynccontextmanager
async def data_plane(
    api: "ApiServer", operator: Operator, eventually: Eventually, name: str = "dp-1"
) -> AsyncIterator[DataPlane]:
    mounted = secret_path("fairway-system", "fairway-dataplane-tls")
    await eventually(lambda: mounted in api.objects)
    credentials = read_credentials(api, mounted)
    tls = grpc.ssl_channel_credentials(
        credentials.trusted, credentials.key.reveal(), credentials.chain
    )
    options = [("grpc.ssl_target_name_override", OPERATOR_NAME)]
    target = f"127.0.0.1:{operator.stream_port}"
    async with grpc.aio.secure_channel(target, tls, options=options) as channel:
        plane = DataPlane(channel.stream_stream(METHOD)(), name)  # type: ignore[call-arg] # the stubs want more
        task = asyncio.create_task(plane.follow())
        yield plane
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def read_credentials(api: "ApiServer", path: str) -> Credentials:
    data = api.objects[path]["data"]
    return credentials_from_files({name: base64.b64decode(text) for name, text in data.items()})


def conditions(api: "ApiServer") -> dict[str, str]:
    route = api.objects["/apis/fairway.dev/v1alpha1/namespaces/default/routes/route"]
    listed = (route.get("status") or {}).get("conditions", [])
    return {each["type"]: each["status"] for each in listed}


def served(operator: Operator) -> set[str]:
    compilation = operator._reconciler.compilation
    return set(compilation.snapshot.hosts) if compilation else set()


def has_findings(operator: Operator, ingress: str) -> bool:
    compilation = operator._reconciler.compilation
    ref = ObjectRef(Kind.INGRESS, "default", ingress)
    return compilation is not None and bool(compilation.findings.get(ref))


async def get(operator: Operator, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{operator.admin_port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def degraded(operator: Operator, what: str) -> None:
    """Wait until it says so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while f"degraded: {what}" not in (await get(operator, "/readyz"))[1]:  # noqa: ASYNC110 - asks a port
            await asyncio.sleep(0.02)


async def test_from_the_api_server_to_a_data_plane_and_back_into_status(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: plane.hosts() == {"shop.example", "route.example"})

        put_endpoints(shop, "10.0.0.1", "10.0.0.2")
        await eventually(
            lambda: len(plane.snapshot.backends[BackendId("default/web:80")].endpoints) == 2
        )
        put_ingress(shop, "late", "late.example")
        await eventually(lambda: HostPattern("late.example") in plane.snapshot.hosts)
        shop.delete(Kind.INGRESS, "late")
        await eventually(lambda: HostPattern("late.example") not in plane.snapshot.hosts)

        await eventually(
            lambda: (
                conditions(shop)
                == {"Accepted": "True", "ResolvedRefs": "True", "Programmed": "True"}
            )
        )
        ingress = shop.objects["/apis/networking.k8s.io/v1/namespaces/default/ingresses/shop"]
        await eventually(
            lambda: (
                shop.objects["/apis/networking.k8s.io/v1/namespaces/default/ingresses/shop"].get(
                    "status"
                )
                == {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}
            )
        )
        assert ingress["metadata"].get("annotations") is None


async def test_what_a_watch_gap_hid_is_repaired(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: HostPattern("shop.example") in plane.snapshot.hosts)
        await eventually(lambda: len(shop.watchers) >= 6)
        # A watch asks for a list when it begins: that one is over, and no other is near.
        await eventually(lambda: is_listed_and_quiet(operator, shop))
        shop.deaf = True
        shop.delete(Kind.INGRESS, "shop")
        put_ingress(shop, "new", "new.example")
        shop.deaf = False
        await asyncio.sleep(0.3)
        assert HostPattern("shop.example") in plane.snapshot.hosts

        shop.gone = True
        shop.end_watches()
        await eventually(lambda: shop.expired >= 6)
        shop.gone = False

        await eventually(lambda: plane.hosts() == {"new.example", "route.example"})


def is_listed_and_quiet(operator: Operator, api: "ApiServer") -> bool:
    """Tell whether every kind was listed once for itself, for its watch, and for its gap."""
    plurals = [KIND_PATHS[kind].plural for kind in Kind]
    return not any(status.requested.is_set() for status in operator._resync.kinds.values()) and all(
        sum(
            path.endswith(f"/{plural}") and not query.get("watch")
            for _, path, query in api.requests
        )
        >= 3
        for plural in plurals
        if plural not in api.absent
    )


async def test_a_crd_that_comes_later_is_served(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fairway_operator.resync.ABSENT_SECONDS", 0.1)
    shop.absent = {"routes", "referencegrants"}
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: plane.hosts() == {"shop.example"})

        shop.absent = {"referencegrants"}

        await eventually(lambda: plane.hosts() == {"shop.example", "route.example"})


async def test_no_snapshot_is_published_before_every_kind_was_heard(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    shop.denied = {"endpointslices"}
    operator = Operator(config, client)
    task = asyncio.create_task(operator.run())
    await eventually(lambda: operator.admin_port > 0)
    await eventually(lambda: shop.count("GET", "/endpointslices") > 1)

    # The server has refused the list; the operator may hear of it a moment later.
    listed = operator._resync.kinds[Kind.ENDPOINT_SLICE]
    await eventually(lambda: listed.state is ListState.DENIED)
    status, text = await get(operator, "/readyz")
    assert (status, operator.stream_port) == (503, 0)
    assert "waiting for a list of EndpointSlice: endpointslices is forbidden" in text

    shop.denied.clear()
    await eventually(lambda: operator.stream_port > 0)
    assert (await get(operator, "/readyz"))[0] == 200
    operator.stop()
    assert await task == 0


async def test_a_kind_that_is_denied_later_keeps_its_last_state(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: HostPattern("shop.example") in plane.snapshot.hosts)
        await eventually(lambda: len(shop.watchers) >= 6)
        shop.denied = {"endpointslices"}
        shop.end_watches()
        put_ingress(shop, "late", "late.example")

        await eventually(lambda: HostPattern("late.example") in plane.snapshot.hosts)

        assert len(plane.snapshot.backends[BackendId("default/web:80")].endpoints) == 1
        shop.denied.clear()


async def test_the_admin_port_shows_everything_but_secrets(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: plane.hosts() == {"shop.example", "route.example"})
        await eventually(lambda: conditions(shop).get("Programmed") == "True")
        answers = {path: await get(operator, path) for path in PAGES}
        wrong = await get(operator, "/debug/nothing")
        few = await get(operator, "/debug/snapshot?limit=1")
        too_many = await get(operator, f"/debug/snapshot?limit={'9' * 5000}")

    assert {status for status, _ in answers.values()} == {200}
    assert wrong[0] == 404
    assert too_many[0] == 400
    assert len(json.loads(few[1])["hosts"]) == 1
    assert json.loads(few[1])["counts"]["hosts"] == 2
    assert '"shop.example"' in answers["/debug/snapshot"][1]
    assert '"instance":"dp-1"' in answers["/debug/subscribers"][1]
    assert '"outcome":"written"' in answers["/debug/outbox"][1]
    metrics = answers["/metrics"][1]
    for line in (
        "fairway_leader 1.0",
        'fairway_subscribers{state="current"} 1.0',
        'fairway_objects{kind="Ingress",state="served"} 1.0',
        'fairway_list_state{kind="ReferenceGrant",state="absent"} 1.0',
        'fairway_objects{kind="Ingress",state="last-good"} 0.0',
        "fairway_outbox_pending ",
    ):
        assert line in metrics
    assert "fairway_compile_seconds_bucket" in metrics
    assert "fairway_propagation_seconds_bucket" in metrics
    assert not any("PRIVATE KEY" in text for _, text in answers.values())


PAGES = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/debug/snapshot",
    "/debug/routes",
    "/debug/subscribers",
    "/debug/findings",
    "/debug/outbox",
    "/debug/lists",
)


async def test_an_object_in_quarantine_is_shown_as_such(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running(client, config, eventually) as operator:
        put_ingress(shop, "kept", "kept.example")
        await eventually(lambda: "kept.example" in served(operator))
        put_ingress(shop, "kept", "kept.example", port=81, generation=2)
        put_ingress(shop, "closed", "closed.example", port=81)
        await eventually(lambda: "closed.example" in served(operator))
        # Each object has a queue of its own, so the other one may be behind.
        await eventually(lambda: has_findings(operator, "kept"))
        metrics = (await get(operator, "/metrics"))[1]
        capsys.readouterr()
        status = await asyncio.to_thread(
            status_command.run, f"http://127.0.0.1:{operator.admin_port}", Output.TEXT
        )

    assert status == 0
    assert 'fairway_objects{kind="Ingress",state="last-good"} 1.0' in metrics
    assert 'fairway_objects{kind="Ingress",state="closed"} 1.0' in metrics
    told = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "Ingress default/kept 2 1 last-good" in told
    assert "Ingress default/closed 1 in part closed" in told


async def test_two_replicas_agree_and_one_writes_for_both(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    other = replace(config, instance="pod-b")
    async with running(client, config, eventually) as first:
        await eventually(lambda: lease_of(shop).get("holderIdentity") == "pod-a")
        async with (
            running(client, other, eventually) as second,
            data_plane(shop, first, eventually, "dp-1") as one,
            data_plane(shop, second, eventually, "dp-2") as two,
        ):
            await eventually(
                lambda: one.hosts() == two.hosts() == {"shop.example", "route.example"}
            )
            assert one.snapshot.root == two.snapshot.root
            await eventually(lambda: len(first._reconciler.receipts.data_planes) == 2)

            shop.put(
                Kind.ROUTE,
                "route",
                metadata={**CREATED, "generation": 2},
                spec=route_spec("moved.example"),
            )
            await eventually(lambda: programmed(shop).startswith("2/2 data planes at"))
        assert {
            query["fieldManager"] for method, _, query in shop.requests if method == "PATCH"
        } == {"fairway-operator"}


def route_spec(host: str) -> dict[str, Any]:
    backend = {"name": "web", "port": 80}
    return {"ingressClassName": "fairway", "hosts": [host], "rules": [{"backendRefs": [backend]}]}


def programmed(api: "ApiServer") -> str:
    route = api.objects["/apis/fairway.dev/v1alpha1/namespaces/default/routes/route"]
    listed = (route.get("status") or {}).get("conditions", [])
    return next((each["message"] for each in listed if each["type"] == "Programmed"), "")


def lease_of(api: "ApiServer") -> dict[str, Any]:
    path = lease_path("fairway-system", "fairway-operator")
    return dict(api.objects.get(path, {}).get("spec", {}))


async def test_sigterm_ends_in_good_order_and_gives_the_lease_back(
    shop: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    operator = Operator(config, client)
    task = asyncio.create_task(operator.run())
    await eventually(lambda: operator.stream_port > 0)
    await eventually(lambda: lease_of(shop).get("holderIdentity") == "pod-a")
    await eventually(lambda: len(shop.watchers) >= 6)  # kopf has taken the signals, and lost them

    os.kill(os.getpid(), signal.SIGTERM)

    assert await asyncio.wait_for(task, timeout=PATIENCE_SECONDS) == 0
    assert lease_of(shop)["holderIdentity"] == ""


@pytest.mark.parametrize("end", ["stop", "cancel"])
async def test_it_ends_in_time_while_the_api_server_does_not_answer(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    end: str,
) -> None:
    operator = Operator(config, client)
    task = asyncio.create_task(operator.run())
    await eventually(lambda: operator.stream_port > 0)
    await eventually(lambda: lease_of(shop).get("holderIdentity") == "pod-a")
    await eventually(lambda: len(shop.watchers) >= 6)
    shop.stuck = True
    shop.end_watches()
    renewals = shop.count("GET", "leases")
    await eventually(lambda: shop.count("GET", "leases") > renewals)

    if end == "stop":
        operator.stop()
    else:
        task.cancel()
    done, _ = await asyncio.wait([task], timeout=GRACE_SECONDS)

    assert done


async def test_limited_to_namespaces_without_a_cluster_role(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """C8: the assumed class is ours and no other, until the right to read classes is given."""
    monkeypatch.setattr("fairway_operator.handlers.REQUEST_BACKOFFS", (0.01,))
    shop.denied = {"ingressclasses"}
    put_class(shop, "edge")
    put_ingress(shop, "edge", "edge.example", ingress_class="edge")
    limited = replace(config, watch_namespaces=("default",), assumed_class="edge")
    async with (
        running(client, limited, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: plane.hosts() == {"edge.example"})
        await eventually(lambda: shop.count("GET", "/ingressclasses") > 2)
        await degraded(operator, "IngressClass is denied")
        lists = json.loads((await get(operator, "/debug/lists"))[1])
        assert lists["IngressClass"]["watch_restarts"] == 0

        shop.denied.clear()
        await eventually(lambda: plane.hosts() == {"edge.example", "shop.example", "route.example"})
        await eventually(lambda: "ingressclasses" in {each.plural for each in shop.watchers})


async def test_a_class_that_was_read_is_not_assumed_later(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fairway_operator.handlers.REQUEST_BACKOFFS", (0.01,))
    put_class(shop, "fairway", {"fairway.dev/request-timeout": "7s"})
    limited = replace(config, watch_namespaces=("default",))
    async with (
        running(client, limited, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        host = HostPattern("shop.example")
        await eventually(lambda: host in plane.snapshot.hosts)
        as_read = plane.snapshot.hosts[host]
        await eventually(lambda: len(shop.watchers) >= 6)
        shop.denied = {"ingressclasses"}
        shop.end_watches()
        await degraded(operator, "IngressClass is denied")

        put_ingress(shop, "late", "late.example")
        await eventually(lambda: HostPattern("late.example") in plane.snapshot.hosts)

        assert plane.snapshot.hosts[host] == as_read
