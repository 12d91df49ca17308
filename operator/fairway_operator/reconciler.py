"""
The heart: from a batch of events to a published snapshot.

One function without ``await`` does it all, so there is never a half-applied
batch: decode, put into the World, compile, publish, fill the outbox.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fairway_operator.compiler import Compilation, Compiler
from fairway_operator.effects import Effect
from fairway_operator.inbox import Batch
from fairway_operator.publisher import Position
from fairway_snapshot.tree import Snapshot


class SnapshotSink(Protocol):
    """Where a new snapshot goes."""

    def publish(self, snapshot: Snapshot, position: Position) -> None:
        """Make this the snapshot that every subscriber should have."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one batch came to."""

    position: Position
    compilation: Compilation
    published: bool
    """False when the batch changed nothing that a data plane would see."""
    first_event_at: float
    compile_seconds: float


class Reconciler:
    """Owns the World and the last compilation."""

    def __init__(
        self,
        *,
        compiler: Compiler,
        publisher: SnapshotSink,
        fill: Callable[[tuple[Effect, ...]], None] | None = None,
        epoch: Callable[[], int] = lambda: 0,
    ) -> None:
        """``fill`` takes what should be written to the cluster; None writes nothing."""
        raise NotImplementedError

    def apply(self, batch: Batch) -> Commit:
        """Work the batch into the World and publish what comes of it."""
        raise NotImplementedError

    def review(self) -> None:
        """Plan the effects again, after receipts or addresses have changed."""
        raise NotImplementedError
