"""
``fairway status``: how a running system is, as its admin port tells.

It understands both programs: an operator shows its data planes, receipts and
findings, a data plane what it serves.
"""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from fairway_operator.cli.forms import Output
from fairway_operator.cli.output import print_data, print_table, stdout

TIMEOUT_SECONDS = 5.0
LIVE = "live"
"""How an object stands that is served as it is written."""


def run(admin: str, output: Output) -> int:
    """Print what the admin port says; return 1 when it cannot be asked or is not ready."""
    base = admin.rstrip("/")
    try:
        ready, why = _ask(f"{base}/readyz")
        subscribers = _page(base, "subscribers")
        data: dict[str, Any] = {"admin": base, "ready": ready, "reason": "" if ready else why}
        if subscribers is None:
            data |= {"program": "dataplane", "snapshot": _page(base, "snapshot")}
        else:
            data |= {
                "program": "operator",
                "snapshot": _page(base, "snapshot"),
                "subscribers": subscribers,
                "quarantine": [
                    each for each in _page(base, "routes") or () if each["standing"] != LIVE
                ],
                "findings": _page(base, "findings"),
                "outbox": _page(base, "outbox"),
            }
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        sys.stderr.write(
            f"fairway: {base} does not answer: {reason}\n"
            "    give the admin port of an operator or of a data plane with --admin, for example"
            " after: kubectl -n fairway-system port-forward deploy/fairway-operator 9000\n"
        )
        return 1
    if output is Output.TEXT:
        _print_text(data)
    else:
        print_data(data, output)
    return 0 if ready else 1


def _page(base: str, name: str) -> Any:
    """Return a debug page; None where the program has none of that name."""
    found, text = _ask(f"{base}/debug/{name}")
    return json.loads(text) if found else None


def _ask(url: str) -> tuple[bool, str]:
    """Return whether the answer was 200, and its text."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("an admin port is http://host:port")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - checked
            return True, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read().decode().strip()


def _print_text(data: dict[str, Any]) -> None:
    console = stdout()
    snapshot = data["snapshot"] or {}
    digest = str(snapshot.get("digest") or snapshot.get("root") or "none")
    ready = "ready" if data["ready"] else f"not ready: {data['reason']}"
    console.print(f"{data['program']} at {data['admin']}: {ready}")
    console.print(f"snapshot {digest[:12]}")
    if data["program"] == "dataplane":
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("DATA PLANE", "VERSION", "PEER", "SERVES", "STATE"):
        table.add_column(name, overflow="fold")
    for each in data["subscribers"]:
        root = str(each["root"] or "nothing")
        state = each["refused_reason"] or ("up to date" if root == digest else "behind")
        table.add_row(each["instance"], each["version"], each["peer"], root[:12], state)
    console.print()
    print_table(table, console)
    _print_quarantine(data["quarantine"], console)
    for name, findings in (data["findings"] or {}).items():
        for each in findings:
            console.print(
                f"{each['severity']}: {name}: {each['field']}: {each['message']}", soft_wrap=True
            )


def _print_quarantine(objects: list[dict[str, Any]], console: Console) -> None:
    """Print the objects that are not served as they are written; the findings say why."""
    if not objects:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("QUARANTINE", "GENERATION", "SERVED", "STANDING"):
        table.add_column(name, overflow="fold")
    for each in objects:
        kept = each["served_generation"] != each["generation"]
        served = str(each["served_generation"]) if kept else "in part" if each["routes"] else "none"
        table.add_row(each["object"], str(each["generation"]), served, each["standing"])
    console.print()
    print_table(table, console)
