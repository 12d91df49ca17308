"""Backends: Services and EndpointSlices (S) of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.model import HashKey, HealthCheck

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects

DRAINING = {"ready": False, "serving": True, "terminating": True}


def endpoint(address: str, **conditions: bool | None) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


@pytest.mark.parametrize(
    ("port", "backend", "hint"),
    [
        pytest.param("80", "shop/a:80", "", id="S1 the Service's port"),
        pytest.param("8080", "503", "8080 is the targetPort; write 80", id="S1 not the targetPort"),
        pytest.param("http", "shop/a:80", "", id="S2 by name, with the number's id"),
        pytest.param("https", "503", "its ports are 80 (http)", id="S2 an unknown name"),
    ],
)
def test_port(compiled: Compile, objects: Objects, port: str, backend: str, hint: str) -> None:
    seen = compiled(objects.ingress("i", f"x.com ^/ a:{port}"), objects.web("a"))

    assert seen.ask("x.com/") == backend
    assert [each.hint for each in seen.findings("i")] == ([hint] if hint else [])


def test_s2_a_named_target_port_may_be_another_number_in_each_slice(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:http"),
        objects.service("a", {"name": "http", "port": 80, "targetPort": "web"}),
        objects.slice("a-1", "10.0.0.1", service="a", ports=[{"name": "http", "port": 8080}]),
        objects.slice("a-2", "10.0.0.2", service="a", ports=[{"name": "http", "port": 9090}]),
        objects.slice("a-3", "10.0.0.3", service="a", ports=[{"name": "metrics", "port": 1}]),
    )

    assert seen.endpoints("shop/a:80") == ["10.0.0.1:8080", "10.0.0.2:9090"]


@pytest.mark.parametrize("port", [{}, {"number": 80, "name": "http"}, {"number": 0}, "80", None])
def test_s3_a_port_is_given_exactly_once(compiled: Compile, objects: Objects, port: object) -> None:
    ingress = objects.ingress("i", "x.com ^/ a:80", "x.com ^/good a:80")
    backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]
    backend["service"]["port"] = port

    seen = compiled(ingress, objects.web("a"))

    assert "InvalidBackend" in seen.reasons("i")
    assert seen.ask("x.com/") == "503"
    assert seen.ask("x.com/good") == "shop/a:80"


@pytest.mark.parametrize(
    ("endpoints", "used"),
    [
        pytest.param([endpoint("10.0.0.1", ready=True)], ["1"], id="S4 ready"),
        pytest.param([endpoint("10.0.0.1")], ["1"], id="S4 absent ready is ready"),
        pytest.param([endpoint("10.0.0.1", ready=None)], ["1"], id="S4 null ready is ready"),
        pytest.param([endpoint("10.0.0.1", ready=False)], [], id="S4 not ready"),
        pytest.param(
            [endpoint("10.0.0.1", ready=True), endpoint("10.0.0.2", **DRAINING)],
            ["1"],
            id="S4 draining ones wait for need",
        ),
        pytest.param(
            [endpoint("10.0.0.1", ready=False), endpoint("10.0.0.2", **DRAINING)],
            ["2"],
            id="S4 need",
        ),
        pytest.param(
            [endpoint("10.0.0.1", ready=False, serving=False, terminating=True)],
            [],
            id="S4 terminated",
        ),
        pytest.param(
            [endpoint("10.0.0.2"), endpoint("10.0.0.1"), endpoint("10.0.0.2")],
            ["1", "2"],
            id="S5 once each, in one order",
        ),
        pytest.param(
            [{"addresses": ["10.0.0.1", "10.0.0.9"]}], ["1"], id="S5 only the first address counts"
        ),
        pytest.param([endpoint("127.0.0.1"), endpoint("169.254.169.254")], [], id="S8 never local"),
    ],
)
def test_endpoints(
    compiled: Compile, objects: Objects, endpoints: list[dict[str, Any]], used: list[str]
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a"), objects.slice("a", *endpoints)
    )

    assert seen.endpoints("shop/a:80") == [f"10.0.0.{last}:8080" for last in used]


def test_s4_readiness_is_asked_over_all_slices(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"),
        objects.service("a"),
        objects.slice("a-1", endpoint("10.0.0.1", **DRAINING), service="a"),
        objects.slice("a-2", "10.0.0.2", service="a"),
    )

    assert seen.endpoints("shop/a:80") == ["10.0.0.2:8080"]


@pytest.mark.parametrize(
    ("families", "first"),
    [(["IPv6", "IPv4"], "fd00::1:8080"), (["IPv4"], "10.0.0.1:8080"), (None, "10.0.0.1:8080")],
)
def test_s5_one_family_is_used_the_one_the_service_prefers(
    compiled: Compile, objects: Objects, families: list[str] | None, first: str
) -> None:
    service = (
        objects.service("a") if families is None else objects.service("a", ipFamilies=families)
    )

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"),
        service,
        objects.slice("a-4", "10.0.0.1", service="a"),
        objects.slice("a-6", "fd00:0::1", service="a", family="IPv6"),
    )

    assert seen.endpoints("shop/a:80") == [first]


def test_s5_the_other_family_serves_where_the_preferred_has_nothing(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"),
        objects.service("a", ipFamilies=["IPv4", "IPv6"]),
        objects.slice("a-6", "fd00::1", service="a", family="IPv6"),
    )

    assert seen.endpoints("shop/a:80") == ["fd00::1:8080"]


def test_s6_any_order_of_arrival_and_departure(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    ingress = objects.ingress("i", "x.com ^/ a:80")

    assert steps.put(objects.slice("a-1", "10.0.0.1", service="a"), ingress).ask("x.com/") == "503"
    assert steps.put(objects.service("a")).endpoints("shop/a:80") == ["10.0.0.1:8080"]
    assert steps.remove(Kind.SERVICE, "a").ask("x.com/") == "503"
    assert steps.remove(Kind.ENDPOINT_SLICE, "a-1").ask("x.com/") == "503"
    back = steps.put(objects.slice("a-2", "10.0.0.2", service="a"), objects.service("a"))
    assert back.endpoints("shop/a:80") == ["10.0.0.2:8080"]
    moved = steps.put(objects.slice("a-2", "10.0.0.2", service="b"))
    assert moved.endpoints("shop/a:80") == []


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {}], ids=["headless", "selectorless"])
def test_s7_headless_and_selectorless_services(
    compiled: Compile, objects: Objects, spec: dict[str, Any]
) -> None:
    unnamed = {"port": 80}
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"),
        objects.service("a", unnamed, **spec),
        objects.slice("a-manual", "192.168.7.7", service="a", ports=[{"port": 9000}]),
    )

    assert seen.endpoints("shop/a:80") == ["192.168.7.7:9000"]


def test_s8_an_external_name_is_one_endpoint_by_name(compiled: Compile, objects: Objects) -> None:
    external = objects.service("a", type="ExternalName", externalName="Db.Example.COM.", ports=[])

    seen = compiled(objects.ingress("i", "x.com ^/ a:443"), external)

    assert seen.endpoints("shop/a:443") == ["db.example.com:443"]


@pytest.mark.parametrize(
    "name",
    ["localhost", "x.localhost", "127.0.0.1", "127.1", "169.254.169.254", "0.0.0.0", "2130706433"],
)
def test_s8_an_external_name_does_not_lead_back_to_the_proxy(
    compiled: Compile, objects: Objects, name: str
) -> None:
    external = objects.service("a", type="ExternalName", externalName=name)

    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), external)

    assert seen.reasons("i") == ["AddressNotPermitted"]
    assert seen.ask("x.com/") == "503"
    allowed = compiled(objects.ingress("i", "x.com ^/ a:80"), external, allow_local_addresses=True)
    assert allowed.endpoints("shop/a:80") == [f"{name}:80"]


def test_s8_external_names_can_be_switched_off(compiled: Compile, objects: Objects) -> None:
    external = objects.service("a", type="ExternalName", externalName="db.example.com")

    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), external, allow_external_names=False)

    assert seen.reasons("i") == ["AddressNotPermitted"]
    assert len(seen.snapshot.backends) == 0


@pytest.mark.parametrize(
    ("spoken", "protocol", "reasons"),
    [
        ("https", "https", []),
        ("HTTPS", "https", []),
        ("kubernetes.io/wss", "https", []),
        ("kubernetes.io/ws", "http", []),
        ("http", "http", []),
        ("other.example/x", "http", []),
        ("kubernetes.io/h2c", "http", ["UnsupportedProtocol"]),
    ],
)
def test_s9_app_protocol(
    compiled: Compile, objects: Objects, spoken: str, protocol: str, reasons: list[str]
) -> None:
    port = {"name": "http", "port": 80, "appProtocol": spoken}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", port), objects.slice("a")
    )

    (backend,) = seen.snapshot.backends.values()
    assert backend.protocol == protocol
    assert seen.reasons("a", Kind.SERVICE) == reasons
    # Who refers to it is told as well: authors of Services and of routes are often different.
    assert seen.reasons("i") == reasons
    assert seen.ask("x.com/") in ("shop/a:80", "503")


@pytest.mark.parametrize("spoken", ["kubernetes.io/h2c", "h2c", "http2", "grpc"])
def test_s9_http_2_is_warned_of_where_it_is_used_and_http_1_1_is_spoken(
    compiled: Compile, objects: Objects, spoken: str
) -> None:
    used = {"name": "http", "port": 80, "appProtocol": spoken}
    plain = {"name": "plain", "port": 81}
    rule = {"backendRefs": [{"name": "a", "port": "http"}]}
    steps = compiled.steps()

    seen = steps.put(
        objects.route("r", rule),
        objects.ingress("other", "x.com ^/ a:81"),
        objects.service("a", used, plain),
        objects.slice("a", "10.0.0.1"),
    )

    (finding,) = seen.findings("r", Kind.ROUTE)
    assert (finding.field, finding.severity) == ("spec.rules[0].backendRefs[0].port", "warning")
    assert "gRPC" in finding.message
    assert seen.ask("a.example/") == "shop/a:80"
    assert seen.reasons("other") == []
    conditions = seen.compilation.serving[ObjectRef(Kind.ROUTE, "shop", "r")].conditions
    assert all(each.status for each in conditions)

    said = {"fairway.dev/backend-protocol": "http"}
    told = steps.put(objects.service("a", used, plain, annotations=said))
    assert told.findings() == ()


def test_s10_a_service_of_another_namespace_is_never_used(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), objects.web("other/a"))

    assert seen.ask("x.com/") == "503"
    assert len(seen.snapshot.backends) == 0


def test_s11_a_resource_backend_answers_503_on_its_path_only(
    compiled: Compile, objects: Objects
) -> None:
    ingress = objects.ingress("i", "x.com ^/ a:80", "x.com ^/files a:80")
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    paths[1]["backend"] = {"resource": {"apiGroup": "x", "kind": "Bucket", "name": "b"}}

    seen = compiled(ingress, objects.web("a"))

    assert seen.reasons("i") == ["UnsupportedBackend"]
    assert seen.ask("x.com/files/x") == "503"
    assert seen.ask("x.com/") == "shop/a:80"


def test_endpoints_touch_no_route(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    before = steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    after = steps.put(objects.slice("a", "10.0.0.7"))

    assert after.endpoints("shop/a:80") == ["10.0.0.7:8080"]
    assert after.virtual_host("x.com") is before.virtual_host("x.com")
    assert after.compilation.touched == frozenset()


def test_a_backend_is_in_the_snapshot_while_somebody_refers_to_it(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    seen = steps.put(
        objects.ingress("one", "x.com ^/ a:80"),
        objects.ingress("two", "y.com ^/ a:http"),
        objects.web("a"),
        objects.web("unused"),
    )
    assert list(seen.snapshot.backends) == ["shop/a:80"]

    assert list(steps.remove(Kind.INGRESS, "one").snapshot.backends) == ["shop/a:80"]
    assert list(steps.remove(Kind.INGRESS, "two").snapshot.backends) == []


def test_findings_of_a_service_are_told_while_somebody_refers_to_it(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    service = objects.service("a", annotations={"fairway.dev/balance": "by-magic"})
    assert steps.put(service).findings() == ()

    seen = steps.put(objects.ingress("i", "x.com ^/ a:80"))
    assert seen.reasons("a", Kind.SERVICE) == ["InvalidAnnotation"]

    assert steps.remove(Kind.INGRESS, "i").findings() == ()


def test_annotations_of_a_service_are_for_all_who_refer_to_it(
    compiled: Compile, objects: Objects
) -> None:
    given = {
        "fairway.dev/balance": "least-requests",
        "fairway.dev/backend-protocol": "HTTPS",
        "fairway.dev/strip-prefix": "/x",
    }

    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=given))

    (backend,) = seen.snapshot.backends.values()
    assert (backend.balance, backend.protocol) == ("least-requests", "https")
    assert seen.reasons("a", Kind.SERVICE) == ["UnknownAnnotation"]


@pytest.mark.parametrize(
    ("given", "balance", "hash_key"),
    [
        pytest.param("random", "random", HashKey(), id="a word"),
        pytest.param("consistent-hash", "consistent-hash", HashKey(), id="client address"),
        pytest.param(
            "consistent-hash header=X-User",
            "consistent-hash",
            HashKey(header="x-user"),
            id="header",
        ),
        pytest.param(
            "consistent-hash cookie=Session",
            "consistent-hash",
            HashKey(cookie="Session"),
            id="cookie",
        ),
        pytest.param("random header=X-User", "round-robin", HashKey(), id="a key without a hash"),
        pytest.param("consistent-hash query=a", "round-robin", HashKey(), id="a key of no kind"),
        pytest.param("consistent-hash header=", "round-robin", HashKey(), id="a key without name"),
        pytest.param("consistent-hash header=a b", "round-robin", HashKey(), id="no token"),
    ],
)
def test_a_balance_is_read_whole_or_not_at_all(
    compiled: Compile, objects: Objects, *, given: str, balance: str, hash_key: HashKey
) -> None:
    annotations = {"fairway.dev/balance": given, "fairway.dev/sticky-cookie": "at"}
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=annotations)
    )

    (backend,) = seen.snapshot.backends.values()
    assert (backend.balance, backend.hash_key) == (balance, hash_key)
    assert backend.sticky_cookie == "at"
    served = balance == given.partition(" ")[0]
    assert seen.reasons("a", Kind.SERVICE) == ([] if served else ["InvalidAnnotation"])


def test_limits_of_a_backend_are_said_on_its_service(compiled: Compile, objects: Objects) -> None:
    given = {
        "fairway.dev/slow-start": "1m30s",
        "fairway.dev/max-requests": "100",
        "fairway.dev/max-pending": "ten",
        "fairway.dev/retry-budget": "30%",
    }

    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=given))

    (backend,) = seen.snapshot.backends.values()
    assert (backend.slow_start_seconds, backend.max_requests, backend.max_pending) == (90.0, 100, 0)
    assert backend.retry_budget == 30
    assert seen.reasons("a", Kind.SERVICE) == ["InvalidAnnotation"]


def test_what_a_backend_can_bear_is_said_on_its_service(
    compiled: Compile, objects: Objects
) -> None:
    given = {
        "fairway.dev/max-connections": "50",
        "fairway.dev/max-retries": "3",
        "fairway.dev/adaptive-concurrency": "true",
        "fairway.dev/eject-latency-factor": "2.5",
    }

    seen = compiled(objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=given))

    (backend,) = seen.snapshot.backends.values()
    assert (backend.max_connections, backend.max_retries) == (50, 3)
    assert backend.adaptive_concurrency
    assert backend.eject_latency_factor == 2.5
    assert backend.health_check is None
    assert seen.reasons("a", Kind.SERVICE) == []


@pytest.mark.parametrize(
    ("given", "check"),
    [
        pytest.param({"": "/healthz"}, HealthCheck(path="/healthz"), id="a path is enough"),
        pytest.param(
            {
                "": "/healthz?deep=1",
                "-host": "Shop.example:8080",
                "-statuses": "401, 200-299",
                "-interval": "5s",
                "-timeout": "500ms",
                "-unhealthy": "5",
                "-healthy": "1",
            },
            HealthCheck(
                path="/healthz?deep=1",
                host="shop.example:8080",
                statuses=((200, 299), (401, 401)),
                interval_seconds=5.0,
                timeout_seconds=0.5,
                unhealthy=5,
                healthy=1,
            ),
            id="everything",
        ),
    ],
)
def test_a_service_asks_for_health_checks(
    compiled: Compile, objects: Objects, given: dict[str, str], check: HealthCheck
) -> None:
    annotations = {f"fairway.dev/health-check{name}": value for name, value in given.items()}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=annotations)
    )

    (backend,) = seen.snapshot.backends.values()
    assert backend.health_check == check
    assert seen.reasons("a", Kind.SERVICE) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "healthz"),
        ("", "/a b"),
        ("", "/a\r\nx: y"),
        ("", "/a#b"),
        ("-host", "a b"),
        ("-statuses", "299-200"),
        ("-statuses", "600"),
        ("-statuses", ""),
        ("-interval", "10ms"),
        ("-interval", "soon"),
        ("-timeout", "0s"),
        ("-healthy", "0"),
        ("-unhealthy", "101"),
    ],
)
def test_a_health_check_that_cannot_be_meant_is_a_finding(
    compiled: Compile, objects: Objects, name: str, value: str
) -> None:
    annotations = {"fairway.dev/health-check": "/", f"fairway.dev/health-check{name}": value}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=annotations)
    )

    (backend,) = seen.snapshot.backends.values()
    assert backend.health_check == (HealthCheck(path="/") if name else None)
    assert seen.reasons("a", Kind.SERVICE) == ["InvalidAnnotation"]


def test_a_health_check_without_a_path_is_a_finding(compiled: Compile, objects: Objects) -> None:
    annotations = {"fairway.dev/health-check-interval": "5s"}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=annotations)
    )

    assert seen.reasons("a", Kind.SERVICE) == ["InvalidAnnotation"]
    assert [each.hint for each in seen.findings("a", Kind.SERVICE)] == [
        "add fairway.dev/health-check: /healthz"
    ]


@pytest.mark.parametrize("value", ["1", "0.5", "-2", "fast", "1e9"])
def test_a_factor_that_ejects_everybody_is_a_finding(
    compiled: Compile, objects: Objects, value: str
) -> None:
    annotations = {"fairway.dev/eject-latency-factor": value}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80"), objects.service("a", annotations=annotations)
    )

    (backend,) = seen.snapshot.backends.values()
    assert backend.eject_latency_factor is None
    assert seen.reasons("a", Kind.SERVICE) == ["InvalidAnnotation"]
