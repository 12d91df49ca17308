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
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> IngressClass:
    """Return the class."""
    spec = reader.mapping(body.get("spec"), "spec")
    metadata = reader.mapping(body.get("metadata"), "metadata")
    annotations = reader.mapping(metadata.get("annotations"), "metadata.annotations")
    if spec.get("parameters") is not None:
        reader.note(
            "spec.parameters",
            "parameters of a class are not used",
            "set them as values of the chart",
            reason=Reason.UNSUPPORTED_PARAMETERS,
            severity=Severity.WARNING,
        )
    return IngressClass(
        ref=reader.ref,
        uid=reader.metadata(body).uid,
        controller=reader.text(spec.get("controller"), "spec.controller") or "",
        is_default=annotations.get(DEFAULT_ANNOTATION) == "true",
        problems=tuple(reader.findings),
    )
