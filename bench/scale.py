"""
Ten thousand Ingresses through the whole of Fairway, from objects to answers.

    python -m bench.scale --ingresses 10000 --edits 200

This process is the operator: the objects go through its Inbox, Reconciler and
Publisher, over the stream, to a data plane with two workers that is the released
program. An edit is live when each of a dozen connections, which the kernel has
spread over the workers, has had the new answer; load runs meanwhile, and somebody
scrapes the metrics of all routes. Endpoints
then change a hundred times a second, and the leaves of the snapshot that change
with them are counted by their section. In the end a worker of its own says for how
long one turn of its loop takes at most while tables of that size are replaced, as
``bench.swaps`` does. Prints JSON.

Beside times stands CPU time, which other work on the machine does not lengthen.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from bench import compiled, install, processes, swaps
from bench.processes import alive, free_port, tree, wait_for
from bench.swaps import endless_load, serve_everywhere
from fairway_operator.authority import OPERATOR_NAME, Credentials, Lifetimes, Role, create_authority
from fairway_operator.cli.dev.machine import Machine
from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.inbox import Inbox, WatchEvent
from fairway_operator.publisher import Publisher
from fairway_operator.reconciler import Commit, Reconciler
from fairway_operator.refs import Kind
from fairway_snapshot.diff import changes, missing_blobs
from fairway_snapshot.tree import EMPTY, Snapshot

CONNECTIONS = 12
"""That all are on one of two workers has a chance of one in two thousand."""

CHURN_SECONDS = 10.0
CHURN_RATE = 100.0
LIMIT_SECONDS = 120.0

SCRAPE_SECONDS = 5.0
"""Between two scrapes; more often than anybody does."""

ALONE_SECONDS = 0.1
"""Between an edit that is live and the next one: within ``settle_seconds`` they were a burst."""

LOADS = {"paced": 1, "saturated": 0}
"""Milliseconds that each client of the load pauses between its requests."""

REPLACEMENTS = 10
"""Of every route, for the longest turn."""

_TICKS = os.sysconf("SC_CLK_TCK")

_LIFETIMES = Lifetimes(
    authority=timedelta(days=30), overlap=timedelta(days=1), certificate=timedelta(days=10)
)

Body: TypeAlias = dict[str, Any]


def main() -> int:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--ingresses", type=int, default=10_000)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    compiled.restart()
    print(json.dumps(asyncio.run(_measure(options)), indent=2))
    return 0


class Site:
    """The objects: for each number an Ingress, a Service and an EndpointSlice of two addresses."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._version = 0

    def all(self, count: int) -> Iterator[WatchEvent]:
        """Yield every object."""
        ingress_class: Body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": self._meta("fairway", ""),
            "spec": {"controller": "fairway.dev/ingress-controller"},
        }
        yield WatchEvent(Kind.INGRESS_CLASS, deleted=False, body=ingress_class)
        for number in range(count):
            yield self._service(number)
            yield self.endpoints(number, 0)
            yield self.ingress(number, "/")

    def ingress(self, number: int, path: str) -> WatchEvent:
        """Return an Ingress that forwards what is below a path."""
        backend = {"service": {"name": f"web-{number}", "port": {"number": 80}}}
        rule = {"path": path, "pathType": "Prefix", "backend": backend}
        body: Body = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": self._meta(f"web-{number}", f"shop-{number % 100}"),
            "spec": {
                "ingressClassName": "fairway",
                "rules": [{"host": host(number), "http": {"paths": [rule]}}],
            },
        }
        return WatchEvent(Kind.INGRESS, deleted=False, body=body)

    def endpoints(self, number: int, version: int) -> WatchEvent:
        """Return the endpoints of a Service; another version has another second address."""
        addresses = (
            f"127.1.{number >> 8}.{number & 255}",
            f"127.{2 + version % 200}.{number >> 8}.{number & 255}",
        )
        body: Body = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                **self._meta(f"web-{number}-x", f"shop-{number % 100}"),
                "labels": {"kubernetes.io/service-name": f"web-{number}"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "port": self._port, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": [address], "conditions": {"ready": True}} for address in addresses
            ],
        }
        return WatchEvent(Kind.ENDPOINT_SLICE, deleted=False, body=body)

    def _service(self, number: int) -> WatchEvent:
        body: Body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self._meta(f"web-{number}", f"shop-{number % 100}"),
            "spec": {"ports": [{"port": 80, "targetPort": self._port, "protocol": "TCP"}]},
        }
        return WatchEvent(Kind.SERVICE, deleted=False, body=body)

    def _meta(self, name: str, namespace: str) -> Body:
        self._version += 1
        meta: Body = {
            "name": name,
            "uid": f"uid-{namespace}-{name}",
            "resourceVersion": str(self._version),
            "generation": self._version,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        return {**meta, "namespace": namespace} if namespace else meta


def host(number: int) -> str:
    """Return the host of an Ingress."""
    return f"h{number}.bench.example"


class Operator:
    """What an operator is without a cluster, and the data plane that it feeds."""

    def __init__(self) -> None:
        self._inbox = Inbox()
        self._publisher = Publisher()
        settings = CompilerSettings(allow_local_addresses=True)
        self.reconciler = Reconciler(Compiler(settings), self._publisher)
        self.machine = Machine(lambda line: print(line, file=sys.stderr))
        self.admin_port = free_port()

    @contextlib.asynccontextmanager
    async def running(self, folder: Path, workers: int, port: int) -> AsyncIterator[None]:
        """Publish, and start the data plane."""
        authority = create_authority(now=datetime.now(UTC), lifetimes=_LIFETIMES)

        def issue(role: Role, *names: str) -> Credentials:
            return authority.issue(role, names, now=datetime.now(UTC), lifetimes=_LIFETIMES)

        self._publisher.renew_credentials(issue(Role.OPERATOR, "127.0.0.1", OPERATOR_NAME))
        stream_port = await self._publisher.start("127.0.0.1", 0)
        await self.machine.start(
            folder,
            issue(Role.DATAPLANE),
            {
                "FAIRWAY__OPERATORS": f"127.0.0.1:{stream_port}",
                "FAIRWAY__BIND_ADDRESS": "127.0.0.1",
                "FAIRWAY__HTTP_PORT": str(port),
                "FAIRWAY__HTTPS_PORT": str(free_port()),
                "FAIRWAY__ADMIN_PORT": str(self.admin_port),
                "FAIRWAY__WORKERS": str(workers),
                "FAIRWAY__INSTANCE": "scale",
                "FAIRWAY__ACCESS_LOG__FORMAT": "off",
                "FAIRWAY__DRAIN_SECONDS": "2",
                # Whoever asks until an edit is live asks often.
                "FAIRWAY__LIMITS__REQUESTS_PER_CONNECTION": "1000000000",
            },
        )
        try:
            yield
        finally:
            await self.machine.stop()
            await self._publisher.stop(grace_seconds=0)

    @property
    def snapshot(self) -> Snapshot:
        """What was compiled last."""
        compilation = self.reconciler.compilation
        return EMPTY if compilation is None else compilation.snapshot

    async def take(self, events: Iterable[WatchEvent]) -> tuple[Commit, float]:
        """Take events and publish what comes of them; return that, and its seconds of CPU."""
        for event in events:
            self._inbox.put(event)
        batch = await self._inbox.take()
        before = time.thread_time()
        commit = self.reconciler.apply(batch)
        return commit, time.thread_time() - before


class Client:
    """Connections to the data plane that ask for one host at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def until(self, name: str, status: bytes) -> None:
        """Ask on every connection until each has had this status."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while len(self._streams) < CONNECTIONS:
                try:
                    self._streams.append(await asyncio.open_connection("127.0.0.1", self._port))
                except OSError:
                    await asyncio.sleep(0.01)
            for reader, writer in self._streams:
                # Nothing tells a client that an edit is live; it has to ask.
                while await _status(reader, writer, name) != status:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

    async def close(self) -> None:
        """Close every connection."""
        for _, writer in self._streams:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> bytes:
    writer.write(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % name.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line[15:]))
    return head[9:12]


async def _measure(options: argparse.Namespace) -> Mapping[str, object]:
    tools = install.install(set())
    with tempfile.TemporaryDirectory(prefix="fairway-scale-") as name, contextlib.ExitStack() as on:
        Path(name).chmod(0o755)  # noqa: ASYNC240 - nobody waits for this loop yet
        folder, backend_port, port = Path(name), free_port(), free_port()
        on.enter_context(alive(serve_everywhere(folder, backend_port, tools["nginx"]), 5.0))
        wait_for(backend_port, 5.0)
        site, operator, client = Site(backend_port), Operator(), Client(port)
        events = list(site.all(options.ingresses))
        private = Path(tempfile.mkdtemp(dir=folder))
        began = time.perf_counter()
        async with operator.running(private, options.workers, port):
            commit, compiled_cpu_seconds = await operator.take(events)
            compiled_seconds = time.perf_counter() - began
            await client.until(host(options.ingresses - 1), b"200")
            cold_start: dict[str, object] = {
                "seconds": round(time.perf_counter() - began, 2),
                "compiled_after_seconds": round(compiled_seconds, 2),
                "compiled_cpu_seconds": round(compiled_cpu_seconds, 2),
                "data_plane_cpu_seconds": _data_plane(_cpu_seconds),
                "stream_bytes": _stream_bytes(EMPTY, commit.compilation.snapshot),
            }
            del events, commit
            gc.collect()
            gc.freeze()
            edited: dict[str, object] = {}
            load = (tools["wrk"], folder, port, options.ingresses)
            for turn, (what, pause_ms) in enumerate(LOADS.items()):
                # Each edits objects of its own: an edit that was made before is live at once.
                numbers = [
                    at * 7919 % options.ingresses
                    for at in range(turn * options.edits, (turn + 1) * options.edits)
                ]
                with endless_load(*load, pause_ms=pause_ms):
                    await asyncio.sleep(2.0)
                    async with _scraping(operator.admin_port) as scrapes:
                        spread = await _edits(site, operator, client, numbers)
                edited[what] = {**spread, "scrape_seconds": [round(each, 2) for each in scrapes]}
            with endless_load(*load):
                report: dict[str, object] = {
                    "ingresses": options.ingresses,
                    "workers": options.workers,
                    "cold_start": cold_start,
                    "one_edit": edited,
                    "churn": await _churn(site, operator, options),
                    "memory_mb": {
                        "operator": _proportional_mb(os.getpid()),
                        **_data_plane(_proportional_mb),
                    },
                }
            await client.close()
    async with swaps.loaded(options.ingresses) as found:
        report["longest_turn_ms"] = await swaps.turns(found, REPLACEMENTS)
    return report


@contextlib.asynccontextmanager
async def _scraping(port: int) -> AsyncIterator[list[float]]:
    """Read all metrics again and again; yield how long each time took."""
    took: list[float] = []
    url = f"http://127.0.0.1:{port}/metrics"
    # In a process of its own: it is tens of megabytes.
    command = f"import urllib.request; urllib.request.urlopen({url!r}).read()"

    async def scrape() -> None:
        while True:
            began = time.perf_counter()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", command)
            await process.wait()
            took.append(time.perf_counter() - began)
            await asyncio.sleep(SCRAPE_SECONDS)

    scraping = asyncio.create_task(scrape())
    try:
        yield took
    finally:
        scraping.cancel()
        await asyncio.gather(scraping, return_exceptions=True)


async def _edits(
    site: Site, operator: Operator, client: Client, numbers: Sequence[int]
) -> Mapping[str, object]:
    compile_seconds: list[float] = []
    compile_cpu_seconds: list[float] = []
    live: list[float] = []
    sizes: list[int] = []
    for number in numbers:
        before = operator.snapshot
        began = time.perf_counter()
        commit, cpu = await operator.take([site.ingress(number, "/elsewhere")])
        await client.until(host(number), b"404")
        live.append(time.perf_counter() - began)
        compile_seconds.append(commit.compile_seconds)
        compile_cpu_seconds.append(cpu)
        sizes.append(_stream_bytes(before, operator.snapshot))
        await asyncio.sleep(ALONE_SECONDS)
    return {
        "edits": len(numbers),
        "compiled_ms": _spread(compile_seconds),
        "compiled_cpu_ms": _spread(compile_cpu_seconds),
        "live_on_every_worker_ms": _spread(live),
        "stream_bytes": {"median": statistics.median(sizes), "most": max(sizes)},
    }


async def _churn(
    site: Site, operator: Operator, options: argparse.Namespace
) -> Mapping[str, object]:
    """Change endpoints at a steady rate; return what the snapshot's sections had of it."""
    changed: Counter[str] = Counter()
    began, mine, commits = time.perf_counter(), time.process_time(), 0
    total = int(CHURN_SECONDS * CHURN_RATE)
    done = 0
    while done < total:
        due = min(total, int((time.perf_counter() - began) * CHURN_RATE) + 1)
        before = operator.snapshot
        if due > done:
            numbers = range(done, due)
            events = [site.endpoints(n * 104_729 % options.ingresses, n + 1) for n in numbers]
            await operator.take(events)
            commits += 1
            changed.update(change.section.value for change in changes(before, operator.snapshot))
            done = due
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - began
    return {
        "endpoint_changes": total,
        "seconds": round(seconds, 1),
        "snapshots": commits,
        "changed_leaves": dict(changed),
        "operator_cpu_share": round((time.process_time() - mine) / seconds, 3),
    }


def _stream_bytes(before: Snapshot, after: Snapshot) -> int:
    return sum(map(len, missing_blobs(before, after)))


def _spread(seconds: list[float]) -> Mapping[str, float]:
    ordered = sorted(seconds)
    return {
        "p50": round(statistics.median(ordered) * 1e3, 2),
        "p99": round(ordered[int(len(ordered) * 0.99)] * 1e3, 2),
    }


def _data_plane(measure: Callable[[int], float]) -> Mapping[str, object]:
    """Return what is measured of each of its processes."""
    found: dict[str, list[float]] = {"supervisor": [], "workers": []}
    for pid in tree(os.getpid()):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"fairway_dataplane.worker" in command:
            found["workers"].append(measure(pid))
        elif b"cli.dev.leash" in command:
            found["supervisor"].append(measure(pid))
    return found


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of one process, and not of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return round((int(fields[11]) + int(fields[12])) / _TICKS, 2)


def _proportional_mb(pid: int) -> float:
    """Return proportional memory: what processes share counts once, in parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    pss = next(line for line in lines if line.startswith("Pss:"))
    return round(int(pss.split()[1]) / 1024, 1)


if __name__ == "__main__":
    processes.run(main)
