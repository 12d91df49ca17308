"""The inbox under a clock that only the test moves."""

import asyncio

import pytest

from fairway_operator.inbox import Batch, Inbox, WatchEvent
from fairway_operator.refs import Kind, ObjectRef


class FakeTime:
    """A clock whose sleepers wake when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    async def pass_by(self, seconds: float) -> None:
        """Move the clock, waking sleepers in order."""
        end = self.now + seconds
        while due := [item for item in self._sleepers if item[0] <= end]:
            item = min(due, key=lambda each: each[0])
            self._sleepers.remove(item)
            self.now = item[0]
            item[1].set()
            await settle()
        self.now = end


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def event(
    name: str, version: int | None = None, *, deleted: bool = False, **body: object
) -> WatchEvent:
    metadata = {"namespace": "default", "name": name}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    return WatchEvent(Kind.SERVICE, deleted, {"metadata": metadata, **body})


def names(batch: Batch) -> list[str]:
    return [each.ref.name for each in batch.events]


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def inbox(time: FakeTime) -> Inbox:
    return Inbox(settle_seconds=0.05, settle_limit_seconds=0.5, clock=time.clock, sleep=time.sleep)


async def test_a_change_after_quiet_goes_out_at_once(inbox: Inbox) -> None:
    inbox.put(event("a"))

    batch = await asyncio.wait_for(inbox.take(), timeout=30)

    assert names(batch) == ["a"]
    assert batch.first_at == 100.0


async def test_a_taker_that_waits_is_woken(inbox: Inbox) -> None:
    taking = asyncio.create_task(inbox.take())
    await settle()
    assert not taking.done()

    inbox.put(event("a"))

    assert names(await asyncio.wait_for(taking, timeout=30)) == ["a"]


async def test_a_burst_is_one_batch_after_quiet(inbox: Inbox, time: FakeTime) -> None:
    inbox.put(event("first"))
    await inbox.take()
    await time.pass_by(0.01)
    inbox.put(event("a"))
    taking = asyncio.create_task(inbox.take())
    await settle()

    for name in ("b", "c", "d"):
        await time.pass_by(0.04)
        inbox.put(event(name))
    await time.pass_by(0.049)
    assert not taking.done()
    await time.pass_by(0.002)

    assert names(taking.result()) == ["a", "b", "c", "d"]


async def test_a_burst_without_quiet_is_cut_at_the_limit(inbox: Inbox, time: FakeTime) -> None:
    inbox.put(event("first"))
    await inbox.take()
    taking = asyncio.create_task(inbox.take())
    for number in range(20):
        await time.pass_by(0.02)
        inbox.put(event(f"e{number}"))
        await settle()
    assert not taking.done()

    for number in range(20, 30):
        await time.pass_by(0.02)
        inbox.put(event(f"e{number}"))
        await settle()

    assert taking.done()
    assert 24 <= len(taking.result().events) <= 26


async def test_what_waited_while_the_taker_was_busy_goes_out_at_once(
    inbox: Inbox, time: FakeTime
) -> None:
    inbox.put(event("a"))
    await time.pass_by(0.3)
    inbox.put(event("b"))

    batch = await asyncio.wait_for(inbox.take(), timeout=30)

    assert names(batch) == ["a", "b"]


async def test_the_newest_version_of_an_object_wins(inbox: Inbox) -> None:
    for number in range(1000):
        inbox.put(event("a", number, spec=number))

    batch = await inbox.take()

    assert [each.body["spec"] for each in batch.events] == [999]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        pytest.param(event("a", 5), event("a", 6), True, id="a newer version"),
        pytest.param(event("a", 5), event("a", 5), False, id="the same version again"),
        pytest.param(event("a", 5), event("a", 4), False, id="an older version"),
        pytest.param(event("a", 5), event("a", 6, deleted=True), True, id="a deletion"),
        pytest.param(event("a", 5), event("a", 5, deleted=True), True, id="a deletion as it was"),
        pytest.param(event("a", 5), event("a", 4, deleted=True), False, id="an overtaken deletion"),
        pytest.param(
            event("b", 5), event("a", 6, deleted=True), False, id="an unknown object goes"
        ),
        pytest.param(event("a"), event("a"), True, id="files have no versions"),
    ],
)
def test_newer_is_told_by_version(
    inbox: Inbox,
    before: WatchEvent,
    after: WatchEvent,
    kept: bool,  # noqa: FBT001 - a column of the table
) -> None:
    inbox.put(before)

    assert inbox.put(after) is kept


def test_a_deleted_object_does_not_come_back_from_an_older_list(inbox: Inbox) -> None:
    inbox.put(event("a", 5))
    inbox.put(event("a", 7, deleted=True))

    assert not inbox.put(event("a", 5))
    assert inbox.known(Kind.SERVICE) == {}


def test_an_object_of_the_same_name_may_be_created_again(inbox: Inbox) -> None:
    inbox.put(event("a", 5))
    inbox.put(event("a", 7, deleted=True))

    assert inbox.put(event("a", 8))
    assert inbox.known(Kind.SERVICE) == {ObjectRef(Kind.SERVICE, "default", "a"): 8}


def test_a_history_that_went_back_starts_anew(inbox: Inbox) -> None:
    inbox.put(event("a", 5000))
    assert not inbox.put(event("a", 12))

    inbox.forget_versions(Kind.SERVICE)

    assert inbox.put(event("a", 12))


def test_deletions_are_forgotten_once_no_list_can_contradict_them(inbox: Inbox) -> None:
    inbox.put(event("a", 5))
    inbox.put(event("a", 7, deleted=True))

    inbox.forget_deletions(Kind.SERVICE, until_version=7)

    assert inbox.newest(Kind.SERVICE) == 0


def ingress(name: str, version: int, generation: int, **metadata: object) -> WatchEvent:
    body = {
        "metadata": {
            "namespace": "default",
            "name": name,
            "resourceVersion": str(version),
            "generation": generation,
            **metadata,
        },
        "status": {"at": version},
    }
    return WatchEvent(Kind.INGRESS, deleted=False, body=body)


async def test_an_edit_among_echoes_of_our_own_writing_goes_out_at_once(
    inbox: Inbox, time: FakeTime
) -> None:
    for number in range(10):
        inbox.put(ingress(f"i{number}", 1, 1))
    await inbox.take()
    await time.pass_by(1.0)
    taking = asyncio.create_task(inbox.take())
    for number in range(10):
        inbox.put(ingress(f"i{number}", 2, 1))  # only the status has changed
        await time.pass_by(0.01)
    await settle()
    assert not taking.done()

    inbox.put(ingress("i3", 3, 2))

    batch = await asyncio.wait_for(taking, timeout=30)
    assert len(batch.events) == 10
    assert batch.first_at == pytest.approx(101.1)


async def test_echoes_alone_are_told_in_the_end(inbox: Inbox, time: FakeTime) -> None:
    inbox.put(ingress("a", 1, 1))
    await inbox.take()
    await time.pass_by(1.0)
    inbox.put(ingress("a", 2, 1))
    taking = asyncio.create_task(inbox.take())
    await settle()
    await time.pass_by(0.49)
    assert not taking.done()

    await time.pass_by(0.02)
    await settle()

    assert names(taking.result()) == ["a"]


async def test_a_change_of_an_annotation_is_no_echo(inbox: Inbox, time: FakeTime) -> None:
    inbox.put(ingress("a", 1, 1))
    await inbox.take()
    await time.pass_by(1.0)

    inbox.put(ingress("a", 2, 1, annotations={"fairway.dev/strip-prefix": "/a"}))

    assert names(await asyncio.wait_for(inbox.take(), timeout=30)) == ["a"]
