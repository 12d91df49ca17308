"""
Metrics as the text that Prometheus reads, a part at a time.

Ten thousand routes are four hundred thousand lines. Who writes them also passes
snapshots on, and no edit may wait until they are written. So the one rule: a row
is made when it is written, and never is there more of the text than a part.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TypeAlias

from fairway_dataplane.tally import Cells

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PART_SIZE = 32_768
"""Characters of a part; a row may exceed it."""

Values: TypeAlias = tuple[str, ...]
"""Of the labels of a family, in their order."""


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its rows, which can be read once."""

    name: str
    kind: str
    text: str
    rows: Iterator[str]
    """The lines of each row, with their ends."""


def counter(
    name: str, text: str, rows: Iterable[tuple[Values, float]], labels: Values = ()
) -> Family:
    """Return what only grows; ``_total`` is added to its name."""
    return Family(f"{name}_total", "counter", text, _plain(f"{name}_total", labels, rows))


def gauge(
    name: str, text: str, rows: Iterable[tuple[Values, float]], labels: Values = ()
) -> Family:
    """Return what goes up and down."""
    return Family(name, "gauge", text, _plain(name, labels, rows))


def histogram(
    name: str,
    text: str,
    bounds: Sequence[float],
    rows: Iterable[tuple[Values, Cells]],
    labels: Values = (),
) -> Family:
    """Return observations by bucket, and their number and sum."""
    return Family(name, "histogram", text, _buckets(name, labels, bounds, rows))


def write(families: Iterable[Family]) -> Iterator[bytes]:
    """Yield the text of all in parts, each of which is made in about half a millisecond."""
    part: list[str] = []
    size = 0
    for family in families:
        head = f"# HELP {family.name} {family.text}\n# TYPE {family.name} {family.kind}\n"
        for lines in chain((head,), family.rows):
            part.append(lines)
            size += len(lines)
            if size >= PART_SIZE:
                yield "".join(part).encode()
                part.clear()
                size = 0
    yield "".join(part).encode()


def _plain(name: str, labels: Values, rows: Iterable[tuple[Values, float]]) -> Iterator[str]:
    for values, number in rows:
        shown = ",".join(_pairs(labels, values))
        yield f"{name}{{{shown}}} {float(number)}\n" if shown else f"{name} {float(number)}\n"


def _buckets(
    name: str, labels: Values, bounds: Sequence[float], rows: Iterable[tuple[Values, Cells]]
) -> Iterator[str]:
    edges = [f'le="{bound}"' for bound in (*bounds, "+Inf")]
    form = "".join(f"{name}_bucket{{%s{edge}%s}} %d.0\n" for edge in edges)
    form += f"{name}_count%s %d.0\n{name}_sum%s %s\n"
    nothing = (0.0,) * (len(edges) + 1)
    for values, cells in rows:
        pairs = _pairs(labels, values)
        # Sorted by name, as the pairs are.
        before = "".join(f"{pair}," for pair in pairs if pair < "le")
        after = "".join(f",{pair}" for pair in pairs if pair >= "le")
        shown = f"{{{','.join(pairs)}}}" if pairs else ""
        seconds, *counts = cells or nothing
        fields: list[str | float] = []
        seen = 0.0
        for seen in accumulate(counts):
            fields += before, after, seen
        yield form % (*fields, shown, seen, shown, seconds)


def _pairs(labels: Values, values: Values) -> list[str]:
    return sorted(
        f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True)
    )


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
