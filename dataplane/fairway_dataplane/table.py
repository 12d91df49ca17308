"""
The routing table: a snapshot in the shape that a request wants.

A table is never changed. ``Tables.swap`` replaces the reference; a request
reads the reference once, when its head is complete, and keeps that table until
it ends. The last such request frees the old table: its reference count is the
grace period, so there is no lock and no epoch, and nothing in a table may
refer back to it.

A table costs what changed: hosts that did not change are shared with the table
before, and of a host that did change, the routes that did not.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fairway_dataplane.clock import NEVER
from fairway_dataplane.exchange import Exchange, Filter, field_pairs
from fairway_dataplane.filters import build_chain
from fairway_dataplane.policy import Limits
from fairway_dataplane.tally import RouteTally, Tally
from fairway_dataplane.upstream.balancer import Split
from fairway_dataplane.upstream.pool import Backend, Upstreams
from fairway_snapshot.diff import Change
from fairway_snapshot.matcher import HostIndex, HostMatcher, build_host_matcher
from fairway_snapshot.model import HostPattern, Route, Section, VirtualHost

RETRY_ATTEMPTS = 1
"""Further attempts of a route that does not say; only where RFC 9110 allows any."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RouteEntry:
    """What a matched request reads, and nothing that only a person reads."""

    name: str
    """``namespace/object/rule``."""
    chain: Filter | None
    backend: Backend | None
    """None with a split, and for a route that its filters answer."""
    split: Split[Backend] | None
    request_seconds: float
    backend_request_seconds: float
    connect_seconds: float
    idle_seconds: float
    retry_attempts: int
    retry_codes: frozenset[int]
    retry_budget: int | None
    """Percent of the backend's requests; None leaves it to the backend."""
    allow_encoded_slash: bool
    max_body_bytes: int
    """0 is no limit."""
    tally: RouteTally


class HostEntry:
    """The routes of one host."""

    __slots__ = ("_matcher", "_reads_fields")

    def __init__(self, matcher: HostMatcher[RouteEntry], *, reads_fields: bool) -> None:
        self._matcher = matcher
        self._reads_fields = reads_fields

    def match(self, exchange: Exchange) -> RouteEntry | None:
        """Return the first route whose conditions hold; fields are read if one asks for any."""
        return self._matcher.match(
            exchange.path,
            exchange.method,
            [(b"host", exchange.authority), *field_pairs(exchange.fields)]
            if self._reads_fields
            else (),
            exchange.query[1:],
        )


@dataclass(frozen=True, slots=True, eq=False)
class HostInfo:
    """What the debug page and the next table read of a host."""

    entry: HostEntry
    routes: tuple[tuple[Route, RouteEntry], ...]
    """In order of precedence."""


@dataclass(frozen=True, slots=True, eq=False)
class RoutingTable:
    """Hosts to routes, ready to match."""

    _index: HostIndex[HostEntry] = field(default_factory=lambda: HostIndex({}))
    hosts: Mapping[HostPattern, HostInfo] = field(default_factory=dict)

    def match(self, exchange: Exchange) -> RouteEntry | None:
        """Return the route of a request; the host is chosen first, and its routes alone asked."""
        host = self._index.find(exchange.host)
        return None if host is None else host.match(exchange)

    def routes(self) -> Iterator[tuple[HostPattern, Route]]:
        """Yield every route with its host, for people and for :meth:`Tally.keep`."""
        for pattern, info in self.hosts.items():
            for route, _ in info.routes:
                yield pattern, route


EMPTY = RoutingTable()


class Tables:
    """The current table. One writer, the snapshot stream; every request reads."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = EMPTY

    def swap(self, table: RoutingTable) -> RoutingTable:
        """Publish ``table`` and return the one it replaces."""
        previous, self.current = self.current, table
        return previous


def build_table(
    previous: RoutingTable,
    changes: Iterable[Change],
    *,
    upstreams: Upstreams,
    limits: Limits,
    tally: Tally,
) -> RoutingTable:
    """
    Return ``previous`` with the changed hosts built anew, or itself if none changed.

    Endpoints are no part of a table: a backend is found by name once, and takes
    its endpoints in place. Raises
    :class:`~fairway_dataplane.rewriting.FilterRefused` or
    :class:`~fairway_snapshot.pattern.InvalidPattern` for a route that cannot be
    served as it is meant; ``previous`` is as good as before then.
    """
    builder = _Builder(upstreams, limits, tally)
    found: dict[HostPattern, HostInfo | None] = {}
    for change in changes:
        if change.section is Section.HOSTS:
            assert change.after is None or isinstance(change.after, VirtualHost)
            pattern = HostPattern(change.key)
            found[pattern] = (
                None
                if change.after is None
                else builder.host(change.after, previous.hosts.get(pattern))
            )
    if not found:
        return previous
    hosts = dict(previous.hosts)
    for pattern, info in found.items():
        if info is None:
            hosts.pop(pattern, None)
        else:
            hosts[pattern] = info
    entries = {pattern: None if info is None else info.entry for pattern, info in found.items()}
    return RoutingTable(previous._index.evolve(entries), hosts)  # noqa: SLF001 - its own kind


class _Builder:
    """Makes entries; what all of them share."""

    def __init__(self, upstreams: Upstreams, limits: Limits, tally: Tally) -> None:
        self._upstreams = upstreams
        self._limits = limits
        self._tally = tally

    def host(self, virtual_host: VirtualHost, previous: HostInfo | None) -> HostInfo:
        known = {} if previous is None else dict(previous.routes)
        made: list[tuple[Route, RouteEntry]] = []

        def make(route: Route) -> RouteEntry:
            entry = known.get(route) or self._entry(route)
            made.append((route, entry))
            return entry

        matcher = build_host_matcher(virtual_host, make)
        reads_fields = any(route.match.headers for route in virtual_host.routes)
        return HostInfo(HostEntry(matcher, reads_fields=reads_fields), tuple(made))

    def _entry(self, route: Route) -> RouteEntry:
        limits, timeouts, retry = self._limits, route.timeouts, route.retry
        backend, split = self._upstream(route)
        per_try = None if retry is None else retry.per_try_timeout
        return RouteEntry(
            name=route.name,
            chain=build_chain(route.filters),
            backend=backend,
            split=split,
            request_seconds=_seconds(timeouts.request, limits.request_seconds),
            backend_request_seconds=_seconds(
                timeouts.backend_request if per_try is None else per_try,
                limits.backend_request_seconds,
            ),
            connect_seconds=_seconds(timeouts.connect, limits.connect_seconds),
            idle_seconds=_seconds(timeouts.idle, limits.backend_idle_seconds),
            retry_attempts=RETRY_ATTEMPTS if retry is None else retry.attempts,
            retry_codes=frozenset(() if retry is None else retry.codes),
            retry_budget=None if retry is None else retry.budget,
            allow_encoded_slash=route.allow_encoded_slash,
            max_body_bytes=(
                limits.body_bytes if route.max_body_bytes is None else route.max_body_bytes
            ),
            tally=self._tally.route(route.name),
        )

    def _upstream(self, route: Route) -> tuple[Backend | None, Split[Backend] | None]:
        parts = [
            (self._upstreams.backend(part.backend), part.weight)
            for part in route.backends
            if part.weight > 0
        ]
        if not parts:
            return None, None
        if len(parts) == 1:
            return parts[0][0], None
        return None, Split(parts)


def _seconds(value: float | None, setting: float) -> float:
    """Return the limit that holds: the route's, else the setting's; 0 is none."""
    return (setting if value is None else value) or NEVER
