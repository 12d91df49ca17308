"""
The operator's metrics.

Names and labels are public: dashboards depend on them. Most are read from the
objects that know them at the moment somebody scrapes; only durations are
recorded when they happen. Label values come from closed sets.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairway_operator.compiler import Standing
from fairway_operator.findings import Severity
from fairway_operator.inbox import Inbox
from fairway_operator.kube.lease import Lease
from fairway_operator.outbox import Outbox
from fairway_operator.publisher import Publisher
from fairway_operator.reconciler import Commit, Reconciler
from fairway_operator.refs import Kind
from fairway_operator.resync import ListState, Resync
from fairway_snapshot.digest import Digest, short

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class _Unacknowledged:
    """A snapshot on its way to the data planes."""

    root: Digest
    first_event_at: float
    waiting: set[str]


class Propagation:
    """Measures the time from the first event of a batch to its last acknowledgement."""

    def __init__(self, observe: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._observe = observe
        self._clock = clock
        self._current: _Unacknowledged | None = None

    def published(self, commit: Commit, instances: set[str]) -> None:
        """Begin to wait; a snapshot that was overtaken is not measured."""
        root = commit.compilation.snapshot.root
        self._current = _Unacknowledged(root, commit.first_event_at, instances)

    def acked(self, instance: str, root: Digest) -> None:
        """Note one acknowledgement."""
        current = self._current
        if current is None or current.root != root or instance not in current.waiting:
            return
        current.waiting.discard(instance)
        if not current.waiting:
            self._observe(self._clock() - current.first_event_at)
            self._current = None

    def left(self, instance: str) -> None:
        """Do not wait for a data plane that is gone."""
        if self._current is not None:
            self._current.waiting.discard(instance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts that metrics and the admin port read from."""

    inbox: Inbox
    reconciler: Reconciler
    publisher: Publisher
    outbox: Outbox
    lease: Lease
    resync: Resync
    watch_restarts: Callable[[], dict[Kind, int]]
    watch_lists: Callable[[], dict[Kind, int]]


@dataclass(slots=True)
class OperatorMetrics:
    """The registry, and what is recorded into it."""

    parts: Parts
    clock: Callable[[], float]
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    compile_seconds: Histogram = field(init=False)
    propagation: Propagation = field(init=False)
    _reviews: CounterMetric = field(init=False)
    _review_seconds: Histogram = field(init=False)

    def __post_init__(self) -> None:
        """Register everything."""
        self.compile_seconds = Histogram(
            "fairway_compile_seconds",
            "From taking a batch of events to its snapshot.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        propagation = Histogram(
            "fairway_propagation_seconds",
            "From the first event of a batch to the last acknowledgement of its snapshot.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.propagation = Propagation(propagation.observe, self.clock)
        self._reviews = CounterMetric(
            "fairway_admission_reviews",
            "Answers to the API server: allowed, warned, refused, malformed or failed.",
            labelnames=["kind", "verdict"],
            registry=self.registry,
        )
        self._review_seconds = Histogram(
            "fairway_admission_review_seconds",
            "From the last byte of a review to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_PartsCollector(self.parts))

    def reviewed(self, kind: str, verdict: str, seconds: float) -> None:
        """Count an answer of the webhook."""
        self._reviews.labels(kind, verdict).inc()
        self._review_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return everything in the exposition format."""
        return generate_latest(self.registry)


class _PartsCollector(Collector):
    """Reads the parts when somebody scrapes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield every family that is not a duration."""
        yield from self._objects()
        yield from self._lists()
        yield from self._stream()
        yield from self._outbox()
        yield GaugeMetricFamily(
            "fairway_leader", "1 on the replica that writes.", value=self._parts.lease.leading
        )
        yield GaugeMetricFamily(
            "fairway_inbox_pending",
            "Objects with events that are not compiled yet.",
            value=len(self._parts.inbox),
        )

    def _objects(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "fairway_objects",
            "Objects by kind: known, served, with errors, and in quarantine:"
            " in an older version (last-good), or answering 503 in part (closed).",
            labels=["kind", "state"],
        )
        compilation = self._parts.reconciler.compilation
        served = [ref.kind for ref in compilation.serving] if compilation else []
        standing = Counter(
            (ref.kind, serving.standing)
            for ref, serving in (compilation.serving if compilation else {}).items()
        )
        faulty = [
            ref.kind
            for ref, findings in (compilation.findings if compilation else {}).items()
            if any(finding.severity is Severity.ERROR for finding in findings)
        ]
        for kind in Kind:
            family.add_metric([kind, "known"], len(self._parts.inbox.known(kind)))
            family.add_metric([kind, "served"], served.count(kind))
            family.add_metric([kind, "faulty"], faulty.count(kind))
            for state in (Standing.LAST_GOOD, Standing.CLOSED):
                family.add_metric([kind, state], standing[kind, state])
        yield family

    def _lists(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "fairway_list_state",
            "1 for how the last list of a kind went.",
            labels=["kind", "state"],
        )
        completed = GaugeMetricFamily(
            "fairway_list_age_seconds", "Since the last complete list of a kind.", labels=["kind"]
        )
        for kind, status in self._parts.resync.kinds.items():
            for state in ListState:
                states.add_metric([kind, state], status.state is state)
            age = self._parts.resync.age_seconds(kind)
            if age is not None:
                completed.add_metric([kind], age)
        yield states
        yield completed
        restarts = CounterMetricFamily(
            "fairway_watch_restarts",
            "Watches that stopped and were started again.",
            labels=["kind"],
        )
        for kind, count in self._parts.watch_restarts().items():
            restarts.add_metric([kind], count)
        yield restarts
        lists = CounterMetricFamily(
            "fairway_watch_lists",
            "Lists that a watch began with: at its start, and when what it knew was too old (410).",
            labels=["kind"],
        )
        for kind, count in self._parts.watch_lists().items():
            lists.add_metric([kind], count)
        yield lists

    def _stream(self) -> Iterator[Metric]:
        reconciler = self._parts.reconciler
        root = reconciler.compilation.snapshot.root if reconciler.compilation else None
        subscribers = self._parts.publisher.subscribers()
        refused = sum(1 for each in subscribers if each.refused_reason)
        current = sum(1 for each in subscribers if each.root == root and not each.refused_reason)
        family = GaugeMetricFamily(
            "fairway_subscribers",
            "Connected data planes: at the newest snapshot, behind it, or refusing it.",
            labels=["state"],
        )
        family.add_metric(["current"], current)
        family.add_metric(["behind"], len(subscribers) - current - refused)
        family.add_metric(["refused"], refused)
        yield family
        info = GaugeMetricFamily(
            "fairway_snapshot_info", "The newest snapshot.", labels=["digest", "sequence"]
        )
        if root is not None:
            info.add_metric([short(root), str(reconciler.position.sequence)], 1)
        yield info

    def _outbox(self) -> Iterator[Metric]:
        outbox = self._parts.outbox
        yield GaugeMetricFamily(
            "fairway_outbox_pending", "Effects that wait to be written.", value=len(outbox)
        )
        yield GaugeMetricFamily(
            "fairway_outbox_pace",
            "Writes in a second that the API server is given at most, at present.",
            value=outbox.pace,
        )
        attempts = CounterMetricFamily(
            "fairway_outbox_attempts", "Attempts to write an effect.", labels=["outcome"]
        )
        for outcome, count in outbox.counters.outcomes.items():
            attempts.add_metric([outcome], count)
        yield attempts
        yield CounterMetricFamily(
            "fairway_outbox_superseded",
            "Effects that never had to be written.",
            value=outbox.counters.superseded,
        )
