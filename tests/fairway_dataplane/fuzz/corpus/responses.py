"""
Answers of backends that broke a law once, or that somebody thought might.

Each with what must come of it; see ``requests`` beside it.
"""

from tests.fairway_dataplane.fuzz.streams import ResponseCase

OK = b"HTTP/1.1 200 OK\r\n"
CL5 = OK + b"Content-Length: 5\r\n\r\nhello"
TE = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"

ANSWERED, REFUSED, CUT = "response answered", "response refused", "response cut off"
REFUSED_BY_BOTH, WAITING = "response refused by both", "response waiting"


def to(asked: str, *segments: bytes, ending: str = "open", before: bytes = b"") -> ResponseCase:
    return ResponseCase(asked, segments, ending, before)


FINDINGS = {
    "interim responses without end were read in a recursion": (
        to("get", HINT * 2000 + CL5),
        REFUSED,
    ),
    "lines that end with a bare LF were waited for": (
        to("get", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        REFUSED,
    ),
    "a head that begins with NUL was taken for one that came before": (
        to("old and kept", b"\0H", ending="reset"),
        REFUSED_BY_BOTH,
    ),
    "a control character in a phrase is replaced": (
        to("get", b"HTTP/1.1 200 O\x0bK\r\nContent-Length: 5\r\n\r\nhello"),
        ANSWERED,
    ),
    "framing in an interim response frames nothing": (
        to("get", b"HTTP/1.1 199 X\r\nTransfer-Encoding: gzip\r\n\r\n" + CL5),
        ANSWERED,
    ),
    "framing in a 101 frames nothing": (
        to("upgrade", SWITCHING + b"Transfer-Encoding: gzip\r\n\r\n\x81\0"),
        "response switched",
    ),
    "HTTP/1.0 may ask to be kept": (
        to("get", b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello"),
        ANSWERED,
    ),
}

THOUGHTS = {
    "chunks in HTTP/1.0": (
        to("get", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        REFUSED,
    ),
    "chunks for a client of HTTP/1.0": (to("old", TE + b"5\r\nhello\r\n0\r\n\r\n"), ANSWERED),
    "chunks cut short for a client of HTTP/1.0": (
        to("old", TE + b"5\r\nhello\r\n", ending="closed"),
        CUT,
    ),
    "chunks that turn bad for a client of HTTP/1.0": (
        to("old and kept", TE + b"5\r\nhello\r\n0x0\r\n"),
        CUT,
    ),
    "204 with chunks": (
        to("get", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ANSWERED,
    ),
    "304 with chunks": (
        to("get", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ANSWERED,
    ),
    "304 with a length and no body": (
        to("get", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ANSWERED,
    ),
    "a length to HEAD, as it came to GET before": (
        to("head", CL5[:-5], before=CL5),
        ANSWERED,
    ),
    "a length and a body to HEAD, as they came to GET before": (
        to("head", CL5, before=CL5),
        ANSWERED,
    ),
    "the head of the answer before with one more byte": (
        to("get", CL5.replace(b": 5", b": 50"), before=CL5),
        WAITING,
    ),
    "the head of the answer before, with a line more": (
        to("get", CL5.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), before=CL5),
        ANSWERED,
    ),
    "the head of the answer before, to a client that leaves": (
        to("last", CL5, before=CL5),
        ANSWERED,
    ),
    "the head of the answer before, to a client that still sends": (
        to("early", CL5, before=CL5),
        ANSWERED,
    ),
    "a length with leading zeros": (
        to("get", OK + b"Content-Length: 005\r\n\r\nhello"),
        ANSWERED,
    ),
    "a length of many zeros": (
        to("get", OK + b"Content-Length: " + b"0" * 17 + b"\r\n\r\n"),
        REFUSED,
    ),
    "two equal lengths": (
        to("get", OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
        REFUSED,
    ),
    "a length that Connection names": (
        to("get", OK + b"Connection: content-length\r\nContent-Length: 5\r\n\r\nhello"),
        ANSWERED,
    ),
    "an answer behind the answer": (to("get", CL5 + CL5), ANSWERED),
    "an answer behind the answer, in a segment of its own": (to("get", CL5, CL5), ANSWERED),
    "64 interim responses": (to("get", HINT * 64 + CL5), ANSWERED),
    "65 interim responses": (to("get", HINT * 65 + CL5), REFUSED),
    "interim responses for a client of HTTP/1.0": (to("old", HINT * 3 + CL5), ANSWERED),
    "an interim response and no more": (to("get", HINT, ending="closed"), REFUSED_BY_BOTH),
    "a 101 that nobody asked for": (to("get", SWITCHING + b"\r\n"), REFUSED_BY_BOTH),
    "a body to the end of the connection": (
        to("get", OK + b"\r\nhel", b"lo", ending="closed"),
        ANSWERED,
    ),
    "a body to the end of the connection, which is reset": (
        to("get", OK + b"\r\nhel", b"lo", ending="reset"),
        CUT,
    ),
    "the same for a client of HTTP/1.0": (
        to("old", OK + b"\r\nhel", b"lo", ending="reset"),
        CUT,
    ),
    "a body cut short": (to("get", CL5[:-1], ending="closed"), CUT),
    "a body cut short for a client of HTTP/1.0": (to("old", CL5[:-1], ending="closed"), CUT),
    "chunks without their last": (to("get", TE + b"5\r\nhello\r\n", ending="closed"), CUT),
    "a head cut short": (to("get", CL5[:20], ending="closed"), REFUSED_BY_BOTH),
    "a client that takes nothing of a head and a body": (
        ResponseCase("get", (CL5[:-5], b"he", b"llo"), "open", slow=True),
        ANSWERED,
    ),
    "a client that takes nothing before the backend has closed": (
        ResponseCase("get", (TE, b"5\r\nhello\r\n0\r\n\r\n"), "closed", slow=True),
        ANSWERED,
    ),
    "an underscore in a name": (
        to("get", OK + b"X_Under: 1\r\nContent-Length: 5\r\n\r\nhello"),
        ANSWERED,
    ),
    "an empty value": (to("get", OK + b"X:\r\nContent-Length: 5\r\n\r\nhello"), ANSWERED),
    "a name above the limit of a head": (
        to("get", OK + b"N" * 5000 + b": 1\r\nContent-Length: 5\r\n\r\nhello"),
        REFUSED,
    ),
}

ROWS = FINDINGS | THOUGHTS
