"""
The one matcher: of the workers, of ``fairway explain`` and of the webhook.

The host is chosen first, and its routes alone are asked: a host without a
matching path does not fall back to a wildcard. Of its routes the first in the
order of :class:`VirtualHost` is taken whose conditions all hold. A matcher is an
index for that order, never another order: for each path or prefix that occurs
it holds the few routes that can still match there, and so the cost of a
request does not depend on the number of routes.

Paths are compared without ``;parameters``; those of routes are normalised as
those of requests are (:mod:`fairway_snapshot.target`), so ``/%66oo`` is ``/foo`` on
either side.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import quote

from fairway_snapshot import shards
from fairway_snapshot.conditions import Condition, Facts, conditions_of
from fairway_snapshot.model import (
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    VirtualHost,
)
from fairway_snapshot.pattern import InvalidPattern, Pattern, Union
from fairway_snapshot.shards import MASK, Draft, Shards
from fairway_snapshot.steps import finished
from fairway_snapshot.target import TargetRefused, normalize_path, without_parameters

T = TypeVar("T")
_T_co = TypeVar("_T_co", covariant=True)

_GROUP: Final = 8
"""How many patterns one scan rules out together."""

_NO_PATHS: Final = frozenset((b"*", b""))
"""Targets that no route is asked about."""

_ALONE: Final = 2
"""So many are cheaper to ask one by one."""


class HostMatcher(Generic[T]):
    """The routes of one host, ready to match."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, exact: "dict[bytes, _Choice[T]]", prefixes: "_Segment[T]") -> None:
        self._exact = exact
        self._prefixes = prefixes

    def match(
        self, path: bytes, method: bytes, headers: Sequence[tuple[bytes, bytes]], query: bytes
    ) -> T | None:
        """
        Return what was made of the first route that matches.

        ``path`` is normalised and without query, header names are lower case, and ``query``
        is as it came, without its question mark.
        """
        if b";" in path:
            path = without_parameters(path)
        choice = self._exact.get(path)
        if choice is None:
            segment = self._prefixes
            start = 1
            while segment.below:
                end = path.find(b"/", start)
                found = segment.below.get(path[start:] if end < 0 else path[start:end])
                if found is None:
                    break
                segment = found
                if end < 0:
                    break
                start = end + 1
            choice = segment.choice
        if not choice.tests:
            return choice.otherwise
        return choice.pick(Facts(path, method, headers, query))


def build_host_matcher(virtual_host: VirtualHost, make: Callable[[Route], T]) -> HostMatcher[T]:
    """
    Index the routes of a host.

    ``make`` is called once for each route, in their order; it may remember what
    it made of an equal route. Raises :class:`InvalidPattern` for a regular
    expression that RE2 does not take.
    """
    return finished(build_host_matcher_in_steps(virtual_host, make))


def build_host_matcher_in_steps(
    virtual_host: VirtualHost, make: Callable[[Route], T]
) -> "Generator[None, None, HostMatcher[T]]":
    """Do as :func:`build_host_matcher`, and stop after each route: a host may have thousands."""
    index = _Index[T]()
    for route in virtual_host.routes:
        index.add(route, make(route))
        yield
    return (yield from index.matcher())


def takes_every_path(match: RouteMatch) -> bool:
    """Tell whether a route matches whatever has a path; alone on its host, it needs no index."""
    return match == _EVERY_PATH


_EVERY_PATH: Final = RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/"))


class HostIndex(Generic[T]):
    """Host patterns to values: exact, then one label of ``*.name``, then any host."""

    __slots__ = ("_any", "_exact", "_wildcards")

    def __init__(self, entries: Mapping[HostPattern, T]) -> None:
        exact: Draft[bytes, T] = Draft(shards.EMPTY)
        wildcards: Draft[bytes, T] = Draft(shards.EMPTY)
        self._any: T | None = None
        for pattern, value in entries.items():
            if not pattern:
                self._any = value
            elif pattern.startswith("*."):
                wildcards.put(pattern[1:].encode(), value)
            else:
                exact.put(pattern.encode(), value)
        self._exact: Shards[bytes, T] = exact.shards()
        self._wildcards: Shards[bytes, T] = wildcards.shards()

    def find(self, host: bytes) -> T | None:
        """Return the value for a normalised host; the empty host is one that was not given."""
        found = self._exact[hash(host) & MASK].get(host)
        if found is None:
            dot = host.find(b".")
            if dot > 0:
                parent = host[dot:]
                found = self._wildcards[hash(parent) & MASK].get(parent)
            if found is None:
                return self._any
        return found

    def evolve(self, changes: Mapping[HostPattern, T | None]) -> "HostIndex[T]":
        """Return the index after the changes; None removes a pattern."""
        draft = HostIndexDraft(self)
        for pattern, value in changes.items():
            draft.put(pattern, value)
        return draft.index()

    def parts(self) -> Iterator[dict[bytes, T]]:
        """Yield what the index is made of, so that it can be let go of part by part."""
        yield from self._exact
        yield from self._wildcards


class HostIndexDraft(Generic[T]):
    """The next index, while it is made; forget it once :meth:`index` has been called."""

    __slots__ = ("_any", "_exact", "_wildcards")

    def __init__(self, index: HostIndex[T]) -> None:
        self._exact = Draft(index._exact)  # noqa: SLF001 - the two are one
        self._wildcards = Draft(index._wildcards)  # noqa: SLF001
        self._any = index._any  # noqa: SLF001

    def put(self, pattern: HostPattern, value: T | None) -> None:
        """Set the value of a pattern; None removes it."""
        if not pattern:
            self._any = value
        elif pattern.startswith("*."):
            self._wildcards.put(pattern[1:].encode(), value)
        else:
            self._exact.put(pattern.encode(), value)

    def index(self) -> HostIndex[T]:
        """Return what was made."""
        index: HostIndex[T] = HostIndex({})
        index._exact = self._exact.shards()  # noqa: SLF001
        index._wildcards = self._wildcards.shards()  # noqa: SLF001
        index._any = self._any  # noqa: SLF001
        return index


def host_candidates(host: str) -> tuple[HostPattern, ...]:
    """Return the patterns that a normalised host may be served by; the first that exists wins."""
    if not host:
        return (HostPattern(""),)
    label, dot, parent = host.partition(".")
    if not label or not dot:
        return HostPattern(host), HostPattern("")
    return HostPattern(host), HostPattern(f"*.{parent}"), HostPattern("")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one route matches a request; the first without objections is taken."""

    route: Route
    objections: tuple[str, ...]


def explain(
    virtual_host: VirtualHost,
    path: bytes,
    method: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    query: bytes,
) -> tuple[Verdict, ...]:
    """Return a verdict on each route, in order; arguments and errors as for matching."""
    facts = Facts(without_parameters(path), method, headers, query)
    return tuple(Verdict(route, tuple(_objections(route, facts))) for route in virtual_host.routes)


def _objections(route: Route, facts: Facts) -> Iterator[str]:
    wanted = route.match.path
    if not _path_holds(wanted, facts.path):
        yield f"the path is not {_WORDS[wanted.kind]} {wanted.value}"
    for condition in conditions_of(route.match):
        if not condition.holds(facts):
            yield condition.objection()


def _path_holds(wanted: PathMatch, path: bytes) -> bool:
    if not path.startswith(b"/"):
        return False
    match wanted.kind:
        case PathKind.REGEX:
            return Pattern(wanted.value).matches(path)
        case PathKind.EXACT:
            return path == _comparable(wanted.value)
        case PathKind.PREFIX:
            prefix = _comparable(wanted.value).removesuffix(b"/")
            return path == prefix or path.startswith(prefix + b"/")


_WORDS: Final = {
    PathKind.EXACT: "exactly",
    PathKind.PREFIX: "below",
    PathKind.REGEX: "matched by",
}


def _comparable(value: str) -> bytes:
    """Return a route's path in the form that requests have; one that no request has stays."""
    raw = quote(value, safe=_AS_IT_IS).encode()
    try:
        return without_parameters(normalize_path(raw))
    except TargetRefused:
        return raw


_AS_IT_IS: Final = "/!$&'()*+,;=:@%~"


class _Test(Protocol[_T_co]):
    def find(self, facts: Facts) -> _T_co | None: ...


class _Choice(Generic[T]):
    """What may match at one path or prefix, in order; ``otherwise`` asks nothing more."""

    __slots__ = ("otherwise", "tests")

    def __init__(self, tests: "tuple[_Test[T], ...]", otherwise: T | None) -> None:
        self.tests = tests
        self.otherwise = otherwise

    def pick(self, facts: Facts) -> T | None:
        for test in self.tests:
            found = test.find(facts)
            if found is not None:
                return found
        return self.otherwise


class _Segment(Generic[T]):
    """A prefix of paths, by whole segments, and the longer ones below it."""

    __slots__ = ("below", "choice")

    def __init__(self) -> None:
        self.below: dict[bytes, _Segment[T]] = {}
        self.choice: _Choice[T] = _Choice((), None)


class _Asking(Generic[T]):
    """A route whose path is known to match."""

    __slots__ = ("_conditions", "_made")

    def __init__(self, conditions: tuple[Condition, ...], made: T) -> None:
        self._conditions = conditions
        self._made = made

    def find(self, facts: Facts) -> T | None:
        for condition in self._conditions:
            if not condition.holds(facts):
                return None
        return self._made


class _Matching(Generic[T]):
    """Routes that are asked for only if a pattern matches the path."""

    __slots__ = ("_tests", "pattern")

    def __init__(self, pattern: Pattern | Union | None, tests: "Sequence[_Test[T]]") -> None:
        self.pattern = pattern
        self._tests = tests

    def find(self, facts: Facts) -> T | None:
        if self.pattern is not None and not self.pattern.matches(facts.path):
            return None
        for test in self._tests:
            found = test.find(facts)
            if found is not None:
                return found
        return None


class _Index(Generic[T]):
    """The index while it is made; a route is known by its rank in the order."""

    def __init__(self) -> None:
        self._made: list[T] = []
        self._conditions: list[tuple[Condition, ...]] = []
        self._root: _Segment[T] = _Segment()
        self._ranks: defaultdict[_Segment[T], list[int]] = defaultdict(list)
        self._exact: dict[bytes, list[int]] = {}
        self._patterns: list[tuple[int, Pattern]] = []
        self._blocks: dict[tuple[int, int], tuple[_Test[T], ...]] = {}

    def add(self, route: Route, made: T) -> None:
        """Add the next route in the order."""
        rank, path = len(self._made), route.match.path
        self._made.append(made)
        self._conditions.append(conditions_of(route.match))
        match path.kind:
            case PathKind.REGEX:
                self._patterns.append((rank, Pattern(path.value)))
            case PathKind.EXACT:
                self._exact.setdefault(_comparable(path.value), []).append(rank)
            case PathKind.PREFIX:
                start, *names = _comparable(path.value).removesuffix(b"/").split(b"/")
                if start:
                    return  # Not absolute, as no path of a request is.
                segment = self._root
                for name in names:
                    segment = segment.below.setdefault(name, _Segment())
                self._ranks[segment].append(rank)

    def matcher(self) -> "Generator[None, None, HostMatcher[T]]":
        """Return the matcher of all that was added, after a stop at each path."""
        exact: dict[bytes, _Choice[T]] = {}
        for path, ranks in self._exact.items():
            exact[path] = self._choice([*ranks, *self._ranks_above(path)])
            yield
        # The target of OPTIONS * is not a path, and no route is asked about it.
        exact.update(dict.fromkeys(_NO_PATHS, _Choice((), None)))
        yield from self._settle()
        return HostMatcher(exact, self._root)

    def _ranks_above(self, path: bytes) -> Iterator[int]:
        """Yield the routes whose prefix covers the path."""
        segment: _Segment[T] | None = self._root
        names = iter(path.split(b"/")[1:])
        while segment is not None:
            yield from self._ranks[segment]
            segment = segment.below.get(next(names, b"/"))

    def _settle(self) -> "Iterator[None]":
        """Give each prefix the choice between its own routes and those of the shorter ones."""
        waiting = [self._root]
        while waiting:
            segment = waiting.pop()
            segment.choice = self._choice(self._ranks[segment])
            for below in segment.below.values():
                self._ranks[below] += self._ranks[segment]
                waiting.append(below)
            yield

    def _choice(self, ranks: list[int]) -> _Choice[T]:
        """Return the choice between routes whose path matches and all that have a pattern."""
        tests: list[_Test[T]] = []
        asked = 0
        for rank in sorted(ranks):
            upto = bisect_left(self._patterns, rank, key=lambda pair: pair[0])
            tests.extend(self._block(asked, upto))
            asked = upto
            if not self._conditions[rank]:
                return _Choice(tuple(tests), self._made[rank])
            tests.append(_Asking(self._conditions[rank], self._made[rank]))
        tests.extend(self._block(asked, len(self._patterns)))
        return _Choice(tuple(tests), None)

    def _block(self, start: int, end: int) -> tuple[_Test[T], ...]:
        """Return the tests of a run of patterns, shared by all choices that need it."""
        tests = self._blocks.get((start, end))
        if tests is None:
            tests = _grouped(
                [
                    _Matching(pattern, (_Asking(self._conditions[rank], self._made[rank]),))
                    for rank, pattern in self._patterns[start:end]
                ]
            )
            self._blocks[start, end] = tests
        return tests


def _grouped(tests: "Sequence[_Matching[T]]") -> "tuple[_Test[T], ...]":
    """Put tests that are many under the union of their patterns, and these under theirs."""
    while len(tests) > _ALONE:
        groups = [tests[at : at + _GROUP] for at in range(0, len(tests), _GROUP)]
        tests = [_Matching(_union(group), group) for group in groups]
    return tuple(tests)


def _union(tests: "Sequence[_Matching[T]]") -> Union | None:
    """Return what rules all the tests out, None if some of them cannot be ruled out."""
    texts = [test.pattern.text for test in tests if test.pattern is not None]
    if len(texts) < len(tests):
        return None
    try:
        return Union(texts)
    except InvalidPattern:
        return None
