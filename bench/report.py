"""What a run says: JSON for programs, a table and a chart for people."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from rich.console import Console
from rich.table import Table

from bench.load import Sample
from bench.workloads import WORKLOADS

Samples = Mapping[str, Mapping[str, Sequence[Sample]]]
"""Workload to contestant to rounds."""

_COLORS = {
    "fairway": "#0b7285",
    "traefik": "#adb5bd",
    "nginx": "#ced4da",
    "haproxy": "#dee2e6",
    "envoy": "#868e96",
}


def summarize(samples: Samples, machine: Mapping[str, object]) -> dict[str, Any]:
    """Take medians over the rounds, and ratios to Traefik (above 1: less CPU than Traefik)."""
    workloads: dict[str, dict[str, dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for name, contestants in samples.items():
        rows = workloads[name] = {}
        for contestant, rounds in contestants.items():
            row = {
                field: round(statistics.median(getattr(sample, field) for sample in rounds), 3)
                for field in ("cpu_us", "rps", "p50_ms", "p99_ms", "rss_mb")
            }
            row["errors"] = sum(sample.errors for sample in rounds)
            rows[contestant] = row
        ours, theirs = rows.get("fairway"), rows.get("traefik")
        if ours and theirs and not ours["errors"] and not theirs["errors"]:
            ratios[name] = round(theirs["cpu_us"] / ours["cpu_us"], 2)
    return {"workloads": workloads, "ratio_to_traefik": ratios, "machine": dict(machine)}


def show(result: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title="CPU microseconds per request (ratio to Traefik); p99 in ms")
    table.add_column("workload")
    contestants = sorted(
        {name for rows in result["workloads"].values() for name in rows},
        key=list(_COLORS).index,
    )
    for name in contestants:
        table.add_column(name, justify="right")
    for workload, rows in result["workloads"].items():
        cells = []
        base = rows.get("traefik", {}).get("cpu_us")
        for name in contestants:
            row = rows.get(name)
            if row is None:
                cells.append("-")
            elif row["errors"]:
                cells.append(f"[red]{row['errors']:.0f} errors[/red]")
            else:
                ratio = f" ({base / row['cpu_us']:.2f})" if base else ""
                cells.append(f"{row['cpu_us']:.1f}{ratio}  {row['p99_ms']:.1f}")
        table.add_row(f"{workload}: {WORKLOADS[workload].title}", *cells)
    Console().print(table)


def chart(result: Mapping[str, Any]) -> str:
    """Draw CPU per request, each workload against Traefik as 100 %."""
    bar, gap, left, width = 14, 18, 190, 520
    lines: list[str] = []
    y = 48
    for workload, rows in result["workloads"].items():
        base = rows.get("traefik", {}).get("cpu_us")
        if not base:
            continue
        lines.append(
            f'<text x="{left - 10}" y="{y + bar}" text-anchor="end" font-weight="600">'
            f"{escape(WORKLOADS[workload].title)}</text>"
        )
        for name in (name for name in _COLORS if name in rows):
            row = rows[name]
            share = 0.0 if row["errors"] else row["cpu_us"] / base
            length = min(share, 1.5) / 1.5 * width
            label = "errors" if row["errors"] else f"{row['cpu_us']:.1f} us"
            lines.append(
                f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{bar - 2}" '
                f'fill="{_COLORS[name]}"/>'
                f'<text x="{left + length + 6:.1f}" y="{y + bar - 4}" font-size="11">'
                f"{name} {label}</text>"
            )
            y += bar
        y += gap
    machine = result["machine"]
    caption = f"{machine['date']}, {machine['cpu']}, one core for each proxy; less is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 140}" height="{y + 10}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        '<rect width="100%" height="100%" fill="white"/>'
        '<text x="12" y="22" font-size="15" font-weight="700">CPU per request</text>'
        f'<text x="150" y="22" fill="#666">{escape(caption)}</text>' + "".join(lines) + "</svg>\n"
    )
