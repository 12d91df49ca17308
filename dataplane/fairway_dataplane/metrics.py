"""
Every metric of the data plane.

The hot path adds to plain integers in a :class:`~fairway_dataplane.tally.Tally`;
they become metrics only here, in the supervisor, when someone scrapes. Each worker
has a tally, and a metric is their sum, with the workers that are gone: a counter
never goes backwards because a worker was replaced.

To add and to show ten thousand routes takes a while, and so it is done in parts.

Names and labels are public: dashboards depend on them. Label values come from
closed sets or from the snapshot, never from a request.
"""

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from fairway_dataplane.exposition import Family, counter, gauge, histogram, write
from fairway_dataplane.tally import (
    DURATION_SECONDS,
    MATCH_SECONDS,
    BackendTally,
    RouteTally,
    Tally,
)
from fairway_snapshot.steps import finished

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Counted = TypeVar("_Counted", RouteTally, BackendTally)

_LEVELS = frozenset(
    {
        "accepting_paused", "active", "connections_arriving", "connections_open", "idle",
        "requests_active", "resident_bytes", "shedding", "tunnels_active",
    }
)  # fmt: skip
"""Fields that say how many there are now, and so end with their worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Everything that one scrape shows."""

    tally: Tally
    digest: str
    """Short digest of the snapshot that is served; empty before the first."""
    sequence: int
    applied_at: float
    """Unix time of the last change of snapshot; 0.0 before the first."""
    rejected: Mapping[str, int]
    """Refused snapshots by ``verify``, ``apply`` or ``store``."""
    certificate_seconds: Mapping[str, float]
    """Seconds until the certificate of each server name expires."""
    workers: int
    """Worker processes that serve."""
    connected: bool
    """The stream from an operator is up."""


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of tallies; none of them is changed."""
    return finished(sum_in_steps(tallies))


def sum_in_steps(tallies: Iterable[Tally]) -> Generator[None, None, Tally]:
    """Do as :func:`sum_of`, and stop after each route and each backend."""
    total = Tally()
    routes: dict[str, RouteTally] = {}
    backends: dict[str, BackendTally] = {}
    for tally in tallies:
        total = _sum(total, msgspec.structs.replace(tally, routes={}, backends={}))
        yield from _join(routes, tally.routes)
        yield from _join(backends, tally.backends)
    return msgspec.structs.replace(total, routes=routes, backends=backends)


def matches(tallies: Iterable[Tally]) -> list[int]:
    """Return the sum of the buckets of ``match`` alone."""
    return [sum(column) for column in zip(*(each.match.counts for each in tallies), strict=True)]


def retired(tally: Tally) -> Tally:
    """Return what remains of the tally of a worker that is gone: what it counted, no levels."""
    backends = {
        name: msgspec.structs.replace(backend, active=0, idle=0, endpoints={}, panicking=0, limit=0)
        for name, backend in tally.backends.items()
    }
    levels: dict[str, Any] = {name: 0 for name in _LEVELS if name in tally.__struct_fields__}
    return msgspec.structs.replace(tally, backends=backends, **levels)


def percentile(bounds: tuple[float, ...], counts: Sequence[int], share: float) -> float:
    """Return the upper bound of the bucket that holds a percentile; infinity above the last."""
    wanted = sum(counts) * share
    seen = 0
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        seen += count
        if seen >= wanted:
            return bound
    return math.inf


def render(readings: Readings) -> Iterator[bytes]:
    """Yield the text that Prometheus reads, in parts."""
    return write(_families(readings))


def _families(readings: Readings) -> Iterator[Family]:
    tally = readings.tally
    yield from _of_routes(tally)
    yield from _of_backends(tally)
    yield from _of_connections(tally)
    yield from _of_overload(tally)
    yield from _of_snapshot(readings)
    yield histogram(
        "fairway_router_match_seconds",
        "Time to find the route of a request, sampled.",
        MATCH_SECONDS,
        [((), tally.match)],
    )
    yield _level("fairway_workers", "Worker processes that serve.", readings.workers)
    yield _count("fairway_bugs", "Exchanges that ended by an unexpected exception.", tally.bugs)


def _of_routes(tally: Tally) -> Iterator[Family]:
    yield counter(
        "fairway_requests",
        "Requests that were answered.",
        (
            ((route, *reversed(word.split(" ", 1))), number)
            for route, counted in tally.routes.items()
            for word, number in counted.answers().items()
        ),
        ("route", "code", "method"),
    )
    yield histogram(
        "fairway_request_duration_seconds",
        "From the end of the request's head to the end of the answer.",
        DURATION_SECONDS,
        (((route,), counted.durations) for route, counted in tally.routes.items()),
        ("route",),
    )
    yield counter(
        "fairway_rejected_requests",
        "Requests that Fairway answered or dropped itself.",
        _words(tally.rejected),
        ("reason",),
    )
    yield counter(
        "fairway_terminations",
        "Exchanges that ended otherwise than well after their answer had begun.",
        _words(tally.terminations),
        ("reason",),
    )
    yield _level("fairway_requests_active", "Requests in flight.", tally.requests_active)


def _of_backends(tally: Tally) -> Iterator[Family]:
    backends = tally.backends
    yield histogram(
        "fairway_upstream_request_duration_seconds",
        "From the request's head sent to the answer's head received.",
        DURATION_SECONDS,
        (((name,), counted.durations) for name, counted in backends.items()),
        ("backend",),
    )
    yield gauge(
        "fairway_upstream_connections",
        "Connections to backends.",
        (
            ((name, state), number)
            for name, counted in backends.items()
            for state, number in (("active", counted.active), ("idle", counted.idle))
        ),
        ("backend", "state"),
    )
    yield counter(
        "fairway_upstream_errors",
        "Failed attempts to have a backend answer.",
        _words_of(backends, "errors"),
        ("backend", "reason"),
    )
    for word, help_text in (
        ("connects", "Connections opened to backends."),
        ("reuses", "Requests sent on a kept connection."),
        ("retries", "Further attempts after the first."),
    ):
        yield counter(
            f"fairway_upstream_{word}",
            help_text,
            _numbers_of(backends, word),
            ("backend",),
        )
    yield from _of_health(backends)


def _of_health(backends: Mapping[str, BackendTally]) -> Iterator[Family]:
    for name, text, field, label in (
        ("ejections", "Endpoints taken out of the choice, by why.", "ejections", "reason"),
        ("health_checks", "Health checks of endpoints, by result.", "checks", "result"),
    ):
        yield counter(
            f"fairway_upstream_{name}",
            text,
            _words_of(backends, field),
            ("backend", label),
        )
    yield gauge(
        "fairway_upstream_endpoints",
        "Endpoints by how they stand with each worker; the sum over workers.",
        _words_of(backends, "endpoints"),
        ("backend", "state"),
    )
    yield gauge(
        "fairway_upstream_panicking",
        "Workers that follow no health checks, because too many endpoints do not pass them.",
        (((name,), counted.panicking) for name, counted in backends.items() if counted.checks),
        ("backend",),
    )
    yield gauge(
        "fairway_upstream_concurrency_limit",
        "Requests in flight that adaptive concurrency allows; the sum over workers.",
        (((name,), counted.limit) for name, counted in backends.items() if counted.limit),
        ("backend",),
    )


def _of_connections(tally: Tally) -> Iterator[Family]:
    yield _count(
        "fairway_downstream_connections_accepted",
        "Connections from clients.",
        tally.connections_accepted,
    )
    yield _count(
        "fairway_downstream_connections_refused",
        "Connections closed at once, because there were too many.",
        tally.connections_refused,
    )
    yield _count(
        "fairway_downstream_connections_evicted",
        "Idle connections closed to make room for others.",
        tally.connections_evicted,
    )
    yield gauge(
        "fairway_downstream_connections",
        "Connections of clients.",
        [(("http/1.1",), tally.connections_open)],
        ("protocol",),
    )
    yield _level(
        "fairway_downstream_connections_arriving",
        "Connections before the end of their PROXY header or TLS handshake.",
        tally.connections_arriving,
    )
    yield counter(
        "fairway_tls_handshakes",
        "TLS handshakes with clients.",
        ((_handshake(word), number) for word, number in tally.handshakes.items()),
        ("version", "resumed", "result"),
    )
    yield _level("fairway_tunnels_active", "Upgraded connections.", tally.tunnels_active)
    yield _count(
        "fairway_access_log_lines_dropped",
        "Lines of the access log that were lost because nobody read them in time.",
        tally.log_lines_dropped,
    )
    yield _count("fairway_bytes_in", "Body bytes from clients.", tally.bytes_in)
    yield _count("fairway_bytes_out", "Bytes to clients.", tally.bytes_out)


def _of_overload(tally: Tally) -> Iterator[Family]:
    yield gauge(
        "fairway_overloaded_workers",
        "Workers that shed requests (memory) or do not accept connections (descriptors) now.",
        [(("memory",), tally.shedding), (("descriptors",), tally.accepting_paused)],
        ("resource",),
    )
    yield counter(
        "fairway_overloads",
        "Times that a worker ran short of a resource.",
        [((short,), tally.overloads.get(short, 0)) for short in ("memory", "descriptors")],
        ("resource",),
    )
    yield _level("fairway_worker_resident_bytes", "Memory of all workers.", tally.resident_bytes)


def _of_snapshot(readings: Readings) -> Iterator[Family]:
    if readings.digest:
        yield gauge(
            "fairway_snapshot_info",
            "The snapshot that is served; always 1.",
            [((readings.digest, str(readings.sequence)), 1)],
            ("digest", "sequence"),
        )
        yield _level(
            "fairway_snapshot_applied_timestamp_seconds",
            "Unix time of the last change of snapshot.",
            readings.applied_at,
        )
    yield counter(
        "fairway_snapshot_rejected",
        "Snapshots that were refused.",
        _words(readings.rejected),
        ("reason",),
    )
    yield gauge(
        "fairway_certificate_expiry_seconds",
        "Seconds until the certificate of a server name expires.",
        (((host,), left) for host, left in readings.certificate_seconds.items()),
        ("host",),
    )
    yield _level(
        "fairway_stream_connected", "1 while an operator is connected.", int(readings.connected)
    )


def _handshake(word: str) -> tuple[str, ...]:
    version, resumed, result = word.split(" ", 2)
    return version, resumed, result


def _count(name: str, text: str, number: float) -> Family:
    return counter(name, text, [((), number)])


def _level(name: str, text: str, number: float) -> Family:
    return gauge(name, text, [((), number)])


def _words(counters: Mapping[str, int]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield rows of one label."""
    return (((word,), number) for word, number in counters.items())


def _words_of(
    backends: Mapping[str, BackendTally], field: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    for name, counted in backends.items():
        for word, number in getattr(counted, field).items():
            yield (name, word), number


def _numbers_of(
    backends: Mapping[str, BackendTally], field: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    return (((name,), getattr(counted, field)) for name, counted in backends.items())


def _join(joined: dict[str, _Counted], more: Mapping[str, _Counted]) -> Generator[None, None, None]:
    for name, counted in more.items():
        known = joined.get(name)
        joined[name] = counted if known is None else _sum(known, counted)
        yield


def _sum(left: _Struct, right: _Struct) -> _Struct:
    """Add two of a kind, field by field."""
    names = left.__struct_fields__
    return type(left)(**{name: _add(getattr(left, name), getattr(right, name)) for name in names})


def _add(left: Any, right: Any) -> Any:
    """Add two values of the shapes that a tally is made of."""
    if isinstance(left, dict):
        joined = dict(left)
        for key, value in right.items():
            joined[key] = _add(joined[key], value) if key in joined else value
        return joined
    return left + right
