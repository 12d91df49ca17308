"""Effects, written to an API server over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from fairway_operator import outbox as outboxes
from fairway_operator.config import OperatorConfig
from fairway_operator.effects import Effect, EmitEvent, PatchStatus
from fairway_operator.kube.client import KubeClient
from fairway_operator.kube.paths import event_path
from fairway_operator.kube.writer import KubeWriter
from fairway_operator.outbox import Answer, Bucket, Outbox, Outcome
from fairway_operator.refs import Kind, ObjectRef

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Eventually = Callable[..., Awaitable[None]]


class Leadership:
    def __init__(self) -> None:
        self.held = True

    def __call__(self) -> bool:
        return self.held


class Bench:
    """An outbox at work, and what the watch is said to have seen."""

    def __init__(self, client: KubeClient, config: OperatorConfig) -> None:
        self.leading = Leadership()
        self.seen: dict[ObjectRef, int] = {}
        writer = KubeWriter(client, config, seen=lambda ref: self.seen.get(ref, 0))
        self.outbox = Outbox(writer, bucket=Bucket(10_000.0, 10_000), leading=self.leading)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[Outbox]:
        task = asyncio.create_task(self.outbox.work())
        try:
            yield self.outbox
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def outcomes(self) -> dict[Outcome, int]:
        return {outcome: n for outcome, n in self.outbox.counters.outcomes.items() if n}


@pytest.fixture
def bench(client: KubeClient, config: OperatorConfig, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(outboxes, "OBJECT_SECONDS", 0.02)
    monkeypatch.setattr(outboxes, "HOLD_SECONDS", 0.02)
    monkeypatch.setattr(outboxes, "BACKOFF_SECONDS", (0.02, 0.1))
    return Bench(client, config)


def ingress(name: str) -> ObjectRef:
    return ObjectRef(Kind.INGRESS, "shop", name)


def status(name: str, address: str, generation: int = 1, time: str = "then") -> PatchStatus:
    return PatchStatus(
        ref=ingress(name),
        generation=generation,
        manifest={
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": "shop"},
            "status": {
                "loadBalancer": {"ingress": [{"ip": address}]},
                "conditions": [{"type": "Programmed", "lastTransitionTime": time}],
            },
        },
    )


def warning(name: str, message: str) -> EmitEvent:
    return EmitEvent(
        ref=ingress(name), uid=f"uid-{name}", type="Warning", reason="Conflict", message=message
    )


def address_of(api: "ApiServer", name: str) -> str | None:
    body = api.objects[f"/apis/networking.k8s.io/v1/namespaces/shop/ingresses/{name}"]
    balancer = body.get("status", {}).get("loadBalancer", {})
    return str(balancer["ingress"][0]["ip"]) if balancer else None


async def test_status_is_applied_by_our_field_manager(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    async with bench.working() as outbox:
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

    assert address_of(api, "web") == "1.2.3.4"
    method, path, query = api.requests[-1]
    assert (method, path.rpartition("/")[2]) == ("PATCH", "status")
    assert query == {"fieldManager": "fairway-operator", "force": "true"}


async def test_of_many_plans_for_one_object_the_last_is_written(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    async with bench.working() as outbox:
        for number in range(100):
            outbox.fill([status("web", f"10.0.0.{number}")], [ingress("web")])
        await eventually(lambda: not len(outbox))

    assert address_of(api, "web") == "10.0.0.99"
    assert api.count("PATCH", "web") == 1
    assert bench.outbox.counters.superseded == 99


async def test_a_plan_that_is_no_longer_needed_is_not_written(
    api: "ApiServer", bench: Bench
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    bench.outbox.fill([status("web", "1.2.3.4")], None)
    bench.outbox.fill([], [ingress("other")])
    assert len(bench.outbox) == 1

    bench.outbox.fill([], [ingress("web")])

    assert len(bench.outbox) == 0


async def test_a_failed_write_is_tried_again_and_remembered(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    api.answers = [(500, {}), (409, {}), (403, {})]
    async with bench.working() as outbox:
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

    assert address_of(api, "web") == "1.2.3.4"
    (attempts,) = bench.outbox.history().values()
    assert [attempt.outcome for attempt in attempts] == ["failed", "failed", "failed", "written"]
    assert [attempt.message[:3] for attempt in attempts] == ["500", "409", "403", ""]


async def test_the_server_is_given_the_time_it_asks_for(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    api.answers = [(429, {"Retry-After": "1"})]
    loop = asyncio.get_running_loop()
    async with bench.working() as outbox:
        started_at = loop.time()
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

    assert loop.time() - started_at >= 1.0


async def test_the_status_of_an_object_that_is_gone_is_dropped(
    bench: Bench, eventually: Eventually
) -> None:
    async with bench.working() as outbox:
        outbox.fill([status("nowhere", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

    assert bench.outcomes() == {Outcome.GONE: 1}


async def test_what_the_server_will_never_take_is_dropped(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    api.answers = [(422, {})]
    async with bench.working() as outbox:
        outbox.fill([status("web", "not an address")], None)
        await eventually(lambda: not len(outbox))

    assert bench.outcomes() == {Outcome.REFUSED: 1}


async def test_the_same_status_is_not_written_twice_before_the_watch_shows_it(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    async with bench.working() as outbox:
        outbox.fill([status("web", "1.2.3.4", time="12:00")], None)
        await eventually(lambda: not len(outbox))
        outbox.fill([status("web", "1.2.3.4", time="12:01")], None)
        await eventually(lambda: not len(outbox))

    assert bench.outcomes() == {Outcome.WRITTEN: 1, Outcome.UNCHANGED: 1}


async def test_a_status_that_somebody_else_changed_is_written_again(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    async with bench.working() as outbox:
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))
        other = api.put(Kind.INGRESS, "web", namespace="shop", status={})
        bench.seen[ingress("web")] = int(other["metadata"]["resourceVersion"])
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

    assert address_of(api, "web") == "1.2.3.4"
    assert api.count("PATCH", "web") == 2


async def test_only_the_leader_writes(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    bench.leading.held = False
    async with bench.working() as outbox:
        outbox.fill([status("web", "1.2.3.4")], None)
        await asyncio.sleep(0.1)
        assert api.count("PATCH", "web") == 0

        bench.leading.held = True
        await eventually(lambda: not len(outbox))

    assert api.count("PATCH", "web") == 1


async def test_a_new_leader_elsewhere_makes_our_plans_void(bench: Bench) -> None:
    bench.outbox.fill([status("web", "1.2.3.4"), warning("web", "taken")], None)

    bench.outbox.clear()

    assert len(bench.outbox) == 0


async def test_an_event_told_again_is_counted(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    async with bench.working() as outbox:
        for _ in range(3):
            outbox.fill([warning("web", "host is taken by shop/other")], None)
            await eventually(lambda: not len(outbox))

    (event,) = [body for path, body in api.objects.items() if event_path("shop") in path]
    assert event["series"]["count"] == 3
    assert event["regarding"]["name"] == "web"
    assert event["note"] == "host is taken by shop/other"


async def test_events_outlive_a_plan_without_them(bench: Bench) -> None:
    bench.outbox.fill([warning("web", "taken")], None)

    bench.outbox.fill([], None)

    assert len(bench.outbox) == 1


async def test_one_object_is_written_once_in_a_while(
    api: "ApiServer", bench: Bench, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "OBJECT_SECONDS", 0.3)
    api.put(Kind.INGRESS, "web", namespace="shop")
    loop = asyncio.get_running_loop()
    async with bench.working() as outbox:
        started_at = loop.time()
        for number in range(3):
            outbox.fill([status("web", f"10.0.0.{number}")], None)
            await eventually(lambda: not len(outbox))

    assert loop.time() - started_at >= 0.6


class RecordingWriter:
    def __init__(self) -> None:
        self.effects: list[Effect] = []

    async def write(self, effect: Effect) -> Answer:
        self.effects.append(effect)
        return Answer(Outcome.WRITTEN)


async def test_l5_all_objects_together_have_a_rate(eventually: Eventually) -> None:
    writer = RecordingWriter()
    outbox = Outbox(writer, bucket=Bucket(50.0, 5), leading=lambda: True)
    outbox.fill([status(f"web-{number}", "1.2.3.4") for number in range(20)], None)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    task = asyncio.create_task(outbox.work())

    await eventually(lambda: len(writer.effects) == 20)

    assert 0.25 <= loop.time() - started_at < 30.0
    assert len({effect.ref for effect in writer.effects}) == 20
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_bucket_holds_its_burst_and_no_more() -> None:
    bucket = Bucket(10.0, 3)

    assert [bucket.wait_seconds(100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.1]
    assert bucket.wait_seconds(100.1) == 0.0
    assert [bucket.wait_seconds(500.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.wait_seconds(500.0) > 0


def test_l5_a_bucket_goes_at_half_the_pace_of_what_overloads_the_server() -> None:
    bucket = Bucket(100.0, 10)
    bucket.wait_seconds(0.0)

    for _ in range(8):
        bucket.slow_down(1.0)  # Eight writes were under way together, and are refused together.

    assert bucket.pace == 50.0
    assert bucket.wait_seconds(1.0) > 0, "nothing that was saved up goes out at once"
    for second in range(2, 20):
        bucket.slow_down(float(second))
    assert bucket.pace == 1.0


def test_l5_a_bucket_comes_back_to_its_pace_in_half_a_minute() -> None:
    bucket = Bucket(100.0, 10)
    bucket.wait_seconds(0.0)
    for second in range(20):
        bucket.slow_down(float(second))

    paces = []
    for second in range(20, 60):
        bucket.wait_seconds(float(second))
        paces.append(bucket.pace)

    assert paces == sorted(paces)
    assert paces[5] < 50.0
    assert paces[-1] == 100.0


async def test_l5_priority_and_fairness_are_heard(
    api: "ApiServer", bench: Bench, eventually: Eventually
) -> None:
    api.put(Kind.INGRESS, "web", namespace="shop")
    api.answers = [(429, {"Retry-After": "0"})]
    async with bench.working() as outbox:
        assert outbox.pace == 10_000.0
        outbox.fill([status("web", "1.2.3.4")], None)
        await eventually(lambda: not len(outbox))

        assert 5_000.0 <= outbox.pace < 10_000.0


async def test_l5_events_of_receipts_make_way_for_the_status_of_others(
    eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "OBJECT_SECONDS", 0.0)
    writer = RecordingWriter()
    now = [0.0]
    # All can be written at once in the end, and so are in the order in which they are due.
    bucket = Bucket(2.0, 100)
    outbox = Outbox(writer, bucket=bucket, leading=lambda: True, clock=lambda: now[0])
    for number in range(20):
        now[0] += 0.5
        ref = ObjectRef(Kind.INGRESS, "shop", f"web-{number}")
        receipt = EmitEvent(
            ref=ref,
            uid="u",
            type="Normal",
            reason="Programmed",
            message="first",
            supersedes=True,
        )
        outbox.fill([status(ref.name, "1.2.3.4"), receipt], {ref})
        newer = msgspec.structs.replace(receipt, message="newer")
        outbox.fill([status(ref.name, "1.2.3.4"), newer], {ref})
    now[0] += 1000.0
    task = asyncio.create_task(outbox.work())

    await eventually(lambda: len(writer.effects) == 40)

    assert sum(isinstance(effect, PatchStatus) for effect in writer.effects[:20]) >= 14
    messages = {each.message for each in writer.effects if isinstance(each, EmitEvent)}
    assert messages == {"newer"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
