"""Endpoints that are asked whether they are well."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest

from fairway_dataplane.tls.certificates import load, self_signed
from fairway_snapshot.model import BackendProtocol, HealthCheck
from tests.fairway_dataplane.request_path.conftest import (
    BACKEND,
    OK,
    PATIENCE_SECONDS,
    Link,
    Stage,
    Upstream,
    route,
    to,
)

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
CHECK = HealthCheck(
    path="/healthz?deep", interval_seconds=1.0, timeout_seconds=30.0, unhealthy=2, healthy=2
)
ILL = b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n"


class Patient:
    """A backend that serves requests well, and answers checks as it is told to."""

    def __init__(self) -> None:
        self.health: bytes | None = OK
        """None closes the connection instead; empty is silence."""
        self.checks: list[bytes] = []
        self.served = 0

    async def __call__(self, link: Link) -> None:
        while True:
            request = await link.request()
            if not request.startswith(b"GET /healthz"):
                self.served += 1
                link.writer.write(OK)
                continue
            self.checks.append(request)
            if self.health is None:
                link.writer.transport.abort()
                return
            link.writer.write(self.health)


@pytest.fixture
async def other() -> AsyncIterator[Upstream]:
    upstream = Upstream(Patient())
    await upstream.start()
    yield upstream
    await upstream.stop()


async def until(stage: Stage, condition: Callable[[], bool]) -> None:
    """Let time pass until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            stage.advance(0.1)
            await asyncio.sleep(0.001)


def serve(stage: Stage, *others: Upstream, check: HealthCheck | None = CHECK) -> None:
    ports = [stage.upstream.port, *(upstream.port for upstream in others)]
    stage.serve(route(), **{BACKEND: to(*ports, health_check=check)})


async def ask(stage: Stage, times: int) -> None:
    for _ in range(times):
        assert (await stage.ask(GET)).status == 200


@pytest.mark.parametrize(
    ("health", "check"),
    [
        pytest.param(ILL, CHECK, id="a status that says so"),
        pytest.param(
            OK,
            HealthCheck(path="/healthz", interval_seconds=1.0, statuses=((204, 204),), unhealthy=2),
            id="a status that was not agreed",
        ),
        pytest.param(None, CHECK, id="a reset"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", CHECK, id="no HTTP"),
        pytest.param(
            b"",
            HealthCheck(path="/healthz", interval_seconds=1.0, timeout_seconds=0.5, unhealthy=2),
            id="silence",
        ),
    ],
)
async def test_an_endpoint_leaves_by_its_checks_and_comes_back(
    make_stage: "StageMaker", other: Upstream, health: bytes | None, check: HealthCheck
) -> None:
    ill = Patient()
    stage = await make_stage(ill)
    ill.health = health
    other.script.health = b"HTTP/1.1 204 No Content\r\n\r\n"  # type: ignore[attr-defined]
    serve(stage, other, check=check)
    backend, tally = stage.upstreams.backend(BACKEND), stage.tally.backends[BACKEND]
    await ask(stage, 4)
    assert ill.served == 2, "an endpoint that was not checked yet is taken for well"

    await until(stage, lambda: bool(tally.ejections))
    assert tally.ejections == {"health-check": 1}
    stage.upstreams.measure()
    assert tally.endpoints == {"in-choice": 1, "barred": 1}
    assert sorted(row["state"] for row in backend.describe()["endpoints"]) == [  # type: ignore[attr-defined]
        "barred",
        "in-choice",
    ]
    await ask(stage, 6)
    assert ill.served == 2

    ill.health = b"HTTP/1.1 204 No Content\r\n\r\n"
    stage.upstreams.measure()
    await until(stage, lambda: not any(each.unwell for each in backend._endpoints.values()))
    await ask(stage, 4)
    assert ill.served == 4
    assert tally.checks["failed"] >= 2
    assert tally.checks["passed"] >= 2


async def test_a_check_is_a_request_of_its_own_and_no_load(make_stage: "StageMaker") -> None:
    patient = Patient()
    patient.health = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    stage = await make_stage(patient)
    serve(stage)
    await until(stage, lambda: len(patient.checks) >= 3)
    name = f"127.0.0.1:{stage.upstream.port}".encode()
    assert patient.checks[0] == (
        b"GET /healthz?deep HTTP/1.1\r\nhost: " + name + b"\r\n"
        b"user-agent: fairway-health-check\r\naccept: */*\r\nconnection: close\r\n\r\n"
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        for link in list(stage.upstream.links):
            await link.closed.wait()
    stage.upstreams.measure()
    tally = stage.tally.backends[BACKEND]
    assert (tally.active, tally.idle, tally.requests, tally.durations.total) == (0, 0, 0, 0)
    assert len(stage.upstream.links) >= len(patient.checks)


class Secure(Upstream):
    """A backend that speaks TLS, with a certificate that nobody trusts."""

    async def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load(context, self_signed((), now=time.time(), valid_seconds=3600.0))
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]


async def test_a_check_speaks_as_a_request_does(make_stage: "StageMaker") -> None:
    patient = Patient()
    secure = Secure(patient)
    await secure.start()
    stage = await make_stage(patient)
    leaf = to(secure.port, health_check=CHECK, protocol=BackendProtocol.HTTPS)
    stage.serve(route(), **{BACKEND: leaf})
    tally = stage.tally.backends[BACKEND]
    await until(stage, lambda: tally.checks.get("passed", 0) >= 2)
    await ask(stage, 1)
    assert "failed" not in tally.checks
    await secure.stop()


async def test_a_host_can_be_asked_for(make_stage: "StageMaker") -> None:
    patient = Patient()
    stage = await make_stage(patient)
    serve(stage, check=HealthCheck(path="/healthz", interval_seconds=1.0, host="shop.example"))
    await until(stage, lambda: bool(patient.checks))
    assert b"\r\nhost: shop.example\r\n" in patient.checks[0]


async def test_a_long_answer_to_a_check_is_cut_off(make_stage: "StageMaker") -> None:
    patient = Patient()
    patient.health = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n" + b"x" * 200_000
    stage = await make_stage(patient)
    serve(stage, check=HealthCheck(path="/healthz", interval_seconds=1.0, timeout_seconds=1e6))
    await until(stage, lambda: bool(stage.tally.backends[BACKEND].checks.get("passed")))
    link = await stage.upstream.link()
    await until(stage, link.writer.transport.is_closing)


async def test_when_all_are_unwell_the_checks_are_not_followed(
    make_stage: "StageMaker", other: Upstream
) -> None:
    """A check that asks for the wrong path must not take a whole backend down."""
    ill = Patient()
    stage = await make_stage(ill)
    ill.health = other.script.health = ILL  # type: ignore[attr-defined]
    serve(stage, other)
    tally = stage.tally.backends[BACKEND]
    await until(stage, lambda: tally.ejections.get("health-check", 0) == 2)
    stage.upstreams.measure()
    assert tally.panicking == 1
    assert tally.endpoints == {"in-choice": 0, "unwell": 2}
    await ask(stage, 4)
    assert ill.served == 2

    # One that recovers makes the other's verdict count again.
    ill.health = OK
    await until(stage, lambda: tally.checks.get("passed", 0) >= 2)
    stage.upstreams.measure()
    assert (tally.panicking, tally.endpoints) == (0, {"in-choice": 1, "barred": 1})
    await ask(stage, 4)
    assert ill.served == 6


async def test_what_is_checked_no_more_is_held_against_nobody(
    make_stage: "StageMaker", other: Upstream
) -> None:
    ill = Patient()
    stage = await make_stage(ill)
    ill.health = ILL
    serve(stage, other)
    await until(stage, lambda: bool(stage.tally.backends[BACKEND].ejections))
    serve(stage, other, check=None)
    asked = len(ill.checks)
    await ask(stage, 4)
    assert ill.served == 2
    stage.advance(5.0)
    assert len(ill.checks) == asked


async def test_a_refused_connection_fails_a_check(
    make_stage: "StageMaker", other: Upstream
) -> None:
    stage = await make_stage(Patient())
    serve(stage, other)
    await other.stop()
    tally = stage.tally.backends[BACKEND]
    await until(stage, lambda: bool(tally.ejections))
    assert tally.connect_failures == 0, "that counts requests"
    await ask(stage, 4)
    assert tally.connect_failures == 0
