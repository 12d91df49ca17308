"""
The matcher: by the cases of Kubernetes, and against an oracle that walks the routes in order.

The codes (H1, P1, ...) are those of the list of cases that the project keeps.
"""

from collections.abc import Sequence
from urllib.parse import parse_qsl

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairway_snapshot.matcher import (
    HostIndex,
    HostMatcher,
    build_host_matcher,
    explain,
    host_candidates,
)
from fairway_snapshot.model import (
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
    VirtualHost,
)
from fairway_snapshot.pattern import InvalidPattern, Pattern
from fairway_snapshot.target import normalize_path

Headers = Sequence[tuple[bytes, bytes]]


def exact(path: str, **more: object) -> RouteMatch:
    return match_of(PathKind.EXACT, path, **more)


def prefix(path: str, **more: object) -> RouteMatch:
    return match_of(PathKind.PREFIX, path, **more)


def regex(path: str, **more: object) -> RouteMatch:
    return match_of(PathKind.REGEX, path, **more)


def match_of(kind: PathKind, path: str, **more: object) -> RouteMatch:
    return RouteMatch(path=PathMatch(kind=kind, value=path), **more)  # type: ignore[arg-type]


def host_of(*matches: RouteMatch) -> VirtualHost:
    return VirtualHost(
        routes=tuple(Route(name=str(at), match=match) for at, match in enumerate(matches))
    )


def matcher_of(*matches: RouteMatch) -> HostMatcher[RouteMatch]:
    return build_host_matcher(host_of(*matches), lambda route: route.match)


def ask(
    matcher: HostMatcher[RouteMatch],
    path: str,
    method: bytes = b"GET",
    headers: Headers = (),
    query: bytes = b"",
) -> RouteMatch | None:
    return matcher.match(normalize_path(path.encode()), method, headers, query)


ROOT = prefix("/")


@pytest.mark.parametrize(
    ("routes", "path", "chosen"),
    [
        # The table of the Kubernetes documentation.
        pytest.param([ROOT], "/any/path", ROOT, id="prefix / matches all"),
        pytest.param([exact("/foo")], "/foo", exact("/foo"), id="exact /foo"),
        pytest.param([exact("/foo")], "/bar", None, id="exact /foo is not /bar"),
        pytest.param([exact("/foo")], "/foo/", None, id="exact /foo is not /foo/"),
        pytest.param([exact("/foo/")], "/foo", None, id="exact /foo/ is not /foo"),
        pytest.param([prefix("/foo")], "/foo", prefix("/foo"), id="prefix itself"),
        pytest.param([prefix("/foo")], "/foo/", prefix("/foo"), id="prefix with a slash"),
        pytest.param([prefix("/foo/")], "/foo", prefix("/foo/"), id="prefix /foo/ matches /foo"),
        pytest.param([prefix("/foo/")], "/foo/", prefix("/foo/"), id="prefix /foo/ itself"),
        pytest.param([prefix("/aaa/bb")], "/aaa/bbb", None, id="whole segments only"),
        pytest.param([prefix("/aaa/bbb")], "/aaa/bbb", prefix("/aaa/bbb"), id="two segments"),
        pytest.param([prefix("/aaa/bbb")], "/aaa/bbb/", prefix("/aaa/bbb"), id="and a slash"),
        pytest.param([prefix("/aaa/bbb")], "/aaa/bbb/ccc", prefix("/aaa/bbb"), id="a subpath"),
        pytest.param([prefix("/aaa/bbb")], "/aaa/bbbxyz", None, id="not a string prefix"),
        pytest.param([prefix("/aaa"), ROOT], "/aaa/ccc", prefix("/aaa"), id="longer wins"),
        pytest.param([prefix("/aaa/bbb"), prefix("/aaa"), ROOT], "/ccc", ROOT, id="only / is left"),
        pytest.param([prefix("/aaa")], "/ccc", None, id="nothing matches"),
        pytest.param([exact("/foo"), prefix("/foo")], "/foo", exact("/foo"), id="exact wins"),
        pytest.param([prefix("/foo")], "/FOO", None, id="case matters"),
        # Traps.
        pytest.param([exact("/foo"), prefix("/foo/")], "/foo", exact("/foo"), id="P1"),
        pytest.param([exact("/"), ROOT], "/", exact("/"), id="P2 exact /"),
        pytest.param([exact("/"), ROOT], "/x", ROOT, id="P2 prefix /"),
        pytest.param([prefix("/foo"), ROOT], "/foobar", ROOT, id="P3"),
        pytest.param([prefix("/prefix/")], "/prefix/foo/bar", prefix("/prefix/"), id="P4"),
        pytest.param([exact("/foo")], "/foo;v=1", exact("/foo"), id="P5 parameters"),
        pytest.param([prefix("/foo"), ROOT], "/foo;v=1/x;y", prefix("/foo"), id="P5 in a prefix"),
        pytest.param([prefix("/a"), ROOT], "/a%2Fb", ROOT, id="P5 an encoded slash does not split"),
        pytest.param([exact("/foo")], "/%66oo", exact("/foo"), id="P5 escapes in the request"),
        pytest.param([exact("/%66oo")], "/foo", exact("/%66oo"), id="P5 escapes in the route"),
        pytest.param([exact("/café")], "/caf%c3%a9", exact("/café"), id="P5 non-ASCII route"),
        pytest.param([prefix("/a b")], "/a%20b/c", prefix("/a b"), id="P5 a space in the route"),
        pytest.param([prefix("/b"), ROOT], "/a/../b/c", prefix("/b"), id="P6 dots"),
        pytest.param([prefix("/b"), ROOT], "/b/../a", ROOT, id="P6 dots lead out"),
        pytest.param([exact("/"), ROOT], "//", ROOT, id="P6 // is not /"),
        pytest.param([exact("/a/b"), ROOT], "/a//b", ROOT, id="P6 // is not merged"),
        pytest.param([exact("/my-path/")], "/my-path", None, id="P7 no redirect"),
        pytest.param(
            [regex("/a/[0-9]+"), prefix("/a/1/2")], "/a/1", regex("/a/[0-9]+"), id="P10 regex"
        ),
        pytest.param([regex("/a")], "/ab", None, id="P10 a regex matches the whole path"),
        pytest.param(
            [regex("/a.*"), prefix("/a/b")], "/a/b/c", regex("/a.*"), id="P10 regex before prefix"
        ),
        pytest.param([prefix("foo"), exact("bar")], "/foo", None, id="routes that no path has"),
    ],
)
def test_path(routes: list[RouteMatch], path: str, chosen: RouteMatch | None) -> None:
    assert ask(matcher_of(*routes), path) == chosen


def test_p9_no_route_is_asked_about_an_asterisk() -> None:
    matcher = matcher_of(regex(".*"), exact("*"), ROOT)

    assert matcher.match(b"*", b"OPTIONS", [], b"") is None


CANARY = (ValueMatch(name="x-canary", value="1"),)


@pytest.mark.parametrize(
    ("wanted", "method", "headers", "query", "holds"),
    [
        pytest.param({"method": "POST"}, b"POST", [], b"", True, id="method"),
        pytest.param({"method": "POST"}, b"GET", [], b"", False, id="another method"),
        pytest.param({"headers": CANARY}, b"GET", [(b"x-canary", b"1")], b"", True, id="header"),
        pytest.param({"headers": CANARY}, b"GET", [(b"x-canary", b"2")], b"", False, id="value"),
        pytest.param({"headers": CANARY}, b"GET", [], b"", False, id="no header"),
        pytest.param(
            {"headers": CANARY},
            b"GET",
            [(b"x-canary", b"1"), (b"x-canary", b"2")],
            b"",
            False,
            id="two header lines are one value",
        ),
        pytest.param(
            {"headers": (ValueMatch(name="x", value="1, 2"),)},
            b"GET",
            [(b"x", b"1"), (b"y", b"0"), (b"x", b"2")],
            b"",
            True,
            id="header lines are joined",
        ),
        pytest.param(
            {"headers": (ValueMatch(name="x", kind=ValueKind.REGEX, value="a+"),)},
            b"GET",
            [(b"x", b"aaa")],
            b"",
            True,
            id="a header by pattern",
        ),
        pytest.param(
            {"headers": (ValueMatch(name="x", kind=ValueKind.REGEX, value="a+"),)},
            b"GET",
            [(b"x", b"aab")],
            b"",
            False,
            id="a pattern has to match the whole value",
        ),
        pytest.param(
            {"headers": (ValueMatch(name="x", kind=ValueKind.REGEX, value=".*"),)},
            b"GET",
            [(b"x", b"\xff")],
            b"",
            False,
            id="a pattern does not match what is not text",
        ),
        pytest.param(
            {"headers": (ValueMatch(name="x", kind=ValueKind.PRESENT),)},
            b"GET",
            [(b"x", b"")],
            b"",
            True,
            id="presence asks for no value",
        ),
        pytest.param(
            {"query": (ValueMatch(name="v", value="2"),)}, b"GET", [], b"a=1&v=2", True, id="query"
        ),
        pytest.param(
            {"query": (ValueMatch(name="v", value="2"),)},
            b"GET",
            [],
            b"v=1&v=2",
            False,
            id="the first of a repeated parameter counts",
        ),
        pytest.param(
            {"query": (ValueMatch(name="a b", value="c&d"),)},
            b"GET",
            [],
            b"a+b=c%26d",
            True,
            id="query is decoded",
        ),
        pytest.param(
            {"query": (ValueMatch(name="flag", kind=ValueKind.PRESENT),)},
            b"GET",
            [],
            b"x&flag",
            True,
            id="a parameter without a value",
        ),
        pytest.param(
            {"query": (ValueMatch(name="v", kind=ValueKind.REGEX, value="[0-9]+"),)},
            b"GET",
            [],
            b"",
            False,
            id="no query at all",
        ),
    ],
)
def test_conditions(
    wanted: dict[str, object],
    method: bytes,
    headers: Headers,
    query: bytes,
    holds: bool,  # noqa: FBT001 - a column of the table
) -> None:
    asking = prefix("/a", **wanted)
    chosen = ask(matcher_of(asking, ROOT), "/a/b", method, headers, query)

    assert chosen == (asking if holds else ROOT)


def test_a_route_whose_conditions_fail_gives_way_to_a_shorter_prefix_and_not_to_a_404() -> None:
    matcher = matcher_of(
        exact("/a/b", method="PUT"), prefix("/a/b", method="POST"), prefix("/a"), ROOT
    )

    assert ask(matcher, "/a/b", b"PUT") == exact("/a/b", method="PUT")
    assert ask(matcher, "/a/b", b"POST") == prefix("/a/b", method="POST")
    assert ask(matcher, "/a/b", b"GET") == prefix("/a")
    assert ask(matcher, "/a/b/c", b"PUT") == prefix("/a")


@pytest.mark.parametrize("count", [3, 9, 100])
def test_many_patterns_keep_their_order(count: int) -> None:
    routes = [regex(f"/r{at}/.*") for at in range(count)]
    matcher = matcher_of(*routes, regex("/r[0-9]+/x"), ROOT)

    assert all(ask(matcher, f"/r{at}/x") == route for at, route in enumerate(routes))
    assert ask(matcher, f"/r{count}/x") == regex("/r[0-9]+/x")
    assert ask(matcher, "/other") == ROOT


def test_a_pattern_with_an_open_quotation_does_not_swallow_its_neighbours() -> None:
    quoted = regex(r"/\Qa+b")
    routes = [quoted, *(regex(f"/r{at}") for at in range(100))]
    matcher = matcher_of(*routes)

    assert ask(matcher, "/a+b") == quoted
    assert all(ask(matcher, f"/r{at}") == regex(f"/r{at}") for at in range(100))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("(", "missing", id="syntax"),
        pytest.param(r"(a)\1", "escape", id="a back reference"),
        pytest.param("(?=a)", "invalid", id="a look-ahead"),
        pytest.param("a" * 513, "513 characters", id="length"),
        pytest.param("(a{100}){100}", "repeats|large|size", id="repetitions"),
    ],
)
def test_a_pattern_that_could_cost_too_much_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidPattern, match=reason):
        matcher_of(regex(text))


def test_what_is_made_is_made_once_for_each_route_in_order() -> None:
    host = host_of(ROOT, exact("/a"), regex("/b"), prefix("/a", method="POST"))
    made: list[str] = []

    def make(route: Route) -> str:
        made.append(route.name)
        return route.name

    build_host_matcher(host, make)

    assert made == ["0", "1", "2", "3"]


def test_a_path_of_a_thousand_segments_is_a_route_like_any_other() -> None:
    deep = prefix("/a" * 5000)

    assert ask(matcher_of(deep, ROOT), "/a" * 5001) == deep
    assert ask(matcher_of(deep, ROOT), "/a" * 4999) == ROOT


# The oracle: every route, in order, by the words of the specification.

SEGMENTS = st.sampled_from(["a", "b", "ab", "", "a;x", "%61"])
PATHS = st.lists(SEGMENTS, max_size=3).map(lambda names: "/" + "/".join(names))
PATTERNS = st.sampled_from(["/a", "/.*", "/a/.+", "/[ab]+", "/(a|b)/?", "/b.*"])
VALUES = st.lists(
    st.builds(
        ValueMatch,
        name=st.sampled_from(["x", "y"]),
        kind=st.sampled_from([ValueKind.EXACT, ValueKind.PRESENT]),
        value=st.sampled_from(["1", "2"]),
    ),
    max_size=1,
).map(tuple)
MATCHES = st.builds(
    RouteMatch,
    path=st.one_of(
        st.builds(PathMatch, kind=st.sampled_from([PathKind.EXACT, PathKind.PREFIX]), value=PATHS),
        st.builds(PathMatch, kind=st.just(PathKind.REGEX), value=PATTERNS),
    ),
    method=st.sampled_from([None, None, "GET", "PUT"]),
    headers=VALUES,
    query=VALUES,
)
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"1", b"2"])), max_size=2
)
QUERIES = st.sampled_from(["", "x=1", "y=2&x=2", "x=2&x=1", "x"])


def plain(path: str) -> str:
    normal = normalize_path(path.encode()).decode()
    return "/".join(segment.split(";")[0] for segment in normal.split("/"))


def oracle(routes: Sequence[Route], path: str, method: str, headers: Headers, query: str) -> int:
    given_headers: dict[str, list[str]] = {}
    for name, value in headers:
        given_headers.setdefault(name.decode(), []).append(value.decode())
    joined = {name: ", ".join(values) for name, values in given_headers.items()}
    parameters = dict(reversed(parse_qsl(query, keep_blank_values=True)))
    for at, route in enumerate(routes):
        wanted = route.match
        if (
            path_holds(wanted.path, plain(path))
            and wanted.method in (None, method)
            and all(value_holds(value, joined) for value in wanted.headers)
            and all(value_holds(value, parameters) for value in wanted.query)
        ):
            return at
    return -1


def path_holds(wanted: PathMatch, path: str) -> bool:
    match wanted.kind:
        case PathKind.REGEX:
            return Pattern(wanted.value).matches(path.encode())
        case PathKind.EXACT:
            return path == plain(wanted.value)
        case PathKind.PREFIX:
            segments = plain(wanted.value).removesuffix("/").split("/")
            return path.split("/")[: len(segments)] == segments


def value_holds(wanted: ValueMatch, values: dict[str, str]) -> bool:
    if wanted.name not in values:
        return False
    return wanted.kind is ValueKind.PRESENT or values[wanted.name] == wanted.value


@settings(max_examples=400)
@example([prefix("/"), exact("/")], "/", "GET", [], "")
@given(st.lists(MATCHES, max_size=12), PATHS, st.sampled_from(["GET", "PUT"]), HEADERS, QUERIES)
def test_the_matcher_agrees_with_a_walk_in_order(
    matches: list[RouteMatch], path: str, method: str, headers: Headers, query: str
) -> None:
    host = host_of(*matches)
    matcher = build_host_matcher(host, lambda route: int(route.name))
    request = (normalize_path(path.encode()), method.encode(), headers, query.encode())

    found = matcher.match(*request)
    verdicts = explain(host, *request)

    expected = oracle(host.routes, path, method, headers, query)
    assert (-1 if found is None else found) == expected
    explained = [at for at, verdict in enumerate(verdicts) if not verdict.objections]
    assert (explained or [-1])[0] == expected


def test_explain_says_why_not() -> None:
    host = host_of(
        exact("/b"), prefix("/a", method="POST", headers=CANARY), regex("/c.*"), prefix("/a")
    )

    verdicts = explain(host, b"/a/x", b"GET", [], b"")

    assert [verdict.objections for verdict in verdicts] == [
        ("the path is not exactly /b",),
        ("the method is not POST", "header x-canary is not '1'"),
        ("the path is not matched by /c.*",),
        (),
    ]


# Hosts.

INDEX = HostIndex(
    {
        HostPattern(pattern): pattern or "any"
        for pattern in ("foo.com", "*.foo.com", "exact.foo.com", "")
    }
)


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        pytest.param("bar.foo.com", "*.foo.com", id="H1 one label"),
        pytest.param("foo.com", "foo.com", id="H1 the name itself is not below itself"),
        pytest.param("a.b.foo.com", "any", id="H1 two labels are too many"),
        pytest.param("exact.foo.com", "exact.foo.com", id="H2 exact before wildcard"),
        pytest.param("other.org", "any", id="H2 any host is the last"),
        pytest.param("", "any", id="H5 no host"),
        pytest.param("[::1]", "any", id="an address"),
        pytest.param("localhost", "any", id="one label"),
    ],
)
def test_host(host: str, pattern: str) -> None:
    known = {HostPattern(name) for name in ("foo.com", "*.foo.com", "exact.foo.com", "")}
    candidate = next(name for name in host_candidates(host) if name in known)

    assert INDEX.find(host.encode()) == pattern
    assert (candidate or "any") == pattern


def test_h3_the_host_is_chosen_before_its_paths() -> None:
    index = HostIndex(
        {
            HostPattern("a.foo.com"): matcher_of(exact("/only")),
            HostPattern("*.foo.com"): matcher_of(ROOT),
            HostPattern(""): matcher_of(ROOT),
        }
    )
    matcher = index.find(b"a.foo.com")

    assert matcher is not None
    assert ask(matcher, "/other") is None


def test_an_index_evolves_without_changing_the_one_before() -> None:
    changed = INDEX.evolve(
        {
            HostPattern("foo.com"): "new",
            HostPattern("exact.foo.com"): None,
            HostPattern("*.foo.com"): None,
            HostPattern(""): None,
        }
    )

    assert [changed.find(host) for host in (b"foo.com", b"exact.foo.com", b"x.org")] == [
        "new",
        None,
        None,
    ]
    assert INDEX.find(b"exact.foo.com") == "exact.foo.com"
    assert INDEX.find(b"x.org") == "any"
