"""The chart: CPU of each contestant as a share of Traefik's, one group for each workload."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

COLORS = {
    "fairway": "#0b7285",
    "plain": "#66a5ad",
    "traefik": "#adb5bd",
    "nginx": "#ced4da",
    "haproxy": "#dee2e6",
    "envoy": "#868e96",
}
"""Of the contestants, in the order they are shown in."""

_BAR, _GAP, _LEFT, _WIDTH, _TOP = 14, 16, 270, 480, 64
_MOST = 1.5
"""Bars end here: one and a half times what Traefik uses."""


def chart(result: Mapping[str, Any]) -> str:
    """Return an SVG image; it says where and when it was measured."""
    y = _TOP
    parts: list[str] = []
    for workload, rows in result["workloads"].items():
        base = rows.get("traefik", {}).get("cpu_us")
        if base:
            parts.append(_text(_LEFT - 10, y + _BAR, result["titles"][workload], "end"))
            for name in (name for name in COLORS if name in rows):
                parts.append(_bar(y, name, rows[name], base))
                y += _BAR
            y += _GAP
    at = _LEFT + _WIDTH / _MOST
    machine = result["machine"]
    caption = (
        f"{machine['date']}, {machine['cpu']}, {machine['cpus']} CPUs: "
        "one for each proxy, one for load and backend"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 150} {y}" '
        f'width="{_LEFT + _WIDTH + 150}" height="{y}" '
        'font-family="system-ui, sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n'
        '<text x="12" y="22" font-size="15" font-weight="700">'
        "CPU for each request, against Traefik; less is better</text>\n"
        f'<text x="12" y="42" fill="#555">{escape(caption)}</text>\n'
        f'<line x1="{at:.0f}" y1="52" x2="{at:.0f}" y2="{y - _GAP}" '
        'stroke="#c92a2a" stroke-dasharray="3 3"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(y: int, name: str, row: Mapping[str, Any], base: float) -> str:
    if row["errors"] or "cpu_us" not in row:
        return _text(_LEFT, y + _BAR - 3, f"{name}: errors", "start")
    length = min(row["cpu_us"] / base, _MOST) / _MOST * _WIDTH
    return (
        f'<rect x="{_LEFT}" y="{y}" width="{length:.1f}" height="{_BAR - 2}" '
        f'fill="{COLORS[name]}"/>'
        + _text(_LEFT + length + 6, y + _BAR - 3, f"{name} {row['cpu_us']:.1f} µs", "start")
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    size = "" if anchor == "end" else ' font-size="11"'
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{size}>{escape(text)}</text>'
