"""
The heart: from a batch of events to a published snapshot.

One function without ``await`` does it all, so there is never a half-applied
batch: decode, put into the World, compile, publish, plan what to write. The
reconciler is the only owner of the World, of the last compilation and of the
receipts; it knows no Kubernetes client and no gRPC, and ``fairway dev`` runs the
same one over files.

The one rule: publishing comes first and depends on nothing that is written to
the cluster. Status is told afterwards, and may be late or fail.
"""

import gc
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from fairway_operator import world as worlds
from fairway_operator.compiler import Compilation, Compiler
from fairway_operator.effects import (
    FIELD_MANAGER,
    NO_RECEIPTS,
    Effect,
    Receipts,
    Told,
    plan_effects,
)
from fairway_operator.inbox import Batch
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import decode
from fairway_operator.world import World
from fairway_snapshot.digest import Digest
from fairway_snapshot.protocol import START, Position
from fairway_snapshot.tree import Snapshot

FIRST_LISTS = 1_000
"""
Events of a batch that is no edit: ten thousand Ingresses with their Services and endpoints take
2.3 s of CPU instead of 3.2 s without the garbage collector.
"""

REMEMBERED_ROOTS = 256
"""An acknowledgement of a root older than this many snapshots counts as one of nothing."""


class SnapshotSink(Protocol):
    """Where a new snapshot goes."""

    def publish(self, snapshot: Snapshot, position: Position) -> None:
        """Make this the snapshot that every subscriber should have."""


class EffectSink(Protocol):
    """Where the plan of what to write goes."""

    def fill(self, effects: Collection[Effect], about: Collection[ObjectRef] | None) -> None:
        """Replace what was planned ``about`` these objects, or about all (None)."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What one batch came to."""

    position: Position
    compilation: Compilation
    published: bool
    """False when the batch changed nothing that a data plane would see."""
    first_event_at: float
    """When the first event of the batch came in, by the inbox's clock."""
    compile_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the reconciler needs to know of the program around it."""

    effects: EffectSink | None = None
    """None when there is nothing to write to."""
    writes: Callable[[], bool] = lambda: True
    """Whether effects are ours to plan at all: only the leader writes."""
    epoch: Callable[[], int] = lambda: 1
    addresses: Callable[[World], tuple[str, ...]] = lambda _world: ()
    """What Ingress status should show."""
    field_manager: str = FIELD_MANAGER
    """Whose status is ours."""
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC)


class Reconciler:
    """Owns the World and what was last made of it."""

    def __init__(
        self, compiler: Compiler, publisher: SnapshotSink, surroundings: Surroundings | None = None
    ) -> None:
        self.world = worlds.EMPTY
        self.compilation: Compilation | None = None
        self.position = START
        self.receipts: Receipts = NO_RECEIPTS
        self._compiler = compiler
        self._publisher = publisher
        self._around = surroundings or Surroundings()
        self._positions: dict[Digest, Position] = {}
        self._roots: dict[str, Digest] = {}
        """What each data plane was last heard to serve."""
        self._addresses: tuple[str, ...] = ()
        self._told: Told | None = None
        """What the authors of objects have been told of."""
        self._unplanned: set[ObjectRef] | None = None
        """Objects to plan for; None is all of them."""

    def __repr__(self) -> str:
        """Say where in the stream we are."""
        return f"Reconciler(position={tuple(self.position)})"

    def apply(self, batch: Batch) -> Commit:
        """Work the batch into the World, publish what comes of it, and plan what to write."""
        if len(batch.events) < FIRST_LISTS:
            return self._apply(batch)
        # All that is made here stays. The collector would look at it again and again, now and
        # for as long as we live.
        gc.disable()
        try:
            return self._apply(batch)
        finally:
            gc.freeze()
            gc.enable()

    def _apply(self, batch: Batch) -> Commit:
        started_at = self._around.clock()
        world = self.world
        for event in batch.events:
            if event.deleted:
                world = world.remove(event.ref)
            else:
                world = world.put(decode(event.kind, event.body))
        previous, self.world = self.compilation, world
        compilation = self.compilation = self._compiler.compile(world)
        compile_seconds = self._around.clock() - started_at
        published = previous is None or previous.snapshot.root != compilation.snapshot.root
        if published:
            self._publish(compilation.snapshot)
        if self._around.effects is not None:
            self._note_published(compilation)
            self._affect({event.ref for event in batch.events} | compilation.touched)
            self.review()
        return Commit(self.position, compilation, published, batch.first_at, compile_seconds)

    def acked(self, instance: str, root: Digest) -> None:
        """Note that a data plane serves ``root``; :meth:`review` makes status of it."""
        self._roots[instance] = root
        position = self._positions.get(root, START)
        self._take(self.receipts.acked(instance, position, at=self._around.clock()))

    def refused(self, instance: str, root: Digest, reason: str) -> None:
        """Note that a data plane keeps what it has, which may concern any object."""
        position = self._positions.get(root, START)
        self._take(self.receipts.refused(instance, position, reason, at=self._around.clock()))
        self._unplanned = None

    def left(self, instance: str) -> None:
        """Note that a data plane is gone."""
        self._roots.pop(instance, None)
        self._take(self.receipts.left(instance, at=self._around.clock()))

    def review(self) -> None:
        """Plan what to write for the objects that something has happened to since the last plan."""
        around = self._around
        if around.effects is None or self.compilation is None:
            return
        if not around.writes():
            # Whoever writes now plans for itself; when it is our turn, we begin with everything.
            self._unplanned = None
            return
        addresses = around.addresses(self.world)
        if addresses != self._addresses:
            # Every status shows them.
            self._addresses, self._unplanned = addresses, None
        about, self._unplanned = self._unplanned, set()
        effects = plan_effects(
            self.compilation,
            self.world,
            self.receipts,
            addresses,
            now=around.wall_clock().strftime("%Y-%m-%dT%H:%M:%SZ"),
            told=self._told,
            only=about,
            field_manager=around.field_manager,
        )
        self._told = Told(self.compilation, self.receipts)
        around.effects.fill(effects, about)

    def _publish(self, snapshot: Snapshot) -> None:
        epoch = max(self.position.epoch, self._around.epoch())
        self.position = Position(epoch, self.position.sequence + 1)
        self._positions.pop(snapshot.root, None)
        self._positions[snapshot.root] = self.position
        if len(self._positions) > REMEMBERED_ROOTS:
            del self._positions[next(iter(self._positions))]
        self._publisher.publish(snapshot, self.position)

    def _note_published(self, compilation: Compilation) -> None:
        now, root = self._around.clock(), compilation.snapshot.root
        self.receipts = self.receipts.published(compilation, self.position, root, at=now)
        for instance, served in self._roots.items():
            # It has this from another replica, which was quicker than we are.
            if served == root:
                self.receipts = self.receipts.acked(instance, self.position, at=now)

    def _take(self, receipts: Receipts) -> None:
        self._affect(self.receipts.pending | receipts.pending)
        self.receipts = receipts

    def _affect(self, refs: Collection[ObjectRef]) -> None:
        if self._unplanned is not None:
            self._unplanned.update(refs)
