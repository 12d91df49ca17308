"""
Retries of an Ingress, and how many of them its Services bear.

``fairway.dev/retry-attempts: "2"``, ``fairway.dev/retry-codes: "502,503"`` and
``fairway.dev/retry-budget: 20%``.
"""

import re

_MOST_ATTEMPTS = 10
_MOST_CODES = 16
_WHOLE = 100


def parse_attempts(text: str) -> int:
    """Return the number of further attempts; 0 turns retries off."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) > _MOST_ATTEMPTS:
        raise ValueError(
            f"{text[:40]!r} is not a number of attempts; write a number from 0 to {_MOST_ATTEMPTS}"
        )
    return int(text)


def parse_codes(text: str) -> tuple[int, ...]:
    """Return statuses, sorted."""
    parts = [part.strip(" ") for part in text.split(",")]
    if len(parts) > _MOST_CODES or not all(re.fullmatch(r"[45][0-9]{2}", part) for part in parts):
        raise ValueError(f"{text[:40]!r} is not a list of statuses; write them as 502,503")
    return tuple(sorted({int(part) for part in parts}))


def parse_budget(text: str) -> int:
    """Return percent of a backend's requests; 0 turns retries off."""
    found = re.fullmatch(r"([0-9]{1,3})%?", text)
    if found is None or int(found[1]) > _WHOLE:
        raise ValueError(f"{text[:40]!r} is not a share; write it as 20%, from 0% to 100%")
    return int(found[1])
