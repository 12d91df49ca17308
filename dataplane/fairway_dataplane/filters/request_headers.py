"""Change the headers that the backend sees."""

from fairway_dataplane.exchange import Exchange, Filter, build_field_edit
from fairway_dataplane.rewriting import block_of, name_of
from fairway_snapshot.filters import RequestHeaders


def build(spec: RequestHeaders) -> Filter:
    """
    Return the filter: remove, then set, then add.

    Names that Fairway adds itself (``x-forwarded-proto`` and its like) can be
    removed and set too: the route's author is trusted more than a default.
    """
    names = tuple(map(name_of, (*spec.remove, *(header.name for header in spec.set))))
    edit = build_field_edit(names, block_of((*spec.set, *spec.add)))
    ours = tuple(filter(_is_ours, names))
    if not ours:

        def change(exchange: Exchange) -> None:
            exchange.fields = edit(exchange.fields)

        return change
    drop = build_field_edit(ours, b"")

    def change_ours(exchange: Exchange) -> None:
        exchange.fields = edit(exchange.fields)
        exchange.forwarded = drop(exchange.forwarded)

    return change_ours


def _is_ours(name: bytes) -> bool:
    return name.startswith(b"x-forwarded-") or name in _OURS


_OURS = frozenset((b"forwarded", b"via", b"x-real-ip", b"x-request-id"))
