"""
The routing table: a snapshot in the shape that a request wants.

A table is never changed. ``Tables.swap`` replaces the reference; a request
reads the reference once, when its head is complete, and keeps that table until
it ends. The last such request frees the old table: its reference count is the
grace period, so there is no lock and no epoch, and nothing in a table may
refer back to it.

A table costs what changed: hosts that did not change are shared with the table
before, and of a host that did change, the routes that did not. It is built in
steps, because a worker goes on serving meanwhile; so is what only the old one
held let go of.

Most hosts of a large table have one route for every path. Such a route stands
in an index of its own, so that finding it touches nothing but its entry: of
ten thousand hosts none is in the processor's cache.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from functools import partial

import msgspec

from fairway_dataplane.clock import NEVER
from fairway_dataplane.exchange import Exchange, Filter, field_pairs
from fairway_dataplane.filters import build_chain
from fairway_dataplane.limits import Limits
from fairway_dataplane.pages import Page
from fairway_dataplane.tally import RouteTally, Tally
from fairway_dataplane.upstream.balancer import Split
from fairway_dataplane.upstream.pool import Backend, Upstreams
from fairway_snapshot import shards
from fairway_snapshot.diff import Change
from fairway_snapshot.matcher import (
    HostIndex,
    HostIndexDraft,
    HostMatcher,
    build_host_matcher_in_steps,
    takes_every_path,
)
from fairway_snapshot.model import HostPattern, Route, Section, VirtualHost
from fairway_snapshot.shards import MASK, Draft, Sharded, Shards
from fairway_snapshot.steps import finished

RETRY_ATTEMPTS = 1
"""Further attempts of a route that does not say; only where RFC 9110 allows any."""


class RouteEntry:
    """
    What a matched request reads, and nothing that only a person reads; never changed.

    What every request reads stands first where it is compiled, as numbers and not as objects:
    of ten thousand routes none is in the processor's cache. In each of the ``_seconds`` the
    setting is applied already; :data:`NEVER` is no limit.
    """

    __slots__ = (
        "allow_encoded_slash", "at", "backend", "backend_request_seconds", "chain",
        "connect_seconds", "idle_seconds", "max_body_bytes", "name", "page", "request_seconds",
        "retry_attempts", "retry_budget", "retry_codes", "split", "tally",
    )  # fmt: skip

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
    page: Page
    """Where its durations are counted, in the row at ``at``; both are those of ``tally``."""
    at: int
    tally: RouteTally

    def __init__(
        self,
        route: Route,
        *,
        limits: Limits,
        backend: Backend | None,
        split: Split[Backend] | None,
        tally: RouteTally,
    ) -> None:
        timeouts, retry = route.timeouts, route.retry
        per_try = None if retry is None else retry.per_try_timeout
        self.name = route.name
        self.chain = build_chain(route.filters)
        self.backend = backend
        self.split = split
        self.request_seconds = _seconds(timeouts.request, limits.request_seconds)
        self.backend_request_seconds = _seconds(
            timeouts.backend_request if per_try is None else per_try,
            limits.backend_request_seconds,
        )
        self.connect_seconds = _seconds(timeouts.connect, limits.connect_seconds)
        self.idle_seconds = _seconds(timeouts.idle, limits.backend_idle_seconds)
        self.retry_attempts = RETRY_ATTEMPTS if retry is None else retry.attempts
        self.retry_codes = _NO_CODES if retry is None else frozenset(retry.codes)
        self.retry_budget = None if retry is None else retry.budget
        self.allow_encoded_slash = route.allow_encoded_slash
        self.max_body_bytes = (
            limits.body_bytes if route.max_body_bytes is None else route.max_body_bytes
        )
        self.page = tally.durations.page
        self.at = tally.durations.at
        self.tally = tally


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


class HostInfo(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What the debug page and the next table read of a host."""

    virtual_host: VirtualHost
    entries: tuple[RouteEntry, ...]
    """One for each route, in order of precedence."""


class RoutingTable:
    """Hosts to routes, ready to match."""

    __slots__ = ("_index", "_lone", "hosts")

    hosts: Mapping[HostPattern, HostInfo]

    def __init__(
        self,
        lone: Shards[bytes, RouteEntry],
        index: HostIndex[HostEntry],
        hosts: Sharded[HostPattern, HostInfo],
    ) -> None:
        """Take hosts with one route for every path, all others, and what a person reads of both."""
        self._lone = lone
        self._index = index
        self.hosts = hosts

    def match(self, exchange: Exchange) -> RouteEntry | None:
        """Return the route of a request; the host is chosen first, and its routes alone asked."""
        host = exchange.host
        shard = self._lone[hash(host) & MASK]
        entry = shard.get(host)
        if entry is not None:
            return entry if exchange.path[:1] == b"/" else None
        found = self._index.find(host)
        return None if found is None else found.match(exchange)

    def routes(self) -> Iterator[tuple[HostPattern, Route]]:
        """Yield every route with its host, for people and for :meth:`Tally.keep`."""
        for pattern, info in self.hosts.items():
            for route in info.virtual_host.routes:
                yield pattern, route

    def parts(self) -> Iterator[object]:
        """Yield what the table is made of: let go of one by one, it stops nobody for long."""
        yield from self._lone
        yield from self._index.parts()
        assert isinstance(self.hosts, Sharded)
        yield from self.hosts.shards


EMPTY = RoutingTable(shards.EMPTY, HostIndex({}), Sharded())


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
    return finished(
        build_table_in_steps(previous, changes, upstreams=upstreams, limits=limits, tally=tally)
    )


def build_table_in_steps(
    previous: RoutingTable,
    changes: Iterable[Change],
    *,
    upstreams: Upstreams,
    limits: Limits,
    tally: Tally,
) -> Generator[None, None, RoutingTable]:
    """Do as :func:`build_table`, and stop after each route and each change."""
    builder = _Builder(previous, upstreams, limits, tally)
    changed = False
    for change in changes:
        if change.section is Section.HOSTS:
            assert change.after is None or isinstance(change.after, VirtualHost)
            yield from builder.change(HostPattern(change.key), change.after)
            changed = True
        yield
    return builder.table() if changed else previous


class _Builder:
    """The next table, while it is made."""

    def __init__(
        self, previous: RoutingTable, upstreams: Upstreams, limits: Limits, tally: Tally
    ) -> None:
        self._previous = previous.hosts
        self._upstreams = upstreams
        self._limits = limits
        self._tally = tally
        assert isinstance(previous.hosts, Sharded)
        self._hosts: Draft[HostPattern, HostInfo] = Draft(previous.hosts.shards)
        self._lone = Draft(previous._lone)  # noqa: SLF001 - its own kind
        self._index = HostIndexDraft(previous._index)  # noqa: SLF001

    def change(
        self, pattern: HostPattern, virtual_host: VirtualHost | None
    ) -> Generator[None, None, None]:
        """Set the routes of a host; None removes it."""
        lone: RouteEntry | None = None
        several: HostEntry | None = None
        info: HostInfo | None = None
        if virtual_host is not None:
            known = self._known(pattern)
            entries: list[RouteEntry] = []

            # Not a function in here: where it is compiled, it and this generator would hold each
            # other, and the entries with them.
            make = partial(self._make, known, entries)
            if pattern and pattern[0] != "*" and _is_lone(virtual_host):
                lone = make(virtual_host.routes[0])
            else:
                matcher = yield from build_host_matcher_in_steps(virtual_host, make)
                reads_fields = any(route.match.headers for route in virtual_host.routes)
                several = HostEntry(matcher, reads_fields=reads_fields)
            info = HostInfo(virtual_host, tuple(entries))
        self._lone.put(pattern.encode(), lone)
        self._index.put(pattern, several)
        self._hosts.put(pattern, info)

    def table(self) -> RoutingTable:
        """Return what was made."""
        return RoutingTable(self._lone.shards(), self._index.index(), Sharded(self._hosts.shards()))

    def _make(
        self, known: Mapping[Route, RouteEntry], entries: list[RouteEntry], route: Route
    ) -> RouteEntry:
        """Add the entry of a route to ``entries``: a known one, if there is."""
        entries.append(known.get(route) or self._entry(route))
        return entries[-1]

    def _known(self, pattern: HostPattern) -> dict[Route, RouteEntry]:
        """Return the entries that the host has now, to keep those whose route stays."""
        before = self._previous.get(pattern)
        if before is None:
            return {}
        return dict(zip(before.virtual_host.routes, before.entries, strict=True))

    def _entry(self, route: Route) -> RouteEntry:
        backend, split = self._upstream(route)
        return RouteEntry(
            route,
            limits=self._limits,
            backend=backend,
            split=split,
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


_NO_CODES: frozenset[int] = frozenset()
"""Shared by all, like the limits of the settings: what every route reads stays in the cache."""


def _is_lone(virtual_host: VirtualHost) -> bool:
    routes = virtual_host.routes
    return len(routes) == 1 and takes_every_path(routes[0].match)


def _seconds(value: float | None, setting: float) -> float:
    """Return the limit that holds: the route's, else the setting's; 0 is none."""
    return (setting if value is None else value) or NEVER
