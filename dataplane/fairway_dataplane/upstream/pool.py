"""
Backends as one worker sees them: endpoints, and the connections kept to them.

A connection has one owner: an exchange between checkout and checkin, its
endpoint in between. Both are synchronous; only connecting waits.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator

from fairway_dataplane.clock import Clock
from fairway_dataplane.errors import Reason
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.tally import BackendTally, Tally
from fairway_dataplane.upstream.backend_task import BackendTask
from fairway_dataplane.upstream.balancer import Balancer, build_balancer
from fairway_dataplane.upstream.breaker import Breaker
from fairway_dataplane.upstream.checks import Checks
from fairway_dataplane.upstream.connector import Connector, Race
from fairway_dataplane.upstream.health import Endpoint, Judge, states
from fairway_dataplane.upstream.review import Review
from fairway_snapshot.model import Backend as BackendLeaf
from fairway_snapshot.model import BackendId, BackendProtocol, Balance

_NOWHERE = BackendLeaf(endpoints=())

_GATEWAY_STATUSES = frozenset((502, 503, 504))
"""What says that an endpoint cannot serve; 500 and 501 say that it does not want to."""

_BROKEN = frozenset(
    (
        Reason.UPSTREAM_RESET.value,
        Reason.UPSTREAM_TIMEOUT.value,
        Reason.UPSTREAM_PROTOCOL.value,
    )
)
"""Reasons for which an answer that had begun was cut off, and that are the endpoint's."""


class Backend:
    """One backend, alive: it outlives tables, and its endpoints are replaced in place."""

    __slots__ = (
        "_agreed", "_balancer", "_bounded", "_breaker", "_by_name", "_checks", "_clock",
        "_connector", "_endpoints", "_judge", "_limits", "_review", "attentive", "id",
        "server_name", "tally", "tls", "waiting",
    )  # fmt: skip

    id: str
    tally: BackendTally
    tls: bool
    server_name: str | None
    """To ask for and to verify over TLS; None does not verify."""
    attentive: bool
    """:meth:`judge` wants to hear of good answers too."""
    waiting: int
    """Exchanges that wait for a connection."""

    def __init__(
        self, name: str, *, connector: Connector, clock: Clock, limits: Limits, tally: BackendTally
    ) -> None:
        self.id = name
        self.tally = tally
        self.tls = False
        self.server_name = None
        self._agreed: tuple[bool, str | None, int] = (False, None, 0)
        self._connector = connector
        self._clock = clock
        self._limits = limits
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._by_name: dict[str, Endpoint] = {}
        self._judge = Judge(
            tally,
            strikes=limits.eject_failures,
            seconds=limits.eject_seconds,
            percent=limits.eject_percent,
        )
        # Most backends have neither: one endpoint, and no checks.
        self._review: Review | None = None
        self._checks: Checks | None = None
        self._breaker = Breaker(clock, tally, budget_percent=limits.retry_budget_percent)
        self._bounded = False
        self.attentive = False
        self.waiting = 0
        self._balancer: Balancer = build_balancer(_NOWHERE, ())

    def update(self, leaf: BackendLeaf) -> None:
        """
        Take another set of endpoints.

        Those that are gone get no new request; what is in flight finishes, and
        their idle connections close.
        """
        now = self._clock.now
        tls = leaf.protocol is BackendProtocol.HTTPS
        before = self._endpoints
        if (tls, leaf.server_name, leaf.proxy_protocol) != self._agreed:
            # Kept connections speak as it was agreed then.
            self._forget(before.values())
            before = {}
        self.tls, self.server_name = tls, leaf.server_name
        self._agreed = tls, leaf.server_name, leaf.proxy_protocol
        after: dict[tuple[str, int], Endpoint] = {}
        for entry in leaf.endpoints:
            key = (entry.host, entry.port)
            endpoint = before.get(key)
            if endpoint is None:
                # What a header said of one client is not said of another.
                kept = 0 if leaf.proxy_protocol else self._limits.idle_per_endpoint
                endpoint = Endpoint(entry.host, entry.port, self.tally, kept)
                endpoint.proxy_protocol = leaf.proxy_protocol
                if before:
                    endpoint.warm_since = endpoint.came_at = now
            after[key] = endpoint
        self._forget(found for key, found in before.items() if key not in after)
        self._endpoints = after
        self._by_name = {endpoint.name: endpoint for endpoint in after.values()}
        self._judge.keep(after.values(), now)
        self._balancer = build_balancer(leaf, tuple(after.values()))
        self._breaker.update(leaf)
        self._bounded = self._breaker.bounds_requests()
        self._look_at(leaf)
        self._attend()

    def choose(self, exchange: Exchange) -> Endpoint | None:
        """Return a further endpoint to connect to, None without any, and without room for it."""
        endpoint = self._balancer.choose(exchange, self._clock.now)
        if endpoint is None or endpoint in exchange.tried or not self._has_room():
            return None
        return endpoint

    def checkout(self, exchange: Exchange, connect_seconds: float) -> BackendTask | None:
        """
        Return a kept connection, or open one.

        None means that the exchange waits: its owner hears ``connected`` or
        ``failed``. ``exchange.upstream`` is None after None if the exchange is
        not admitted; :meth:`refusal` says why.
        """
        if self._bounded and not self._breaker.admits(self._in_flight()):
            return None
        endpoint = self._balancer.choose(exchange, self._clock.now)
        if endpoint is None:
            return None
        if endpoint.idle:
            task = endpoint.idle.pop()
            endpoint.active += 1
            exchange.endpoint = endpoint.name
            return task
        self._connect(exchange, endpoint, connect_seconds)
        return None

    def retry(self, exchange: Exchange, connect_seconds: float, budget: int | None) -> bool:
        """
        Try once more, on a new connection although there are kept ones.

        ``budget`` is the route's, in percent. False if the breaker forbids it,
        or without any endpoint.
        """
        endpoint = self._balancer.choose(exchange, self._clock.now)
        if endpoint is None or not self._breaker.spend(budget):
            return False
        if not self._connect(exchange, endpoint, connect_seconds):
            return False
        self.tally.retries += 1
        self._breaker.retrying[exchange] = None
        self.attentive = True
        return True

    def avoid(self, exchange: Exchange, name: str) -> None:
        """Choose another endpoint than ``name`` for this exchange, if there is one."""
        endpoint = self._by_name.get(name)
        if endpoint is not None and endpoint not in exchange.tried:
            exchange.tried += (endpoint,)

    def refusal(self) -> Reason:
        """Return why :meth:`checkout` admitted nothing."""
        return Reason.OVERLOADED if self._endpoints else Reason.NO_ENDPOINTS

    def judge(self, exchange: Exchange) -> None:
        """Learn from an exchange that is over whether its endpoint is fit to serve."""
        self._breaker.retrying.pop(exchange, None)
        endpoint = self._by_name.get(exchange.endpoint)
        if endpoint is not None and exchange.upstream_seconds:
            if exchange.status in _GATEWAY_STATUSES or exchange.reason in _BROKEN:
                self._judge.note_failure(endpoint, self._clock.now)
            elif endpoint in self._judge.suspects:
                self._judge.note_success(endpoint, self._clock.now)
        self._attend()

    def note_failure(self, name: str) -> None:
        """Learn from an attempt at an endpoint that was not answered."""
        endpoint = self._by_name.get(name)
        if endpoint is not None:
            self._judge.note_failure(endpoint, self._clock.now)
            self._attend()

    def note_answer(self, name: str, status: int) -> None:
        """Learn from an answer that is not passed on."""
        if status in _GATEWAY_STATUSES:
            self.note_failure(name)

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        self.update(_NOWHERE)

    def measure(self) -> None:
        """Write the gauges into the tally."""
        tally, endpoints, breaker = self.tally, self._endpoints.values(), self._breaker
        tally.active = sum(found.active for found in endpoints)
        tally.idle = sum(len(found.idle) for found in endpoints)
        tally.reuses = tally.requests - tally.hand_overs
        tally.endpoints = states(endpoints, self._clock.now)
        tally.panicking = int(self._judge.panics())
        tally.limit = 0 if breaker.gradient is None else breaker.gradient.limit

    def describe(self) -> dict[str, object]:
        """Return what a person wants to know of it."""
        now, breaker = self._clock.now, self._breaker
        shown: dict[str, object] = {
            "backend": self.id,
            "waiting": self.waiting,
            "retrying": len(breaker.retrying),
            "panicking": self._judge.panics(),
            "endpoints": [
                {
                    "endpoint": found.name,
                    "state": found.state(now).value,
                    "back_in_seconds": _seconds_until(found, now),
                    "active": found.active,
                    "idle": len(found.idle),
                    "opening": found.opening,
                    "failures_in_a_row": found.strikes,
                    "latency_ms": round(found.latency * 1000, 3),
                }
                for found in self._endpoints.values()
            ],
        }
        if breaker.gradient is not None:
            shown["limit"] = breaker.gradient.limit
            shown["least_latency_ms"] = round(breaker.gradient.least_seconds * 1000, 3)
        return shown

    def _connect(self, exchange: Exchange, endpoint: Endpoint, connect_seconds: float) -> bool:
        pending = self._breaker.max_pending
        if (pending and self.waiting >= pending) or not self._has_room():
            return False
        if self._review is not None:
            self._review.wake()
        Race(self._connector, self, exchange, connect_seconds).start(endpoint)
        return True

    def _has_room(self) -> bool:
        """Tell whether one more connection may be opened; a kept one is closed for it."""
        most = self._breaker.max_connections
        if not most:
            return True
        endpoints = self._endpoints.values()
        if sum(found.active + found.opening + len(found.idle) for found in endpoints) < most:
            return True
        for found in endpoints:
            if found.idle:
                found.idle.pop(0).close()
                return True
        return False

    def _look_at(self, leaf: BackendLeaf) -> None:
        """Review and check the endpoints as the leaf says."""
        endpoints = self._endpoints.values()
        factor = _latency_factor(leaf, self._limits) if len(endpoints) > 1 else 0.0
        gradient = self._breaker.gradient
        if self._review is None and (factor or gradient is not None):
            self._review = Review(
                self._clock,
                self._judge,
                slow_seconds=self._limits.eject_latency_seconds,
                in_flight=self._in_flight,
            )
        if self._review is not None:
            self._review.keep(endpoints, factor=factor, gradient=gradient)
        if self._checks is None and leaf.health_check is not None:
            self._checks = Checks(self._connector, self._clock, self._judge, self.tally)
        if self._checks is not None:
            self._checks.keep(
                endpoints, leaf.health_check, tls=self.tls, server_name=self.server_name
            )

    def _in_flight(self) -> int:
        return sum(found.active for found in self._endpoints.values()) + self.waiting

    def _attend(self) -> None:
        self.attentive = bool(self._judge.suspects or self._breaker.retrying)

    def _forget(self, endpoints: Iterable[Endpoint]) -> None:
        for endpoint in endpoints:
            endpoint.remove()

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Backend {self.id} {list(self._endpoints.values())}>"


class Upstreams:
    """All backends of one worker, by id."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        client_context: Callable[[str | None], ssl.SSLContext],
    ) -> None:
        """``client_context`` makes the TLS client context for a server name to verify, or None."""
        self._connector = Connector(loop, clock, limits, client_context)
        self._clock = clock
        self._limits = limits
        self._tally = tally
        self._backends: dict[BackendId, Backend] = {}

    def backend(self, name: BackendId) -> Backend:
        """Return a backend; one that is not known has no endpoints until :meth:`update`."""
        found = self._backends.get(name)
        if found is None:
            found = self._backends[name] = Backend(
                name,
                connector=self._connector,
                clock=self._clock,
                limits=self._limits,
                tally=self._tally.backend(name),
            )
        return found

    def update(self, name: BackendId, leaf: BackendLeaf | None) -> None:
        """
        Take the leaf of a new snapshot; None removes the endpoints.

        The backend itself stays known: tables that name it may still be in use.
        """
        if leaf is not None:
            self.backend(name).update(leaf)
        elif name in self._backends:
            self._backends[name].close()

    def forget(self, name: BackendId) -> None:
        """Forget a backend that neither a route nor the snapshot names any more."""
        self._backends.pop(name, None)

    def measure(self, names: Iterable[str] | None = None) -> None:
        """Write the gauges of these backends, or of all, into the tally before it is shown."""
        for name in self._backends if names is None else names:
            backend = self._backends.get(BackendId(name))
            if backend is not None:
                backend.measure()

    def describe(self, limit: int, name: str) -> Iterator[dict[str, object]]:
        """
        Yield what a person wants to know of so many backends, or of that with this name.

        Backends may come and go between two of them.
        """
        for each in [BackendId(name)] if name else sorted(self._backends)[:limit]:
            found = self._backends.get(each)
            if found is not None:
                yield found.describe()

    def close(self) -> None:
        """Close every idle connection; those in use close when they are handed back."""
        self._connector.close()
        for backend in self._backends.values():
            backend.close()


def _latency_factor(leaf: BackendLeaf, limits: Limits) -> float:
    """Return the factor that holds; where clients stay at endpoints, these differ by design."""
    if leaf.eject_latency_factor is not None:
        return leaf.eject_latency_factor
    if leaf.sticky_cookie or leaf.balance is Balance.CONSISTENT_HASH:
        return 0.0
    return limits.eject_latency_factor


def _seconds_until(endpoint: Endpoint, now: float) -> float | None:
    """Return when an endpoint is back; 0.0 if it is there, None if its checks decide."""
    if endpoint.barred:
        return None
    return round(max(0.0, endpoint.retry_at - now), 1)
