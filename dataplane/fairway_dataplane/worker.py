"""
A worker: one process, one event loop, and the traffic of its sockets.

It is told everything over one control socket: what it is, what to serve, when
to accept and when to end. It knows no disk and no operator, and runs nothing
but forwarding, because a busy second thread would halve its throughput. When
the control socket ends, its supervisor is gone: it finishes what it has and
ends too.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeAlias

import structlog
import uvloop

from fairway_dataplane.link import (
    Configure,
    Counted,
    Downward,
    Drain,
    Drained,
    Open,
    Scrape,
    Scraped,
    Shut,
    Started,
    link_to_supervisor,
)
from fairway_dataplane.logs import configure_logs
from fairway_dataplane.tls.tickets import TicketKeys
from fairway_dataplane.traffic import Traffic
from fairway_snapshot.diff import release_in_steps
from fairway_snapshot.digest import short
from fairway_snapshot.protocol import (
    START,
    Commit,
    CommitRefused,
    Nodes,
    Offer,
    SubscriberSession,
)

YOUNGEST_THRESHOLD = 20_000
"""
Allocations of tracked objects before the collector looks at the young ones.

The request path makes no cycles that outlive a connection, so what the
collector would find is next to nothing, and what it costs is a pause.
"""

SETTLED_LEAVES = 1_000
"""So many leaves of a snapshot have changed when memory is settled anew."""

_Order: TypeAlias = Callable[[], Awaitable[None]]

_log = structlog.get_logger("fairway.worker")


class Worker:
    """The child's side of the control socket."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._link = link_to_supervisor(self._receive, self._orphaned)
        self._traffic: Traffic | None = None
        self._session = SubscriberSession(instance="worker", version="")
        self._drain_seconds = 0.0
        self._draining = False
        self._orders: asyncio.Queue[_Order] = asyncio.Queue()
        self._answering: set[asyncio.Task[None]] = set()
        self._unsettled = 0
        self._hung_up = asyncio.Event()

    async def run(self, control: socket.socket) -> None:
        """Do as told until told to end."""
        await self._link.connect(control)
        ended = asyncio.create_task(self.ended.wait())
        obeying = asyncio.create_task(self._obey())
        await asyncio.wait({ended, obeying}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if obeying.done():
            await obeying  # a bug: the supervisor starts another worker
        obeying.cancel()
        self._link.close()
        await self._hung_up.wait()  # the last message is sent

    async def _obey(self) -> None:
        """Carry out what takes time, in the order it came."""
        while True:
            order = await self._orders.get()
            await order()

    def _receive(self, message: Downward) -> None:
        if isinstance(message, Configure):
            self._configure(message)
            return
        assert self._traffic is not None
        match message:
            case Nodes() | Commit():
                self._take(message)
            case Open():
                self._orders.put_nowait(partial(self._traffic.open, message.slot))
            case Shut():
                self._orders.put_nowait(partial(self._traffic.shut, message.slot))
            case Drain():
                self._begin_drain(message.limit_seconds, closing=message.closing)
            case Scrape():
                self._answer(message)

    def _configure(self, message: Configure) -> None:
        configure_logs(message.config.log_format)
        self._drain_seconds = message.config.drain_seconds
        self._traffic = Traffic(
            self._loop, message.config, message.doors, TicketKeys(message.tickets)
        )
        self._link.send(Started(hello=self._session.hello()))

    def _take(self, message: Nodes | Commit) -> None:
        if isinstance(message, Commit):
            self._orders.put_nowait(partial(self._commit, message))
        else:
            self._session.receive(message)

    async def _commit(self, commit: Commit) -> None:
        """Serve what a commit stands for, and let go of what was served before."""
        assert self._traffic is not None
        try:
            with _no_collections():
                offer = await self._traffic.slices.run(self._session.commit_in_steps(commit))
                await self._apply(offer)
        except CommitRefused as refusal:
            self._link.send(refusal.nack)

    async def _apply(self, offer: Offer) -> None:
        assert self._traffic is not None
        first = self._session.position == START
        try:
            changed = await self._traffic.apply(offer)
        except Exception as error:  # noqa: BLE001 - whatever cannot be built is refused whole
            _log.exception("snapshot_not_built", digest=short(offer.snapshot.root))
            self._link.send(self._session.refuse(offer, f"{type(error).__name__}: {error}"))
            return
        self._link.send(self._session.accept(offer))
        self._orders.put_nowait(self._traffic.tidy)
        release = release_in_steps(offer.previous, offer.snapshot)
        self._orders.put_nowait(partial(self._traffic.slices.run, release))
        self._unsettled += changed
        if first or self._unsettled >= SETTLED_LEAVES:
            self._unsettled = 0
            _settle_memory(collect=first)

    def _answer(self, scrape: Scrape) -> None:
        answering = self._loop.create_task(self._tell(scrape))
        self._answering.add(answering)
        answering.add_done_callback(self._answering.discard)

    async def _tell(self, scrape: Scrape) -> None:
        """Tell what was counted, in parts."""
        traffic = self._traffic
        assert traffic is not None
        counts = await self._tell_rows(scrape.id)
        shown: list[dict[str, object]] = []
        if scrape.backends:
            # Of all endpoints of a large cluster at once, requests would notice.
            for backend in traffic.backends(scrape.backends, scrape.backend):
                shown.append(backend)
                await asyncio.sleep(0)
        self._link.send(
            Scraped(
                id=scrape.id,
                counts=counts,
                connections=traffic.connections(scrape.connections) if scrape.connections else (),
                backends=tuple(shown),
            )
        )

    async def _tell_rows(self, scrape: int) -> bytes:
        """Tell what routes and backends have counted; return what remains to be told."""
        assert self._traffic is not None
        for rows in self._traffic.counted_in_parts():
            self._link.send(Counted(id=scrape, rows=rows))
            await asyncio.sleep(0)
        return self._traffic.tally.packed()

    def _orphaned(self) -> None:
        """End without a supervisor; nobody accepts after us."""
        self._hung_up.set()
        if self._traffic is None:
            self.ended.set()
        else:
            self._begin_drain(self._drain_seconds, closing=True)

    def _begin_drain(self, limit_seconds: float, *, closing: bool) -> None:
        if not self._draining:
            self._draining = True
            self._orders.put_nowait(partial(self._drain, limit_seconds, closing=closing))

    async def _drain(self, limit_seconds: float, *, closing: bool) -> None:
        assert self._traffic is not None
        report = await self._traffic.drain(limit_seconds, closing=closing)
        if report.aborted:
            _log.warning("drain_cut_short", finished=report.finished, aborted=report.aborted)
        self._link.send(Drained(counts=await self._tell_rows(0)))
        self.ended.set()


def main() -> int:
    """Run a worker: ``python -m fairway_dataplane.worker DESCRIPTOR``."""
    # Signals to a group of processes are for the supervisor, which tells us what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.setblocking(False)  # noqa: FBT003 - the socket module's signature
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(control))
    return 0


async def _run(control: socket.socket) -> None:
    await Worker().run(control)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Put the collector off: a table is built of what it would look at again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _settle_memory(*, collect: bool) -> None:
    """
    Take what lives long out of the collector's sight.

    One full collection over ten thousand routes would stop the loop for a tenth
    of a second; frozen, they cost it nothing. Objects of a frozen table are
    still freed by their reference count. ``collect`` what is garbage before, when
    nobody is served yet.
    """
    if collect:
        gc.collect()
        gc.set_threshold(YOUNGEST_THRESHOLD, 20, 50)
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
