"""
Side effects: the only place that writes to users' objects.

The outbox holds what should be true of the cluster, one entry for each object
and kind of effect. Filling it replaces what was planned before, so a write that
is out of date is never sent; a write that failed is tried again, later each
time, until it is replaced or the object is gone. Hence "at least once": every
effect can be repeated without harm.

The one rule: nothing waits for the outbox. It may lag behind, stand still while
another replica leads, or fail for hours, and traffic does not notice.
"""

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

import structlog

from fairway_operator.effects import Effect, EmitEvent, PatchStatus
from fairway_operator.refs import ObjectRef

log = structlog.get_logger(__name__)

OBJECT_SECONDS = 1.0
"""Between two writes to one object."""

HOLD_SECONDS = 0.2
"""How long a status waits for what may replace it: receipts mostly come within milliseconds."""

RECEIPT_HOLD_SECONDS = 1.0
"""How long the event of a receipt waits: for newer ones, and to let status go first."""

BACKOFF_SECONDS = (0.5, 60.0)
"""First and longest pause after a failed write; doubled in between, and jittered."""

WRITERS = 8
"""Writes under way at once, so that one that hangs does not hold up the others."""

SLOWER_SECONDS = 1.0
"""Between two halvings of the rate: writes under way together are refused together."""

RECOVERY_SECONDS = 30.0
"""From a standstill to the full rate, while the API server takes what it gets."""

LEAST_RATE = 1.0
"""Writes in a second that are tried however busy the API server is."""

HISTORY = 5
"""Attempts that are remembered of each effect."""

REMEMBERED_EFFECTS = 10_000
"""Effects whose attempts are remembered, the most recently written ones."""


class Outcome(StrEnum):
    """How an attempt ended; also a metric label."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    """The object said so already; nothing was sent."""
    GONE = "gone"
    """There is no such object any more."""
    REFUSED = "refused"
    """The API server will never take it as it is; dropped."""
    FAILED = "failed"
    """To be tried again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the writer says of one attempt."""

    outcome: Outcome
    message: str = ""
    retry_after_seconds: float | None = None
    overloaded: bool = False
    """The API server has too much to do (as priority and fairness say by 429): write less."""


class EffectWriter(Protocol):
    """Performs effects; one attempt for each call."""

    async def write(self, effect: Effect) -> Answer:
        """Try once. Raises nothing that could be foreseen."""


class EffectKey(NamedTuple):
    """What an effect replaces: an earlier one of the same key."""

    ref: ObjectRef
    name: str
    """``status``, or the words of an event."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to write, for people."""

    at: float
    """Wall clock, seconds since the epoch."""
    outcome: Outcome
    message: str
    seconds: float


@dataclass(slots=True, eq=False)
class _Entry:
    key: EffectKey
    effect: Effect
    due_at: float
    failures: int = 0
    dropped: bool = False


@dataclass(slots=True)
class OutboxCounters:
    """What was done since the start."""

    outcomes: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))
    superseded: int = 0
    """Writes that never had to be sent, because a newer plan replaced them."""


class Bucket:
    """
    A token bucket: ``rate`` a second, ``burst`` after a quiet time.

    The pace adapts to what the other side can take: halved where it says that it
    is overloaded, and back to ``rate`` steadily.
    """

    __slots__ = ("_at", "_slowed_at", "_tokens", "burst", "pace", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        """Begin with a full bucket and at full pace."""
        self.rate = rate
        self.burst = burst
        self.pace = rate
        """Writes in a second at present."""
        self._tokens = float(burst)
        self._at = float("-inf")
        self._slowed_at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        if self._at != float("-inf"):
            seconds = now - self._at
            self._tokens = min(self.burst, self._tokens + seconds * self.pace)
            self.pace = min(self.rate, self.pace + seconds * self.rate / RECOVERY_SECONDS)
        self._at = now
        if self._tokens > 1.0 - 1e-9:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.pace

    def slow_down(self, now: float) -> None:
        """Halve the pace, and let nothing out at once that was saved up."""
        if now - self._slowed_at < SLOWER_SECONDS:
            return
        self._slowed_at = self._at = now
        self.pace = max(self.pace / 2, min(LEAST_RATE, self.rate))
        self._tokens = min(self._tokens, 0.0)


class Outbox:
    """What is still to be written; filled by the reconciler, emptied by :meth:`work`."""

    def __init__(
        self,
        writer: EffectWriter,
        *,
        bucket: Bucket,
        leading: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is written while ``leading`` is false; it is asked before each write."""
        self.counters = OutboxCounters()
        self._writer = writer
        self._bucket = bucket
        self._leading = leading
        self._clock = clock
        self._entries: dict[EffectKey, _Entry] = {}
        self._by_ref: dict[ObjectRef, set[EffectKey]] = {}
        self._queue: list[tuple[float, int, _Entry]] = []
        self._count = 0
        self._blocked_until = float("-inf")
        self._writing: set[ObjectRef] = set()
        self._next_at: dict[ObjectRef, float] = {}
        self._attempts: dict[EffectKey, deque[Attempt]] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of effects that wait."""
        return len(self._entries)

    def __repr__(self) -> str:
        """Say how much waits."""
        return f"Outbox(pending={len(self._entries)})"

    def fill(self, effects: Collection[Effect], about: Collection[ObjectRef] | None) -> None:
        """
        Replace what was planned about these objects; None means about all.

        Events are told in any case, since no later plan repeats them.
        """
        planned = {effect_key(effect): effect for effect in effects}
        refs = list(self._by_ref) if about is None else about
        for ref in refs:
            for key in list(self._by_ref.get(ref, ())):
                if key not in planned and key.name == "status":
                    self._drop(key)
                    self.counters.superseded += 1
        for key, effect in planned.items():
            self._put(key, effect)

    def clear(self) -> None:
        """Forget everything: another replica leads, and plans for itself."""
        for key in list(self._entries):
            self._drop(key)

    @property
    def pace(self) -> float:
        """Writes in a second that go out at present, at most."""
        return self._bucket.pace

    def pending(self) -> list[tuple[EffectKey, int]]:
        """Return what waits, with the number of failed attempts."""
        return [(key, entry.failures) for key, entry in self._entries.items()]

    def history(self) -> dict[EffectKey, list[Attempt]]:
        """Return the last attempts of each effect, oldest first."""
        return {key: list(attempts) for key, attempts in self._attempts.items()}

    async def work(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write_forever())

    async def _write_forever(self) -> None:
        while True:
            entry = self._next_due()
            if entry is None:
                await self._wait()
                continue
            try:
                await self._write(entry)
            finally:
                self._writing.discard(entry.key.ref)
                self._news.set()

    async def _wait(self) -> None:
        """Wait for news, or until the next entry may be due."""
        self._news.clear()
        seconds = 1.0
        if self._queue and self._leading():
            next_at = max(self._queue[0][0], self._blocked_until)
            seconds = min(1.0, max(0.01, next_at - self._clock()))
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def _next_due(self) -> _Entry | None:
        """Take the entry that is due, if we may write now."""
        now = self._clock()
        busy: list[tuple[float, int, _Entry]] = []
        found = None
        while found is None and self._may_write(now) and self._queue and self._queue[0][0] <= now:
            item = heapq.heappop(self._queue)
            entry = item[2]
            if entry.dropped:
                continue
            if entry.key.ref in self._writing:
                busy.append(item)
            elif self._next_at.get(entry.key.ref, now) > now:
                self._schedule(entry, self._next_at[entry.key.ref])
            elif (wait := self._bucket.wait_seconds(now)) > 0:
                self._blocked_until = now + wait
                busy.append(item)
            else:
                found = entry
                self._writing.add(entry.key.ref)
        for item in busy:
            heapq.heappush(self._queue, item)
        return found

    def _may_write(self, now: float) -> bool:
        return now >= self._blocked_until and self._leading()

    async def _write(self, entry: _Entry) -> None:
        started_at = self._clock()
        answer = await self._writer.write(entry.effect)
        now = self._clock()
        key = entry.key
        self.counters.outcomes[answer.outcome] += 1
        self._remember(key, Attempt(time.time(), answer.outcome, answer.message, now - started_at))
        self._pace(key.ref, now)
        if answer.outcome is not Outcome.FAILED:
            if answer.outcome is Outcome.REFUSED:
                log.error(
                    "effect_refused", object=str(key.ref), effect=key.name, message=answer.message
                )
            if not entry.dropped:
                self._drop(key)
            return
        if answer.overloaded:
            self._bucket.slow_down(now)
        if not entry.dropped:
            self._retry(entry, answer, now)

    def _retry(self, entry: _Entry, answer: Answer, now: float) -> None:
        entry.failures += 1
        pause = min(BACKOFF_SECONDS[0] * 2 ** (entry.failures - 1), BACKOFF_SECONDS[1])
        pause *= random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        log.warning(
            "effect_failed",
            object=str(entry.key.ref),
            effect=entry.key.name,
            failures=entry.failures,
            message=answer.message,
        )
        self._schedule(entry, now + max(pause, answer.retry_after_seconds or 0.0))

    def _put(self, key: EffectKey, effect: Effect) -> None:
        known = self._entries.get(key)
        if known is not None:
            if known.effect == effect:
                return
            self._drop(key)
            self.counters.superseded += 1
        hold = self._hold_seconds(effect)
        # A newer plan takes the place of the older one, also in the queue.
        due_at = self._clock() + hold if known is None else known.due_at
        entry = _Entry(key, effect, due_at, failures=0 if known is None else known.failures)
        self._entries[key] = entry
        self._by_ref.setdefault(key.ref, set()).add(key)
        self._schedule(entry, due_at)
        self._news.set()

    def _hold_seconds(self, effect: Effect) -> float:
        match effect:
            case EmitEvent(supersedes=True):
                # Behind what is queued already, and so behind the status of a thousand objects.
                return max(RECEIPT_HOLD_SECONDS, len(self) / self._bucket.pace)
            case EmitEvent():
                return 0.0
            case PatchStatus():
                return HOLD_SECONDS

    def _drop(self, key: EffectKey) -> None:
        self._entries.pop(key).dropped = True
        keys = self._by_ref[key.ref]
        keys.discard(key)
        if not keys:
            del self._by_ref[key.ref]

    def _schedule(self, entry: _Entry, due_at: float) -> None:
        entry.due_at = due_at
        self._count += 1
        heapq.heappush(self._queue, (due_at, self._count, entry))

    def _pace(self, ref: ObjectRef, now: float) -> None:
        self._next_at[ref] = now + OBJECT_SECONDS
        if len(self._next_at) > REMEMBERED_EFFECTS:
            self._next_at = {key: at for key, at in self._next_at.items() if at > now}

    def _remember(self, key: EffectKey, attempt: Attempt) -> None:
        attempts = self._attempts.pop(key, None) or deque(maxlen=HISTORY)
        attempts.append(attempt)
        self._attempts[key] = attempts
        if len(self._attempts) > REMEMBERED_EFFECTS:
            del self._attempts[next(iter(self._attempts))]


def effect_key(effect: Effect) -> EffectKey:
    """Return what a later effect must have in common to replace this one."""
    match effect:
        case PatchStatus():
            return EffectKey(effect.ref, "status")
        case EmitEvent(supersedes=True):
            return EffectKey(effect.ref, "event of its receipt")
        case EmitEvent():
            return EffectKey(effect.ref, f"event {effect.reason}: {effect.message}")
