"""
What should be written to the cluster, as values.

:func:`plan_effects` compares what is true (the compilation, the receipts of
the data planes) with what the objects say, and returns only the difference.
It decides; the outbox writes. Time is an argument.
"""

from collections.abc import Collection
from typing import Literal, TypeAlias

import msgspec

from fairway_operator.compiler import Compilation
from fairway_operator.refs import ObjectRef
from fairway_operator.world import World
from fairway_snapshot.digest import Digest
from fairway_snapshot.protocol import Position

FIELD_MANAGER = "fairway-operator"
"""Field manager of every server-side apply; what it owns is what may be withdrawn."""


class Receipts:
    """
    What the data planes have said about the snapshots they were sent.

    A value: each method returns another one. ``at`` is any clock in seconds
    that does not go back; it is used for durations alone.
    """

    def published(
        self, compilation: Compilation, position: Position, root: Digest, *, at: float
    ) -> "Receipts":
        """Note that ``compilation`` went out; every generation in it waits for its receipts."""
        raise NotImplementedError

    def acked(self, instance: str, position: Position, *, at: float) -> "Receipts":
        """Note that a data plane serves ``position``; also its first word after connecting."""
        raise NotImplementedError

    def refused(self, instance: str, position: Position, reason: str, *, at: float) -> "Receipts":
        """Note that a data plane keeps what it has, and why."""
        raise NotImplementedError

    def left(self, instance: str, *, at: float) -> "Receipts":
        """Note that a data plane is gone; it is not waited for."""
        raise NotImplementedError


NO_RECEIPTS = Receipts()


class PatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Apply this status, and nothing else, server-side with :data:`FIELD_MANAGER`."""

    ref: ObjectRef
    generation: int
    """Generation that the status speaks of; a later effect for ``ref`` supersedes this one."""
    manifest: dict[str, object]
    """Whole body of the apply: apiVersion, kind, metadata (name, namespace), status."""


class EmitEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the author of an object by an event."""

    ref: ObjectRef
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


Effect: TypeAlias = PatchStatus | EmitEvent


def plan_effects(
    compilation: Compilation,
    world: World,
    receipts: Receipts,
    addresses: tuple[str, ...],
    *,
    now: str,
    told: Compilation | None = None,
    only: Collection[ObjectRef] | None = None,
) -> tuple[Effect, ...]:
    """
    Return what must be written so that the objects tell the truth.

    ``addresses`` are those of the data planes' Service (see
    :func:`published_addresses`). ``now`` is the wall clock as RFC 3339, for
    ``lastTransitionTime`` of conditions that flip. Findings that ``told``
    already had make no event. ``only`` limits the work to some objects, such
    as ``compilation.touched`` or ``receipts.settled``; None looks at all.
    A status that is equal in the World makes no effect.
    """
    raise NotImplementedError


def published_addresses(world: World, service: ObjectRef) -> tuple[str, ...]:
    """
    Return the addresses under which ``service`` is reachable from outside.

    Those of its load balancer (IP addresses or host names), and its external
    IPs; empty while a load balancer is pending.
    """
    raise NotImplementedError
