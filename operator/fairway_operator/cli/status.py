"""
``fairway status``: how a running system is, as its admin ports tell.

It understands both programs: an operator shows its data planes, receipts and
findings, a data plane what it serves. A release is all of its pods, asked
through the API server; one admin port can be asked by itself.
"""

import http.client
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fairway_operator.cli.forms import Output
from fairway_operator.cli.output import print_data, print_table, stdout
from fairway_operator.cli.pods import Pod, ask_pods, degraded_of
from fairway_operator.cli.reach import Reach, with_client

TIMEOUT_SECONDS = 5.0
PAGES = ("snapshot", "subscribers", "routes", "findings", "outbox")
MOST_FINDINGS = 50
"""That people are shown."""

_RANKS = {"error": 0, "warning": 1}

LIVE = "live"
"""How an object stands that is served as it is written."""


def run(admin: str, output: Output) -> int:
    """Print what the admin port says; return 1 when it cannot be asked or is not ready."""
    base = admin.rstrip("/")
    try:
        ready, why = _readiness(base)
        subscribers = _page(base, "subscribers")
        data: dict[str, Any] = {"admin": base, "ready": ready, "reason": "" if ready else why}
        if subscribers is None:
            data |= {"program": "dataplane", "snapshot": _page(base, "snapshot")}
        else:
            data |= {
                "program": "operator",
                "degraded": degraded_of(why),
                "snapshot": _page(base, "snapshot"),
                "subscribers": subscribers,
                "quarantine": quarantine_of(_page(base, "routes")),
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


def run_release(reach: Reach, release: str, output: Output) -> int:
    """Print what the pods of a release say; return 1 when one is not ready or none can be asked."""
    (namespace,) = reach.namespaces
    pods = with_client(reach, lambda client: ask_pods(client, namespace, release, PAGES))
    if pods is None:
        return 1
    if not pods:
        of = f" of release {release}" if release else ""
        sys.stderr.write(
            f"fairway: there is no pod{of} in namespace {namespace}\n"
            "    give the namespace of the release with -n, or an admin port with --admin\n"
        )
        return 1
    data = _release_data(namespace, pods)
    if output is Output.TEXT:
        _print_release(data)
    else:
        print_data(data, output)
    return 0 if data["ready"] else 1


def _release_data(namespace: str, pods: Sequence[Pod]) -> dict[str, Any]:
    """Return what all pods say together; findings are those of the leader, else of any replica."""
    operators = [pod for pod in pods if pod.program == "operator"]
    leading = {pod.name for pod in operators if (pod.page("outbox") or {}).get("leading")}
    teller = next((pod for pod in operators if pod.name in leading), None) or next(
        (pod for pod in operators if pod.page("findings") is not None), None
    )
    return {
        "namespace": namespace,
        "ready": all(pod.ready for pod in pods),
        "operators": [
            _pod_data(pod)
            | {
                "leading": pod.name in leading,
                "degraded": pod.degraded,
                "subscribers": _subscribers(pod),
            }
            for pod in operators
        ],
        "dataplanes": [_pod_data(pod) for pod in pods if pod.program == "dataplane"],
        "quarantine": [] if teller is None else quarantine_of(teller.page("routes")),
        "findings": {} if teller is None else teller.page("findings") or {},
        "outbox": None if teller is None else teller.page("outbox"),
    }


def _pod_data(pod: Pod) -> dict[str, Any]:
    return {
        "pod": pod.name,
        "release": pod.release,
        "ready": pod.ready,
        "reason": pod.reason,
        "snapshot": _digest(pod.page("snapshot")),
    }


def _subscribers(pod: Pod) -> list[dict[str, Any]]:
    return pod.page("subscribers") or []


def _digest(snapshot: Mapping[str, Any] | None) -> str | None:
    found = snapshot or {}
    return found.get("digest") or found.get("root")


def quarantine_of(routes: Sequence[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Return the objects that are not served as they are written."""
    return [each for each in routes or () if each["standing"] != LIVE]


def _readiness(base: str) -> tuple[bool, str]:
    """Return whether it is ready, and what it says; raises ValueError where it is none of ours."""
    ready, text = _ask(f"{base}/readyz")
    if ready and text.partition("\n")[0] != "ok":
        raise ValueError("somebody else is listening there")
    return ready, text


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
    except http.client.HTTPException as error:
        raise ValueError(f"not HTTP as it should be ({type(error).__name__})") from error


def _print_release(data: dict[str, Any]) -> None:
    console = stdout()
    pods = [*data["operators"], *data["dataplanes"]]
    newest = next((each["snapshot"] for each in data["operators"] if each["leading"]), None)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("POD", "SERVES", "STATE"):
        table.add_column(name, overflow="fold")
    for each in pods:
        state = ["ready" if each["ready"] else f"not ready: {each['reason']}"]
        if each.get("leading"):
            state.append("leading")
        if newest is not None and each["snapshot"] != newest:
            state.append("behind")
        state.extend(
            f"refused by {other['instance']}: {other['refused_reason']}"
            for other in each.get("subscribers", ())
            if other["refused_reason"]
        )
        table.add_row(each["pod"], (each["snapshot"] or "nothing")[:12], ", ".join(state))
    console.print(
        f"{data['namespace']}: {_some(len(data['operators']), 'operator')},"
        f" {_some(len(data['dataplanes']), 'data plane')}"
    )
    if not data["operators"]:
        console.print("no operator: data planes serve the last snapshot that they had")
    print_table(table, console)
    degraded = [what for each in data["operators"] for what in each["degraded"]]
    _print_degraded(dict.fromkeys(degraded), console)
    _print_quarantine(data["quarantine"], console)
    _print_findings(data["findings"], console)
    pending = len((data["outbox"] or {}).get("pending", ()))
    if pending:
        console.print(f"{_some(pending, 'write')} of status and events wait")


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


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
    _print_degraded(data["degraded"], console)
    _print_quarantine(data["quarantine"], console)
    _print_findings(data["findings"] or {}, console)


def _print_degraded(kinds: Iterable[str], console: Console) -> None:
    """Print the kinds that operators cannot list, and why; what they knew of them is kept."""
    for what in kinds:
        console.print(f"degraded: {what}", soft_wrap=True)


def _print_findings(findings: Mapping[str, list[dict[str, Any]]], console: Console) -> None:
    """Print what is wrong, errors first; what is only good to know is for machines to print."""
    told = [
        (_RANKS[each["severity"]], name, each)
        for name, found in findings.items()
        for each in found
        if each["severity"] in _RANKS
    ]
    told.sort(key=lambda row: row[:2])
    for _, name, each in told[:MOST_FINDINGS]:
        field = f"{each['field']}: " if each["field"] else ""
        hint = f"\n    {each['hint']}" if each.get("hint") else ""
        line = f"{each['severity']}: {name}: {field}{each['message']}{hint}"
        console.print(line, soft_wrap=True)
    if len(told) > MOST_FINDINGS:
        console.print(f"and {len(told) - MOST_FINDINGS} more; -o json prints all of them")


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
