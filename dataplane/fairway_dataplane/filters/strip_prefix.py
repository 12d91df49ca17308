"""Remove a leading path prefix."""

from fairway_dataplane.exchange import Exchange, Filter
from fairway_dataplane.rewriting import prefix_swap
from fairway_snapshot.filters import StripPrefix


def build(spec: StripPrefix) -> Filter:
    """Return the filter; a path without the prefix, and the query, stay as they are."""
    swap = prefix_swap(spec.prefix, "/")

    def strip(exchange: Exchange) -> None:
        exchange.path = swap(exchange.path)

    return strip
