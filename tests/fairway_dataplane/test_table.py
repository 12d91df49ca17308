"""The routing table: what it finds, and what it leaves alone when something changes."""

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fairway_dataplane.clock import NEVER, Clock
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.rewriting import FilterRefused
from fairway_dataplane.table import EMPTY, RouteEntry, RoutingTable, Tables, build_table
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.upstream.pool import Upstreams
from fairway_snapshot.diff import Change
from fairway_snapshot.filters import StripPrefix
from fairway_snapshot.model import (
    BackendId,
    PathKind,
    PathMatch,
    Retry,
    Route,
    RouteMatch,
    Section,
    Timeouts,
    ValueKind,
    ValueMatch,
    VirtualHost,
    WeightedBackend,
)
from fairway_snapshot.pattern import InvalidPattern

LIMITS = Limits(request_seconds=0.0, backend_request_seconds=60.0, body_bytes=1000)


class NoSink:
    """A request in these tests is matched and not answered."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AssertionError(name)


class Site:
    """A worker's part that owns a table."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.tally = Tally()
        self.upstreams = Upstreams(loop, Clock(loop), LIMITS, self.tally, ClientContexts(None))
        self.table = EMPTY

    def change(self, **hosts: VirtualHost | None) -> RoutingTable:
        """Apply a change; in a name, ``__`` is a dot and ``wild`` the asterisk."""
        self.table = self.built(
            {
                name.replace("__", ".").replace("wild", "*").replace("any", ""): host
                for name, host in hosts.items()
            }
        )
        return self.table

    def built(self, hosts: dict[str, VirtualHost | None]) -> RoutingTable:
        changes = [Change(Section.HOSTS, name, None, host) for name, host in hosts.items()]
        return build_table(
            self.table, changes, upstreams=self.upstreams, limits=LIMITS, tally=self.tally
        )

    def match(self, host: str, path: str = "/", fields: bytes = b"") -> str | None:
        entry = self.entry(host, path, fields)
        return None if entry is None else entry.name

    def entry(self, host: str, path: str = "/", fields: bytes = b"") -> RouteEntry | None:
        exchange = Exchange(NoSink())
        exchange.method = b"GET"
        exchange.host = exchange.authority = host.encode()
        found, mark, query = path.encode().partition(b"?")
        exchange.path, exchange.query = found, mark + query
        exchange.fields = fields
        return self.table.match(exchange)


@pytest.fixture
def site() -> Iterator[Site]:
    loop = asyncio.new_event_loop()
    yield Site(loop)
    loop.close()


def route(name: str, path: str = "/", **fields: object) -> Route:
    match = RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value=path))
    return Route(**{"name": name, "match": match, **fields})  # type: ignore[arg-type]


def host(*routes: Route) -> VirtualHost:
    return VirtualHost(routes=routes)


def test_an_exact_host_beats_a_wildcard_beats_any_host(site: Site) -> None:
    site.change(
        a__example=host(route("exact")), wild__example=host(route("wild")), any=host(route("any"))
    )

    assert site.match("a.example") == "exact"
    assert site.match("b.example") == "wild"
    assert site.match("b.c.example") == "any"
    assert site.match("") == "any"


def test_a_host_without_a_matching_path_does_not_fall_back(site: Site) -> None:
    site.change(a__example=host(route("only", "/only")), any=host(route("any")))

    assert site.match("a.example", "/other") is None


def test_conditions_on_headers_read_the_request(site: Site) -> None:
    canary = RouteMatch(
        path=PathMatch(kind=PathKind.PREFIX, value="/"),
        headers=(ValueMatch(name="x-canary", value="1"),),
        query=(ValueMatch(name="v", kind=ValueKind.PRESENT),),
    )
    site.change(a=host(route("canary", match=canary), route("stable")))

    assert site.match("a", "/?v=2", b"\r\nX-Canary: 1") == "canary"
    assert site.match("a", "/", b"\r\nx-canary: 1") == "stable"
    assert site.match("a", "/?v=2", b"\r\nx-canary: 2") == "stable"


def test_limits_of_a_route_stand_before_those_of_the_worker(site: Site) -> None:
    site.change(
        a=host(
            route("own", "/own", timeouts=Timeouts(request=1.0, connect=0), max_body_bytes=0,
                  retry=Retry(attempts=3, codes=(503,), per_try_timeout=2.0)),
            route("plain", "/plain"),
        )
    )  # fmt: skip
    own, plain = site.entry("a", "/own"), site.entry("a", "/plain")
    assert own is not None
    assert plain is not None

    assert (own.request_seconds, plain.request_seconds) == (1.0, NEVER)
    assert (own.connect_seconds, plain.connect_seconds) == (NEVER, LIMITS.connect_seconds)
    assert (own.backend_request_seconds, plain.backend_request_seconds) == (2.0, 60.0)
    assert (own.max_body_bytes, plain.max_body_bytes) == (0, 1000)
    assert (own.retry_attempts, own.retry_codes) == (3, frozenset({503}))
    assert plain.retry_codes == frozenset()


def test_weights_make_a_split_and_one_backend_makes_none(site: Site) -> None:
    heavy, light = BackendId("n/heavy:80"), BackendId("n/light:80")
    both = (WeightedBackend(backend=heavy, weight=3), WeightedBackend(backend=light, weight=1))
    idle = (WeightedBackend(backend=heavy), WeightedBackend(backend=light, weight=0))
    site.change(a=host(route("both", backends=both)), b=host(route("one", backends=idle)))
    split, one = site.entry("a"), site.entry("b")
    assert split is not None
    assert split.split is not None
    assert one is not None

    assert [split.split.choose().id for _ in range(4)].count(light) == 1
    assert split.backend is None
    assert one.split is None
    assert one.backend is site.upstreams.backend(heavy)


def test_no_change_of_hosts_is_no_new_table(site: Site) -> None:
    before = site.change(a=host(route("a")))
    changes = [Change(Section.BACKENDS, "n/s:80", None, None)]

    after = build_table(before, changes, upstreams=site.upstreams, limits=LIMITS, tally=site.tally)

    assert after is before


def test_hosts_and_routes_that_did_not_change_are_the_same_objects(site: Site) -> None:
    site.change(a=host(route("one", "/one"), route("two", "/two")), b=host(route("b")))
    kept, changed, other = site.entry("a", "/one"), site.entry("a", "/two"), site.entry("b")

    site.change(a=host(route("two", "/two", allow_encoded_slash=True), route("one", "/one")))

    assert site.entry("a", "/one") is kept
    assert site.entry("a", "/two") is not changed
    assert site.entry("b") is other


def test_a_removed_host_is_gone_and_the_old_table_still_has_it(site: Site) -> None:
    before = site.change(a=host(route("a")))
    site.change(a=None)

    assert site.match("a") is None
    site.table = before
    assert site.match("a") == "a"


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        pytest.param(route("bad", filters=(StripPrefix(prefix="x"),)), FilterRefused, id="filter"),
        pytest.param(
            route("bad", match=RouteMatch(path=PathMatch(kind=PathKind.REGEX, value="("))),
            InvalidPattern,
            id="pattern",
        ),
    ],
)
def test_a_table_that_cannot_be_built_leaves_the_old_one(
    site: Site, bad: Route, error: type[Exception]
) -> None:
    site.change(a=host(route("good")))

    with pytest.raises(error):
        site.change(a=host(bad))

    assert site.match("a") == "good"


def test_a_swap_gives_back_what_it_replaces(site: Site) -> None:
    tables = Tables()
    first = site.change(a=host(route("a")))

    assert tables.swap(first) is EMPTY
    assert tables.current is first


def test_a_table_is_freed_by_its_last_reader(site: Site) -> None:
    gc.collect()
    gc.disable()
    try:
        table = site.built({"a": host(route("a", filters=(StripPrefix(prefix="/a"),)))})
        chain = next(iter(table.hosts.values())).entries[0].chain
        assert chain is not None
        gone = weakref.ref(chain)
        del table, chain
        assert gone() is None
    finally:
        gc.enable()


def test_who_still_serves_a_forgotten_route_counts_in_its_own_row(site: Site) -> None:
    backend = WeightedBackend(backend=BackendId("a/slow:80"))
    site.change(slow__example=host(route("a/slow/0", "/", backends=(backend,))))
    serving = site.entry("slow.example")
    assert serving is not None
    assert serving.backend is not None
    site.change(slow__example=None)
    site.tally.routes.clear()
    site.tally.backends.clear()
    site.upstreams.forget(backend.backend)
    taken = {(serving.page, serving.at)}
    durations = serving.backend.tally.durations
    taken.add((durations.page, durations.at))
    assert len(taken) == 2
    for number in range(500):
        site.change(**{f"h{number}": host(route(f"a/{number}/0", "/"))})
    rows = [each.durations for each in site.tally.routes.values()]
    rows += [each.durations for each in site.tally.backends.values()]
    assert taken.isdisjoint((row.page, row.at) for row in rows)
    # And once it has ended, the next route takes its place.
    place = serving.page, serving.at
    del serving
    site.change(next__example=host(route("a/next/0", "/")))
    after = site.tally.route("a/next/0").durations
    assert (after.page, after.at) == place


def test_the_routes_of_a_table_are_told_with_their_hosts(site: Site) -> None:
    site.change(a=host(route("one", "/one"), route("two", "/two")))

    assert [(pattern, each.name) for pattern, each in site.table.routes()] == [
        ("a", "one"),
        ("a", "two"),
    ]


def test_one_change_among_ten_thousand_hosts_costs_no_more_than_the_copy_of_an_index(
    site: Site,
) -> None:
    def seconds(edit: dict[str, VirtualHost | None]) -> float:
        before = time.process_time()
        site.table = site.built(edit)
        return time.process_time() - before

    whole = seconds(
        {f"h{at}.example": host(route(f"r{at}", "/api"), route(f"q{at}")) for at in range(10_000)}
    )
    edits = [{f"h{at}.example": host(route("new"))} for at in range(20)]

    # Beside all of them built anew, which a slow machine is slow at too.
    assert min(seconds(dict(edit)) for edit in edits) < whole / 50
    assert site.match("h7.example") == "new"
    assert site.match("h9999.example", "/api/x") == "r9999"
