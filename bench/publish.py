"""
What a reader sees of a run: the tables in README and docs, and the chart.

All of them are written from ``results/published.json`` and nothing else; a test
holds them to it.

    python -m bench.publish [results/latest.json]
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.chart import COLORS, chart
from bench.report import ratio_to_traefik

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PUBLISHED = RESULTS / "published.json"
CHART = RESULTS / "published.svg"
BUDGET = RESULTS / "budget.json"
STEPS = RESULTS / "steps.json"

_NAMES = {
    "fairway": "Fairway",
    "plain": "Fairway, not compiled",
    "traefik": "Traefik",
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
}
assert list(_NAMES) == list(COLORS)

_IN_README = ("a", "an", "b", "c", "ct", "d", "e", "er", "w", "f10000", "churn")

_REST = "everything else"

TARGETS: dict[str, float] = {
    **dict.fromkeys(("a", "ah", "an", "b", "d", "churn"), 2.0),
    **dict.fromkeys(("c", "ct", "e", "er", "u", "w"), 1.0),
    "f10000": 10.0,
}
"""How many times less CPU than Traefik it has to be."""


def publish(source: Path) -> None:
    """Make a run the published one and write everything that shows it."""
    result = json.loads(source.read_text())
    PUBLISHED.write_text(json.dumps(result, indent=2) + "\n")
    for path, text in pages(result):
        path.write_text(text)


def pages(result: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield every file that shows a run, and what it must say."""
    yield CHART, chart(result)
    for path, parts in (
        (ROOT / "README.md", {"cost": _cost(result, _IN_README), "when": _when(result)}),
        (
            ROOT / "docs" / "performance.md",
            {
                "cost": _cost(result, tuple(result["workloads"]), targets=True),
                "latency": _latency(result),
                "memory": _memory(result),
                "budget": _budget(result, json.loads(BUDGET.read_text())),
                "steps": steps_table(json.loads(STEPS.read_text())),
                "when": _when(result),
            },
        ),
    ):
        text = path.read_text()
        for name, part in parts.items():
            text = _put(text, name, part)
        yield path, text


def _put(text: str, name: str, part: str) -> str:
    """Replace what stands between two marks."""
    begin, end = f"<!-- bench: {name} -->\n", f"<!-- bench: end of {name} -->\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    found, count = pattern.subn(lambda _: begin + part + end, text)
    if count != 1:
        raise ValueError(f"{begin.strip()} stands there {count} times, not once")
    return found


def _when(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    return (
        f"{machine['date']}, {machine['cpu']} with {machine['cpus']} CPUs, Linux "
        f"{machine['kernel'].partition('-')[0]}, Python {machine['python']}, "
        f"{machine['congestion_control']}; medians of {machine['rounds']} interleaved "
        f"rounds of {machine['seconds']} s.\n"
    )


def _cost(result: Mapping[str, Any], workloads: tuple[str, ...], *, targets: bool = False) -> str:
    names = _contestants(result)
    head = ["workload", *(_NAMES[name] for name in names)] + (["target"] if targets else [])
    lines = []
    for workload in workloads:
        rows = result["workloads"].get(workload)
        if rows is None:
            continue
        title = result["titles"][workload]
        line = [f"{workload}: {title}" if targets else title]
        line += [_cost_cell(rows, name) for name in names]
        if targets:
            line.append(f"{TARGETS[workload]:g}" if workload in TARGETS else "")
        lines.append(line)
    return _table(head, lines)


def _cost_cell(rows: Mapping[str, Any], name: str) -> str:
    row = rows.get(name)
    if row is None:
        return ""
    if row["errors"]:
        return "errors"
    cost = f"{row['cpu_us']:,.1f}" if row["cpu_us"] < 100 else f"{row['cpu_us']:,.0f}"
    ratio = ratio_to_traefik(rows, name)
    return cost if ratio is None or name == "traefik" else f"{cost} ({ratio:.2f})"


def _latency(result: Mapping[str, Any]) -> str:
    names = _contestants(result)
    lines = []
    for workload, rows in result["workloads"].items():
        if not any("half_p99_ms" in row for row in rows.values()):
            continue
        cells = []
        for name in names:
            row = rows.get(name, {})
            shown = "half_p99_ms" in row and not row["errors"]
            cells.append(
                f"{row['half_p99_ms']:.2f} ({row['half_rps']:,.0f}/s)" if shown else "errors"
            )
        lines.append([f"{workload}: {result['titles'][workload]}", *cells])
    return _table(["workload", *(_NAMES[name] for name in names)], lines)


def _memory(result: Mapping[str, Any]) -> str:
    names = _contestants(result)
    rows = result["workloads"]
    lines = []
    for label, workload, field in (
        ("MiB after workload a", "a", "rss_mb"),
        ("MiB with 10,000 hosts", "f10000", "rss_mb"),
        ("KiB for each idle connection", "idle", "rss_kb_per_connection"),
    ):
        cells = [rows.get(workload, {}).get(name, {}).get(field) for name in names]
        lines.append([label, *("" if cell is None else f"{cell:.1f}" for cell in cells)])
    return _table(["resident memory", *(_NAMES[name] for name in names)], lines)


def _budget(result: Mapping[str, Any], shares: Mapping[str, Mapping[str, float]]) -> str:
    """Divide the figures of Fairway by the shares that were sampled."""
    costs = {name: result["workloads"][name]["fairway"]["cpu_us"] for name in shares}
    parts = {part for found in shares.values() for part in found} - {_REST}
    first = next(iter(shares.values()))
    ordered = sorted(parts, key=lambda part: (-first.get(part, 0.0), part))
    lines = [
        [part, *(_microseconds(costs[name] * shares[name].get(part, 0.0)) for name in shares)]
        for part in ordered
    ]
    rest = [
        costs[name] * (1 - sum(shares[name].get(part, 0.0) for part in parts)) for name in shares
    ]
    lines.append([_REST, *(_microseconds(cost) for cost in rest)])
    lines.append(["**sum**", *(f"**{costs[name]:,.1f}**" for name in shares)])
    return _table(["µs of a request", *shares], lines)


def steps_table(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the instructions of each step of a request, a column for each workload."""
    first = next(iter(counts.values()))
    lines = [[step, *(f"{one[step]:,}" for one in counts.values())] for step in first]
    lines.append(["**sum**", *(f"**{sum(one.values()):,}**" for one in counts.values())])
    return _table(["instructions of a request", *counts], lines)


def _microseconds(cost: float) -> str:
    return "" if cost < 0.05 else f"{cost:,.1f}"


def _contestants(result: Mapping[str, Any]) -> list[str]:
    return [name for name in _NAMES if any(name in rows for rows in result["workloads"].values())]


def _table(head: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


if __name__ == "__main__":
    publish(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS / "latest.json")
