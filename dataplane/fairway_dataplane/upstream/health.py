"""
What one worker knows of an endpoint: its connections, and whether it answers.

The address of a deleted pod mostly swallows packets instead of refusing them,
so a failed attempt is remembered: for a time that doubles with each failure the
endpoint is chosen only if there is no other. The next success forgets it all.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairway_dataplane.exchange import Exchange
    from fairway_dataplane.tally import BackendTally
    from fairway_dataplane.upstream.backend_task import BackendTask

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 30.0


class Endpoint:
    """One address of a backend; it lives as long as its backend names it."""

    __slots__ = (
        "active", "failures", "host", "idle", "idle_limit", "key", "name", "port", "removed",
        "retry_at", "tally",
    )  # fmt: skip

    idle: "list[BackendTask]"
    """Connections nobody uses; the last one in is the first one out."""
    active: int
    """Connections in use."""
    removed: bool
    """No longer named by its backend: what is in flight finishes, and nothing is kept."""
    retry_at: float
    """Not chosen before, if there are others; 0.0 after a success."""

    def __init__(self, host: str, port: int, tally: "BackendTally", idle_limit: int) -> None:
        self.host = host
        self.port = port
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.key = self.name.encode()
        self.tally = tally
        self.idle_limit = idle_limit
        self.idle = []
        self.active = 0
        self.removed = False
        self.failures = 0
        self.retry_at = 0.0

    def may_serve(self, exchange: "Exchange", now: float) -> bool:
        """Tell whether it did not fail lately, nor for this request."""
        return self.retry_at <= now and self not in exchange.tried

    def note_failure(self, now: float) -> None:
        """Remember a failed connection attempt."""
        seconds = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.retry_at = now + seconds

    def note_success(self) -> None:
        """Forget what failed."""
        self.failures = 0
        self.retry_at = 0.0

    def remove(self) -> None:
        """Keep nothing any more."""
        self.removed = True
        idle, self.idle = self.idle, []
        for task in idle:
            task.close()

    def __repr__(self) -> str:
        """Show the state."""
        return f"<Endpoint {self.name} active={self.active} idle={len(self.idle)}>"
