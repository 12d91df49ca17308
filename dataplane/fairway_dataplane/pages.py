"""
Pages of counters: many rows of doubles in one array.

Of ten thousand routes none is in the processor's cache when its request comes,
and each object on the way to a counter is a wait for memory. So rows lie
together, and to count is to write to one of them. The one rule: a row stays
where it is and has one owner, and who writes to it keeps that owner alive.

Rows outlive each other in no order: one route that stays among thousands that
come and go would keep a whole page. So a row whose owner is gone is handed out
again, and there are as many pages as the rows of one time have needed.
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
    """
    The rows that are nobody's; one event loop counts in a process, so there is one shelf.

    An owner may end anywhere, in the middle of :meth:`row` as well, where an allocation
    starts the garbage collector. So :meth:`back` is one append, and :meth:`row` takes what
    it hands out in one step. It is cleared there: of what is garbage together, anything may
    end first.
    """

    __slots__ = ("_free", "_next", "_page")

    def __init__(self) -> None:
        self._page = Page()
        self._next = 0
        self._free: dict[int, list[tuple[Page, int]]] = {}
        """By size; there are two sizes."""

    def row(self, size: int) -> tuple[Page, int]:
        """Return a page, and where in it so many cells are nobody's; all of them are 0."""
        free = self._free.setdefault(size, [])
        if free:
            page, at = free.pop()
            page.rows[at : at + size] = array("d", bytes(8 * size))
            return page, at
        at = self._next
        if at + size > _PAGE_CELLS:
            self._page, at = Page(), 0
        self._next = at + size
        return self._page, at

    def back(self, page: Page, at: int, size: int) -> None:
        """Take a row back that nobody can write to any more: the next one gets it."""
        self._free[size].append((page, at))
