"""
What all workers have counted together, for whoever reads it.

Each worker reports what it has counted; the sum of the reports, with those of
workers that are gone, is what metrics show. To add up ten thousand routes takes
a tenth of a second, and so it is done in steps: whoever does it also passes
snapshots on.
"""

import operator
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from fairway_dataplane.tally import (
    USUAL,
    BackendCounts,
    Cells,
    Counts,
    RouteCounts,
    unpacked_rows,
)

_LEVELS: Final = {
    "accepting_paused": 0, "connections_arriving": 0, "connections_open": 0,
    "requests_active": 0, "resident_bytes": 0, "shedding": 0, "tunnels_active": 0,
}  # fmt: skip
"""Fields that say how many there are now, and so end with their worker..."""

_BACKEND_LEVELS: Final[dict[str, Any]] = {
    "active": 0, "idle": 0, "endpoints": {}, "panicking": 0, "limit": 0,
}  # fmt: skip
"""...and those of a backend."""

_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Row = TypeVar("_Row", RouteCounts[Cells], BackendCounts[Cells])


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker told when it was last asked."""

    counts: Counts[Cells]
    rows: Sequence[bytes] = ()
    """Of its routes and backends, packed."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What several workers have counted."""

    counts: Counts[Cells] = field(default_factory=lambda: Counts(match=()))
    routes: Mapping[str, RouteCounts[Cells]] = field(default_factory=dict)
    backends: Mapping[str, BackendCounts[Cells]] = field(default_factory=dict)

    def kept(self, *, routes: Collection[str], backends: Collection[str]) -> "Totals":
        """Return this with those routes and backends alone that are named."""
        return Totals(
            self.counts,
            {name: found for name, found in self.routes.items() if name in routes},
            {name: found for name, found in self.backends.items() if name in backends},
        )

    def lasting(self) -> "Totals":
        """Return what remains when the workers are gone: what they counted, and no levels."""
        return Totals(
            msgspec.structs.replace(self.counts, **_LEVELS),
            self.routes,
            {
                name: msgspec.structs.replace(found, **_BACKEND_LEVELS)
                for name, found in self.backends.items()
            },
        )


def add_in_steps(before: Totals, reports: Iterable[Report]) -> Generator[None, None, Totals]:
    """Return ``before`` and all reports together, and stop after some rows of each."""
    counts = before.counts
    routes, backends = dict(before.routes), dict(before.backends)
    for report in reports:
        counts = _sum(counts, report.counts)
        for packed in report.rows:
            rows = unpacked_rows(packed)
            _join(routes, rows.routes)
            _join(backends, rows.backends)
            yield
    return Totals(counts, routes, backends)


def answers(counted: RouteCounts[Cells]) -> Mapping[str, int]:
    """Return the completed requests of a route by ``METHOD code``."""
    usual = int(sum(counted.durations[1:])) - sum(counted.others.values())
    return {USUAL: usual, **counted.others} if usual else counted.others


def together(cells: Iterable[Cells]) -> Cells:
    """Return the sum of what several histograms of the same bounds observed."""
    total: Cells = ()
    for each in cells:
        total = tuple(map(operator.add, total, each)) if total and each else total or each
    return total


def _join(joined: dict[str, _Row], more: Mapping[str, _Row]) -> None:
    for name, counted in more.items():
        known = joined.get(name)
        joined[name] = counted if known is None else _sum(known, counted)


def _sum(left: _Struct, right: _Struct) -> _Struct:
    """Add two of a kind, field by field."""
    names = left.__struct_fields__
    return type(left)(**{name: _add(getattr(left, name), getattr(right, name)) for name in names})


def _add(left: Any, right: Any) -> Any:
    """Add two values of the shapes that counts are made of."""
    if isinstance(left, dict):
        joined = dict(left)
        for key, value in right.items():
            joined[key] = joined.get(key, 0) + value
        return joined
    if isinstance(left, tuple):
        return together((left, right))
    return left + right
