"""
Limits of a request.

``fairway.dev/request-timeout: 30s`` and its kin (``0s`` is no limit),
``fairway.dev/max-body-size: 8Mi``, ``fairway.dev/max-requests: "100"``.
"""

import re

from fairway_operator.durations import parse_duration

_QUANTITY = re.compile(r"([0-9]{1,15})(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_LIMIT = 2**50


def parse_timeout(text: str) -> float:
    """Return seconds; 0 is no limit."""
    return parse_duration(text)


def parse_number(text: str) -> int:
    """Return how many there may be; 0 is no limit."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise ValueError(f"{text[:40]!r} is not a number; write one as 100, or 0 for no limit")
    return int(text)


def parse_size(text: str) -> int:
    """Return bytes of a quantity as Kubernetes writes them; 0 is no limit."""
    parts = _QUANTITY.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text[:40]!r} is not a size; write it as 512Ki, 8Mi or 1Gi")
    size = int(parts[1]) * (_UNITS | _BINARY | {None: 1})[parts[2]]
    if size > _LIMIT:
        raise ValueError(f"{text[:40]!r} is too large; write 0 for no limit")
    return size
