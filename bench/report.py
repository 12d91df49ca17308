"""What a run says: JSON for programs, a table for the terminal."""

import statistics
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.arena import Rounds, errors_of
from bench.chart import COLORS, chart
from bench.workloads import WORKLOADS

__all__ = ["chart", "show", "summarize"]

_MEDIANS = ("cpu_us", "system_us", "rps", "p50_ms", "p99_ms", "rss_mb")


def summarize(
    found: Mapping[str, Mapping[str, Rounds]], machine: Mapping[str, object]
) -> dict[str, Any]:
    """Take medians over the rounds, and ratios to Traefik (above 1: less CPU than Traefik)."""
    workloads = {
        name: {contestant: _row(rounds) for contestant, rounds in contestants.items()}
        for name, contestants in found.items()
    }
    ratios = {name: ratio_to_traefik(rows, "fairway") for name, rows in workloads.items()}
    return {
        "workloads": workloads,
        "ratio_to_traefik": {name: ratio for name, ratio in ratios.items() if ratio is not None},
        "titles": {name: WORKLOADS[name].title for name in found},
        "machine": dict(machine),
    }


def ratio_to_traefik(rows: Mapping[str, Mapping[str, Any]], contestant: str) -> float | None:
    """Return how many times less CPU than Traefik; None where either does not count."""
    ours, theirs = rows.get(contestant), rows.get("traefik")
    if not ours or not theirs or ours["errors"] or theirs["errors"]:
        return None
    return round(float(theirs["cpu_us"]) / float(ours["cpu_us"]), 2)


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title="CPU us per request (ratio to Traefik); p99 in ms at half of saturation")
    table.add_column("workload")
    contestants = [
        name for name in COLORS if any(name in rows for rows in result["workloads"].values())
    ]
    for name in contestants:
        table.add_column(name, justify="right")
    for workload, rows in result["workloads"].items():
        cells = [_cell(rows, name) for name in contestants]
        table.add_row(f"{workload}: {result['titles'][workload]}", *cells)
    Console(width=150).print(table)


def _row(rounds: Rounds) -> dict[str, Any]:
    row: dict[str, Any] = {"errors": errors_of(rounds)}
    if rounds.problem:
        row["problem"] = rounds.problem
    if rounds.samples:
        for name in _MEDIANS:
            row[name] = _median([getattr(sample, name) for sample in rounds.samples])
    if rounds.paced:
        row["half_rps"] = _median([sample.rps for sample in rounds.paced])
        row["half_p50_ms"] = _median([sample.p50_ms for sample in rounds.paced])
        row["half_p99_ms"] = _median([sample.p99_ms for sample in rounds.paced])
    if rounds.idle_kb is not None:
        row["rss_kb_per_connection"] = round(rounds.idle_kb, 1)
    return row


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _cell(rows: Mapping[str, Mapping[str, Any]], name: str) -> str:
    row = rows.get(name)
    if row is None:
        return "-"
    if row["errors"]:
        return f"[red]{row['errors']:.0f} errors[/red]"
    ratio = ratio_to_traefik(rows, name)
    half = f"  {row['half_p99_ms']:.1f}" if "half_p99_ms" in row else ""
    return f"{row['cpu_us']:.1f}" + (f" ({ratio:.2f})" if ratio is not None else "") + half
