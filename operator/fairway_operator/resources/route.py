"""
Route (``fairway.dev/v1alpha1``).

The spec is read by the structs that the CustomResourceDefinition is made of,
so files are held to what the API server would hold them to: a spec that does
not fit is refused as a whole, and the version before it goes on serving.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.api import fields
from fairway_operator.api.route import RouteSpec
from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Metadata, Reader, show, status_managers, whole


class StatusCondition(msgspec.Struct, frozen=True, gc=False):
    """A condition as the object shows it."""

    type: str
    status: str
    reason: str
    message: str
    generation: int
    since: str
    """RFC 3339."""


class Route(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Route."""

    ref: ObjectRef
    metadata: Metadata
    annotations: tuple[tuple[str, str], ...]
    spec: RouteSpec
    conditions: tuple[StatusCondition, ...]
    """What its status shows now."""
    status_managers: tuple[str, ...]
    """Field managers that have written its status; one may withdraw what is its own."""
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> Route | None:
    """Return the Route, or None when its spec does not fit; a finding says where."""
    spec = _spec(reader, body.get("spec"))
    if spec is None:
        return None
    return Route(
        ref=reader.ref,
        metadata=reader.metadata(body),
        annotations=reader.annotations(body),
        spec=spec,
        conditions=conditions(body),
        status_managers=status_managers(body),
        problems=tuple(reader.findings),
    )


_decoder = msgspec.json.Decoder(RouteSpec)


def _spec(reader: Reader, value: object) -> RouteSpec | None:
    try:
        # By way of bytes, because JSON's rules (names are strings, text is Unicode) are the API's.
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        reader.note("spec", "the value cannot be written as JSON")
        return None
    try:
        return _decoder.decode(text)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        _note_misfit(reader, value, message, path.removeprefix("$").removesuffix("`"))
    except (msgspec.DecodeError, RecursionError):
        reader.note("spec", "the value is nested too deeply")
    return None


_QUIET = (".value", ".body")
"""Fields that may hold what is nobody else's business."""


def _note_misfit(reader: Reader, spec: object, message: str, path: str) -> None:
    """Note what does not fit; the message of the decoder names types, not what to write."""
    what = fields.values_of(path)
    if "matching regex" in message:
        found = "the value" if path.endswith(_QUIET) else show(fields.value_at(spec, path))
        message, what = f"{found} has not the form that is taken here", fields.form_of(path)
    elif unknown := message.partition("unknown field `")[2].removesuffix("`"):
        what = fields.fields_like(path, unknown)
    hint = f"write {what}; " if what else ""
    reader.note(
        f"spec{path}",
        message[:1].lower() + message[1:],
        f"{hint}kubectl explain route.spec{_plain(path)}",
    )


def _plain(field: str) -> str:
    """Return a path without its places, as ``kubectl explain`` takes it."""
    return "".join(part.partition("]")[2] if "]" in part else part for part in field.split("["))


def class_name(body: Mapping[str, Any]) -> str | None:
    """Return the class of a Route whose spec may not fit; None where it cannot be read."""
    spec = body.get("spec")
    name = spec.get("ingressClassName") if isinstance(spec, Mapping) else None
    return name if isinstance(name, str) else None


def conditions(body: Mapping[str, Any]) -> tuple[StatusCondition, ...]:
    """Return what the status shows; it is not the author's, so nothing is noted."""
    status = body.get("status")
    entries = status.get("conditions") if isinstance(status, Mapping) else None
    found = []
    for entry in entries if isinstance(entries, list | tuple) else ():
        if not isinstance(entry, Mapping):
            continue
        found.append(
            StatusCondition(
                type=_text(entry, "type"),
                status=_text(entry, "status"),
                reason=_text(entry, "reason"),
                message=_text(entry, "message"),
                generation=whole(entry.get("observedGeneration")),
                since=_text(entry, "lastTransitionTime"),
            )
        )
    return tuple(found)


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
