"""
Long work on a loop that serves.

A table of ten thousand routes takes a second to build, and no request may wait
for that. So whatever is long is written as steps (:mod:`fairway_snapshot.steps`)
and done here for a moment at a time; between two moments the loop serves
whoever is ready. A thread would not do: it takes the interpreter away from the
loop for five milliseconds at a time.
"""

import asyncio
from collections.abc import Generator
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.0004
"""Time of one slice; it is overrun by one step at most, and a step takes less than 0.3 ms."""


async def in_slices(steps: "Generator[None, None, T]") -> T:
    """Run steps to their end and return what they made; raises what they raise."""
    until = monotonic() + SLICE_SECONDS
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: T = end.value
            return made
        if monotonic() >= until:
            await asyncio.sleep(0)
            until = monotonic() + SLICE_SECONDS


def let_go(held: list[object]) -> Generator[None, None, None]:
    """
    Empty a list, an object at a time.

    What nobody else holds is freed by that, and to free ten thousand routes at
    once would take as long as a long request.
    """
    while held:
        held.pop()
        yield
