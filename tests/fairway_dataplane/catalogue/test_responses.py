"""
The catalogue of what backends do: rows 76 and 78 to 91 of docs/http-policy.md.

An answer that two readers could understand differently becomes a 502, and the
connection it came on is never used again.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from fairway_dataplane.limits import Limits
from tests.fairway_dataplane.catalogue.conftest import LIMITS

if TYPE_CHECKING:
    from tests.fairway_dataplane.catalogue.conftest import Seen, Wire

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True)
class Row:
    """What the backend sends, and what must come of it."""

    answer: bytes
    status: int | None
    body: bytes = b""
    reused: bool = False
    request: bytes = GET
    ends: bool = False
    """The backend closes after it."""


def broken(answer: bytes, *, ends: bool = False) -> Row:
    return Row(answer, 502, b"", ends=ends)


REUSED, DROPPED = True, False
CL2 = b"Content-Length: 2\r\n"
TE = b"Transfer-Encoding: chunked\r\n"

ROWS = {
    "76 101 not asked for": broken(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    ),
    "78 garbage": broken(b"SSH-2.0-OpenSSH\r\n\r\n"),
    "78 no status line": broken(b"\r\n\r\n"),
    "78 NUL": broken(b"\0\r\n" + CL2 + b"\r\nok"),
    "78 HTTP/2.0": broken(b"HTTP/2.0 200 OK\r\n" + CL2 + b"\r\nok"),
    "78 status 000": broken(b"HTTP/1.1 000 OK\r\n" + CL2 + b"\r\nok"),
    "78 status 99": broken(b"HTTP/1.1 99 OK\r\n" + CL2 + b"\r\nok"),
    "78 status 999": broken(b"HTTP/1.1 999 OK\r\n" + CL2 + b"\r\nok"),
    "79 CL and TE": broken(OK + CL2 + TE + b"\r\n2\r\nok\r\n0\r\n\r\n"),
    "79 two CL": broken(OK + CL2 + b"Content-Length: 3\r\n\r\nok"),
    "79 bad CL": broken(OK + b"Content-Length: +2\r\n\r\nok"),
    "80 TE without chunked": Row(OK + b"Transfer-Encoding: gzip\r\n\r\nok", 502, b"", ends=True),
    "81 HEAD with CL": Row(OK + b"Content-Length: 5\r\n\r\n", 200, b"", REUSED, HEAD),
    "81 HEAD with a body": Row(OK + CL2 + b"\r\nok", 200, b"", DROPPED, HEAD),
    "81 204": Row(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", REUSED),
    "81 204 with a body": Row(b"HTTP/1.1 204 No Content\r\n" + CL2 + b"\r\nok", 204, b"", DROPPED),
    "81 304 with CL": Row(b"HTTP/1.1 304 Not Modified\r\n" + CL2 + b"\r\n", 304, b"", REUSED),
    "82 more than CL": Row(OK + CL2 + b"\r\nokHTTP/1.1 200 OK\r\n", 200, b"ok", DROPPED),
    "84 103": Row(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + CL2 + b"\r\nok", 200, b"ok", REUSED
    ),
    "84 100 that nobody asked for": Row(
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + CL2 + b"\r\nok", 200, b"ok", REUSED
    ),
    "87 101 headers": broken(OK + b"X: a\r\n" * 101 + CL2 + b"\r\nok"),
    "87 large head": broken(OK + b"X: " + b"a" * 70_000 + b"\r\n" + CL2 + b"\r\nok"),
    "89 NUL": broken(OK + b"X: a\0b\r\n" + CL2 + b"\r\nok"),
    "89 CR": broken(OK + b"X: a\rb\r\n" + CL2 + b"\r\nok"),
    "89 LF": broken(OK + b"X: a\nb: c\r\n" + CL2 + b"\r\nok"),
    "89 LF line ends": broken(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    "89 obs-fold": broken(OK + b"X: a\r\n b\r\n" + CL2 + b"\r\nok"),
    "until close": Row(OK + b"\r\nok", 200, b"ok", DROPPED, ends=True),
    "chunked": Row(OK + TE + b"\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok", REUSED),
    "chunked with a trailer": Row(
        OK + TE + b"\r\n2\r\nok\r\n0\r\nX: 1\r\n\r\n", 200, b"ok", REUSED
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
async def test_row(wire: "Wire", row: Row) -> None:
    wire.backend.answer = lambda _: row.answer
    wire.backend.close_after_answer = row.ends
    _, answer = await wire.ask(row.request, head_only=row.request is HEAD)
    assert answer is not None
    assert answer.status == row.status
    if row.status == 502:
        assert answer.field(b"fairway-reason") == b"upstream-protocol"
    else:
        assert answer.body == row.body

    wire.backend.answer = lambda _: OK + CL2 + b"\r\nok"
    wire.backend.close_after_answer = False
    _, answer = await wire.ask(GET)
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"ok")
    first, *_, last = wire.backend.seen
    assert (last.connection == first.connection) is row.reused


async def test_row_83_bytes_on_an_idle_connection_close_it(wire: "Wire") -> None:
    answers = iter([OK + CL2 + b"\r\nok" + OK + CL2 + b"\r\nno", OK + CL2 + b"\r\nok"])
    wire.backend.answer = lambda _: next(answers)
    for _ in range(2):
        _, answer = await wire.ask(GET)
        assert answer is not None
        assert answer.body == b"ok"
    assert wire.backend.seen[0].connection != wire.backend.seen[1].connection


@pytest.mark.parametrize(
    "answer",
    [OK + b"Content-Length: 9\r\n\r\nok", OK + TE + b"\r\n2\r\nok\r\n"],
    ids=["counted", "chunked"],
)
async def test_row_86_a_body_cut_short_never_ends_well(wire: "Wire", answer: bytes) -> None:
    wire.backend.answer = lambda _: answer
    wire.backend.close_after_answer = True
    client = await wire.connect()
    await client.send(GET)
    received = b""
    try:
        while data := await client.reader.read(1000):
            received += data
    except ConnectionError:
        pass
    assert b"0\r\n\r\n" not in received
    assert received.count(b"ok") == 1


async def test_row_85_a_reused_connection_that_died_is_tried_once_more(wire: "Wire") -> None:
    _, answer = await wire.ask(GET)
    assert answer is not None
    served: list[int] = []

    def answer_new_connections_only(seen: "Seen") -> bytes:
        served.append(seen.connection)
        wire.backend.close_after_answer = seen.connection == 0
        return b"" if seen.connection == 0 else OK + CL2 + b"\r\nok"

    wire.backend.answer = answer_new_connections_only
    _, answer = await wire.ask(GET)
    assert answer is not None
    assert answer.status == 200
    assert served == [0, 1]


@pytest.mark.parametrize("limits", [replace(LIMITS, backend_request_seconds=1.0)])
async def test_row_88_a_backend_that_never_answers_is_504(wire: "Wire", limits: Limits) -> None:
    wire.backend.answer = lambda _: b""
    _, answer = await wire.ask(GET)
    assert answer is not None
    assert answer.status == 504
    assert answer.field(b"fairway-reason") == b"upstream-timeout"


async def test_row_90_control_characters_in_the_reason_phrase_go_no_further(wire: "Wire") -> None:
    wire.backend.answer = lambda _: b"HTTP/1.1 200 O\x07K\r\n" + CL2 + b"\r\nok"
    _, answer = await wire.ask(GET)
    assert answer is not None
    assert b"\x07" not in answer.head


@pytest.mark.parametrize(
    ("sent", "status"), [(7, 200), (8, 200), (9, 200), (64, 200), (65, 502), (2000, 502)]
)
async def test_row_84_eight_interim_answers_at_most(wire: "Wire", sent: int, status: int) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    wire.backend.answer = lambda _: hint * sent + OK + CL2 + b"\r\nok"
    _, answer = await wire.ask(GET)
    assert answer is not None
    assert answer.status == status
    assert answer.interim == [hint] * min(sent, 8)
