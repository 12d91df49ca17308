"""The access log: what a line says, and what a reader that is slow or gone costs."""

import asyncio
import json
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairway_dataplane.accesslog import RING_RECORDS, AccessLog, AccessLogSettings
from fairway_dataplane.clock import Clock
from fairway_dataplane.exchange import Exchange


class NoSink:
    """Nobody answers in these tests."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AssertionError(name)


def exchange(status: int = 200, **changes: Any) -> Exchange:
    made = Exchange(NoSink())
    made.started = time.monotonic() - 0.25
    made.method, made.path, made.query = b"GET", b"/cart", b"?token=secret"
    made.host = made.authority = b"shop.example"
    made.client_address = "203.0.113.7"
    made.fields = (
        b'\r\nUser-Agent: curl "8"\r\nauthorization: Bearer secret\r\ncookie: secret'
        b"\r\nreferer: https://other.example/page?token=secret"
    )
    made.status = status
    made.attempts, made.bytes_out, made.request_id = 1, 512, b"r-1"
    made.endpoint = "10.0.0.1:80"
    made.upstream_seconds = 0.2
    made.secure = made.accepts_chunked = True
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Reader:
    """A log, and the other end of its pipe."""

    def __init__(self, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.time = 100.0
        self.clock = Clock(self.loop, lambda: self.time)
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.log = AccessLog(self.loop, self.clock, AccessLogSettings(**settings), write_end)
        os.close(write_end)

    def tick(self, count: int = 2) -> None:
        for _ in range(count):
            self.time += 0.1
            self.clock.advance()

    async def settle(self) -> None:
        """Let the log take its turns."""
        for _ in range(3 + RING_RECORDS // 100):
            await asyncio.sleep(0)

    def text(self) -> str:
        found = b""
        while True:
            try:
                part = os.read(self.read_end, 1 << 20)
            except BlockingIOError:
                return found.decode()
            if not part:
                return found.decode()
            found += part

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


async def test_a_line_has_the_public_names() -> None:
    reader = Reader()
    reader.log.snapshot = "4f1c9a0011aa"
    reader.log.record(exchange())
    assert reader.text() == ""
    reader.tick()
    (line,) = reader.lines()

    assert line.pop("timestamp").endswith("Z")
    assert 250 <= line.pop("duration_ms") < 5000
    assert line == {
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/cart",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "client.address": "203.0.113.7",
        "bytes_in": 0,
        "bytes_out": 512,
        "attempts": 1,
        "request_id": "r-1",
        "termination": "ok",
        "server.address": "shop.example",
        "user_agent.original": 'curl "8"',
        "endpoint": "10.0.0.1:80",
        "snapshot": "4f1c9a0011aa",
        "upstream_ms": 200.0,
    }


@pytest.mark.parametrize("log_format", ["json", "combined"])
async def test_secrets_stay_out(log_format: str) -> None:
    reader = Reader(format=log_format)
    reader.log.record(exchange())
    reader.tick()

    assert "secret" not in reader.text()


async def test_queries_are_logged_when_asked_for() -> None:
    reader = Reader(queries=True)
    reader.log.record(exchange())
    reader.tick()

    assert reader.lines()[0]["url.query"] == "token=secret"


async def test_combined_is_what_other_servers_write() -> None:
    reader = Reader(format="combined")
    reader.log.record(exchange())
    reader.tick()

    assert re.fullmatch(
        r'203\.0\.113\.7 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /cart HTTP/1\.1" '
        r'200 512 "https://other\.example/page" "curl \\x228\\x22"\n',
        reader.text(),
    )


@pytest.mark.parametrize("log_format", ["json", "combined"])
async def test_no_client_can_write_a_second_line(log_format: str) -> None:
    reader = Reader(format=log_format)
    reader.log.record(exchange(fields=b"\r\nuser-agent: a\nb\x85\xff\x1b[31m", path=b"/\n"))
    reader.tick()
    text = reader.text()

    assert text.count("\n") == 1
    assert "\x1b" not in text


async def test_a_long_field_is_cut() -> None:
    reader = Reader()
    reader.log.record(exchange(fields=b"\r\nuser-agent: " + b"x" * 16000))
    reader.tick()

    assert len(reader.lines()[0]["user_agent.original"]) == 1024


async def test_how_an_exchange_ended_is_told() -> None:
    reader = Reader()
    reader.log.record(exchange(504, reason="upstream-timeout"))
    reader.tick()

    assert reader.lines()[0]["termination"] == "upstream-timeout"


async def test_only_wanted_statuses_are_logged() -> None:
    reader = Reader(statuses=("404", "5xx"))
    for status in (200, 404, 403, 500, 599):
        reader.log.record(exchange(status))
    reader.tick()

    assert [line["http.response.status_code"] for line in reader.lines()] == [404, 500, 599]


async def test_a_sample_is_even() -> None:
    reader = Reader(sample=0.25)
    for _ in range(100):
        reader.log.record(exchange())
    reader.tick()
    await reader.settle()

    assert len(reader.lines()) == 25


async def test_off_writes_nothing() -> None:
    reader = Reader(format="off")
    reader.log.record(exchange())
    reader.tick()

    assert reader.text() == ""


async def test_many_records_are_written_over_several_turns_in_their_order() -> None:
    reader = Reader()
    for at in range(500):
        reader.log.record(exchange(request_id=b"%d" % at))
    reader.tick()
    found = reader.lines()
    while len(found) < 500:
        await asyncio.sleep(0)
        reader.tick(1)
        found += reader.lines()

    assert [line["request_id"] for line in found] == [str(at) for at in range(500)]


async def test_a_reader_that_is_slow_costs_lines_and_gets_whole_ones() -> None:
    reader = Reader()
    for at in range(3 * RING_RECORDS):
        reader.log.record(exchange(request_id=b"%d" % at))
        if at % 1000 == 0:
            reader.tick(1)
            await asyncio.sleep(0)
    assert reader.log.dropped > 0
    found: list[dict[str, Any]] = []
    while len(found) + reader.log.dropped < 3 * RING_RECORDS:
        reader.tick(1)
        await asyncio.sleep(0)
        found += reader.lines()

    numbers = [int(line["request_id"]) for line in found]
    assert numbers == sorted(set(numbers))


async def test_a_reader_that_is_gone_costs_nothing_more() -> None:
    reader = Reader()
    reader.log.record(exchange())
    os.close(reader.read_end)
    reader.tick()
    reader.log.record(exchange())
    reader.tick()

    assert reader.log.dropped == 1
    reader.log.close()


async def test_closing_writes_what_waits() -> None:
    reader = Reader()
    for _ in range(300):
        reader.log.record(exchange(fields=b""))
    reader.log.close()
    written = len(reader.lines())

    assert written > 100
    assert written + reader.log.dropped == 300


async def test_a_shared_descriptor_stays_as_it_was(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    with (tmp_path / "log").open("ab") as file:
        log = AccessLog(loop, Clock(loop), AccessLogSettings(), file.fileno())
        assert os.get_blocking(file.fileno())
        log.record(exchange())
        log.close()

    assert (tmp_path / "log").read_text().count("\n") == 1


async def test_a_socket_will_do() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop = asyncio.get_running_loop()
        log = AccessLog(loop, Clock(loop), AccessLogSettings(), ours.fileno())
        log.record(exchange())
        log.close()

        assert theirs.recv(4096).endswith(b"\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"statuses": ("6xx",)}, "write 404 or 5xx", id="no such class"),
        pytest.param({"statuses": ("40x",)}, "write 404 or 5xx", id="half a class"),
        pytest.param({"sample": 1.5}, "write 0 to 1", id="more than all"),
    ],
)
def test_settings_that_do_not_fit_say_what_to_write(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AccessLogSettings(**settings)
