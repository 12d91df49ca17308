"""Findings to conditions: what ``kubectl get route`` says in one word."""

from typing import Final

from fairway_operator.compiler.outcome import Condition, Standing
from fairway_operator.findings import Finding, Reason, Severity

_REFERENCES: Final = frozenset(
    {
        Reason.UNKNOWN_SERVICE,
        Reason.UNKNOWN_PORT,
        Reason.UNKNOWN_SECRET,
        Reason.REF_NOT_PERMITTED,
        Reason.ADDRESS_NOT_PERMITTED,
        Reason.INVALID_CERTIFICATE,
        Reason.UNSUPPORTED_BACKEND,
    }
)
_BREAKING: Final = frozenset(
    {
        Reason.INVALID_OBJECT,
        Reason.INVALID_HOST,
        Reason.INVALID_PATH,
        Reason.INVALID_MATCH,
        Reason.INVALID_BACKEND,
        Reason.INVALID_FILTER,
        Reason.INVALID_ANNOTATION,
        Reason.FOREIGN_ANNOTATION,
        Reason.UNSUPPORTED_BACKEND,
        Reason.TOO_LARGE,
        Reason.UNKNOWN_SERVICE,
        Reason.UNKNOWN_PORT,
        Reason.INTERNAL_ERROR,
    }
)
_ACCESS: Final = frozenset(
    {Reason.REF_NOT_PERMITTED, Reason.ADDRESS_NOT_PERMITTED, Reason.ACCESS_NOT_ENFORCED}
)


def is_broken(findings: tuple[Finding, ...]) -> bool:
    """Tell whether a version has errors for which the one before should go on serving."""
    return any(each.severity is Severity.ERROR and each.reason in _BREAKING for each in findings)


def is_refused(findings: tuple[Finding, ...]) -> bool:
    """Tell whether access is refused; then no earlier version may stand in."""
    return any(each.reason in _ACCESS for each in findings)


def standing_of(findings: tuple[Finding, ...]) -> Standing:
    """Return how far an object with these findings of its own is served as it is written."""
    if any(each.reason is Reason.LAST_GOOD_SERVED for each in findings):
        return Standing.LAST_GOOD
    if is_broken(findings) or is_refused(findings):
        return Standing.CLOSED
    return Standing.LIVE


def conditions_of(findings: tuple[Finding, ...], *, live: bool) -> tuple[Condition, Condition]:
    """
    Return Accepted and ResolvedRefs.

    ``live`` says whether any of the object's routes is served. An object that
    lost all its routes to older ones is not accepted; one that lost some is.
    """
    errors = [each for each in findings if each.severity is Severity.ERROR]
    own = [
        each
        for each in errors
        if each.reason not in _REFERENCES and (each.reason is not Reason.CONFLICT or not live)
    ]
    references = [each for each in errors if each.reason in _REFERENCES]
    return (
        _condition("Accepted", own, "the object is well-formed and served"),
        _condition("ResolvedRefs", references, "all that the object refers to can be used"),
    )


def _condition(kind: str, against: list[Finding], otherwise: str) -> Condition:
    if not against:
        return Condition(type=kind, status=True, reason=kind, message=otherwise)
    first = against[0]
    more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
    where = f"{first.field}: " if first.field else ""
    return Condition(
        type=kind, status=False, reason=first.reason, message=f"{where}{first.message}{more}"
    )
