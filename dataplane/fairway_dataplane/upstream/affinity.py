"""
Balancing with a memory that needs none: the same client to the same endpoint.

A consistent hash keeps most clients where they are when endpoints come and go; a
sticky cookie keeps every client whose endpoint is still there. Both are
functions of the set of endpoints and of the request alone, so workers and
replicas agree without a word between them.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

from fairway_dataplane.exchange import Exchange, add_response_edit, field_values
from fairway_dataplane.upstream.health import Endpoint, least_bad
from fairway_snapshot.model import HashKey

_DIGEST_BYTES = 64
_DIGESTS = 4
_POINT_BYTES = 4
"""Four digests of 64 bytes are 64 points on the ring for each endpoint."""

_OVERLOAD = 1.25
"""An endpoint above this share of the mean load is passed by, so that no key can drown it."""


class Chooser(Protocol):
    """Chooses where there is no affinity."""

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the endpoint of the next attempt, None without any."""


class ConsistentHash:
    """
    A ring of endpoints, with bounded loads (Mirrokni, Thorup, Zadimoghaddam, 2016).

    A request goes to the first endpoint clockwise of its key that is usable and
    not overloaded, so an endpoint that leaves moves its own keys and no others.
    """

    __slots__ = ("_endpoints", "_key", "_owners", "_points")

    def __init__(self, endpoints: Sequence[Endpoint], key: HashKey) -> None:
        self._endpoints = tuple(endpoints)
        self._key = _key_reader(key)
        ring = sorted(
            (point, at) for at, endpoint in enumerate(endpoints) for point in _points(endpoint.key)
        )
        self._points = [point for point, _ in ring]
        self._owners = [at for _, at in ring]

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the endpoint of this key; the next on the ring while that one cannot."""
        endpoints = self._endpoints
        if not endpoints:
            return None
        usable, load = 0, 1
        for endpoint in endpoints:
            if endpoint.retry_at <= now and endpoint not in exchange.tried:
                usable += 1
                # What is being opened will be a request in a moment.
                load += endpoint.active + endpoint.opening
        if not usable:
            return least_bad(endpoints, exchange)
        # The mean is of those that carry the load; so one of them is always below the bound.
        most = _OVERLOAD * load / usable
        key = blake2b(self._key(exchange), digest_size=_POINT_BYTES).digest()
        start = bisect_left(self._points, int.from_bytes(key, "big"))
        owners = self._owners
        for step in range(len(owners)):
            endpoint = endpoints[owners[(start + step) % len(owners)]]
            if endpoint.active + endpoint.opening < most and endpoint.may_serve(exchange, now):
                return endpoint
        raise AssertionError("every endpoint is above the mean")


class StickyCookie:
    """The endpoint that a cookie names; where it names none, another chooses and one is set."""

    __slots__ = ("_by_token", "_chooser", "_name", "_tokens", "_value")

    def __init__(self, endpoints: Sequence[Endpoint], name: str, chooser: Chooser) -> None:
        self._name = name.encode()
        self._value = _cookie_reader(name)
        self._chooser = chooser
        self._tokens = {endpoint.name: _token(endpoint) for endpoint in endpoints}
        self._by_token = {self._tokens[endpoint.name]: endpoint for endpoint in endpoints}

    def choose(self, exchange: Exchange, now: float) -> Endpoint | None:
        """Return the endpoint of the cookie while it can serve."""
        endpoint = self._by_token.get(self._value(exchange))
        if endpoint is not None and endpoint.may_serve(exchange, now):
            return endpoint
        add_response_edit(exchange, self._set_cookie)
        return self._chooser.choose(exchange, now)

    def _set_cookie(self, exchange: Exchange) -> None:
        """Name the endpoint that has answered, which need not be the one that was chosen first."""
        token = self._tokens.get(exchange.endpoint)
        if token is None:
            return
        line = b"\r\nset-cookie: %b=%b; Path=/; HttpOnly; SameSite=Lax" % (self._name, token)
        if exchange.secure:
            line += b"; Secure"
        if line not in exchange.response_fields:
            exchange.response_fields += line


def _token(endpoint: Endpoint) -> bytes:
    """Return what stands for an endpoint in a cookie: the same everywhere, and no address."""
    return blake2b(endpoint.key, digest_size=8, person=b"sticky").hexdigest().encode()


@lru_cache(maxsize=4096)
def _points(key: bytes) -> tuple[int, ...]:
    digests = b"".join(
        blake2b(key, digest_size=_DIGEST_BYTES, salt=bytes([number])).digest()
        for number in range(_DIGESTS)
    )
    return tuple(
        int.from_bytes(digests[at : at + _POINT_BYTES], "big")
        for at in range(0, len(digests), _POINT_BYTES)
    )


def _key_reader(key: HashKey) -> Callable[[Exchange], bytes]:
    """Return what reads the key of a request; without one in it, the client's address is."""
    if key.cookie:
        cookie = _cookie_reader(key.cookie)
        return lambda exchange: cookie(exchange) or exchange.client_address.encode()
    if key.header:
        name = key.header.encode()
        return lambda exchange: exchange.field(name) or exchange.client_address.encode()
    return lambda exchange: exchange.client_address.encode()


def _cookie_reader(name: str) -> Callable[[Exchange], bytes]:
    found = re.compile(rb"(?:^|;)[ \t]*" + re.escape(name.encode()) + rb"=([^;]*)").search

    def read(exchange: Exchange) -> bytes:
        for value in field_values(exchange.fields, b"cookie"):
            match = found(value)
            if match is not None:
                return match[1].strip(b' \t"')
        return b""

    return read
