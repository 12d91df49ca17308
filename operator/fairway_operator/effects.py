"""
What should be written to the cluster, as values.

:func:`plan_effects` compares what is true (the compilation, the receipts of
the data planes) with what the objects say, and returns only the difference.
It decides; the outbox writes. Time is an argument.
"""

from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address
from typing import Final, Literal, TypeAlias

import msgspec

from fairway_operator.api import GROUP, VERSION
from fairway_operator.compiler import Compilation, Serving
from fairway_operator.findings import Finding, Severity
from fairway_operator.receipts import NO_RECEIPTS, Receipt, Receipts
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import Ingress, Route
from fairway_operator.resources.body import FIELD_MANAGER
from fairway_operator.resources.route import StatusCondition
from fairway_operator.world import World
from fairway_snapshot.digest import short
from fairway_snapshot.protocol import Position

__all__ = [
    "FIELD_MANAGER",
    "NO_RECEIPTS",
    "Effect",
    "EmitEvent",
    "PatchStatus",
    "Position",
    "Receipts",
    "plan_effects",
    "published_addresses",
]

_API_VERSIONS: Final = {
    Kind.INGRESS: "networking.k8s.io/v1",
    Kind.ROUTE: f"{GROUP}/{VERSION}",
}
_SHOWN_REFUSALS: Final = 3
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


Effect: TypeAlias = PatchStatus | EmitEvent


def plan_effects(  # noqa: PLR0913 - one argument for each thing that is compared
    compilation: Compilation,
    world: World,
    receipts: Receipts,
    addresses: tuple[str, ...],
    *,
    now: str,
    told: Compilation | None = None,
    only: Collection[ObjectRef] | None = None,
    field_manager: str = FIELD_MANAGER,
) -> tuple[Effect, ...]:
    """
    Return what must be written so that the objects tell the truth.

    ``addresses`` are those of the data planes' Service (see
    :func:`published_addresses`). ``now`` is the wall clock as RFC 3339, for
    ``lastTransitionTime`` of conditions that flip. Findings that ``told``
    already had make no event. ``only`` limits the work to some objects, such
    as ``compilation.touched``; None looks at all. A status that is equal in
    the World makes no effect, and one that ``field_manager`` never wrote is
    left alone.
    """
    effects: list[Effect] = []
    for ref in sorted(world.resources if only is None else only):
        if ref.kind not in _API_VERSIONS:
            continue
        resource = world.ingress(ref) or world.route(ref)
        if resource is None:
            continue
        serving = compilation.serving.get(ref)
        ours = field_manager in resource.status_managers
        status = _status(resource, serving, receipts, addresses, now, ours=ours)
        if status is not None:
            effects.append(_patch(resource, serving, status))
        if serving is not None:
            effects.extend(_events(resource, compilation, told))
    return tuple(effects)


def published_addresses(world: World, service: ObjectRef) -> tuple[str, ...]:
    """
    Return the addresses under which ``service`` is reachable from outside.

    Those of its load balancer (IP addresses or host names), and its external
    IPs; empty while a load balancer is pending.
    """
    found = world.service(service)
    return () if found is None else found.addresses


def _status(  # noqa: PLR0913 - as above
    resource: Ingress | Route,
    serving: Serving | None,
    receipts: Receipts,
    addresses: tuple[str, ...],
    now: str,
    *,
    ours: bool,
) -> dict[str, object] | None:
    """Return the status to write; None where the object tells the truth already."""
    if serving is None:
        # What we have written is withdrawn; what others have written is not ours to touch.
        return {} if ours else None
    if isinstance(resource, Ingress):
        if resource.addresses == addresses:
            return None
        if not addresses and not ours:
            return None
        return {"loadBalancer": {"ingress": [_entry(address) for address in addresses]}}
    wanted = tuple(_conditions(resource, serving, receipts, now))
    if all(condition in resource.conditions for condition in wanted):
        return None
    return {
        "observedGeneration": serving.generation,
        "conditions": [_condition(condition) for condition in wanted],
    }


def _conditions(
    route: Route, serving: Serving, receipts: Receipts, now: str
) -> Iterator[StatusCondition]:
    current = {condition.type: condition for condition in route.conditions}
    for condition in serving.conditions:
        yield _stamped(
            current.get(condition.type),
            StatusCondition(
                type=condition.type,
                status=str(condition.status),
                reason=condition.reason,
                message=condition.message,
                generation=serving.generation,
                since=now,
            ),
        )
    before = current.get("Programmed")
    programmed = _programmed(route.ref, serving, receipts, now)
    if before is not None and _same_success(before, programmed):
        # How long it took, and for how many, is said once: it is not news later.
        yield before
    else:
        yield _stamped(before, programmed)


def _programmed(ref: ObjectRef, serving: Serving, receipts: Receipts, now: str) -> StatusCondition:
    status, reason, message = _programmed_words(ref, serving, receipts)
    return StatusCondition(
        type="Programmed",
        status=status,
        reason=reason,
        message=message,
        generation=serving.generation,
        since=now,
    )


def _programmed_words(ref: ObjectRef, serving: Serving, receipts: Receipts) -> tuple[str, str, str]:
    if serving.served_generation != serving.generation:
        return (
            "False",
            "LastGoodServed",
            f"generation {serving.served_generation} goes on serving",
        )
    if not serving.routes:
        return "False", "NotServed", "none of its routes is served"
    receipt = receipts.of(ref, serving.generation)
    if receipt is None:
        return "False", "Pending", "it is not published yet"
    return _receipt_words(receipt, receipts)


def _receipt_words(receipt: Receipt, receipts: Receipts) -> tuple[str, str, str]:
    refusals = list(receipts.refusals(receipt))
    if refusals:
        shown = "; ".join(f"{name}: {why}" for name, why in refusals[:_SHOWN_REFUSALS])
        return "False", "Rejected", f"{len(refusals)} data planes refuse it: {shown}"
    root = short(receipt.root)[:6]
    if receipt.settled is not None:
        count = receipt.settled.data_planes
        milliseconds = round(receipt.settled.seconds * 1000)
        return (
            "True",
            "Programmed",
            f"{count}/{count} data planes at {root}\N{HORIZONTAL ELLIPSIS} in {milliseconds} ms",
        )
    everyone = len(receipts.data_planes)
    if not everyone:
        return "False", "NoDataPlanes", "no data plane is connected"
    done = receipts.serving(receipt)
    return (
        "False",
        "Pending",
        f"{done}/{everyone} data planes at {root}\N{HORIZONTAL ELLIPSIS}",
    )


def _same_success(before: StatusCondition, after: StatusCondition) -> bool:
    return (
        before.status == after.status == "True"
        and before.reason == after.reason
        and before.generation == after.generation
    )


def _stamped(before: StatusCondition | None, after: StatusCondition) -> StatusCondition:
    """Return ``after`` with the time at which its status last changed."""
    if before is None or before.status != after.status or not before.since:
        return after
    return msgspec.structs.replace(after, since=before.since)


def _condition(condition: StatusCondition) -> dict[str, object]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.generation,
        "lastTransitionTime": condition.since,
    }


def _entry(address: str) -> dict[str, object]:
    try:
        ip_address(address)
    except ValueError:
        return {"hostname": address}
    return {"ip": address}


def _patch(
    resource: Ingress | Route, serving: Serving | None, status: dict[str, object]
) -> PatchStatus:
    ref = resource.ref
    return PatchStatus(
        ref=ref,
        generation=resource.metadata.generation if serving is None else serving.generation,
        manifest={
            "apiVersion": _API_VERSIONS[ref.kind],
            "kind": ref.kind.value,
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "status": status,
        },
    )


def _events(
    resource: Ingress | Route, compilation: Compilation, told: Compilation | None
) -> Iterator[EmitEvent]:
    findings: Iterable[Finding] = compilation.findings.get(resource.ref, ())
    known = () if told is None else told.findings.get(resource.ref, ())
    for finding in findings:
        if finding in known:
            continue
        where = f"{finding.field}: " if finding.field else ""
        hint = f" ({finding.hint})" if finding.hint else ""
        yield EmitEvent(
            ref=resource.ref,
            uid=resource.metadata.uid,
            type="Normal" if finding.severity is Severity.INFO else "Warning",
            reason=finding.reason,
            message=f"{where}{finding.message}{hint}"[:_LONGEST_MESSAGE],
        )
