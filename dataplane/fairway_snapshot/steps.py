"""
Work that can be done a little at a time.

A generator that yields ``None`` after each small piece and returns what it
made. Whoever runs an event loop that serves stops between pieces; whoever does
not runs it to its end here.
"""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")


def finished(steps: "Generator[None, None, T]") -> T:
    """Run steps to their end and return what they made."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
