"""
Annotations of a Service.

``fairway.dev/balance: least-requests`` or ``consistent-hash header=X-User``,
``fairway.dev/sticky-cookie: shop-server``, ``fairway.dev/backend-protocol: https``.
They stand on the Service because a backend is shared by all that refer to it.
"""

import re

from fairway_snapshot.model import BackendProtocol, Balance, HashKey

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
"""RFC 9110 section 5.6.2, which RFC 6265 takes for names of cookies."""

_FACTOR = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,2})?")

_HASH = "consistent-hash header=X-User or consistent-hash cookie=session"


def parse_balance(text: str) -> tuple[Balance, HashKey]:
    """Return how an endpoint is chosen, and what a consistent hash reads."""
    word, _, key = text.partition(" ")
    try:
        balance = Balance(word)
    except ValueError:
        words = ", ".join(Balance)
        raise ValueError(f"{text[:40]!r} is not a way to balance; write one of {words}") from None
    if not key:
        return balance, HashKey()
    kind, _, name = key.partition("=")
    if balance is not Balance.CONSISTENT_HASH or kind not in {"header", "cookie"}:
        raise ValueError(f"{key[:40]!r} says nothing here; write {_HASH}")
    if _TOKEN.fullmatch(name) is None:
        raise ValueError(f"{name[:40]!r} is not the name of a {kind}; write {_HASH}")
    return balance, HashKey(header=name.lower()) if kind == "header" else HashKey(cookie=name)


def parse_sticky_cookie(text: str) -> str:
    """Return the name of a cookie."""
    if _TOKEN.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not the name of a cookie; write one as shop-server")
    return text


def parse_factor(text: str) -> float:
    """Return by what factor an endpoint may be slower than the others; 0 is any."""
    if _FACTOR.fullmatch(text) is None or 0 < float(text) <= 1:
        raise ValueError(f"{text[:40]!r} is not a factor; write it as 5 or 2.5, or 0 for never")
    return float(text)


def parse_proxy_protocol(text: str) -> int:
    """Return the version of the PROXY protocol that connections begin with."""
    if text.lower() not in {"v1", "v2"}:
        raise ValueError(f"{text[:40]!r} is not a version of the PROXY protocol; write v1 or v2")
    return int(text[1:])


def parse_protocol(text: str) -> BackendProtocol:
    """Return what is spoken to the endpoints."""
    try:
        return BackendProtocol(text.lower())
    except ValueError:
        words = ", ".join(BackendProtocol)
        raise ValueError(f"{text[:40]!r} is not a protocol; write one of {words}") from None
