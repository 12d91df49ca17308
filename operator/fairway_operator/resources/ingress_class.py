"""IngressClass (``networking.k8s.io/v1``): which controller a class name means."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader

DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"


class IngressClass(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One class."""

    ref: ObjectRef
    uid: str
    """Empty in files."""
    controller: str
    """Case-sensitive; empty where it cannot be read, and then it is nobody's."""
    is_default: bool
    """The API server writes this class into new objects that name none."""
    annotations: tuple[tuple[str, str], ...]
    """Defaults of its objects, by names without the prefix."""
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> IngressClass:
    """Return the class."""
    spec = reader.mapping(body.get("spec"), "spec")
    metadata = body.get("metadata")
    marks = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if spec.get("parameters") is not None:
        reader.note(
            "spec.parameters",
            "parameters of a class are not used",
            "write defaults of the class as its annotations, such as fairway.dev/request-timeout,"
            " and settings of the programs as values of the chart",
            reason=Reason.UNSUPPORTED_PARAMETERS,
            severity=Severity.WARNING,
        )
    return IngressClass(
        ref=reader.ref,
        uid=reader.metadata(body).uid,
        controller=reader.text(spec.get("controller"), "spec.controller") or "",
        is_default=isinstance(marks, Mapping) and marks.get(DEFAULT_ANNOTATION) == "true",
        annotations=reader.annotations(body),
        problems=tuple(reader.findings),
    )
