"""
Every metric of the data plane.

The hot path adds to plain integers in a :class:`~fairway_dataplane.tally.Tally`;
prometheus-client guards each counter with a lock, so it is used only here, in
the supervisor, when someone scrapes. Each worker has a tally, and a metric is
their sum, with the workers that are gone: a counter never goes backwards
because a worker was replaced.

Names and labels are public: dashboards depend on them. Label values come from
closed sets or from the snapshot, never from a request.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fairway_dataplane.tally import (
    DURATION_SECONDS,
    MATCH_SECONDS,
    BackendTally,
    Histogram,
    Tally,
)

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
    total = Tally()
    for tally in tallies:
        total = cast("Tally", _add(total, tally))
    return total


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


def render(readings: Readings) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(TallyCollector(readings))
    return generate_latest(registry)


class TallyCollector(Collector):
    """Show readings as metric families."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        tally = self._readings.tally
        yield from _of_routes(tally)
        yield from _of_backends(tally)
        yield from _of_connections(tally)
        yield from _of_overload(tally)
        yield from _of_snapshot(self._readings)
        yield _histogram(
            "fairway_router_match_seconds",
            "Time to find the route of a request, sampled.",
            MATCH_SECONDS,
            {(): tally.match},
        )
        yield _gauge("fairway_workers", "Worker processes that serve.", self._readings.workers)
        yield _counter(
            "fairway_bugs", "Exchanges that ended by an unexpected exception.", {(): tally.bugs}
        )


def _of_routes(tally: Tally) -> Iterator[Metric]:
    yield _counter(
        "fairway_requests",
        "Requests that were answered.",
        {
            (route, *reversed(word.split(" ", 1))): number
            for route, counted in tally.routes.items()
            for word, number in counted.answers().items()
        },
        ("route", "code", "method"),
    )
    yield _histogram(
        "fairway_request_duration_seconds",
        "From the end of the request's head to the end of the answer.",
        DURATION_SECONDS,
        {(route,): counted.durations for route, counted in tally.routes.items()},
        ("route",),
    )
    yield _counter(
        "fairway_rejected_requests",
        "Requests that Fairway answered or dropped itself.",
        {(reason,): number for reason, number in tally.rejected.items()},
        ("reason",),
    )
    yield _counter(
        "fairway_terminations",
        "Exchanges that ended otherwise than well after their answer had begun.",
        {(reason,): number for reason, number in tally.terminations.items()},
        ("reason",),
    )
    yield _gauge("fairway_requests_active", "Requests in flight.", tally.requests_active)


def _of_backends(tally: Tally) -> Iterator[Metric]:
    backends = tally.backends
    yield _histogram(
        "fairway_upstream_request_duration_seconds",
        "From the request's head sent to the answer's head received.",
        DURATION_SECONDS,
        {(name,): counted.durations for name, counted in backends.items()},
        ("backend",),
    )
    yield _gauges(
        "fairway_upstream_connections",
        "Connections to backends.",
        {
            (name, state): number
            for name, counted in backends.items()
            for state, number in (("active", counted.active), ("idle", counted.idle))
        },
        ("backend", "state"),
    )
    yield _counter(
        "fairway_upstream_errors",
        "Failed attempts to have a backend answer.",
        {
            (name, reason): number
            for name, counted in backends.items()
            for reason, number in counted.errors.items()
        },
        ("backend", "reason"),
    )
    for word, help_text in (
        ("connects", "Connections opened to backends."),
        ("reuses", "Requests sent on a kept connection."),
        ("retries", "Further attempts after the first."),
    ):
        yield _counter(
            f"fairway_upstream_{word}",
            help_text,
            {(name,): getattr(counted, word) for name, counted in backends.items()},
            ("backend",),
        )
    yield from _of_health(backends)


def _of_health(backends: Mapping[str, BackendTally]) -> Iterator[Metric]:
    for name, text, field, label in (
        ("ejections", "Endpoints taken out of the choice, by why.", "ejections", "reason"),
        ("health_checks", "Health checks of endpoints, by result.", "checks", "result"),
    ):
        yield _counter(
            f"fairway_upstream_{name}",
            text,
            {
                (backend, word): number
                for backend, counted in backends.items()
                for word, number in getattr(counted, field).items()
            },
            ("backend", label),
        )
    yield _gauges(
        "fairway_upstream_endpoints",
        "Endpoints by how they stand with each worker; the sum over workers.",
        {
            (backend, state): number
            for backend, counted in backends.items()
            for state, number in counted.endpoints.items()
        },
        ("backend", "state"),
    )
    yield _gauges(
        "fairway_upstream_panicking",
        "Workers that follow no health checks, because too many endpoints do not pass them.",
        {(backend,): counted.panicking for backend, counted in backends.items() if counted.checks},
        ("backend",),
    )
    yield _gauges(
        "fairway_upstream_concurrency_limit",
        "Requests in flight that adaptive concurrency allows; the sum over workers.",
        {(backend,): counted.limit for backend, counted in backends.items() if counted.limit},
        ("backend",),
    )


def _of_connections(tally: Tally) -> Iterator[Metric]:
    yield _counter(
        "fairway_downstream_connections_accepted",
        "Connections from clients.",
        {(): tally.connections_accepted},
    )
    yield _counter(
        "fairway_downstream_connections_refused",
        "Connections closed at once, because there were too many.",
        {(): tally.connections_refused},
    )
    yield _counter(
        "fairway_downstream_connections_evicted",
        "Idle connections closed to make room for others.",
        {(): tally.connections_evicted},
    )
    yield _gauges(
        "fairway_downstream_connections",
        "Connections of clients.",
        {("http/1.1",): tally.connections_open},
        ("protocol",),
    )
    yield _gauge(
        "fairway_downstream_connections_arriving",
        "Connections before the end of their PROXY header or TLS handshake.",
        tally.connections_arriving,
    )
    yield _counter(
        "fairway_tls_handshakes",
        "TLS handshakes with clients.",
        {_handshake(word): number for word, number in tally.handshakes.items()},
        ("version", "resumed", "result"),
    )
    yield _gauge("fairway_tunnels_active", "Upgraded connections.", tally.tunnels_active)
    yield _counter(
        "fairway_access_log_lines_dropped",
        "Lines of the access log that were lost because nobody read them in time.",
        {(): tally.log_lines_dropped},
    )
    yield _counter("fairway_bytes_in", "Body bytes from clients.", {(): tally.bytes_in})
    yield _counter("fairway_bytes_out", "Bytes to clients.", {(): tally.bytes_out})


def _of_overload(tally: Tally) -> Iterator[Metric]:
    yield _gauges(
        "fairway_overloaded_workers",
        "Workers that shed requests (memory) or do not accept connections (descriptors) now.",
        {("memory",): tally.shedding, ("descriptors",): tally.accepting_paused},
        ("resource",),
    )
    yield _counter(
        "fairway_overloads",
        "Times that a worker ran short of a resource.",
        {(resource,): tally.overloads.get(resource, 0) for resource in ("memory", "descriptors")},
        ("resource",),
    )
    yield _gauge("fairway_worker_resident_bytes", "Memory of all workers.", tally.resident_bytes)


def _of_snapshot(readings: Readings) -> Iterator[Metric]:
    if readings.digest:
        yield _gauges(
            "fairway_snapshot_info",
            "The snapshot that is served; always 1.",
            {(readings.digest, str(readings.sequence)): 1},
            ("digest", "sequence"),
        )
        yield _gauge(
            "fairway_snapshot_applied_timestamp_seconds",
            "Unix time of the last change of snapshot.",
            readings.applied_at,
        )
    yield _counter(
        "fairway_snapshot_rejected",
        "Snapshots that were refused.",
        {(reason,): number for reason, number in readings.rejected.items()},
        ("reason",),
    )
    yield _gauges(
        "fairway_certificate_expiry_seconds",
        "Seconds until the certificate of a server name expires.",
        {(host,): left for host, left in readings.certificate_seconds.items()},
        ("host",),
    )
    yield _gauge(
        "fairway_stream_connected", "1 while an operator is connected.", int(readings.connected)
    )


def _handshake(word: str) -> tuple[str, ...]:
    version, resumed, result = word.split(" ", 2)
    return version, resumed, result


def _counter(
    name: str, text: str, values: Mapping[tuple[str, ...], float], labels: tuple[str, ...] = ()
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for row, value in values.items():
        family.add_metric(row, value)
    return family


def _gauges(
    name: str, text: str, values: Mapping[tuple[str, ...], float], labels: tuple[str, ...]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for row, value in values.items():
        family.add_metric(row, value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _histogram(
    name: str,
    text: str,
    bounds: tuple[float, ...],
    values: Mapping[tuple[str, ...], Histogram],
    labels: tuple[str, ...] = (),
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    edges = [*(repr(bound) for bound in bounds), "+Inf"]
    for row, histogram in values.items():
        buckets: list[tuple[str, float]] = []
        seen = 0
        for edge, count in zip(edges, histogram.counts, strict=True):
            seen += count
            buckets.append((edge, seen))
        family.add_metric(row, buckets, histogram.sum_seconds)
    return family


def _add(left: Any, right: Any) -> Any:
    """Add two values of the shapes that a tally is made of."""
    if isinstance(left, msgspec.Struct):
        names = left.__struct_fields__
        return type(left)(
            **{name: _add(getattr(left, name), getattr(right, name)) for name in names}
        )
    if isinstance(left, dict):
        joined = dict(left)
        for key, value in right.items():
            joined[key] = _add(joined[key], value) if key in joined else value
        return joined
    return left + right
