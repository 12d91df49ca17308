"""
How much a backend can bear, learnt from what its answers take.

The gradient of Netflix's concurrency-limits and of Envoy's adaptive concurrency:
what an answer takes when nothing waits, by what it takes now, scales the limit;
a square root of it is added on top, the only queue that is wanted. Time and
measurements are arguments, so the same numbers give the same limit.

What an answer takes when nothing waits can be seen only when nothing waits: now
and then, while the limit is felt, it is lowered for a moment until the queue is
gone. Otherwise a backend that is always busy would teach that busy is normal.
"""

import math

FIRST_LIMIT = 50.0
LEAST_LIMIT = 3.0
MOST_LIMIT = 1000.0

_TOLERANCE = 1.5
"""Answers may take so many times the least before the limit shrinks."""

_SHARPEST = 0.5
"""The limit is at most halved at once."""

_SMOOTHING = 0.4
"""Share of the new limit in the next one."""

_SAMPLES = 10
"""Answers that a judgement needs."""

_PROBE_SECONDS = 30.0
"""From one look at an idle backend to the next."""

_PROBE_LIMIT_SECONDS = 3.0
_PROBE_LIMIT_ANSWERS = 10
"""A look takes no longer, or so many answers: a backend that is silent teaches nothing."""


class Gradient:
    """The limit of one backend in one worker."""

    __slots__ = (
        "_answers", "_drained", "_least", "_limit", "_probe_at", "_probe_until", "_seconds",
        "limit", "shed",
    )  # fmt: skip

    limit: int
    """Requests that may be in flight now."""
    shed: int
    """Requests refused for it since the last :meth:`observe`; who refuses one counts it."""

    def __init__(self) -> None:
        self._limit = FIRST_LIMIT
        self._least = 0.0
        self._answers = 0
        self._seconds = 0.0
        self._probe_at = -math.inf
        self._probe_until = -math.inf
        self._drained = False
        self.limit = int(FIRST_LIMIT)
        self.shed = 0

    @property
    def least_seconds(self) -> float:
        """What an answer takes when nothing waits; 0.0 before it is known."""
        return self._least

    def observe(self, answers: int, seconds: float, in_flight: int, now: float) -> None:
        """Learn from the answers since the last call; ``seconds`` is what they took in sum."""
        shed, self.shed = self.shed, 0
        if self._probe_until > now:
            self._probe(answers, seconds, in_flight, now)
            return
        self.limit = int(self._limit)
        self._answers += answers
        self._seconds += seconds
        if self._answers < _SAMPLES:
            return
        mean = self._take()
        if not self._least or mean < self._least:
            self._least = mean
        felt = shed > 0 or in_flight * 2 >= self._limit
        if felt and now >= self._probe_at:
            self._begin_probe(mean, now)
            return
        gradient = min(1.0, max(_SHARPEST, self._least * _TOLERANCE / mean))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        if wanted > self._limit and not felt:
            return
        wanted = self._limit + _SMOOTHING * (wanted - self._limit)
        self._limit = min(MOST_LIMIT, max(LEAST_LIMIT, wanted))
        self.limit = int(self._limit)

    def _begin_probe(self, mean: float, now: float) -> None:
        """Lower the limit below what the backend works on at once, by what is known of it."""
        known = self._probe_at > -math.inf
        share = 0.8 * self._least / mean if known else 0.0
        self._probe_at = now + _PROBE_SECONDS
        self._probe_until = now + max(_PROBE_LIMIT_SECONDS, _PROBE_LIMIT_ANSWERS * mean)
        self._drained = False
        self.limit = int(max(LEAST_LIMIT, self._limit * share))

    def _probe(self, answers: int, seconds: float, in_flight: int, now: float) -> None:
        if not self._drained:
            # These answers have waited behind others, and some more are on their way.
            self._drained = in_flight <= self.limit
            return
        self._answers += answers
        self._seconds += seconds
        if self._answers >= min(_SAMPLES, self.limit):
            self._least = self._take()
            self._probe_until = now
            self.limit = int(self._limit)

    def _take(self) -> float:
        mean = self._seconds / self._answers
        self._answers, self._seconds = 0, 0.0
        return mean
