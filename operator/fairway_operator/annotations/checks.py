"""
Health checks of a Service: what is asked, how often, and what is an answer.

``fairway.dev/health-check: /healthz`` turns them on; its kin
(``fairway.dev/health-check-interval: 5s``) say how. A check is cheap for us and
not for a backend, so the least that can be written is bounded.
"""

import re

from fairway_operator.durations import parse_duration

_PATH = re.compile(r"/[!\"$-~]{0,1023}")
"""The path and the query of RFC 9112 section 3.2.1, as it is sent."""

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?")

_RANGE = re.compile(r"([1-5][0-9][0-9])(?:-([1-5][0-9][0-9]))?")
_MOST_RANGES = 16

_LEAST_INTERVAL_SECONDS = 1.0
_LEAST_TIMEOUT_SECONDS = 0.1
_MOST_IN_A_ROW = 100


def parse_path(text: str) -> str:
    """Return a path, with a query perhaps."""
    if _PATH.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a path; write it as /healthz")
    return text


def parse_host(text: str) -> str:
    """Return what to send as Host."""
    if _HOST.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is not a host; write it as shop.example")
    return text.lower()


def parse_statuses(text: str) -> tuple[tuple[int, int], ...]:
    """Return ranges of statuses, both ends included, sorted."""
    parts = [_RANGE.fullmatch(part.strip(" ")) for part in text.split(",")]
    ranges = sorted({(int(part[1]), int(part[2] or part[1])) for part in parts if part})
    if not all(parts) or len(parts) > _MOST_RANGES or any(low > high for low, high in ranges):
        raise ValueError(f"{text[:40]!r} is no set of statuses; write it as 200-299,401")
    return tuple(ranges)


def parse_interval(text: str) -> float:
    """Return seconds from one check of an endpoint to the next."""
    return _at_least(text, _LEAST_INTERVAL_SECONDS)


def parse_timeout(text: str) -> float:
    """Return seconds that a check may take."""
    return _at_least(text, _LEAST_TIMEOUT_SECONDS)


def parse_number(text: str) -> int:
    """Return how many in a row are a verdict."""
    if re.fullmatch(r"[0-9]{1,3}", text) is None or not 1 <= int(text) <= _MOST_IN_A_ROW:
        raise ValueError(f"{text[:40]!r} is no number of checks; write 1 to {_MOST_IN_A_ROW}")
    return int(text)


def _at_least(text: str, least: float) -> float:
    seconds = parse_duration(text)
    if seconds < least:
        raise ValueError(f"{text[:40]!r} is too often; write {least * 1000:.0f}ms or more")
    return seconds
