"""
Connections that cannot ask for anything yet: their PROXY header or TLS handshake is not whole.

Each holds a descriptor and memory as any other does. So they count against the
limit of connections, and a drain waits for them: behind the handshake of a
client that believes itself connected there is a request.
"""

from collections.abc import Callable
from typing import Protocol


class Arriving(Protocol):
    """A connection on its way in."""

    def abort(self) -> None:
        """Close without a word."""


class Arrivals:
    """All of one worker."""

    __slots__ = ("_admits", "_found", "_on_leave")

    def __init__(self, *, admits: Callable[[], bool], on_leave: Callable[[], None]) -> None:
        """``admits`` tells whether there is room for one more; ``on_leave`` hears of each end."""
        self._admits = admits
        self._on_leave = on_leave
        self._found: dict[Arriving, None] = {}

    def add(self, connection: Arriving) -> bool:
        """Give a connection its place; False if there is none for it."""
        if not self._admits():
            return False
        self._found[connection] = None
        return True

    def remove(self, connection: Arriving) -> None:
        """Take the place back of one that arrived or is gone; nothing if it had none."""
        if connection in self._found:
            del self._found[connection]
            self._on_leave()

    def cut(self) -> int:
        """End all of them at once; return how many there were."""
        found, self._found = self._found, {}
        for connection in found:
            connection.abort()
        return len(found)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)
