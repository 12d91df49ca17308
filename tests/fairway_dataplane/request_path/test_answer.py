"""Heads of responses: the quick way and the careful way must say the same."""

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.exchange import Exchange, ResponseSink
from fairway_dataplane.limits import Limits
from fairway_dataplane.upstream.answer import REUSABLE, read_answer, read_ordinary

LIMITS = Limits(headers=8)

LINES = (
    b"Server: x", b"Date: Fri, 21 Nov 2025 10:00:00 GMT", b"content-type: text/plain", b"Cache: a",
    b"Tea: 1", b"X: \x80\xff\t", b"Content-Length: 0",
    b"content-length:10 ", b"Content-Length: 010",
    b"Content-Length: 1, 1", b"Content-Length: -1", b"Content-Length: 99999999999999999",
    b"Connection: keep-alive", b"connection: Keep-Alive ", b"Connection: close",
    b"Connection: keep-alive, x-a", b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked",
    b"Keep-Alive: timeout=5", b"Upgrade: h2c", b"X: a\x01b", b"X: a\rb", b"X: a\nb", b" folded",
    b": empty", b"nothing", b"X[]: 1", b"Proxy-Connection: x", b"TE: trailers", b"X: " + b"y" * 400,
)  # fmt: skip

STATUS_LINES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 Fine", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 100 Continue", b"HTTP/1.1 999 No", b"HTTP/1.1 200 a\x01b", b"HTTP/1.1  200 OK",
)  # fmt: skip


def new_exchange(method: bytes, *, verbatim: bool) -> Exchange:
    exchange = Exchange(cast("ResponseSink", None))
    exchange.method = method
    exchange.accepts_verbatim = verbatim
    return exchange


@given(
    st.sampled_from((b"GET", b"HEAD")),
    st.booleans(),
    st.sampled_from(STATUS_LINES),
    st.lists(st.sampled_from(LINES), max_size=6),
    st.sampled_from((b"", b"body", b"\r\n\r\n")),
)
@settings(max_examples=500, deadline=None)
def test_the_quick_way_says_what_the_careful_way_says(
    method: bytes,
    verbatim: bool,  # noqa: FBT001 - hypothesis passes them by position
    line: bytes,
    lines: list[bytes],
    behind: bytes,
) -> None:
    head = b"\r\n".join([line, *lines]) + b"\r\n\r\n"
    quick, careful = (new_exchange(method, verbatim=verbatim) for _ in range(2))
    if not read_ordinary(head + behind, quick, LIMITS):
        return
    end = head.index(b"\r\n\r\n")
    assert quick.head_bytes == end + 4
    assert read_answer(head + behind, end, careful, LIMITS) == REUSABLE
    assert quick.status == careful.status
    assert quick.response_length == careful.response_length
    assert quick.head_bytes == careful.head_bytes
    if not quick.accepts_verbatim:
        assert quick.status_line == careful.status_line
        assert quick.response_fields == careful.response_fields


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"])
def test_the_quick_way_is_taken_by_what_common_servers_send(connection: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n" + connection + b"X: y\r\n\r\n"
    exchange = new_exchange(b"GET", verbatim=True)
    assert read_ordinary(head + b"ok", exchange, LIMITS)
    assert exchange.accepts_verbatim
    many = head.replace(b"X: y\r\n", b"X: y\r\n" * 9)
    assert not read_ordinary(many, new_exchange(b"GET", verbatim=True), LIMITS)
