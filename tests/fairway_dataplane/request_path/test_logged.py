"""What the access log says of requests as they were really read, also of those that were not."""

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane.accesslog import AccessLog, AccessLogSettings
from fairway_dataplane.clock import Clock
from fairway_snapshot.filters import DirectResponse, StripPrefix
from tests.fairway_dataplane.request_path.conftest import BACKEND, route, to

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import StageMaker


class Log:
    """An access log whose lines can be read."""

    def __init__(self) -> None:
        self._read_end, write_end = os.pipe()
        loop = asyncio.get_running_loop()
        self._log = AccessLog(loop, Clock(loop), AccessLogSettings(), write_end)
        os.close(write_end)
        self.record = self._log.record

    def lines(self) -> list[dict[str, Any]]:
        """End the log and return what it said."""
        self._log.close()
        with os.fdopen(self._read_end, "rb") as reading:
            return [json.loads(line) for line in reading]


@pytest.fixture
async def log() -> Log:
    return Log()


@pytest.mark.parametrize(
    ("sent", "logged", "forwarded"),
    [
        (b"/api/cart?token=s", "/api/cart", "/cart"),
        (b"/api/a/../b", "/api/a/../b", "/b"),
        (b"/plain", "/plain", None),
        (b"/plain/%2e/x", "/plain/%2e/x", "/plain/x"),
    ],
)
async def test_the_path_is_the_one_that_the_client_wrote(
    make_stage: "StageMaker", log: Log, sent: bytes, logged: str, forwarded: str | None
) -> None:
    stage = await make_stage(on_finished=log.record)
    filters = (StripPrefix(prefix="/api"),) if sent.startswith(b"/api") else ()
    stage.serve(route(filters=filters), **{BACKEND: to(stage.upstream.port)})
    await stage.ask(b"GET " + sent + b" HTTP/1.1\r\nHost: a.example\r\n\r\n")
    (line,) = log.lines()
    assert line["url.path"] == logged
    assert line.get("forwarded_path") == forwarded
    assert "token" not in str(line)


async def test_what_nobody_read_has_no_other_path(make_stage: "StageMaker", log: Log) -> None:
    stage = await make_stage(on_finished=log.record)
    stage.serve(route(filters=(DirectResponse(status=200, body="hi"),)))
    await stage.ask(b"GET /a/./b HTTP/1.1\r\nHost: a.example\r\n\r\n")
    (line,) = log.lines()
    assert (line["url.path"], "forwarded_path" in line) == ("/a/./b", False)


GOOD_HOST = b"Host: a.example\r\n"


@pytest.mark.parametrize(
    ("sent", "method", "path", "status", "reason"),
    [
        (b"GET /x?q=1 HTTP/1.1\r\n\r\n", "GET", "/x", 400, "bad-host"),
        (b"GET /x HTTP/1.1\r\n" + GOOD_HOST + b"a\r\n\r\n", "GET", "/x", 400, "bad-header"),
        (b"FOO /x HTTP/1.1\r\n" + GOOD_HOST + b"\r\n", "_OTHER", "/x", 501, "unknown-method"),
        (b"TRACE /x HTTP/1.1\r\n" + GOOD_HOST + b"\r\n", "_OTHER", "/x", 405,
         "method-not-allowed"),
        (b"GET http://u:secret@a/ HTTP/1.1\r\n" + GOOD_HOST + b"\r\n", "GET", "", 400,
         "bad-host"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + GOOD_HOST, "GET", "/" + "a" * 1023, 414,
         "target-too-long"),
        (b"GET /x HTTP/1.1\r\nx: " + b"a" * 33_000, "GET", "/x", 431, "headers-too-large"),
        (b"\x16\x03\x01\r\n\r\n", "_OTHER", "", 400, "bad-request"),
        (b"GET /x HTTP/1.1\n", "GET", "/x", 400, "bad-request"),
        (b"POST /x HTTP/1.1\r\n" + GOOD_HOST + b"Transfer-Encoding: chunked\r\n\r\nZ\r\n", "POST",
         "/x", 400, "bad-chunk"),
    ],
)  # fmt: skip
async def test_a_request_that_was_refused_stands_in_the_log(
    make_stage: "StageMaker", log: Log, *, sent: bytes, method: str, path: str, status: int,
    reason: str,
) -> None:  # fmt: skip
    stage = await make_stage(on_finished=log.record)
    response = await stage.ask(sent)
    (line,) = log.lines()
    assert (response.status, response.reason) == (status, reason)
    assert (line["http.response.status_code"], line["termination"]) == (status, reason)
    assert (line["http.request.method"], line["url.path"][:1024]) == (method, path)
    assert line["client.address"] == "127.0.0.1"
    assert line["request_id"].encode() == response.field(b"x-request-id")
    assert "secret" not in str(line)
    assert stage.tally.rejected == {reason: 1}
    assert stage.tally.requests_active == 0


async def test_a_head_that_came_too_slowly_stands_in_the_log(
    make_stage: "StageMaker", log: Log
) -> None:
    stage = await make_stage(on_finished=log.record)
    client = await stage.connect()
    client.send(b"GET /slow HTTP/1.1\r\nHo")
    await stage.heard(len(b"GET /slow HTTP/1.1\r\nHo"))
    stage.advance(stage.limits.header_seconds + 1.1)
    assert (await client.response()).status == 408
    (line,) = log.lines()
    assert (line["url.path"], line["termination"]) == ("/slow", "header-timeout")


async def test_an_empty_line_is_no_request(make_stage: "StageMaker", log: Log) -> None:
    stage = await make_stage(on_finished=log.record)
    client = await stage.connect()
    client.send(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n\r\n")
    assert (await client.response()).status == 200
    await asyncio.sleep(0.01)
    stage.advance(stage.limits.header_seconds + 1.1)
    client.send(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n\r\n")
    assert (await client.response()).status == 200
    await asyncio.sleep(0.01)
    stage.advance(stage.limits.keep_alive_seconds + 1.1)
    assert await client.rest() == b"", "closed without a word"
    assert [line["termination"] for line in log.lines()] == ["ok", "ok"]


async def test_behind_an_empty_line_a_head_has_its_time(make_stage: "StageMaker") -> None:
    stage = await make_stage()
    client = await stage.connect()
    client.send(b"\r\n")
    await stage.heard(len(b"\r\n"))
    stage.advance(30.0)
    client.send(b"GET /x")
    await stage.heard(len(b"\r\nGET /x"))
    stage.advance(stage.limits.header_seconds - 2.0)
    client.send(b" HTTP/1.1\r\nHost: a.example\r\n\r\n")
    assert (await client.response()).status == 200
