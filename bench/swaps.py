"""
One worker, and tables of ten thousand routes that replace each other under load.

    python -m bench.swaps --hosts 10000 --swaps 1000

Says for how long one turn of the worker's loop takes at most: at rest, while every
route is replaced, while one is edited, and while all counters are read. Turns in
which the machine took the processor away are left out: of these the wall clock says
more than the worker's CPU time, which on a virtual machine grows meanwhile as well.
Then swaps again and again, and says what memory the worker has before and after.
"""

import argparse
import asyncio
import contextlib
import json
import mmap
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvloop

from bench import compiled, install, processes
from bench.processes import alive, free_port, rss_mb, wait_for
from fairway_dataplane.accesslog import AccessLogSettings
from fairway_dataplane.child import Child
from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.link import Configure, Door
from fairway_dataplane.store import Stored
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.worker import Worker
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    Timeouts,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.protocol import Position, SnapshotHistory
from fairway_snapshot.tree import Edit, Snapshot, snapshot_of

CONNECTIONS = 4
"""Few, so that a turn of the loop is short but for what is measured."""

EDITS = 20
"""Of one route each, in a row."""

GAUGE_BYTES = 8

DISTURBED_SECONDS = 20e-6
"""A turn whose wall clock exceeds its CPU time by that was interrupted."""


def main() -> int:
    """Measure, and print JSON."""
    options = _options()
    if options.as_worker is not None:
        uvloop.run(_serve(*options.as_worker))
        return 0
    compiled.restart()
    print(json.dumps(uvloop.run(_measure(options)), indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.swaps", description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--swaps", type=int, default=1_000)
    parser.add_argument(
        "--replacements", type=int, default=10, help="of every route; all is done so often"
    )
    parser.add_argument("--as-worker", nargs=2, type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


# In the worker's process.


async def _serve(control: int, gauge: int) -> None:
    """Be a worker, and note the longest turn of its loop."""
    loop = asyncio.get_running_loop()
    longest = memoryview(mmap.mmap(gauge, GAUGE_BYTES)).cast("d")
    worked, read = time.thread_time(), time.perf_counter()

    def beat() -> None:
        nonlocal worked, read
        before, then = worked, read
        worked, read = time.thread_time(), time.perf_counter()
        if (read - then) - (worked - before) < DISTURBED_SECONDS:
            longest[0] = max(longest[0], worked - before)
        loop.call_soon(beat)

    beat()
    end = socket.socket(fileno=control)
    end.setblocking(False)  # noqa: FBT003 - the socket module's signature
    await Worker().run(end)


# In ours.


class Site:
    """What the worker serves, in two versions of each route."""

    def __init__(self, hosts: int, port: int) -> None:
        self._hosts = hosts
        self._port = port

    def snapshot(self, version: int) -> Snapshot:
        """Return everything in one version."""
        numbers = range(self._hosts)
        return snapshot_of(
            hosts={HostPattern(host(number)): self.leaf(number, version) for number in numbers},
            backends=dict(map(self._backend, numbers)),
        )

    def leaf(self, number: int, version: int) -> VirtualHost:
        """Return the route of one host."""
        route = Route(
            name=f"shop-{number % 100}/web-{number}/0",
            match=RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/")),
            backends=(WeightedBackend(backend=BackendId(f"shop-{number % 100}/web-{number}:80")),),
            timeouts=Timeouts(request=600.0 + version),
        )
        return VirtualHost(routes=(route,))

    def _backend(self, number: int) -> tuple[BackendId, Backend]:
        endpoints = tuple(
            Endpoint(host=f"127.{1 + side}.{number >> 8}.{number & 255}", port=self._port)
            for side in range(2)
        )
        return BackendId(f"shop-{number % 100}/web-{number}:80"), Backend(endpoints=endpoints)


def host(number: int) -> str:
    """Return the name of a host."""
    return f"h{number}.bench.example"


class Measured:
    """The worker, from outside."""

    def __init__(self, child: Child, gauge: mmap.mmap) -> None:
        self._child = child
        self._longest = memoryview(gauge).cast("d")
        self._sequence = 0

    async def serve(self, snapshot: Snapshot) -> float:
        """Have it serve a snapshot; return how many seconds that took."""
        self._sequence += 1
        began = time.perf_counter()
        refusal = await self._child.apply(Stored(snapshot, Position(1, self._sequence)))
        if refusal is not None:
            raise RuntimeError(refusal)
        return time.perf_counter() - began

    async def scrape(self) -> None:
        """Read all counters."""
        await self._child.scrape(30.0)

    async def longest_ms(self, work: Callable[[], Awaitable[object]]) -> float:
        """Return the milliseconds of the longest turn during ``work`` and a moment after."""
        self._longest[0] = 0.0
        await work()
        await asyncio.sleep(0.5)
        return round(self._longest[0] * 1e3, 3)

    def memory_mb(self) -> float:
        """Return its resident memory."""
        return rss_mb(self._child.pid)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker that is asked for all of a site, and serves its first version."""

    worker: Measured
    site: Site
    versions: tuple[Snapshot, Snapshot]
    built_seconds: float


@contextlib.asynccontextmanager
async def loaded(hosts: int) -> AsyncIterator[Loaded]:
    """Start a worker, what it forwards to, and load."""
    tools = install.install(set())
    with tempfile.TemporaryDirectory(prefix="fairway-swaps-") as name, contextlib.ExitStack() as on:
        Path(name).chmod(0o755)  # noqa: ASYNC240 - nobody waits for this loop yet
        folder, port = Path(name), free_port()
        on.enter_context(alive(serve_everywhere(folder, port, tools["nginx"]), 5.0))
        wait_for(port, 5.0)
        site = Site(hosts, port)
        versions = site.snapshot(0), site.snapshot(1)
        async with _worker() as (measured, front):
            built_seconds = await measured.serve(versions[0])
            on.enter_context(endless_load(tools["wrk"], folder, front, hosts))
            await asyncio.sleep(2.0)
            yield Loaded(measured, site, versions, built_seconds)


async def _measure(options: argparse.Namespace) -> Mapping[str, object]:
    async with loaded(options.hosts) as found:
        return {
            "hosts": options.hosts,
            "built_seconds": round(found.built_seconds, 3),
            "longest_turn_ms": await turns(found, options.replacements),
            "memory_mb": await _memory(found.worker, found.site, found.versions, options),
        }


async def turns(found: Loaded, replacements: int) -> Mapping[str, Mapping[str, float]]:
    """
    Return the longest turns of the worker's loop, at rest and while tables are replaced.

    Each is the median and the worst of ``replacements`` times: a machine that is shared
    has moments in which a worker at rest stands still for longer than any of this takes.
    """
    measured, site, versions = found.worker, found.site, found.versions

    async def rest(_time: int) -> None:
        await asyncio.sleep(1.0)

    async def replace(time: int) -> None:
        await measured.serve(versions[(time + 1) % 2])

    async def edit(time: int) -> None:
        current = versions[0]
        for number in range(EDITS):
            at = time * EDITS + number
            current = current.evolve([Edit(Section.HOSTS, host(at), site.leaf(at, 2))])
            await measured.serve(current)
        await measured.serve(versions[0])

    async def scrape(_time: int) -> None:
        await measured.scrape()

    each = {
        "at_rest": rest,
        "every_route_replaced": replace,
        f"one_edited_{EDITS}_times": edit,
        "all_counters_read": scrape,
    }
    found_ms: dict[str, Mapping[str, float]] = {}
    for what, work in each.items():
        longest = [await measured.longest_ms(partial(work, time)) for time in range(replacements)]
        await measured.serve(versions[0])
        found_ms[what] = {"median": statistics.median(longest), "worst": max(longest)}
    return found_ms


async def _memory(
    measured: Measured, site: Site, versions: Sequence[Snapshot], options: argparse.Namespace
) -> Mapping[str, float]:
    """Edit one route after the other, and replace all of them once in a hundred swaps."""
    current, early = versions[0], 0.0
    before = measured.memory_mb()
    for number in range(options.swaps):
        if number % 100 == 0:
            current = versions[number // 100 % 2]
        else:
            at = number * 7919 % options.hosts
            leaf = site.leaf(at, number)
            current = current.evolve([Edit(Section.HOSTS, host(at), leaf)])
        await measured.serve(current)
        if number == options.swaps // 10:
            early = measured.memory_mb()
    await asyncio.sleep(1.0)
    after = measured.memory_mb()
    return {"before": before, "after_a_tenth": early, "after_all": after}


@contextlib.asynccontextmanager
async def _worker() -> AsyncIterator[tuple[Measured, int]]:
    doors = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    gauge = os.memfd_create("gauge")
    os.ftruncate(gauge, GAUGE_BYTES)
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *("taskset", "-c", "0", sys.executable, "-m", "bench.swaps"),
            *("--as-worker", str(theirs.fileno()), str(gauge)),
            pass_fds=[theirs.fileno(), gauge, *(door.fileno() for door in doors)],
        )
    ours.setblocking(False)  # noqa: FBT003 - the socket module's signature
    child = Child(0, process, SnapshotHistory(limit=2))
    await child.connect(ours)
    settings = AccessLogSettings(format="off")
    config = DataplaneConfig(operators=("127.0.0.1:1",), access_log=settings)
    named = zip(("http", "https"), doors, strict=True)
    places = tuple(
        Door(slot=0, scheme=scheme, descriptor=door.fileno())  # type: ignore[arg-type] # of the two
        for scheme, door in named
    )
    await child.configure(
        Configure(config=config, slot=0, doors=places, tickets=new_ticket_keys().told(0.0))
    )
    child.open(0)
    try:
        yield Measured(child, mmap.mmap(gauge, GAUGE_BYTES)), doors[0].getsockname()[1]
    finally:
        child.kill()
        await child.gone.wait()
        for door in doors:
            door.close()


def serve_everywhere(folder: Path, port: int, program: str) -> subprocess.Popen[bytes]:
    """Answer on every loopback address."""
    (folder / "nginx.conf").write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; user root;
events {{ worker_connections 60000; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 0.0.0.0:{port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""
    )
    command = ["taskset", "-c", "1", program, "-c", str(folder / "nginx.conf")]
    return subprocess.Popen(command, start_new_session=True)


@contextlib.contextmanager
def endless_load(
    wrk: str, folder: Path, port: int, hosts: int, *, pause_ms: int = 0
) -> Iterator[None]:
    """Ask for some of the hosts, until the end of the block; each client pauses in between."""
    (folder / "swaps.lua").write_text(
        f"""
function request()
  wrk.headers["Host"] = "h" .. (math.random(0, 199) * {max(1, hosts // 200)}) .. ".bench.example"
  return wrk.format("GET", "/")
end
function delay()
  return {pause_ms}
end
"""
    )
    command = [
        *("taskset", "-c", "1", wrk, "-t1", f"-c{CONNECTIONS}", "-d3600s"),
        *("-s", str(folder / "swaps.lua"), f"http://127.0.0.1:{port}/"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    processes.run(main)
