"""
Side effects, one at a time: the only place that writes to users' objects.

The outbox holds what should be true of the cluster, one entry for each object
and kind of effect; filling it replaces what was planned before, so a write
that is out of date is never sent. Only the leader works on it.
"""

from typing import Protocol

from fairway_operator.effects import Effect


class EffectWriter(Protocol):
    """Performs one effect."""

    async def write(self, effect: Effect) -> bool:
        """Write it; False when the object was so already, or is gone."""


class Outbox:
    """What is still to be written."""

    def fill(self, effects: tuple[Effect, ...]) -> None:
        """Replace what was planned."""
        raise NotImplementedError

    async def work(self) -> None:
        """Perform effects until cancelled."""
        raise NotImplementedError
