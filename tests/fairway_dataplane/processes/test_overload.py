"""Too little of something, in a real process: descriptors, and memory."""

import asyncio
import contextlib
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from fairway_dataplane.downstream.overload import LEAST_REQUESTS
from tests.fairway_dataplane.processes.conftest import LIMIT_SECONDS

if TYPE_CHECKING:
    from tests.fairway_dataplane.processes.conftest import (
        Dataplane,
        Operator,
        StartBackend,
        StartDataplane,
    )

REQUEST = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"
FILES = 120


def cpu_ticks(pid: int) -> int:
    """Return the time that a process has worked, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(LIMIT_SECONDS):
        return int((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])


async def metric(dataplane: "Dataplane", name: str) -> float:
    for line in (await dataplane.admin("/metrics")).body.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split(" ")[1])
    raise AssertionError(f"no {name}")


async def test_short_of_descriptors_clients_wait_and_are_served_later(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    backend.hold = asyncio.Event()
    dataplane = await start_dataplane(LIMITS__DESCRIPTORS_PERCENT="70")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    # A worker that is started from now on has few.
    resource.prlimit(dataplane.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    dataplane.signal(signal.SIGHUP)
    await dataplane.event("worker_replaced")
    (worker,) = await dataplane.workers()

    # Each client needs a second descriptor for its backend: 84 are too few for 48 clients.
    clients = []
    for _ in range(80):
        reader, writer = await dataplane.connect()
        writer.write(REQUEST)
        clients.append((reader, writer))
    began = await dataplane.event("overload_began")
    assert began["resource"] == "descriptors"
    before = cpu_ticks(worker)
    await asyncio.sleep(1.0)
    assert cpu_ticks(worker) - before < 30, "a loop that spins would have taken 100"
    paused = 'fairway_overloaded_workers{resource="descriptors"}'
    assert await metric(dataplane, paused) == 1
    assert (await dataplane.admin("/healthz")).status == 200

    backend.hold.set()
    answered = 0
    for reader, writer in clients:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            assert await status(reader) == 200
            answered += 1
        writer.close()
    # Those above the limit of connections are closed; the others were served, also who waited.
    assert answered >= 48
    await dataplane.event("overload_ended")
    assert (await dataplane.get()).body == "one"
    assert await metric(dataplane, paused) == 0
    assert await dataplane.workers() == [worker], "and no worker was replaced"


async def test_short_of_memory_requests_are_shed_and_a_few_are_served(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    backend.hold = asyncio.Event()
    dataplane = await start_dataplane(LIMITS__MEMORY_BYTES="1000000")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    began = await dataplane.event("overload_began")
    assert began["resource"] == "memory"

    busy = []
    for _ in range(LEAST_REQUESTS):
        reader, writer = await dataplane.connect()
        writer.write(REQUEST)
        busy.append((reader, writer))
    async with asyncio.timeout(LIMIT_SECONDS):
        while backend.requests < LEAST_REQUESTS:
            backend.arrived.clear()
            await backend.arrived.wait()
    refused = await dataplane.get()
    assert (refused.status, "overloaded" in refused.body) == (503, True)
    shed = 'fairway_rejected_requests_total{reason="overloaded"}'
    assert await metric(dataplane, shed) == 1
    assert await metric(dataplane, 'fairway_overloads_total{resource="memory"}') == 1
    backend.hold.set()
    for reader, writer in busy:
        assert await status(reader) == 200
        writer.close()
    assert (await dataplane.get()).status == 200
