"""
Objects of the API server as typed values.

:func:`decode` is the only way in. What users write may be of any type, so it
never raises for user input: a part that makes no sense becomes a finding on
the object and is left out, an object that makes no sense is
:class:`Undecodable`. Values keep what the compiler needs and nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import (
    endpoint_slice,
    ingress,
    ingress_class,
    reference_grant,
    route,
    secret,
    service,
)
from fairway_operator.resources.body import Metadata, Reader, status_managers
from fairway_operator.resources.endpoint_slice import EndpointSlice
from fairway_operator.resources.ingress import Ingress
from fairway_operator.resources.ingress_class import IngressClass
from fairway_operator.resources.reference_grant import ReferenceGrant
from fairway_operator.resources.route import Route, StatusCondition
from fairway_operator.resources.secret import Secret
from fairway_operator.resources.service import Service

__all__ = [
    "EndpointSlice",
    "Ingress",
    "IngressClass",
    "Kind",
    "ObjectRef",
    "ReferenceGrant",
    "Resource",
    "Route",
    "Secret",
    "Service",
    "Undecodable",
    "decode",
]

Resource: TypeAlias = (
    Ingress | IngressClass | Route | Service | EndpointSlice | Secret | ReferenceGrant
)


class Undecodable(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An object that cannot be read at all, and why; what is needed to tell its author."""

    ref: ObjectRef
    """Name and namespace are empty strings where the body has none."""
    findings: tuple[Finding, ...]
    metadata: Metadata | None = None
    """None for an object without a name."""
    class_name: str | None = None
    conditions: tuple[StatusCondition, ...] = ()
    """What its status shows now."""
    status_managers: tuple[str, ...] = ()


def decode(kind: Kind, body: Mapping[str, Any]) -> Resource | Undecodable:
    """
    Return the typed value of ``body``, the object as the API server sends it.

    Never raises for what a user can write, of whatever JSON type. Keep
    ``metadata.managedFields`` in the body: they tell whether a status is ours.
    """
    reader = Reader(kind, body)
    if not reader.ref.name:
        return Undecodable(ref=reader.ref, findings=tuple(reader.findings))
    resource = _DECODERS[kind](reader, body)
    if resource is None:
        metadata = reader.metadata(body)
        return Undecodable(
            ref=reader.ref,
            findings=tuple(reader.findings),
            metadata=metadata,
            class_name=route.class_name(body),
            conditions=route.conditions(body),
            status_managers=status_managers(body),
        )
    return resource


_DECODERS: Final[Mapping[Kind, Callable[[Reader, Mapping[str, Any]], Resource | None]]] = {
    Kind.INGRESS: ingress.decode,
    Kind.INGRESS_CLASS: ingress_class.decode,
    Kind.ROUTE: route.decode,
    Kind.SERVICE: service.decode,
    Kind.ENDPOINT_SLICE: endpoint_slice.decode,
    Kind.SECRET: secret.decode,
    Kind.REFERENCE_GRANT: reference_grant.decode,
}
