"""
What a route asks of a request besides its path: method, headers, query.

Conditions are compiled once, when a matcher is built, and asked only where a
route has some. Header lines of one name count as one value, joined by ``, ``
(RFC 9110, 5.3); of a query parameter that is given several times, the first counts
(as HTTPRoute recommends).
"""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import unquote_to_bytes

from fairway_snapshot.model import RouteMatch, ValueKind, ValueMatch
from fairway_snapshot.pattern import Pattern


class Facts:
    """The request that is matched; headers and query are taken apart when first asked for."""

    __slots__ = ("_given", "_headers", "_parameters", "_query", "method", "path")

    def __init__(
        self, path: bytes, method: bytes, headers: Sequence[tuple[bytes, bytes]], query: bytes
    ) -> None:
        self.path = path
        self.method = method
        self._given = headers
        self._query = query
        self._headers: dict[bytes, bytes] | None = None
        self._parameters: dict[bytes, bytes] | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header, None if it is absent."""
        if self._headers is None:
            joined: dict[bytes, bytes] = {}
            for at, value in self._given:
                joined[at] = joined[at] + b", " + value if at in joined else value
            self._headers = joined
        return self._headers.get(name)

    def parameter(self, name: bytes) -> bytes | None:
        """Return the decoded value of a query parameter, None if it is absent."""
        if self._parameters is None:
            self._parameters = {}
            for part in self._query.split(b"&"):
                key, _, value = part.partition(b"=")
                self._parameters.setdefault(_decoded(key), _decoded(value))
        return self._parameters.get(name)


class Condition(Protocol):
    """One question about a request."""

    def holds(self, facts: Facts) -> bool:
        """Answer it."""

    def objection(self) -> str:
        """Say, for people, what the request lacks if it does not hold."""


def conditions_of(match: RouteMatch) -> tuple[Condition, ...]:
    """Compile all but the path; raises :class:`~fairway_snapshot.pattern.InvalidPattern`."""
    method = () if match.method is None else (_Method(match.method),)
    headers = (_Header(wanted) for wanted in match.headers)
    parameters = (_Parameter(wanted) for wanted in match.query)
    return (*method, *headers, *parameters)


class _Method:
    __slots__ = ("_method",)

    def __init__(self, method: str) -> None:
        self._method = method.encode()

    def holds(self, facts: Facts) -> bool:
        return facts.method == self._method

    def objection(self) -> str:
        return f"the method is not {self._method.decode()}"


class _Value:
    """A value that is compared; subclasses know where it stands."""

    __slots__ = ("_exact", "_name", "_pattern", "_wanted")

    def __init__(self, wanted: ValueMatch) -> None:
        self._wanted = wanted
        self._name = wanted.name.encode()
        self._exact = wanted.value.encode() if wanted.kind is ValueKind.EXACT else None
        self._pattern = Pattern(wanted.value) if wanted.kind is ValueKind.REGEX else None

    def _accepts(self, value: bytes | None) -> bool:
        if value is None:
            return False
        if self._exact is not None:
            return value == self._exact
        return self._pattern is None or self._pattern.matches(value)

    def _lacks(self, where: str) -> str:
        match self._wanted.kind:
            case ValueKind.EXACT:
                return f"{where} {self._wanted.name} is not {self._wanted.value!r}"
            case ValueKind.REGEX:
                return f"{where} {self._wanted.name} does not match {self._wanted.value!r}"
            case ValueKind.PRESENT:
                return f"{where} {self._wanted.name} is absent"


class _Header(_Value):
    __slots__ = ()

    def holds(self, facts: Facts) -> bool:
        return self._accepts(facts.header(self._name))

    def objection(self) -> str:
        return self._lacks("header")


class _Parameter(_Value):
    __slots__ = ()

    def holds(self, facts: Facts) -> bool:
        return self._accepts(facts.parameter(self._name))

    def objection(self) -> str:
        return self._lacks("query parameter")


def _decoded(text: bytes) -> bytes:
    if b"%" not in text and b"+" not in text:
        return text
    return unquote_to_bytes(text.replace(b"+", b" "))
