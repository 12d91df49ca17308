"""
Values of ingress-nginx in our words.

What cannot be said raises ValueError, with what to write after a semicolon.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from fairway_operator.targets import normal_path, sent_host

MOVED: Final = 301
FOUND: Final = 302
_CODES: Final = frozenset({"301", "302", "303", "307", "308"})

CANARY: Final = ("weight", "weight-total", "by-header", "by-header-value", "by-cookie")

_SIZE: Final = re.compile(r"([0-9]{1,15})([kKmMgG]?)")
_UNITS: Final = {"": "", "k": "Ki", "m": "Mi", "g": "Gi"}
_URL_PATH: Final = re.compile(r"[\x21\x22\x25-\x3e\x40-\x7e]{0,1024}")
_MOST_SECONDS: Final = 99_999
"""That a duration can say in seconds."""


def flag(text: str) -> str:
    """Return true or false, as Go reads them."""
    match text.strip().lower():
        case "true" | "1" | "t":
            return "true"
        case "false" | "0" | "f" | "":
            return "false"
    raise ValueError(f'{text[:40]!r} is neither true nor false; write "true" or "false"')


def whole(text: str) -> str:
    """Return a number of at most nine digits."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()) is None:
        raise ValueError(f"{text[:40]!r} is not a number; write it in digits")
    return text.strip()


def seconds(text: str) -> str:
    """Return a duration; ingress-nginx has seconds without their unit."""
    number = int(whole(text.removesuffix("s")))
    return f"{number}s" if number <= _MOST_SECONDS else f"{min(number // 3600, _MOST_SECONDS)}h"


def size(text: str) -> str:
    """Return a quantity; the units of nginx are powers of 1024."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a size; write it as 512k, 8m or 1g")
    return found[1] + _UNITS[found[2].lower()]


def is_plain_url(text: str) -> bool:
    """Tell whether a text is an absolute URL of a host and a path, without variables."""
    try:
        parts = urlsplit(text)
        port = parts.port
        sent_host((parts.hostname or "").lower())
        normal_path(parts.path or "/")
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and port != 0
        and "@" not in parts.netloc
        and not parts.query
        and not parts.fragment
        and _URL_PATH.fullmatch(parts.path) is not None
    )


def redirect_code(text: str | None, otherwise: int) -> int:
    """Return the status of a redirect."""
    if text is None:
        return otherwise
    if text.strip() not in _CODES:
        raise ValueError(f"{text[:40]!r} is not the status of a redirect")
    return int(text)


def hash_key(text: str) -> str:
    """Return the value of our annotation that comes nearest to a variable of nginx."""
    found = re.fullmatch(r"\$\{?(?:(http|cookie)_([a-z0-9_]{1,60}))\}?", text.strip().lower())
    if found is None:
        return "consistent-hash"
    if found[1] == "cookie":
        return f"consistent-hash cookie={found[2]}"
    return f"consistent-hash header={found[2].replace('_', '-')}"


def canary_hint(given: Mapping[str, str]) -> str:
    """Return what to write for a canary; ``given`` has its other annotations."""
    if given["by-header"]:
        value = given["by-header-value"] or "always"
        return (
            f"a rule that matches headers: [{{name: {given['by-header'][:60]},"
            f' value: "{value[:60]}"}}] and has the canary as its backend'
        )
    total = given["weight-total"] or "100"
    weight = given["weight"]
    if weight.isdecimal() and total.isdecimal() and len(total) < 10:
        rest = max(int(total) - int(weight[:9]), 0)
        return f"backendRefs of weight {rest} (the other) and {weight[:9]} (this one)"
    return "both Services as backendRefs with weights"
