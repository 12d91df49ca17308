"""
The catalogue of bad and hard requests: rows 1 to 77 of docs/http-policy.md.

Each row is sent as raw bytes. A refused one must not reach the backend, and an
accepted one must reach it in exactly one form; then the connection is closed
or kept as the row says, and a kept one must still be in step.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fairway_dataplane.catalogue.conftest import Answer, Wire

CLOSE, KEEP = "close", "keep"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"


def get(*lines: bytes, target: bytes = b"/x", version: bytes = b"HTTP/1.1") -> bytes:
    head = (b"GET " + target + b" " + version, b"Host: a.example", *lines)
    return b"\r\n".join(head) + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    head = (b"POST /x " + version, b"Host: a.example", *lines)
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


@dataclass(frozen=True)
class Row:
    """What is sent, and what must come of it."""

    sent: bytes
    status: int
    after: str
    target: bytes | None = None
    """As the backend must see it; None: nothing may reach the backend."""
    body: bytes = b""
    host: bytes = b"a.example"
    present: dict[bytes, bytes] = field(default_factory=dict)
    absent: tuple[bytes, ...] = ()
    reason: bytes | None = None


def refused(sent: bytes, status: int, after: str = CLOSE, reason: bytes | None = None) -> Row:
    return Row(sent, status, after, reason=reason)


def passed(
    sent: bytes,
    target: bytes = b"/x",
    body: bytes = b"",
    after: str = KEEP,
    *,
    host: bytes = b"a.example",
    present: dict[bytes, bytes] | None = None,
    absent: tuple[bytes, ...] = (),
) -> Row:
    return Row(sent, 200, after, target, body, host, present or {}, absent)


CL5 = b"Content-Length: 5"
TE = b"Transfer-Encoding: chunked"
ZERO = b"0\r\n\r\n"

FRAMING = {
    "01 CL then TE": refused(post(CL5, TE, body=ZERO), 400),
    "01 TE then CL": refused(post(TE, CL5, body=ZERO), 400),
    "02 TE xchunked": refused(post(b"Transfer-Encoding: xchunked", body=ZERO), 501),
    "02 TE identity": refused(post(b"Transfer-Encoding: identity", body=ZERO), 501),
    "02 TE gzip": refused(post(b"Transfer-Encoding: gzip", body=ZERO), 501),
    "02 TE empty": refused(post(b"Transfer-Encoding:", body=ZERO), 501),
    "02 TE quoted": refused(post(b'Transfer-Encoding: "chunked"', body=ZERO), 501),
    "03 TE chunked, cow": refused(post(b"Transfer-Encoding: chunked, cow", body=ZERO), 400),
    "04 TE cow, chunked": refused(post(b"Transfer-Encoding: cow, chunked", body=ZERO), 501),
    "04 TE gzip, chunked": refused(post(b"Transfer-Encoding: gzip, chunked", body=ZERO), 501),
    "04 TE ,chunked": refused(post(b"Transfer-Encoding: ,chunked", body=ZERO), 501),
    "05 two TE": refused(post(TE, TE, body=ZERO), 400),
    "06 TE with VT": refused(post(b"Transfer-Encoding: \x0bchunked", body=ZERO), 400),
    "06 TE with NBSP": refused(post(b"Transfer-Encoding: \xa0chunked", body=ZERO), 400),
    "06 TE with 0xFF": refused(post(b"Transfer-Encoding: chunked\xff", body=ZERO), 400),
    "06 TE with TAB": refused(post(b"Transfer-Encoding: chunked\t", body=ZERO), 400),
    "06 TE with CR": refused(post(b"Transfer-Encoding: chunked\r", body=ZERO), 400),
    "07 Transfer_Encoding": refused(post(b"Transfer_Encoding: chunked", body=ZERO), 400),
    "07 Content_Length": refused(post(b"Content_Length: 5"), 400),
    "08 TE on 1.0": refused(post(TE, body=ZERO, version=b"HTTP/1.0"), 400),
    "09 duplicate CL, same": refused(post(CL5, CL5, body=b"hello"), 400),
    "10 duplicate CL, other": refused(post(CL5, b"Content-Length: 6", body=b"hello"), 400),
    "10 CL list": refused(post(b"Content-Length: 1, 2", body=b"h"), 400),
    **{
        f"11 CL {text!r}": refused(post(b"Content-Length: " + text, body=b"h"), 400)
        for text in (b"+1", b"-1", b"0x1", b"1_0", b"1Z", b"1 1", b"1,", b"")
    },
    "12 CL 010": passed(
        post(b"Content-Length: 010", body=b"0123456789"),
        body=b"0123456789",
        present={b"content-length": b"10"},
    ),
    "13 CL 2^63": refused(post(b"Content-Length: 9223372036854775808"), 400),
    "13 CL 2^64-1": refused(post(b"Content-Length: 18446744073709551615"), 400),
    "14 CL 2^64": refused(post(b"Content-Length: 18446744073709551616"), 400),
    "15 chunk size overflow": refused(chunked(b"f" * 17 + b"\r\n"), 400),
    "15 sixteen f": refused(chunked(b"f" * 16 + b"\r\n"), 400),
    "15 chunk of 2^31": refused(chunked(b"80000001\r\n"), 400),
    **{
        f"16 chunk size {text!r}": refused(chunked(text + b"\r\nh\r\n" + ZERO), 400)
        for text in (b"0x1", b"+1", b"-1", b"0_1", b"", b" 1")
    },
    "17 chunk size with trailing space": refused(chunked(b"1 \r\nh\r\n" + ZERO), 400),
    "18 chunk extension": passed(
        chunked(b"5;name=value\r\nhello\r\n0;last\r\n\r\n"), body=b"hello"
    ),
    "19 64 KiB chunk extension": refused(chunked(b"5;" + b"x" * 65536 + b"\r\nhello\r\n"), 400),
    "20 chunk extension ended by LF": refused(chunked(b"5;a\nhello\r\n" + ZERO), 400),
    "21 CR in chunk extension": refused(chunked(b"5;a\rb\r\nhello\r\n" + ZERO), 400),
    "22 chunk line ended by LF": refused(chunked(b"5\nhello\r\n" + ZERO), 400),
    "22 chunk data ended by LF": refused(chunked(b"5\r\nhello\n" + ZERO), 400),
    "23 no CRLF after chunk data": refused(chunked(b"5\r\nhelloXX" + ZERO), 400),
    "23 garbage after last chunk": refused(chunked(b"5\r\nhello\r\n0\r\nXX\r\n\r\n"), 400),
    "24 1000 leading zeros": refused(chunked(b"0" * 1000 + b"5\r\nhello\r\n" + ZERO), 400),
    "25 trailers are dropped": passed(
        chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), body=b"hello", absent=(b"x-sum",)
    ),
    **{
        f"26 trailer {name.decode()}": refused(
            chunked(b"5\r\nhello\r\n0\r\n" + name + b": 1\r\n\r\n"), 400
        )
        for name in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization")
    },
    "27 GET with a body": passed(get(CL5) + b"hello", body=b"hello"),
    "27 HEAD with a body": refused(
        b"HEAD /x HTTP/1.1\r\nHost: a.example\r\n" + CL5 + b"\r\n\r\nhello", 400
    ),
    "28 Expect y 100-continue": refused(post(CL5, b"Expect: y 100-continue", body=b"hello"), 417),
    "28 Expect 200-maybe": refused(post(CL5, b"Expect: 200-maybe", body=b"hello"), 417),
    "28 Expect is not forwarded": passed(
        post(CL5, b"Expect: 100-continue", body=b"hello"), body=b"hello", absent=(b"expect",)
    ),
    "32 bytes after Connection: close": passed(get(b"Connection: close") + NEXT, after=CLOSE),
    "33 one CRLF before the request": passed(b"\r\n" + get()),
    "33 two CRLF before the request": passed(b"\r\n\r\n" + get()),
    "33 three CRLF before the request": refused(b"\r\n" * 3 + get(), 400),
    "34 100 LFs before the request": refused(b"\n" * 100 + get(), 400),
}

SYNTAX = {
    "35 LF line ends": refused(b"GET /x HTTP/1.1\nHost: a.example\n\n", 400),
    "35 one LF line end": refused(b"GET /x HTTP/1.1\r\nHost: a.example\nX: 1\r\n\r\n", 400),
    "36 CR in a value": refused(get(b"X: a\rb"), 400),
    "36 CR as line end": refused(b"GET /x HTTP/1.1\rHost: a.example\r\r\n\r\n", 400),
    "37 NUL in a value": refused(get(b"X: a\0b"), 400),
    "37 NUL in a name": refused(get(b"X\0Y: a"), 400),
    "38 DEL in a value": refused(get(b"X: a\x7fb"), 400),
    "38 BEL in a value": refused(get(b"X: a\x07b"), 400),
    "39 obs-text is forwarded": passed(get(b"X: \x80\xff"), present={b"x": b"\x80\xff"}),
    "40 obs-fold": refused(get(b"X: a", b" b"), 400),
    "41 obs-fold hides TE": refused(get(b"X: a", b" Transfer-Encoding: chunked"), 400),
    "42 space before the first header": refused(
        b"GET /x HTTP/1.1\r\n Host: a.example\r\n\r\n", 400
    ),
    "43 space before colon": refused(get(b"X : a"), 400),
    "43 TAB before colon": refused(get(b"X\t: a"), 400),
    "44 empty name": refused(get(b": a"), 400),
    "44 no colon": refused(get(b"nonsense"), 400),
    "44 brackets in a name": refused(get(b"X[]: a"), 400),
    "44 0xEF in a name": refused(get(b"X\xef: a"), 400),
    "44 0x85 in a name": refused(get(b"X\x85: a"), 400),
    "45 double space": refused(b"GET  /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
    "45 TAB": refused(b"GET\t/x HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
    "45 trailing space": refused(b"GET /x HTTP/1.1 \r\nHost: a.example\r\n\r\n", 400),
    "46 HTTP/0.9 simple": refused(b"GET /x\r\n\r\n", 400),
    **{
        f"46 {version.decode()}": refused(get(version=version), status)
        for version, status in (
            (b"HTTP/0.9", 505),
            (b"HTTP/1.2", 505),
            (b"HTTP/2.0", 505),
            (b"HTTP/9.9", 505),
            (b"HTTP/1.10", 400),
            (b"http/1.1", 400),
        )
    },
    "47 RTSP": refused(get(version=b"RTSP/1.0"), 400),
    "47 ICE": refused(b"SOURCE /x ICE/1.0\r\nHost: a.example\r\n\r\n", 400),
    "48 HTTP/2 preface": refused(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "49 TLS hello": refused(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    "49 PROXY line": refused(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + get(), 400),
    "50 unknown method": refused(b"FOO /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 501),
    "51 lower-case method": refused(b"get /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 501),
    "52 CONNECT": refused(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", 405),
    "52 TRACE": refused(b"TRACE /x HTTP/1.1\r\nHost: a.example\r\n\r\n", 405),
    "53 long header line": refused(get(b"X: " + b"a" * 20_000), 431),
    "53 101 headers": refused(get(*(b"X: a" for _ in range(100))), 431),
    "53 large block": refused(get(*(b"X: " + b"a" * 1000 for _ in range(40))), 431),
    "53 long target": refused(get(target=b"/" + b"a" * 9000), 414),
}

HOST = {
    "55 no Host": refused(b"GET /x HTTP/1.1\r\n\r\n", 400),
    "56 two Hosts": refused(get(b"Host: b.example"), 400),
    "56 two equal Hosts": refused(get(b"Host: a.example"), 400),
    **{
        f"57 Host {host!r}": refused(b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
        for host in (b"a b", b"@c", b"", b"a/b", b"a.example:x", b"a.example:99999", b"a,b")
    },
    "58 absolute form wins over Host": passed(get(target=b"http://b.example/x"), host=b"b.example"),
    "59 userinfo": refused(get(target=b"http://u:p@b.example/x"), 400),
    "60 GET *": refused(get(target=b"*"), 400),
    "60 fragment": refused(get(target=b"/x#y"), 400),
    "60 no leading slash": refused(get(target=b"x"), 400),
    "61 case, port and dot stay upstream": passed(
        b"GET /x HTTP/1.1\r\nHost: A.Example.:80\r\n\r\n", host=b"A.Example.:80"
    ),
    "61 case, port and dot do not change the match": refused(
        b"GET /x HTTP/1.1\r\nHost: NONE.Example.:80\r\n\r\n", 404, KEEP, b"no-route"
    ),
    "62 U-label": refused("GET /x HTTP/1.1\r\nHost: bücher.example\r\n\r\n".encode(), 400),
    "62 IPv6": passed(b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", host=b"[::1]:80"),
    "62 IPv6 zone": refused(b"GET /x HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", 400),
    "63 %00": refused(get(target=b"/a%00b"), 400),
    "63 %2f": refused(get(target=b"/a%2fb"), 400, KEEP),
    "63 %5c": refused(get(target=b"/a%5cb"), 400, KEEP),
    "63 %2e%2e": passed(get(target=b"/a/%2e%2e/b"), b"/b"),
    "64 dot segments": passed(get(target=b"/a/../b/./c"), b"/b/c"),
    "64 above the root": passed(get(target=b"/../../b"), b"/b"),
    "64 // stays": passed(get(target=b"/a//b"), b"/a//b"),
    "64 parameters stay": passed(get(target=b"/a;v=1?q=../x"), b"/a;v=1?q=../x"),
    "65 double encoding": passed(get(target=b"/a%252e%252e"), b"/a%252e%252e"),
    "66 raw UTF-8": refused(get(target="/ü".encode()), 400),
    "66 backslash": refused(get(target=b"/a\\b"), 400),
    "66 others are encoded": passed(get(target=b'/a"<>^{}`|'), b"/a%22%3C%3E%5E%7B%7D%60%7C"),
    "67 bad escape": refused(get(target=b"/a%zz"), 400),
}

FORWARDING = {
    **{
        f"68 Connection: {name.decode()}": refused(get(b"Connection: " + name), 400)
        for name in (b"Host", b"Transfer-Encoding", b"Content-Length")
    },
    "68 a nominated header is dropped": passed(
        get(b"Connection: X-Secret", b"X-Secret: 1"), absent=(b"x-secret", b"connection")
    ),
    "68 ours survive a nomination": passed(
        get(b"Connection: X-Forwarded-For, X-Forwarded-Proto"),
        present={b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http"},
    ),
    "68 Proxy-Connection is nobody's": passed(
        get(b"Proxy-Connection: close"), absent=(b"proxy-connection",)
    ),
    "69 claims of an untrusted client": passed(
        get(
            b"X-Forwarded-For: 6.6.6.6",
            b"X-Forwarded-Proto: https",
            b"X-Real-IP: 6.6.6.6",
            b"Forwarded: for=6.6.6.6",
        ),
        present={b"x-forwarded-for": b"127.0.0.1", b"x-forwarded-proto": b"http"},
        absent=(b"forwarded",),
    ),
    "71 X_Forwarded_For": passed(get(b"X_Forwarded_For: 6.6.6.6"), absent=(b"x_forwarded_for",)),
    "73 Upgrade: h2c": passed(
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
        absent=(b"upgrade", b"http2-settings", b"connection"),
    ),
    "74 websocket with a body": refused(
        post(b"Connection: Upgrade", b"Upgrade: websocket", CL5, body=b"hello"), 400
    ),
    "77 ten proxies in Via": refused(get(*(b"Via: 1.1 p" for _ in range(10))), 508),
    "77 OPTIONS with Max-Forwards": passed(
        b"OPTIONS /x HTTP/1.1\r\nHost: a.example\r\nMax-Forwards: 3\r\n\r\n",
        present={b"max-forwards": b"2"},
    ),
}

ROWS = {**FRAMING, **SYNTAX, **HOST, **FORWARDING}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
@pytest.mark.parametrize("segments", ["whole", "bytes"])
async def test_row(wire: "Wire", row: Row, segments: str) -> None:
    client = await wire.connect()
    if segments == "whole" or len(row.sent) > 2000:
        await client.send(row.sent)
    else:
        for at in range(len(row.sent)):
            client.writer.write(row.sent[at : at + 1])
    answer = await client.receive()

    assert answer is not None
    assert answer.status == row.status
    if row.target is None:
        check_refused(wire, answer, row)
    else:
        check_forwarded(wire, row)
    assert wire.backend.unreadable == []
    if row.after == CLOSE:
        assert await client.ended()
    else:
        await client.send(NEXT)
        answer = await client.receive()
        assert answer is not None
        assert answer.status == 200
        assert wire.backend.seen[-1].target == b"/next"


def check_refused(wire: "Wire", answer: "Answer", row: Row) -> None:
    assert not any(seen.complete for seen in wire.backend.seen)
    reason = answer.field(b"fairway-reason")
    assert reason is not None
    if row.reason:
        assert reason == row.reason


def check_forwarded(wire: "Wire", row: Row) -> None:
    (seen,) = wire.backend.seen
    assert seen.complete
    assert seen.target == row.target
    assert seen.body == row.body
    assert seen.values(b"host") == [row.host]
    for name, value in row.present.items():
        assert seen.values(name) == [value]
    for name in row.absent:
        assert seen.values(name) == []


async def test_row_31_pipelined_requests_are_answered_in_order(wire: "Wire") -> None:
    wire.backend.answer = lambda seen: (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(seen.target), seen.target)
    )
    client = await wire.connect()
    await client.send(b"".join(get(target=b"/%d" % number) for number in range(40)))
    for number in range(40):
        answer = await client.receive()
        assert answer is not None
        assert answer.body == b"/%d" % number


async def test_row_29_an_early_answer_is_passed_on_and_the_connection_not_reused(
    wire: "Wire",
) -> None:
    wire.backend.early = True
    wire.backend.answer = lambda _: b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    client = await wire.connect()
    await client.send(post(b"Content-Length: 1000000", body=b"x" * 1000))
    answer = await client.receive()
    assert answer is not None
    assert (answer.status, answer.body) == (403, b"no")
    _, answer = await wire.ask(get(target=b"/other"))
    assert answer is not None
    assert wire.backend.seen[-1].connection != wire.backend.seen[0].connection


async def test_row_30_a_client_that_leaves_mid_body_never_looks_complete(wire: "Wire") -> None:
    client = await wire.connect()
    await client.send(post(b"Content-Length: 10", body=b"hello"))
    while not wire.backend.raw:
        await wire.ask(get(target=b"/wait"))
    client.writer.close()
    for _ in range(100):
        if wire.backend.closed[0]:
            break
        await wire.ask(get(target=b"/wait"))
    assert wire.backend.closed[0]
    assert not wire.backend.seen[0].complete


async def test_row_54_a_head_in_bytes_has_the_same_verdict(wire: "Wire") -> None:
    client = await wire.connect()
    data = get(b"X: " + b"a" * 8000)
    for at in range(0, len(data), 7):
        client.writer.write(data[at : at + 7])
    answer = await client.receive()
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize("first", range(1, 8))
async def test_row_54_a_head_may_come_in_two_segments_of_any_size(wire: "Wire", first: int) -> None:
    client = await wire.connect()
    await client.send(get()[:first])
    # The answer to another client shows that the proxy has read the first segment.
    await wire.ask(get())
    await client.send(get()[first:])
    answer = await client.receive()
    assert answer is not None
    assert answer.status == 200


async def test_row_28_100_continue_is_ours_and_comes_once(wire: "Wire") -> None:
    client = await wire.connect()
    await client.send(post(CL5, b"Expect: 100-continue"))
    first = await client.reader.readuntil(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 100 ")
    await client.send(b"hello")
    answer = await client.receive()
    assert answer is not None
    assert (answer.status, answer.interim) == (200, [])
    assert wire.backend.seen[0].body == b"hello"


async def test_row_75_bytes_after_an_upgrade_wait_for_101(wire: "Wire") -> None:
    upgrade = get(b"Connection: Upgrade", b"Upgrade: websocket")
    client = await wire.connect()
    # The backend does not switch, so what follows is a request like any other.
    await client.send(upgrade + NEXT)
    answers = [await client.receive(), await client.receive()]
    assert [answer and answer.status for answer in answers] == [200, 200]
    assert [seen.target for seen in wire.backend.seen] == [b"/x", b"/next"]
