"""
The workers of a data plane: kept alive, kept equal, and replaced without loss.

A slot is the place of one worker; its sockets outlive every process that
serves them. When a worker dies, a neighbour accepts on its sockets until the
successor is up, so what is queued waits milliseconds and not for a new
process. A planned replacement starts the successor first.

A new snapshot goes to one worker first, and to the others once that one serves
it; only the very first, while the ports are still closed, goes to all at once.
Building is deterministic, so what the first can build all can; a snapshot that
is refused, or that kills its builder, never reaches a second worker that is
serving traffic.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from time import monotonic
from typing import Any

import structlog

from fairway_dataplane.child import Child, ChildGoneError, spawn
from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.link import Configure, Door
from fairway_dataplane.ports import Pair
from fairway_dataplane.store import Stored
from fairway_dataplane.tally import unpacked
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.totals import Report
from fairway_snapshot.protocol import SnapshotHistory

QUICK_DEATH_SECONDS = 10.0
"""A worker that lives longer than this was well; its death is not part of a row."""

LOOPING_DEATHS = 3
"""Quick deaths in a row that make the data plane not ready."""

HOPELESS_DEATHS = 10
"""Quick deaths in a row that make it unhealthy: a new container may do better."""

LONGEST_BACKOFF_SECONDS = 10.0

PULSE_SECONDS = 5.0
"""How often a worker is asked for a sign of life, which is its tally."""

PULSE_LIMIT_SECONDS = 15.0
"""A worker whose loop has not turned for this long, by our own clock, is killed..."""

LAST_PULSE_SECONDS = 1.0
"""...unless it answers now: it may have been us who stood still, and its answer may wait."""

EXIT_GRACE_SECONDS = 3.0
"""Given to a worker on top of its drain limit."""

_log = structlog.get_logger("fairway.supervisor")


class Slot:
    """The place of one worker."""

    __slots__ = ("child", "deaths", "index", "pair", "stand_in")

    def __init__(self, index: int, pair: Pair) -> None:
        self.index = index
        self.pair = pair
        self.child: Child | None = None
        """Who serves it; None while its next worker starts."""
        self.stand_in: Child | None = None
        """The neighbour that accepts meanwhile."""
        self.deaths = 0
        """Quick deaths in a row."""

    def is_served(self) -> bool:
        """Tell whether it has a worker of its own."""
        return self.child is not None


class Crew:
    """All workers, and the snapshot that every one of them serves."""

    def __init__(
        self, config: DataplaneConfig, pairs: Sequence[Pair], retire: Callable[[Report], None]
    ) -> None:
        """``retire`` takes the last report of each worker that is gone."""
        self.current: Stored | None = None
        """What is served; None before the first snapshot."""
        self.open = False
        """The ports listen."""
        self._config = config
        self._retire = retire
        self._slots = tuple(Slot(index, pair) for index, pair in enumerate(pairs))
        self._history = SnapshotHistory(limit=2)
        self._tickets = new_ticket_keys()
        self._all: set[Child] = set()
        self._arrived = asyncio.Event()
        # Held while the snapshot of a worker is being changed, so that a worker that starts
        # and an offer that comes never pass each other.
        self._feeding = asyncio.Lock()
        self._replacing = asyncio.Lock()
        self._draining = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def serving(self) -> int:
        """The number of slots whose own worker serves."""
        return sum(slot.child is not None for slot in self._slots)

    @property
    def size(self) -> int:
        """The number of slots."""
        return len(self._slots)

    @property
    def looping(self) -> bool:
        """Some worker dies again and again."""
        return self._dying(LOOPING_DEATHS)

    @property
    def hopeless(self) -> bool:
        """Some worker has died so often that starting it once more will hardly help."""
        return self._dying(HOPELESS_DEATHS)

    def start(self) -> None:
        """Start every worker."""
        for slot in self._slots:
            self._task(self._fill(slot))
        self._task(self._pulse())

    async def watch(self) -> None:
        """Wait for ever; raises what a task of the crew raised, which is a bug."""
        await self._failed

    async def offer(self, target: Stored) -> str | None:
        """
        Have every worker serve ``target``; return why it is refused, or None.

        After a refusal every worker serves what it served before.
        """
        if self.current is not None and self.current.snapshot == target.snapshot:
            self.current = target  # only the position is new, and workers do not care
            return None
        deaths = 0
        while True:
            await self._some()
            async with self._feeding:
                serving = [slot.child for slot in self._slots if slot.child is not None]
                if not serving:
                    continue
                # Before the ports are open, there is nobody whom a bad snapshot could hurt.
                first, others = (serving[:1], serving[1:]) if self.open else (serving, [])
                try:
                    refusal = await _ask(first, target)
                except ChildGoneError as error:
                    # Once may be chance; the worker that comes next is asked again.
                    deaths += 1
                    if deaths == 2:
                        return f"two workers ended while they applied it: {error}"
                    continue
                if refusal is not None:
                    return refusal
                self.current = target
                await asyncio.gather(*(self._follow(child, target) for child in others))
                self._open_all()
                return None

    def replace(self) -> None:
        """Begin to replace every worker by a new process, one at a time, losing no request."""
        self._task(self._replace())

    async def drain(self, limit_seconds: float) -> None:
        """Let every worker finish and end; those that do not end in time are killed."""
        self._draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Ours first: the queue of a port is lost when its last holder closes it, and the
        # workers empty it before they do.
        for slot in self._slots:
            slot.pair.close()
        for child in self._all:
            child.drain(limit_seconds, closing=True)
        try:
            async with asyncio.timeout(limit_seconds + EXIT_GRACE_SECONDS):
                await asyncio.gather(*(child.gone.wait() for child in self._all))
        except TimeoutError:
            for child in self._all:
                _log.warning("worker_killed", pid=child.pid, reason="did not drain in time")
        finally:
            for child in self._all:
                child.kill()
            await asyncio.gather(*(child.gone.wait() for child in self._all))

    async def reports(self, limit_seconds: float) -> list[Report]:
        """Return what every worker has counted; of one that is busy, what is known."""
        children = list(self._all)
        await asyncio.gather(
            *(child.scrape(limit_seconds) for child in children), return_exceptions=True
        )
        return self.known_reports()

    def known_reports(self) -> list[Report]:
        """Return what every worker had counted a few seconds ago at most."""
        return [child.report for child in self._all if child.report is not None]

    async def describe(
        self, limit_seconds: float, *, connections: int = 0, backends: int = 0, backend: str = ""
    ) -> list[dict[str, object]]:
        """Return one row for each worker, with so many of its connections or backends."""
        now = asyncio.get_running_loop().time()
        serving = {slot.child for slot in self._slots}
        rows: list[dict[str, object]] = []
        for child in sorted(self._all, key=lambda one: (one.slot, one.born)):
            row: dict[str, object] = {
                "slot": child.slot,
                "pid": child.pid,
                "age_seconds": round(now - child.born, 3),
                "serves": child in serving,
            }
            try:
                found = await child.scrape(
                    limit_seconds, connections=connections, backends=backends, backend=backend
                )
            except (ChildGoneError, TimeoutError) as error:
                row["problem"] = str(error) or "busy"
            else:
                counts = unpacked(found.counts)
                row["connections_open"] = counts.connections_open
                row["requests_active"] = counts.requests_active
                if connections:
                    row["connections"] = found.connections
                if backends:
                    row["backends"] = found.backends
            rows.append(row)
        return rows

    def kill(self) -> None:
        """End every worker now."""
        for child in self._all:
            child.kill()

    async def _some(self) -> None:
        """Wait for a worker; at first, for every one that starts at once."""
        while not (
            any(slot.child for slot in self._slots)
            and all(slot.child or slot.deaths for slot in self._slots)
        ):
            self._arrived.clear()
            await self._arrived.wait()

    def _dying(self, deaths: int) -> bool:
        """Say whether some slot has seen so many quick deaths and no long life since."""
        young = asyncio.get_running_loop().time() - QUICK_DEATH_SECONDS
        return any(
            slot.deaths >= deaths and (slot.child is None or slot.child.born > young)
            for slot in self._slots
        )

    # The life of a slot.

    async def _replace(self) -> None:
        if self._replacing.locked():
            _log.info("replacement_already_running")
            return
        async with self._replacing:
            for slot in self._slots:
                old = slot.child
                if old is None:
                    continue
                try:
                    fresh = await self._bring_up(slot)
                except (ChildGoneError, OSError) as error:
                    _log.error("replacement_failed", slot=slot.index, reason=str(error))
                    return
                if slot.child is not None and slot.child is not old:
                    self._dismiss(fresh)  # the old one has died, and its successor was quicker
                    continue
                if slot.child is old:
                    self._dismiss(old)
                slot.child = fresh
                self._arrived.set()
                self._task(self._guard(slot, fresh))
                self._stand_in()  # the old one may have stood in for a neighbour
                _log.info("worker_replaced", slot=slot.index, pid=fresh.pid, previous=old.pid)

    async def _fill(self, slot: Slot) -> None:
        """Start workers for a slot until one serves; a replacement may be quicker."""
        while True:
            await asyncio.sleep(_backoff(slot.deaths))
            if slot.is_served():
                return
            try:
                child = await self._bring_up(slot)
            except (ChildGoneError, OSError) as error:
                slot.deaths += 1
                self._arrived.set()
                _log.error("worker_failed_to_start", slot=slot.index, reason=str(error))
                continue
            if slot.is_served():
                self._dismiss(child)
                return
            slot.child = child
            self._arrived.set()
            self._task(self._guard(slot, child))
            return

    async def _bring_up(self, slot: Slot) -> Child:
        """Start a worker and have it serve the current snapshot, if there is one."""
        sockets = [each for every in self._slots for each in (every.pair.http, every.pair.https)]
        child = await spawn(slot.index, sockets, self._history)
        self._all.add(child)
        try:
            await child.configure(
                Configure(
                    config=self._config,
                    slot=slot.index,
                    doors=tuple(self._doors()),
                    tickets=self._tickets.told(monotonic()),
                )
            )
            async with self._feeding:
                if self.current is not None:
                    await _feed(child, self.current)
                if self.open:
                    child.open(slot.index)
                    if slot.stand_in is not None:
                        slot.stand_in.shut(slot.index)
                        slot.stand_in = None
        except BaseException:
            child.kill()
            self._task(self._bury(child))
            raise
        return child

    def _doors(self) -> Iterator[Door]:
        for slot in self._slots:
            http, https = slot.pair.http.fileno(), slot.pair.https.fileno()
            yield Door(slot=slot.index, scheme="http", descriptor=http)
            yield Door(slot=slot.index, scheme="https", descriptor=https)

    async def _guard(self, slot: Slot, child: Child) -> None:
        """Wait for the end of a worker, and see to the next."""
        await child.gone.wait()
        if slot.child is not child:
            return  # replaced; _bury waits for it
        slot.child = None
        lived = asyncio.get_running_loop().time() - child.born
        slot.deaths = slot.deaths + 1 if lived < QUICK_DEATH_SECONDS else 1
        _log.error(
            "worker_died",
            slot=slot.index,
            pid=child.pid,
            exit_code=child.exit_code,
            lived_seconds=round(lived, 3),
            in_a_row=slot.deaths,
        )
        self._task(self._bury(child))
        self._stand_in()
        self._task(self._fill(slot))

    def _dismiss(self, child: Child) -> None:
        """Let a worker finish and end whose slot another one serves."""
        child.drain(self._config.drain_seconds, closing=False)
        self._task(self._bury(child))

    async def _bury(self, child: Child) -> None:
        """Take the last counts of a worker that ends."""
        await child.gone.wait()
        self._all.discard(child)
        if child.report is not None:
            self._retire(child.report)

    def _stand_in(self) -> None:
        """Give every slot that nobody accepts for to a neighbour."""
        if not self.open:
            return
        serving = [slot.child for slot in self._slots if slot.child is not None]
        for slot in self._slots:
            gone = slot.stand_in is None or slot.stand_in not in serving
            if slot.child is None and gone:
                slot.stand_in = serving[slot.index % len(serving)] if serving else None
                if slot.stand_in is not None:
                    slot.stand_in.open(slot.index)

    async def _follow(self, child: Child, target: Stored) -> None:
        """Have a further worker serve what the first one serves."""
        with contextlib.suppress(ChildGoneError):  # its guard sees to it
            refusal = await child.apply(target)
            if refusal is not None:
                _log.error("worker_disagrees", pid=child.pid, reason=refusal)
                child.kill()

    def _open_all(self) -> None:
        """Listen on every port, once."""
        if self.open:
            return
        self.open = True
        for slot in self._slots:
            slot.pair.listen()
            if slot.child is not None:
                slot.child.open(slot.index)
        self._stand_in()

    async def _pulse(self) -> None:
        """Kill workers whose loop does not turn."""
        while True:
            await asyncio.sleep(PULSE_SECONDS)
            await asyncio.gather(*(self._check(child) for child in tuple(self._all)))

    async def _check(self, child: Child) -> None:
        for limit_seconds in (PULSE_LIMIT_SECONDS, LAST_PULSE_SECONDS):
            try:
                await child.scrape(limit_seconds)
            except TimeoutError:
                continue
            except ChildGoneError:
                pass  # its guard sees to it
            return
        _log.error("worker_hung", pid=child.pid, after_seconds=PULSE_LIMIT_SECONDS)
        child.kill()

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        if self._draining:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and not self._failed.done():
            self._failed.set_exception(task.exception() or RuntimeError("unreachable"))


async def _ask(children: Sequence[Child], target: Stored) -> str | None:
    """
    Have children serve a snapshot at once; return why one refuses it, or None.

    Raises ChildGoneError if none lives to tell; of the others their guards know.
    """
    answers = await asyncio.gather(
        *(child.apply(target) for child in children), return_exceptions=True
    )
    gone = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in gone:
        if len(gone) == len(answers) or not isinstance(error, ChildGoneError):
            raise error
    return next((answer for answer in answers if isinstance(answer, str)), None)


async def _feed(child: Child, current: Stored) -> None:
    """Have a new worker serve what all serve. Raises ChildGoneError."""
    refusal = await child.apply(current)
    if refusal is not None:
        raise ChildGoneError(f"refuses what others serve: {refusal}")


def _backoff(deaths: int) -> float:
    """Return the seconds to wait before a worker is started; none after the first death."""
    if deaths <= 1:
        return 0.0
    return min(LONGEST_BACKOFF_SECONDS, 0.25 * 2.0 ** (deaths - 2))
