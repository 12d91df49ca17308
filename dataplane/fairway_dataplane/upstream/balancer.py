"""
Who serves the next request.

Decisions only: synchronous, without I/O, and owned by one event loop. A
balancer chooses among the endpoints of a backend; a split chooses among the
backends of a route. An endpoint that failed lately, or failed for this very
request, is chosen only if all others did too; its share goes to all others
alike, for a neighbour that got all of it would be the next to fail.
"""

import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, assert_never

from fairway_dataplane.exchange import Exchange
from fairway_dataplane.upstream.affinity import ConsistentHash, StickyCookie
from fairway_dataplane.upstream.health import Endpoint, least_bad
from fairway_snapshot.model import Backend, Balance

T = TypeVar("T")

_LEAST_WARMTH = 0.1
"""Share of its share that an endpoint gets at first: without requests nothing warms up."""

_COLD_ONES = 8
"""So many are passed by for one request; then the next is taken, cold or not."""


class Balancer(Protocol):
    """Chooses among endpoints."""

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the endpoint of the next attempt, None without any."""


def build_balancer(leaf: Backend, endpoints: Sequence[Endpoint]) -> Balancer:
    """Return a balancer over the endpoints of a backend; another set needs another balancer."""
    balancer = _chooser(leaf, endpoints)
    if leaf.slow_start_seconds and leaf.balance is not Balance.CONSISTENT_HASH:
        balancer = SlowStart(balancer, leaf.slow_start_seconds)
    if leaf.sticky_cookie:
        balancer = StickyCookie(endpoints, leaf.sticky_cookie, balancer)
    return balancer


def _chooser(leaf: Backend, endpoints: Sequence[Endpoint]) -> Balancer:
    # No `match`, which cannot be compiled.
    if leaf.balance is Balance.ROUND_ROBIN:
        return RoundRobin(endpoints)
    if leaf.balance is Balance.LEAST_REQUESTS:
        return LeastRequests(endpoints)
    if leaf.balance is Balance.RANDOM:
        return Random(endpoints)
    if leaf.balance is Balance.CONSISTENT_HASH:
        return ConsistentHash(endpoints, leaf.hash_key)
    assert_never(leaf.balance)


class RoundRobin:
    """Each in its turn."""

    __slots__ = ("_endpoints", "_next")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)
        # Workers must not all begin with the same one.
        self._next = _below(len(endpoints)) if endpoints else 0

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the next one in turn."""
        endpoints = self._endpoints
        at = self._next
        if at >= len(endpoints):
            if not endpoints:
                return None
            at = 0
        self._next = at + 1
        endpoint = endpoints[at]
        if not endpoint.retry_at and not exchange.tried:
            return endpoint
        endpoint = _first_usable(endpoints[at:] + endpoints[:at], exchange, now)
        self._next = endpoints.index(endpoint) + 1
        return endpoint


class Random:
    """Any."""

    __slots__ = ("_endpoints",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return one at random."""
        endpoints = self._endpoints
        if not endpoints:
            return None
        endpoint = endpoints[_below(len(endpoints))]
        if not endpoint.retry_at and not exchange.tried:
            return endpoint
        usable = _usable(endpoints, exchange, now)
        return usable[_below(len(usable))]


class LeastRequests:
    """The power of two choices: of two at random, the one with fewer requests."""

    __slots__ = ("_endpoints",)

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = tuple(endpoints)

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the less busy of two."""
        endpoints = self._endpoints
        if not endpoints:
            return None
        chosen = _less_busy(endpoints)
        if not chosen.retry_at and not exchange.tried:
            return chosen
        return _less_busy(_usable(endpoints, exchange, now))


class SlowStart:
    """To an endpoint that came lately, a share that grows until it is a whole one."""

    __slots__ = ("_balancer", "_seconds")

    def __init__(self, balancer: Balancer, seconds: float) -> None:
        self._balancer = balancer
        self._seconds = seconds

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the choice, or while that one warms up, often another that may serve."""
        tried = exchange.tried
        chosen = endpoint = self._balancer.choose(exchange, now)
        for _ in range(_COLD_ONES):
            if endpoint is None or not endpoint.may_serve(exchange, now):
                break
            chosen = endpoint
            warmth = (now - endpoint.warm_since) / self._seconds
            if warmth >= 1.0 or random.random() < max(_LEAST_WARMTH, warmth):  # noqa: S311
                break
            # Passed by as if it had failed: the least busy one would be chosen again.
            exchange.tried += (endpoint,)
            endpoint = self._balancer.choose(exchange, now)
        exchange.tried = tried
        return chosen


class Split(Generic[T]):
    """Smooth weighted round robin: over any sum-of-weights requests the shares are exact."""

    __slots__ = ("_balances", "_parts", "_sum", "_weights")

    def __init__(self, parts: Sequence[tuple[T, int]]) -> None:
        """Take backends and weights; a weight of 0 is never chosen, and one must be above 0."""
        chosen = [(part, weight) for part, weight in parts if weight > 0]
        if not chosen:
            raise ValueError("a split needs a weight above 0")
        self._parts = [part for part, _ in chosen]
        self._weights = [weight for _, weight in chosen]
        self._balances = [0] * len(chosen)
        self._sum = sum(self._weights)

    def choose(self) -> T:
        """Return the backend of the next request."""
        balances = self._balances
        best = 0
        for at, weight in enumerate(self._weights):
            balances[at] += weight
            if balances[at] > balances[best]:
                best = at
        balances[best] -= self._sum
        return self._parts[best]


def _below(limit: int) -> int:
    return int(random.random() * limit)  # noqa: S311 - who guesses it gains nothing


def _less_busy(endpoints: Sequence[Endpoint]) -> Endpoint:
    """Return the less busy of two that are not the same; of one, that one."""
    number = len(endpoints)
    first = _below(number)
    one = endpoints[first]
    if number == 1:
        return one
    other = endpoints[first - 1 - _below(number - 1)]
    # What is being opened will be busy in a moment.
    return other if other.active + other.opening < one.active + one.opening else one


def _usable(endpoints: Sequence[Endpoint], exchange: Exchange, now: float) -> Sequence[Endpoint]:
    """Return all that may serve; if none may, the one to try all the same."""
    usable = [endpoint for endpoint in endpoints if endpoint.may_serve(exchange, now)]
    return usable or (least_bad(endpoints, exchange),)


def _first_usable(endpoints: Sequence[Endpoint], exchange: Exchange, now: float) -> Endpoint:
    """Return the first that may serve; if none may, the one to try all the same."""
    for endpoint in endpoints:
        if endpoint.retry_at <= now and endpoint not in exchange.tried:
            return endpoint
    return least_bad(endpoints, exchange)
