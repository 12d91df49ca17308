"""What holds for every review, whatever is written into the object and around it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_operator.admission.review import REFUSED_FOR
from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.findings import Severity
from fairway_operator.refs import Kind
from fairway_operator.resources import Undecodable, decode
from fairway_operator.world import EMPTY

if TYPE_CHECKING:
    from tests.fairway_operator.admission.conftest import Cluster, Clusters, Questions

Body = dict[str, Any]

OURS = {
    "metadata": {"name": "fairway"},
    "spec": {"controller": "fairway.dev/ingress-controller"},
}

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
names = st.sampled_from(["a", "b"])
hosts = st.sampled_from(["x.com", "*.x.com", "", "x..com", "*"])
paths = st.sampled_from(["/", "/a", "/a/", "relative", "/a/../b", "", "/a b"])
remarks = st.dictionaries(
    st.sampled_from(["fairway.dev/request-timeout", "fairway.dev/strip-prefix", "fairway.dev/x"]),
    st.sampled_from(["1s", "/a", "soon", ""]),
    max_size=2,
)


@st.composite
def ingress_specs(draw: st.DrawFn) -> Body:
    def entry() -> Body:
        backend: Body = {"service": {"name": draw(names), "port": {"number": 80}}}
        if draw(st.integers(0, 5)) == 0:
            backend = draw(st.sampled_from([{}, {"resource": {"kind": "Bucket"}}, {"service": {}}]))
        kind = draw(st.sampled_from(["Exact", "Prefix", "ImplementationSpecific", "Regex"]))
        return {"path": draw(paths), "pathType": kind, "backend": backend}

    rules = [
        {"host": draw(hosts), "http": {"paths": [entry() for _ in range(draw(st.integers(0, 2)))]}}
        for _ in range(draw(st.integers(0, 2)))
    ]
    tls = [{"hosts": [draw(hosts)], "secretName": draw(names)}] if draw(st.booleans()) else []
    return {"rules": rules, "tls": tls}


@st.composite
def route_specs(draw: st.DrawFn) -> Body:
    kind = draw(st.sampled_from(["PathPrefix", "Exact", "RegularExpression"]))
    value = draw(st.sampled_from(["/", "/a", "/(", "/(a)\\1", "/a?b"]))
    filters = st.sampled_from(
        [{}, {"stripPrefix": {"prefix": "/a"}}, {"rewrite": {}}, {"redirect": {"code": 200}}]
    )
    rule: Body = {
        "matches": [{"path": {"type": kind, "value": value}}],
        "filters": draw(st.lists(filters, max_size=2)),
        "backendRefs": [{"name": draw(names), "port": 80}],
    }
    if draw(st.booleans()):
        rule["backendRefs"][0]["namespace"] = "elsewhere"
    listed = draw(st.lists(hosts.filter(bool), max_size=2, unique=True))
    return {"hosts": listed, "rules": [rule]}


@st.composite
def objects_(draw: st.DrawFn, name: str = "mine") -> Body:
    kind = draw(st.sampled_from(["Ingress", "Route"]))
    spec: Any = draw(ingress_specs() if kind == "Ingress" else route_specs())
    spec["ingressClassName"] = draw(st.sampled_from(["fairway", "fairway", "other"]))
    match draw(st.integers(0, 6)):
        case 0:
            spec = draw(junk)
        case 1:
            spec |= draw(st.dictionaries(st.sampled_from(["rules", "hosts", "tls"]), junk))
        case _:
            pass
    day = draw(st.integers(1, 3))
    metadata = {
        "name": name,
        "namespace": "shop",
        "creationTimestamp": f"2026-01-0{day}T00:00:00Z",
        "annotations": draw(remarks),
    }
    return {"kind": kind, "metadata": metadata, "spec": spec}


@st.composite
def neighbours(draw: st.DrawFn) -> list[Body]:
    around = [draw(objects_(f"other-{at}")) for at in range(draw(st.integers(0, 3)))]
    for name in draw(st.sets(names)):
        meta = {"name": name, "namespace": "shop"}
        around.append({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})
        around.append({"kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls"})
    return around


def faults(cluster: Cluster, around: list[Body], body: Body) -> set[str]:
    """Return the errors of the object itself that the compiler reports once it is there."""
    kind = Kind(body["kind"])
    resource = decode(kind, body)
    spec = body["spec"]
    name = spec.get("ingressClassName") if isinstance(spec, dict) else None
    if isinstance(resource, Undecodable) and name != "fairway":
        return set()
    ours = {
        "metadata": {"name": "fairway"},
        "spec": {"controller": "fairway.dev/ingress-controller"},
    }
    world = EMPTY.put(decode(Kind.INGRESS_CLASS, ours))
    for each in around:
        world = world.put(decode(Kind(each["kind"]), each))
    compiler = Compiler(CompilerSettings(keep_last_good=False))
    found = compiler.compile(world.put(resource)).findings.get(resource.ref, ())
    return {
        each.message
        for each in found
        if each.severity is Severity.ERROR and each.reason in REFUSED_FOR
    }


@given(objects_(), neighbours())
@settings(max_examples=250, deadline=None)
def test_refused_is_what_the_compiler_finds_wrong_in_the_object_itself(
    clusters: Clusters, ask: Questions, body: Body, around: list[Body]
) -> None:
    cluster = clusters.bare(*around)
    request = ask(body)

    verdict = cluster.judge(request)

    assert {error.message for error in verdict.errors} == faults(cluster, around, body)
    assert ask.response(request, verdict)["allowed"] is not bool(verdict.errors)
    assert cluster.judge(request) == verdict


@given(objects_(), neighbours())
@settings(max_examples=150, deadline=None)
def test_nobody_else_can_make_an_object_refused(
    clusters: Clusters, body: Body, around: list[Body]
) -> None:
    alone, among_others = clusters.bare().create(body), clusters.bare(*around).create(body)

    assert alone.errors == among_others.errors


@given(objects_(), objects_(), neighbours(), st.dictionaries(st.text(max_size=3), st.text()))
@settings(max_examples=150, deadline=None)
def test_an_update_is_never_refused_for_what_was_there_before(
    clusters: Clusters, before: Body, after: Body, around: list[Body], labels: Body
) -> None:
    after["kind"] = before["kind"]
    cluster = clusters.bare(*around)
    relabelled = copy.deepcopy(before)
    relabelled["metadata"]["labels"] = labels

    assert cluster.update(before, relabelled).word == "allowed"
    assert set(cluster.update(before, after).errors) <= set(cluster.create(after).errors)


@given(
    st.dictionaries(st.sampled_from(["metadata", "spec", "status", "kind"]), junk), st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_a_review_never_raises(
    clusters: Clusters,
    ask: Questions,
    body: Body,
    of_route: bool,  # noqa: FBT001 - drawn
) -> None:
    kind = "Route" if of_route else "Ingress"
    request = ask({"metadata": None, "spec": None} | body | {"kind": kind})

    assert ask.response(request, clusters(watch_without_class=True).judge(request))["uid"]
