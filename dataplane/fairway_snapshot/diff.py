"""
What differs between two snapshots.

Equal digests are skipped whole, so the cost follows the size of the change,
never that of the snapshots.
"""

from collections.abc import Generator, Iterator
from typing import Final

import msgspec

from fairway_snapshot import nodes
from fairway_snapshot.digest import Digest
from fairway_snapshot.model import Leaf, Section
from fairway_snapshot.nodes import Branch, LeafNode, Subtree
from fairway_snapshot.tree import Snapshot


class Change(msgspec.Struct, frozen=True, gc=False):
    """A key whose leaf differs; None where there is no leaf."""

    section: Section
    key: str
    before: Leaf | None
    after: Leaf | None


def changes(old: Snapshot, new: Snapshot) -> Iterator[Change]:
    """Yield each difference once: by section, then in the order of the tree."""
    for section in Section:
        pairs = _differences(old.node.subtrees[section], new.node.subtrees[section], 0)
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


def release_in_steps(old: Snapshot, new: Snapshot) -> Generator[None, None, None]:
    """
    Let go of what only ``old`` holds, a node at a time.

    Works once the first step is taken and nobody else holds ``old``: to free ten
    thousand leaves at once would stop a loop that serves.
    """
    pairs = [(old.node.subtrees[section], new.node.subtrees[section]) for section in Section]
    del old, new
    yield
    while pairs:
        held, kept = pairs.pop()
        if held is kept or held is None:
            continue
        if isinstance(held, Branch):
            pairs.extend(zip(held.children, _below(kept, None), strict=True))
            continue
        leaves = list(held.leaves)
        del held
        while leaves:
            leaves.pop()
            yield


def _differences(
    old: Subtree | None, new: Subtree | None, depth: int
) -> Iterator[tuple[str, LeafNode | None, LeafNode | None]]:
    if old is new or (old is not None and new is not None and old.digest == new.digest):
        return
    if isinstance(old, Branch) or isinstance(new, Branch):
        for before, after in zip(_below(old, depth), _below(new, depth), strict=True):
            yield from _differences(before, after, depth + 1)
        return
    held, wanted = dict(nodes.leaves(old)), dict(nodes.leaves(new))
    for key in sorted(held.keys() | wanted.keys()):
        first, second = held.get(key), wanted.get(key)
        if first is None or second is None or first.digest != second.digest:
            yield key, first, second


_NONE_BELOW: Final = (None,) * nodes.FANOUT


def _below(subtree: Subtree | None, depth: int | None) -> "tuple[Subtree | None, ...]":
    """Return the children of a branch, or what they would be of a bucket; none without a depth."""
    if isinstance(subtree, Branch):
        return subtree.children
    if subtree is None or depth is None:
        return _NONE_BELOW
    return nodes.divided(subtree, depth)


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
