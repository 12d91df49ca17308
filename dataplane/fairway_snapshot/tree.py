"""
The snapshot: an immutable Merkle tree over the four sections.

Each section is a trie over the hash of the key. A subtree of at most 16 leaves
is one bucket, a larger one is a branch of 16 children, one for each value of
the next nibble. So the shape depends on the set of keys alone: equal content
has an equal root, in whatever order it was put together, and a change of one
leaf makes one leaf, one bucket and a few branches new. All other nodes are
shared between the old snapshot and the new one.

Nothing here is ever changed once made.
"""

from collections.abc import Generator, ItemsView, Iterable, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from fairway_snapshot import nodes
from fairway_snapshot.assembly import read_root_in_steps
from fairway_snapshot.codec import SnapshotRefused
from fairway_snapshot.digest import Digest
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Certificate,
    CertificateId,
    HostPattern,
    Leaf,
    Section,
    ServerName,
    VirtualHost,
)
from fairway_snapshot.nodes import LeafNode, Subtree
from fairway_snapshot.steps import finished

__all__ = [
    "EMPTY",
    "Edit",
    "SectionView",
    "Snapshot",
    "SnapshotRefused",
    "assemble",
    "assemble_in_steps",
    "snapshot_of",
]

_Key = TypeVar("_Key", bound=str)
_Leaf = TypeVar("_Leaf", bound=Leaf)


@dataclass(frozen=True, slots=True)
class Edit:
    """Set the leaf of a key, or remove it with None."""

    section: Section
    key: str
    leaf: Leaf | None


class SectionView(Mapping[_Key, _Leaf], Generic[_Key, _Leaf]):
    """A section as a mapping, in an order that depends on the set of keys alone."""

    __slots__ = ("_subtree",)

    def __init__(self, subtree: Subtree | None) -> None:
        self._subtree = subtree

    def __getitem__(self, key: str) -> _Leaf:
        """Return the leaf of a key; raises KeyError."""
        leaf = nodes.find(self._subtree, key)
        if leaf is None:
            raise KeyError(key)
        return cast("_Leaf", leaf.value)

    def __contains__(self, key: object) -> bool:
        """Say whether there is such a key."""
        return isinstance(key, str) and nodes.find(self._subtree, key) is not None

    def __iter__(self) -> Iterator[_Key]:
        """Yield the keys."""
        for key, _ in nodes.leaves(self._subtree):
            yield cast("_Key", key)

    def __len__(self) -> int:
        """Return the number of leaves, at no cost."""
        return 0 if self._subtree is None else self._subtree.count

    def items(self) -> ItemsView[_Key, _Leaf]:
        """Return keys and leaves."""
        return _Items(self)

    def values(self) -> ValuesView[_Leaf]:
        """Return the leaves."""
        return _Values(self)

    def digest(self, key: str) -> Digest | None:
        """Return the digest of a leaf; None for an unknown key."""
        leaf = nodes.find(self._subtree, key)
        return None if leaf is None else leaf.digest

    def pairs(self) -> Iterator[tuple[_Key, _Leaf]]:
        """Yield keys and leaves in one walk."""
        for key, leaf in nodes.leaves(self._subtree):
            yield cast("_Key", key), cast("_Leaf", leaf.value)


class _Items(ItemsView[_Key, _Leaf]):
    _mapping: SectionView[_Key, _Leaf]

    def __iter__(self) -> Iterator[tuple[_Key, _Leaf]]:
        return self._mapping.pairs()


class _Values(ValuesView[_Leaf]):
    _mapping: SectionView[str, _Leaf]

    def __iter__(self) -> Iterator[_Leaf]:
        return (leaf for _, leaf in self._mapping.pairs())


class Snapshot:
    """Everything a data plane serves; equal snapshots have equal roots."""

    __slots__ = (
        "_node",
        "backends",
        "certificates",
        "hosts",
        "root",
        "server_names",
    )

    root: Digest
    hosts: Mapping[HostPattern, VirtualHost]
    backends: Mapping[BackendId, Backend]
    certificates: Mapping[CertificateId, Certificate]
    server_names: Mapping[HostPattern, ServerName]

    def __init__(self, node: nodes.RootNode) -> None:
        self._node = node
        self.root = node.digest
        self.hosts = SectionView(node.subtrees[Section.HOSTS])
        self.backends = SectionView(node.subtrees[Section.BACKENDS])
        self.certificates = SectionView(node.subtrees[Section.CERTIFICATES])
        self.server_names = SectionView(node.subtrees[Section.SERVER_NAMES])

    def __eq__(self, other: object) -> bool:
        """Compare by root."""
        return isinstance(other, Snapshot) and other.root == self.root

    def __hash__(self) -> int:
        """Agree with equality."""
        return hash(self.root)

    def __repr__(self) -> str:
        """Show the root and the sizes, nothing of the content."""
        sizes = ", ".join(f"{len(self.section(section))} {section}" for section in Section)
        return f"<Snapshot {self.root.hex()[:12]}: {sizes}>"

    @property
    def node(self) -> nodes.RootNode:
        """The root node, for those who walk the tree."""
        return self._node

    def section(self, section: Section) -> SectionView[str, Leaf]:
        """Return a section by its name."""
        return SectionView(self._node.subtrees[section])

    def evolve(self, edits: Iterable[Edit]) -> "Snapshot":
        """
        Return the snapshot after the edits; the last edit of a key counts.

        The cost is that of the edits, times the depth. Edits that change
        nothing return this very snapshot. Raises ValueError for a leaf that
        does not belong in its section or cannot be encoded.
        """
        by_section: dict[Section, dict[str, LeafNode | None]] = {}
        for edit in edits:
            leaf = None if edit.leaf is None else LeafNode.of(edit.section, edit.leaf)
            by_section.setdefault(edit.section, {})[edit.key] = leaf
        subtrees = dict(self._node.subtrees)
        for section, changed in by_section.items():
            subtrees[section] = nodes.edit(subtrees[section], changed)
        if all(subtrees[section] is self._node.subtrees[section] for section in by_section):
            return self
        return Snapshot(nodes.RootNode(subtrees))

    def blobs(self) -> Iterator[bytes]:
        """Yield every encoded node once, children before parents: the root is the last."""
        seen: set[Digest] = set()
        for section in Section:
            yield from nodes.blobs(self._node.subtrees[section], seen)
        yield self._node.blob()


EMPTY: Final = Snapshot(nodes.RootNode(dict.fromkeys(Section)))
"""The snapshot without leaves."""


def snapshot_of(
    *,
    hosts: Mapping[HostPattern, VirtualHost] | None = None,
    backends: Mapping[BackendId, Backend] | None = None,
    certificates: Mapping[CertificateId, Certificate] | None = None,
    server_names: Mapping[HostPattern, ServerName] | None = None,
) -> Snapshot:
    """Return the snapshot of these leaves; raises as :meth:`Snapshot.evolve` does."""
    given: tuple[tuple[Section, Mapping[str, Leaf] | None], ...] = (
        (Section.HOSTS, cast("Mapping[str, Leaf] | None", hosts)),
        (Section.BACKENDS, cast("Mapping[str, Leaf] | None", backends)),
        (Section.CERTIFICATES, cast("Mapping[str, Leaf] | None", certificates)),
        (Section.SERVER_NAMES, cast("Mapping[str, Leaf] | None", server_names)),
    )
    return EMPTY.evolve(
        Edit(section, key, leaf)
        for section, leaves in given
        for key, leaf in (leaves or {}).items()
    )


def assemble(root: Digest, blobs: Iterable[bytes], base: Snapshot) -> Snapshot:
    """
    Return the snapshot that ``root`` names, from new nodes and those of ``base``.

    Every byte is verified: nodes are found by their digest, and leaves, keys
    and shape are checked wherever they are new. The cost is that of the new
    nodes. Raises :class:`SnapshotRefused` with the reason; ``base`` is never changed.
    """
    return finished(assemble_in_steps(root, blobs, base))


def assemble_in_steps(
    root: Digest, blobs: Iterable[bytes], base: Snapshot
) -> Generator[None, None, Snapshot]:
    """Do as :func:`assemble`, and stop after each leaf."""
    if root == base.root:
        return base
    if root == EMPTY.root:
        return EMPTY  # a publisher takes it for known to everybody
    return Snapshot((yield from read_root_in_steps(root, blobs, base.node)))
