"""
A look at what the answers of a backend took, now and then and never per request.

A connection adds two numbers to its endpoint for each answer; the review takes
them away again. From them come the latency of each endpoint, the ejection of
one that is far slower than its peers for long enough, and the limit of adaptive
concurrency. It is woken by the coarse clock and costs no timer. A backend that nobody
is connected to cannot answer, and sleeps until somebody is: of ten thousand, most do.
With adaptive concurrency it is not put to sleep again, which would leave a probe half done.
"""

import math
from collections.abc import Callable, Iterable

from fairway_dataplane.clock import NEVER, Clock
from fairway_dataplane.upstream.gradient import Gradient
from fairway_dataplane.upstream.health import Endpoint, Judge, Why

_LOOK_SECONDS = 1.0
_QUICK_SECONDS = 0.2
"""Between two looks where a limit depends on them."""

_MEMORY_SECONDS = 5.0
"""Of the moving mean."""

_STALE_SECONDS = 30.0
"""So long after its last answer, the latency of an endpoint says nothing any more."""

_LEAST_EXCESS_SECONDS = 0.05
"""Nobody is hurt by an endpoint that is slower by less than that."""

_LEAST_ANSWERS = 10
"""Slow ones that an ejection needs: one slow page is none."""

WARM_UP_SECONDS = 30.0
"""An endpoint that came to others may be slow for so long."""


class Review:
    """What looks at one backend; watched by the clock while it has something to do."""

    __slots__ = (
        "_clock", "_endpoints", "_factor", "_gradient", "_in_flight", "_judge", "_looked_at",
        "_slow_seconds", "_wanted", "_watched", "deadline", "slot",
    )  # fmt: skip

    def __init__(
        self, clock: Clock, judge: Judge, *, slow_seconds: float, in_flight: Callable[[], int]
    ) -> None:
        """Take how long an endpoint must be slow, and what says how many requests there are."""
        self._clock = clock
        self._judge = judge
        self._slow_seconds = slow_seconds
        self._in_flight = in_flight
        self._endpoints: tuple[Endpoint, ...] = ()
        self._factor = 0.0
        self._gradient: Gradient | None = None
        self._looked_at = clock.now
        self._wanted = False
        self._watched = False
        self.deadline = NEVER
        self.slot = 0

    def keep(
        self, endpoints: Iterable[Endpoint], *, factor: float, gradient: Gradient | None
    ) -> None:
        """Look at these from now on; a ``factor`` of 0 ejects none for its latency."""
        self._endpoints = tuple(endpoints)
        self._factor = factor
        self._gradient = gradient
        self._wanted = bool(self._endpoints) and (self._factor > 0 or gradient is not None)
        if not self._wanted:
            self._sleep()
        elif self._may_answer():
            self.wake()

    def wake(self) -> None:
        """Look from now on, if there is a reason to: somebody connects."""
        if self._wanted and not self._watched:
            self._watched = True
            self._looked_at = self._clock.now
            self.deadline = self._clock.now + _LOOK_SECONDS
            self._clock.watch(self)

    def _sleep(self) -> None:
        if self._watched:
            self._watched = False
            self.deadline = NEVER
            self._clock.forget(self)

    def _may_answer(self) -> bool:
        return any(each.idle or each.active or each.opening for each in self._endpoints)

    def expire(self, now: float) -> None:
        """Look, and say when to look again."""
        answers, seconds = self._take(now)
        if self._factor and answers:
            self._weigh(now)
        if self._gradient is not None:
            self._gradient.observe(answers, seconds, self._in_flight(), now)
            self.deadline = now + (_QUICK_SECONDS if self._in_flight() else _LOOK_SECONDS)
            self._clock.hasten(self)
        elif answers or self._may_answer():
            self.deadline = now + _LOOK_SECONDS
        else:
            self._sleep()

    def _take(self, now: float) -> tuple[int, float]:
        """Take what was counted since the last look; return all of it."""
        share = 1.0 - math.exp((self._looked_at - now) / _MEMORY_SECONDS)
        self._looked_at = now
        answers, seconds = 0, 0.0
        for endpoint in self._endpoints:
            number = endpoint.answers
            if not number:
                continue
            took = endpoint.answer_seconds
            endpoint.answers, endpoint.answer_seconds = 0, 0.0
            answers += number
            seconds += took
            mean = took / number
            if endpoint.latency and now - endpoint.answered_at <= _STALE_SECONDS:
                endpoint.latency += (mean - endpoint.latency) * share
            else:
                endpoint.latency = mean
                endpoint.slow_since = 0.0
            endpoint.answered_at = now
            endpoint.slow_answers += number
        return answers, seconds

    def _weigh(self, now: float) -> None:
        """Eject who is far slower than the others, and has been for long enough."""
        known = sorted(
            endpoint.latency
            for endpoint in self._endpoints
            if endpoint.latency and now - endpoint.answered_at <= _STALE_SECONDS
        )
        if len(known) < 2:  # nobody to compare it with
            return
        # The lower median: of two, the faster one.
        median = known[(len(known) - 1) // 2]
        bound = max(median * self._factor, median + _LEAST_EXCESS_SECONDS)
        for endpoint in self._endpoints:
            if endpoint.answered_at != now:
                continue
            if endpoint.latency <= bound or now - endpoint.came_at < WARM_UP_SECONDS:
                endpoint.slow_since = 0.0
            elif not endpoint.slow_since:
                endpoint.slow_since, endpoint.slow_answers = now, 0
            elif (
                now - endpoint.slow_since >= self._slow_seconds
                and endpoint.slow_answers >= _LEAST_ANSWERS
            ):
                self._judge.eject(endpoint, now, Why.LATENCY)
