"""Ingress: hosts (H), paths (P) and default backends (D) of the catalogue, as requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fairway_snapshot.model import Retry

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects


@pytest.mark.parametrize(
    ("paths", "url", "answer"),
    [
        pytest.param(["*.foo.com ^/ a:80"], "bar.foo.com/", "a", id="H1 a wildcard is one label"),
        pytest.param(["*.foo.com ^/ a:80"], "foo.com/", "404", id="H1 and not none"),
        pytest.param(["*.foo.com ^/ a:80"], "x.bar.foo.com/", "404", id="H1 and not two"),
        pytest.param(
            ["*.foo.com ^/ a:80", "b.foo.com ^/ b:80", "- ^/ c:80"],
            "b.foo.com/",
            "b",
            id="H2 exact beats wildcard",
        ),
        pytest.param(
            ["*.foo.com ^/ a:80", "- ^/ c:80"], "b.foo.com/", "a", id="H2 wildcard beats no host"
        ),
        pytest.param(
            ["b.foo.com ^/only a:80", "*.foo.com ^/ b:80", "- ^/ c:80"],
            "b.foo.com/other",
            "404",
            id="H3 the host is chosen first",
        ),
        pytest.param(["foo.com ^/ a:80"], "FOO.com.:8080/", "a", id="H4 port, case and dot"),
        pytest.param(["- ^/ a:80"], "/", "a", id="H5 no Host at all"),
        pytest.param(["x.com ^/ a:80"], "x.com/any/path", "a", id="P Prefix / is everything"),
        pytest.param(["x.com =/foo a:80"], "x.com/foo", "a", id="P Exact /foo is /foo"),
        pytest.param(["x.com =/foo a:80"], "x.com/bar", "404", id="P Exact /foo is not /bar"),
        pytest.param(["x.com =/foo a:80"], "x.com/foo/", "404", id="P Exact /foo is not /foo/"),
        pytest.param(["x.com =/foo/ a:80"], "x.com/foo", "404", id="P7 Exact /foo/ is not /foo"),
        pytest.param(["x.com ^/foo a:80"], "x.com/foo/", "a", id="P Prefix /foo is /foo/"),
        pytest.param(["x.com ^/foo/ a:80"], "x.com/foo", "a", id="P Prefix /foo/ is /foo"),
        pytest.param(["x.com ^/foo/ a:80"], "x.com/foo/", "a", id="P Prefix /foo/ is /foo/"),
        pytest.param(["x.com ^/aaa/bb a:80"], "x.com/aaa/bbb", "404", id="P whole elements only"),
        pytest.param(["x.com ^/aaa/bbb a:80"], "x.com/aaa/bbb", "a", id="P the element itself"),
        pytest.param(["x.com ^/aaa/bbb/ a:80"], "x.com/aaa/bbb", "a", id="P slash is ignored"),
        pytest.param(["x.com ^/aaa/bbb a:80"], "x.com/aaa/bbb/", "a", id="P slash matches"),
        pytest.param(["x.com ^/aaa/bbb a:80"], "x.com/aaa/bbb/ccc", "a", id="P subpaths"),
        pytest.param(["x.com ^/aaa/bbb a:80"], "x.com/aaa/bbbxyz", "404", id="P no string prefix"),
        pytest.param(
            ["x.com ^/ a:80", "x.com ^/aaa b:80"], "x.com/aaa/ccc", "b", id="P the longest wins"
        ),
        pytest.param(
            ["x.com ^/ a:80", "x.com ^/aaa b:80", "x.com ^/aaa/bbb c:80"],
            "x.com/ccc",
            "a",
            id="P / takes the rest",
        ),
        pytest.param(["x.com ^/aaa a:80"], "x.com/ccc", "404", id="P no match, no default"),
        pytest.param(
            ["x.com ^/foo a:80", "x.com =/foo b:80"], "x.com/foo", "b", id="P Exact beats Prefix"
        ),
        pytest.param(["x.com ^/foo a:80"], "x.com/FOO", "404", id="P case counts"),
        pytest.param(
            ["x.com ^/foo/ a:80", "x.com =/foo b:80"],
            "x.com/foo",
            "b",
            id="P1 a slash does not make a prefix longer",
        ),
        pytest.param(["x.com ^/ a:80", "x.com =/ b:80"], "x.com/", "b", id="P2 Exact / on /"),
        pytest.param(["x.com ^/ a:80", "x.com =/ b:80"], "x.com/x", "a", id="P2 Prefix / on /x"),
        pytest.param(
            ["x.com ^/foo a:80", "x.com ^/ b:80"], "x.com/foobar", "b", id="P3 /foobar is not /foo"
        ),
        pytest.param(["x.com ^/prefix/ a:80"], "x.com/prefix/foo/bar", "a", id="P4 below /prefix/"),
        pytest.param(["x.com =/foo a:80"], "x.com/foo?x=1", "a", id="P5 the query is no path"),
        pytest.param(["x.com =/foo a:80"], "x.com/foo;v=1", "a", id="P5 parameters do not match"),
        pytest.param(["x.com =/%66oo a:80"], "x.com/foo", "a", id="P5 escapes have one form"),
        pytest.param(["x.com =/foo a:80"], "x.com/x/../foo", "a", id="P6 dot segments go first"),
        pytest.param(["x.com =/ a:80"], "x.com//", "404", id="P6 // is not /"),
        pytest.param(["x.com ~ a:80"], "x.com/any", "a", id="P8 an empty path is /"),
        pytest.param(
            ["x.com ~/foo a:80"], "x.com/foo/x", "a", id="P8 ImplementationSpecific is Prefix"
        ),
        pytest.param(["x.com ^/ü a:80"], "x.com/%C3%BC/x", "a", id="P5 UTF-8 in an object"),
        pytest.param(["x.com"], "x.com/", "404", id="H7 a host alone, without a default"),
    ],
)
def test_request(
    compiled: Compile, objects: Objects, paths: list[str], url: str, answer: str
) -> None:
    webs = [body for name in "abc" for body in objects.web(name)]

    seen = compiled(objects.ingress("i", *paths), webs)

    assert seen.ask(url) == (answer if answer.isdigit() else f"shop/{answer}:80")


@pytest.mark.parametrize("age", [1, 9])
def test_h2_the_exact_host_wins_at_any_age(compiled: Compile, objects: Objects, age: int) -> None:
    seen = compiled(
        objects.ingress("wild", "*.foo.com ^/ a:80", age=5),
        objects.ingress("exact", "b.foo.com ^/ b:80", age=age),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("b.foo.com/") == "shop/b:80"
    assert seen.findings() == ()


@pytest.mark.parametrize(
    "host", ["*", "*.*.x", "f*.x", "a..b", "-a.b", "A.b", "a.b:80", "1.2.3.4", "*.", "a_b.c"]
)
def test_h6_a_bad_host_is_refused_and_its_siblings_serve(
    compiled: Compile, objects: Objects, host: str
) -> None:
    seen = compiled(
        objects.ingress("i", f"{host} ^/ a:80", "good.example ^/ a:80"), objects.web("a")
    )

    assert set(seen.snapshot.hosts) == {"good.example"}
    assert seen.reasons("i") == ["InvalidHost"]
    assert seen.findings("i")[0].field == "spec.rules[0].host"


@pytest.mark.parametrize(
    ("host", "hint"),
    [
        ("*", "leave the host out; then all hosts are meant"),
        ("x.com:8080", "leave the port out"),
        ("X.com", "write x.com"),
        ("x_.com", "write a name such as shop.example or *.shop.example"),
    ],
)
def test_h6_a_bad_host_is_told_with_what_to_write(
    compiled: Compile, objects: Objects, host: str, hint: str
) -> None:
    (finding,) = compiled(objects.ingress("i", f"{host} ^/ a:80"), objects.web("a")).findings("i")

    assert (finding.field, finding.hint) == ("spec.rules[0].host", hint)


def test_a_backend_of_an_older_version_of_the_api_is_told_what_to_write(
    compiled: Compile, objects: Objects
) -> None:
    body = objects.ingress("i", "x.com ^/ a:80", "x.com ^/b a:80")
    body["spec"]["rules"][0]["http"]["paths"][0]["backend"] = {
        "serviceName": "a", "servicePort": 80,
    }  # fmt: skip

    seen = compiled(body, objects.web("a"))

    (finding,) = seen.findings("i")
    assert finding.hint == "write service: {name: ..., port: {number: ...}}"
    assert (seen.ask("x.com/"), seen.ask("x.com/b")) == ("503", "shop/a:80")


def test_h7_all_paths_of_a_host_without_paths_go_to_the_default_backend(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(objects.ingress("i", "x.com", default="a:80"), objects.web("a"))

    assert seen.ask("x.com/any") == "shop/a:80"
    assert seen.ask("y.com/any") == "404"


@pytest.mark.parametrize("path", ["/a//b", "/a/./b", "/a/../b", "/a%2fb", "/a/..", "/a/.", "a", ""])
def test_p6_a_path_that_the_api_server_refuses_is_refused(
    compiled: Compile, objects: Objects, path: str
) -> None:
    seen = compiled(
        objects.ingress("i", f"x.com ^{path} a:80", "x.com ^/good a:80"), objects.web("a")
    )

    assert seen.reasons("i") == ["InvalidPath"]
    assert seen.ask("x.com/good") == "shop/a:80"


def test_p11_a_path_that_looks_like_a_pattern_is_a_prefix_and_its_author_is_told(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(objects.ingress("i", "x.com ~/foo(/|$)(.*) a:80"), objects.web("a"))

    assert seen.ask("x.com/foo/bar") == "404"
    assert [each.severity for each in seen.findings("i")] == ["warning"]
    assert "RegularExpression" in seen.findings("i")[0].hint


def test_d1_an_ingress_without_rules_gets_every_host(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.ingress("all", default="a:80"),
        objects.ingress("one", "x.com ^/x b:80"),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("anything.example/any") == "shop/a:80"
    assert seen.ask("x.com/x") == "shop/b:80"
    assert seen.ask("x.com/y") == "404"


def test_d1_rules_that_cannot_be_read_do_not_make_a_catch_all(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(objects.ingress("i", "BAD ^/ a:80", default="a:80"), objects.web("a"))

    assert len(seen.snapshot.hosts) == 0


def test_d2_the_default_backend_gets_what_its_own_hosts_leave_over(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/x a:80", default="b:80"), objects.web("a"), objects.web("b")
    )

    assert seen.ask("x.com/x") == "shop/a:80"
    assert seen.ask("x.com/y") == "shop/b:80"
    assert seen.ask("y.com/x") == "404"


def test_d2_a_written_prefix_beats_a_default_backend_of_any_age(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("old", "x.com ^/x a:80", default="a:80", age=9),
        objects.ingress("young", "x.com ^/ b:80", age=1),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("x.com/y") == "shop/b:80"
    assert seen.findings() == ()


def test_d3_of_two_catch_alls_the_oldest_wins_and_the_other_is_told(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("young", default="a:80", age=1),
        objects.ingress("old", default="b:80", age=2),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("x.com/") == "shop/b:80"
    assert seen.reasons("old") == []
    (finding,) = seen.findings("young")
    assert finding.reason == "Conflict"
    assert finding.other is not None
    assert finding.other.name == "old"


def test_d4_unknown_is_404_and_known_without_endpoints_is_503(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", "x.com ^/gone missing:80"),
        objects.service("a"),
        objects.slice("a"),
    )

    assert seen.ask("x.com/") == "503"
    assert seen.ask("x.com/gone") == "503"
    assert seen.ask("y.com/") == "404"
    assert seen.reasons("i") == ["UnknownService"]


def test_d5_nothing_at_all_is_404(compiled: Compile) -> None:
    assert compiled().ask("x.com/") == "404"


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ({"fairway.dev/strip-prefix": "api"}, "InvalidAnnotation"),
        ({"fairway.dev/request-headers": "x-a: 1\nevil\n"}, "InvalidAnnotation"),
        ({"fairway.dev/request-headers": "host: evil"}, "InvalidAnnotation"),
        ({"fairway.dev/response-headers": "x-a: \x00"}, "InvalidAnnotation"),
    ],
)
def test_an_ingress_is_not_served_without_its_filters(
    compiled: Compile, objects: Objects, annotations: dict[str, str], reason: str
) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", annotations=annotations), objects.web("a")
    )

    assert seen.reasons("i") == [reason]
    assert seen.ask("x.com/") == "503"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("strip-prefx", "/api", "UnknownAnnotation"),
        ("balance", "random", "UnknownAnnotation"),
        ("ssl-redirect", "no", "InvalidAnnotation"),
        ("request-timeout", "10", "InvalidAnnotation"),
        ("request-timeout", "10s\n", "InvalidAnnotation"),
        ("max-body-size", "8 MB", "InvalidAnnotation"),
        ("retry-attempts", "-1", "InvalidAnnotation"),
        ("retry-codes", "200", "InvalidAnnotation"),
        ("retry-budget", "101%", "InvalidAnnotation"),
    ],
)
def test_other_bad_annotations_are_told_and_their_default_is_served(
    compiled: Compile, objects: Objects, name: str, value: str, reason: str
) -> None:
    annotations = {f"fairway.dev/{name}": value}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", annotations=annotations), objects.web("a")
    )

    (finding,) = seen.findings("i")
    assert (finding.reason, finding.field) == (reason, f"metadata.annotations[fairway.dev/{name}]")
    assert finding.hint
    assert seen.ask("x.com/") == "shop/a:80"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("strip-prefx", "write fairway.dev/strip-prefix"),
        ("balance", "write it on the Service"),
        ("colour", "known after fairway.dev/ are allow-encoded-slash, "),
    ],
)
def test_a_name_that_is_not_known_is_told_what_was_meant(
    compiled: Compile, objects: Objects, name: str, hint: str
) -> None:
    body = objects.ingress("i", "x.com ^/ a:80", annotations={f"fairway.dev/{name}": "x"})

    (finding,) = compiled(body, objects.web("a")).findings("i")

    assert finding.hint.startswith(hint)


def test_annotations_become_typed_parts_of_each_route(compiled: Compile, objects: Objects) -> None:
    given = {
        "strip-prefix": "/api/",
        "rewrite-prefix": "/v2",
        "request-headers": "X-Tier: gold\nx-a: b",
        "response-headers": "x-frame-options: DENY",
        "request-timeout": "1m30s",
        "connect-timeout": "250ms",
        "idle-timeout": "0s",
        "retry-attempts": "2",
        "retry-codes": "503, 502",
        "retry-budget": "10%",
        "max-body-size": "8Mi",
        "allow-encoded-slash": "true",
        "other.example/unrelated": "x",
    }
    annotations = {
        name if "/" in name else f"fairway.dev/{name}": value for name, value in given.items()
    }

    seen = compiled(
        objects.ingress("i", "x.com ^/api a:80", annotations=annotations), objects.web("a")
    )

    assert seen.findings() == ()
    route = seen.route("x.com/api")
    assert route is not None
    assert [type(each).__name__ for each in route.filters] == [
        "StripPrefix", "RewritePath", "RequestHeaders", "ResponseHeaders",
    ]  # fmt: skip
    assert (route.timeouts.request, route.timeouts.connect, route.timeouts.idle) == (90, 0.25, 0)
    assert route.retry == Retry(attempts=2, codes=(502, 503), budget=10)
    assert route.max_body_bytes == 8 * 2**20
    assert route.allow_encoded_slash


@pytest.mark.parametrize(
    ("given", "retry"),
    [
        ({}, None),
        ({"retry-attempts": "0"}, Retry(budget=0)),
        ({"retry-attempts": "0", "retry-codes": "503"}, Retry(budget=0)),
        ({"retry-codes": "503"}, Retry(codes=(503,))),
        ({"retry-budget": "0"}, Retry(budget=0)),
        ({"retry-attempts": "3"}, Retry(attempts=3)),
    ],
)
def test_retries_of_an_ingress(
    compiled: Compile, objects: Objects, given: dict[str, str], retry: Retry | None
) -> None:
    annotations = {f"fairway.dev/{name}": value for name, value in given.items()}

    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", annotations=annotations), objects.web("a")
    )

    route = seen.route("x.com/")
    assert route is not None
    assert route.retry == retry


def test_a_resource_that_says_nothing_is_told_so(compiled: Compile, objects: Objects) -> None:
    assert compiled(objects.ingress("i")).reasons("i") == ["NoRoutes"]


def test_findings_of_one_object_are_bounded(compiled: Compile, objects: Objects) -> None:
    paths = [f"x.com ^/{at} missing-{at}:80" for at in range(300)]

    findings = compiled(objects.ingress("i", *paths)).findings("i")

    assert len(findings) == 101
    assert findings[-1].message == "200 further findings are not listed"
