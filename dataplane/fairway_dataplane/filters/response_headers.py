"""Change the headers that the client sees."""

from fairway_dataplane.exchange import Exchange, Filter, add_response_edit, build_field_edit
from fairway_dataplane.rewriting import block_of, name_of
from fairway_snapshot.filters import ResponseHeaders


def build(spec: ResponseHeaders) -> Filter:
    """Return the filter: remove, then set, then add, once the answer's head is there."""
    names = tuple(map(name_of, (*spec.remove, *(header.name for header in spec.set))))
    edit = build_field_edit(names, block_of((*spec.set, *spec.add)))

    def change(exchange: Exchange) -> None:
        exchange.response_fields = edit(exchange.response_fields)

    def promise(exchange: Exchange) -> None:
        add_response_edit(exchange, change)

    return promise
