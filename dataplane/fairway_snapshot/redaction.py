"""
Routes and backends as they may be shown to whoever reaches a debug page.

Tokens travel in headers and in query parameters, so a route that sets one, or
asks for one, holds it, and so does a health check that sends one. The one rule:
of those the names are shown and the values are not. Who may read the object
finds them there.
"""

from typing import Final

import msgspec

from fairway_snapshot.filters import FilterSpec, Header, RequestHeaders, ResponseHeaders
from fairway_snapshot.model import Backend, Route, ValueMatch, VirtualHost

REDACTED: Final = "redacted"
"""Stands for a value."""


def redacted_route(route: Route) -> Route:
    """Return the route with :data:`REDACTED` for each value of a header or a parameter."""
    match = msgspec.structs.replace(
        route.match,
        headers=tuple(map(_asked, route.match.headers)),
        query=tuple(map(_asked, route.match.query)),
    )
    return msgspec.structs.replace(route, match=match, filters=tuple(map(_written, route.filters)))


def redacted_host(virtual_host: VirtualHost) -> VirtualHost:
    """Return the host with redacted routes."""
    return VirtualHost(routes=tuple(map(redacted_route, virtual_host.routes)))


def redacted_backend(backend: Backend) -> Backend:
    """Return the backend with :data:`REDACTED` for the query of its health check."""
    check = backend.health_check
    if check is None or "?" not in check.path:
        return backend
    path = f"{check.path.partition('?')[0]}?{REDACTED}"
    return msgspec.structs.replace(backend, health_check=msgspec.structs.replace(check, path=path))


def _asked(wanted: ValueMatch) -> ValueMatch:
    return msgspec.structs.replace(wanted, value=REDACTED) if wanted.value else wanted


def _written(spec: FilterSpec) -> FilterSpec:
    if not isinstance(spec, RequestHeaders | ResponseHeaders):
        return spec
    return msgspec.structs.replace(
        spec, set=tuple(map(_named, spec.set)), add=tuple(map(_named, spec.add))
    )


def _named(header: Header) -> Header:
    return Header(name=header.name, value=REDACTED)
