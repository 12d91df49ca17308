"""
Which objects were touched lately, in two persistent lists.

Entries are told apart by identity, so a journal that holds the newest entry
of another one descends from it, and all that is newer is what has changed
since. The older list is dropped whole when the newer one is full: memory stays
bounded, and who asks for more than it holds must compare everything.
"""

from dataclasses import dataclass
from typing import Final

from rpds import List

from fairway_operator.refs import ObjectRef

_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One touch of one object."""

    ref: ObjectRef


@dataclass(frozen=True, slots=True, eq=False)
class Journal:
    """The touches on the way to one World."""

    recent: "List[Entry]"
    older: "List[Entry]"
    size: int
    """Of the recent part."""

    def noting(self, ref: ObjectRef) -> "Journal":
        """Return the journal with one more touch."""
        if self.size >= _LIMIT:
            return Journal(List([Entry(ref)]), self.recent, 1)
        return Journal(self.recent.push_front(Entry(ref)), self.older, self.size + 1)

    def since(self, earlier: "Journal") -> frozenset[ObjectRef] | None:
        """Return what was touched since ``earlier``; None if this journal cannot tell."""
        mark = earlier.newest()
        if mark is None:
            return None
        touched: set[ObjectRef] = set()
        for part in (self.recent, self.older):
            for entry in part:
                if entry is mark:
                    return frozenset(touched)
                touched.add(entry.ref)
        return None

    def newest(self) -> Entry | None:
        """Return the last touch."""
        return next(iter(self.recent), None)


BLANK: Final = Journal(List(), List(), 0)
