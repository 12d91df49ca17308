"""Send clients that came without TLS to https."""

from fairway_dataplane.exchange import DirectResponse, Exchange, Filter
from fairway_dataplane.rewriting import location, port_of, redirect_status
from fairway_snapshot.filters import HttpsRedirect


def build(spec: HttpsRedirect) -> Filter:
    """
    Return the filter; a request over TLS goes on.

    A request that names no host (HTTP/1.0) cannot be sent elsewhere and is
    refused: to let it pass would serve in clear what is not to be.
    """
    status = redirect_status(spec.status)
    port = port_of(spec.port)
    nameless = DirectResponse(400, body=b"host required\n", content_type=b"text/plain")

    def answer(exchange: Exchange) -> DirectResponse | None:
        if exchange.secure:
            return None
        if not exchange.host:
            return nameless
        target = exchange.path + exchange.query
        return DirectResponse(status, fields=location(b"https", exchange.host, port, target))

    return answer
