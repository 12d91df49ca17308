"""
Headers that are set, one ``name: value`` on each line.

``fairway.dev/request-headers`` for the backend, ``fairway.dev/response-headers``
for the client.
"""

from fairway_operator.headers import header
from fairway_snapshot.filters import Header, RequestHeaders, ResponseHeaders

_LIMIT = 16


def parse_request(text: str) -> RequestHeaders:
    """Return the filter."""
    return RequestHeaders(set=_lines(text))


def parse_response(text: str) -> ResponseHeaders:
    """Return the filter."""
    return ResponseHeaders(set=_lines(text))


def _lines(text: str) -> tuple[Header, ...]:
    found: dict[str, Header] = {}
    for line in text.split("\n"):
        if not line.strip(" "):
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(f"{line[:40]!r} is not a header; write lines of name: value")
        each = header(name.strip(" "), value.strip(" "))
        if each.name in found:
            raise ValueError(f"the header {each.name} is there twice; write it once")
        found[each.name] = each
    if not 0 < len(found) <= _LIMIT:
        raise ValueError(f"{len(found)} headers are given; write from 1 to {_LIMIT}")
    return tuple(found[name] for name in sorted(found))
