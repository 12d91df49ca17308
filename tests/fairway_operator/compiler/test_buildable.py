"""Whatever objects come to, a data plane builds it: one object may not stop the changes of all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.table import EMPTY, RoutingTable, build_table
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.upstream.pool import Upstreams
from fairway_operator.annotations import TABLE
from fairway_operator.refs import Kind
from fairway_snapshot.codec import decode_leaf, encode_leaf
from fairway_snapshot.diff import changes
from fairway_snapshot.model import Backend, BackendId, Section
from fairway_snapshot.tree import EMPTY as EMPTY_SNAPSHOT
from tests.fairway_operator.compiler.conftest import Compile, Objects

if TYPE_CHECKING:
    from fairway_snapshot.tree import Snapshot

Body = dict[str, Any]

LIMITS = Limits(request_seconds=0.0, backend_request_seconds=60.0, body_bytes=1000)

rough = st.text("/%.0zA\\;?#\"' ~é\x00()[]*$|^{}-_:=,", max_size=8)
paths = rough.map("/".__add__)
kinds = st.sampled_from(["Exact", "RegularExpression", "Present"])
values = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from(["a", "X-B"]) | rough, "value": rough})
    | st.fixed_dictionaries({"name": rough, "type": kinds, "value": rough}),
    max_size=2,
)
matches = st.fixed_dictionaries(
    {},
    optional={
        "path": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Exact", "PathPrefix", "RegularExpression"]),
                "value": paths | rough,
            }
        ),
        "method": st.sampled_from(["GET", "CONNECT", "get"]),
        "headers": values,
        "queryParams": values,
    },
)
numbers = st.sampled_from(["0", "1", "0s", "1s", "5%", "2.5", "true", "https", "v2", "99999h"])
service_values = (
    numbers
    | rough
    | st.sampled_from(
        ["consistent-hash header=x", "consistent-hash cookie=a;b", "random", "200-299", "/healthz"]
    )
)
service_annotations = st.dictionaries(
    st.sampled_from(sorted(name for name, row in TABLE.items() if Kind.SERVICE in row.kinds)),
    service_values,
    max_size=4,
)
external = st.none() | rough | st.sampled_from(["A.example.", "127.1", "1.2.3.4", "*.x", "a" * 64])


def build(snapshot: Snapshot) -> RoutingTable:
    """Do with a snapshot what a worker does; it comes over the wire."""
    loop = asyncio.new_event_loop()
    try:
        tally = Tally()
        upstreams = Upstreams(loop, Clock(loop), LIMITS, tally, ClientContexts(None))
        found = list(changes(EMPTY_SNAPSHOT, snapshot))
        for change in found:
            if change.after is not None:
                assert decode_leaf(change.section, encode_leaf(change.after)) == change.after
        table = build_table(EMPTY, found, upstreams=upstreams, limits=LIMITS, tally=tally)
        for change in found:
            if change.section is Section.BACKENDS:
                assert isinstance(change.after, Backend)
                upstreams.update(BackendId(change.key), change.after)
        upstreams.close()
        return table
    finally:
        loop.close()


@given(st.lists(matches, max_size=3), st.lists(rough | st.just("*.b.example"), max_size=2))
@settings(max_examples=200, deadline=None)
def test_matches_and_hosts_of_routes(given_: list[Body], hosts: list[str]) -> None:
    objects = Objects()
    rule = {"matches": given_, "backendRefs": [{"name": "a", "port": 80}]}

    seen = Compile()(
        objects.route("r", rule, hosts=["a.example"]),
        objects.route("s", rule, hosts=hosts),
        objects.web("a"),
    )

    assert build(seen.snapshot) is not None


@given(st.lists(st.tuples(st.sampled_from("=^~"), paths), max_size=3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_paths_of_ingresses(given_: list[tuple[str, str]], patterns: bool) -> None:  # noqa: FBT001 - drawn
    objects = Objects()
    body = objects.ingress(
        "i",
        "x.com ^/ a:80",
        annotations={"nginx.ingress.kubernetes.io/use-regex": str(patterns).lower()},
    )
    types = {"=": "Exact", "^": "Prefix", "~": "ImplementationSpecific"}
    body["spec"]["rules"][0]["http"]["paths"] += [
        {"path": path, "pathType": types[sign], "backend": objects.backend("a:80")}
        for sign, path in given_
    ]

    assert build(Compile()(body, objects.web("a")).snapshot) is not None


@given(service_annotations, external)
@settings(max_examples=200, deadline=None)
def test_services(annotations: dict[str, str], name: str | None) -> None:
    objects = Objects()
    more = {} if name is None else {"type": "ExternalName", "externalName": name}
    service = objects.service(
        "a",
        annotations={f"fairway.dev/{key}": value for key, value in annotations.items()},
        **more,
    )

    seen = Compile()(objects.ingress("i", "x.com ^/ a:80"), service, objects.slice("a", "10.0.0.1"))

    assert build(seen.snapshot) is not None
