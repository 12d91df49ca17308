"""
What the status of an object should say, and whether it says so already.

A Route has conditions. The status of an Ingress knows addresses alone, and for
each an error of its ports: that is where ``kubectl get ingress -o yaml`` shows
what is wrong, in one word such as ``fairway.dev/UnknownService``.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

import msgspec

from fairway_operator.api import GROUP
from fairway_operator.compiler import Serving, Standing
from fairway_operator.progress import Progress, programmed
from fairway_operator.receipts import Receipts
from fairway_operator.resources import Ingress, Route, Undecodable
from fairway_operator.resources.route import StatusCondition

Status = dict[str, object]

_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


def ingress_status(
    ingress: Ingress,
    serving: Serving,
    receipts: Receipts,
    addresses: tuple[str, ...],
    *,
    ours: bool,
) -> Status | None:
    """
    Return the status to write; None where the object tells the truth already.

    ``ours`` says whether what it shows was written by us.
    """
    error = _error(ingress, serving, receipts)
    if ingress.addresses == addresses and (not addresses or ingress.shown_error == error):
        return None
    if not addresses and not ours:
        return None
    numbers = (_HTTP_PORT, _HTTPS_PORT) if ingress.tls else (_HTTP_PORT,)
    ports = [{"port": number, "protocol": "TCP", "error": error} for number in numbers]
    shown = {"ports": ports} if error else {}
    return {"loadBalancer": {"ingress": [_entry(address) | shown for address in addresses]}}


def route_status(
    route: Route | Undecodable, serving: Serving, receipts: Receipts, now: str
) -> Status | None:
    """Return the status to write; None where the object tells the truth already."""
    wanted = tuple(_conditions(route, serving, receipts, now))
    if all(condition in route.conditions for condition in wanted):
        return None
    return {
        "observedGeneration": serving.generation,
        "conditions": [_condition(condition) for condition in wanted],
    }


def _error(ingress: Ingress, serving: Serving, receipts: Receipts) -> str:
    """Return what is wrong in one word, of the form that the API asks for; or nothing."""
    progress = programmed(ingress.ref, serving, receipts).progress
    if progress is Progress.REJECTED:
        return f"{GROUP}/{progress}"
    for condition in serving.conditions:
        if not condition.status:
            return f"{GROUP}/{condition.reason}"
    if serving.standing is not Standing.LIVE or progress is Progress.NOT_SERVED:
        return f"{GROUP}/{progress}"
    return ""


def _conditions(
    route: Route | Undecodable, serving: Serving, receipts: Receipts, now: str
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
    found = programmed(route.ref, serving, receipts)
    after = StatusCondition(
        type="Programmed",
        status=str(found.progress is Progress.PROGRAMMED),
        reason=found.progress,
        message=found.message,
        generation=serving.generation,
        since=now,
    )
    if before is not None and _same_success(before, after):
        # How long it took, and for how many, is said once: it is not news later.
        yield before
    else:
        yield _stamped(before, after)


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
