"""Bodies of any shape: tolerant where the API server is, and never an exception."""

import gc
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_operator.refs import CLUSTER_SCOPED, Kind, ObjectRef
from fairway_operator.resources import (
    EndpointSlice,
    Ingress,
    IngressClass,
    ReferenceGrant,
    Route,
    Secret,
    Service,
    Undecodable,
    decode,
)

WORDS = """
    metadata name namespace uid generation creationTimestamp annotations labels managedFields
    manager fieldsV1 f:status spec ingressClassName defaultBackend rules host http paths path
    pathType backend service port number resource tls hosts secretName status loadBalancer ingress
    ip hostname conditions type reason message controller parameters ports targetPort protocol
    appProtocol externalName ipFamilies externalIPs addressType endpoints addresses ready serving
    terminating data stringData tls.crt tls.key from to group kind matches filters backendRefs
    weight fairway.dev/strip-prefix kubernetes.io/service-name
    """
FIELDS = st.sampled_from(WORDS.split()) | st.text(max_size=4)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "x.com", "/a", "Exact", "Prefix", "IPv4", "TCP", "ExternalName"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(FIELDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.sampled_from(list(Kind)), JSON)
@settings(max_examples=250, deadline=None)
def test_anything_at_all_is_decoded_or_undecodable(kind: Kind, body: Any) -> None:
    resource = decode(kind, body)

    assert resource.ref.kind is kind
    assert str(resource) is not None


@given(st.sampled_from(list(Kind)), st.dictionaries(FIELDS, JSON, max_size=6), JSON)
@settings(max_examples=250, deadline=None)
def test_anything_under_a_good_name_keeps_the_name(kind: Kind, body: Any, metadata: Any) -> None:
    fields = metadata if isinstance(metadata, dict) else {}
    body["metadata"] = fields | {"name": "good", "namespace": "shop"}

    resource = decode(kind, body)

    assert resource.ref == ObjectRef(kind, "" if kind in CLUSTER_SCOPED else "shop", "good")
    findings = resource.findings if isinstance(resource, Undecodable) else resource.problems
    assert all(finding.subject == resource.ref and finding.message for finding in findings)


@pytest.mark.parametrize(
    "body", [None, [], "x", 7, {}, {"metadata": {}}, {"metadata": {"name": 1}}]
)
def test_an_object_without_a_name_is_undecodable(body: Any) -> None:
    resource = decode(Kind.INGRESS, body)

    assert isinstance(resource, Undecodable)
    assert resource.findings


@pytest.mark.parametrize("name", ["A", "a/b", "", "a" * 254, "a\n", "-a", "..", "\ud800"])
def test_a_name_that_cannot_be_one(name: str) -> None:
    assert isinstance(decode(Kind.SERVICE, {"metadata": {"name": name}}), Undecodable)


def ingress(spec: Any, **metadata: Any) -> Ingress:
    found = decode(Kind.INGRESS, {"metadata": {"name": "i"} | metadata, "spec": spec})
    assert isinstance(found, Ingress)
    return found


def test_absent_parts_are_ordinary() -> None:
    found = ingress({})

    assert found.problems == ()
    assert found.ref == ObjectRef(Kind.INGRESS, "default", "i")
    assert (found.metadata.created, found.metadata.generation) == ("", 0)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T05:04:05+02:00", "2026-01-02T03:04:05Z"),
        (datetime.fromisoformat("2026-01-02T03:04:05"), "2026-01-02T03:04:05Z"),
        (None, ""),
        ("yesterday", ""),
        (7, ""),
    ],
)
def test_creation_timestamps_have_one_form(written: Any, read: str) -> None:
    assert ingress({}, creationTimestamp=written).metadata.created == read


def test_each_mistake_is_told_with_its_field_and_the_rest_is_read() -> None:
    path = {"path": "/a", "pathType": "Prefix", "backend": {"service": {"name": "w"}}}
    found = ingress(
        {
            "ingressClassName": 7,
            "rules": [
                "text",
                {"host": "x.com", "http": {"paths": [path, 7, {"path": 7, "pathType": "Exact"}]}},
                {"host": ["y.com"]},
            ],
            "tls": {"hosts": []},
        }
    )

    assert [finding.field for finding in found.problems] == [
        "spec.ingressClassName",
        "spec.rules[0]",
        "spec.rules[1].http.paths[0].backend.service.port",
        "spec.rules[1].http.paths[1]",
        "spec.rules[1].http.paths[2].path",
        "spec.rules[2].host",
        "spec.tls",
    ]
    assert [rule.host for rule in found.rules] == ["x.com"]


def test_a_path_type_has_to_be_written() -> None:
    spec = {"rules": [{"http": {"paths": [{"path": "/", "backend": {}}]}}]}

    (finding,) = ingress(spec).problems

    assert finding.field == "spec.rules[0].http.paths[0].pathType"
    assert finding.hint == "write Exact, Prefix or ImplementationSpecific"


def test_hosts_of_tls_that_are_all_bad_do_not_become_every_host() -> None:
    assert ingress({"tls": [{"hosts": ["BAD"], "secretName": "s"}]}).tls == ()


def test_a_list_that_no_api_server_would_hold_is_not_walked() -> None:
    (finding,) = ingress({"rules": [{}] * 10_001}).problems

    assert finding.reason == "TooLarge"


def test_who_wrote_a_status_is_known() -> None:
    ours = {"manager": "fairway-operator", "fieldsV1": {"f:status": {"f:loadBalancer": {}}}}
    theirs = {**ours, "manager": "nginx"}
    metadata_only = {"manager": "fairway-operator", "fieldsV1": {"f:metadata": {}}}

    assert ingress({}, managedFields=[theirs, ours]).status_managers == (
        "fairway-operator",
        "nginx",
    )
    assert ingress({}, managedFields=[theirs, metadata_only, 7]).status_managers == ("nginx",)


def test_addresses_of_a_status() -> None:
    body = {
        "metadata": {"name": "i"},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "lb.x"}, 7, {}]}},
    }

    found = decode(Kind.INGRESS, body)

    assert isinstance(found, Ingress)
    assert found.addresses == ("1.2.3.4", "lb.x")


def test_a_secret_keeps_nothing_that_is_not_of_tls() -> None:
    content = {"tls.crt": "Y3J0", "tls.key": "a2V5", "password": "c2VjcmV0"}

    opaque = decode(Kind.SECRET, {"metadata": {"name": "s"}, "type": "Opaque", "data": content})
    found = decode(
        Kind.SECRET, {"metadata": {"name": "s"}, "type": "kubernetes.io/tls", "data": content}
    )

    assert isinstance(opaque, Secret)
    assert isinstance(found, Secret)
    assert (opaque.chain, opaque.key) == (None, None)
    assert found.chain == b"crt"
    assert found.key is not None
    assert found.key.reveal() == b"key"
    assert "key" not in repr(found.key)
    assert b"secret" not in [each for each in gc.get_referents(found) if isinstance(each, bytes)]


def test_string_data_of_a_file_goes_before_data() -> None:
    body = {
        "metadata": {"name": "s"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "Y3J0"},
        "stringData": {"tls.crt": "plain"},
    }

    found = decode(Kind.SECRET, body)

    assert isinstance(found, Secret)
    assert found.chain == b"plain"


def test_a_secret_that_is_not_base64_is_told_without_its_content() -> None:
    body = {
        "metadata": {"name": "s"},
        "type": "kubernetes.io/tls",
        "data": {"tls.key": "hunter2!"},
    }

    found = decode(Kind.SECRET, body)

    assert isinstance(found, Secret)
    (finding,) = found.problems
    assert "hunter2" not in str(finding)


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({}, "ready"),
        (None, "ready"),
        ({"ready": None}, "ready"),
        ({"ready": True, "terminating": True}, "ready"),
        ({"ready": False}, "out"),
        ({"ready": False, "serving": True}, "out"),
        ({"ready": False, "serving": True, "terminating": True}, "draining"),
        ({"ready": False, "serving": None, "terminating": True}, "out"),
        ({"ready": "yes"}, "ready"),
    ],
)
def test_s4_conditions_of_an_endpoint(conditions: Any, state: str) -> None:
    body = {
        "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}],
    }

    found = decode(Kind.ENDPOINT_SLICE, body)

    assert isinstance(found, EndpointSlice)
    assert found.ready == (("10.0.0.1",) if state == "ready" else ())
    assert found.draining == (("10.0.0.1",) if state == "draining" else ())


@pytest.mark.parametrize(
    ("family", "address"),
    [("IPv4", "fd00::1"), ("IPv6", "10.0.0.1"), ("IPv4", "10.0.0"), ("IPv6", "fe80::1%eth0")],
)
def test_an_address_of_another_family_is_left_out(family: str, address: str) -> None:
    body = {
        "metadata": {"name": "s"},
        "addressType": family,
        "endpoints": [{"addresses": [address]}],
    }

    found = decode(Kind.ENDPOINT_SLICE, body)

    assert isinstance(found, EndpointSlice)
    assert found.ready == ()
    assert [finding.field for finding in found.problems] == ["endpoints[0].addresses[0]"]


def test_a_service_keeps_its_tcp_ports_and_outside_addresses() -> None:
    body = {
        "metadata": {"name": "s"},
        "spec": {
            "ports": [
                {"port": 80},
                {"port": 53, "protocol": "UDP"},
                {"port": 99999},
                {"port": True},
            ],
            "externalIPs": ["203.0.113.7"],
        },
        "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}},
    }

    found = decode(Kind.SERVICE, body)

    assert isinstance(found, Service)
    assert [port.number for port in found.ports] == [80]
    assert found.addresses == ("lb.example", "203.0.113.7")


def test_a_class_and_its_default() -> None:
    metadata = {
        "name": "c",
        "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
    }

    found = decode(Kind.INGRESS_CLASS, {"metadata": metadata, "spec": {"controller": "x/y"}})

    assert isinstance(found, IngressClass)
    assert (found.controller, found.is_default, found.ref.namespace) == ("x/y", True, "")


def test_a_grant_that_cannot_be_read_grants_nothing() -> None:
    body = {
        "metadata": {"name": "g", "namespace": "data"},
        "spec": {
            "from": [{"group": "fairway.dev", "kind": "Route"}, 7],
            "to": [{"group": "", "kind": "Service", "name": 7}],
        },
    }

    found = decode(Kind.REFERENCE_GRANT, body)

    assert isinstance(found, ReferenceGrant)
    assert (found.sources, found.targets) == ((), ())


RULE = {"backendRefs": [{"name": "a", "port": 80}]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (None, "spec"),
        ({}, "spec"),
        ({"rules": []}, "spec.rules"),
        ({"rules": [RULE], "hosts": "x.com"}, "spec.hosts"),
        ({"rules": [RULE], "hosts": ["X.com"]}, "spec.hosts[0]"),
        ({"rules": [RULE], "hosts": ["x.com\n"]}, "spec.hosts[0]"),
        ({"rules": [RULE | {"timeouts": {"request": "10"}}]}, "spec.rules[0].timeouts.request"),
        ({"rules": [RULE | {"timeouts": {"request": "1s\n"}}]}, "spec.rules[0].timeouts.request"),
        ({"rules": [{"backendRefs": [{"name": "a"}]}]}, "spec.rules[0].backendRefs[0]"),
        (
            {"rules": [{"backendRefs": [{"name": "a", "port": 0}]}]},
            "spec.rules[0].backendRefs[0].port",
        ),
        ({"rules": [RULE | {"retry": {"attempts": 99}}]}, "spec.rules[0].retry.attempts"),
        ({"rules": [RULE | {"retry": {"budget": 101}}]}, "spec.rules[0].retry.budget"),
        ({"rules": [{"filters": [{"addHeader": {}}]}]}, "spec.rules[0].filters[0]"),
        ({"rules": [RULE, {"matches": [{"method": "get"}]}]}, "spec.rules[1].matches[0].method"),
        ({"rules": "\ud800"}, "spec"),
    ],
)
def test_a_route_that_its_schema_refuses_is_undecodable_and_says_where(
    spec: Any, field: str
) -> None:
    found = decode(Kind.ROUTE, {"metadata": {"name": "r"}, "spec": spec})

    assert isinstance(found, Undecodable)
    assert [finding.field for finding in found.findings] == [field]


def test_a_route_nested_beyond_reason_is_undecodable() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"x": deep}

    found = decode(Kind.ROUTE, {"metadata": {"name": "r"}, "spec": deep})

    assert isinstance(found, Undecodable)
    while deep:  # Taken apart by hand: its own destruction would nest as deeply.
        deep = deep["x"]


def test_a_route_keeps_its_conditions() -> None:
    condition = {
        "type": "Programmed",
        "status": "True",
        "reason": "Programmed",
        "message": "m",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = {
        "metadata": {"name": "r"},
        "spec": {"rules": [RULE]},
        "status": {"conditions": [condition, 7, {"type": 7}]},
    }

    found = decode(Kind.ROUTE, body)

    assert isinstance(found, Route)
    first, _ = found.conditions
    assert (first.type, first.generation, first.since) == ("Programmed", 3, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(("value", "hint"), [(False, '"false"'), (60, '"60"'), (1.5, '"1.5"')])
def test_a_value_without_quotes_is_told_how_it_is_written_with_them(
    value: object, hint: str
) -> None:
    annotations = {"nginx.ingress.kubernetes.io/ssl-redirect": value}

    (finding,) = ingress({}, annotations=annotations).problems

    assert finding.field == "metadata.annotations[nginx.ingress.kubernetes.io/ssl-redirect]"
    assert finding.hint == f"put it in quotes: {hint}"
