"""
One object, compiled on its own.

Whatever happens here harms this object alone: a bug of ours that its content
brings out becomes a finding on it.
"""

from typing import Final

import msgspec

from fairway_operator.compiler.classes import is_our_class, is_ours
from fairway_operator.compiler.conditions import is_broken, is_refused
from fairway_operator.compiler.contribution import Contribution
from fairway_operator.compiler.ingress import compile_ingress
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.compiler.route import compile_route
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import Ingress, Route, Undecodable
from fairway_operator.world import World

_HOST_HIDING: Final = frozenset({Reason.INVALID_OBJECT, Reason.INVALID_HOST})
"""With one of these on an object, a host may be missing that its author still wants."""


class Compiled(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of an Ingress or a Route."""

    generation: int
    contribution: Contribution | None
    """None for an object that is not ours, or that was never decodable."""
    findings: tuple[Finding, ...]
    """About the present version."""
    needs: frozenset[ObjectRef]
    """What it asked for; a change there compiles it again."""
    good: Ingress | Route | None
    """The last version without errors."""


def compile_single(
    world: World, ref: ObjectRef, lookup: Lookup, good: Ingress | Route | None
) -> Compiled | None:
    """
    Compile the object; None where it is gone.

    ``good`` is the last version that had no errors; it goes on serving where
    the present one has some, if that is safe.
    """
    resource = world.ingress(ref) or world.route(ref)
    unreadable = world.undecodable.get(ref)
    if resource is None:
        return None if unreadable is None else _compile_unreadable(unreadable, lookup)
    problems = world.problems(ref)
    served_generation = generation = resource.metadata.generation
    if unreadable is not None and unreadable.metadata is not None:
        generation = unreadable.metadata.generation
    if not is_ours(resource, lookup) or _has_left(unreadable, lookup):
        return Compiled(
            generation=generation,
            contribution=None,
            findings=(),
            needs=frozenset(lookup.needs),
            good=None,
        )
    contribution: Contribution | None = contribution_of(resource, lookup)
    assert contribution is not None
    findings = problems + contribution.findings
    if unreadable is not None:
        # The World has kept the version before, and that is what was compiled.
        if lookup.settings.keep_last_good:
            findings += (_still_serving(ref, served_generation),)
        else:
            contribution = None
    elif not is_broken(findings):
        good = resource
    elif good is not None and lookup.settings.keep_last_good:
        kept = _kept(resource, good, contribution, lookup)
        if kept is not None:
            contribution = kept
            findings += (_still_serving(ref, kept.generation),)
    return Compiled(
        generation=generation,
        contribution=contribution,
        findings=findings,
        needs=frozenset(lookup.needs),
        good=good,
    )


def _has_left(unreadable: Undecodable | None, lookup: Lookup) -> bool:
    """Tell whether the present version, of which no more can be read, names another's class."""
    name = None if unreadable is None else unreadable.class_name
    return name is not None and not is_our_class(name, lookup)


def contribution_of(resource: Ingress | Route, lookup: Lookup) -> Contribution:
    """Return what one version asks for; never raises, whatever its content brings out."""
    try:
        if isinstance(resource, Ingress):
            return compile_ingress(resource, lookup)
        return compile_route(resource, lookup)
    except Exception as error:  # noqa: BLE001 - a bug must harm no other object, and is reported
        finding = Finding(
            subject=resource.ref,
            field="",
            reason=Reason.INTERNAL_ERROR,
            # Only the type: the text could quote the object.
            message=f"a bug of Fairway keeps this from being served ({type(error).__name__})",
            hint="report it, with the object",
        )
        return _nothing(resource.metadata.generation, (finding,))


def _compile_unreadable(unreadable: Undecodable, lookup: Lookup) -> Compiled:
    """Return what is told of an object of which no version could ever be read."""
    metadata = unreadable.metadata
    generation = 0 if metadata is None else metadata.generation
    ours = metadata is not None and is_our_class(unreadable.class_name, lookup)
    return Compiled(
        generation=generation,
        contribution=_nothing(generation, unreadable.findings) if ours else None,
        findings=unreadable.findings,
        needs=frozenset(lookup.needs),
        good=None,
    )


def _nothing(generation: int, findings: tuple[Finding, ...]) -> Contribution:
    return Contribution(
        generation=generation,
        age=("", "", "", ""),
        hosts={},
        names={},
        backends=frozenset(),
        findings=findings,
    )


def _kept(
    present: Ingress | Route,
    good: Ingress | Route,
    contribution: Contribution,
    lookup: Lookup,
) -> Contribution | None:
    """Return what the good version asks for, if it may stand in for the present one."""
    findings = present.problems + contribution.findings
    if is_refused(findings) or good.metadata.uid != present.metadata.uid:
        return None
    if good is present:
        return None
    earlier = contribution_of(good, lookup)
    if is_broken(earlier.findings) or is_refused(earlier.findings):
        return None
    readable = not any(each.reason in _HOST_HIDING for each in findings)
    if readable and not earlier.hosts.keys() <= contribution.hosts.keys():
        # Its author has withdrawn a host; to serve it on would be worse than an error.
        return None
    return earlier


def _still_serving(ref: ObjectRef, generation: int) -> Finding:
    return Finding(
        subject=ref,
        field="",
        reason=Reason.LAST_GOOD_SERVED,
        severity=Severity.INFO,
        message=f"this version has errors; generation {generation} goes on serving",
        hint="correct the errors above",
    )
