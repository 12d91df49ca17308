"""
From bytes to nodes: the reader that trusts nobody.

Nodes are looked up by digest among the bytes that came and in the snapshot
that is held already, first at the same place and, if a node has moved,
anywhere. Whatever is not shared with the held snapshot is checked as if an
enemy had written it: kind, canonical bytes, order and place of the keys, and
that a subtree is a bucket or a branch exactly when its size says so. A key has
one place, so a node that is named in many places fails at the second one, and
the work is bounded by the bytes that came.
"""

from collections.abc import Generator, Iterable
from itertools import pairwise
from typing import TypeVar

import msgspec

from fairway_snapshot import nodes
from fairway_snapshot.codec import MAX_BLOB_BYTES, SnapshotRefused, decode_leaf
from fairway_snapshot.digest import Digest, digest_of, short
from fairway_snapshot.model import Section
from fairway_snapshot.nodes import (
    BUCKET_LIMIT,
    DEPTH_LIMIT,
    FANOUT,
    FORMAT,
    NOTHING,
    Branch,
    BranchForm,
    Bucket,
    BucketForm,
    LeafNode,
    RootForm,
    RootNode,
    Subtree,
)
from fairway_snapshot.shards import MASK, SHARDS

_DIGEST_BYTES = 32

_Form = TypeVar("_Form", RootForm, "BucketForm | BranchForm")


def read_root_in_steps(
    root: Digest, blobs: Iterable[bytes], base: RootNode
) -> Generator[None, None, RootNode]:
    """Return the tree that ``root`` names, after many stops; raises :class:`SnapshotRefused`."""
    reader = _Reader(base)
    for blob in blobs:
        reader.take(blob)
        yield
    form = _decode(reader.blob(root), _ROOT)
    if form.format != FORMAT:
        raise SnapshotRefused(f"format {form.format} is not known, this reader knows {FORMAT}")
    if len(form.sections) != len(Section):
        raise SnapshotRefused(f"a root of {len(form.sections)} sections, not {len(Section)}")
    subtrees: dict[Section, Subtree | None] = {}
    for section, digest in zip(Section, form.sections, strict=True):
        subtrees[section] = yield from reader.subtree(section, digest, base.subtrees[section], "")
    yield from reader.let_go()
    return RootNode(subtrees)


class _Reader:
    """The nodes at hand while one snapshot is put together."""

    def __init__(self, base: RootNode) -> None:
        # In shards: one mapping of all would stop everything when it grows.
        self._received: list[dict[Digest, bytes]] = [{} for _ in range(SHARDS)]
        self._base = base
        self._moved: dict[Digest, bytes] | None = None
        self._leaves: list[dict[tuple[Section, Digest], LeafNode]] = [{} for _ in range(SHARDS)]

    def take(self, blob: bytes) -> None:
        """Add the bytes of a node."""
        digest = digest_of(blob)
        self._received[hash(digest) & MASK][digest] = blob

    def let_go(self) -> Generator[None, None, None]:
        """Forget what was read, a node at a time."""
        while self._received:
            self._received.pop()
            yield
        while self._leaves:
            self._leaves.pop()
            yield

    def blob(self, digest: Digest) -> bytes:
        """Return the bytes of a node that is not where it was in the base."""
        blob = self._received[hash(digest) & MASK].get(digest)
        if blob is None:
            blob = self._moved_nodes().get(digest)
        if blob is None:
            raise SnapshotRefused(f"node {short(digest)} is missing")
        if len(blob) > MAX_BLOB_BYTES:
            raise SnapshotRefused(f"node {short(digest)} is over {MAX_BLOB_BYTES} bytes")
        return blob

    def subtree(
        self, section: Section, name: bytes, held: Subtree | None, way: str
    ) -> Generator[None, None, Subtree | None]:
        """Return the subtree at ``way``, where the base has ``held``."""
        if name == NOTHING:
            return None
        digest = _checked(name)
        if held is not None and held.digest == digest:
            return held
        form = _decode(self.blob(digest), _SUBTREE)
        if isinstance(form, BucketForm):
            return (yield from self._bucket(section, form, way))
        return (yield from self._branch(section, form, held, way))

    def _branch(
        self, section: Section, form: BranchForm, held: Subtree | None, way: str
    ) -> Generator[None, None, Branch]:
        if len(form.children) != FANOUT or len(way) >= DEPTH_LIMIT:
            raise SnapshotRefused("a branch is not in canonical form")
        below = held.children if isinstance(held, Branch) else (None,) * FANOUT
        children: list[Subtree | None] = []
        for at, (name, child) in enumerate(zip(form.children, below, strict=True)):
            children.append((yield from self.subtree(section, name, child, f"{way}{at:x}")))
        branch = Branch(tuple(children))
        if branch.count <= BUCKET_LIMIT:
            raise SnapshotRefused("a branch holds few enough leaves for a bucket")
        return branch

    def _bucket(
        self, section: Section, form: BucketForm, way: str
    ) -> Generator[None, None, Bucket]:
        keys = tuple(key for key, _ in form.entries)
        if not 0 < len(keys) <= BUCKET_LIMIT:
            raise SnapshotRefused(f"a bucket of {len(keys)} leaves")
        if any(first >= second for first, second in pairwise(keys)):
            raise SnapshotRefused("the keys of a bucket are not in order")
        if not all(nodes.place(key).startswith(way) for key in keys):
            raise SnapshotRefused("a key is in the wrong bucket")
        leaves: list[LeafNode] = []
        for key, name in form.entries:
            leaves.append(self._leaf(section, key, _checked(name)))
            yield
        return Bucket(keys, tuple(leaves))

    def _leaf(self, section: Section, key: str, digest: Digest) -> LeafNode:
        held = nodes.find(self._base.subtrees[section], key)
        if held is not None and held.digest == digest:
            return held
        known = self._leaves[hash(digest) & MASK]
        leaf = known.get((section, digest))
        if leaf is None:
            blob = self.blob(digest)
            leaf = LeafNode(digest, blob, decode_leaf(section, blob))
            known[section, digest] = leaf
        return leaf

    def _moved_nodes(self) -> dict[Digest, bytes]:
        """Return every node of the base; made only when a node is not where it was."""
        if self._moved is None:
            seen: set[Digest] = set()
            self._moved = {
                digest_of(blob): blob
                for section in Section
                for blob in nodes.blobs(self._base.subtrees[section], seen)
            }
        return self._moved


_ROOT = msgspec.msgpack.Decoder(RootForm)
_SUBTREE: "msgspec.msgpack.Decoder[BucketForm | BranchForm]" = msgspec.msgpack.Decoder(
    BucketForm | BranchForm
)


def _decode(blob: bytes, decoder: "msgspec.msgpack.Decoder[_Form]") -> _Form:
    try:
        form = decoder.decode(blob)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SnapshotRefused(f"a node cannot be read: {error}") from error
    if nodes.encode_form(form) != blob:
        raise SnapshotRefused("a node is not in canonical form")
    return form


def _checked(name: bytes) -> Digest:
    if len(name) != _DIGEST_BYTES:
        raise SnapshotRefused(f"a digest of {len(name)} bytes")
    return Digest(name)
