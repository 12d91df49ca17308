"""
Annotations of ingress-nginx that keep somebody out.

None of them can be had here, so an object with one serves nobody until its
author has decided. A value that lets everybody in is no guard: solvers of ACME
challenges carry ``0.0.0.0/0,::/0`` to be reached beside stricter defaults.
"""

from typing import Final

from fairway_operator.foreign.adoption import NGINX, Adoption, Read
from fairway_operator.foreign.values import flag

_EVERYBODY: Final = frozenset({"0.0.0.0/0", "::/0"})
_NETWORK_HINT: Final = (
    "restrict addresses before the data planes (loadBalancerSourceRanges of their Service,"
    " a firewall)"
)


def always(message: str, hint: str) -> Read:
    """Return a reader that closes, unless nothing is said."""

    def read(adoption: Adoption, name: str, value: str) -> None:
        if value.strip():
            adoption.close(name, message, hint)

    return read


passwords: Final = always(
    "passwords are not asked for here", "let the backend, or a proxy before it, ask for them"
)
firewall_rules: Final = always(
    "there is no web application firewall here", "put one before the data planes or the backend"
)
not_from: Final = always("addresses of clients are not looked at here", _NETWORK_HINT)


def only_from(adoption: Adoption, name: str, value: str) -> None:
    """Close, unless everybody is let in."""
    ranges = {part.strip() for part in value.split(",") if part.strip()}
    if ranges and not ranges >= _EVERYBODY:
        adoption.close(
            name,
            "addresses of clients are not looked at here",
            f"{_NETWORK_HINT}, or write 0.0.0.0/0,::/0 for everybody",
        )


def client_certificates(adoption: Adoption, name: str, value: str) -> None:
    """Close, unless certificates are not verified."""
    verify = adoption.given.get(f"{NGINX}auth-tls-verify-client", "on").strip()
    if value.strip() and verify != "off":
        adoption.close(
            name,
            "certificates of clients are not asked for here",
            "let the backend authenticate clients",
        )


def firewall(adoption: Adoption, name: str, value: str) -> None:
    """Close where the firewall is on."""
    if flag(value) == "true":
        firewall_rules(adoption, name, value)


def close_snippet(adoption: Adoption, name: str) -> None:
    """Close for a snippet that is more than headers and tuning."""
    adoption.close(
        name,
        "configuration of nginx is never run here, and this one may keep somebody out",
        "write what it does as fairway.dev annotations or a Route",
    )
