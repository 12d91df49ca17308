"""
What one worker has counted since it started.

Plain integers that one event loop owns: ``+= 1`` needs no lock there. The
supervisor asks for a tally, adds those of its workers up and shows them as
metrics; nothing here knows of that. A tally is sent as msgpack, so it is made
of structs, lists and dicts only. Names of routes and backends outlive the
tables that hold them, so that a counter never goes backwards while its route
lives.
"""

from bisect import bisect_left
from collections.abc import Collection

import msgspec

DURATION_SECONDS: tuple[float, ...] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds of the buckets of a request's duration; one more bucket is above the last."""

MATCH_SECONDS: tuple[float, ...] = (
    0.000001, 0.000002, 0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.001, 0.01,
)  # fmt: skip
"""Upper bounds of the buckets of the time that finding a route takes."""


class Histogram(msgspec.Struct, array_like=True):
    """Counts for each bucket, not cumulative, and the sum of what was observed."""

    counts: list[int]
    sum_seconds: float = 0.0

    def observe(self, bounds: tuple[float, ...], seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(bounds, seconds)] += 1
        self.sum_seconds += seconds


class RouteTally(msgspec.Struct):
    """Requests of one route."""

    requests: dict[str, int]
    """Completed requests by ``METHOD code``."""
    durations: Histogram
    """From the last byte of the request's head to the last byte of the answer."""


class BackendTally(msgspec.Struct):
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
    match: Histogram = msgspec.field(
        default_factory=lambda: Histogram([0] * (len(MATCH_SECONDS) + 1))
    )
    """Time to find a route, sampled."""
    routes: dict[str, RouteTally] = msgspec.field(default_factory=dict)
    backends: dict[str, BackendTally] = msgspec.field(default_factory=dict)

    def route(self, name: str) -> RouteTally:
        """Return the counters of a route, new ones for a new route."""
        found = self.routes.get(name)
        if found is None:
            found = RouteTally({}, Histogram([0] * (len(DURATION_SECONDS) + 1)))
            self.routes[name] = found
        return found

    def backend(self, name: str) -> BackendTally:
        """Return the counters of a backend, new ones for a new backend."""
        found = self.backends.get(name)
        if found is None:
            found = BackendTally(Histogram([0] * (len(DURATION_SECONDS) + 1)))
            self.backends[name] = found
        return found

    def keep(self, *, routes: Collection[str], backends: Collection[str]) -> None:
        """Forget the routes and backends that are not named; called after a swap, seldom."""
        self.routes = {name: found for name, found in self.routes.items() if name in routes}
        self.backends = {name: found for name, found in self.backends.items() if name in backends}


def count(counters: dict[str, int], word: str) -> None:
    """Add one to a counter that may be new; ``word`` is from a closed set."""
    counters[word] = counters.get(word, 0) + 1
