"""Route: its vocabulary, precedence, weights, filters and grants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.filters import (
    Header,
    HttpsRedirect,
    Redirect,
    RequestHeaders,
    ResponseHeaders,
    RewriteHost,
    RewritePath,
    StripPrefix,
)
from fairway_snapshot.model import Retry, Timeouts

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects

A = {"backendRefs": [{"name": "a", "port": 80}]}
B = {"backendRefs": [{"name": "b", "port": 80}]}
TEXT_A = {"filters": [{"directResponse": {"status": 201}}]}


def path(value: str, kind: str = "PathPrefix") -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}}


def regex(value: str) -> dict[str, Any]:
    return path(value, "RegularExpression")


@pytest.mark.parametrize(
    ("first", "second", "url", "method", "headers"),
    [
        pytest.param(path("/x"), path("/x", "Exact"), "/x", "GET", {}, id="Exact beats PathPrefix"),
        pytest.param(regex("/x.*"), path("/x", "Exact"), "/x", "GET", {}, id="Exact beats regex"),
        pytest.param(
            path("/longer/prefix"),
            regex("/l.*"),
            "/longer/prefix",
            "GET",
            {},
            id="regex beats prefix",
        ),
        pytest.param(regex("/.*"), regex("/xyz.*"), "/xyz1", "GET", {}, id="the longer regex"),
        pytest.param(path("/x"), path("/x/y"), "/x/y/z", "GET", {}, id="the longer prefix"),
        pytest.param(
            path("/x"), path("/x") | {"method": "POST"}, "/x", "POST", {}, id="a method beats none"
        ),
        pytest.param(
            path("/x") | {"headers": [{"name": "a", "value": "1"}]},
            path("/x") | {"method": "POST"},
            "/x",
            "POST",
            {"a": "1"},
            id="a method beats headers",
        ),
        pytest.param(
            path("/x") | {"headers": [{"name": "a", "value": "1"}]},
            path("/x")
            | {"headers": [{"name": "A", "value": "1"}, {"name": "b", "type": "Present"}]},
            "/x",
            "GET",
            {"a": "1", "b": ""},
            id="more headers",
        ),
        pytest.param(
            path("/x"),
            path("/x") | {"queryParams": [{"name": "v", "value": "2"}]},
            "/x?v=2",
            "GET",
            {},
            id="more query parameters",
        ),
        pytest.param(
            path("/x") | {"queryParams": [{"name": "v", "value": "2"}]},
            path("/x")
            | {"headers": [{"name": "a", "type": "RegularExpression", "value": "[0-9]+"}]},
            "/x?v=2",
            "GET",
            {"a": "77"},
            id="headers beat query parameters",
        ),
    ],
)
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
def test_precedence(  # noqa: PLR0917 - columns of the table
    compiled: Compile,
    objects: Objects,
    first: dict[str, Any],
    second: dict[str, Any],
    url: str,
    method: str,
    headers: dict[str, str],
    *,
    turned: bool,
) -> None:
    """The second match wins whatever the order of the rules, and without it the first does."""
    rules = [A | {"matches": [first]}, B | {"matches": [second]}]

    seen = compiled(
        objects.route("r", *(reversed(rules) if turned else rules)),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask(f"a.example{url}", method, headers) == "shop/b:80"
    alone = compiled(objects.route("r", rules[0]), objects.web("a"))
    assert alone.ask(f"a.example{url}", method, headers) == "shop/a:80"


def test_of_equals_the_older_object_then_the_first_rule_goes_first(
    compiled: Compile, objects: Objects
) -> None:
    one = {"matches": [regex("/a.*")]}
    two = {"matches": [regex("/.*z")]}
    webs = objects.web("a") + objects.web("b")

    same = compiled(objects.route("r", A | one, B | two), webs)
    assert same.ask("a.example/az") == "shop/a:80"
    aged = compiled(
        objects.route("young", A | one, age=1), objects.route("zz-old", B | two, age=2), webs
    )
    assert aged.ask("a.example/az") == "shop/b:80"


def test_a_rule_without_matches_is_for_everything(compiled: Compile, objects: Objects) -> None:
    seen = compiled(objects.route("r", A, hosts=()), objects.web("a"))

    assert seen.ask("any.example/x") == "shop/a:80"


@pytest.mark.parametrize(
    ("refs", "shares"),
    [
        ([("a", 90), ("b", 10)], [("shop/a:80", 9), ("shop/b:80", 1)]),
        ([("b", 10), ("a", 90)], [("shop/a:80", 9), ("shop/b:80", 1)]),
        ([("a", 5)], [("shop/a:80", 1)]),
        ([("a", 1), ("b", 0)], [("shop/a:80", 1)]),
        ([("a", 1), ("a", 2), ("b", 3)], [("shop/a:80", 1), ("shop/b:80", 1)]),
        ([("a", 0), ("b", 0)], [("shop/-:0", 1)]),
        ([("a", 3), ("missing", 1)], [("shop/a:80", 3), ("shop/missing:80", 1)]),
    ],
)
def test_weights(
    compiled: Compile, objects: Objects, refs: list[tuple[str, int]], shares: list[tuple[str, int]]
) -> None:
    rule = {"backendRefs": [{"name": name, "port": 80, "weight": each} for name, each in refs]}

    seen = compiled(objects.route("r", rule), objects.web("a"), objects.web("b"))

    route = seen.route("a.example/")
    assert route is not None
    assert [(each.backend, each.weight) for each in route.backends] == shares


def filters_of(compiled: Compile, objects: Objects, given: list[Any], match: Any) -> list[Any]:
    seen = compiled(
        objects.route("r", A | {"filters": given, "matches": [match]}), objects.web("a")
    )
    assert seen.findings() == ()
    route = seen.route("a.example/shop/x")
    assert route is not None
    return list(route.filters)


def test_filters(compiled: Compile, objects: Objects) -> None:
    given = [
        {"stripPrefix": {"prefix": "/shop/"}},
        {"rewrite": {"path": {"replacePrefixMatch": "/v2"}, "host": "inner.example"}},
        {
            "requestHeaders": {
                "set": [{"name": "X-B", "value": "2"}, {"name": "X-A", "value": "1"}],
                "remove": ["X-Debug", "x-debug"],
            }
        },
        {"responseHeaders": {"add": [{"name": "x-c", "value": "3"}]}},
    ]

    made = filters_of(compiled, objects, given, path("/shop/"))

    assert made == [
        StripPrefix(prefix="/shop"),
        RewritePath(replacement="/v2", prefix="/shop"),
        RewriteHost(host="inner.example"),
        RequestHeaders(
            set=(Header(name="x-a", value="1"), Header(name="x-b", value="2")), remove=("x-debug",)
        ),
        ResponseHeaders(add=(Header(name="x-c", value="3"),)),
    ]


def test_a_redirect_answers_without_backends(compiled: Compile, objects: Objects) -> None:
    given = {"scheme": "https", "host": "b.example", "port": 8443, "code": 301}
    rule = {"filters": [{"redirect": given | {"path": {"replaceFullPath": "/new"}}}]}

    route = compiled(objects.route("r", rule)).route("a.example/x")

    assert route is not None
    assert route.backends == ()
    assert route.filters == (
        Redirect(status=301, scheme="https", host="b.example", port=8443, path="/new"),
    )


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({}, ""),
        ({"stripPrefix": {"prefix": "/x"}, "rewrite": {"host": "b.example"}}, ""),
        ({"stripPrefix": {"prefix": "//"}}, ".stripPrefix.prefix"),
        ({"rewrite": {}}, ".rewrite"),
        ({"rewrite": {"path": {}}}, ".rewrite.path"),
        ({"rewrite": {"path": {"replaceFullPath": "/a?b"}}}, ".rewrite.path.replaceFullPath"),
        (
            {"rewrite": {"path": {"replaceFullPath": "/a", "replacePrefixMatch": "/b"}}},
            ".rewrite.path",
        ),
        ({"requestHeaders": {"set": [{"name": "Host", "value": "x"}]}}, ".requestHeaders.set"),
        ({"requestHeaders": {"remove": ["Content-Length"]}}, ".requestHeaders.remove"),
        ({"responseHeaders": {"add": [{"name": "te", "value": "x"}]}}, ".responseHeaders.add"),
    ],
)
def test_a_rule_is_not_served_without_one_of_its_filters(
    compiled: Compile, objects: Objects, bad: dict[str, Any], field: str
) -> None:
    rules = [
        A | {"matches": [path("/bad")], "filters": [bad]},
        A | {"matches": [path("/good")]},
    ]

    seen = compiled(objects.route("r", *rules), objects.web("a"))

    (finding,) = seen.findings("r", Kind.ROUTE)
    assert (finding.reason, finding.field) == ("InvalidFilter", f"spec.rules[0].filters[0]{field}")
    assert finding.hint
    assert seen.ask("a.example/bad/x") == "503"
    assert seen.ask("a.example/good/x") == "shop/a:80"


def test_only_a_prefix_has_a_prefix_to_replace(compiled: Compile, objects: Objects) -> None:
    given = {"rewrite": {"path": {"replacePrefixMatch": "/v2"}}}
    rule = A | {"filters": [given], "matches": [path("/x", "Exact"), path("/y")]}

    seen = compiled(objects.route("r", rule), objects.web("a"))

    assert seen.ask("a.example/x") == "503"
    assert seen.ask("a.example/y") == "shop/a:80"
    assert seen.reasons("r", Kind.ROUTE) == ["InvalidFilter"]


@pytest.mark.parametrize(
    ("match", "field"),
    [
        (regex("/(a"), "path.value"),
        (regex("/(a)\\1"), "path.value"),
        (regex("/(?=a)"), "path.value"),
        (regex("/(((a{100}){100}){100})"), "path.value"),
        (regex("/" + "a" * 600), "path.value"),
        (path("no-slash"), "path.value"),
        (path("/a?b=c"), "path.value"),
        (path("/a//b"), "path.value"),
        (path("/%zz"), "path.value"),
        (path("/x") | {"headers": [{"name": "a", "type": "RegularExpression", "value": "["}]},
         "headers[0].value"),
        (path("/x") | {"queryParams": [{"name": "a", "type": "RegularExpression", "value": "["}]},
         "queryParams[0].value"),
    ],
)  # fmt: skip
def test_a_bad_match_is_left_out_and_its_siblings_serve(
    compiled: Compile, objects: Objects, match: dict[str, Any], field: str
) -> None:
    rule = A | {"matches": [match, path("/good")]}

    seen = compiled(objects.route("r", rule), objects.web("a"))

    (finding,) = seen.findings("r", Kind.ROUTE)
    assert finding.reason == "InvalidMatch"
    assert finding.field == f"spec.rules[0].matches[0].{field}"
    assert seen.ask("a.example/good") == "shop/a:80"
    assert seen.ask("a.example/x") == "404"


@pytest.mark.parametrize(
    ("rule", "reason", "answer"),
    [
        ({}, "InvalidBackend", "503"),
        (TEXT_A | A, "InvalidBackend", "201"),
        ({"backendRefs": [{"name": "a", "port": 81}]}, "UnknownPort", "503"),
        ({"backendRefs": [{"name": "z", "port": 80}]}, "UnknownService", "503"),
    ],
)
def test_rules_that_the_api_server_or_the_world_refuses(
    compiled: Compile, objects: Objects, rule: dict[str, Any], reason: str, answer: str
) -> None:
    seen = compiled(objects.route("r", rule), objects.web("a"))

    assert seen.reasons("r", Kind.ROUTE) == [reason]
    assert seen.ask("a.example/") == answer


def test_timeouts_and_retries(compiled: Compile, objects: Objects) -> None:
    rule = A | {
        "timeouts": {"request": "30s", "backendRequest": "1500ms", "connect": "1s", "idle": "0s"},
        "retry": {"attempts": 2, "codes": [503, 502, 503], "perTryTimeout": "20s", "budget": 10},
    }

    route = compiled(objects.route("r", rule), objects.web("a")).route("a.example/")

    assert route is not None
    assert route.timeouts == Timeouts(request=30.0, backend_request=1.5, connect=1.0, idle=0.0)
    assert route.retry == Retry(attempts=2, codes=(502, 503), per_try_timeout=20.0, budget=10)


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"timeouts": {"request": "1s", "backendRequest": "2s"}}, ["timeouts.backendRequest"]),
        (
            {"timeouts": {"request": "1s"}, "retry": {"perTryTimeout": "1001ms"}},
            ["retry.perTryTimeout"],
        ),
        ({"timeouts": {"request": "0s"}, "retry": {"perTryTimeout": "9s"}}, []),
        ({"timeouts": {"request": "60s", "backendRequest": "1m"}}, []),
    ],
)
def test_one_attempt_is_not_longer_than_the_whole(
    compiled: Compile, objects: Objects, more: dict[str, Any], fields: list[str]
) -> None:
    seen = compiled(objects.route("r", A | more), objects.web("a"))

    found = seen.findings("r", Kind.ROUTE)
    assert [each.field for each in found] == [f"spec.rules[0].{field}" for field in fields]
    assert seen.ask("a.example/") == "shop/a:80"


@pytest.mark.parametrize(
    ("to", "permitted"),
    [({}, True), ({"name": "a"}, True), ({"name": "b"}, False), ({"kind": "Secret"}, False)],
)
def test_another_namespace_needs_a_grant(
    compiled: Compile, objects: Objects, to: dict[str, str], *, permitted: bool
) -> None:
    rule = {"backendRefs": [{"name": "a", "namespace": "data", "port": 80}]}
    steps = compiled.steps()
    seen = steps.put(objects.route("r", rule), objects.web("data/a"))
    assert seen.reasons("r", Kind.ROUTE) == ["RefNotPermitted"]
    assert seen.ask("a.example/") == "503"

    seen = steps.put(objects.grant("data", "shop", **to), objects.grant("data", "stranger"))
    assert (seen.ask("a.example/") == "data/a:80") is permitted

    seen = steps.remove(Kind.REFERENCE_GRANT, "data/from-shop")
    assert seen.ask("a.example/") == "503"


def test_a_grant_elsewhere_permits_nothing_here(compiled: Compile, objects: Objects) -> None:
    rule = {"backendRefs": [{"name": "a", "namespace": "data", "port": 80}]}

    seen = compiled(objects.route("r", rule), objects.web("data/a"), objects.grant("shop", "shop"))

    assert seen.reasons("r", Kind.ROUTE) == ["RefNotPermitted"]


def test_tls_and_its_redirect(compiled: Compile, objects: Objects) -> None:
    route = objects.route("r", A, hosts=["x.com", "*.x.com"], tls={"secretName": "cert"})
    plain = objects.route("p", A, hosts=["y.com"], tls={"redirect": False})

    seen = compiled(
        route, plain, objects.web("a"), objects.secret("cert", "x.com", "*.x.com"), https_port=8443
    )

    assert seen.ask("x.com/") == "308"
    assert seen.ask("x.com/", tls=True) == "shop/a:80"
    assert seen.ask("y.com/") == "shop/a:80"
    assert seen.certificate("any.x.com") == "shop/cert"
    found = seen.route("x.com/")
    assert found is not None
    assert found.filters == (HttpsRedirect(port=8443),)


def test_bad_hosts_never_widen_a_route_to_all_hosts(compiled: Compile, objects: Objects) -> None:
    seen = compiled(objects.route("r", A, hosts=["1.2.3.4"]), objects.web("a"))

    assert len(seen.snapshot.hosts) == 0
    assert seen.reasons("r", Kind.ROUTE) == ["InvalidHost"]


def test_routes_are_named_by_their_rules(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.route("r", A | {"name": "cart", "matches": [path("/cart")]}, B), objects.web("a")
    )

    serving = seen.compilation.serving[ObjectRef(Kind.ROUTE, "shop", "r")]
    assert serving.routes == ("shop/r/1", "shop/r/cart")
    assert [(each.type, each.status, each.reason) for each in serving.conditions] == [
        ("Accepted", True, "Accepted"),
        ("ResolvedRefs", False, "UnknownService"),
    ]
