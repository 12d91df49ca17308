"""
What a data plane survives: dead workers, dead operators, damaged files, wrong certificates.

    FAIRWAY_TEST_KILLS=100 FAIRWAY_TEST_SWAPS=1000 pytest -k "killed_one or swaps" -rP
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fairway_dataplane.store import SnapshotStore
from fairway_snapshot.protocol import Message, Nodes
from tests.fairway_dataplane.processes.conftest import LIMIT_SECONDS

if TYPE_CHECKING:
    from tests.fairway_dataplane.processes.conftest import (
        Authority,
        Dataplane,
        Operator,
        StartBackend,
        StartDataplane,
    )

REQUEST = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"
KILLS = int(os.environ.get("FAIRWAY_TEST_KILLS", "3"))
SWAPS = int(os.environ.get("FAIRWAY_TEST_SWAPS", "30"))


async def test_a_queued_connection_outlives_the_worker_it_was_queued_for(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane()
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    (worker,) = await dataplane.workers()

    await stop(worker)  # it accepts nothing any more
    queued = [await dataplane.connect() for _ in range(50)]
    for _, writer in queued:
        writer.write(REQUEST)
    os.kill(worker, signal.SIGKILL)

    async with asyncio.timeout(LIMIT_SECONDS):
        heads = [await reader.readuntil(b"\r\n") for reader, _ in queued]
    assert heads == [b"HTTP/1.1 200 OK\r\n"] * 50
    for _, writer in queued:
        writer.close()


async def test_the_requests_of_other_workers_do_not_notice_a_killed_one(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    load = Load(dataplane)

    for kill in range(1, KILLS + 1):
        await load.answered(100)
        victim = (await dataplane.workers())[kill % 2]
        await stop(victim)  # from here on it accepts nothing more
        load.doomed = accepted_by(victim)
        os.kill(victim, signal.SIGKILL)
        await dataplane.event("worker_died", count=kill)
        await both_serve(dataplane)
    await load.answered(100)

    assert await load.stop() == []


async def test_swaps_of_the_table_fail_no_request(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    snapshots = [(await start_backend(name)).serving("shop.example") for name in ("one", "two")]
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(snapshots[0])
    await dataplane.ready()
    load = Load(dataplane)

    for swap in range(1, SWAPS + 1):
        snapshot = snapshots[swap % 2]
        await operator.publish(snapshot)
        await operator.acked(snapshot)
        await load.answered(10)

    assert await load.stop() == []


async def test_sighup_replaces_every_worker_and_no_request_fails(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    before = await dataplane.workers()
    load = Load(dataplane)
    await load.answered(100)

    dataplane.signal(signal.SIGHUP)
    await dataplane.event("worker_replaced", count=2)
    await load.answered(200)

    assert set(before).isdisjoint(await dataplane.workers())
    assert await load.stop() == []


async def test_a_worker_that_dies_while_it_is_replaced_leaves_one_successor(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    """A second one would accept as well, be told nothing, and serve what was for ever."""
    one, two = await start_backend("one"), await start_backend("two")
    dataplane = await start_dataplane()
    await operator.publish(one.serving("shop.example"))
    await dataplane.ready()
    (worker,) = await dataplane.workers()

    dataplane.signal(signal.SIGHUP)
    await until(lambda: len(children_of(dataplane)) == 2)
    os.kill(worker, signal.SIGKILL)
    await dataplane.event("worker_died")
    async with asyncio.timeout(LIMIT_SECONDS):
        while not await dataplane.workers():
            pass
    await until(lambda: len(children_of(dataplane)) == 1)

    await operator.publish(two.serving("shop.example"))
    await operator.acked(two.serving("shop.example"))
    answers = [await dataplane.get() for _ in range(20)]
    assert {answer.body for answer in answers} == {"two"}


async def test_a_worker_that_dies_while_another_builds_holds_up_no_change(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    one, two = await start_backend("one"), await start_backend("two")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(one.serving("shop.example"))
    await dataplane.ready()
    first, second = await dataplane.workers()

    os.kill(first, signal.SIGSTOP)
    await operator.publish(two.serving("shop.example"))
    await until(lambda: state_of(first) == "T")
    os.kill(second, signal.SIGKILL)
    await dataplane.event("worker_died")
    os.kill(first, signal.SIGCONT)

    await operator.acked(two.serving("shop.example"))
    await both_serve(dataplane)


async def test_sigterm_under_load_answers_or_refuses_and_resets_nobody(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    load = Load(dataplane)
    await load.answered(200)

    dataplane.signal(signal.SIGTERM)
    failures = await load.refused()

    assert failures == []
    assert await dataplane.ended() == 0


async def test_a_worker_that_dies_again_and_again_makes_it_not_ready(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane()
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()

    for death in range(1, 4):
        (worker,) = await dataplane.workers()
        os.kill(worker, signal.SIGKILL)
        await dataplane.event("worker_died", count=death)
        async with asyncio.timeout(LIMIT_SECONDS):
            while not await dataplane.workers():  # noqa: ASYNC110 - another process knows
                await asyncio.sleep(0.02)

    assert (await dataplane.get()).status == 200
    assert (await dataplane.admin("/readyz")).body == "a worker dies again and again\n"


async def test_no_worker_outlives_a_killed_supervisor(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    reader, writer = await dataplane.connect()
    backend.hold = asyncio.Event()
    backend.arrived.clear()
    writer.write(REQUEST)
    await backend.arrived.wait()

    dataplane.signal(signal.SIGKILL)
    await dataplane.dead()
    await dataplane.refuses()
    backend.hold.set()
    answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")  # it even finishes what it has
    async with asyncio.timeout(LIMIT_SECONDS):
        await dataplane.silent.wait()  # nobody holds the other end of its stderr
    writer.close()


async def test_traffic_does_not_need_the_operator_and_resuming_sends_only_what_is_missing(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    large = backend.serving("shop.example")
    for at in range(500):
        large = large.evolve(backend.edits(f"host-{at}.example"))
    dataplane = await start_dataplane()
    await operator.publish(large)
    await dataplane.ready()
    whole = operator.sent_bytes

    await operator.stop()
    await dataplane.event("stream_lost")
    assert (await dataplane.get()).status == 200
    assert (await dataplane.admin("/readyz")).status == 200
    changed = large.evolve(backend.edits("new.example"))
    operator.sent_bytes = 0
    await operator.start()
    await operator.publish(changed)
    await operator.acked(changed)

    assert operator.hellos[-1].root == large.root
    assert operator.sent_bytes < 4_000 < whole
    assert (await dataplane.get("new.example")).status == 200


async def test_an_operator_that_goes_while_its_snapshot_is_built_is_no_bug_of_ours(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    one, two = await start_backend("one"), await start_backend("two")
    dataplane = await start_dataplane()
    await operator.publish(one.serving("shop.example"))
    await dataplane.ready()
    (worker,) = await dataplane.workers()

    os.kill(worker, signal.SIGSTOP)
    await operator.publish(two.serving("shop.example"))
    await operator.stop()
    os.kill(worker, signal.SIGCONT)
    await dataplane.event("snapshot_served", count=2)
    await dataplane.event("stream_lost")
    await operator.start()
    await operator.until(lambda: operator.hellos[-1].root == two.serving("shop.example").root)

    assert "stream_bug" not in {event["event"] for event in dataplane.events}


async def test_it_starts_from_the_stored_snapshot_when_no_operator_answers(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    first = await start_dataplane()
    await operator.publish(backend.serving("shop.example"))
    await first.ready()
    await first.event("snapshot_stored")
    first.signal(signal.SIGTERM)
    await first.ended()
    await operator.stop()

    second = await start_dataplane()

    assert (await second.event("snapshot_served"))["source"] == "store"
    assert (await second.admin("/readyz")).status == 200
    assert (await second.get()).body == "one"


def flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


async def test_what_could_not_be_stored_is_stored_as_soon_as_it_can_be(
    operator: "Operator",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
    tmp_path: Path,
) -> None:
    """Else a restart would bring back a state of days ago, where nothing has changed since."""
    backend = await start_backend("one")
    obstacle = tmp_path / "state" / ".snapshot.new"
    obstacle.mkdir(parents=True)
    dataplane = await start_dataplane()
    await operator.publish(backend.serving("shop.example"))
    await dataplane.event("snapshot_not_stored")

    obstacle.rmdir()

    await dataplane.event("snapshot_stored")


async def test_many_changes_are_stored_a_few_times_and_the_last_one_is(
    operator: "Operator",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
    tmp_path: Path,
) -> None:
    """Each is written whole: ten changes a second would take a processor from the workers."""
    backend = await start_backend("one")
    dataplane = await start_dataplane()
    snapshot = backend.serving("shop.example")
    began = asyncio.get_running_loop().time()
    for at in range(20):
        snapshot = snapshot.evolve(backend.edits(f"host-{at}.example"))
        await operator.publish(snapshot)
        await operator.acked(snapshot)
    store = SnapshotStore(tmp_path / "state")

    await until(lambda: (stored := store.load()) is not None and stored.snapshot == snapshot)

    times = sum(event["event"] == "snapshot_stored" for event in dataplane.events)
    assert times <= 2 + asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(flip_a_bit, "checksum does not match: cut short or damaged", id="one bit"),
        pytest.param(
            lambda content: content[: len(content) // 2],
            "checksum does not match: cut short or damaged",
            id="cut in half",
        ),
        pytest.param(lambda _: b"", "cut short at 0 bytes", id="empty"),
    ],
)
async def test_a_damaged_stored_snapshot_is_refused_and_the_operator_asked(
    *,
    damage: Callable[[bytes], bytes],
    reason: str,
    settings: dict[str, str],
    operator: "Operator",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
) -> None:
    backend = await start_backend("one")
    snapshot = backend.serving("shop.example")
    first = await start_dataplane()
    await operator.publish(snapshot)
    await first.event("snapshot_stored")
    first.signal(signal.SIGTERM)
    await first.ended()
    file = Path(settings["STATE_DIRECTORY"]) / "snapshot"
    file.write_bytes(damage(file.read_bytes()))

    second = await start_dataplane()

    assert (await second.event("stored_snapshot_refused"))["reason"] == reason
    assert (await second.event("snapshot_served"))["source"] == "operator"
    assert (await second.get()).body == "one"


async def test_a_snapshot_that_cannot_be_verified_is_refused(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend, other = await start_backend("one"), await start_backend("two")
    dataplane = await start_dataplane()
    good = backend.serving("shop.example")
    await operator.publish(good)
    await operator.acked(good)

    def lose_a_node(message: Message) -> Message:
        if isinstance(message, Nodes):
            return msgspec.structs.replace(message, blobs=message.blobs[1:])
        return message

    operator.spoil = lose_a_node
    await operator.publish(other.serving("shop.example"))
    await operator.until(lambda: bool(operator.nacks))

    assert (await dataplane.get()).body == "one"
    metrics = (await dataplane.admin("/metrics")).body
    assert 'fairway_snapshot_rejected_total{reason="verify"} 1.0' in metrics


async def test_an_operator_of_another_authority_is_not_believed(
    operator: "Operator",
    settings: dict[str, str],
    stranger: "Authority",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
) -> None:
    backend = await start_backend("one")
    await operator.publish(backend.serving("shop.example"))
    trust(settings, stranger)

    dataplane = await start_dataplane()
    failed = await dataplane.event("stream_failed")

    assert "handshake failed" in str(failed["reason"])
    assert operator.hellos == []
    assert (await dataplane.admin("/readyz")).status == 503


async def test_a_data_plane_of_another_authority_is_refused_until_its_files_are_right(
    *,
    operator: "Operator",
    authority: "Authority",
    settings: dict[str, str],
    stranger: "Authority",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
) -> None:
    backend = await start_backend("one")
    await operator.publish(backend.serving("shop.example"))
    show(settings, *stranger.issue("dataplane"))
    dataplane = await start_dataplane()
    await dataplane.event("stream_failed")
    assert operator.hellos == []

    chain, key = authority.issue("dataplane")
    show(settings, chain, key)
    await dataplane.ready()
    chain_of_next, key_of_next = authority.issue("dataplane")
    show(settings, chain_of_next, key_of_next)
    await dataplane.event("stream_credentials_changed")
    await operator.until(lambda: len(operator.hellos) == 2)

    assert [peer.strip() for peer in operator.peers] == [chain.strip(), chain_of_next.strip()]


def trust(settings: dict[str, str], authority: "Authority") -> None:
    """Change whom a data plane believes."""
    Path(settings["STREAM_AUTHORITY"]).write_bytes(authority.trusted)


def show(settings: dict[str, str], chain: bytes, key: bytes) -> None:
    """Change the files of a data plane's certificate."""
    Path(settings["STREAM_CERTIFICATE"]).write_bytes(chain)
    Path(settings["STREAM_KEY"]).write_bytes(key)


def accepted_by(worker: int) -> set[int]:
    """Return the client ports of the connections that a process holds, as the kernel knows them."""
    held = set()
    for entry in Path(f"/proc/{worker}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(str(entry.readlink()))
    # proc_net_tcp: 2 is the remote address as HEX:PORT, 9 the inode.
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].partition(":")[2], 16) for row in rows if f"socket:[{row[9]}]" in held}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel knows and has no event for."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def children_of(dataplane: "Dataplane") -> list[str]:
    pid = dataplane.process.pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def stop(worker: int) -> None:
    """Have a process do nothing more; a signal may arrive a moment after it was sent."""
    os.kill(worker, signal.SIGSTOP)
    await until(lambda: state_of(worker) == "T")


def state_of(pid: int) -> str:
    """Return the letter of proc_pid_stat(5): T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def both_serve(dataplane: "Dataplane") -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(await dataplane.workers()) < 2:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.02)


class Load:
    """
    Clients that keep their connections, and some that make a new one for each request.

    A connection whose port is in ``doomed`` may break; every other must not.
    """

    def __init__(self, dataplane: "Dataplane") -> None:
        self.doomed: set[int] = set()
        self._dataplane = dataplane
        self._count = 0
        self._lost = 0
        self._progress = asyncio.Event()
        self._stopping = False
        self._may_refuse = False
        self._clients = [
            *(asyncio.create_task(self._client(requests=1_000_000)) for _ in range(10)),
            *(asyncio.create_task(self._client(requests=1)) for _ in range(4)),
        ]

    async def answered(self, number: int) -> None:
        """Wait for so many further answers."""
        goal = self._count + number
        async with asyncio.timeout(LIMIT_SECONDS):
            while self._count < goal:
                self._progress.clear()
                await self._progress.wait()

    async def refused(self) -> list[str]:
        """Wait until nobody listens; return what failed on connections that were open."""
        self._may_refuse = True
        return await self._failures()

    async def stop(self) -> list[str]:
        """Return what failed on connections that were not doomed."""
        self._stopping = True
        return await self._failures()

    async def _failures(self) -> list[str]:
        async with asyncio.timeout(LIMIT_SECONDS):
            found = await asyncio.gather(*self._clients)
        failures = [failure for each in found for failure in each]
        told = f"{self._count} answered, {self._lost} lost with a worker, {len(failures)} failed"
        print(told)  # noqa: T201 - the figure, for -rP
        return failures

    async def _client(self, requests: int) -> list[str]:
        failures: list[str] = []
        while not self._stopping:
            try:
                reader, writer = await self._dataplane.connect()
            except ConnectionRefusedError:
                return [*failures, *([] if self._may_refuse else ["refused"])]
            port = writer.get_extra_info("sockname")[1]
            try:
                await self._talk(reader, writer, requests)
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                if port in self.doomed:
                    self._lost += 1
                else:
                    failures.append(repr(error))
            finally:
                writer.close()
        return failures

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: int
    ) -> None:
        for _ in range(requests):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len("one"))
            if not head.startswith(b"HTTP/1.1 200 OK\r\n"):
                raise ConnectionError(head.decode())
            self._count += 1
            self._progress.set()
            if self._stopping or b"connection: close" in head.lower():
                return
