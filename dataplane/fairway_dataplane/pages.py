"""
Pages of counters: many rows of doubles in one array.

Of ten thousand routes none is in the processor's cache when its request comes,
and each object on the way to a counter is a wait for memory. So rows lie
together, and to count is to write to one of them. The one rule: a row is
handed out once, and stays where it is for as long as the process lives.
"""

from array import array
from typing import Final

_PAGE_CELLS: Final = 4096
"""Of 8 bytes: so few pages that all of them are in the cache, though not their rows."""


class Page:
    """Doubles, which are exact for counts up to 2**53."""

    __slots__ = ("cells", "rows")

    cells: "array[float]"
    """For those who count: without an object for each number, where it is compiled."""
    rows: "array[float]"
    """The same, for those who read many of them."""

    def __init__(self) -> None:
        self.cells = self.rows = array("d", bytes(8 * _PAGE_CELLS))


class Shelf:
    """The page that has rows left; one event loop counts in a process, so there is one shelf."""

    __slots__ = ("_next", "_page")

    def __init__(self) -> None:
        self._page = Page()
        self._next = 0

    def row(self, size: int) -> tuple[Page, int]:
        """Return a page, and where in it so many cells are nobody's yet."""
        at = self._next
        if at + size > _PAGE_CELLS:
            self._page, at = Page(), 0
        self._next = at + size
        return self._page, at
