"""
``fairway explain``: which route a request takes, why, and why not the others.

The verdicts come from the matcher that the data plane uses, so this page
cannot say anything else than what would happen.
"""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from rich.table import Table

from fairway_operator.cli.forms import Output
from fairway_operator.cli.from_files import Compiled
from fairway_operator.cli.output import exit_status, print_data, print_problems, print_table, stdout
from fairway_operator.cli.problems import Problem
from fairway_operator.cli.routes import filter_text, match_text
from fairway_operator.compiler import is_nowhere
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.filters import DirectResponse, FilterSpec, HttpsRedirect, Redirect
from fairway_snapshot.matcher import HostIndex, Verdict, host_candidates
from fairway_snapshot.matcher import explain as judge
from fairway_snapshot.model import BackendId, CertificateId, HostPattern, Route
from fairway_snapshot.target import (
    TargetRefused,
    has_encoded_slash,
    normalize_host,
    normalize_path,
)
from fairway_snapshot.tree import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks."""

    url: str
    secure: bool
    host: bytes
    path: bytes
    query: bytes
    method: str
    headers: tuple[tuple[bytes, bytes], ...]
    client: str


def request_of(url: str, method: str, headers: Sequence[str], client_ip: str) -> Request:
    """Return the request of the command line; raises ValueError with what to write."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is no URL; write http://host/path or https://host/path")
    ip_address(client_ip)
    lines = []
    for line in headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError(f"{line!r} is no header; write 'name: value'")
        lines.append((name.strip().lower().encode(), value.strip().encode()))
    host = next((value for name, value in lines if name == b"host"), parts.netloc.encode())
    return Request(
        url=url,
        secure=parts.scheme == "https",
        host=host,
        path=(parts.path or "/").encode(),
        query=parts.query.encode(),
        method=method,
        headers=(*((name, value) for name, value in lines if name != b"host"), (b"host", host)),
        client=client_ip,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What becomes of a request."""

    status: int | None
    """None where the backend decides."""
    outcome: str
    """In a sentence."""
    candidates: tuple[HostPattern, ...]
    """Hosts in the order they are looked for."""
    host: HostPattern | None
    verdicts: tuple[Verdict, ...]
    route: Route | None
    certificate: CertificateId | None


def run(request: Request, compiled: Compiled, output: Output, *, live: bool = False) -> int:
    """
    Print the explanation; return 1 when what it rests on has errors.

    With ``live`` objects the problems of those that share the host are printed, and
    are no failure: other people's objects may have errors at any time.
    """
    explanation = explain(compiled.compilation.snapshot, request, compiled.without_endpoints)
    if output is Output.TEXT:
        _print_text(request, explanation, compiled)
    else:
        print_data(_data(request, explanation, compiled), output)
    if live:
        print_problems(_concerning(compiled, explanation))
        return 0
    errors = [each for each in compiled.problems if each.is_error]
    print_problems(errors)
    return exit_status(errors)


def _concerning(compiled: Compiled, explanation: Explanation) -> list[Problem]:
    """Return what is wrong with objects of the hosts that were looked at, and their Services."""
    hosts = set(explanation.candidates)
    used = {
        each.backend.rpartition(":")[0]
        for verdict in explanation.verdicts
        for each in verdict.route.backends
    }
    serving = compiled.compilation.serving
    owners = {ref for ref, found in serving.items() if not hosts.isdisjoint(found.hosts)}
    return [
        each
        for each in compiled.problems
        if each.object is None
        or each.object in owners
        or (each.object.kind is Kind.SERVICE and _name_of(each.object) in used)
    ]


def _name_of(ref: ObjectRef) -> str:
    return f"{ref.namespace}/{ref.name}"


def explain(
    snapshot: Snapshot, request: Request, without_endpoints: AbstractSet[str] = frozenset()
) -> Explanation:
    """
    Return what becomes of a request; depends on its arguments alone.

    ``without_endpoints`` are the Services (``namespace/name``) whose endpoints are not
    known here, so that nothing can be said of them.
    """

    def ends(status: int | None, outcome: str, **found: Any) -> Explanation:
        parts: dict[str, Any] = {
            "candidates": (), "host": None, "verdicts": (), "route": None, "certificate": None,
        }  # fmt: skip
        return Explanation(status=status, outcome=outcome, **{**parts, **found})

    try:
        host = normalize_host(request.host)
        path = normalize_path(request.path)
    except TargetRefused as refused:
        return ends(400, f"refused before any route is looked for: {refused.reason}")
    candidates = host_candidates(host.decode())
    found = next((each for each in candidates if each in snapshot.hosts), None)
    certificate = _certificate(snapshot, host) if request.secure else None
    if found is None:
        return ends(404, "no route: no host matches", candidates=candidates)
    verdicts = judge(
        snapshot.hosts[found], path, request.method.encode(), request.headers, request.query
    )
    route = next((each.route for each in verdicts if not each.objections), None)
    known: dict[str, Any] = {
        "candidates": candidates, "host": found, "verdicts": verdicts,
        "route": route, "certificate": certificate,
    }  # fmt: skip
    if route is None:
        return ends(404, "no route: the host matches, none of its routes does", **known)
    if has_encoded_slash(path) and not route.allow_encoded_slash:
        return ends(400, "refused: the path has an encoded slash", **known)
    outcome = _answered(route, secure=request.secure)
    if outcome is None:
        outcome = _forwarded(snapshot, route, without_endpoints)
    return ends(*outcome, **known)


def _certificate(snapshot: Snapshot, host: bytes) -> CertificateId | None:
    found = HostIndex(dict(snapshot.server_names.items())).find(host)
    return found.certificate if found else None


def _answered(route: Route, *, secure: bool) -> tuple[int | None, str] | None:
    """Return how a filter answers; None where none does."""
    for spec in route.filters:
        match spec:
            case HttpsRedirect() if not secure:
                return spec.status, "redirected to https"
            case Redirect():
                return spec.status, "redirected"
            case DirectResponse():
                return spec.status, "answered without a backend"
            case _:
                pass
    return None


def _forwarded(
    snapshot: Snapshot, route: Route, without_endpoints: AbstractSet[str]
) -> tuple[int | None, str]:
    used = [each.backend for each in route.backends if each.weight]
    if any(_endpoints(snapshot, each) for each in used):
        return None, "forwarded"
    if all(map(is_nowhere, used)):
        return 503, "no backend can be used; what is wrong with the object says why"
    if any(each.rpartition(":")[0] in without_endpoints for each in used):
        return None, "forwarded; its endpoints are not in the files"
    return 503, "the route has no ready endpoints"


def _endpoints(snapshot: Snapshot, name: BackendId) -> list[str]:
    backend = snapshot.backends.get(name)
    return [
        f"[{each.host}]:{each.port}" if ":" in each.host else f"{each.host}:{each.port}"
        for each in (backend.endpoints if backend else ())
    ]


def _print_text(request: Request, explanation: Explanation, compiled: Compiled) -> None:
    console = stdout()
    status = f" ({explanation.status})" if explanation.status else ""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("request", f"{request.method} {request.url} from {request.client}")
    facts.add_row("outcome", explanation.outcome + status)
    for name, value in _facts(explanation, compiled):
        facts.add_row(name, value)
    print_table(facts, console)
    rows = list(_reasons(explanation))
    if rows:
        console.print("\nroutes of this host, in the order they are asked", style="bold")
        table = Table.grid(padding=(0, 2))
        for row in rows:
            table.add_row(*row)
        print_table(table, console)


def _facts(explanation: Explanation, compiled: Compiled) -> Iterator[tuple[str, str]]:
    if explanation.candidates:
        found = "none" if explanation.host is None else explanation.host or "*"
        looked = ", ".join(each or "*" for each in explanation.candidates)
        yield "host", f"{found}, the first there is of {looked}"
    if explanation.certificate:
        yield "certificate", explanation.certificate
    route = explanation.route
    if route is None:
        return
    yield "route", route.name
    yield "match", match_text(route.match)
    place = _written_at(route, compiled)
    if place:
        yield "written at", place
    for spec in route.filters:
        yield "filter", filter_text(spec)
    total = sum(each.weight for each in route.backends)
    for each in route.backends:
        share = f"{each.weight / total:.0%} " if total else ""
        if is_nowhere(each.backend):
            yield "backend", f"{share}none"
            continue
        yield "backend", f"{share}{each.backend} at {_where(each.backend, compiled)}"


def _where(backend: BackendId, compiled: Compiled) -> str:
    endpoints = ", ".join(_endpoints(compiled.compilation.snapshot, backend))
    unknown = backend.rpartition(":")[0] in compiled.without_endpoints
    return endpoints or ("endpoints that are not in the files" if unknown else "no endpoint")


def _reasons(explanation: Explanation) -> Iterator[tuple[str, str, str, str]]:
    taken = False
    for verdict in explanation.verdicts:
        mark, why = "no", "; ".join(verdict.objections)
        if not verdict.objections:
            mark, why = ("no", "an earlier route matches") if taken else ("yes", "taken")
            taken = True
        yield mark, match_text(verdict.route.match), verdict.route.name, why


def _written_at(route: Route, compiled: Compiled) -> str:
    """Return place and object of a route; its rule's place where the name tells it."""
    rule = route.name.rpartition("/")[2]
    for ref, serving in compiled.compilation.serving.items():
        if route.name in serving.routes:
            found = _RULE_AND_PATH.fullmatch(rule)
            field = f"spec.rules[{found[1]}].http.paths[{found[2]}]" if found else "spec.rules"
            place = compiled.manifests.place(ref, field if ref.kind is Kind.INGRESS else "spec")
            return f"{place}: {ref}" if place else str(ref)
    return ""


_RULE_AND_PATH = re.compile(r"(\d+)-(\d+)")


def _data(request: Request, explanation: Explanation, compiled: Compiled) -> dict[str, Any]:
    route = explanation.route
    snapshot = compiled.compilation.snapshot
    return {
        "request": {"method": request.method, "url": request.url, "client": request.client},
        "outcome": explanation.outcome,
        "status": explanation.status,
        "hosts": [each or "*" for each in explanation.candidates],
        "host": None if explanation.host is None else explanation.host or "*",
        "certificate": explanation.certificate,
        "route": route and route.name,
        "object": _written_at(route, compiled) if route else None,
        "filters": [filter_text(spec) for spec in _filters(route)],
        "backends": [
            {
                "backend": each.backend,
                "weight": each.weight,
                "endpoints": _endpoints(snapshot, each.backend),
            }
            for each in (route.backends if route else ())
        ],
        "routes": [
            {"taken": mark == "yes", "match": match, "route": name, "why": why}
            for mark, match, name, why in _reasons(explanation)
        ],
    }


def _filters(route: Route | None) -> tuple[FilterSpec, ...]:
    return route.filters if route else ()
