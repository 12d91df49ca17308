"""Answer without a backend."""

from fairway_dataplane.exchange import DirectResponse, Exchange, Filter
from fairway_dataplane.rewriting import FilterRefused, value_of
from fairway_snapshot import filters


def build(spec: filters.DirectResponse) -> Filter:
    """Return the filter; its one response is shared by all requests."""
    if not 200 <= spec.status <= 599:
        raise FilterRefused(f"{spec.status} is not the status of an answer; write 200 to 599")
    if spec.body and spec.status in (204, 304):
        raise FilterRefused(f"an answer with status {spec.status} has no body")
    response = DirectResponse(
        spec.status,
        body=spec.body.encode(),
        content_type=value_of(spec.content_type) if spec.body else b"",
    )

    def answer(_: Exchange) -> DirectResponse:
        return response

    return answer
