"""What the compiler lets through, a data plane can build: else it refuses everybody's changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.filters import build_chain
from fairway_operator.refs import Kind
from tests.fairway_operator.compiler.conftest import Compile, Objects

if TYPE_CHECKING:
    from fairway_snapshot.model import Route

Body = dict[str, Any]

rough = st.text("/%.0zA\\;?#\"' ~é\x00", max_size=8)
paths = rough.map("/".__add__) | st.just("/v2")
hosts = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,70}[a-z0-9])?(\.[a-z0-9]{1,3})?", fullmatch=True)
headers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["x-a", "Host", "x a", "te"]) | rough, "value": rough}
    ),
    max_size=2,
)
rewritten = st.one_of(
    st.fixed_dictionaries({"replaceFullPath": paths}),
    st.fixed_dictionaries({"replacePrefixMatch": paths}),
)
edits = st.fixed_dictionaries(
    {}, optional={"set": headers, "add": headers, "remove": st.lists(rough, max_size=2)}
)
filters = st.one_of(
    st.fixed_dictionaries({"stripPrefix": st.fixed_dictionaries({"prefix": paths})}),
    st.fixed_dictionaries(
        {"rewrite": st.fixed_dictionaries({}, optional={"path": rewritten, "host": hosts})}
    ),
    st.fixed_dictionaries(
        {
            "redirect": st.fixed_dictionaries(
                {},
                optional={
                    "path": rewritten,
                    "host": hosts,
                    "scheme": st.sampled_from(["http", "https", "ftp"]),
                    "port": st.integers(0, 65536),
                    "code": st.sampled_from([200, 301, 308]),
                },
            )
        }
    ),
    st.fixed_dictionaries({"requestHeaders": edits}),
    st.fixed_dictionaries({"responseHeaders": edits}),
    st.fixed_dictionaries(
        {
            "directResponse": st.fixed_dictionaries(
                {"status": st.sampled_from([200, 204, 599, 600])},
                optional={"body": rough, "contentType": rough},
            )
        }
    ),
)


def _built(route: Route | None) -> None:
    if route is not None:
        build_chain(route.filters)


@given(st.lists(filters, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_no_filter_of_a_route_is_refused_by_a_data_plane(given_: list[Body]) -> None:
    rule: Body = {"filters": given_}
    if not any({"redirect", "directResponse"} & each.keys() for each in given_):
        rule["backendRefs"] = [{"name": "a", "port": 80}]
    objects = Objects()

    seen = Compile()(objects.route("r", rule), objects.web("a"))

    _built(seen.route("a.example/"))


@given(
    st.dictionaries(st.sampled_from(["strip-prefix", "rewrite-prefix"]), paths | rough, min_size=1),
    st.dictionaries(
        st.sampled_from(["request-headers", "response-headers"]),
        st.builds("{}: {}".format, st.sampled_from(["x-a", "te"]) | rough, rough),
    ),
)
@settings(max_examples=200, deadline=None)
def test_no_filter_of_an_ingress_is_refused_by_a_data_plane(
    moved: dict[str, str], edited: dict[str, str]
) -> None:
    objects = Objects()
    annotations = {f"fairway.dev/{name}": text for name, text in (moved | edited).items()}

    seen = Compile()(
        objects.ingress("i", "x.com ^/ a:80", annotations=annotations), objects.web("a")
    )

    _built(seen.route("x.com/"))


@pytest.mark.parametrize(
    ("given_", "field"),
    [
        ({"rewrite": {"path": {"replaceFullPath": "/%zz"}}}, "rewrite.path.replaceFullPath"),
        ({"rewrite": {"path": {"replacePrefixMatch": "/%00"}}}, "rewrite.path.replacePrefixMatch"),
        ({"rewrite": {"host": "a" * 64 + ".example"}}, "rewrite.host"),
        ({"redirect": {"path": {"replaceFullPath": "/a%"}}}, "redirect.path.replaceFullPath"),
        ({"redirect": {"host": "a" * 64}}, "redirect.host"),
        ({"stripPrefix": {"prefix": "/%zz"}}, "stripPrefix.prefix"),
    ],
)
def test_what_no_request_can_have_is_told_on_its_field(
    compiled: Compile, objects: Objects, given_: Body, field: str
) -> None:
    rule: Body = {"filters": [given_]}
    if "redirect" not in given_:
        rule["backendRefs"] = [{"name": "a", "port": 80}]

    seen = compiled(objects.route("r", rule), objects.web("a"))

    (finding,) = seen.findings("r", Kind.ROUTE)
    assert (finding.reason, finding.field) == (
        "InvalidFilter",
        f"spec.rules[0].filters[0].{field}",
    )
    assert finding.hint
    assert seen.ask("a.example/") == "503"
