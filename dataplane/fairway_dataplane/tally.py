"""
What one worker has counted since it started.

Plain numbers that one event loop owns: ``+= 1`` needs no lock there. The
supervisor asks for a tally, adds those of its workers up and shows them as
metrics; nothing here knows of that. A tally is sent as msgpack, so it is made
of structs, histograms and dicts only; it is asked for more often than anybody
reads it, so what it says of routes and backends stays packed until then. Names
of routes and backends outlive the tables that hold them, so that a counter
never goes backwards while its route lives.

Histograms lie in :mod:`~fairway_dataplane.pages`, and an ordinary request writes
to one row of one page and to nothing else.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

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
    def counts(self) -> list[int]:
        """The number of observations in each bucket."""
        return [int(count) for count in self.page.rows[self.at + 1 : self.at + self.size]]

    @property
    def sum_seconds(self) -> float:
        """The sum of what was observed."""
        return self.page.rows[self.at]

    @property
    def used(self) -> bool:
        """Whether anything was observed."""
        return any(self.page.rows[self.at : self.at + self.size])

    @property
    def total(self) -> int:
        """The number of observations."""
        return int(sum(self.page.rows[self.at + 1 : self.at + self.size]))

    def observe(self, bounds: tuple[float, ...], seconds: float) -> None:
        """Count one observation."""
        cells = self.page.rows
        cells[self.at + 1 + bisect_left(bounds, seconds)] += 1.0
        cells[self.at] += seconds

    def cells(self) -> list[float]:
        """Return the sum and the counts."""
        return self.page.rows[self.at : self.at + self.size].tolist()

    @classmethod
    def of(cls, cells: Sequence[float]) -> "Histogram":
        """Return a histogram of :meth:`cells`, in a row of its own."""
        made = cls(len(cells) - 2)
        made.page.rows[made.at : made.at + made.size] = array("d", cells)
        return made

    def __add__(self, other: "Histogram") -> "Histogram":
        """Return the sum of both, which may be one of them."""
        if not other.used:
            return self
        return Histogram.of([a + b for a, b in zip(self.cells(), other.cells(), strict=True)])

    def __eq__(self, other: object) -> bool:
        """Compare what was counted."""
        return isinstance(other, Histogram) and self.cells() == other.cells()

    __hash__ = None  # type: ignore[assignment] # it changes with every request

    def __repr__(self) -> str:
        """Show what was counted."""
        return f"<Histogram {self.total} in {self.sum_seconds:.6f} s>"


def encode_row(value: Any) -> list[float] | int:
    """
    Return the form in which a histogram is sent; msgspec asks for what it does not know.

    Of one that counted nothing, the number of its bounds: of ten thousand routes, most
    are asked for seldom.
    """
    if isinstance(value, Histogram):
        return value.cells() if value.used else value.size - 2
    raise NotImplementedError(f"a {type(value).__name__} is no part of a tally")


def decode_row(kind: type, value: Any) -> object:
    """Return the histogram that was sent; what is declared as any object stays as it is."""
    if kind is Histogram:
        return Histogram(value) if isinstance(value, int) else Histogram.of(value)
    if kind is object:
        return value
    raise NotImplementedError(f"a {kind.__name__} is no part of a tally")


class RouteTally(msgspec.Struct, gc=False):
    """Requests of one route."""

    others: dict[str, int]
    """Completed requests by ``METHOD code``, but for those of :data:`USUAL`."""
    durations: Histogram
    """From the last byte of the request's head to the last byte of the answer, of each."""

    def answers(self) -> Mapping[str, int]:
        """Return completed requests by ``METHOD code``."""
        usual = self.durations.total - sum(self.others.values())
        return {USUAL: usual, **self.others} if usual else self.others


class BackendTally(msgspec.Struct, gc=False):
    """What happened towards one backend."""

    durations: Histogram
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


class Tally(msgspec.Struct):
    """Everything that one worker counts."""

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
    match: Histogram = msgspec.field(default_factory=lambda: Histogram(len(MATCH_SECONDS)))
    """Time to find a route, sampled."""
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

    def keep(self, *, routes: Collection[str], backends: Collection[str]) -> None:
        """Forget the routes and backends that are not named."""
        self.routes = {name: found for name, found in self.routes.items() if name in routes}
        self.backends = {name: found for name, found in self.backends.items() if name in backends}


class Rows(msgspec.Struct, frozen=True, gc=False):
    """What some routes and backends have counted."""

    routes: dict[str, RouteTally]
    backends: dict[str, BackendTally]

    def packed(self) -> bytes:
        """Return the form in which they are sent and kept until somebody wants to know."""
        return _PACKER.encode(self)


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker told when it was last asked."""

    tally: Tally
    """All but the routes and backends."""
    rows: Sequence[bytes]
    """These, as :meth:`Rows.packed`."""

    def read_in_steps(self) -> Generator[None, None, Tally]:
        """Return the whole tally, a new one, and stop after some of its rows."""
        routes: dict[str, RouteTally] = {}
        backends: dict[str, BackendTally] = {}
        for packed in self.rows:
            rows = _UNPACKER.decode(packed)
            routes.update(rows.routes)
            backends.update(rows.backends)
            yield
        return msgspec.structs.replace(self.tally, routes=routes, backends=backends)


_PACKER: Final = msgspec.msgpack.Encoder(enc_hook=encode_row)
_UNPACKER: Final = msgspec.msgpack.Decoder(Rows, dec_hook=decode_row)


def count(counters: dict[str, int], word: str) -> None:
    """Add one to a counter that may be new; ``word`` is from a closed set."""
    counters[word] = counters.get(word, 0) + 1
