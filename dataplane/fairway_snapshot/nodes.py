"""
The nodes of the tree: leaves, buckets, branches and the root.

A node is made whole, with its digest, and never changed. Leaves are encoded as
maps, the other nodes as arrays that begin with their kind, so no node can be
taken for one of another kind. A leaf holds its bytes as well as its value: it
is sent to many readers and encoded once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeAlias, TypeVar

import msgspec

from fairway_snapshot.codec import encode_leaf, section_of
from fairway_snapshot.digest import Digest, digest_of
from fairway_snapshot.model import Leaf, Section

FORMAT: Final = 1
"""Version of the shape of the tree; a reader refuses any other."""

FANOUT: Final = 16
BUCKET_LIMIT: Final = 16
DEPTH_LIMIT: Final = 64
"""Nibbles of a key's hash."""

NOTHING: Final = Digest(b"")
"""Stands where a section or a child is empty."""


class BucketForm(
    msgspec.Struct, frozen=True, array_like=True, tag="bucket", forbid_unknown_fields=True
):
    """Keys with the digests of their leaves, sorted by key."""

    entries: tuple[tuple[str, bytes], ...]


class BranchForm(
    msgspec.Struct, frozen=True, array_like=True, tag="branch", forbid_unknown_fields=True
):
    """The digests of 16 children, by the next nibble of the key's hash."""

    children: tuple[bytes, ...]


class RootForm(
    msgspec.Struct, frozen=True, array_like=True, tag="root", forbid_unknown_fields=True
):
    """The version of the format and the digests of the sections, in :class:`Section`'s order."""

    format: int
    sections: tuple[bytes, ...]


_AnyLeaf = TypeVar("_AnyLeaf", "LeafNode", "LeafNode | None")

encode_form = msgspec.msgpack.Encoder().encode


class LeafNode(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A leaf with its bytes; which section it belongs to is known by where it hangs."""

    digest: Digest
    blob: bytes
    value: Leaf

    @classmethod
    def of(cls, section: Section, leaf: Leaf) -> "LeafNode":
        """Make the node of a leaf; raises ValueError if it does not belong or cannot be encoded."""
        if section_of(leaf) is not section:
            raise ValueError(f"a {type(leaf).__name__} is not a leaf of {section}")
        blob = encode_leaf(leaf)
        return cls(digest_of(blob), blob, leaf)


class Bucket:
    """At most 16 leaves, sorted by key."""

    __slots__ = ("count", "digest", "keys", "leaves")

    def __init__(self, keys: tuple[str, ...], leaves: tuple[LeafNode, ...]) -> None:
        self.keys = keys
        self.leaves = leaves
        self.count = len(keys)
        self.digest = digest_of(self.blob())

    def blob(self) -> bytes:
        """Return the encoded form."""
        digests = (leaf.digest for leaf in self.leaves)
        return encode_form(BucketForm(tuple(zip(self.keys, digests, strict=True))))


class Branch:
    """More than 16 leaves, by the next nibble of the key's hash."""

    __slots__ = ("children", "count", "digest")

    count: int

    def __init__(self, children: "tuple[Subtree | None, ...]") -> None:
        self.children = children
        self.count = sum(child.count for child in children if child is not None)
        self.digest = digest_of(self.blob())

    def blob(self) -> bytes:
        """Return the encoded form."""
        return encode_form(BranchForm(tuple(map(_digest_at, self.children))))


Subtree: TypeAlias = Bucket | Branch


class RootNode:
    """The four sections."""

    __slots__ = ("digest", "subtrees")

    def __init__(self, subtrees: Mapping[Section, Subtree | None]) -> None:
        self.subtrees = subtrees
        self.digest = digest_of(self.blob())

    def blob(self) -> bytes:
        """Return the encoded form."""
        return encode_form(RootForm(FORMAT, tuple(_digest_at(self.subtrees[s]) for s in Section)))


def place(key: str) -> str:
    """Return the way from the root of a section to a key: 64 hex digits, one for each depth."""
    return digest_of(key.encode()).hex()


def find(subtree: Subtree | None, key: str) -> LeafNode | None:
    """Return the leaf of a key."""
    if isinstance(subtree, Branch):
        way = place(key)
        depth = 0
        while isinstance(subtree, Branch):
            subtree = subtree.children[int(way[depth], 16)]
            depth += 1
    if subtree is None or key not in subtree.keys:
        return None
    return subtree.leaves[subtree.keys.index(key)]


def leaves(subtree: Subtree | None) -> Iterator[tuple[str, LeafNode]]:
    """Yield keys and leaves."""
    if isinstance(subtree, Branch):
        for child in subtree.children:
            yield from leaves(child)
    elif subtree is not None:
        yield from zip(subtree.keys, subtree.leaves, strict=True)


def edit(subtree: Subtree | None, changes: Mapping[str, LeafNode | None]) -> Subtree | None:
    """Return the subtree of a section after the changes, or ``subtree`` itself if none is one."""
    return _edit(subtree, 0, [(place(key), key, leaf) for key, leaf in changes.items()])


def divided(bucket: Bucket, depth: int) -> "tuple[Subtree | None, ...]":
    """Return the leaves of a bucket at ``depth`` in the buckets that a branch would have there."""
    items = [(place(key), key, leaf) for key, leaf in leaves(bucket)]
    parts = _by_nibble(items, depth)
    return tuple(_bucket((key, leaf) for _, key, leaf in parts.get(at, ())) for at in range(FANOUT))


def blobs(subtree: Subtree | None, seen: set[Digest]) -> Iterator[bytes]:
    """Yield the encoded nodes whose digests are not in ``seen``, children first, and note them."""
    if subtree is None or subtree.digest in seen:
        return
    if isinstance(subtree, Branch):
        for child in subtree.children:
            yield from blobs(child, seen)
    else:
        yield from leaf_blobs(subtree.leaves, seen)
    seen.add(subtree.digest)
    yield subtree.blob()


def leaf_blobs(nodes: Iterable[LeafNode], seen: set[Digest]) -> Iterator[bytes]:
    """Yield the bytes of the leaves whose digests are not in ``seen``, and note them."""
    for leaf in nodes:
        if leaf.digest not in seen:
            seen.add(leaf.digest)
            yield leaf.blob


def _digest_at(subtree: Subtree | None) -> Digest:
    return NOTHING if subtree is None else subtree.digest


def _edit(
    subtree: Subtree | None, depth: int, changes: list[tuple[str, str, LeafNode | None]]
) -> Subtree | None:
    if not isinstance(subtree, Branch):
        return _edit_bucket(subtree, depth, changes)
    children = list(subtree.children)
    for at, part in _by_nibble(changes, depth).items():
        children[at] = _edit(children[at], depth + 1, part)
    if all(new is old for new, old in zip(children, subtree.children, strict=True)):
        return subtree
    if sum(child.count for child in children if child is not None) > BUCKET_LIMIT:
        return Branch(tuple(children))
    return _bucket(pair for child in children for pair in leaves(child))


def _edit_bucket(
    bucket: Bucket | None, depth: int, changes: list[tuple[str, str, LeafNode | None]]
) -> Subtree | None:
    held = dict(leaves(bucket))
    changed = False
    for _, key, leaf in changes:
        before = held.get(key)
        if leaf is None:
            changed |= held.pop(key, None) is not None
        elif before is None or before.digest != leaf.digest:
            held[key] = leaf
            changed = True
    if not changed:
        return bucket
    if len(held) <= BUCKET_LIMIT:
        return _bucket(held.items())
    return _build([(place(key), key, leaf) for key, leaf in held.items()], depth)


def _build(items: list[tuple[str, str, LeafNode]], depth: int) -> Subtree | None:
    if len(items) <= BUCKET_LIMIT:
        return _bucket((key, leaf) for _, key, leaf in items)
    parts = _by_nibble(items, depth)
    return Branch(tuple(_build(parts.get(at, []), depth + 1) for at in range(FANOUT)))


def _bucket(pairs: Iterable[tuple[str, LeafNode]]) -> Bucket | None:
    ordered = sorted(pairs, key=lambda pair: pair[0])
    if not ordered:
        return None
    return Bucket(tuple(key for key, _ in ordered), tuple(leaf for _, leaf in ordered))


def _by_nibble(
    items: list[tuple[str, str, _AnyLeaf]], depth: int
) -> dict[int, list[tuple[str, str, _AnyLeaf]]]:
    parts: dict[int, list[tuple[str, str, _AnyLeaf]]] = {}
    for item in items:
        parts.setdefault(int(item[0][depth], 16), []).append(item)
    return parts
