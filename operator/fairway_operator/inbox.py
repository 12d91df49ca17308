"""
What the operator has heard and not yet worked on.

One slot for each object: a newer event replaces an older one, so the inbox is
bounded by the number of objects whatever the rate of events. "Newer" is told
by ``resourceVersion`` and not by arrival, because two sources feed the inbox
(the watch and the lists of :mod:`fairway_operator.resync`) and either may be
ahead. Objects without a resourceVersion (files) are always newer.

The one rule: ``put`` never waits. The handlers that call it run inside the
watch, and a watch that waits loses events.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fairway_operator.refs import Kind, ObjectRef

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """An object as it is now, or the news that it is gone; ``body`` is the raw object."""

    kind: Kind
    deleted: bool
    body: Mapping[str, Any]

    @property
    def ref(self) -> ObjectRef:
        """Which object this is about."""
        metadata = self.body.get("metadata") or {}
        return ObjectRef(self.kind, metadata.get("namespace") or "", metadata.get("name") or "")

    @property
    def version(self) -> int | None:
        """The resourceVersion as the number it is; None when there is none."""
        text = (self.body.get("metadata") or {}).get("resourceVersion")
        return int(text) if isinstance(text, str) and text.isdecimal() else None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that belong to one compilation, at most one for each object."""

    events: tuple[WatchEvent, ...]
    first_at: float
    """When the oldest of them came in, by the inbox's clock."""


class Inbox:
    """Coalesces events by object; any number of givers, one taker."""

    def __init__(
        self,
        *,
        settle_seconds: float = 0.05,
        settle_limit_seconds: float = 0.5,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Make an empty inbox; the two settings are those of :class:`OperatorConfig`."""
        self._settle_seconds = settle_seconds
        self._settle_limit_seconds = settle_limit_seconds
        self._clock = clock
        self._sleep = sleep
        self._pending: dict[ObjectRef, WatchEvent] = {}
        self._first_at = 0.0
        self._last_at = float("-inf")
        self._in_burst = False
        self._only_echoes = True
        self._arrival = asyncio.Event()
        self._alive: dict[Kind, dict[ObjectRef, int]] = {kind: {} for kind in Kind}
        self._buried: dict[Kind, dict[ObjectRef, int]] = {kind: {} for kind in Kind}
        self._faces: dict[ObjectRef, int] = {}

    def __repr__(self) -> str:
        """Say how much is waiting."""
        return f"Inbox(pending={len(self._pending)})"

    def __len__(self) -> int:
        """Return the number of objects with news."""
        return len(self._pending)

    def put(self, event: WatchEvent) -> bool:
        """
        Keep the event unless something as new is known of its object; say whether it was kept.

        The deletion of an object that nobody has heard of is not kept either.
        """
        ref, version = event.ref, event.version
        alive, buried = self._alive[event.kind], self._buried[event.kind]
        if version is not None:
            seen = alive.get(ref, -1)
            if version < max(seen, buried.get(ref, -1)) or (version == seen and not event.deleted):
                return False
        if event.deleted:
            if version is not None:
                buried[ref] = version
            if alive.pop(ref, None) is None:
                return False
        else:
            buried.pop(ref, None)
            alive[ref] = 0 if version is None else version
        self._add(ref, event)
        return True

    def drain(self) -> Batch:
        """Return what is there, at once, and be it nothing."""
        batch = Batch(tuple(self._pending.values()), self._first_at)
        self._pending = {}
        self._arrival.clear()
        return batch

    async def take(self) -> Batch:
        """
        Wait for events and return them all.

        An event after quiet is returned at once. In a burst the batch is
        complete after ``settle_seconds`` of quiet, or ``settle_limit_seconds``
        after its first event. Echoes are no burst, and wait for that limit or
        for something that is news.
        """
        await self._arrival.wait()
        while (delay := self._due_at() - self._clock()) > 0:
            self._arrival.clear()
            await self._until_news(delay)
        return self.drain()

    def is_pending(self, ref: ObjectRef) -> bool:
        """Say whether there is news of an object that nobody has taken yet."""
        return ref in self._pending

    def known(self, kind: Kind) -> Mapping[ObjectRef, int]:
        """Return the objects that exist as far as is known, with their resourceVersion (or 0)."""
        return self._alive[kind]

    def newest(self, kind: Kind) -> int:
        """Return the highest resourceVersion heard of for this kind, 0 when there is none."""
        alive, buried = self._alive[kind], self._buried[kind]
        return max(max(alive.values(), default=0), max(buried.values(), default=0))

    def forget_versions(self, kind: Kind) -> None:
        """
        Take any further event of this kind as newer than what is known.

        For an API server whose history went back (etcd restored from a backup):
        its numbers are lower than those heard of before.
        """
        self._alive[kind] = dict.fromkeys(self._alive[kind], 0)
        self._buried[kind].clear()

    def forget_deletions(self, kind: Kind, *, until_version: int) -> None:
        """Drop the memory of deletions that no later list can contradict."""
        buried = self._buried[kind]
        self._buried[kind] = {ref: at for ref, at in buried.items() if at > until_version}

    def _add(self, ref: ObjectRef, event: WatchEvent) -> None:
        now = self._clock()
        if not self._pending:
            self._first_at = now
            self._only_echoes = True
        self._pending[ref] = event
        if self._is_echo(ref, event):
            if len(self._pending) == 1:
                self._arrival.set()
            return
        if self._only_echoes:
            self._only_echoes = False
            self._first_at = now
            self._in_burst = now - self._last_at < self._settle_seconds
        self._last_at = now
        self._arrival.set()

    def _is_echo(self, ref: ObjectRef, event: WatchEvent) -> bool:
        """
        Say whether only the status has changed, mostly by our own writing.

        A thousand of those must not hold up the one edit that comes between them.
        """
        if event.kind not in _WITH_STATUS:
            return False
        if event.deleted:
            self._faces.pop(ref, None)
            return False
        face = _face(event.body)
        known = self._faces.get(ref)
        self._faces[ref] = face
        return known == face

    async def _until_news(self, seconds: float) -> None:
        """Sleep, but wake up when something comes that may be due earlier."""
        if not self._only_echoes:
            await self._sleep(seconds)
            return
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        arriving = asyncio.ensure_future(self._arrival.wait())
        try:
            await asyncio.wait((sleeping, arriving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            arriving.cancel()

    def _due_at(self) -> float:
        if self._only_echoes:
            return self._first_at + self._settle_limit_seconds
        if not self._in_burst:
            return self._first_at
        return min(
            self._last_at + self._settle_seconds, self._first_at + self._settle_limit_seconds
        )


_WITH_STATUS = frozenset({Kind.INGRESS, Kind.ROUTE})
"""Kinds whose status the operator writes, and whose generation counts changes of the spec."""


def _face(body: Mapping[str, Any]) -> int:
    """Return what is equal for two versions that differ in their status alone."""
    metadata = body.get("metadata") or {}
    parts = [metadata.get(name) for name in ("uid", "generation", "labels", "annotations")]
    # A file, or an odd server, counts no generations: then the spec itself must tell.
    if parts[1] is None:
        parts.append(body.get("spec"))
    return hash(repr(parts))
