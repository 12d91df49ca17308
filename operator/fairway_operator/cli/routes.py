"""
Routes of a snapshot as people read them: what matches, what happens, where it goes.

Also the command to try one: a line of curl that reaches the route whatever DNS
says.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from rich.table import Table

from fairway_operator.compiler import is_nowhere
from fairway_snapshot.filters import FilterSpec, HttpsRedirect
from fairway_snapshot.model import (
    Backend,
    BackendId,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    ValueKind,
    ValueMatch,
)
from fairway_snapshot.tree import Snapshot


@dataclass(frozen=True, slots=True)
class Row:
    """One route under one host."""

    host: HostPattern
    route: Route


@dataclass(frozen=True, slots=True)
class Address:
    """Where a data plane listens."""

    host: str
    http_port: int
    https_port: int
    admin_port: int

    @property
    def shown_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


def rows_of(snapshot: Snapshot) -> Iterator[Row]:
    """Yield all routes: hosts in alphabetical order, routes in the order they are asked."""
    for host in sorted(snapshot.hosts):
        for route in snapshot.hosts[host].routes:
            yield Row(host, route)


def table_of(rows: Sequence[Row], backends: Mapping[BackendId, Backend]) -> Table:
    """Return a table of routes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("HOST", "MATCH", "FILTERS", "BACKENDS", "ROUTE"):
        table.add_column(name, overflow="fold")
    shown = ""
    for row in rows:
        host = row.host or "*"
        table.add_row(
            host if host != shown else "",
            match_text(row.route.match),
            ", ".join(map(filter_text, row.route.filters)),
            "\n".join(backend_texts(row.route, backends)),
            row.route.name,
            style=None,
        )
        shown = host
    return table


def match_text(match: RouteMatch) -> str:
    """Return ``= /cart`` (exact), ``/cart/*`` (prefix) or ``~ /v.+``, and what else is asked."""
    path = _path_text(match.path)
    parts = [path] if match.method is None else [match.method, path]
    parts += [f"header {value_text(value)}" for value in match.headers]
    parts += [f"query {value_text(value)}" for value in match.query]
    return " ".join(parts)


def _path_text(path: PathMatch) -> str:
    match path.kind:
        case PathKind.EXACT:
            return f"= {path.value}"
        case PathKind.PREFIX:
            return f"{path.value.rstrip('/')}/*"
        case PathKind.REGEX:
            return f"~ {path.value}"


def value_text(value: ValueMatch) -> str:
    """Return ``name=value``, ``name~expression`` or ``name``."""
    match value.kind:
        case ValueKind.EXACT:
            return f"{value.name}={value.value}"
        case ValueKind.REGEX:
            return f"{value.name}~{value.value}"
        case ValueKind.PRESENT:
            return value.name


def filter_text(spec: FilterSpec) -> str:
    """Return the filter's name and what it was told, such as ``strip-prefix prefix=/api``."""
    told = msgspec.to_builtins(spec)
    name = told.pop("type")
    return " ".join([name, *(f"{key}={_short(_told(value))}" for key, value in told.items())])


def _told(value: object) -> str:
    """Return header lines as ``name: value``, everything else as it is."""
    if isinstance(value, list | tuple):
        return ",".join(map(_told, value))
    if isinstance(value, dict):
        return f"{value.get('name')}:{value.get('value')}"
    return str(value).replace("\n", "\\n")


def backend_texts(route: Route, backends: Mapping[BackendId, Backend]) -> Iterator[str]:
    """Yield each backend with its share and the number of its endpoints."""
    total = sum(each.weight for each in route.backends)
    for each in route.backends:
        share = f" {each.weight / total:.0%}" if len(route.backends) > 1 and total else ""
        if is_nowhere(each.backend):
            yield f"none{share} (answers 503)"
            continue
        found = backends.get(each.backend)
        ready = len(found.endpoints) if found else 0
        yield f"{each.backend}{share}" + (" (no endpoints)" if not ready else "")


def curl_of(row: Row, address: Address) -> str | None:
    """
    Return a command that reaches the route; None where no example can be made up.

    That is so for regular expressions other than plain text.
    """
    path = _example_path(row.route.match)
    query = _example(row.route.match.query)
    headers = _example(row.route.match.headers)
    if path is None or query is None or headers is None:
        return None
    target = path + ("?" + "&".join(f"{name}={value}" for name, value in query) if query else "")
    words = ["curl"]
    if row.route.match.method not in (None, "GET"):
        words += ["-I"] if row.route.match.method == "HEAD" else ["-X", str(row.route.match.method)]
    for name, value in headers:
        words += ["-H", f"{name}: {value}"]
    host = row.host.replace("*", "any", 1)
    at = address.shown_host
    if any(isinstance(spec, HttpsRedirect) for spec in row.route.filters) and host:
        port = address.https_port
        words += ["-k", "--resolve", f"{host}:{port}:{at}", f"https://{host}:{port}{target}"]
    else:
        if host:
            words += ["-H", f"Host: {host}"]
        words.append(f"http://{at}:{address.http_port}{target}")
    return " ".join(_quote(word) for word in words)


_LITERAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~/ =:@")


def _example_path(match: RouteMatch) -> str | None:
    if match.path.kind is PathKind.REGEX and not _LITERAL.issuperset(match.path.value):
        return None
    return match.path.value.replace(" ", "%20")


def _example(wanted: Sequence[ValueMatch]) -> list[tuple[str, str]] | None:
    examples = []
    for value in wanted:
        if value.kind is ValueKind.REGEX and not _LITERAL.issuperset(value.value):
            return None
        examples.append((value.name, value.value if value.kind is not ValueKind.PRESENT else "1"))
    return examples


def _quote(word: str) -> str:
    quoted = shlex.quote(word)
    # shlex is careful beyond need with what URLs are made of.
    return word if quoted == f"'{word}'" and not set(word) & _SHELL else quoted


_SHELL = frozenset(" \t\n'\"\\$`!*?[]{}()<>|&;#~")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
