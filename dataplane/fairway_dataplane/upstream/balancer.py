"""
Who serves the next request.

Decisions only: synchronous, without I/O, and owned by one event loop. A
balancer chooses among the endpoints of a backend; a split chooses among the
backends of a route.
"""

from collections.abc import Sequence

from fairway_dataplane.upstream.pool import Backend


class Split:
    """Smooth weighted round robin: over any sum-of-weights requests the shares are exact."""

    def __init__(self, parts: Sequence[tuple[Backend, int]]) -> None:
        raise NotImplementedError

    def choose(self) -> Backend:
        """Return the backend of the next request."""
        raise NotImplementedError
