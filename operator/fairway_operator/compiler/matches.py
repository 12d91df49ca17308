"""
Matches in their one form, and their order of precedence.

Equal conditions are written equally: paths as requests have them after
normalisation, header names in lower case, conditions sorted. Two routes with
an equal match on one host are a conflict; all others are ordered as Gateway
API orders them (HTTPRouteRule.matches).

The host is chosen before any of this (the most specific pattern that exists,
:func:`fairway_snapshot.matcher.host_candidates`): a host without a matching
path does not fall back to a wildcard or to rules without a host. The
specification of Ingress is silent here; nginx does the same.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from fairway_operator.api.matches import HeaderMatch, Match, PathType, QueryMatch, ValueType
from fairway_operator.compiler.contribution import Age
from fairway_operator.targets import normal_path
from fairway_snapshot.model import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch
from fairway_snapshot.pattern import InvalidPattern, size_of
from fairway_snapshot.target import without_parameters

ALL_PATHS: Final = PathMatch(kind=PathKind.PREFIX, value="/")

_RANKS: Final = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2}
_KINDS: Final = {
    PathType.EXACT: PathKind.EXACT,
    PathType.PATH_PREFIX: PathKind.PREFIX,
    PathType.REGULAR_EXPRESSION: PathKind.REGEX,
}


MOST_INSTRUCTIONS: Final = 100_000
"""Of all regular expressions of one object: a tenth of a second to compile."""

MOST_BAD: Final = 8


class BadMatch(ValueError):  # noqa: N818 - named for the user's mistake that it reports
    """A match that cannot be; the message is for its author, the field is within the match."""

    def __init__(self, field: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


class Expressions:
    """
    The regular expressions of one object, and what they may cost together.

    To compile expressions takes the operator's time, and that of every worker: one
    object gets a share, however many it has. Bad ones cost the most, so
    only some are looked at.
    """

    __slots__ = ("_bad", "_left")

    def __init__(self) -> None:
        self._bad = 0
        self._left = MOST_INSTRUCTIONS

    def take(self, text: str, field: str) -> None:
        """Raise BadMatch for an expression that cannot be, or is too much."""
        if self._bad >= MOST_BAD:
            message = f"the regular expression is not looked at: {MOST_BAD} others are not taken"
            raise BadMatch(field, message, "correct those first")
        size = _size(text)
        if isinstance(size, str):
            self._bad += 1
            hint = "write it in the syntax of RE2, without backreferences and look-around"
            raise BadMatch(field, f"the regular expression is not taken: {size}", hint)
        self._left -= size
        if self._left < 0:
            message = "the regular expressions of this object are too large together"
            raise BadMatch(field, message, "spread them over several objects, or write prefixes")


def path_match(kind: PathKind, value: str, expressions: Expressions) -> PathMatch:
    """Return the path in its one form; raises :class:`BadMatch`."""
    if kind is PathKind.REGEX:
        expressions.take(value, "path.value")
        return PathMatch(kind=kind, value=value)
    return _plain(kind, value)


def route_match(match: Match, expressions: Expressions) -> RouteMatch:
    """Return the match of a Route in its one form; raises :class:`BadMatch`."""
    kind = _KINDS[match.path.type]
    value = match.path.value
    if kind is not PathKind.REGEX and (not value.startswith("/") or set("?# ") & set(value)):
        raise BadMatch("path.value", f"{value[:80]!r} is not an absolute path", "write /name")
    if kind is not PathKind.REGEX and "//" in value:
        raise BadMatch("path.value", f"{value[:80]!r} has an empty segment", "write /a/b")
    return RouteMatch(
        path=path_match(kind, value, expressions),
        method=None if match.method is None else match.method.value,
        headers=_values(match.headers, "headers", expressions, fold=True),
        query=_values(match.query_params, "queryParams", expressions, fold=False),
    )


def order_of(
    match: RouteMatch, age: Age, place: tuple[int, int], *, fallback: bool = False
) -> tuple[object, ...]:
    """
    Return the place of a route among those of its host; the smallest is asked first.

    Exact paths, then the longest regular expression, then the longest prefix;
    then with a method, with more headers, with more query parameters; then the
    oldest object, then its first rule. ``fallback`` is a default backend, which
    comes after every route that somebody wrote for all paths.
    """
    path = match.path
    return (
        _RANKS[path.kind],
        -len(path.value),
        # Different plain paths of one length never match one request: their order has no meaning.
        "" if path.kind is PathKind.REGEX else path.value,
        match.method is None,
        -len(match.headers),
        -len(match.query),
        fallback,
        age,
        place,
    )


def _values(
    given: Sequence[HeaderMatch | QueryMatch],
    field: str,
    expressions: Expressions,
    *,
    fold: bool,
) -> tuple[ValueMatch, ...]:
    found: dict[str, ValueMatch] = {}
    for at, each in enumerate(given):
        name = each.name.lower() if fold else each.name
        # Of two conditions on one name the first counts, as HTTPRoute says.
        if name in found:
            continue
        if each.type is ValueType.PRESENT:
            found[name] = ValueMatch(name=name, kind=ValueKind.PRESENT)
        elif each.type is ValueType.REGULAR_EXPRESSION:
            expressions.take(each.value, f"{field}[{at}].value")
            found[name] = ValueMatch(name=name, kind=ValueKind.REGEX, value=each.value)
        else:
            found[name] = ValueMatch(name=name, value=each.value)
    return tuple(found[name] for name in sorted(found))


@lru_cache(maxsize=4096)
def _plain(kind: PathKind, value: str) -> PathMatch:
    try:
        raw = normal_path(value)
    except ValueError as error:
        raise BadMatch("path.value", str(error), "write /name") from error
    path = without_parameters(raw.encode()).decode()
    if kind is PathKind.PREFIX:
        path = path.rstrip("/") or "/"
    return PathMatch(kind=kind, value=path)


@lru_cache(maxsize=4096)
def _size(pattern: str) -> int | str:
    """Return the instructions of an expression, or why it is none."""
    try:
        return size_of(pattern)
    except InvalidPattern as error:
        return str(error)
