"""Replace the path, or a prefix of it."""

from fairway_dataplane.exchange import Exchange, Filter
from fairway_dataplane.rewriting import path_of, prefix_swap
from fairway_snapshot.filters import RewritePath


def build(spec: RewritePath) -> Filter:
    """Return the filter; the query stays as it is."""
    if spec.prefix is None:
        path = path_of(spec.replacement)

        def replace(exchange: Exchange) -> None:
            exchange.path = path

        return replace
    swap = prefix_swap(spec.prefix, spec.replacement)

    def replace_prefix(exchange: Exchange) -> None:
        exchange.path = swap(exchange.path)

    return replace_prefix
