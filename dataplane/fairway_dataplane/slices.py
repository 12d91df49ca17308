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
from typing import Any, TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.0003
"""Time of one slice; it is overrun by one step at most, and a step takes about 0.1 ms."""


class Slices:
    """
    The moments of one worker's long work, which is done one piece after the other.

    Where one piece ends and the next begins at once, both share a moment: else the
    ends of several would make one long turn of the loop.
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until = 0.0

    async def run(self, steps: "Generator[None, None, T]") -> T:
        """Run steps to their end and return what they made; raises what they raise."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: T = end.value
                return made
            if monotonic() >= self._until:
                await asyncio.sleep(0)
                self._until = monotonic() + SLICE_SECONDS


async def in_slices(steps: "Generator[None, None, T]") -> T:
    """Do as :meth:`Slices.run`, for work that stands alone."""
    return await Slices().run(steps)


def let_go(held: list[list[Any]]) -> Generator[None, None, None]:
    """
    Empty lists, and their list, an object at a time.

    What nobody else holds is freed by that, and to free ten thousand routes at
    once would take as long as a long request.
    """
    while held:
        objects = held.pop()
        while objects:
            objects.pop()
            yield
