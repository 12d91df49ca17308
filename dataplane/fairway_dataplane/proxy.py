"""
The decision about each request: which route, which backend, which connection.

``forward`` reads the current table once and never looks again. Everything is
decided synchronously; what cannot be decided yet (a connection that is being
opened) goes on in a callback of the upstream side.

What is read of a matched route (``table.RouteEntry``): ``name``; ``chain``
(``Filter`` or None); ``backend`` (``pool.Backend``, or None with a split or
without backends); ``split`` (``balancer.Split`` or None); ``request_seconds``,
``backend_request_seconds``, ``connect_seconds``, ``idle_seconds`` (floats, the
setting already applied, ``clock.NEVER`` for no limit); ``retry_attempts``,
``retry_codes`` (frozenset of int); ``allow_encoded_slash``;
``max_body_bytes`` (0 is no limit); ``tally`` (``RouteTally``). Of a table:
``match(exchange) -> RouteEntry | None``.
"""

from collections.abc import Callable

from fairway_dataplane.clock import Clock
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.policy import Limits
from fairway_dataplane.tally import Tally


class Proxy:
    """Forward exchanges; one per worker."""

    def __init__(
        self,
        *,
        tables: object,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        on_finished: Callable[[Exchange], None] | None,
        on_bug: Callable[[str, BaseException], None],
    ) -> None:
        """
        ``on_finished`` is the access log, or None; ``on_bug`` takes the request
        id and what was raised.
        """

    def forward(self, exchange: Exchange) -> None:
        """Answer the exchange through its sink, now or later."""
        raise NotImplementedError
