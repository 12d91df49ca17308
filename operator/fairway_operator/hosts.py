"""
Host names as users write them, and the one place that says which are legal.

The API server checks the hosts of an Ingress but not those of our own Route,
and nobody checks a file; so all are checked here, by the rules of
``networking.k8s.io/v1`` (``IsDNS1123Subdomain``, ``IsWildcardDNS1123Subdomain``).
"""

import re
from collections.abc import Set as AbstractSet
from typing import Final

from fairway_snapshot.model import HostPattern

ANY_HOST: Final = HostPattern("")
"""Of a rule without a host."""

_HINT: Final = "write a name such as shop.example or *.shop.example"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ADDRESS = re.compile(r"[0-9.]+")
_MAX_LENGTH = 253


class BadHost(ValueError):  # noqa: N818 - named for the user's mistake that it reports
    """A text that is no host; the message and the hint are for its author."""

    def __init__(self, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.hint = hint


def parse_host(text: str) -> HostPattern:
    """
    Return the pattern of ``shop.example`` or ``*.shop.example``.

    Raises BadHost for anything else: an asterisk elsewhere, an address, a port,
    upper case.
    """
    name = text.removeprefix("*.")
    if len(text) > _MAX_LENGTH:
        raise BadHost(f"a host has at most {_MAX_LENGTH} characters, not {len(text)}")
    if text == "*":
        raise BadHost("'*' is not a host name", "leave the host out; then all hosts are meant")
    if "*" in name:
        raise BadHost(f"{text!r} has an asterisk that is not its whole first label")
    if re.fullmatch(r"[^:/]+:[0-9]{1,5}", name):
        raise BadHost(f"{text!r} has a port, which is no part of a host", "leave the port out")
    if name != name.lower() and _NAME.fullmatch(name.lower()):
        raise BadHost(f"{text!r} has upper case", f"write {text.lower()}")
    if not _NAME.fullmatch(name):
        raise BadHost(f"{text!r} is not a host name")
    if _ADDRESS.fullmatch(name):
        raise BadHost(f"{text!r} is an address, not a host name")
    return HostPattern(text)


def is_name(text: str) -> bool:
    """Tell whether ``text`` can name an object (a DNS subdomain)."""
    return len(text) <= _MAX_LENGTH and _NAME.fullmatch(text) is not None


def covered(host: str, patterns: AbstractSet[str]) -> bool:
    """
    Tell whether any of the patterns stands for ``host``; an asterisk stands for one label.

    Takes two look-ups, however many patterns there are.
    """
    if host in patterns:
        return True
    return not host.startswith("*.") and f"*.{host.partition('.')[2]}" in patterns
