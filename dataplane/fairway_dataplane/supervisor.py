"""
The supervisor: one per data plane, and the only process of it that knows the operator.

It takes the ports, starts the workers, subscribes, and passes on. What it
receives it verifies once and has served by every worker; only then does it
acknowledge, remember and store. It touches no request, so that it may be slow,
and its failure ends in a drain, not in a dropped request.

SIGTERM and SIGINT drain and exit; a second one does not wait. SIGHUP replaces
every worker by a new process, one at a time.
"""

import asyncio
import contextlib
import gc
import importlib.metadata
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from fairway_dataplane.admin import start_admin
from fairway_dataplane.config import DataplaneConfig, config_from_env
from fairway_dataplane.crew import Crew
from fairway_dataplane.exchange import COMPILED
from fairway_dataplane.logs import configure_logs
from fairway_dataplane.metrics import Readings, percentile
from fairway_dataplane.ports import Pair, PortTakenError, bind_alone, bind_pairs
from fairway_dataplane.slices import in_slices
from fairway_dataplane.store import SnapshotStore, Stored, UnusableSnapshotError
from fairway_dataplane.subscriber import Subscriber
from fairway_dataplane.tally import MATCH_SECONDS
from fairway_dataplane.tls.certificates import not_after
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.tls.serving import RUSTLS
from fairway_dataplane.totals import Report, Totals, add_in_steps, together
from fairway_snapshot.digest import short
from fairway_snapshot.model import Certificate
from fairway_snapshot.protocol import Offer, SubscriberSession
from fairway_snapshot.steps import finished
from fairway_snapshot.tree import Snapshot

SCRAPE_LIMIT_SECONDS = 1.0
"""A worker that is busy for longer is shown with its last known counts."""

CONNECTIONS_SHOWN = 1_000
"""Of each worker, on the debug page."""

BACKENDS_SHOWN = 200
"""As above, unless one is asked for by its name."""

STORE_PACE_SECONDS = 1.0
"""
Between two snapshots that are stored. Each is written whole, which takes 70 ms of CPU for ten
thousand routes, and endpoints may change ten times a second: workers need that CPU.
"""

STORE_AGAIN_SECONDS = 5.0
"""After the state directory could not be written: it may be full for a moment only."""

SWITCH_SECONDS = 0.0005
"""
How long a thread that waits for the interpreter lets another one have it. What comes from the
operator passes through gRPC's thread, and each of Python's usual 5 ms, several to an edit, would
be added while a snapshot is stored or a scrape answered.
"""

YOUNGEST_THRESHOLD = 20_000
"""
Allocations before the collector looks at the young ones: the counters of ten thousand routes,
of which a scrape makes a sum, are no garbage, and to look at them again and again took longer.
"""

SLOW_MATCH_SECONDS = 50e-6
ROUTER_SECONDS = 60.0
ROUTER_SAMPLES = 100
"""Fewer say nothing about a 99th percentile."""

_log = structlog.get_logger("fairway.supervisor")


def run_dataplane(config: DataplaneConfig) -> int:
    """
    Run a data plane until it is told to end; return the exit code.

    0 after a drain, 1 with one line on stderr for what cannot be started.
    Must be called in the main thread of a process that does nothing else.
    """
    configure_logs(config.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNGEST_THRESHOLD, 20, 50)
    # gRPC would write its own lines to stderr; what they tell is in the reason that we log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _allow_descriptors()
    try:
        ClientContexts(config.backend_authorities or None)("backend.invalid")
    except OSError as error:
        sys.stderr.write(f"fairway: backend_authorities: {config.backend_authorities}: {error}\n")
        return 1
    try:
        admin = bind_alone(config.admin_bind_address or config.bind_address, config.admin_port)
        pairs = bind_pairs(
            config.bind_address,
            http_port=config.http_port,
            https_port=config.https_port,
            count=config.workers,
        )
    except PortTakenError as error:
        sys.stderr.write(f"fairway: {error}\n")
        return 1
    return asyncio.run(_run(config, admin, pairs))


async def _run(config: DataplaneConfig, admin: socket.socket, pairs: Sequence[Pair]) -> int:
    supervisor = Supervisor(config, pairs)
    pages = await start_admin(supervisor, admin)
    _log.info(
        "started",
        pid=os.getpid(),
        address=config.bind_address,
        http_port=pairs[0].http.getsockname()[1],
        https_port=pairs[0].https.getsockname()[1],
        admin_port=admin.getsockname()[1],
        workers=config.workers,
        request_path="compiled" if COMPILED else "python",
        tls="rustls" if RUSTLS else "openssl",
    )
    try:
        return await supervisor.run()
    finally:
        await pages.cleanup()


class Supervisor:
    """The data plane as a whole; what the admin port shows is read from here."""

    def __init__(self, config: DataplaneConfig, pairs: Sequence[Pair]) -> None:
        self._config = config
        self._gone = Totals()
        self._crew = Crew(config, pairs, self._retire)
        self._store = _open_store(config.state_directory)
        self._rejected = {"verify": 0, "apply": 0, "store": 0}
        self._applied_at = 0.0
        self._expiries: dict[Certificate, float | None] = {}
        self._draining = False
        self._hurried = False
        self._stopping = asyncio.Event()
        self._stored = _load(self._store, self._rejected)
        self._session = SubscriberSession(
            instance=config.instance or socket.gethostname(),
            version=importlib.metadata.version("fairway"),
        )
        self._subscriber = Subscriber(config, self._session, self._apply, self._note_unverified)
        self._to_store: Stored | None = None
        self._storing = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal says otherwise; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._replace)
        self._crew.start()
        work = [
            asyncio.create_task(self._feed(), name="feed"),
            asyncio.create_task(self._keep_stored(), name="store"),
            asyncio.create_task(self._crew.watch(), name="crew"),
            asyncio.create_task(self._watch_router(), name="router"),
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        done, _ = await asyncio.wait({*work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*work, stopping):
            task.cancel()
        failed = [task.exception() for task in done if task is not stopping]
        await asyncio.gather(*work, stopping, return_exceptions=True)
        await self._drain()
        for error in failed:
            if error is not None:
                raise error
        return int(self._hurried)

    # What the admin port asks.

    def unready(self) -> str:
        """Return why no traffic should come here; empty when it should."""
        if self._draining:
            return "draining"
        if not self._crew.open:
            return "no verified snapshot yet"
        if not self._crew.serving:
            return "no worker serves"
        if self._crew.looping:
            return "a worker dies again and again"
        return ""

    def unwell(self) -> str:
        """Return why this container should be restarted; empty when it should not."""
        return "workers do not stay alive" if self._crew.hopeless else ""

    def served(self) -> Stored | None:
        """Return what the workers serve."""
        return self._crew.current

    async def readings(self) -> Readings:
        """Return what a scrape shows."""
        reports = await self._crew.reports(SCRAPE_LIMIT_SECONDS)
        # After that: a worker that ended meanwhile is among those that are gone.
        totals = await in_slices(add_in_steps(self._gone, reports))
        served = self._crew.current
        return Readings(
            totals=totals,
            digest="" if served is None else short(served.snapshot.root),
            sequence=0 if served is None else served.position.sequence,
            applied_at=self._applied_at,
            rejected=self._rejected,
            certificate_seconds=dict(self._certificate_seconds()),
            workers=self._crew.serving,
            connected=bool(self._subscriber.peer),
        )

    async def connections(self) -> list[dict[str, object]]:
        """Return one row for each worker."""
        return await self._crew.describe(SCRAPE_LIMIT_SECONDS, connections=CONNECTIONS_SHOWN)

    async def backends(self, name: str) -> list[dict[str, object]]:
        """Return one row for each worker, with the backend of this name, or with some."""
        return await self._crew.describe(
            SCRAPE_LIMIT_SECONDS, backends=BACKENDS_SHOWN, backend=name
        )

    # The way of a snapshot.

    async def _feed(self) -> None:
        """Serve what was stored, then what the operator sends."""
        if self._stored is not None:
            refusal = await self._crew.offer(self._stored)
            if refusal is None:
                self._session.snapshot = self._stored.snapshot
                self._session.position = self._stored.position
                self._note_served(self._stored, source="store")
            else:
                self._rejected["store"] += 1
                _log.error("stored_snapshot_refused", reason=refusal)
        await self._subscriber.run()

    async def _apply(self, offer: Offer) -> str | None:
        """Have every worker serve an offer; return why it is refused, or None."""
        target = Stored(offer.snapshot, offer.position)
        began = time.monotonic()
        refusal = await self._crew.offer(target)
        if refusal is not None:
            self._rejected["apply"] += 1
            _log.error("snapshot_refused", digest=short(offer.snapshot.root), reason=refusal)
            return refusal
        if offer.snapshot != offer.previous or not self._applied_at:
            self._note_served(target, source="operator", seconds=time.monotonic() - began)
        self._to_store = target
        self._storing.set()
        return None

    def _note_served(self, target: Stored, **fields: object) -> None:
        if not self._applied_at:
            # What a snapshot is made of lives long: out of the collector's sight with it, or a
            # full collection keeps every later edit waiting.
            gc.collect()
            gc.freeze()
        self._applied_at = time.time()
        self._expiries = _expiries(target.snapshot, self._expiries)
        _log.info(
            "snapshot_served",
            digest=short(target.snapshot.root),
            sequence=target.position.sequence,
            **fields,
        )

    def _certificate_seconds(self) -> Iterator[tuple[str, float]]:
        """Yield how long the certificate of each server name is still good."""
        now = time.time()
        if self._crew.current is not None:
            snapshot = self._crew.current.snapshot
            for host, name in snapshot.server_names.items():
                leaf = snapshot.certificates.get(name.certificate)
                expires = None if leaf is None else self._expiries.get(leaf)
                if expires is not None:
                    yield host, expires - now

    def _note_unverified(self, reason: str) -> None:
        self._rejected["verify"] += 1
        _log.error("snapshot_unverified", reason=reason)

    async def _keep_stored(self) -> None:
        """Store the newest snapshot that is served; those that came while storing are skipped."""
        warned, trouble = False, ""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STORE_AGAIN_SECONDS if trouble else None):
                    await self._storing.wait()
            self._storing.clear()
            target = self._to_store
            if self._store is None or target is None:
                continue
            try:
                kept = await asyncio.to_thread(self._store.save, target)
            except OSError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    _log.error("snapshot_not_stored", reason=trouble)
                continue
            trouble = ""
            if kept:
                _log.info("snapshot_stored", digest=short(target.snapshot.root))
            elif not warned:
                warned = True
                _log.warning(
                    "snapshot_not_stored",
                    reason="it holds private keys and the state directory is not memory-backed",
                    directory=self._config.state_directory,
                )
            await asyncio.sleep(STORE_PACE_SECONDS)

    async def _watch_router(self) -> None:
        """Warn when finding a route has become slow; users' expressions can do that."""
        nothing = (0.0,) * (len(MATCH_SECONDS) + 1)
        before = nothing
        while True:
            await asyncio.sleep(ROUTER_SECONDS)
            known = (report.counts.match for report in self._crew.known_reports())
            # The first cell is the sum of their times.
            counts = together((self._gone.counts.match, *known))[1:] or nothing
            fresh = [now - then for now, then in zip(counts, before, strict=True)]
            before = counts
            if sum(fresh) >= ROUTER_SAMPLES:
                slow = percentile(MATCH_SECONDS, fresh, 0.99)
                if slow > SLOW_MATCH_SECONDS:
                    _log.warning("router_slow", p99_below_seconds=slow)

    # Signals.

    def _stop(self) -> None:
        if self._stopping.is_set():
            _log.warning("stopped_without_drain")
            self._hurried = True
            self._crew.kill()
        self._draining = True
        self._stopping.set()

    def _replace(self) -> None:
        self._crew.replace()

    async def _drain(self) -> None:
        self._draining = True
        _log.info("draining", limit_seconds=self._config.drain_seconds)
        await self._crew.drain(self._config.drain_seconds)
        _log.info("stopped")

    def _retire(self, report: Report) -> None:
        gone = finished(add_in_steps(self._gone, [report])).lasting()
        served = self._crew.current
        if served is not None:
            routes = {
                route.name for host in served.snapshot.hosts.values() for route in host.routes
            }
            gone = gone.kept(routes=routes, backends=served.snapshot.backends)
        self._gone = gone


def _allow_descriptors() -> None:
    """Raise the soft limit of open files to the hard one; workers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_store(directory: str) -> SnapshotStore | None:
    if not directory:
        return None
    path = Path(directory)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SnapshotStore(path)
    except OSError as error:
        _log.warning("no_state_directory", directory=directory, reason=str(error))
        return None


def _load(store: SnapshotStore | None, rejected: dict[str, int]) -> Stored | None:
    if store is None:
        return None
    try:
        return store.load()
    except UnusableSnapshotError as error:
        rejected["store"] += 1
        _log.error("stored_snapshot_refused", file=str(store.file), reason=str(error))
        return None


def _expiries(
    snapshot: Snapshot, known: Mapping[Certificate, float | None]
) -> dict[Certificate, float | None]:
    """Return when each certificate expires, in Unix time; reading one takes a while."""
    return {
        leaf: known[leaf] if leaf in known else not_after(leaf)
        for leaf in snapshot.certificates.values()
    }


def main() -> int:
    """Run a data plane from the environment: ``python -m fairway_dataplane.supervisor``."""
    try:
        config = config_from_env(os.environ)
    except ValueError as error:
        sys.stderr.write(f"fairway: {error}\n")
        return 2
    return run_dataplane(config)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
