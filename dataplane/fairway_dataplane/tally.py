"""
What one worker has counted since it started.

Plain numbers that one event loop owns: ``+= 1`` needs no lock there. The
supervisor asks for a tally, adds those of its workers up and shows them as
metrics; nothing here knows of that. Names of routes and backends outlive the
tables that hold them, so that a counter never goes backwards while its route
lives.

Everything that is counted has two forms with the same fields: the one that is
written to, whose histograms are a :class:`Histogram`, and the one that is read,
where they are :data:`Cells`. In between it is bytes, and stays so until somebody
reads it: it is asked for more often than that.

Histograms lie in :mod:`~fairway_dataplane.pages`, and an ordinary request writes
to one row of one page and to nothing else.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from fairway_dataplane.pages import Page, Shelf

DURATION_SECONDS: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets of a request's duration; one more bucket is above the last."""

MATCH_SECONDS: tuple[float, ...] = (
    0.000001, 0.000002, 0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.001, 0.01,
)  # fmt: skip
"""Upper bounds of the buckets of the time that finding a route takes."""


USUAL: Final = "GET 200"
"""The answer that is not counted by itself: it is what all others leave of the observations."""

Cells: TypeAlias = tuple[float, ...]
"""The sum of what a histogram observed, and its counts; empty if it observed nothing."""

_SHELF: Final = Shelf()


class Histogram:
    """
    Counts for each bucket, not cumulative, and the sum of what was observed: one row.

    It owns its row, and hands it back when it ends: by its reference count, as an old table
    ends, and not when a route is forgotten. So nobody writes to a row that has become another
    route's: who writes holds the histogram while it does. An exchange, a tunnel of hours too,
    holds its entry of a table, the entry its :class:`RouteTally` beside ``page`` and ``at``, and
    that tally its histogram; of a backend likewise. Whoever keeps ``page`` and ``at`` has to keep
    the histogram, and no tally is given another one.
    """

    __slots__ = ("at", "page", "size")

    page: Page
    """Written to directly where each object counts: see :mod:`fairway_dataplane.proxy`."""
    at: int
    """The cell of the sum; the buckets follow."""

    def __init__(self, bounds: int) -> None:
        """Take a new row with so many bounds."""
        self.size = bounds + 2
        self.page, self.at = _SHELF.row(self.size)

    # The last ones end with the interpreter, when names of this module may be gone: so a default.
    def __del__(self, back: Callable[[Page, int, int], None] = _SHELF.back) -> None:
        """Hand the row back."""
        back(self.page, self.at, self.size)

    @property
    def total(self) -> int:
        """The number of observations."""
        return int(sum(self.page.rows[self.at + 1 : self.at + self.size]))

    def observe(self, bounds: tuple[float, ...], seconds: float) -> None:
        """Count one observation."""
        cells = self.page.rows
        cells[self.at + 1 + bisect_left(bounds, seconds)] += 1.0
        cells[self.at] += seconds

    def cells(self) -> Cells:
        """Return what was observed, to be read; of ten thousand routes, most observed nothing."""
        cells = tuple(self.page.rows[self.at : self.at + self.size])
        return cells if any(cells) else ()

    def __eq__(self, other: object) -> bool:
        """Compare what was counted."""
        return isinstance(other, Histogram) and self.cells() == other.cells()

    __hash__ = None  # type: ignore[assignment] # it changes with every request

    def __repr__(self) -> str:
        """Show what was counted."""
        return f"<Histogram {self.total} in {self.page.rows[self.at]:.6f} s>"


_H = TypeVar("_H", Histogram, Cells)


class RouteCounts(msgspec.Struct, Generic[_H], gc=False):
    """Requests of one route."""

    others: dict[str, int]
    """Completed requests by ``METHOD code``, but for those of :data:`USUAL`."""
    durations: _H
    """From the last byte of the request's head to the last byte of the answer, of each."""


class BackendCounts(msgspec.Struct, Generic[_H], gc=False):
    """What happened towards one backend."""

    durations: _H
    """From the request's head sent to the answer's head received."""
    requests: int = 0
    connects: int = 0
    """Connections opened."""
    reuses: int = 0
    """Requests sent on a kept connection: the difference of two others, when it is shown."""
    hand_overs: int = 0
    """Requests sent on a connection that was opened for them."""
    connect_failures: int = 0
    retries: int = 0
    ejections: dict[str, int] = msgspec.field(default_factory=dict)
    """Endpoints taken out of the choice, by why."""
    endpoints: dict[str, int] = msgspec.field(default_factory=dict)
    """Endpoints now, by state."""
    panicking: int = 0
    """1 while so many endpoints do not pass their health checks that the checks are ignored."""
    checks: dict[str, int] = msgspec.field(default_factory=dict)
    """Health checks by ``passed`` and ``failed``."""
    limit: int = 0
    """Requests in flight that adaptive concurrency allows now; 0 without it."""
    active: int = 0
    """Connections that serve a request now."""
    idle: int = 0
    """Connections kept for the next request now."""
    errors: dict[str, int] = msgspec.field(default_factory=dict)
    """By reason."""


class Counts(msgspec.Struct, Generic[_H], kw_only=True):
    """What is counted of no route and no backend."""

    match: _H
    """Time to find a route, sampled."""
    connections_accepted: int = 0
    connections_open: int = 0
    connections_arriving: int = 0
    """Before their PROXY header or TLS handshake is whole."""
    connections_refused: int = 0
    """Closed at once, because the worker or the client had too many."""
    connections_evicted: int = 0
    """Idle ones closed to make room."""
    requests: int = 0
    """Requests whose head was complete and acceptable."""
    requests_active: int = 0
    """In flight, tunnels included."""
    resident_bytes: int = 0
    """Memory of the process, at the last tick."""
    shedding: int = 0
    """1 while requests are refused because memory is short."""
    accepting_paused: int = 0
    """1 while connections wait to be accepted because descriptors are short."""
    overloads: dict[str, int] = msgspec.field(default_factory=dict)
    """How often ``memory`` or ``descriptors`` became short."""
    log_lines_dropped: int = 0
    """Lines of the access log that were lost because nobody read them in time."""
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    """Requests that Fairway answered or dropped itself, by reason."""
    terminations: dict[str, int] = msgspec.field(default_factory=dict)
    """How exchanges ended otherwise than well after their answer had begun, by reason."""
    bugs: int = 0
    """Exchanges that ended by an exception nobody expected."""
    tunnels_active: int = 0
    bytes_in: int = 0
    """Of request bodies and tunnels, from clients."""
    bytes_out: int = 0
    """Of heads, response bodies and tunnels, to clients."""
    handshakes: dict[str, int] = msgspec.field(default_factory=dict)
    """TLS handshakes by ``version resumed result``."""


class RouteTally(RouteCounts[Histogram], gc=False):
    """Of one route, as it is counted."""


class BackendTally(BackendCounts[Histogram], gc=False):
    """Of one backend, as it is counted."""


class Tally(Counts[Histogram], kw_only=True):
    """Everything that one worker counts."""

    match: Histogram = msgspec.field(default_factory=lambda: Histogram(len(MATCH_SECONDS)))
    routes: dict[str, RouteTally] = msgspec.field(default_factory=dict)
    backends: dict[str, BackendTally] = msgspec.field(default_factory=dict)

    def route(self, name: str) -> RouteTally:
        """Return the counters of a route, new ones for a new route."""
        found = self.routes.get(name)
        if found is None:
            found = RouteTally({}, Histogram(len(DURATION_SECONDS)))
            self.routes[name] = found
        return found

    def backend(self, name: str) -> BackendTally:
        """Return the counters of a backend, new ones for a new backend."""
        found = self.backends.get(name)
        if found is None:
            found = BackendTally(Histogram(len(DURATION_SECONDS)))
            self.backends[name] = found
        return found

    def packed_rows(self, *, routes: Collection[str] = (), backends: Collection[str] = ()) -> bytes:
        """Return what was counted of these routes and backends, for :func:`unpacked_rows`."""
        return _PACKER.encode(
            {
                "routes": {name: self.routes[name] for name in routes if name in self.routes},
                "backends": {
                    name: self.backends[name] for name in backends if name in self.backends
                },
            }
        )

    def packed(self) -> bytes:
        """Return what was counted of no route and no backend, for :func:`unpacked`."""
        return _PACKER.encode(msgspec.structs.replace(self, routes={}, backends={}))


class Rows(msgspec.Struct, frozen=True, gc=False):
    """What some routes and backends have counted."""

    routes: Mapping[str, RouteCounts[Cells]]
    backends: Mapping[str, BackendCounts[Cells]]


def _pack(value: Any) -> Cells:
    if isinstance(value, Histogram):
        return value.cells()
    raise NotImplementedError(f"a {type(value).__name__} is no part of a tally")


_PACKER: Final = msgspec.msgpack.Encoder(enc_hook=_pack)

unpacked: Final = msgspec.msgpack.Decoder(Counts[Cells]).decode
"""Return the counts of :meth:`Tally.packed`."""

unpacked_rows: Final = msgspec.msgpack.Decoder(Rows).decode
"""Return the rows of :meth:`Tally.packed_rows`."""


def count(counters: dict[str, int], word: str) -> None:
    """Add one to a counter that may be new; ``word`` is from a closed set."""
    counters[word] = counters.get(word, 0) + 1
