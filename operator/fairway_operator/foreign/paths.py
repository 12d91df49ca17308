"""
Paths of ingress-nginx: what ``rewrite-target`` and ``use-regex`` make of them.

There a path becomes a regular expression with either annotation, matched from
the start of a request's path in any case, and a target stands for the whole
path. Most of them only say "these segments, and the rest": ``/shop(/|$)(.*)``
with ``/$2``. Those are served as the prefix that is meant. The others are
served as expressions of RE2 as long as no part of what they match has to
stand in the target.
"""

import re
from typing import Final, NamedTuple

from fairway_operator.targets import normal_path
from fairway_snapshot.model import PathKind

_SIGNS: Final = frozenset("()[]{}*^$|\\?")
"""What tells an expression from a plain path; a dot does not."""

_TAILS: Final = (("(/|$)(.*)", 2), ("/()(.*)", 2), ("/?(.*)", 1), ("/(.*)", 1), ("(.*)", 1))
"""Ways to write "and the rest", and the group in which the rest is; from the longest."""

_GROUP: Final = re.compile(r"\$[0-9]")
_CHARACTERS: Final = r"[\x21\x22\x25-\x3e\x40-\x7e]{0,1023}"
"""Visible ASCII without ``#``, ``$`` and ``?``."""

_TARGET: Final = re.compile(rf"(/{_CHARACTERS}|)\$([1-9])")
_PLAIN_TARGET: Final = re.compile(rf"/{_CHARACTERS}")


class ServedPath(NamedTuple):
    """A path as it is served."""

    kind: PathKind
    value: str
    target: str | None = None
    """What the backend gets instead."""
    swaps_prefix: bool = False
    """The target replaces the prefix that has matched, and not the whole path."""
    problem: str = ""
    """Why requests for it cannot be forwarded as their author wants."""


def looks_like_pattern(path: str) -> bool:
    """Tell whether a path was hardly meant as it is written."""
    return not _SIGNS.isdisjoint(path)


def serve_path(kind: PathKind, path: str, target: str | None, *, has_patterns: bool) -> ServedPath:
    """Return what a path means; without a target and patterns, itself."""
    if target is None:
        if has_patterns and looks_like_pattern(path):
            return ServedPath(PathKind.REGEX, _expression(path))
        return ServedPath(kind, path)
    if not looks_like_pattern(path):
        # Without groups in the path, those of the target are empty.
        return _replaced(kind, path, _GROUP.sub("", target))
    prefix, rest = _prefix(path)
    if prefix is not None and (swapped := _swapped(prefix, rest, path, target)) is not None:
        return swapped
    expression = _expression(path)
    if _GROUP.search(target):
        return ServedPath(
            PathKind.REGEX, expression, problem=f"{target[:40]!r} takes parts of {path[:40]!r}"
        )
    return _replaced(PathKind.REGEX, expression, target)


def _replaced(kind: PathKind, value: str, target: str) -> ServedPath:
    if target == value:
        # As there: a path that is its own target is not rewritten, nor what is below it.
        return ServedPath(kind, value)
    problem = _problem(target)
    return ServedPath(kind, value, None if problem else target, problem=problem)


def _problem(target: str) -> str:
    """Say why a target is none that a request can have; nothing for one that is."""
    if not _PLAIN_TARGET.fullmatch(target):
        return f"{target[:40]!r} is not an absolute path"
    try:
        normal_path(target)
    except ValueError as error:
        return str(error)
    return ""


def _prefix(path: str) -> tuple[str | None, int]:
    """Return the plain prefix of ``/shop(/|$)(.*)`` and the group of the rest."""
    whole = path.removesuffix("$")
    for tail, group in _TAILS:
        literal = whole.removesuffix(tail).replace(r"\.", ".").replace(r"\-", "-")
        if whole.endswith(tail) and not looks_like_pattern(literal):
            return literal.rstrip("/") or "/", group
    return None, 0


def _swapped(prefix: str, rest: int, path: str, target: str) -> ServedPath | None:
    found = _TARGET.fullmatch(target)
    if found is None or int(found[2]) != rest:
        return None
    # In /shop(.*) the rest begins with the slash, in all others the target has it.
    has_slash = path.removesuffix("$").removesuffix("(.*)")[-1:] not in ("/", "?", ")")
    if not (has_slash or found[1].endswith("/")):
        return None
    replacement = found[1].rstrip("/") or "/"
    if replacement == prefix:
        return ServedPath(PathKind.PREFIX, prefix)
    problem = _problem(replacement)
    if problem:
        return ServedPath(PathKind.PREFIX, prefix, problem=problem)
    return ServedPath(PathKind.PREFIX, prefix, replacement, swaps_prefix=True)


def _expression(path: str) -> str:
    return f"(?i:{path}).*"
