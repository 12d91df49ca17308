"""Send another Host to the backend."""

from fairway_dataplane.exchange import Exchange, Filter
from fairway_dataplane.rewriting import host_of
from fairway_snapshot.filters import RewriteHost


def build(spec: RewriteHost) -> Filter:
    """Return the filter; what was matched, and what a redirect names, stays the client's host."""
    authority = host_of(spec.host)

    def rewrite(exchange: Exchange) -> None:
        exchange.authority = authority

    return rewrite
