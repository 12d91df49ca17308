"""
What the data planes have said about the snapshots they were sent.

A generation of an object is contained in the first snapshot that was published
after it was compiled, and in all later ones. It is *settled* once every data
plane that is there serves such a snapshot; from then on it stays settled,
whoever joins or leaves, until a data plane refuses it or a new generation
comes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from rpds import HashTrieMap

from fairway_operator.compiler import Compilation
from fairway_operator.refs import ObjectRef
from fairway_snapshot.digest import Digest
from fairway_snapshot.protocol import START, Position


@dataclass(frozen=True, slots=True)
class DataPlane:
    """The last word of one data plane."""

    acked: Position = START
    """What it serves."""
    refused: Position = START
    """What it would not serve; later than ``acked`` while that is the last word."""
    reason: str = ""
    """Why it refused."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where one generation of one object is."""

    generation: int
    position: Position
    """Of the first snapshot that contains it."""
    root: Digest
    """Of that snapshot."""
    published_at: float
    settled: "Settled | None" = None


@dataclass(frozen=True, slots=True)
class Settled:
    """All data planes serve it."""

    data_planes: int
    seconds: float
    """From its publication to the last acknowledgement."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """
    All receipts at one moment.

    A value: each method returns another one. ``at`` is any clock in seconds
    that does not go back; it is used for durations alone.
    """

    data_planes: "HashTrieMap[str, DataPlane]"
    by_object: "HashTrieMap[ObjectRef, Receipt]"
    pending: frozenset[ObjectRef]
    """Objects whose receipt is not settled."""

    def published(
        self, compilation: Compilation, position: Position, root: Digest, *, at: float
    ) -> "Receipts":
        """Note that ``compilation`` went out; every new generation in it waits for receipts."""
        by_object = self.by_object
        fresh: set[ObjectRef] = set()
        gone: set[ObjectRef] = set()
        for ref in compilation.touched:
            serving = compilation.serving.get(ref)
            known = by_object.get(ref)
            if serving is None:
                by_object = by_object.discard(ref)
                gone.add(ref)
            elif known is None or known.generation != serving.generation:
                by_object = by_object.insert(ref, Receipt(serving.generation, position, root, at))
                fresh.add(ref)
        pending = (self.pending - gone) | fresh if fresh or gone else self.pending
        return _settle(replace(self, by_object=by_object, pending=pending), at)

    def acked(self, instance: str, position: Position, *, at: float) -> "Receipts":
        """Note that a data plane serves ``position``; also its first word after connecting."""
        planes = self.data_planes.insert(instance, DataPlane(acked=position))
        return _settle(replace(self, data_planes=planes), at)

    def refused(self, instance: str, position: Position, reason: str, *, at: float) -> "Receipts":
        """Note that a data plane keeps what it has, and why."""
        known = self.data_planes.get(instance, DataPlane())
        refusal = replace(known, refused=position, reason=reason)
        planes = self.data_planes.insert(instance, refusal)
        return _settle(replace(self, data_planes=planes), at)

    def left(self, instance: str, *, at: float) -> "Receipts":
        """Note that a data plane is gone; it is not waited for."""
        return _settle(replace(self, data_planes=self.data_planes.discard(instance)), at)

    def of(self, ref: ObjectRef, generation: int) -> Receipt | None:
        """Return the receipt of a generation; None where it was not published."""
        receipt = self.by_object.get(ref)
        return receipt if receipt is not None and receipt.generation == generation else None

    def refusals(self, receipt: Receipt) -> Iterator[tuple[str, str]]:
        """Yield the data planes that refuse what this receipt is about, with reasons, sorted."""
        for instance in sorted(self.data_planes):
            plane = self.data_planes[instance]
            if plane.acked < receipt.position <= plane.refused:
                yield instance, plane.reason

    def serving(self, receipt: Receipt) -> int:
        """Return how many data planes serve what this receipt is about."""
        return sum(plane.acked >= receipt.position for plane in self.data_planes.values())


def _settle(receipts: Receipts, at: float) -> Receipts:
    """Settle what every data plane serves."""
    if not receipts.pending or not len(receipts.data_planes):
        return receipts
    oldest = min(plane.acked for plane in receipts.data_planes.values())
    by_object = receipts.by_object
    settled: set[ObjectRef] = set()
    for ref in receipts.pending:
        receipt = by_object[ref]
        if receipt.position <= oldest:
            outcome = Settled(len(receipts.data_planes), at - receipt.published_at)
            by_object = by_object.insert(ref, replace(receipt, settled=outcome))
            settled.add(ref)
    if not settled:
        return receipts
    return replace(receipts, by_object=by_object, pending=receipts.pending - settled)


NO_RECEIPTS: Final = Receipts(HashTrieMap(), HashTrieMap(), frozenset())
