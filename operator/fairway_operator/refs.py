"""
Names of the Kubernetes objects that the operator reads.

Everything that speaks of an object (a finding, an index, an effect) does so
by an :class:`ObjectRef`; objects are never compared by their content.
"""

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """The kinds that matter; the values are those of the ``kind`` field."""

    INGRESS = "Ingress"
    INGRESS_CLASS = "IngressClass"
    ROUTE = "Route"
    SERVICE = "Service"
    ENDPOINT_SLICE = "EndpointSlice"
    SECRET = "Secret"  # noqa: S105 - the name of a kind
    REFERENCE_GRANT = "ReferenceGrant"


CLUSTER_SCOPED = frozenset({Kind.INGRESS_CLASS})
"""Kinds whose objects have no namespace."""


class ObjectRef(
    msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False, forbid_unknown_fields=True
):
    """One object; ``namespace`` is empty for :data:`CLUSTER_SCOPED` kinds."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        """Return the object as people write it."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"
