"""
What a worker can still take on: looked at by the coarse clock, never by a request.

Out of memory, the kernel kills the worker with every request it has; out of
descriptors, neither a client nor a backend can be reached. Both are seen
coming here. Too little memory sheds requests: those above a number in flight,
which shrinks until it helps, are answered with 503 and Retry-After. Too few
descriptors let clients wait in the queue of the listening sockets.

The one rule is that nothing is refused for good. Memory that was freed does not
always go back to the system, so a few requests are served however little there
is, and what a limit says is asked anew in every tick.
"""

import ctypes
import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fairway_dataplane.clock import NEVER, TICK_SECONDS
from fairway_dataplane.limits import Limits
from fairway_dataplane.tally import count

if TYPE_CHECKING:
    from fairway_dataplane.downstream.listener import Listener

LEAST_REQUESTS = 16
"""In flight, and served whatever memory says: or a worker that cannot shrink would be dead."""

RECOVERY_PERCENT = 5
"""So far below its limit a resource is before it counts as recovered."""

UNSEEN_ACCEPTS = 64
"""Connections that are accepted without a look at descriptors, at most; next to the limit, none."""

_SHRINK = 0.9
"""Share of the requests in flight that is left by each tick in which memory is short."""

_TRIM_SECONDS = 1.0
"""Between two attempts to give freed memory back; one takes milliseconds."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

Tell = Callable[[str, bool, dict[str, int]], None]
"""Takes a resource (``memory`` or ``descriptors``), whether it is short, and figures for a log."""


class Overload:
    """Watches over one worker, and tells its listener what to take on."""

    __slots__ = (
        "_clock", "_descriptors", "_listener", "_memory", "_tally", "_tell", "_trim_at", "_unseen",
        "deadline", "slot",
    )  # fmt: skip

    def __init__(self, listener: "Listener", memory: "Memory", tell: Tell) -> None:
        self._listener = listener
        self._clock = listener.clock
        self._tally = listener.tally
        self._tell = tell
        self._memory = memory
        self._descriptors = Descriptors(listener.limits)
        self._trim_at = 0.0
        self._unseen = 0
        self.deadline = NEVER
        self.slot = 0

    def start(self) -> None:
        """Look every tick or two, and at descriptors before connections that may be too many."""
        self._listener.before_accept = self.note_accept
        self.deadline = self._clock.now + TICK_SECONDS
        self._clock.watch(self)
        self._clock.hasten(self)

    def stop(self) -> None:
        """Look no more."""
        self._listener.before_accept = None
        self._clock.forget(self)
        self.deadline = NEVER
        self._memory.close()
        self._descriptors.close()

    def expire(self, now: float) -> None:
        """Look at everything."""
        self.deadline = now + TICK_SECONDS
        self._clock.hasten(self)
        self._look_at_memory(now)
        self.look_at_descriptors()
        if self._listener.is_paused:
            self._listener.close_idle()

    def note_accept(self) -> None:
        """Look at descriptors, unless the last look left room for many more connections."""
        self._unseen -= 1
        if self._unseen < 0:
            self.look_at_descriptors()

    def look_at_descriptors(self) -> None:
        """Pause accepting near the limit, and go on below it."""
        paused = self._listener.is_paused
        used = self._descriptors.used()
        # A client may need several: its own, and one for each attempt to reach a backend.
        self._unseen = min(UNSEEN_ACCEPTS, (self._descriptors.limit - used) // 8)
        if not paused and used >= self._descriptors.limit:
            self._tally.accepting_paused = 1
            count(self._tally.overloads, "descriptors")
            self._listener.pause_accepting()
        elif paused and used < self._descriptors.recovered:
            self._tally.accepting_paused = 0
            self._listener.resume_accepting()
        if paused is not self._listener.is_paused:
            figures = {"descriptors": used, "limit": self._descriptors.limit}
            self._tell("descriptors", not paused, figures)

    def _look_at_memory(self, now: float) -> None:
        memory, tally, listener = self._memory, self._tally, self._listener
        percent = memory.percent()
        tally.resident_bytes = memory.resident_bytes
        if percent >= 100 and now >= self._trim_at:
            # What was freed may only not have been given back.
            self._trim_at = now + _TRIM_SECONDS
            give_back()
            percent = memory.percent()
        shedding = bool(tally.shedding)
        if percent >= 100:
            if not shedding:
                count(tally.overloads, "memory")
                listener.close_idle()
            most = listener.admitted if shedding else tally.requests_active
            listener.admit_requests(max(LEAST_REQUESTS, int(most * _SHRINK)))
            tally.shedding = 1
        elif shedding and percent < 100 - RECOVERY_PERCENT:
            listener.admit_requests(None)
            tally.shedding = 0
        if shedding is not bool(tally.shedding):
            figures = {"resident_bytes": memory.resident_bytes, "percent_of_limit": percent}
            self._tell("memory", not shedding, figures)


class Memory:
    """How much of the memory that it may have this worker, or its pod, uses."""

    __slots__ = ("_folder", "_own_bytes", "_pod_bytes", "_share", "_statm", "resident_bytes")

    resident_bytes: int
    """Of this process, when it was last looked at."""

    def __init__(self, limits: Limits, folder: Path = Path("/sys/fs/cgroup")) -> None:
        """``folder`` is the control group (version 2) that this process is in."""
        self._own_bytes = limits.memory_bytes
        self._share = limits.memory_percent
        self._folder = folder
        self._pod_bytes = _number(folder / "memory.max") if self._share else 0
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)
        self.resident_bytes = 0

    def percent(self) -> int:
        """Return what is used as percent of the limit that is nearest; 0 without a limit."""
        self.resident_bytes = int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
        percent = 0
        if self._own_bytes:
            percent = self.resident_bytes * 100 // self._own_bytes
        limit = self._pod_bytes * self._share // 100
        if limit:
            used = _number(self._folder / "memory.current")
            if used >= limit:
                # The file cache goes before anybody is killed.
                used -= self._cached_bytes()
            percent = max(percent, used * 100 // limit)
        return percent

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._statm)

    def _cached_bytes(self) -> int:
        for line in (self._folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "inactive_file":
                return int(value)
        return 0


class Descriptors:
    """How near a process is to the number of files it may have open."""

    __slots__ = ("_probe", "limit", "recovered")

    limit: int
    """Above it no connection is accepted."""
    recovered: int
    """Below it they are again."""

    def __init__(self, limits: Limits) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        percent = limits.descriptors_percent or 100
        self.limit = soft * percent // 100
        self.recovered = soft * max(1, percent - RECOVERY_PERCENT) // 100
        self._probe = os.open(os.devnull, os.O_RDONLY)

    def used(self) -> int:
        """
        Return a number that is at least so many in use, in two system calls.

        A new descriptor is the lowest that is free, so all below it are taken;
        and it is numbers that the limit limits, not how many there are.
        """
        try:
            lowest = os.dup(self._probe)
        except OSError:
            return self.limit
        os.close(lowest)
        return lowest

    def close(self) -> None:
        """Let go of the descriptor."""
        os.close(self._probe)


def give_back() -> None:
    """Return freed memory to the system, as far as the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)


def _number(path: Path) -> int:
    """Return the number in a file; 0 if there is none, as for ``max``."""
    try:
        text = path.read_text()
    except OSError:
        return 0
    return int(text) if text.strip().isdigit() else 0
