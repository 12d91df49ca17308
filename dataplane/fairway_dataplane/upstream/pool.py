"""
Backends as one worker sees them: endpoints, and the connections kept to them.

A connection has one owner: an exchange between checkout and checkin, its
endpoint in between. Both are synchronous; only connecting waits.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Iterable

from fairway_dataplane.clock import Clock
from fairway_dataplane.errors import Reason
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.policy import Limits
from fairway_dataplane.tally import BackendTally, Tally
from fairway_dataplane.upstream.backend_task import BackendTask
from fairway_dataplane.upstream.balancer import Balancer, build_balancer
from fairway_dataplane.upstream.connector import Connector, Race
from fairway_dataplane.upstream.health import Endpoint, Judge
from fairway_snapshot.model import Backend as BackendLeaf
from fairway_snapshot.model import BackendId, BackendProtocol

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
        "_balancer", "_by_name", "_clock", "_connector", "_endpoints", "_judge",
        "_limits", "_max_pending", "_max_requests", "id", "server_name", "suspects", "tally", "tls",
        "waiting",
    )  # fmt: skip

    id: str
    tally: BackendTally
    tls: bool
    server_name: str | None
    """To ask for and to verify over TLS; None does not verify."""
    suspects: Collection[Endpoint]
    """While there are any, :meth:`judge` wants to hear of good answers too."""
    waiting: int
    """Exchanges that wait for a connection."""

    def __init__(
        self, name: str, *, connector: Connector, clock: Clock, limits: Limits, tally: BackendTally
    ) -> None:
        self.id = name
        self.tally = tally
        self.tls = False
        self.server_name = None
        self._connector = connector
        self._clock = clock
        self._limits = limits
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._by_name: dict[str, Endpoint] = {}
        self._judge = Judge(
            strikes=limits.eject_failures,
            seconds=limits.eject_seconds,
            percent=limits.eject_percent,
        )
        self.suspects = self._judge.suspects
        self.waiting = 0
        self._max_requests = 0
        self._max_pending = 0
        self._balancer: Balancer = build_balancer(_NOWHERE, ())

    def update(self, leaf: BackendLeaf) -> None:
        """
        Take another set of endpoints.

        Those that are gone get no new request; what is in flight finishes, and
        their idle connections close.
        """
        tls = leaf.protocol is BackendProtocol.HTTPS
        before = self._endpoints
        if (tls, leaf.server_name) != (self.tls, self.server_name):
            # Kept connections speak as it was agreed then.
            self._forget(before.values())
            before = {}
        self.tls, self.server_name = tls, leaf.server_name
        after: dict[tuple[str, int], Endpoint] = {}
        for entry in leaf.endpoints:
            key = (entry.host, entry.port)
            endpoint = before.get(key)
            if endpoint is None:
                endpoint = Endpoint(
                    entry.host, entry.port, self.tally, self._limits.idle_per_endpoint
                )
                if before:
                    endpoint.warm_since = self._clock.now
            after[key] = endpoint
        self._forget(found for key, found in before.items() if key not in after)
        self._endpoints = after
        self._by_name = {endpoint.name: endpoint for endpoint in after.values()}
        self._judge.keep(after.values())
        self._balancer = build_balancer(leaf, tuple(after.values()))
        self._max_requests, self._max_pending = leaf.max_requests, leaf.max_pending

    def choose(self, exchange: Exchange) -> Endpoint | None:
        """Return the endpoint of the next attempt, None without any."""
        return self._balancer.choose(exchange, self._clock.now)

    def checkout(self, exchange: Exchange, connect_seconds: float) -> BackendTask | None:
        """
        Return a kept connection, or open one.

        None means that the exchange waits: its owner hears ``connected`` or
        ``failed``. ``exchange.upstream`` is None after None if the exchange is
        not admitted; :meth:`refusal` says why.
        """
        if self._max_requests and self._is_full():
            return None
        endpoint = self._balancer.choose(exchange, self._clock.now)
        if endpoint is None:
            return None
        if endpoint.idle:
            task = endpoint.idle.pop()
            endpoint.active += 1
            self.tally.reuses += 1
            exchange.endpoint = endpoint.name
            return task
        if self._max_pending and self.waiting >= self._max_pending:
            return None
        Race(self._connector, self, exchange, connect_seconds).start(endpoint)
        return None

    def connect(self, exchange: Exchange, connect_seconds: float) -> bool:
        """Open a connection although there are kept ones; False without any endpoint."""
        endpoint = self._balancer.choose(exchange, self._clock.now)
        if endpoint is not None:
            Race(self._connector, self, exchange, connect_seconds).start(endpoint)
        return endpoint is not None

    def refusal(self) -> Reason:
        """Return why :meth:`checkout` admitted nothing."""
        return Reason.OVERLOADED if self._endpoints else Reason.NO_ENDPOINTS

    def judge(self, exchange: Exchange) -> None:
        """Learn from an answer, good or bad, whether its endpoint is fit to serve."""
        endpoint = self._by_name.get(exchange.endpoint)
        if endpoint is None:
            return
        if exchange.status in _GATEWAY_STATUSES or exchange.reason in _BROKEN:
            self.note_failure(exchange)
        elif endpoint in self.suspects:
            self._judge.note_success(endpoint, self._clock.now)

    def note_failure(self, exchange: Exchange) -> None:
        """Learn from an attempt that was not answered."""
        endpoint = self._by_name.get(exchange.endpoint)
        if endpoint is not None and self._judge.note_failure(
            endpoint, self._endpoints.values(), self._clock.now
        ):
            self.tally.ejections += 1

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        self._forget(self._endpoints.values())
        self._endpoints = {}
        self._by_name = {}
        self._judge.keep(())
        self._balancer = build_balancer(_NOWHERE, ())

    def measure(self) -> None:
        """Write the gauges into the tally."""
        self.tally.active = sum(found.active for found in self._endpoints.values())
        self.tally.idle = sum(len(found.idle) for found in self._endpoints.values())

    def _is_full(self) -> bool:
        active = sum(found.active for found in self._endpoints.values())
        return active + self.waiting >= self._max_requests

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

    def keep(self, used: Collection[str]) -> None:
        """Forget every backend that is not named; ``used`` are those of routes and snapshot."""
        self._backends = {name: found for name, found in self._backends.items() if name in used}

    def measure(self) -> None:
        """Write the gauges into the tally; called before a tally is shown."""
        for backend in self._backends.values():
            backend.measure()

    def close(self) -> None:
        """Close every idle connection; those in use close when they are handed back."""
        self._connector.close()
        for backend in self._backends.values():
            backend.close()
