"""What is remembered of heads changes no reading: beside the reader, byte for byte."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairway_dataplane.downstream import repeated as lines
from fairway_dataplane.downstream.repeated import RepeatedLines
from fairway_dataplane.exchange import NO_BODY, Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.policy import RequestReader
from fairway_dataplane.upstream import repeated as heads
from fairway_dataplane.upstream.answer import read_ordinary
from fairway_dataplane.upstream.repeated import RepeatedHead

LIMITS = Limits(request_line_bytes=200)

READ = ("method", "path", "query", "host", "authority", "fields", "claims", "keep_alive",
        "accepts_chunked", "body_length", "upgrade", "expects_continue", "ends_here",
        "encoded_slash")  # fmt: skip

LINES = st.lists(
    st.sampled_from(
        (
            b"Host: a.example", b"Host: A.example:80", b"Accept: */*", b"Cookie: a=b", b"X: y",
            b"Connection: keep-alive", b"Connection: close", b"Connection: X", b"Via: 1.1 x",
            b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked",
            b"Max-Forwards: 0", b"Expect: 100-continue", b"X-Forwarded-For: 192.0.2.1",
            b"Upgrade: websocket", b"Connection: Upgrade", b"X_Y: z", b"Bad Name: x",
        )
    ),
    max_size=4,
).map(lambda found: b"".join(b"\r\n" + line for line in (b"Host: b.example", *found)))  # fmt: skip

REQUEST_LINES = st.builds(
    lambda method, target, version: b"%b %b %b" % (method, target, version),
    st.sampled_from((b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"")),
    st.sampled_from((b"/", b"*", b"x", b"//", b"http://c.example/x", b"/" + b"l" * 200))
    | st.text("/.%2Fa?#;\\ \r\n\x00é", max_size=8).map(lambda text: b"/" + text.encode()),
    st.sampled_from((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ")),
)


class Nobody:
    """No sink: nothing is answered here."""


def new_exchange() -> Exchange:
    return Exchange(Nobody())  # type: ignore[arg-type] # nothing is answered


@given(LINES, REQUEST_LINES, REQUEST_LINES)
@example(b"\r\nHost: a.example", b"GET http://c.example/ HTTP/1.1", b"GET / HTTP/1.1")
@example(b"\r\nHost: a.example\r\nMax-Forwards: 0", b"GET / HTTP/1.1", b"OPTIONS / HTTP/1.1")
@example(b"\r\nHost: a.example", b"GET / HTTP/1.1", b"GET /%2e%2e/?a=%zz HTTP/1.1")
@example(b"\r\nHost: a.example", b"GET / HTTP/1.1", b"GET /\r\nX: y HTTP/1.1")
def test_known_lines_are_read_as_the_reader_reads_them(
    block: bytes, first: bytes, second: bytes
) -> None:
    known = RepeatedLines(LIMITS)
    head = first + block + b"\r\n\r\n"
    learnt = new_exchange()
    if RequestReader(LIMITS).read(head, learnt) is None:
        known.learn(head, learnt)
    head = second + block + b"\r\n\r\n"
    quick, careful = new_exchange(), new_exchange()
    if known.read(head, quick):
        assert RequestReader(LIMITS).read(head, careful) is None
        for name in READ:
            assert getattr(quick, name) == getattr(careful, name), name
        assert quick.body_length == NO_BODY


def test_the_same_lines_are_known_again() -> None:
    known = RepeatedLines(LIMITS)
    block = b" HTTP/1.1\r\nHost: a.example\r\nCookie: a=b\r\nConnection: keep-alive\r\n\r\n"
    exchange = new_exchange()
    assert not known.read(b"GET /a" + block, exchange)
    assert RequestReader(LIMITS).read(b"GET /a" + block, exchange) is None
    known.learn(b"GET /a" + block, exchange)
    assert known.read(b"POST /b?c=d" + block, exchange)
    assert (exchange.method, exchange.path, exchange.query) == (b"POST", b"/b", b"?c=d")
    assert not known.read(b"GET /a" + block.replace(b"a=b", b"a=c"), exchange)


@pytest.mark.parametrize("excess", [0, 1])
def test_long_lines_are_not_remembered(excess: int) -> None:
    known, exchange = RepeatedLines(LIMITS), new_exchange()
    block = b"\r\nHost: a.example\r\nX: \r\n\r\n"
    size = lines.REMEMBERED_BYTES - len(block) + excess
    head = b"GET / HTTP/1.1" + block.replace(b"X: ", b"X: " + b"x" * size)
    assert RequestReader(LIMITS).read(head, exchange) is None
    known.learn(head, exchange)
    assert known.read(head, exchange) is not bool(excess)


def answer_of(data: bytes, *, verbatim: bool, method: bytes = b"GET") -> Exchange:
    exchange = new_exchange()
    exchange.method = method
    exchange.accepts_verbatim = verbatim
    exchange.status_line = exchange.response_fields = b""
    assert method == b"HEAD" or read_ordinary(data, exchange, LIMITS)
    return exchange


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_known_head_is_read_as_the_reader_reads_it(*, first: bool, second: bool) -> None:
    data = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
    known = RepeatedHead()
    known.learn(data, answer_of(data, verbatim=first))
    careful = answer_of(data, verbatim=second)
    quick = new_exchange()
    quick.method, quick.accepts_verbatim = b"GET", second
    quick.status_line = quick.response_fields = b""
    # The parts of a head are not at hand if only its whole was asked for before.
    assert known.read(data, quick) is (second or not first)
    if second or not first:
        names = ["status", "head_bytes", "response_length", "accepts_verbatim"]
        if not second:
            names += ["status_line", "response_fields"]
        assert [getattr(quick, name) for name in names] == [
            getattr(careful, name) for name in names
        ]


def test_no_head_is_known_for_head_or_at_first_or_when_it_is_long() -> None:
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    known = RepeatedHead()
    exchange = answer_of(data, verbatim=True)
    assert not known.read(data, exchange)
    assert not known.read(b"\0" + data, exchange)
    known.learn(data, exchange)
    assert known.read(data + b"ok", exchange)
    assert not known.read(data, answer_of(data, verbatim=True, method=b"HEAD"))
    long = data.replace(b"OK\r\n", b"OK\r\nX: " + b"x" * heads.REMEMBERED_BYTES + b"\r\n")
    known.learn(long, answer_of(long, verbatim=True))
    assert not known.read(long, exchange)
