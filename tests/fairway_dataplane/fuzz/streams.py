"""
Streams to read: well-formed ones, put together from a grammar, and then damaged.

Everything is drawn from one ``random.Random``, so a case is known by its number
for good, and hypothesis, which has a Random of its own, can shrink it.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from random import Random

CRLF = b"\r\n"

METHODS = (b"GET", b"GET", b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS")
ODD_METHODS = (b"PATCH", b"QUERY", b"PURGE", b"get", b"FOO", b"CONNECT", b"TRACE", b"M-SEARCH", b"")
TARGETS = (b"/", b"/a", b"/a/b?c=d", b"/a?b=c&d=%20")
ODD_TARGETS = (
    b"/a/../b", b"/%2e%2e/b", b"/a%2fb", b"/a%5cb", b"/a%00", b"/%zz", b"/a;v=1/b", b"/..;/b",
    b"/a//b", b"*", b"http://b.example/x?y", b"HTTP://B.Example:80", b"https://u@b.example/",
    b"http://b.example?x=/../y", b"http:///x", b"a.example:443", b"a", b"?x", b"/a#b", b"/a?b#c",
    b'/"<>^`{|}', b"/a\\b", b"/\xc3\xbc", b"/a?\xff", b"/a?<>|", b"/a?%", b"//a/..", b"/.",
    b"/%41%7e", b"/a?/../b", b"/" + b"a" * 1100, b"",
)  # fmt: skip
VERSIONS = (b"HTTP/1.1",) * 8 + (b"HTTP/1.0",)
ODD_VERSIONS = (b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"RTSP/1.0", b"")
ODD_HOSTS = (
    b"A.Example.:80", b"[::1]:80", b"[fe80::1%25eth0]", b"a b", b"", b"a,b", b"u@a", b"a:99999",
    b"a:", b"a..b", b"-", b"a_b", b"\xff", b"a.example/", b"1.2.3.4", b"a.example\t",
)  # fmt: skip
FIELDS = (
    b"Accept: */*", b"User-Agent: x", b"X-A: 1", b"x-empty:", b"x-empty:   ", b"Cookie: a=b; c=d",
    b"Connection: keep-alive", b"Connection: Keep-Alive, x-a", b"X-Forwarded-For: 1.1.1.1",
    b"Via: 1.1 p", b"Accept-Encoding: gzip", b"X: \x80\xff", b"X-A:\ttab\tinside\t", b"Range: 0-1",
)  # fmt: skip
ODD_FIELDS = (
    b"Connection: close", b"Connection: Host", b"Connection: content-length", b"Connection:,",
    b"Connection: close, keep-alive", b"Connection: Upgrade", b"Upgrade: websocket",
    b"Upgrade: h2c", b"Upgrade: websocket/13", b"Upgrade: a b", b"Upgrade:",
    b"Expect: 100-continue", b"Expect: x", b"Expect: 100-Continue, x", b"Max-Forwards: 0",
    b"Max-Forwards: 3", b"Max-Forwards: x", b"TE: trailers", b"Trailer: X", b"Keep-Alive: 5",
    b"Proxy-Connection: close", b"Host: b.example", b"Host:", b"Content-Length: 5",
    b"Content-Length: 0", b"Content-Length: 00", b"Content-Length:", b"Content-Length: 5, 5",
    b"Content-Length: +5", b"Content-Length: 05", b"Content-Length:\t5 ",
    b"Content-Length: 99999999999999999999", b"Content-Length: 9007199254740993",
    b"Content-Length : 5", b"Content_Length: 5", b"Transfer_Encoding: chunked",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked ", b"Transfer-Encoding: chunked\t",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip",
    b"Transfer-Encoding:", b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding: ,chunked", b"X_Under: 1", b"_: 1", b"X: a\rb", b"X: a\0b", b"X: a\x07b",
    b"X: a\x7fb", b" folded", b"\tfolded", b": x", b"nocolon", b"X[]: a", b"X\xef: a",
    b"X: " + b"a" * 2100, b"N" * 300 + b": 1", b"X-Forwarded-Host: e\xff", b"HTTP2-Settings: AAAA",
    b"Proxy-Authorization: x", b"X-Request-Id: mine", b"Forwarded: for=x",
)  # fmt: skip
BODIES = (b"", b"hello", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", b"x" * 300)
ODD_SIZES = (
    b"0x5", b"+5", b"-5", b"05", b"5 ", b" 5", b"5\t", b"", b"0_5", b"g", b"ffffffffffffffff",
    b"10000000000000005", b"00000000000000005", b"80000001", b"0000000000000005", b"5;", b"5;a=b",
    b'5;a="b;c"', b"5 ;a", b"5;a\rb", b"5;a\0", b"5;\xff", b"5;" + b"x" * 300,
)  # fmt: skip
TRAILERS = (
    b"X: 1", b"X-Sum: \xff", b"X:", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: b",
    b" folded", b"X : 1", b"nocolon", b"X: a\rb", b"X: a\0", b"Authorization: x", b"X_Y: 1",
)  # fmt: skip
ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b" \r\n", b"\r\n ", b"\r\n\t", b"")
TOKENS = (
    *ENDS, CRLF, b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\x85", b"\xa0",
    b":", b",", b";", b"0", b"1", b"f", b"-", b"+", b"_", b"%", b"/", b"?", b"#", b"*", b"@",
    b"0\r\n\r\n", b"0\r\n", b"5\r\n", b"\r\n0\r\n\r\n", b"GET /s HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)  # fmt: skip


BACKENDS = ("waits", "waits", "switches", "early")


@dataclass(frozen=True, slots=True)
class RequestCase:
    """What a client sends, segment by segment, and what the backend makes of it."""

    segments: tuple[bytes, ...]
    backend: str = "waits"
    """It ``waits`` for whole requests, answers ``early``, or ``switches`` when asked to."""


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """What a backend sends in answer to one of :data:`ASKED`, and how it ends."""

    asked: str
    segments: tuple[bytes, ...]
    ending: str
    """``open``, ``closed`` or ``reset``."""
    before: bytes = b""
    """The answer to an earlier request on the same two connections; empty for none."""
    slow: bool = False
    """The client takes nothing of the answer until the backend has to wait."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in answer to which backends do what they do."""

    method: bytes
    raw: bytes
    upgrade: bytes = b""
    modern: bool = True
    sends_body: bool = False
    """Its body is not over when the answer comes."""
    keeps: bool = True
    """The client would take another answer."""


ASKED = {
    "get": Asked(b"GET", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    "head": Asked(b"HEAD", b"HEAD / HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    "post": Asked(b"POST", b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nhi"),
    "old": Asked(b"GET", b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", modern=False, keeps=False),
    "old and kept": Asked(
        b"GET", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", modern=False
    ),
    "last": Asked(
        b"GET", b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", keeps=False
    ),
    "early": Asked(
        b"POST",
        b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nhi",
        sends_body=True,
        keeps=False,
    ),
    "upgrade": Asked(
        b"GET",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        upgrade=b"websocket",
    ),
}


def make_request_case(random: Random, seeds: tuple[bytes, ...] = ()) -> RequestCase:
    """Draw a stream of one to four requests, and cut it."""
    kind = random.random()
    if seeds and kind < 0.2:
        raw = random.choice(seeds)
        if random.random() < 0.5:
            raw += _request(random)
    elif kind < 0.4:
        # Nearly the same again: whoever remembers heads must see each difference.
        once = _request(random)
        raw = once + b"".join(damage(random, once) for _ in range(random.choice((1, 2, 3))))
        return RequestCase(cut(random, raw), random.choice(BACKENDS))
    else:
        raw = b"".join(_request(random) for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))))
    raw = damage(random, raw)
    return RequestCase(cut(random, raw), random.choice(BACKENDS))


def make_response_case(random: Random, seeds: tuple[bytes, ...] = ()) -> ResponseCase:
    """Draw what a backend sends in answer to one request, and cut it."""
    asked = random.choice(_asked_names())
    raw = random.choice(seeds) if seeds and random.random() < 0.2 else _response(random, asked)
    before = raw if random.random() < 0.3 else b""
    if random.random() < 0.1:
        raw += _response(random, asked)
    raw = damage(random, raw)
    ending = random.choice(("open", "closed", "reset"))
    return ResponseCase(asked, cut(random, raw), ending, before, random.random() < 0.2)


@cache
def _asked_names() -> tuple[str, ...]:
    return (*ASKED, "get", "get", "get", "post")


def _odd(random: Random, usual: tuple[bytes, ...], odd: tuple[bytes, ...]) -> bytes:
    return random.choice(odd) if random.random() < 0.04 else random.choice(usual)


def _request(random: Random) -> bytes:
    method = _odd(random, METHODS, ODD_METHODS)
    version = _odd(random, VERSIONS, ODD_VERSIONS)
    lines = [b" ".join((method, _odd(random, TARGETS, ODD_TARGETS), version))]
    fields = [b"Host: " + _odd(random, (b"a.example",), ODD_HOSTS)]
    fields += _fields(random)
    body = b""
    kind = random.random()
    if kind < 0.3:
        body = random.choice(BODIES)
        fields.append(b"Content-Length: %d" % len(body))
    elif kind < 0.6:
        body = _chunks(random)
        fields.append(b"Transfer-Encoding: chunked")
    if random.random() < 0.5:
        random.shuffle(fields)
    lead = _odd(random, (b"",), (CRLF, CRLF * 2, CRLF * 3, b"\r", b"\n"))
    return lead + CRLF.join(lines + fields) + CRLF * 2 + body


def _fields(random: Random) -> list[bytes]:
    return [_odd(random, FIELDS, ODD_FIELDS) for _ in range(random.choice((0, 0, 1, 1, 2, 4)))]


def _chunks(random: Random) -> bytes:
    parts = []
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        body = random.choice(BODIES[1:])
        parts.append((_odd(random, (b"%x", b"%X", b"0%x", b"%x;a=b"), (b"odd",)), body))
    raw = b"".join(
        (random.choice(ODD_SIZES) if size == b"odd" else size % len(body)) + CRLF + body + CRLF
        for size, body in parts
    )
    raw += random.choice((b"0", b"0", b"0", b"00", b"0;a=b")) + CRLF
    if random.random() < 0.2:
        raw += random.choice(TRAILERS) + CRLF
    return raw + CRLF


STATUS_LINES = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.0 200 OK",
    b"HTTP/1.1 500 Internal Server Error", b"HTTP/1.1 302 Found",
)  # fmt: skip
ODD_STATUS_LINES = (
    b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.1 200 O\x07K", b"HTTP/1.1 200 O\x7fK", b"200 OK",
    b"HTTP/1.1 000 OK", b"HTTP/1.1 999 OK", b"HTTP/2.0 200 OK", b"HTTP/1.1 2000 OK", b"ICY 200 OK",
    b"HTTP/1.1 20 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 200 \xc3\xbc", b"HTTP/1.1 599 X", b"",
    b"HTTP/1.1 200\tOK", b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 200 OK ",
    b"RTSP/1.0 200 OK",
    b"HTTP/1.1 205 Reset Content", b"HTTP/1.1 206 Partial Content", b"HTTP/1.2 200 OK",
)  # fmt: skip
RESPONSE_FIELDS = (
    b"Date: Sat, 21 Nov 2026 11:38:42 GMT", b"Server: x", b"Set-Cookie: a=b", b"Set-Cookie: c=d",
    b"Content-Type: text/plain", b"Connection: keep-alive", b"connection: Keep-Alive", b"X-Empty:",
    b"Vary: a", b"Keep-Alive: timeout=5", b"X: \x80",
)  # fmt: skip
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.0 103 Early Hints\r\n\r\n", b"HTTP/1.1 199 X\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
)  # fmt: skip


def _response(random: Random, asked: str) -> bytes:
    raw = b""
    if random.random() < 0.15:
        raw = random.choice(INTERIM) * random.choice((1, 1, 1, 2, 8, 9, 64, 65, 400))
    if asked == "upgrade" and random.random() < 0.6:
        raw += INTERIM[-1] + random.choice(BODIES)
    fields = [
        _odd(random, RESPONSE_FIELDS, ODD_FIELDS) for _ in range(random.choice((0, 0, 1, 2, 4)))
    ]
    kind = random.random()
    if kind < 0.45:
        body = random.choice(BODIES)
        size = len(body) + random.choice((0, 0, 0, 0, 0, 0, 1, -1))
        fields.append(random.choice((b"Content-Length: %d", b"content-length: %d")) % max(0, size))
    elif kind < 0.85:
        body = _chunks(random)
        fields.append(b"Transfer-Encoding: chunked")
    else:
        body = random.choice(BODIES)
    if random.random() < 0.5:
        random.shuffle(fields)
    line = _odd(random, STATUS_LINES, ODD_STATUS_LINES)
    return raw + CRLF.join([line, *fields]) + CRLF * 2 + body


def damage(random: Random, raw: bytes) -> bytes:
    """Change a stream in up to four places, often in none."""
    for _ in range(random.choice((0, 0, 0, 0, 1, 1, 1, 2, 3))):
        raw = random.choice(_DAMAGES)(random, raw)
    return raw


def cut(random: Random, raw: bytes) -> tuple[bytes, ...]:
    """Cut a stream into segments: none, some, at line ends, or each byte."""
    kind = random.random()
    size = len(raw)
    if kind < 0.4 or size < 2:
        return (raw,) if raw else ()
    if kind < 0.7:
        places = {random.randrange(1, size) for _ in range(random.choice((1, 1, 2, 4)))}
    elif kind < 0.96 or size > 400:
        # Where readers go from one state to another.
        ends = [at for at in range(1, size) if raw[at - 1] in b"\r\n" or raw[at] in b"\r\n"]
        places = {random.choice(ends) for _ in range(random.choice((1, 2, 3)))} if ends else set()
    else:
        places = set(range(1, size))
    borders = [0, *sorted(places), size]
    return tuple(raw[a:b] for a, b in pairwise(borders))


def _insert(random: Random, raw: bytes) -> bytes:
    at = random.randint(0, len(raw))
    return raw[:at] + random.choice(TOKENS) + raw[at:]


def _delete(random: Random, raw: bytes) -> bytes:
    at = random.randint(0, len(raw))
    return raw[:at] + raw[at + random.choice((1, 1, 2, 5)) :]


def _replace(random: Random, raw: bytes) -> bytes:
    at = random.randint(0, len(raw))
    return raw[:at] + random.choice(TOKENS) + raw[at + 1 :]


def _random_byte(random: Random, raw: bytes) -> bytes:
    at = random.randint(0, len(raw))
    return raw[:at] + bytes((random.randrange(256),)) + raw[at + 1 :]


def _end_line_otherwise(random: Random, raw: bytes) -> bytes:
    lines = raw.split(CRLF)
    if len(lines) < 2:
        return raw
    at = random.randrange(1, len(lines))
    return CRLF.join(lines[:at]) + random.choice(ENDS) + CRLF.join(lines[at:])


def _change_line(random: Random, raw: bytes) -> bytes:
    lines = raw.split(CRLF)
    at = random.randrange(len(lines))
    line = lines[at]
    match random.randrange(9):
        case 0:
            lines.insert(at, line)
        case 1:
            del lines[at]
        case 2:
            lines.insert(random.randrange(len(lines)), lines.pop(at))
        case 3:
            lines[at] = line.swapcase()
        case 4:
            name, colon, value = line.partition(b":")
            lines[at] = name + random.choice(TOKENS) + colon + value
        case 5:
            name, colon, value = line.partition(b":")
            lines[at] = name + colon + random.choice(TOKENS) + value
        case 6:
            lines[at] = line.replace(b" ", random.choice((b"", b"  ", b"\t", b"\x0b", b"\xa0")))
        case 7:
            lines[at] = line.replace(b"-", b"_") if b":" in line else line + b";a"
        case _:
            lines.insert(random.randint(0, len(lines)), random.choice(ODD_FIELDS))
    return CRLF.join(lines)


def _copy_slice(random: Random, raw: bytes) -> bytes:
    start = random.randint(0, len(raw))
    at = random.randint(0, len(raw))
    return raw[:at] + raw[start : start + random.choice((1, 4, 16, 64))] + raw[at:]


def _truncate(random: Random, raw: bytes) -> bytes:
    return raw[: random.randint(0, len(raw))]


_DAMAGES = (
    _insert, _insert, _delete, _replace, _random_byte, _end_line_otherwise, _change_line,
    _change_line, _change_line, _change_line, _copy_slice, _truncate,
)  # fmt: skip
