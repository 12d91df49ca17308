"""From batches of raw objects to published snapshots, with the real compiler."""

from typing import Any

import pytest

from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.inbox import Batch, WatchEvent
from fairway_operator.reconciler import Commit, Reconciler, Surroundings
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.model import BackendId, HostPattern
from fairway_snapshot.protocol import Position
from fairway_snapshot.tree import Snapshot

CLASS = {
    "metadata": {"name": "fairway", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"controller": "fairway.dev/ingress-controller"},
}


def metadata(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}",
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **more,
    }


def ingress(name: str, host: str, **more: Any) -> WatchEvent:
    path = {
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "web", "port": {"number": 80}}},
    }
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata(name, **more),
        "spec": {
            "ingressClassName": "fairway",
            "rules": [{"host": host, "http": {"paths": [path]}}],
        },
    }
    return WatchEvent(Kind.INGRESS, deleted=False, body=body)


def endpoints(*addresses: str) -> WatchEvent:
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata("web-1", labels={"kubernetes.io/service-name": "web"}),
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address]} for address in addresses],
    }
    return WatchEvent(Kind.ENDPOINT_SLICE, deleted=False, body=body)


WORLD = (
    WatchEvent(Kind.INGRESS_CLASS, deleted=False, body=CLASS),
    WatchEvent(
        Kind.SERVICE,
        deleted=False,
        body={
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata("web"),
            "spec": {"type": "ClusterIP", "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ),
    endpoints("10.0.0.1"),
    ingress("shop", "shop.example"),
)


class RecordingPublisher:
    def __init__(self) -> None:
        self.published: list[tuple[Snapshot, Position]] = []

    def publish(self, snapshot: Snapshot, position: Position) -> None:
        self.published.append((snapshot, position))


class Epoch:
    def __init__(self) -> None:
        self.value = 1

    def __call__(self) -> int:
        return self.value


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def epoch() -> Epoch:
    return Epoch()


@pytest.fixture
def reconciler(publisher: RecordingPublisher, epoch: Epoch) -> Reconciler:
    return Reconciler(Compiler(CompilerSettings()), publisher, Surroundings(epoch=epoch))


def apply(reconciler: Reconciler, *events: WatchEvent) -> Commit:
    return reconciler.apply(Batch(events, 0.0))


def test_objects_become_a_snapshot(reconciler: Reconciler, publisher: RecordingPublisher) -> None:
    commit = apply(reconciler, *WORLD)

    ((snapshot, position),) = publisher.published
    assert position == commit.position == Position(1, 1)
    assert list(snapshot.hosts) == [HostPattern("shop.example")]
    backend = snapshot.backends[BackendId("shop/web:80")]
    assert [endpoint.host for endpoint in backend.endpoints] == ["10.0.0.1"]


def test_the_order_of_events_does_not_matter(publisher: RecordingPublisher) -> None:
    roots = {
        apply(
            Reconciler(Compiler(CompilerSettings()), publisher), *events
        ).compilation.snapshot.root
        for events in (WORLD, tuple(reversed(WORLD)))
    }

    assert len(roots) == 1


def test_nothing_is_published_for_a_change_without_meaning(
    reconciler: Reconciler, publisher: RecordingPublisher
) -> None:
    apply(reconciler, *WORLD)

    commit = apply(reconciler, ingress("shop", "shop.example", labels={"team": "a"}))

    assert not commit.published
    assert len(publisher.published) == 1


def test_each_published_snapshot_is_later_than_the_one_before(
    reconciler: Reconciler, publisher: RecordingPublisher, epoch: Epoch
) -> None:
    apply(reconciler, *WORLD)
    apply(reconciler, endpoints("10.0.0.2"))
    epoch.value = 5
    apply(reconciler, endpoints("10.0.0.3"))
    epoch.value = 4  # another replica restored an old Lease
    apply(reconciler, endpoints("10.0.0.4"))

    assert [tuple(position) for _, position in publisher.published] == [
        (1, 1),
        (1, 2),
        (5, 3),
        (5, 4),
    ]


def test_a_deletion_withdraws_the_routes(reconciler: Reconciler) -> None:
    apply(reconciler, *WORLD)

    commit = apply(
        reconciler, WatchEvent(Kind.INGRESS, deleted=True, body={"metadata": metadata("shop")})
    )

    assert list(commit.compilation.snapshot.hosts) == []


def test_endpoints_change_without_touching_a_route(
    reconciler: Reconciler, publisher: RecordingPublisher
) -> None:
    before = apply(reconciler, *WORLD).compilation.snapshot
    after = apply(reconciler, endpoints("10.0.0.1", "10.0.0.2")).compilation.snapshot

    assert before.root != after.root
    assert before.hosts[HostPattern("shop.example")] is after.hosts[HostPattern("shop.example")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="nothing at all"),
        pytest.param({"metadata": None}, id="no metadata"),
        pytest.param({"metadata": metadata("odd"), "spec": []}, id="a list for a spec"),
        pytest.param({"metadata": metadata("odd"), "spec": {"rules": 7}}, id="a number for rules"),
    ],
)
def test_an_object_that_makes_no_sense_harms_only_itself(
    reconciler: Reconciler, body: dict[str, Any]
) -> None:
    before = apply(reconciler, *WORLD)

    after = apply(reconciler, WatchEvent(Kind.INGRESS, deleted=False, body=body))

    assert after.compilation.snapshot.root == before.compilation.snapshot.root


def test_one_more_host_costs_next_to_nothing_beside_a_thousand(reconciler: Reconciler) -> None:
    many = [ingress(f"shop-{number}", f"shop-{number}.example") for number in range(1000)]
    all_of_it = apply(reconciler, *WORLD, *many).compile_seconds

    commits = [apply(reconciler, ingress(f"late-{at}", f"late-{at}.example")) for at in range(10)]

    assert len(commits[-1].compilation.snapshot.hosts) == 1011
    assert ObjectRef(Kind.INGRESS, "shop", "late-9") in commits[-1].compilation.touched
    # The quickest, for a busy machine may take any of them from the processor for a while.
    assert min(commit.compile_seconds for commit in commits) < all_of_it / 20
