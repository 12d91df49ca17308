"""
Filters, built once for each route of a table and then only called.

``build_chain`` runs when a table is built. What is left for a request is one
call of one function: no list of filters, no lookup by name, no loop. What
concerns the answer is put on the exchange by the same call and runs when the
answer's head is there.

A new filter is a module here, its line in ``_build``, and its struct in
:mod:`fairway_snapshot.filters`; the modules do not know of each other.
"""

from collections.abc import Sequence
from typing import assert_never

from fairway_dataplane.exchange import DirectResponse, Exchange, Filter
from fairway_dataplane.filters import (
    direct_response,
    https_redirect,
    redirect,
    request_headers,
    response_headers,
    rewrite_host,
    rewrite_path,
    strip_prefix,
)
from fairway_snapshot import filters as spec_types


def build_chain(specs: Sequence[spec_types.FilterSpec]) -> Filter | None:
    """
    Compose the filters of a route, in their order; None for no filters.

    The first that answers ends the chain. Raises
    :class:`~fairway_dataplane.rewriting.FilterRefused` for a value that may not
    stand in a message.
    """
    chain: Filter | None = None
    for spec in reversed(specs):
        built = _build(spec)
        chain = built if chain is None else _joined(built, chain)
    return chain


def _joined(first: Filter, rest: Filter) -> Filter:
    def chain(exchange: Exchange) -> DirectResponse | None:
        response = first(exchange)
        return rest(exchange) if response is None else response

    return chain


def _build(spec: spec_types.FilterSpec) -> Filter:  # noqa: PLR0911 - one line for each filter
    match spec:
        case spec_types.StripPrefix():
            return strip_prefix.build(spec)
        case spec_types.RewritePath():
            return rewrite_path.build(spec)
        case spec_types.RewriteHost():
            return rewrite_host.build(spec)
        case spec_types.Redirect():
            return redirect.build(spec)
        case spec_types.HttpsRedirect():
            return https_redirect.build(spec)
        case spec_types.RequestHeaders():
            return request_headers.build(spec)
        case spec_types.ResponseHeaders():
            return response_headers.build(spec)
        case spec_types.DirectResponse():
            return direct_response.build(spec)
        case _:
            assert_never(spec)
