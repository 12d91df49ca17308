"""
What one worker knows of an endpoint: its connections, and whether it is fit to serve.

Three things take an endpoint out of the choice. The address of a deleted pod
mostly swallows packets instead of refusing them, so a failed attempt to connect
is remembered: for a time that doubles with each failure the endpoint is chosen
only if there is no other. One that connects and fails request after request, or
is far slower than its peers, is ejected, for a time that doubles too. One that
does not pass its health checks is barred until it does.

Ejected and barred ones are never so many that the others drown. Whichever it
is, ``retry_at`` says it all to those who choose.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from fairway_dataplane.tally import count

if TYPE_CHECKING:
    from fairway_dataplane.exchange import Exchange
    from fairway_dataplane.tally import BackendTally
    from fairway_dataplane.upstream.backend_task import BackendTask

_EVER = -math.inf

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0

LONGEST_EJECTION_SECONDS = 300.0
FORGIVEN_SECONDS = 300.0
"""An endpoint that was not ejected for so long begins with the shortest time again."""


class Why(StrEnum):
    """Why an endpoint was taken out of the choice; a label of metrics."""

    FAILURES = "failures"
    LATENCY = "latency"
    HEALTH_CHECK = "health-check"


class State(StrEnum):
    """How an endpoint stands; a label of metrics."""

    IN_CHOICE = "in-choice"
    UNREACHED = "unreached"
    """It refused or swallowed its last connection, and is left alone for a while."""
    EJECTED = "ejected"
    BARRED = "barred"
    """It does not pass its health checks."""
    UNWELL = "unwell"
    """It does not pass its health checks, and serves because too many others do not either."""


class Endpoint:
    """One address of a backend; it lives as long as its backend names it."""

    __slots__ = (
        "active", "answer_seconds", "answered_at", "answers", "barred", "came_at", "ejected_until",
        "ejections", "failures", "host", "idle", "idle_limit", "key", "latency", "name", "opening",
        "port", "proxy_protocol", "removed", "retry_at", "slow_answers", "slow_since", "strikes",
        "tally", "unreached_until", "unwell", "warm_since",
    )  # fmt: skip

    idle: "list[BackendTask]"
    """Connections nobody uses; the last one in is the first one out."""
    active: int
    """Connections in use."""
    opening: int
    """Attempts to connect that are under way."""
    removed: bool
    """No longer named by its backend: what is in flight finishes, and nothing is kept."""
    retry_at: float
    """Not chosen before, if there are others; 0.0 if nothing is known against it."""
    unreached_until: float
    ejected_until: float
    unwell: bool
    """The health checks say so."""
    barred: bool
    """It is out of the choice for that."""
    strikes: int
    """Requests that failed one after the other."""
    warm_since: float
    """When it came, or came back: from here its share grows, where that is asked for."""
    came_at: float
    """When it came to others; -inf if it was there from the start."""
    answers: int
    """Since :class:`~fairway_dataplane.upstream.review.Review` looked last."""
    answer_seconds: float
    """What these answers took, from the request sent to the head of the answer."""
    latency: float
    """Moving mean of what an answer takes, seconds; 0.0 is not known."""
    answered_at: float
    """When the review saw an answer last."""
    slow_since: float
    """When the review found it far slower than the others; 0.0 is not."""
    slow_answers: int
    """Answers since then."""

    def __init__(self, host: str, port: int, tally: "BackendTally", idle_limit: int) -> None:
        self.host = host
        self.port = port
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.key = self.name.encode()
        self.tally = tally
        self.idle_limit = idle_limit
        self.proxy_protocol = 0
        self.idle = []
        self.active = 0
        self.opening = 0
        self.removed = False
        self.failures = 0
        self.retry_at = 0.0
        self.unreached_until = 0.0
        self.ejected_until = 0.0
        self.ejections = 0
        self.unwell = False
        self.barred = False
        self.strikes = 0
        self.warm_since = _EVER
        self.came_at = _EVER
        self.answers = 0
        self.answer_seconds = 0.0
        self.latency = 0.0
        self.answered_at = 0.0
        self.slow_since = 0.0
        self.slow_answers = 0

    def may_serve(self, exchange: "Exchange", now: float) -> bool:
        """Tell whether nothing is known against it, in general and for this request."""
        return self.retry_at <= now and self not in exchange.tried

    def is_out(self, now: float) -> bool:
        """Tell whether it is ejected or barred, which only a share of a backend may be."""
        return self.barred or self.ejected_until > now

    def note_failure(self, now: float) -> None:
        """Remember a failed connection attempt."""
        seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.unreached_until = now + seconds
        self._settle(now)

    def note_success(self, now: float) -> None:
        """Forget failed attempts to connect, and an ejection that is over."""
        self.failures = 0
        self.unreached_until = 0.0
        self._settle(now)

    def eject(self, now: float, seconds: float) -> None:
        """Take it out of the choice for ``seconds``, doubled with each time before this one."""
        if now - self.ejected_until > FORGIVEN_SECONDS:
            self.ejections = 0
        seconds = min(LONGEST_EJECTION_SECONDS, seconds * 2.0 ** min(self.ejections, 10))
        self.ejections += 1
        self.strikes = 0
        self.latency = self.slow_since = 0.0
        self.ejected_until = self.warm_since = now + seconds
        self._settle(now)

    def release(self, now: float) -> None:
        """End its ejection before its time."""
        self.ejected_until = self.warm_since = now
        self._settle(now)

    def bar(self, now: float, *, barred: bool) -> None:
        """Take it out of the choice, or back into it, for what its health checks say."""
        if self.barred and not barred:
            self.warm_since = now
        self.barred = barred
        self._settle(now)

    def remove(self) -> None:
        """Keep nothing any more."""
        self.removed = True
        idle, self.idle = self.idle, []
        for task in idle:
            task.close()

    def state(self, now: float) -> State:
        """Say how it stands."""
        if self.barred:
            return State.BARRED
        if self.ejected_until > now:
            return State.EJECTED
        if self.unreached_until > now:
            return State.UNREACHED
        return State.UNWELL if self.unwell else State.IN_CHOICE

    def _settle(self, now: float) -> None:
        until = math.inf if self.barred else max(self.unreached_until, self.ejected_until)
        self.retry_at = until if until > now else 0.0

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Endpoint {self.name} active={self.active} idle={len(self.idle)}>"


class Judge:
    """Takes endpoints of one backend out of the choice: those that do not serve as they should."""

    __slots__ = ("_endpoints", "_percent", "_seconds", "_strikes", "_tally", "suspects")

    suspects: set[Endpoint]
    """Endpoints whose last requests failed; while there are any, good news is asked for."""

    def __init__(
        self, tally: "BackendTally", *, strikes: int, seconds: float, percent: int
    ) -> None:
        """
        Take when and how to eject.

        ``strikes`` failed requests in a row eject, 0 never; ``seconds`` is the
        first time; at most ``percent`` of endpoints are out of the choice at once.
        """
        self._tally = tally
        self._strikes = strikes
        self._seconds = seconds
        self._percent = percent
        self._endpoints: tuple[Endpoint, ...] = ()
        self.suspects = set()

    def keep(self, endpoints: Iterable[Endpoint], now: float) -> None:
        """Judge these from now on; of fewer endpoints, fewer may be out."""
        self._endpoints = tuple(endpoints)
        if self.suspects:
            self.suspects.intersection_update(self._endpoints)
        for each in self._endpoints:
            if each.unwell or each.ejected_until > now:
                self._thin_out(now)
                return

    def note_failure(self, endpoint: Endpoint, now: float) -> None:
        """Count a failed request; too many in a row eject."""
        if not self._strikes:
            return
        endpoint.strikes += 1
        self.suspects.add(endpoint)
        if endpoint.strikes >= self._strikes:
            self.eject(endpoint, now, Why.FAILURES)

    def note_success(self, endpoint: Endpoint, now: float) -> None:
        """Forget what a good answer makes up for."""
        endpoint.strikes = 0
        if endpoint.ejected_until <= now:
            endpoint.note_success(now)
            self.suspects.discard(endpoint)

    def eject(self, endpoint: Endpoint, now: float, why: Why) -> bool:
        """Take an endpoint out of the choice for a time, unless too many would be then."""
        if endpoint.is_out(now):
            return False
        # One that cannot be reached serves nobody either.
        out = sum(1 for each in self._endpoints if each is not endpoint and each.retry_at > now)
        if not self._bears(out + 1):
            return False
        endpoint.eject(now, self._seconds)
        if why is Why.FAILURES:
            # It comes back on trial: the next failure ejects it again, a good answer acquits it.
            endpoint.strikes = self._strikes - 1
        count(self._tally.ejections, why.value)
        return True

    def note_health(self, endpoint: Endpoint, now: float, *, unwell: bool) -> None:
        """Take the verdict of the health checks."""
        endpoint.unwell = unwell
        if unwell:
            count(self._tally.ejections, Why.HEALTH_CHECK.value)
        self._weigh_unwell(now)

    def panics(self) -> bool:
        """Tell whether so many do not pass their checks that the checks are not followed."""
        return any(each.unwell and not each.barred for each in self._endpoints)

    def _thin_out(self, now: float) -> None:
        """Take back in what is out beyond the share, first what would be back first."""
        self._weigh_unwell(now)
        ejected = [each for each in self._endpoints if each.ejected_until > now and not each.barred]
        ejected.sort(key=_ejected_until)
        while ejected and not self._bears(self._out(now)):
            ejected.pop(0).release(now)

    def _weigh_unwell(self, now: float) -> None:
        """Bar all that are unwell, or none: those that are left must be able to carry the load."""
        out = sum(1 for each in self._endpoints if each.unwell or each.ejected_until > now)
        bears = self._bears(out)
        for each in self._endpoints:
            if each.barred != (each.unwell and bears):
                each.bar(now, barred=each.unwell and bears)

    def _out(self, now: float) -> int:
        return sum(1 for each in self._endpoints if each.is_out(now))

    def _bears(self, out: int) -> bool:
        return out * 100 <= len(self._endpoints) * self._percent


def states(endpoints: Collection[Endpoint], now: float) -> dict[str, int]:
    """Count endpoints by how they stand; those in the choice are named, others if there are any."""
    found = {State.IN_CHOICE.value: 0}
    for endpoint in endpoints:
        count(found, endpoint.state(now).value)
    return found


def least_bad(endpoints: Sequence[Endpoint], exchange: "Exchange") -> Endpoint:
    """Return, where none may serve, who may again the soonest; one not tried yet if there is."""
    untried = [endpoint for endpoint in endpoints if endpoint not in exchange.tried]
    return min(untried or endpoints, key=_retry_at)


def _retry_at(endpoint: Endpoint) -> float:
    return endpoint.retry_at


def _ejected_until(endpoint: Endpoint) -> float:
    return endpoint.ejected_until
