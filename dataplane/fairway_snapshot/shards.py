"""
A mapping in shards, so that a change of one key copies a few entries and not all.

A table of ten thousand hosts is never changed, only replaced; copying it whole
would make each change cost what all hosts cost, and letting the old one go
would cost that once more. Here a change copies the shards that it touches, and
the new mapping shares all others with the old one. The one rule: a shard that
has been given out is never written to again.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

SHARDS: Final = 256
"""A power of two. Of ten thousand keys, a shard holds forty."""

MASK: Final = SHARDS - 1
"""The shard of a key is ``shards[hash(key) & MASK]``, written out where it is read often."""

Shards: TypeAlias = tuple[dict[K, V], ...]

EMPTY: Final[Shards[Any, Any]] = ({},) * SHARDS


class Draft(Generic[K, V]):
    """The next mapping, while it is made; forget it once :meth:`shards` has been called."""

    __slots__ = ("_copied", "_made")

    def __init__(self, shards: Shards[K, V]) -> None:
        self._made = list(shards)
        self._copied: set[int] = set()

    def put(self, key: K, value: V | None) -> None:
        """Set the value of a key; None removes it."""
        at = hash(key) & MASK
        if at not in self._copied:
            self._copied.add(at)
            self._made[at] = self._made[at].copy()
        if value is None:
            self._made[at].pop(key, None)
        else:
            self._made[at][key] = value

    def shards(self) -> Shards[K, V]:
        """Return what was made."""
        return tuple(self._made)


class Sharded(Mapping[K, V]):
    """Shards as a mapping, for those who have time."""

    __slots__ = ("shards",)

    def __init__(self, shards: Shards[K, V] = EMPTY) -> None:
        self.shards = shards

    def __getitem__(self, key: K) -> V:
        """Return the value of a key; raises KeyError."""
        return self.shards[hash(key) & MASK][key]

    def __iter__(self) -> Iterator[K]:
        """Yield the keys, in no order that means anything."""
        for shard in self.shards:
            yield from shard

    def __len__(self) -> int:
        """Return the number of keys."""
        return sum(map(len, self.shards))
