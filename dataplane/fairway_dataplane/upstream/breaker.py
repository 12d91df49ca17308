"""
What a backend is spared: more requests, connections and retries than it can bear.

One breaker for each backend in each worker. It only counts and says no, at once:
there is no waiting line, for a client that is told can go elsewhere. A limit
that is not set costs nothing.
"""

from typing import TYPE_CHECKING

from fairway_dataplane.clock import Clock
from fairway_dataplane.upstream.gradient import Gradient

if TYPE_CHECKING:
    from fairway_dataplane.exchange import Exchange
    from fairway_dataplane.tally import BackendTally
    from fairway_snapshot.model import Backend

BUDGET_SECONDS = 10.0
BUDGET_FREE = 10
"""Retries in each such time that no budget forbids: a quiet backend may be retried too."""


class Breaker:
    """The limits of one backend, and what is needed to keep them."""

    __slots__ = (
        "_budget", "_clock", "_requests", "_retries", "_setting", "_since", "_tally", "gradient",
        "max_connections", "max_pending", "max_requests", "max_retries", "retrying",
    )  # fmt: skip

    gradient: Gradient | None
    """Of adaptive concurrency; None without."""
    max_requests: int
    max_pending: int
    max_connections: int
    max_retries: int
    retrying: "dict[Exchange, None]"
    """Exchanges that are in a further attempt now."""

    def __init__(self, clock: Clock, tally: "BackendTally", *, budget_percent: int) -> None:
        """Take the budget of retries where a backend sets none."""
        self._clock = clock
        self._tally = tally
        self._setting = self._budget = budget_percent
        self._since = clock.now
        self._requests = 0
        self._retries = 0
        self.gradient = None
        self.max_requests = 0
        self.max_pending = 0
        self.max_connections = 0
        self.max_retries = 0
        self.retrying = {}

    def update(self, leaf: "Backend") -> None:
        """Take the limits of another leaf; what is in flight stays."""
        self.max_requests = leaf.max_requests
        self.max_pending = leaf.max_pending
        self.max_connections = leaf.max_connections
        self.max_retries = leaf.max_retries
        self._budget = self._setting if leaf.retry_budget is None else leaf.retry_budget
        if not leaf.adaptive_concurrency:
            self.gradient = None
        elif self.gradient is None:
            self.gradient = Gradient()

    def bounds_requests(self) -> bool:
        """Tell whether :meth:`admits` can ever say no."""
        return self.max_requests > 0 or self.gradient is not None

    def admits(self, in_flight: int) -> bool:
        """Tell whether one more request may come to those in flight."""
        if self.max_requests and in_flight >= self.max_requests:
            return False
        gradient = self.gradient
        if gradient is not None and in_flight >= gradient.limit:
            gradient.shed += 1
            return False
        return True

    def spend(self, percent: int | None) -> bool:
        """
        Take one retry out of the budget; False if there is none left.

        ``percent`` is what a route says, None if it says nothing. Requests and
        retries are those of the whole backend, so no route can spend more.
        """
        if self.max_retries and len(self.retrying) >= self.max_retries:
            return False
        now = self._clock.now
        requests = self._tally.requests - self._tally.retries
        if now - self._since > BUDGET_SECONDS:
            self._since, self._requests, self._retries = now, requests, 0
        share = self._budget if percent is None else percent
        allowed = (requests - self._requests) * share // 100
        if self._retries >= max(allowed, BUDGET_FREE if share else 0):
            return False
        self._retries += 1
        return True
