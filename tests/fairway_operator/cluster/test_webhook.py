"""The webhook in its cluster: its registration, and what it answers before and after a change."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from fairway_operator.admission.registration import Registration
from fairway_operator.app import Operator
from fairway_operator.authority import Lifetimes, create_authority
from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import KubeClient, KubeError
from fairway_operator.kube.paths import KIND_PATHS, secret_path, webhook_path
from fairway_operator.refs import Kind
from tests.fairway_operator.cluster.conftest import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Body = dict[str, Any]
Eventually = Callable[..., Awaitable[None]]

NAME = "fairway.fairway-system"
SERVICE = "fairway-webhook.fairway-system.svc"


def register(api: "ApiServer", *names: str) -> None:
    """Put a registration there as a release does: without an authority."""
    hooks = [
        {
            "name": name,
            "clientConfig": {"service": {"name": "fairway-webhook", "namespace": "x"}},
            "failurePolicy": "Ignore",
        }
        for name in names
    ]
    metadata = {"name": NAME, "resourceVersion": str(api.version)}
    api.objects[webhook_path(NAME)] = {"metadata": metadata, "webhooks": hooks}


def bundles(api: "ApiServer") -> list[str]:
    hooks = api.objects[webhook_path(NAME)]["webhooks"]
    found = [hook["clientConfig"].get("caBundle", "") for hook in hooks]
    return [base64.b64decode(text).decode() for text in found]


@dataclass
class Surroundings:
    """What a replica knows of itself."""

    trusted: bytes = b"authority one"
    leading: bool = True


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def registration(client: KubeClient, around: Surroundings) -> Registration:
    return Registration(
        client, NAME, trusted=lambda: around.trusted, leading=lambda: around.leading
    )


async def test_the_leader_fills_in_the_authority_and_changes_nothing_else(
    api: "ApiServer", registration: Registration
) -> None:
    register(api, "admission.fairway.dev", "second.fairway.dev")
    before = api.objects[webhook_path(NAME)]["webhooks"]

    await registration.look()

    assert bundles(api) == ["authority one", "authority one"]
    for old, new in zip(before, api.objects[webhook_path(NAME)]["webhooks"], strict=True):
        assert {**new, "clientConfig": {**new["clientConfig"], "caBundle": None}} == {
            **old,
            "clientConfig": {**old["clientConfig"], "caBundle": None},
        }


async def test_what_is_registered_is_not_written_again(
    api: "ApiServer", registration: Registration
) -> None:
    register(api, "admission.fairway.dev")

    for _ in range(3):
        await registration.look()

    assert api.count("PATCH", NAME) == 1


async def test_an_authority_is_registered_together_with_its_successor_before_that_signs(
    api: "ApiServer", registration: Registration, around: Surroundings
) -> None:
    now, lifetimes = datetime(2030, 1, 1, tzinfo=UTC), Lifetimes()
    authority = create_authority(now=now, lifetimes=lifetimes)
    register(api, "admission.fairway.dev")
    around.trusted = authority.trusted
    await registration.look()

    around.trusted = authority.renewed(now=now + timedelta(days=250), lifetimes=lifetimes).trusted
    await registration.look()

    (bundle,) = bundles(api)
    assert bundle.count("BEGIN CERTIFICATE") == 2
    assert authority.signing.certificate.decode() in bundle


async def test_a_follower_writes_nothing(
    api: "ApiServer", registration: Registration, around: Surroundings
) -> None:
    register(api, "admission.fairway.dev")
    around.leading = False

    await registration.look()

    assert api.requests == []


async def test_without_an_authority_nothing_is_registered(
    api: "ApiServer", registration: Registration, around: Surroundings
) -> None:
    register(api, "admission.fairway.dev")
    around.trusted = b""

    await registration.look()

    assert bundles(api) == [""]


async def test_a_release_without_a_webhook_is_left_alone(
    api: "ApiServer", registration: Registration
) -> None:
    await registration.look()

    assert api.count("PATCH", NAME) == 0


async def test_a_registration_that_has_changed_in_between_is_looked_at_again(
    api: "ApiServer", registration: Registration
) -> None:
    register(api, "admission.fairway.dev")
    api.answers = [(409, {})]

    with pytest.raises(KubeError) as caught:
        await registration.look()
    assert caught.value.status == 409

    await registration.look()
    assert bundles(api) == ["authority one"]


async def test_a_failure_is_survived_and_repaired(
    api: "ApiServer",
    registration: Registration,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fairway_operator.admission.registration.LOOK_SECONDS", 0.02)
    register(api, "admission.fairway.dev")
    api.answers = [(403, {}), (500, {})]
    task = asyncio.create_task(registration.run())

    await eventually(lambda: bundles(api) == ["authority one"])
    register(api, "admission.fairway.dev")
    await eventually(lambda: bundles(api) == ["authority one"])

    task.cancel()


# The whole operator.


@asynccontextmanager
async def running(
    client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> AsyncIterator[Operator]:
    operator = Operator(
        replace(
            config,
            instance_address="127.0.0.1",
            webhook_address="127.0.0.1:0",
            webhook_names=(SERVICE,),
            webhook_configuration=NAME,
        ),
        client,
    )
    task = asyncio.create_task(operator.run())
    try:
        await eventually(lambda: operator.webhook_port > 0 or task.done())
        yield operator
    finally:
        operator.stop()
        assert await asyncio.wait_for(task, timeout=PATIENCE_SECONDS) == 0


def ingress(path: str) -> Body:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": path, "pathType": "Prefix", "backend": backend}]
    return {
        "metadata": {"name": "new", "namespace": "default"},
        "spec": {
            "ingressClassName": "fairway",
            "rules": [{"host": "a.example", "http": {"paths": paths}}],
        },
    }


async def ask(operator: Operator, api: "ApiServer", body: Body) -> Body:
    """Ask as an API server that knows no more than the registration."""
    trusting = ssl.create_default_context(cadata=bundles(api)[0])
    request = {
        "uid": "1",
        "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
        "operation": "CREATE",
        "namespace": "default",
        "object": body,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"https://127.0.0.1:{operator.webhook_port}/validate",
            json=review,
            ssl=trusting,
            server_hostname=SERVICE,
        ) as response,
    ):
        assert response.status == 200
        answer: Body = json.loads(await response.text())["response"]
        return answer


async def metrics(operator: Operator) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{operator.admin_port}/metrics") as response,
    ):
        return await response.text()


async def test_from_the_registration_to_a_verdict_that_follows_the_cluster(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    controller = {"controller": "fairway.dev/ingress-controller"}
    api.put(Kind.INGRESS_CLASS, "fairway", spec=controller)
    register(api, "admission.fairway.dev")
    async with running(client, config, eventually) as operator:
        await eventually(lambda: bundles(api) != [""])

        refused = await ask(operator, api, ingress("bad"))
        warned = await ask(operator, api, ingress("/"))
        api.put(Kind.SERVICE, "web", spec={"ports": [{"port": 80}]})
        await eventually(lambda: api.count("GET", "/services") > 0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while "warnings" in (allowed := await ask(operator, api, ingress("/"))):  # noqa: ASYNC110 - by a watch
                await asyncio.sleep(0.02)
        told = await metrics(operator)

    assert (refused["allowed"], refused["status"]["code"]) == (False, 422)
    assert warned["allowed"]
    assert "there is no Service 'web'" in warned["warnings"][0]
    assert allowed == {"uid": "1", "allowed": True}
    assert 'fairway_admission_reviews_total{kind="Ingress",verdict="refused"} 1.0' in told
    assert 'verdict="allowed"' in told
    assert "fairway_admission_review_seconds_count" in told


async def test_nobody_is_answered_before_every_kind_was_heard(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    """Until then every class would be somebody else's, and everything allowed."""
    plural = KIND_PATHS[Kind.INGRESS_CLASS].plural
    api.denied = {plural}
    webhook = replace(config, webhook_address="127.0.0.1:0", webhook_names=(SERVICE,))
    operator = Operator(webhook, client)
    task = asyncio.create_task(operator.run())
    await eventually(lambda: secret_path("fairway-system", "fairway-ca") in api.objects)
    await eventually(lambda: api.count("GET", f"/{plural}") > 1)

    assert operator.webhook_port == 0

    operator.stop()
    assert await asyncio.wait_for(task, timeout=PATIENCE_SECONDS) == 0
