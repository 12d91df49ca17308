"""
Reading bodies of unknown shape.

A body may hold any JSON value at any place. A :class:`Reader` returns the
value if it has the expected type; if not, it notes a finding with the path of
the field and returns the empty value of that type, so that decoding goes on
and the author hears of all mistakes at once.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.hosts import is_name
from fairway_operator.refs import CLUSTER_SCOPED, Kind, ObjectRef

ANNOTATION_PREFIX = "fairway.dev/"
FIELD_MANAGER = "fairway-operator"
"""
Field manager of the operator's own writes; what it owns is what it may withdraw.

An operator of another controller name has one of its own, or two operators in
one cluster would withdraw each other's status.
"""

FOREIGN_PREFIXES = (
    "alb.ingress.kubernetes.io/",
    "appgw.ingress.kubernetes.io/",
    "haproxy-ingress.github.io/",
    "haproxy.org/",
    "konghq.com/",
    "nginx.ingress.kubernetes.io/",
    "nginx.org/",
    "projectcontour.io/",
    "traefik.ingress.kubernetes.io/",
)
"""Of annotations by which other controllers are told how to serve an Ingress."""

_EMPTY: Mapping[str, Any] = {}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_ITEMS = 10_000
"""Far above what fits into one object of the API server (1.5 MiB)."""


class Metadata(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of an object's metadata."""

    uid: str
    generation: int
    created: str
    """RFC 3339 in UTC to the second, comparable as text; empty where the object has none."""


class Reader:
    """Read one body; collects findings as it goes."""

    __slots__ = ("findings", "ref")

    def __init__(self, kind: Kind, body: object) -> None:
        self.findings: list[Finding] = []
        self.ref = ObjectRef(kind, "", "")
        metadata = self.mapping(body, "").get("metadata")
        fields: Mapping[Any, Any] = metadata if isinstance(metadata, Mapping) else _EMPTY
        name, namespace = fields.get("name"), fields.get("namespace")
        if not isinstance(name, str) or not is_name(name):
            self.note("metadata.name", f"{show(name)} cannot name an object")
            return
        if kind in CLUSTER_SCOPED:
            namespace = ""
        elif namespace is None:
            namespace = "default"
        elif not isinstance(namespace, str) or not is_name(namespace):
            self.note("metadata.namespace", f"{show(namespace)} cannot name a namespace")
            return
        self.ref = ObjectRef(kind, namespace, name)

    def note(
        self,
        field: str,
        message: str,
        hint: str = "",
        *,
        reason: Reason = Reason.INVALID_OBJECT,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note a finding on the object being read."""
        self.findings.append(
            Finding(
                subject=self.ref,
                field=field,
                reason=reason,
                severity=severity,
                message=message,
                hint=hint,
            )
        )

    def mapping(self, value: object, field: str) -> Mapping[str, Any]:
        """Return an object; absent is empty."""
        if value is None:
            return _EMPTY
        if not isinstance(value, Mapping):
            self.note(field, f"{show(value)} is not an object", "write fields as name: value")
            return _EMPTY
        return value

    def items(self, value: object, field: str) -> Sequence[Any]:
        """Return a list; absent is empty."""
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self.note(field, f"{show(value)} is not a list", "start each item with a dash")
            return ()
        if len(value) > _MAX_ITEMS:
            self.note(field, f"a list of {len(value)} items is too long", reason=Reason.TOO_LARGE)
            return ()
        return value

    def objects(self, value: object, field: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield the objects of a list with their places; others are noted and left out."""
        for at, item in enumerate(self.items(value, field)):
            if isinstance(item, Mapping):
                yield at, item
            else:
                self.note(f"{field}[{at}]", f"{show(item)} is not an object")

    def text(self, value: object, field: str) -> str | None:
        """Return a string that UTF-8 can hold; absent is None."""
        if value is None:
            return None
        if not isinstance(value, str):
            plain = isinstance(value, int | float)
            hint = f'put it in quotes: "{show(value)}"' if plain else "put it in quotes"
            self.note(field, f"{show(value)} is not a string", hint)
            return None
        if not is_encodable(value):
            self.note(field, "the value is not valid Unicode")
            return None
        return value

    def flag(self, value: object, field: str) -> bool | None:
        """Return true or false; absent is None."""
        if value is None or isinstance(value, bool):
            return value
        self.note(field, f"{show(value)} is neither true nor false")
        return None

    def port(self, value: object, field: str) -> int | None:
        """Return a port number; absent is None."""
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 65536:
            self.note(
                field, f"{show(value)} is not a port number", "write a number from 1 to 65535"
            )
            return None
        return value

    def metadata(self, body: Mapping[str, Any]) -> Metadata:
        """Return what is kept of the metadata; absent parts are normal for files."""
        fields = self.mapping(body.get("metadata"), "metadata")
        uid = fields.get("uid")
        return Metadata(
            uid=uid if isinstance(uid, str) and is_encodable(uid) else "",
            generation=whole(fields.get("generation")),
            created=_timestamp(fields.get("creationTimestamp")),
        )

    def annotations(self, body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return our own annotations, sorted, without their prefix."""
        found = self._annotations(body, (ANNOTATION_PREFIX,))
        return tuple((name.removeprefix(ANNOTATION_PREFIX), text) for name, text in found)

    def foreign_annotations(self, body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return annotations of other controllers, sorted, by their whole names."""
        return tuple(self._annotations(body, FOREIGN_PREFIXES))

    def _annotations(
        self, body: Mapping[str, Any], prefixes: tuple[str, ...]
    ) -> list[tuple[str, str]]:
        metadata = self.mapping(body.get("metadata"), "metadata")
        given: Mapping[Any, Any] = self.mapping(metadata.get("annotations"), "metadata.annotations")
        found = []
        for name, value in given.items():
            if isinstance(name, str) and name.startswith(prefixes):
                text = self.text(value, f"metadata.annotations[{name}]")
                if text is not None and is_encodable(name):
                    found.append((name, text))
        return sorted(found)


def status_managers(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return from ``managedFields`` whose writes are in the status, sorted."""
    metadata = body.get("metadata")
    managed = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    if not isinstance(managed, list | tuple):
        return ()
    managers: set[str] = set()
    for entry in managed:
        manager = entry.get("manager") if isinstance(entry, Mapping) else None
        if not isinstance(manager, str):
            continue
        fields = entry.get("fieldsV1")
        status = fields.get("f:status") if isinstance(fields, Mapping) else None
        if isinstance(status, Mapping) and status:
            managers.add(manager)
    return tuple(sorted(managers))


def whole(value: object) -> int:
    """Return a number as the API server counts, 0 for anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    return 0


def show(value: object) -> str:
    """Return a short text of a user's value for a message; long ones are cut."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        # As YAML and JSON write it.
        return str(value).lower()
    text = repr(value[:80]) if isinstance(value, str) else str(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_encodable(text: str) -> bool:
    """Tell whether ``text`` has no lone surrogates, which JSON can write and UTF-8 cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _timestamp(value: object) -> str:
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        return value
    try:
        # YAML loaders make these, and files may carry a fraction or an offset.
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if not isinstance(moment, datetime):
            return ""
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
