"""Leader election against an API server over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import KubeClient
from fairway_operator.kube.lease import Lease
from fairway_operator.kube.paths import lease_path

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Eventually = Callable[..., Awaitable[None]]
LEASE = lease_path("fairway-system", "fairway-operator")


@asynccontextmanager
async def running(lease: Lease) -> AsyncIterator[Lease]:
    task = asyncio.create_task(lease.run())
    try:
        yield lease
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_of_two_leads_and_the_other_follows_when_it_goes(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    # Nobody in this test waits until a Lease has run out: its leader gives it back.
    config = replace(config, lease_seconds=3600, lease_renew_seconds=3000)
    first = Lease(client, config)
    second = Lease(client, replace(config, instance="pod-b"))
    async with AsyncExitStack() as following:
        async with running(first):
            await eventually(lambda: first.leading)
            await following.enter_async_context(running(second))
            await eventually(lambda: first.epoch == second.epoch == 1)
            assert first.leading
            assert not second.leading
            assert second.holder == first.identity
        await eventually(lambda: second.leading)
        assert second.epoch == 2
        assert not first.leading


async def test_a_leader_that_comes_back_opens_no_epoch(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)
    api.objects[LEASE]["spec"]["holderIdentity"] = "pod-a"  # as if killed

    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)

    assert lease.epoch == 1


async def test_who_cannot_renew_stops_leading_by_itself(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)
        api.denied = {"leases"}
        await eventually(lambda: not lease.leading)
        api.denied.clear()
        await eventually(lambda: lease.leading)


async def test_who_leads_again_after_a_lapse_says_so(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    """What came up meanwhile was not written, and nobody else may come to write it."""
    told: list[bool] = []
    lease = Lease(client, config, on_change=lambda: told.append(lease.leading))
    async with running(lease):
        await eventually(lambda: lease.leading)
        api.denied = {"leases"}
        await eventually(lambda: not lease.leading)
        told.clear()
        api.denied.clear()

        await eventually(lambda: told == [True])


async def test_who_sees_another_holder_stops_at_once(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    """As after a jump of the other's clock, which made it believe that the Lease ran out."""
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)
        body = api.objects[LEASE]
        taken = {**body["spec"], "holderIdentity": "pod-b", "leaseTransitions": 9}
        api.objects[LEASE] = {
            **body,
            "metadata": {**body["metadata"], "resourceVersion": "77777777"},
            "spec": taken,
        }
        await eventually(lambda: lease.holder == "pod-b")

        assert not lease.leading
        assert lease.epoch == 9


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_is_wrong_by_an_hour_takes_no_lease_from_anybody(
    api: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    hours: int,
) -> None:
    """A holder that renews is alive, whatever time it writes; it is not when it stops."""

    def renew(number: int) -> None:
        wrong = datetime.now(UTC) + timedelta(hours=hours, seconds=number)
        spec = {
            "holderIdentity": "pod-b",
            "leaseDurationSeconds": config.lease_seconds,
            "renewTime": wrong.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "leaseTransitions": 3,
        }
        version = str(70_000_000 + number)
        metadata = {"name": "fairway-operator", "resourceVersion": version}
        api.objects[LEASE] = {"metadata": metadata, "spec": spec}

    renew(0)
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.holder == "pod-b")
        for number in range(1, 7):
            await asyncio.sleep(1.0)
            renew(number)
            assert not lease.leading
        await eventually(lambda: lease.leading)

    assert lease.epoch == 4


async def test_a_lease_that_the_chart_made_empty_is_taken(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    api.objects[LEASE] = {
        "metadata": {"name": "fairway-operator", "resourceVersion": "5"},
        "spec": {},
    }
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)

    assert api.count("POST", "leases") == 0


async def test_times_in_the_lease_are_utc(
    api: "ApiServer", client: KubeClient, config: OperatorConfig, eventually: Eventually
) -> None:
    async with running(Lease(client, config)) as lease:
        await eventually(lambda: lease.leading)
        spec = api.objects[LEASE]["spec"]

    assert spec["renewTime"].endswith("Z")
    assert spec["leaseDurationSeconds"] == 4
