"""
Streams of clients that broke a law once, or that somebody thought might.

Each with what must come of it. A finding of a long run is added here as it was
printed, with a name that says what was wrong.
"""

from tests.fairway_dataplane.fuzz.streams import RequestCase

GET = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.example\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

ANSWERED, REFUSED, WAITING = "request answered", "request refused", "request waiting"


def sent(*segments: bytes) -> RequestCase:
    return RequestCase(segments)


def with_field(field: bytes) -> RequestCase:
    return sent(b"GET / HTTP/1.1\r\nHost: a.example\r\n" + field + b"\r\n\r\n" + GET)


FINDINGS = {
    "a first segment of three bytes was a whole head": (sent(GET[:3], GET[3:]), ANSWERED),
    "a first segment of three bytes behind an answer was a whole head": (
        sent(GET, GET[:3], GET[3:]),
        ANSWERED,
    ),
    "Proxy-Connection ended the parser of all connections": (
        with_field(b"Proxy-Connection: close"),
        ANSWERED,
    ),
    "Proxy-Connection beside Connection did too": (
        with_field(b"Proxy-Connection: close\r\nConnection: Keep-Alive, x-a"),
        ANSWERED,
    ),
    "empty lines were counted anew in each segment": (
        sent(b"\r\n", b"\r", b"\n", b"\r\n" + GET),
        REFUSED + " 400 by both",
    ),
    "empty lines were counted anew when their head was not whole": (
        sent(b"\r\n\r\n\r\n" + GET[:20], GET[20:]),
        REFUSED + " 400 by both",
    ),
    "a stream may be refused for the first of two reasons": (
        sent(b"\r\n\r\n" + POST[:20], b"\r\nX: a\nb", b"\r\nTransfer-Encoding: gzip\r\n\r\n"),
        REFUSED + " 400 by both",
    ),
    "an answer before the end of its request ends the connection": (
        sent(
            b"POST /a%5cb HTTP/1.1\r\nHost: a.example\r\nContent-Length: 27\r\n\r\n" + b"x" * 14,
            b"x" * 13 + GET,
        ),
        REFUSED + " 400",
    ),
}

THOUGHTS = {
    "an underscore in a name": (with_field(b"X_Under: 1"), ANSWERED),
    "a name of an underscore": (with_field(b"_: 1"), ANSWERED),
    "an empty value": (with_field(b"X-Empty:"), ANSWERED),
    "a value of spaces": (with_field(b"X-Empty: \t "), ANSWERED),
    "a long name": (with_field(b"N" * 1000 + b": 1"), ANSWERED),
    "a name above the limit of a line": (
        with_field(b"N" * 2100 + b": 1"),
        REFUSED + " 431",
    ),
    "a nominated field in other case": (
        with_field(b"x-SECRET: 1\r\nConnection: X-Secret"),
        ANSWERED,
    ),
    "a nominated field that comes twice": (
        with_field(b"x-a: 1\r\nConnection: x-a\r\nX-A: 2\r\nConnection: , x-b"),
        ANSWERED,
    ),
    "an absolute target with a path": (
        sent(b"GET http://b.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n" + GET),
        ANSWERED,
    ),
    "an absolute target without a path": (
        sent(b"GET http://b.example?x=/../y HTTP/1.1\r\nHost: a.example\r\n\r\n" + GET),
        ANSWERED,
    ),
    "an absolute target without a host": (
        sent(b"GET http:///x HTTP/1.1\r\nHost: a.example\r\n\r\n"),
        REFUSED + " 400",
    ),
    "an absolute target does without no Host": (
        sent(b"GET http://b.example/ HTTP/1.1\r\n\r\n"),
        REFUSED + " 400 by both",
    ),
    "HTTP/1.0 without a Host": (sent(b"GET / HTTP/1.0\r\n\r\n"), ANSWERED),
    "HTTP/1.0 that stays": (
        sent(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" + GET),
        ANSWERED,
    ),
    "a length with leading zeros": (
        sent(POST + b"Content-Length: 005\r\n\r\nhello" + GET),
        ANSWERED,
    ),
    "a length between spaces": (
        sent(POST + b"Content-Length:\t 5 \t\r\n\r\nhello" + GET),
        ANSWERED,
    ),
    "equal lengths in a list": (
        sent(POST + b"Content-Length: 5, 5\r\n\r\nhello"),
        REFUSED + " 400",
    ),
    "a length behind a nomination": (
        sent(POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello"),
        REFUSED + " 400",
    ),
    "a request in a chunked body": (
        sent(CHUNKED + b"%x\r\n" % len(GET) + GET + b"\r\n0\r\n\r\n" + GET),
        ANSWERED,
    ),
    "a request in a chunk extension": (
        sent(CHUNKED + b"5;a=\nGET / HTTP/1.1\r\nhello\r\n0\r\n\r\n"),
        REFUSED + " 400 by both",
    ),
    "a chunk size before its line end": (
        sent(CHUNKED + b"5", b"\r", b"\nhel", b"lo\r", b"\n0\r", b"\n\r", b"\n" + GET),
        ANSWERED,
    ),
    "a body that stops in the middle": (
        sent(POST + b"Content-Length: 10\r\n\r\nhello"),
        WAITING,
    ),
    "a chunk that stops in the middle": (sent(CHUNKED + b"5\r\nhel"), WAITING),
    "bytes behind an upgrade that is refused": (
        sent(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + GET),
        ANSWERED,
    ),
    "bytes behind an upgrade that is granted": (
        RequestCase(
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n\x81\r\n",
                b"\r\nGET",
            ),
            backend="switches",
        ),
        "request switched",
    ),
    "a request in a body whose answer came before": (
        RequestCase((POST + b"Content-Length: %d\r\n\r\n" % len(GET), GET, GET), backend="early"),
        ANSWERED,
    ),
    "a request in a chunk whose answer came before": (
        RequestCase((CHUNKED + b"%x\r\n" % len(GET), GET, b"\r\n0\r\n\r\n"), backend="early"),
        ANSWERED,
    ),
    "a body that is whole when its answer comes at the head": (
        RequestCase((POST + b"Content-Length: 5\r\n\r\nhello" + GET,), backend="early"),
        ANSWERED,
    ),
    "twenty requests at once": (sent(GET * 20), ANSWERED),
    "twenty requests at once, the last of them broken": (
        sent(GET * 20 + b"GET / HTTP/1.1\r\n\r\n"),
        REFUSED + " 400 by both",
    ),
}

ROWS = FINDINGS | THOUGHTS
