"""
The gRPC service that data planes subscribe to.

One bidirectional call for each data plane, :data:`METHOD`, whose messages are
the bytes of :mod:`fairway_snapshot.protocol`; the decisions are those of one
``PublisherSession`` for each call. ``publish`` never waits: each call has its own
task and sends at its own pace, and what it has not sent is replaced by what is
newer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fairway_operator.authority import Credentials
from fairway_snapshot.tree import Snapshot

METHOD = "/fairway.stream.v1.Snapshots/Subscribe"
"""Full name of the call."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where in the order of snapshots; ``epoch`` counts changes of the Lease's holder."""

    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What is known of one connected data plane."""

    instance: str
    version: str
    peer: str
    connected_at: float
    acked_root: bytes | None
    acked_at: float | None
    refused_root: bytes | None
    refused_reason: str


class Publisher:
    """Serves the newest snapshot to every subscriber."""

    def __init__(
        self,
        *,
        address: str,
        credentials: Credentials,
        max_subscribers: int,
        on_receipt: Callable[[], None],
    ) -> None:
        """``on_receipt`` is called when a subscriber came, went, acknowledged or refused."""
        raise NotImplementedError

    async def start(self) -> int:
        """Listen; return the port. Raises OSError when the address is taken."""
        raise NotImplementedError

    async def stop(self, *, grace_seconds: float) -> None:
        """End all calls; those that do not end in time are cut."""
        raise NotImplementedError

    def publish(self, snapshot: Snapshot, position: Position) -> None:
        """Make this the snapshot that every subscriber should have."""
        raise NotImplementedError

    def renew_credentials(self, credentials: Credentials) -> None:
        """Use these for new connections; established ones go on."""
        raise NotImplementedError

    def subscribers(self) -> Sequence[Subscriber]:
        """Return the connected data planes."""
        raise NotImplementedError
