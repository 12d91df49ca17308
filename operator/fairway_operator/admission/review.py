"""
What to answer when the API server asks whether to take an object.

An object is refused for what is wrong in itself, and for nothing else: what it
refers to may come later, a conflict may end, and whoever has a broken object
must be able to change everything but to make it worse. All the rest is a
warning. The answer depends on the request and on the compiler's World alone.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec

from fairway_operator.api import GROUP, VERSION
from fairway_operator.compiler import Preview
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.labels import EVERYTHING, Selector
from fairway_operator.refs import Kind
from fairway_operator.resources import Ingress, Route, Undecodable, decode

API_VERSION: Final = "admission.k8s.io/v1"

REFUSED_FOR: Final = frozenset(
    {
        Reason.INVALID_OBJECT,
        Reason.INVALID_HOST,
        Reason.INVALID_PATH,
        Reason.INVALID_MATCH,
        Reason.INVALID_BACKEND,
        Reason.INVALID_FILTER,
        Reason.INVALID_DURATION,
        Reason.INVALID_ANNOTATION,
        Reason.FOREIGN_ANNOTATION,
        Reason.ACCESS_NOT_ENFORCED,
        Reason.UNSUPPORTED_BACKEND,
        Reason.TOO_LARGE,
    }
)
"""Errors that no other object could cause or cure."""

_KINDS: Final = {
    ("networking.k8s.io", "v1", "Ingress"): Kind.INGRESS,
    (GROUP, VERSION, "Route"): Kind.ROUTE,
}
_MOST_ERRORS: Final = 20
_MOST_WARNINGS: Final = 15
_LONGEST_WARNING: Final = 256
"""The API server may cut a warning above this, and drop all above 4096 characters together."""
_LONGEST_ERROR: Final = 1024


class BadReviewError(ValueError):
    """A body that is not an AdmissionReview."""


class GroupVersionKind(msgspec.Struct, frozen=True):
    """A kind of object."""

    kind: str
    version: str
    group: str = ""


class AdmissionRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the API server asks; of the many fields those that matter here."""

    uid: Annotated[str, msgspec.Meta(min_length=1)]
    kind: GroupVersionKind
    operation: str
    sub_resource: str = ""
    namespace: str = ""
    name: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None

    @property
    def reviewed_kind(self) -> Kind | None:
        """The kind, if it is one that is reviewed."""
        return _KINDS.get((self.kind.group, self.kind.version, self.kind.kind))


class _Review(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    api_version: str
    kind: str
    request: AdmissionRequest


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    errors: tuple[Finding, ...] = ()
    """Why the object is refused; empty is allowed."""
    warnings: tuple[str, ...] = ()
    """What its author should read, one sentence each."""

    @property
    def allowed(self) -> bool:
        """Whether the API server may take the object."""
        return not self.errors

    @property
    def word(self) -> str:
        """``allowed``, ``warned`` or ``refused``; also a metric label."""
        if self.errors:
            return "refused"
        return "warned" if self.warnings else "allowed"


class Previewer(Protocol):
    """Who knows the World; :class:`fairway_operator.compiler.Compiler` is one."""

    def preview(self, resource: Ingress | Route) -> Preview | None:
        """Return what would be said of this version; None for one that is not ours."""

    def serves_class(self, name: str | None) -> bool:
        """Tell whether objects of this class, or of none, are ours."""


class _Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object of ours."""

    errors: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    readable: bool = True
    """False where decoding gave up at the first error, so that there may be more."""


_UNTOUCHED: Final = Verdict()
_DECODER: Final = msgspec.json.Decoder(_Review)


def decode_review(body: bytes) -> AdmissionRequest:
    """Return the request in an AdmissionReview. Raises BadReviewError."""
    try:
        asked = _DECODER.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadReviewError(f"not an AdmissionReview of {API_VERSION}: {error}") from error
    # Compared here: msgspec would repeat what it got instead, however long that is.
    if (asked.api_version, asked.kind) != (API_VERSION, "AdmissionReview"):
        raise BadReviewError(f"not an AdmissionReview of {API_VERSION}: it says something else")
    return asked.request


def review(
    request: AdmissionRequest,
    compiler: Previewer,
    *,
    namespaces: Collection[str] = (),
    selector: Selector = EVERYTHING,
) -> Verdict:
    """
    Return whether the object may be taken, and what its author should know.

    ``namespaces`` are those that are served, empty is all; ``selector`` is what
    the labels of a served object must satisfy. What is not served by us, what
    does not change what is served, and what is deleted is allowed without a word.
    """
    kind, body, before = request.reviewed_kind, request.object, request.old_object
    if kind is None or body is None or not selector.selects(_labels(body)):
        return _UNTOUCHED
    if before is not None and not selector.selects(_labels(before)):
        # Until now it was nobody's, so it is as new as one that is created.
        request = msgspec.structs.replace(request, operation="CREATE", old_object=None)
        before = None
    if not _changes_something(request):
        return _UNTOUCHED
    if namespaces and request.namespace not in namespaces:
        return _UNTOUCHED
    judged = _judge(kind, _named(body, request), compiler)
    if judged is None:
        return _UNTOUCHED
    if judged.errors and request.operation == "UPDATE" and before is not None:
        earlier = _judge(kind, _named(before, request), compiler)
        if earlier is not None and not _is_worse(judged, earlier):
            remaining = (_line(error) for error in judged.errors)
            return Verdict(warnings=_warnings((*remaining, *judged.remarks)))
    return Verdict(errors=judged.errors, warnings=_warnings(judged.remarks))


def encode_answer(request: AdmissionRequest, verdict: Verdict) -> bytes:
    """Return the AdmissionReview that answers."""
    response: dict[str, object] = {"uid": request.uid, "allowed": verdict.allowed}
    if verdict.errors:
        response["status"] = _status(request, verdict.errors)
    if verdict.warnings:
        response["warnings"] = verdict.warnings
    return msgspec.json.encode(
        {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    )


def _changes_something(request: AdmissionRequest) -> bool:
    """Tell whether what the compiler reads is new; a status or a finalizer is nothing new."""
    if request.sub_resource or request.object is None:
        return False
    if request.operation == "CREATE":
        return True
    if request.operation != "UPDATE":
        return False
    return request.old_object is None or _says(request.old_object) != _says(request.object)


def _labels(body: Mapping[str, Any]) -> dict[str, str]:
    metadata = body.get("metadata")
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if not isinstance(labels, Mapping):
        return {}
    return {name: value for name, value in labels.items() if isinstance(value, str)}


def _says(body: Mapping[str, Any]) -> tuple[object, object]:
    """Return all of an object that its author can write and the compiler reads."""
    metadata = body.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    return body.get("spec"), annotations or None


def _named(body: Mapping[str, Any], request: AdmissionRequest) -> Mapping[str, Any]:
    """Return the object with the names that the API server is about to give it."""
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        return body
    generated = f"{metadata.get('generateName') or ''}new"
    name = metadata.get("name") or request.name or generated
    namespace = metadata.get("namespace") or request.namespace or None
    return {**body, "metadata": {**metadata, "name": name, "namespace": namespace}}


def _judge(kind: Kind, body: Mapping[str, Any], compiler: Previewer) -> _Judgement | None:
    """Return what is wrong with one version; None for an object that is not ours."""
    resource = decode(kind, body)
    if isinstance(resource, Undecodable):
        if not compiler.serves_class(_class_of(body)):
            return None
        return _judgement(resource.findings, (), readable=False)
    assert isinstance(resource, Ingress | Route)
    preview = compiler.preview(resource)
    if preview is None:
        return None
    return _judgement(preview.findings, _disputes(preview), readable=True)


def _class_of(body: Mapping[str, Any]) -> str | None:
    spec = body.get("spec")
    name = spec.get("ingressClassName") if isinstance(spec, Mapping) else None
    return name if isinstance(name, str) else None


def _judgement(
    findings: Iterable[Finding], disputes: Iterable[str], *, readable: bool
) -> _Judgement:
    errors: dict[Finding, None] = {}
    remarks = dict.fromkeys(disputes)
    for finding in findings:
        if finding.severity is Severity.ERROR and finding.reason in REFUSED_FOR:
            errors[finding] = None
        elif finding.severity is not Severity.INFO:
            remarks[_line(finding)] = None
    return _Judgement(errors=tuple(errors), remarks=tuple(remarks), readable=readable)


def _disputes(preview: Preview) -> Iterator[str]:
    for finding in preview.conflicts:
        yield _line(finding)
    for finding in preview.displaced:
        yield f"this takes from {finding.subject}: {finding.message}"


def _is_worse(after: _Judgement, before: _Judgement) -> bool:
    """Tell whether there are errors that were not there, wherever in the object they stand."""
    if not before.readable:
        return False
    return bool(_what(after.errors) - _what(before.errors))


def _what(errors: Iterable[Finding]) -> "Counter[tuple[str, str]]":
    return Counter((each.reason, each.message) for each in errors)


def _status(request: AdmissionRequest, errors: Sequence[Finding]) -> dict[str, object]:
    """Return a Status as the API server itself answers to an invalid object."""
    shown = errors[:_MOST_ERRORS]
    lines = [_cut(_line(each), _LONGEST_ERROR) for each in shown]
    if len(errors) > len(shown):
        lines.append(f"and {len(errors) - len(shown)} more")
    return {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": "\n".join(lines),
        "details": {
            "group": request.kind.group,
            "kind": request.kind.kind,
            "name": request.name,
            "causes": [
                {
                    "reason": "FieldValueInvalid",
                    "field": _plain(each.field),
                    "message": _cut(_sentence(each), _LONGEST_ERROR),
                }
                for each in shown
            ],
        },
    }


def _warnings(remarks: Iterable[str]) -> tuple[str, ...]:
    every = tuple(remarks)
    shown = tuple(_cut(each, _LONGEST_WARNING) for each in every[:_MOST_WARNINGS])
    if len(every) > len(shown):
        return (*shown, f"and {len(every) - len(shown)} more")
    return shown


def _line(finding: Finding) -> str:
    return f"{finding.field}: {_sentence(finding)}" if finding.field else _sentence(finding)


def _sentence(finding: Finding) -> str:
    return f"{finding.message} ({finding.hint})" if finding.hint else finding.message


def _cut(text: str, limit: int) -> str:
    plain = _plain(text)
    return plain if len(plain) <= limit else f"{plain[: limit - 3]}..."


def _plain(text: str) -> str:
    """Return the text as a header can carry it: users write what they like."""
    return "".join(each if each.isprintable() else " " for each in text)
