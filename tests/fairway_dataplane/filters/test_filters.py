"""Each filter, as what it makes of one request."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.exchange import DirectResponse, Exchange
from fairway_dataplane.filters import build_chain
from fairway_dataplane.rewriting import FilterRefused
from fairway_snapshot import filters as specs
from fairway_snapshot.filters import FilterSpec, Header
from fairway_snapshot.target import normalize_path


class NoSink:
    """An exchange in these tests is answered by nobody."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AssertionError(name)


def request(
    target: str = "/",
    *,
    authority: bytes = b"shop.example",
    host: bytes = b"shop.example",
    secure: bool = False,
    fields: bytes = b"",
) -> Exchange:
    exchange = Exchange(NoSink())
    path, mark, query = target.encode().partition(b"?")
    exchange.method = b"GET"
    exchange.path, exchange.query = path, mark + query
    exchange.authority, exchange.host = authority, host
    exchange.secure = secure
    exchange.fields = fields
    exchange.forwarded = b"\r\nx-forwarded-proto: http\r\nx-request-id: 1"
    exchange.accepts_verbatim = True
    return exchange


def run(exchange: Exchange, *chain: FilterSpec) -> DirectResponse | None:
    built = build_chain(chain)
    assert built is not None
    return built(exchange)


def target_of(exchange: Exchange) -> str:
    return (exchange.path + exchange.query).decode()


@pytest.mark.parametrize(
    ("prefix", "target", "sent"),
    [
        pytest.param("/api", "/api/users", "/users", id="the prefix goes"),
        pytest.param("/api", "/api", "/", id="nothing left is the root"),
        pytest.param("/api", "/api/", "/", id="a trailing slash is the root too"),
        pytest.param("/api", "/api?x=1", "/?x=1", id="the query is no part of the path"),
        pytest.param("/api", "/apix", "/apix", id="half a segment is another name"),
        pytest.param("/api", "/v1/api", "/v1/api", id="only in front"),
        pytest.param("/api", "/api//x", "//x", id="an empty segment stays a segment"),
        pytest.param("/api", "/x?/api", "/x?/api", id="a prefix in the query is not one"),
        pytest.param("/a/b", "/a/b/c", "/c", id="two segments"),
        pytest.param("/a/b", "/a/bc", "/a/bc", id="half of the second segment"),
        pytest.param("/api", "/api;v=1/x", "/x", id="parameters do not count, as in matching"),
        pytest.param("/api", "/api;v=1", "/", id="parameters of the last segment"),
        pytest.param("/api", "/apix;v=1", "/apix;v=1", id="parameters of another segment"),
        pytest.param("/", "/api/x", "/api/x", id="the root prefix strips nothing"),
        pytest.param("/%66oo", "/foo/x", "/x", id="a prefix is normalised as paths are"),
        pytest.param("/für", "/f%C3%BCr/x", "/x", id="a prefix is escaped as paths are"),
        pytest.param("/api", "/API/x", "/API/x", id="paths have cases"),
    ],
)
def test_strip_prefix(prefix: str, target: str, sent: str) -> None:
    exchange = request(target)

    assert run(exchange, specs.StripPrefix(prefix=prefix)) is None
    assert target_of(exchange) == sent


@pytest.mark.parametrize(
    ("prefix", "replacement", "target", "sent"),
    [
        pytest.param(None, "/new", "/old/x?q", "/new?q", id="the whole path, the query stays"),
        pytest.param("/foo", "/xyz", "/foo/bar", "/xyz/bar", id="a prefix"),
        pytest.param("/foo", "/xyz", "/foo/", "/xyz/", id="a prefix and its slash"),
        pytest.param("/foo", "/xyz", "/foo", "/xyz", id="a prefix that is all"),
        pytest.param("/foo", "/xyz/", "/foo/bar", "/xyz/bar", id="no two slashes"),
        pytest.param("/foo", "/xyz/", "/foo", "/xyz/", id="the replacement's slash"),
        pytest.param("/foo", "/", "/foo/bar", "/bar", id="by the root"),
        pytest.param("/foo", "/", "/foo", "/", id="all of it by the root"),
        pytest.param("/foo/", "/xyz", "/foo/bar", "/xyz/bar", id="a prefix written with a slash"),
        pytest.param("/", "/xyz", "/bar", "/xyz/bar", id="the root by a prefix"),
        pytest.param("/foo", "/a/../b", "/foo/c", "/b/c", id="dot segments of the replacement"),
        pytest.param("/foo", "/xyz", "/food", "/food", id="half a segment is another name"),
    ],
)
def test_rewrite_path(prefix: str | None, replacement: str, target: str, sent: str) -> None:
    exchange = request(target)

    run(exchange, specs.RewritePath(replacement=replacement, prefix=prefix))

    assert target_of(exchange) == sent


def test_rewrite_host_changes_what_is_sent_and_not_what_was_matched() -> None:
    exchange = request()

    run(exchange, specs.RewriteHost(host="Internal:8080"))

    assert (exchange.authority, exchange.host) == (b"Internal:8080", b"shop.example")


@pytest.mark.parametrize(
    ("spec", "exchange", "location"),
    [
        pytest.param(
            specs.Redirect(host="new.example"),
            request("/a?b"),
            b"http://new.example/a?b",
            id="another host keeps path and query",
        ),
        pytest.param(
            specs.Redirect(scheme="https"),
            request("/", authority=b"shop.example:8080"),
            b"https://shop.example/",
            id="another scheme has its own port",
        ),
        pytest.param(
            specs.Redirect(path="/new"),
            request("/old", authority=b"shop.example:8080"),
            b"http://shop.example:8080/new",
            id="the same scheme keeps the port",
        ),
        pytest.param(
            specs.Redirect(scheme="https", port=8443),
            request("/"),
            b"https://shop.example:8443/",
            id="a port of its own",
        ),
        pytest.param(
            specs.Redirect(scheme="http", port=80),
            request("/", secure=True),
            b"http://shop.example/",
            id="a well-known port is left out",
        ),
        pytest.param(
            specs.Redirect(path="/b", prefix="/a"),
            request("/a/x?q=1", secure=True),
            b"https://shop.example/b/x?q=1",
            id="another prefix",
        ),
        pytest.param(
            specs.Redirect(path="/b"),
            request("/", host=b"[::1]", authority=b"[::1]"),
            b"http://[::1]/b",
            id="the colons of an address are no port",
        ),
        pytest.param(
            specs.Redirect(path="/b"),
            request("/", host=b"[::1]", authority=b"[::1]:81"),
            b"http://[::1]:81/b",
            id="an address with a port",
        ),
        pytest.param(
            specs.Redirect(scheme="https"),
            request("//evil.example/", host=b"", authority=b""),
            b"/evil.example/",
            id="without a host no path can become one",
        ),
    ],
)
def test_redirect(spec: specs.Redirect, exchange: Exchange, location: bytes) -> None:
    response = run(exchange, spec)

    assert response is not None
    assert (response.status, response.fields) == (302, b"\r\nlocation: " + location)


def test_https_redirect_sends_a_clear_request_to_https() -> None:
    response = run(request("/a?b", authority=b"shop.example:80"), specs.HttpsRedirect())

    assert response is not None
    assert response.status == 308
    assert response.fields == b"\r\nlocation: https://shop.example/a?b"


def test_https_redirect_names_a_port_that_is_not_443() -> None:
    response = run(request(), specs.HttpsRedirect(port=8443, status=301))

    assert response is not None
    assert response.status == 301
    assert response.fields == b"\r\nlocation: https://shop.example:8443/"


def test_https_redirect_lets_tls_pass() -> None:
    assert run(request(secure=True), specs.HttpsRedirect()) is None


def test_https_redirect_refuses_a_request_that_names_no_host() -> None:
    response = run(request(host=b"", authority=b""), specs.HttpsRedirect())

    assert response is not None
    assert response.status == 400


def test_request_headers_are_removed_then_set_then_added() -> None:
    exchange = request(fields=b"\r\nX-Debug: 1\r\nx-tier: free\r\naccept: */*")

    run(
        exchange,
        specs.RequestHeaders(
            remove=("x-debug",),
            set=(Header(name="x-tier", value="gold"),),
            add=(Header(name="accept", value="text/html"),),
        ),
    )

    assert exchange.fields == b"\r\naccept: */*\r\nx-tier: gold\r\naccept: text/html"
    assert exchange.forwarded == b"\r\nx-forwarded-proto: http\r\nx-request-id: 1"


def test_request_headers_replace_those_that_fairway_adds() -> None:
    exchange = request()

    run(
        exchange,
        specs.RequestHeaders(set=(Header(name="x-forwarded-proto", value="https"),)),
    )

    assert exchange.fields == b"\r\nx-forwarded-proto: https"
    assert exchange.forwarded == b"\r\nx-request-id: 1"


def test_response_headers_change_the_answer_and_not_the_request() -> None:
    exchange = request(fields=b"\r\nserver: mine")

    run(
        exchange,
        specs.ResponseHeaders(remove=("server",)),
        specs.ResponseHeaders(add=(Header(name="x-frame-options", value="DENY"),)),
    )
    exchange.response_fields = b"\r\nServer: gunicorn\r\netag: 1"
    assert exchange.response_edit is not None
    exchange.response_edit(exchange)

    assert exchange.response_fields == b"\r\netag: 1\r\nx-frame-options: DENY"
    assert exchange.fields == b"\r\nserver: mine"
    assert not exchange.accepts_verbatim


def test_direct_response_answers() -> None:
    response = run(request(), specs.DirectResponse(status=503, body="closed"))

    assert response is not None
    assert (response.status, response.body) == (503, b"closed")
    assert response.content_type == b"text/plain; charset=utf-8"


def test_no_filters_are_no_call() -> None:
    assert build_chain(()) is None


def test_the_first_answer_ends_the_chain() -> None:
    exchange = request("/a/x")

    response = run(
        exchange,
        specs.StripPrefix(prefix="/a"),
        specs.DirectResponse(status=204),
        specs.RewritePath(replacement="/never"),
    )

    assert response is not None
    assert response.status == 204
    assert exchange.path == b"/x"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(specs.StripPrefix(prefix="api"), id="a prefix that is not absolute"),
        pytest.param(specs.RewritePath(replacement="a"), id="a path that is not absolute"),
        pytest.param(specs.RewritePath(replacement="/%zz"), id="a bad escape"),
        pytest.param(specs.RewriteHost(host="a b"), id="a host with a space"),
        pytest.param(specs.RewriteHost(host="a\r\nx: y"), id="a host with a line end"),
        pytest.param(specs.RewriteHost(host=""), id="no host"),
        pytest.param(specs.Redirect(status=200), id="a redirect that is none"),
        pytest.param(specs.Redirect(scheme="javascript"), id="a scheme that is not of HTTP"),
        pytest.param(specs.Redirect(port=0), id="port 0"),
        pytest.param(specs.HttpsRedirect(port=65536), id="a port above the last"),
        pytest.param(specs.HttpsRedirect(status=304), id="a status without location"),
        pytest.param(specs.DirectResponse(status=100), id="an interim answer"),
        pytest.param(specs.DirectResponse(status=204, body="x"), id="a body where none may be"),
        pytest.param(
            specs.DirectResponse(status=200, body="x", content_type="a\nb"), id="a split type"
        ),
        pytest.param(
            specs.RequestHeaders(set=(Header(name="x", value="a\r\nhost: b"),)),
            id="a value with a line end",
        ),
        pytest.param(
            specs.RequestHeaders(set=(Header(name="x", value="a\x00"),)), id="a value with NUL"
        ),
        pytest.param(specs.RequestHeaders(remove=("a b",)), id="a name with a space"),
        pytest.param(specs.RequestHeaders(remove=("",)), id="an empty name"),
        pytest.param(
            specs.RequestHeaders(set=(Header(name="Content-Length", value="1"),)),
            id="framing of the request",
        ),
        pytest.param(specs.RequestHeaders(remove=("host",)), id="the host"),
        pytest.param(
            specs.ResponseHeaders(add=(Header(name="transfer-encoding", value="chunked"),)),
            id="framing of the answer",
        ),
    ],
)
def test_what_may_not_stand_in_a_message_is_refused_when_the_table_is_built(
    spec: FilterSpec,
) -> None:
    with pytest.raises(FilterRefused):
        build_chain((spec,))


segment = st.text("abcxyz;=.-_~", min_size=0, max_size=4)
path = st.lists(segment, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
clean_path = path.filter(lambda text: ";" not in text or "./" not in text + "/").map(
    lambda text: text.replace(";", "")
)
spec = st.one_of(
    st.builds(specs.StripPrefix, prefix=clean_path),
    st.builds(specs.RewritePath, replacement=clean_path, prefix=st.none() | clean_path),
    st.builds(specs.RewriteHost, host=st.sampled_from(["a.example", "b.example:81"])),
    st.builds(
        specs.RequestHeaders,
        set=st.just((Header(name="x-a", value="1"),)),
        remove=st.sampled_from([(), ("x-b",)]),
    ),
    st.builds(specs.DirectResponse, status=st.sampled_from([200, 503])),
    st.builds(specs.HttpsRedirect),
)


@given(chain=st.lists(spec, min_size=1, max_size=4), raw=clean_path, secure=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_chain_is_its_filters_one_after_the_other(
    *, chain: list[FilterSpec], raw: str, secure: bool
) -> None:
    start = normalize_path(raw.encode()).decode()
    whole, one_by_one = (
        request(start + "?q=1", secure=secure, fields=b"\r\nx-b: 2") for _ in range(2)
    )

    expected = None
    for each in chain:
        expected = run(one_by_one, each)
        if expected is not None:
            break
    response = run(whole, *chain)

    assert (response is None) == (expected is None)
    if response is not None and expected is not None:
        assert (response.status, response.fields) == (expected.status, expected.fields)
    for name in ("path", "query", "authority", "fields", "forwarded"):
        assert getattr(whole, name) == getattr(one_by_one, name)
    assert normalize_path(whole.path) == whole.path
    assert whole.query == b"?q=1"
