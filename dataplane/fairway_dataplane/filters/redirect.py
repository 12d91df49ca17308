"""Answer with a redirect."""

from collections.abc import Callable

from fairway_dataplane.exchange import DirectResponse, Exchange, Filter
from fairway_dataplane.rewriting import (
    host_of,
    location,
    path_of,
    port_of,
    prefix_swap,
    redirect_status,
    scheme_of,
)
from fairway_snapshot.filters import Redirect


def build(spec: Redirect) -> Filter:
    """
    Return the filter; what the spec leaves open stays as the request had it.

    A port that is left open is that of the scheme if one is given, and else the
    request's (Gateway API, ``HTTPRequestRedirectFilter.port``).
    """
    status = redirect_status(spec.status)
    scheme = None if spec.scheme is None else scheme_of(spec.scheme)
    host = None if spec.host is None else host_of(spec.host)
    port = b"" if spec.port is None else port_of(spec.port)
    keeps_port = spec.port is None and spec.scheme is None
    new_path = _path(spec)

    def answer(exchange: Exchange) -> DirectResponse:
        fields = location(
            scheme or (b"https" if exchange.secure else b"http"),
            host or exchange.host,
            _port(exchange.authority) if keeps_port else port,
            new_path(exchange.path) + exchange.query,
        )
        return DirectResponse(status, fields=fields)

    return answer


def _path(spec: Redirect) -> Callable[[bytes], bytes]:
    if spec.path is not None and spec.prefix is not None:
        return prefix_swap(spec.prefix, spec.path)
    if spec.path is None:
        return _same
    path = path_of(spec.path)

    def replace(_: bytes) -> bytes:
        return path

    return replace


def _same(path: bytes) -> bytes:
    return path


def _port(authority: bytes) -> bytes:
    """Return the port of a Host field; the colons of an IPv6 address stand in brackets."""
    port = authority.rpartition(b":")[2]
    return port if port.isdigit() and not authority.endswith(b"]") else b""
