"""
What one worker knows of an endpoint: its connections, and whether it answers.

The address of a deleted pod mostly swallows packets instead of refusing them,
so a failed attempt is remembered: for a time that doubles with each failure the
endpoint is chosen only if there is no other. The next success forgets it.

One that connects and fails request after request is ejected, for a time that
doubles too; but never so many that the others drown. Whether it is one or the
other, ``retry_at`` says it all to those who choose.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairway_dataplane.exchange import Exchange
    from fairway_dataplane.tally import BackendTally
    from fairway_dataplane.upstream.backend_task import BackendTask

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0

LONGEST_EJECTION_SECONDS = 300.0
FORGIVEN_SECONDS = 300.0
"""An endpoint that was not ejected for so long begins with the shortest time again."""


class Endpoint:
    """One address of a backend; it lives as long as its backend names it."""

    __slots__ = (
        "active", "ejected_until", "ejections", "failures", "host", "idle", "idle_limit", "key",
        "name", "port", "removed", "retry_at", "strikes", "tally", "warm_since",
    )  # fmt: skip

    idle: "list[BackendTask]"
    """Connections nobody uses; the last one in is the first one out."""
    active: int
    """Connections in use."""
    removed: bool
    """No longer named by its backend: what is in flight finishes, and nothing is kept."""
    retry_at: float
    """Not chosen before, if there are others; 0.0 after a success."""
    ejected_until: float
    strikes: int
    """Requests that failed one after the other."""
    warm_since: float
    """When it came, or came back: from here its share grows, where that is asked for."""

    def __init__(self, host: str, port: int, tally: "BackendTally", idle_limit: int) -> None:
        self.host = host
        self.port = port
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.key = self.name.encode()
        self.tally = tally
        self.idle_limit = idle_limit
        self.idle = []
        self.active = 0
        self.removed = False
        self.failures = 0
        self.retry_at = 0.0
        self.ejected_until = 0.0
        self.ejections = 0
        self.strikes = 0
        self.warm_since = -math.inf

    def may_serve(self, exchange: "Exchange", now: float) -> bool:
        """Tell whether it did not fail lately, nor for this request."""
        return self.retry_at <= now and self not in exchange.tried

    def note_failure(self, now: float) -> None:
        """Remember a failed connection attempt."""
        seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.retry_at = now + seconds

    def note_success(self, now: float) -> None:
        """Forget failed attempts to connect, and an ejection that is over."""
        self.failures = 0
        self.retry_at = self.ejected_until if self.ejected_until > now else 0.0

    def eject(self, now: float, seconds: float) -> None:
        """Take it out of the choice for ``seconds``, doubled with each time before this one."""
        if now - self.ejected_until > FORGIVEN_SECONDS:
            self.ejections = 0
        seconds = min(LONGEST_EJECTION_SECONDS, seconds * 2.0 ** min(self.ejections, 10))
        self.ejections += 1
        self.strikes = 0
        self.ejected_until = self.retry_at = self.warm_since = now + seconds

    def remove(self) -> None:
        """Keep nothing any more."""
        self.removed = True
        idle, self.idle = self.idle, []
        for task in idle:
            task.close()

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Endpoint {self.name} active={self.active} idle={len(self.idle)}>"


class Judge:
    """Ejects endpoints of one backend that answer, but not as they should."""

    __slots__ = ("_percent", "_seconds", "_strikes", "suspects")

    suspects: set[Endpoint]
    """Endpoints of which something bad is known; while there are any, good news is asked for."""

    def __init__(self, *, strikes: int, seconds: float, percent: int) -> None:
        """
        Take when and how to eject.

        ``strikes`` failed requests in a row eject, 0 never; ``seconds`` is the
        first time; at most ``percent`` of endpoints are out of the choice at once.
        """
        self._strikes = strikes
        self._seconds = seconds
        self._percent = percent
        self.suspects = set()

    def keep(self, endpoints: Collection[Endpoint]) -> None:
        """Forget endpoints that are gone."""
        self.suspects.intersection_update(endpoints)

    def note_failure(self, endpoint: Endpoint, endpoints: Collection[Endpoint], now: float) -> bool:
        """Count a failed request; tell whether its endpoint is out now because of it."""
        if not self._strikes:
            return False
        endpoint.strikes += 1
        self.suspects.add(endpoint)
        if endpoint.strikes < self._strikes or endpoint.ejected_until > now:
            return False
        out = sum(1 for other in endpoints if other is not endpoint and other.retry_at > now)
        if (out + 1) * 100 > len(endpoints) * self._percent:
            return False
        endpoint.eject(now, self._seconds)
        return True

    def note_success(self, endpoint: Endpoint, now: float) -> None:
        """Forget what a good answer makes up for."""
        endpoint.strikes = 0
        if endpoint.ejected_until <= now:
            endpoint.note_success(now)
            self.suspects.discard(endpoint)
