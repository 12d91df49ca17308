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

from fairway_operator.api.route import HeaderMatch, Match, PathType, QueryMatch, ValueType
from fairway_operator.compiler.contribution import Age
from fairway_operator.targets import normal_path
from fairway_snapshot.model import PathKind, PathMatch, RouteMatch, ValueKind, ValueMatch
from fairway_snapshot.pattern import InvalidPattern, Pattern
from fairway_snapshot.target import without_parameters

ALL_PATHS: Final = PathMatch(kind=PathKind.PREFIX, value="/")

_RANKS: Final = {PathKind.EXACT: 0, PathKind.REGEX: 1, PathKind.PREFIX: 2}
_KINDS: Final = {
    PathType.EXACT: PathKind.EXACT,
    PathType.PATH_PREFIX: PathKind.PREFIX,
    PathType.REGULAR_EXPRESSION: PathKind.REGEX,
}


class BadMatch(ValueError):  # noqa: N818 - named for the user's mistake that it reports
    """A match that cannot be; the message is for its author, the field is within the match."""

    def __init__(self, field: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.field = field
        self.hint = hint


@lru_cache(maxsize=4096)
def path_match(kind: PathKind, value: str) -> PathMatch:
    """Return the path in its one form; raises :class:`BadMatch`."""
    if kind is PathKind.REGEX:
        _check_pattern(value, "path.value")
        return PathMatch(kind=kind, value=value)
    try:
        raw = normal_path(value)
    except ValueError as error:
        raise BadMatch("path.value", str(error), "write /name") from error
    path = without_parameters(raw.encode()).decode()
    if kind is PathKind.PREFIX:
        path = path.rstrip("/") or "/"
    return PathMatch(kind=kind, value=path)


def route_match(match: Match) -> RouteMatch:
    """Return the match of a Route in its one form; raises :class:`BadMatch`."""
    kind = _KINDS[match.path.type]
    value = match.path.value
    if kind is not PathKind.REGEX and (not value.startswith("/") or set("?# ") & set(value)):
        raise BadMatch("path.value", f"{value[:80]!r} is not an absolute path", "write /name")
    return RouteMatch(
        path=path_match(kind, value),
        method=None if match.method is None else match.method.value,
        headers=_values(match.headers, "headers", fold=True),
        query=_values(match.query_params, "queryParams", fold=False),
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
    given: Sequence[HeaderMatch | QueryMatch], field: str, *, fold: bool
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
            _check_pattern(each.value, f"{field}[{at}].value")
            found[name] = ValueMatch(name=name, kind=ValueKind.REGEX, value=each.value)
        else:
            found[name] = ValueMatch(name=name, value=each.value)
    return tuple(found[name] for name in sorted(found))


def _check_pattern(text: str, field: str) -> None:
    try:
        Pattern(text)
    except InvalidPattern as error:
        hint = "write it in the syntax of RE2, without backreferences and look-around"
        raise BadMatch(field, f"the regular expression is not taken: {error}", hint) from error
