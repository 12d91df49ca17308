"""
What changed between two snapshots, in words of the user: routes and backends.

The order of routes is part of the meaning, so a route that only moved is told
as well.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from fairway_operator.cli.routes import Row, match_text
from fairway_snapshot.diff import changes
from fairway_snapshot.model import Backend, HostPattern, Section, ServerName, VirtualHost
from fairway_snapshot.tree import Snapshot


class Verb(StrEnum):
    """What happened to something."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One change of meaning; its JSON form is stable."""

    verb: Verb
    what: str
    """``route``, ``backend``, ``certificate`` or ``server name``."""
    name: str
    host: str | None = None
    """Of a route: its host, ``*`` for any."""
    detail: str = ""

    @property
    def text(self) -> str:
        """The change in one line."""
        sign = {Verb.ADDED: "+", Verb.REMOVED: "-", Verb.CHANGED: "~", Verb.MOVED: "~"}[self.verb]
        parts = [sign, self.what]
        if self.host is not None:
            parts.append(self.host)
        parts += (
            [self.detail, f"({self.name})"] if self.what == "route" else [self.name, self.detail]
        )
        return " ".join(part for part in parts if part)


def differences(old: Snapshot, new: Snapshot) -> tuple[Difference, ...]:
    """Return what differs: removed, changed and added, by host and name."""
    found: list[Difference] = []
    for change in changes(old, new):
        match change.section, change.before, change.after:
            case Section.HOSTS, before, after:
                assert not isinstance(before, Backend | ServerName)
                found += _routes(HostPattern(change.key), before, after)  # type: ignore[arg-type]
            case Section.BACKENDS, before, after:
                found.append(_backend(change.key, before, after))  # type: ignore[arg-type]
            case Section.CERTIFICATES, before, after:
                found.append(_plain("certificate", change.key, before, after))
            case Section.SERVER_NAMES, before, after:
                found.append(_server_name(change.key, before, after))  # type: ignore[arg-type]
    order = list(Verb)
    return tuple(
        sorted(
            found,
            key=lambda each: (
                each.what != "route",
                each.host or "",
                order.index(each.verb),
                each.name,
            ),
        )
    )


def _routes(
    host: HostPattern, before: VirtualHost | None, after: VirtualHost | None
) -> Iterator[Difference]:
    old = _keyed(host, before)
    new = _keyed(host, after)

    def tell(verb: Verb, row: Row, detail: str = "") -> Difference:
        shown = match_text(row.route.match) + (f": {detail}" if detail else "")
        return Difference(
            verb=verb, what="route", name=row.route.name, host=host or "*", detail=shown
        )

    for key, row in old.items():
        if key not in new:
            yield tell(Verb.REMOVED, row)
    for key, row in new.items():
        if key not in old:
            yield tell(Verb.ADDED, row)
        elif old[key].route != row.route:
            fields = [
                name
                for name in row.route.__struct_fields__
                if getattr(row.route, name) != getattr(old[key].route, name)
            ]
            yield tell(Verb.CHANGED, row, ", ".join(fields))
    kept_old = [key for key in old if key in new]
    kept_new = [key for key in new if key in old]
    for key, was in zip(kept_new, kept_old, strict=True):
        if key != was and old[key].route == new[key].route:
            yield tell(Verb.MOVED, new[key], "its order among the others")


def _keyed(host: HostPattern, virtual_host: VirtualHost | None) -> dict[tuple[str, str, int], Row]:
    """Return the routes by what makes them the same in two snapshots: name and match."""
    rows: dict[tuple[str, str, int], Row] = {}
    for route in virtual_host.routes if virtual_host else ():
        at = 0
        while (key := (route.name, match_text(route.match), at)) in rows:
            at += 1
        rows[key] = Row(host, route)
    return rows


def _backend(name: str, before: Backend | None, after: Backend | None) -> Difference:
    plain = _plain("backend", name, before, after)
    if before is None or after is None:
        return msgspec.structs.replace(plain, detail=_endpoints(after or before))
    parts = []
    if before.endpoints != after.endpoints:
        parts.append(f"endpoints {len(before.endpoints)} -> {len(after.endpoints)}")
    parts += [
        f"{field} {getattr(before, field)} -> {getattr(after, field)}"
        for field in Backend.__struct_fields__
        if field != "endpoints" and getattr(before, field) != getattr(after, field)
    ]
    return msgspec.structs.replace(plain, detail=", ".join(parts))


def _endpoints(backend: Backend | None) -> str:
    number = len(backend.endpoints) if backend else 0
    return f"with {number} endpoint{'' if number == 1 else 's'}"


def _server_name(name: str, before: ServerName | None, after: ServerName | None) -> Difference:
    plain = _plain("server name", name or "*", before, after)
    return msgspec.structs.replace(
        plain, detail=f"certificate {after.certificate}" if after else ""
    )


def _plain(what: str, name: str, before: object, after: object) -> Difference:
    verb = Verb.ADDED if before is None else Verb.REMOVED if after is None else Verb.CHANGED
    return Difference(verb=verb, what=what, name=name)
