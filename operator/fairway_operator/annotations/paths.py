"""
Paths on their way to the backend.

``fairway.dev/strip-prefix: /api``, ``fairway.dev/rewrite-prefix: /v2``,
``fairway.dev/allow-encoded-slash: "true"``.
"""

import re

from fairway_operator.annotations.flags import parse_flag
from fairway_operator.targets import normal_path
from fairway_snapshot.filters import StripPrefix

_ABSOLUTE = re.compile(r"/[\x21-\x22\x24-\x3e\x40-\x7e]*")
"""Visible ASCII without ``#`` and ``?``."""


def parse_strip_prefix(text: str) -> StripPrefix:
    """Return the filter; whole segments are stripped, so a trailing slash says nothing."""
    prefix = _absolute(text).rstrip("/")
    if not prefix:
        raise ValueError(f"{text[:40]!r} strips nothing; write it as /name")
    return StripPrefix(prefix=prefix)


def parse_rewrite_prefix(text: str) -> str:
    """Return the path that replaces what an Ingress path has matched."""
    return _absolute(text)


def parse_encoded_slash(text: str) -> bool:
    """Tell whether ``%2F`` may stand in a path; the backend has to be ready for it."""
    return parse_flag(text)


def _absolute(text: str) -> str:
    if len(text) > 1024 or not _ABSOLUTE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not an absolute path; write it as /name")
    try:
        normal_path(text)
    except ValueError as error:
        raise ValueError(f"{error}; write it as /name") from error
    return text
