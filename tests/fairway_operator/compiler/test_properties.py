"""
What holds for every World.

Random worlds are made of a few names, so that they collide: the same hosts,
paths, Services and Secrets occur in many objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_operator.compiler import Compilation, Compiler, CompilerSettings, Standing
from fairway_operator.effects import NO_RECEIPTS, EmitEvent, PatchStatus, plan_effects
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import Resource, Undecodable, decode
from fairway_operator.world import EMPTY, World
from tests.fairway_operator.compiler.conftest import Objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fairway_operator.findings import Finding
    from fairway_snapshot.model import HostPattern, VirtualHost

Body = dict[str, Any]

HISTORY_FREE = CompilerSettings(keep_last_good=False)
OURS = decode(
    Kind.INGRESS_CLASS,
    {"metadata": {"name": "fairway"}, "spec": {"controller": "fairway.dev/ingress-controller"}},
)

PAIRS: list[Body] = [
    Objects().secret("pair", "x.com", "y.com", rsa_bits=bits)["data"] for bits in (0, 0, 2048)
]

namespaces = st.sampled_from(["one", "two"])
names = st.sampled_from(["a", "b", "c"])
hosts = st.sampled_from(["x.com", "y.com", "*.x.com", "a.x.com", ""])
paths = st.sampled_from(["/", "/a", "/a/", "/a/b", "/%61"])
ports = st.sampled_from([{"number": 80}, {"name": "http"}, {"number": 81}])
days = st.sampled_from([f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)])

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["host", "http", "paths", "name", "service", "port", "hosts", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@st.composite
def metadata(draw: st.DrawFn) -> Body:
    return {
        "namespace": draw(namespaces),
        "name": draw(names),
        "uid": "same",
        "generation": draw(st.integers(1, 3)),
        "creationTimestamp": draw(days),
    }


foreign = st.dictionaries(
    st.sampled_from(
        ["server-alias", "canary", "auth-url", "rewrite-target", "use-regex", "permanent-redirect"]
    ).map("nginx.ingress.kubernetes.io/".__add__),
    st.sampled_from(["y.com a.x.com", "true", "/b", "https://new.example", "nonsense"]),
    max_size=2,
)


@st.composite
def ingresses(draw: st.DrawFn) -> tuple[Kind, Body]:
    def backend() -> Body:
        return {"service": {"name": draw(names), "port": draw(ports)}}

    rules = []
    for _ in range(draw(st.integers(0, 3))):
        entries = [
            {
                "path": draw(paths),
                "pathType": draw(st.sampled_from(["Exact", "Prefix"])),
                "backend": backend(),
            }
            for _ in range(draw(st.integers(0, 3)))
        ]
        rules.append({"host": draw(hosts), "http": {"paths": entries}})
    spec: Body = {"ingressClassName": draw(st.sampled_from(["fairway", "other"])), "rules": rules}
    if draw(st.booleans()):
        spec["defaultBackend"] = backend()
    if draw(st.booleans()):
        spec["tls"] = [{"hosts": [draw(hosts)], "secretName": draw(names)}]
    annotations = draw(st.just({}) | foreign)
    return Kind.INGRESS, {"metadata": draw(metadata()) | {"annotations": annotations}, "spec": spec}


@st.composite
def routes(draw: st.DrawFn) -> tuple[Kind, Body]:
    match: Body = {"path": {"value": draw(paths)}}
    if draw(st.booleans()):
        match["headers"] = [{"name": "v", "value": "1"}]
    reference: Body = {"name": draw(names), "port": 80}
    if draw(st.booleans()):
        reference["namespace"] = draw(namespaces)
    spec = {
        "hosts": [host for host in draw(st.sets(hosts, max_size=2)) if host],
        "rules": [{"matches": [match], "backendRefs": [reference]}],
    }
    return Kind.ROUTE, {"metadata": draw(metadata()), "spec": spec}


@st.composite
def backing(draw: st.DrawFn) -> tuple[Kind, Body]:
    meta = draw(metadata())
    match draw(st.integers(0, 3)):
        case 0:
            ports_ = [{"name": "http", "port": draw(st.sampled_from([80, 81]))}]
            return Kind.SERVICE, {"metadata": meta, "spec": {"ports": ports_}}
        case 1:
            meta["labels"] = {"kubernetes.io/service-name": draw(names)}
            return Kind.ENDPOINT_SLICE, {
                "metadata": meta,
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": [{"addresses": [f"10.0.0.{draw(st.integers(1, 3))}"]}],
            }
        case 2:
            grant = {
                "from": [{"group": "fairway.dev", "kind": "Route", "namespace": draw(namespaces)}],
                "to": [{"group": "", "kind": "Service"}],
            }
            return Kind.REFERENCE_GRANT, {"metadata": meta, "spec": grant}
        case _:
            data = draw(st.sampled_from([{}, *PAIRS]))
            return Kind.SECRET, {"metadata": meta, "type": "kubernetes.io/tls", "data": data}


@st.composite
def broken(draw: st.DrawFn) -> tuple[Kind, Body]:
    """Something of any shape, in a namespace of its own, and too young to win a conflict."""
    meta = draw(metadata()) | {"namespace": "broken", "creationTimestamp": "2026-02-01T00:00:00Z"}
    spec: Any = draw(json)
    if draw(st.booleans()):
        spec = {
            "ingressClassName": "fairway",
            "rules": draw(json),
            "tls": draw(json),
            "defaultBackend": draw(json),
            "hosts": draw(json),
        }
    meta["annotations"] = draw(st.dictionaries(our_annotations, st.text(max_size=5), max_size=2))
    kind = draw(st.sampled_from(list(Kind)))
    return kind, {"metadata": meta, "spec": spec, "data": draw(json), "endpoints": draw(json)}


our_annotations = st.sampled_from(
    [
        f"fairway.dev/{name}"
        for name in ("strip-prefix", "request-timeout", "balance", "retry-budget", "ssl-redirect")
    ]
)


@st.composite
def mangled(draw: st.DrawFn) -> tuple[Kind, Body]:
    """An Ingress or a Route among the good ones, of which some part is anything at all."""
    kind, body = draw(ingresses() | routes())
    body["metadata"] |= {"name": "bad", "creationTimestamp": "2026-02-01T00:00:00Z"}
    body["metadata"]["annotations"] = draw(
        st.dictionaries(our_annotations, st.text(max_size=5), max_size=2)
    )
    part: Any = body["spec"]
    for _ in range(draw(st.integers(1, 6))):
        keys: list[Any] = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = draw(st.sampled_from(keys or [None]))
        if key is None:
            break
        if not isinstance(part[key], dict | list) or draw(st.booleans()):
            part[key] = draw(json)
            break
        part = part[key]
    return kind, body


parts = st.one_of(ingresses(), routes(), backing(), backing())
worlds = st.lists(
    parts,
    max_size=10,
    unique_by=lambda part: (part[0], part[1]["metadata"]["namespace"], part[1]["metadata"]["name"]),
)


def _decoded(parts_: Iterable[tuple[Kind, Body]]) -> list[Resource | Undecodable]:
    return [OURS, *(decode(kind, body) for kind, body in parts_)]


def _world(resources: Iterable[Resource | Undecodable]) -> World:
    world = EMPTY
    for resource in resources:
        world = world.put(resource)
    return world


def _compile(resources: Iterable[Resource | Undecodable]) -> Compilation:
    return Compiler(HISTORY_FREE).compile(_world(resources))


def _content(compilation: Compilation) -> tuple[object, ...]:
    return (
        compilation.snapshot.root,
        dict(compilation.findings.items()),
        dict(compilation.serving.items()),
    )


@given(worlds, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_order_of_arrival_does_not_matter(parts_: list[tuple[Kind, Body]], random: Any) -> None:
    resources = _decoded(parts_)
    shuffled = list(resources)
    random.shuffle(shuffled)

    assert _content(_compile(resources)) == _content(_compile(shuffled))


@given(worlds, st.lists(st.tuples(parts, st.booleans()), max_size=12))
@settings(max_examples=200, deadline=None)
def test_step_by_step_is_the_same_as_from_scratch(
    start: list[tuple[Kind, Body]], edits: list[tuple[tuple[Kind, Body], bool]]
) -> None:
    compiler = Compiler(HISTORY_FREE)
    world = _world(_decoded(start))
    before = compiler.compile(world)
    for (kind, body), deleted in edits:
        resource = decode(kind, body)
        world = world.remove(resource.ref) if deleted else world.put(resource)
        after = compiler.compile(world)

        assert _content(after) == _content(Compiler(HISTORY_FREE).compile(world))
        assert after.touched == _differences(before, after)
        before = after


def _differences(before: Compilation, after: Compilation) -> set[ObjectRef]:
    refs = {*before.findings, *after.findings, *before.serving, *after.serving}
    return {
        ref
        for ref in refs
        if before.findings.get(ref) != after.findings.get(ref)
        or before.serving.get(ref) != after.serving.get(ref)
    }


@given(worlds, st.lists(broken() | mangled(), min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_broken_objects_leave_what_others_have_as_it_was(
    good: list[tuple[Kind, Body]], bad: list[tuple[Kind, Body]]
) -> None:
    resources = _decoded(good)
    before = _compile(resources)

    after = _compile([*resources, *_decoded(bad)[1:]])

    kept, had = _routes_of_others(after), _routes_of_others(before)
    assert {host: kept.get(host, ()) for host in had} == had
    old, new = before.snapshot, after.snapshot
    for section in ("backends", "certificates", "server_names"):
        present = dict(getattr(new, section).items())
        for key, leaf in getattr(old, section).items():
            assert present[key] == leaf, section
    for ref, findings in before.findings.items():
        assert _of_what_was_written(after.findings.get(ref, ())) == _of_what_was_written(findings)


def _of_what_was_written(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings but those of a default backend, which gives way and is told nothing."""
    return [each for each in findings if each.field != "spec.defaultBackend"]


@given(worlds, mangled())
@settings(max_examples=200, deadline=None)
def test_what_is_quarantined_is_visible_wherever_people_look(
    good: list[tuple[Kind, Body]], bad: tuple[Kind, Body]
) -> None:
    """In conditions, events, status and the standing that metrics and the CLI show."""
    resource = decode(*bad)
    world = _world([*_decoded(good), resource])
    after = Compiler(HISTORY_FREE).compile(world)
    serving = after.serving.get(resource.ref)
    if serving is None:
        # Nobody's, or not of our class: nobody is told anything.
        assert resource.ref not in after.findings or isinstance(resource, Undecodable)
        return

    findings = after.findings.get(resource.ref, ())
    effects = plan_effects(
        after, world, NO_RECEIPTS, ("203.0.113.7",), now="2026-02-02T00:00:00Z",
        only={resource.ref},
    )  # fmt: skip

    told = [each for each in effects if isinstance(each, EmitEvent)]
    assert [each.reason for each in told] == [each.reason for each in findings]
    errors = [each for each in findings if each.severity == "error" and each.reason != "Conflict"]
    (status,) = [each.manifest["status"] for each in effects if isinstance(each, PatchStatus)]
    assert any(not each.status for each in serving.conditions) >= bool(errors)
    assert (serving.standing is not Standing.LIVE) <= bool(errors)
    if errors:
        assert any(each.reason in str(status) for each in errors)


def _routes_of_others(compilation: Compilation) -> dict[HostPattern, list[str]]:
    """Return routes as their authors wrote them; a default backend gives way to a written path."""
    found = {
        host: [
            str(route)
            for route in virtual_host.routes
            if "/bad/" not in route.name
            and not route.name.startswith("broken/")
            and not route.name.endswith("/default")
        ]
        for host, virtual_host in compilation.snapshot.hosts.items()
    }
    return {host: lines for host, lines in found.items() if lines}


@given(worlds, ingresses() | routes())
@settings(max_examples=200, deadline=None)
def test_the_youngest_object_changes_nothing_for_others(
    others: list[tuple[Kind, Body]], newcomer: tuple[Kind, Body]
) -> None:
    kind, body = newcomer
    body["metadata"] |= {"namespace": "new", "creationTimestamp": "2026-02-01T00:00:00Z"}
    resources = _decoded(others)

    before = _compile(resources)
    after = _compile([*resources, decode(kind, body)])

    kept, had = _routes(after, without="new"), _routes(before, without="new")
    # A default backend gives way to a path that somebody has written; nothing else gives way.
    for host, virtual_host in had.items():
        now = kept.get(host, ())
        assert [route for route in virtual_host if "/default" not in route] == [
            route for route in now if "/default" not in route
        ]


def _routes(compilation: Compilation, *, without: str) -> dict[HostPattern, tuple[str, ...]]:
    """Return the routes of each host, but those of one namespace."""
    found = {
        host: tuple(_lines(virtual_host, without))
        for host, virtual_host in compilation.snapshot.hosts.items()
    }
    return {host: lines for host, lines in found.items() if lines}


def _lines(virtual_host: VirtualHost, without: str) -> Iterable[str]:
    for route in virtual_host.routes:
        if not route.name.startswith(f"{without}/"):
            yield f"{route.name} {route}"


@given(worlds)
@settings(max_examples=100, deadline=None)
def test_equal_meaning_has_an_equal_digest(parts_: list[tuple[Kind, Body]]) -> None:
    """Other uids, generations, statuses and labels mean the same."""
    first = _compile(_decoded(parts_))
    for _, body in parts_:
        body["metadata"] |= {"uid": "another", "generation": 9, "resourceVersion": "77"}
        body["status"] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}

    assert _compile(_decoded(parts_)).snapshot.root == first.snapshot.root
