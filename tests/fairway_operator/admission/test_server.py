"""The webhook's port over real TLS: what goes in, and what comes out."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from cryptography import x509

from fairway_operator.admission import server as module
from fairway_operator.admission.review import Verdict
from fairway_operator.admission.server import MAX_BODY_BYTES, AdmissionServer
from fairway_operator.authority import (
    OPERATOR_NAME,
    Authority,
    Credentials,
    Lifetimes,
    Role,
    create_authority,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fairway_operator.admission.review import AdmissionRequest
    from tests.fairway_operator.admission.conftest import Clusters, Objects, Questions

NAME = "fairway-webhook.fairway-system.svc"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(now=datetime.now(UTC), lifetimes=Lifetimes())


def issue(authority: Authority) -> Credentials:
    names = (OPERATOR_NAME, NAME)
    return authority.issue(Role.OPERATOR, names, now=datetime.now(UTC), lifetimes=Lifetimes())


class Webhook:
    """A webhook, and the API server's end of it."""

    def __init__(self, judge: Callable[[AdmissionRequest], Verdict], authority: Authority) -> None:
        self.server = AdmissionServer(judge, observe=self._observe)
        self.answers: list[tuple[str, str]] = []
        self._tls = ssl.create_default_context(cadata=authority.trusted.decode())

    def _observe(self, kind: str, verdict: str, seconds: float) -> None:
        assert seconds >= 0
        self.answers.append((kind, verdict))

    async def post(
        self, data: Any, headers: dict[str, str] | None = None, path: str = "/validate"
    ) -> tuple[int, str]:
        url = f"https://127.0.0.1:{self.server.port}{path}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                url, data=data, headers=headers or JSON, ssl=self._tls, server_hostname=NAME
            ) as response,
        ):
            return response.status, await response.text()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=self._tls, server_hostname=NAME
        )


def shown(writer: asyncio.StreamWriter) -> int:
    """Return the serial number of the certificate at the other end."""
    encoded: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(encoded).serial_number


def head(length: int) -> bytes:
    return (
        b"POST /validate HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )


@asynccontextmanager
async def running(
    authority: Authority, judge: Callable[[AdmissionRequest], Verdict]
) -> AsyncIterator[Webhook]:
    webhook = Webhook(judge, authority)
    webhook.server.use(issue(authority))
    await webhook.server.start("127.0.0.1", 0)
    try:
        yield webhook
    finally:
        await webhook.server.stop()


@pytest.fixture
async def webhook(authority: Authority, clusters: Clusters) -> AsyncIterator[Webhook]:
    async with running(authority, clusters().judge) as started:
        yield started


async def test_a_review_is_answered(webhook: Webhook, objects: Objects, ask: Questions) -> None:
    status, text = await webhook.post(ask.bytes(objects.ingress("web", "bad")))

    answer = json.loads(text)
    assert status == 200
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert answer["response"]["allowed"] is False
    assert webhook.answers == [("Ingress", "refused")]


async def test_each_answer_is_counted_by_kind_and_verdict(
    webhook: Webhook, objects: Objects, ask: Questions
) -> None:
    await webhook.post(ask.bytes(objects.ingress("web", "/")))
    await webhook.post(ask.bytes(objects.route("web", objects.rule("/(", kind="Exact"))))
    await webhook.post(ask.bytes(objects.ingress("web", "/", backend="later")))
    await webhook.post(ask.bytes(objects.ingress("web"), kind={"kind": "Pod", "version": "v1"}))
    await webhook.post(b"{}")

    assert webhook.answers == [
        ("Ingress", "allowed"),
        ("Route", "allowed"),
        ("Ingress", "warned"),
        ("other", "allowed"),
        ("other", "malformed"),
    ]


async def test_only_one_path_and_one_method_exist(webhook: Webhook) -> None:
    assert (await webhook.post(b"{}", path="/"))[0] == 404
    assert (await webhook.post(b"{}", path="/validate/x"))[0] == 404
    reader, writer = await webhook.connect()
    writer.write(b"GET /validate HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n")
    assert b" 405 " in await reader.readline()
    writer.close()


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"content-type": "text/plain"}, id="text"),
        pytest.param({"content-type": "application/yaml"}, id="yaml"),
        pytest.param(JSON | {"content-encoding": "gzip"}, id="a body that unpacks to more"),
    ],
)
async def test_other_content_is_not_read(webhook: Webhook, headers: dict[str, str]) -> None:
    packed = gzip.compress(b" " * 10_000_000)

    status, text = await webhook.post(packed, headers)

    assert (status, text) == (415, "send application/json, unpacked\n")
    assert webhook.answers == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half an object"),
        pytest.param(b"\xff", id="no text"),
        pytest.param(b"[" * 1_000_000, id="nested without end"),
        pytest.param(b'{"apiVersion": "v1", "kind": "Pod"}', id="another object"),
        pytest.param(
            b'{"apiVersion": "<script>\\n", "kind": "", "request": {}}',
            id="what must not come back as it is",
        ),
    ],
)
async def test_what_is_no_review_is_a_bad_request(webhook: Webhook, body: bytes) -> None:
    status, text = await webhook.post(body)

    assert status == 400
    assert text.startswith("not an AdmissionReview")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert "<script>" not in text


async def test_a_body_above_the_limit_is_not_read(webhook: Webhook) -> None:
    reader, writer = await webhook.connect()
    writer.write(head(MAX_BODY_BYTES + 1))

    assert b" 413 " in await reader.readline()
    writer.close()


async def test_a_body_that_does_not_say_its_size_ends_at_the_limit(webhook: Webhook) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (MAX_BODY_BYTES // 16)

    assert (await webhook.post(parts()))[0] == 413
    assert (await webhook.post(b" " * MAX_BODY_BYTES))[0] == 400


async def test_a_body_that_does_not_come_is_given_up(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    reader, writer = await webhook.connect()
    writer.write(head(10) + b"{")

    assert b" 408 " in await reader.readline()
    writer.close()


async def test_too_many_at_once_are_turned_away_and_others_are_not(
    webhook: Webhook, objects: Objects, ask: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_AT_ONCE", 1)
    body = ask.bytes(objects.ingress("web", "/"))
    reader, writer = await webhook.connect()
    writer.write(head(len(body)) + body[:-1])
    while not webhook.server._present:  # noqa: ASYNC110 - it comes by a socket
        await asyncio.sleep(0.005)

    turned_away, _ = await webhook.post(body)
    writer.write(body[-1:])
    first = await reader.readline()
    later, _ = await webhook.post(body)

    assert (turned_away, first.split()[1], later) == (503, b"200", 200)
    writer.close()


async def test_reviews_leave_half_of_the_loop_to_others_however_many_ask(
    authority: Authority, objects: Objects, ask: Questions
) -> None:
    spans: list[tuple[float, float]] = []

    def judge(_: AdmissionRequest) -> Verdict:
        began = time.monotonic()
        time.sleep(0.02)
        spans.append((began, time.monotonic()))
        return Verdict()

    body = ask.bytes(objects.ingress("web", "/"))
    async with running(authority, judge) as webhook:
        answers = await asyncio.gather(*(webhook.post(body) for _ in range(8)))

    assert {status for status, _ in answers} == {200}
    assert len(spans) == 8
    for (began, ended), (after, _) in pairwise(spans):
        assert after - ended >= 0.9 * (ended - began)


async def test_a_new_certificate_is_shown_at_once_and_open_connections_go_on(
    webhook: Webhook, authority: Authority, objects: Objects, ask: Questions
) -> None:
    body = ask.bytes(objects.ingress("web", "/"))
    reader, writer = await webhook.connect()
    renewed = issue(authority)

    webhook.server.use(renewed)

    _, second = await webhook.connect()
    wanted = x509.load_pem_x509_certificate(renewed.chain).serial_number
    assert shown(second) == wanted
    assert shown(writer) != wanted
    writer.write(head(len(body)) + body)
    assert b" 200 " in await reader.readline()
    for each in (writer, second):
        each.close()


async def test_a_bug_is_no_answer_and_is_not_told_to_strangers(
    authority: Authority, objects: Objects, ask: Questions
) -> None:
    def fail(request: AdmissionRequest) -> Verdict:
        raise KeyError("secret")

    async with running(authority, fail) as webhook:
        status, text = await webhook.post(ask.bytes(objects.ingress("web", "/")))

        assert (status, text) == (500, "a bug of Fairway; its log has more\n")
        assert webhook.answers == [("Ingress", "failed")]


async def test_whoever_speaks_no_tls_disturbs_nobody(
    webhook: Webhook, objects: Objects, ask: Questions
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", webhook.server.port)
    writer.write(b"POST /validate HTTP/1.1\r\nHost: w\r\n\r\n")
    assert b"HTTP" not in await reader.read()
    writer.close()

    assert (await webhook.post(ask.bytes(objects.ingress("web", "/"))))[0] == 200
