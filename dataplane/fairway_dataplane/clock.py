"""
One coarse clock per worker, in place of a timer per request.

Whoever has a deadline is *watched*: it writes a plain ``deadline`` attribute
whenever its state changes, which costs nothing, and is looked at once a
second, or exactly in the tick of its deadline when that is less than a second
away. A deadline of less than a second from now is the one case that must be
told, by :meth:`Clock.hasten`. So deadlines are met within one tick, and never
early.
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

TICK_SECONDS = 0.1

NEVER = math.inf
"""The deadline of what has none."""

_LOOK_TICKS = 10

_EFFORT = 256
_EXPIRY_EFFORT = 16
"""Of looking at one that expires, where one that does not is 1: the loop stands for half a ms."""

LOOK_SECONDS = _LOOK_TICKS * TICK_SECONDS
"""Nothing watched goes unlooked at for longer; see :meth:`Clock.hasten`."""


class Watched(Protocol):
    """What can have a deadline; only the clock writes ``slot``."""

    deadline: float
    """In the clock's seconds; :data:`NEVER` for none."""
    slot: int

    def expire(self, now: float) -> None:
        """Set another deadline, or end: this one has passed."""


class Clock:
    """Coarse time, and who waits for it. Advanced by a timer, or by hand in tests."""

    __slots__ = ("_due", "_handle", "_loop", "_read", "_slots", "_tick", "_watched", "now")

    now: float
    """Monotonic seconds at the last tick; read on the hot path."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, read: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._read = read
        self._tick = 0
        self._watched = 0
        # A ring of the next ticks; each watched object is in one slot.
        self._slots: list[dict[Watched, None]] = [{} for _ in range(_LOOK_TICKS + 1)]
        self._due: dict[Watched, None] = {}
        self._handle: asyncio.TimerHandle | None = None
        self.now = read()

    def start(self) -> None:
        """Tick by a timer of the loop."""
        self._handle = self._loop.call_later(TICK_SECONDS, self._on_timer)

    def stop(self) -> None:
        """Tick no more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._due.clear()

    def watch(self, watched: Watched) -> None:
        """Look at it from now on, until :meth:`forget`."""
        # Sooner than it must, and each at another tick: thousands that come at once, with a
        # table, would otherwise be looked at at once for as long as they live.
        self._watched += 1
        self._place(watched, 1 + self._watched % _LOOK_TICKS)

    def forget(self, watched: Watched) -> None:
        """Look at it no more."""
        self._remove(watched)

    def hasten(self, watched: Watched) -> None:
        """Look at it in time, although its deadline is less than a second away."""
        self._remove(watched)
        self._place(watched, self._ticks_until(watched.deadline))

    def advance(self) -> None:
        """Take one tick: read the time and look at those whose turn it is."""
        self._begin()
        while self._due:
            self._look()

    def _begin(self) -> None:
        self.now = self._read()
        self._tick += 1
        at = self._tick % len(self._slots)
        due, self._slots[at] = self._slots[at], {}
        if self._due:  # of the last tick, if the loop is very late
            due.update(self._due)
        self._due = due

    def _look(self) -> None:
        """Look at some of those whose turn it is: thousands may expire in the same tick."""
        due, now = self._due, self.now
        effort = 0
        while due and effort < _EFFORT:
            watched, _ = due.popitem()
            # Placed first: expire may forget it, or watch it anew.
            if watched.deadline <= now:
                effort += _EXPIRY_EFFORT
                self._place(watched, _LOOK_TICKS)
                watched.expire(now)
            else:
                effort += 1
                self._place(watched, self._ticks_until(watched.deadline))

    def _remove(self, watched: Watched) -> None:
        self._slots[watched.slot].pop(watched, None)
        if self._due:
            self._due.pop(watched, None)

    def _ticks_until(self, deadline: float) -> int:
        seconds = deadline - self.now
        if seconds >= _LOOK_TICKS * TICK_SECONDS:
            return _LOOK_TICKS
        return max(1, math.ceil(seconds / TICK_SECONDS))

    def _place(self, watched: Watched, ticks: int) -> None:
        slot = (self._tick + ticks) % len(self._slots)
        watched.slot = slot
        self._slots[slot][watched] = None

    def _on_timer(self) -> None:
        self._handle = self._loop.call_later(TICK_SECONDS, self._on_timer)
        self._begin()
        self._go_on()

    def _go_on(self) -> None:
        """Look at all whose turn it is, and let others have theirs in between."""
        self._look()
        if self._due:
            self._loop.call_soon(self._go_on)
