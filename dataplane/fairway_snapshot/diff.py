"""
What differs between two snapshots.

Equal digests are skipped whole, so the cost follows the size of the change,
never that of the snapshots.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fairway_snapshot import nodes
from fairway_snapshot.digest import Digest
from fairway_snapshot.model import Leaf, Section
from fairway_snapshot.nodes import Branch, LeafNode, Subtree
from fairway_snapshot.tree import Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """A key whose leaf differs; None where there is no leaf."""

    section: Section
    key: str
    before: Leaf | None
    after: Leaf | None


def changes(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    """Yield each difference once: by section, then in the order of the tree."""
    for section in Section:
        pairs = _differences(old.node.subtrees[section], new.node.subtrees[section])
        for key, before, after in pairs:
            yield Change(
                section,
                key,
                None if before is None else before.value,
                None if after is None else after.value,
            )


def missing_blobs(old: Snapshot, new: Snapshot) -> list[bytes]:
    """
    Return the encoded nodes of ``new`` that a holder of ``old`` lacks, children first.

    With them, :func:`fairway_snapshot.tree.assemble` makes ``new`` from
    ``old``. The root node is the last; the list is empty for equal snapshots.
    """
    if old.root == new.root:
        return []
    seen: set[Digest] = set()
    blobs: list[bytes] = []
    for section in Section:
        held = old.node.subtrees[section]
        blobs.extend(_missing(held, held, new.node.subtrees[section], seen))
    blobs.append(new.node.blob())
    return blobs


def _differences(
    old: Subtree | None, new: Subtree | None
) -> Iterator[tuple[str, LeafNode | None, LeafNode | None]]:
    if old is new or (old is not None and new is not None and old.digest == new.digest):
        return
    if isinstance(old, Branch) and isinstance(new, Branch):
        for before, after in zip(old.children, new.children, strict=True):
            yield from _differences(before, after)
        return
    held, wanted = dict(nodes.leaves(old)), dict(nodes.leaves(new))
    for key in sorted(held.keys() | wanted.keys()):
        first, second = held.get(key), wanted.get(key)
        if first is None or second is None or first.digest != second.digest:
            yield key, first, second


def _missing(
    section: Subtree | None, held: Subtree | None, wanted: Subtree | None, seen: set[Digest]
) -> Iterator[bytes]:
    """Walk ``wanted`` beside ``held``, the node at its place; ``section`` is all that is held."""
    if wanted is None or wanted.digest in seen:
        return
    if held is not None and held.digest == wanted.digest:
        return
    if isinstance(wanted, Branch):
        below = held.children if isinstance(held, Branch) else (None,) * nodes.FANOUT
        for child, before in zip(wanted.children, below, strict=True):
            yield from _missing(section, before, child, seen)
    else:
        lacking = (
            leaf
            for key, leaf in zip(wanted.keys, wanted.leaves, strict=True)
            if (known := nodes.find(section, key)) is None or known.digest != leaf.digest
        )
        yield from nodes.leaf_blobs(lacking, seen)
    seen.add(wanted.digest)
    yield wanted.blob()
