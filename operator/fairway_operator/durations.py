"""Durations as Gateway API writes them (GEP-2257): ``1h30m``, ``10s``, ``500ms``."""

import re

_WHOLE = re.compile(r"(?:[0-9]{1,5}(?:h|m|s|ms)){1,4}")
_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: str) -> float:
    """Return seconds; raises ValueError with a message for its author."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a duration; write it as 500ms, 30s or 1m30s")
    return sum(int(n) * _MILLISECONDS[unit] for n, unit in _PART.findall(text)) / 1000
