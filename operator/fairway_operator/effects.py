"""
What should be written to the cluster, as values.

:func:`plan_effects` compares what is true (the compilation, the receipts of
the data planes) with what the objects say, and returns only the difference.
It decides; the outbox writes. Time is an argument.
"""

from collections.abc import Collection, Iterator
from typing import Final, Literal, TypeAlias

import msgspec

from fairway_operator.api import GROUP, VERSION
from fairway_operator.compiler import Compilation, Serving
from fairway_operator.findings import Severity
from fairway_operator.progress import Progress, programmed
from fairway_operator.receipts import NO_RECEIPTS, Receipts
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import Ingress, IngressClass, Route, Service, Undecodable
from fairway_operator.resources.body import FIELD_MANAGER
from fairway_operator.status import Status, ingress_status, route_status
from fairway_operator.world import World
from fairway_snapshot.protocol import Position

__all__ = [
    "FIELD_MANAGER",
    "NO_RECEIPTS",
    "Effect",
    "EmitEvent",
    "PatchStatus",
    "Position",
    "Receipts",
    "Told",
    "plan_effects",
    "published_addresses",
]

_API_VERSIONS: Final = {
    Kind.INGRESS: "networking.k8s.io/v1",
    Kind.ROUTE: f"{GROUP}/{VERSION}",
}
_LONGEST_MESSAGE: Final = 1024
"""Of an event, by the API."""


class PatchStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Apply this status, and nothing else, server-side with our field manager."""

    ref: ObjectRef
    generation: int
    """Generation that the status speaks of; a later effect for ``ref`` supersedes this one."""
    manifest: dict[str, object]
    """Whole body of the apply: apiVersion, kind, metadata (name, namespace), status."""


class EmitEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Tell the author of an object by an event."""

    ref: ObjectRef
    uid: str
    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    supersedes: bool = False
    """Takes the place of an earlier one for ``ref`` that is not written yet."""


Effect: TypeAlias = PatchStatus | EmitEvent


class Told(msgspec.Struct, frozen=True):
    """What the authors of objects have been told of."""

    compilation: Compilation
    receipts: Receipts


def plan_effects(  # noqa: PLR0913 - one argument for each thing that is compared
    compilation: Compilation,
    world: World,
    receipts: Receipts,
    addresses: tuple[str, ...],
    *,
    now: str,
    told: Told | None = None,
    only: Collection[ObjectRef] | None = None,
    field_manager: str = FIELD_MANAGER,
) -> tuple[Effect, ...]:
    """
    Return what must be written so that the objects tell the truth.

    ``addresses`` are those of the data planes' Service (see
    :func:`published_addresses`). ``now`` is the wall clock as RFC 3339, for
    ``lastTransitionTime`` of conditions that flip. What ``told`` already had
    makes no event. ``only`` limits the work to some objects, such as
    ``compilation.touched``; None looks at all. A status that is equal in the
    World makes no effect, and one that ``field_manager`` never wrote is left
    alone.
    """
    effects: list[Effect] = []
    for ref in sorted(world.refs() if only is None else only):
        owner = _owner(world, ref)
        if owner is None:
            effects.extend(_class_or_service_events(world.get(ref), compilation, told))
            continue
        serving = compilation.serving.get(ref)
        ours = field_manager in owner.status_managers
        status: Status | None
        if serving is None:
            # What we have written is withdrawn; what others have written is not ours to touch.
            status = {} if ours else None
        elif isinstance(owner, Ingress):
            status = ingress_status(owner, serving, receipts, addresses, ours=ours)
        else:
            status = route_status(owner, serving, receipts, now)
        if status is not None:
            effects.append(_patch(owner, status))
        if serving is not None:
            uid = "" if owner.metadata is None else owner.metadata.uid
            effects.extend(_finding_events(ref, uid, compilation, told))
            if told is not None or (addresses and not ours):
                # A new leader does not say again what the one before has said.
                effects.extend(_progress_events(owner, serving, receipts, told))
    return tuple(effects)


def published_addresses(world: World, service: ObjectRef) -> tuple[str, ...]:
    """
    Return the addresses under which ``service`` is reachable from outside.

    Those of its load balancer (IP addresses or host names), and its external
    IPs; empty while a load balancer is pending.
    """
    found = world.service(service)
    return () if found is None else found.addresses


def _patch(owner: Ingress | Route | Undecodable, status: Status) -> PatchStatus:
    ref = owner.ref
    generation = 0 if owner.metadata is None else owner.metadata.generation
    return PatchStatus(
        ref=ref,
        generation=generation,
        manifest={
            "apiVersion": _API_VERSIONS[ref.kind],
            "kind": ref.kind.value,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "status": status,
        },
    )


def _owner(world: World, ref: ObjectRef) -> Ingress | Route | Undecodable | None:
    """Return the newest version of an Ingress or Route, be it readable or not."""
    if ref.kind not in _API_VERSIONS:
        return None
    unreadable = world.undecodable.get(ref)
    if unreadable is not None and unreadable.metadata is not None:
        return unreadable
    return world.ingress(ref) or world.route(ref)


def _class_or_service_events(
    resource: object, compilation: Compilation, told: Told | None
) -> Iterator[EmitEvent]:
    """Yield what is told of objects that others refer to; those of files have no uid."""
    if isinstance(resource, IngressClass | Service) and resource.uid:
        yield from _finding_events(resource.ref, resource.uid, compilation, told)


def _finding_events(
    ref: ObjectRef, uid: str, compilation: Compilation, told: Told | None
) -> Iterator[EmitEvent]:
    known = () if told is None else told.compilation.findings.get(ref, ())
    for finding in compilation.findings.get(ref, ()):
        if finding in known:
            continue
        where = f"{finding.field}: " if finding.field else ""
        hint = f" ({finding.hint})" if finding.hint else ""
        yield EmitEvent(
            ref=ref,
            uid=uid,
            type="Normal" if finding.severity is Severity.INFO else "Warning",
            reason=finding.reason,
            message=f"{where}{finding.message}{hint}"[:_LONGEST_MESSAGE],
        )


def _progress_events(
    owner: Ingress | Route | Undecodable, serving: Serving, receipts: Receipts, told: Told | None
) -> Iterator[EmitEvent]:
    """Yield the receipt of this generation, once: of an Ingress any, of others a refusal."""
    found = programmed(owner.ref, serving, receipts)
    told_before = told is not None and _told_progress(owner.ref, serving, told) is found.progress
    wanted = found.progress is Progress.REJECTED or (
        found.progress is Progress.PROGRAMMED and isinstance(owner, Ingress)
    )
    if told_before or not wanted or owner.metadata is None:
        return
    yield EmitEvent(
        ref=owner.ref,
        uid=owner.metadata.uid,
        type="Normal" if found.progress is Progress.PROGRAMMED else "Warning",
        reason=found.progress,
        message=found.message[:_LONGEST_MESSAGE],
        supersedes=True,
    )


def _told_progress(ref: ObjectRef, serving: Serving, told: Told) -> Progress | None:
    """Return where this generation was when its author was last told; None when it is new."""
    before = told.compilation.serving.get(ref)
    if before is None or before.generation != serving.generation:
        return None
    return programmed(ref, before, told.receipts).progress
