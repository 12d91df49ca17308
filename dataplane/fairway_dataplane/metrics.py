"""
Every metric of the data plane.

The hot path adds to plain integers in a :class:`~fairway_dataplane.tally.Tally`;
they become metrics only here, in the supervisor, when someone scrapes. A metric is
the sum of all workers, with those that are gone: a counter never goes backwards
because a worker was replaced.

To show ten thousand routes takes a while, and so it is done in parts.

Names and labels are public: dashboards depend on them. Label values come from
closed sets or from the snapshot, never from a request.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairway_dataplane.exposition import Family, counter, gauge, histogram, write
from fairway_dataplane.tally import (
    DURATION_SECONDS,
    MATCH_SECONDS,
    BackendCounts,
    Cells,
    Counts,
)
from fairway_dataplane.totals import Totals, answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """Everything that one scrape shows."""

    totals: Totals
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


def percentile(bounds: tuple[float, ...], counts: Sequence[float], share: float) -> float:
    """Return the upper bound of the bucket that holds a percentile; infinity above the last."""
    wanted = sum(counts) * share
    seen = 0.0
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        seen += count
        if seen >= wanted:
            return bound
    return math.inf


def render(readings: Readings) -> Iterator[bytes]:
    """Yield the text that Prometheus reads, in parts."""
    return write(_families(readings))


def _families(readings: Readings) -> Iterator[Family]:
    totals = readings.totals
    counts = totals.counts
    yield from _of_routes(totals)
    yield from _of_backends(totals.backends)
    yield from _of_connections(counts)
    yield from _of_overload(counts)
    yield from _of_snapshot(readings)
    yield histogram(
        "fairway_router_match_seconds",
        "Time to find the route of a request, sampled.",
        MATCH_SECONDS,
        [((), counts.match)],
    )
    yield _level("fairway_workers", "Worker processes that serve.", readings.workers)
    yield _count("fairway_bugs", "Exchanges that ended by an unexpected exception.", counts.bugs)


def _of_routes(totals: Totals) -> Iterator[Family]:
    counts = totals.counts
    yield counter(
        "fairway_requests",
        "Requests that were answered.",
        (
            ((route, *reversed(word.split(" ", 1))), number)
            for route, counted in totals.routes.items()
            for word, number in answers(counted).items()
        ),
        ("route", "code", "method"),
    )
    yield histogram(
        "fairway_request_duration_seconds",
        "From the end of the request's head to the end of the answer.",
        DURATION_SECONDS,
        (((route,), counted.durations) for route, counted in totals.routes.items()),
        ("route",),
    )
    yield counter(
        "fairway_rejected_requests",
        "Requests that Fairway answered or dropped itself.",
        _words(counts.rejected),
        ("reason",),
    )
    yield counter(
        "fairway_terminations",
        "Exchanges that ended otherwise than well after their answer had begun.",
        _words(counts.terminations),
        ("reason",),
    )
    yield _level("fairway_requests_active", "Requests in flight.", counts.requests_active)


def _of_backends(backends: Mapping[str, BackendCounts[Cells]]) -> Iterator[Family]:
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


def _of_health(backends: Mapping[str, BackendCounts[Cells]]) -> Iterator[Family]:
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


def _of_connections(counts: Counts[Cells]) -> Iterator[Family]:
    yield _count(
        "fairway_downstream_connections_accepted",
        "Connections from clients.",
        counts.connections_accepted,
    )
    yield _count(
        "fairway_downstream_connections_refused",
        "Connections closed at once, because there were too many.",
        counts.connections_refused,
    )
    yield _count(
        "fairway_downstream_connections_evicted",
        "Idle connections closed to make room for others.",
        counts.connections_evicted,
    )
    yield gauge(
        "fairway_downstream_connections",
        "Connections of clients.",
        [(("http/1.1",), counts.connections_open)],
        ("protocol",),
    )
    yield _level(
        "fairway_downstream_connections_arriving",
        "Connections before the end of their PROXY header or TLS handshake.",
        counts.connections_arriving,
    )
    yield counter(
        "fairway_tls_handshakes",
        "TLS handshakes with clients.",
        ((_handshake(word), number) for word, number in counts.handshakes.items()),
        ("version", "resumed", "result"),
    )
    yield _level("fairway_tunnels_active", "Upgraded connections.", counts.tunnels_active)
    yield _count(
        "fairway_access_log_lines_dropped",
        "Lines of the access log that were lost because nobody read them in time.",
        counts.log_lines_dropped,
    )
    yield _count("fairway_bytes_in", "Body bytes from clients.", counts.bytes_in)
    yield _count("fairway_bytes_out", "Bytes to clients.", counts.bytes_out)


def _of_overload(counts: Counts[Cells]) -> Iterator[Family]:
    yield gauge(
        "fairway_overloaded_workers",
        "Workers that shed requests (memory) or do not accept connections (descriptors) now.",
        [(("memory",), counts.shedding), (("descriptors",), counts.accepting_paused)],
        ("resource",),
    )
    yield counter(
        "fairway_overloads",
        "Times that a worker ran short of a resource.",
        [((short,), counts.overloads.get(short, 0)) for short in ("memory", "descriptors")],
        ("resource",),
    )
    yield _level("fairway_worker_resident_bytes", "Memory of all workers.", counts.resident_bytes)


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
    backends: Mapping[str, BackendCounts[Cells]], field: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    for name, counted in backends.items():
        for word, number in getattr(counted, field).items():
            yield (name, word), number


def _numbers_of(
    backends: Mapping[str, BackendCounts[Cells]], field: str
) -> Iterator[tuple[tuple[str, ...], int]]:
    return (((name,), getattr(counted, field)) for name, counted in backends.items())
