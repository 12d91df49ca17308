"""
The World: every decoded object, in persistent indexes.

A World is a value. ``put`` and ``remove`` return another one that shares all
that did not change, and whose journal says what was touched, so that
:meth:`World.changes_since` costs as much as the change.
"""

from __future__ import annotations  # the types of rpds are generic for the checker alone

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from rpds import HashTrieMap

from fairway_operator.journal import BLANK, Journal
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import (
    EndpointSlice,
    Ingress,
    IngressClass,
    ReferenceGrant,
    Resource,
    Route,
    Secret,
    Service,
    Undecodable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairway_operator.findings import Finding

_K = TypeVar("_K")
_R = TypeVar("_R", bound=Resource)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """All objects known at one moment; grown from :data:`EMPTY`."""

    resources: HashTrieMap[ObjectRef, Resource]
    """The last decodable version of each object."""
    undecodable: HashTrieMap[ObjectRef, Undecodable]
    """Objects whose last version could not be decoded."""
    slices_by_service: HashTrieMap[tuple[str, str], HashTrieMap[ObjectRef, EndpointSlice]]
    grants_by_namespace: HashTrieMap[str, HashTrieMap[ObjectRef, ReferenceGrant]]
    journal: Journal

    # Changes.

    def put(self, resource: Resource | Undecodable) -> World:
        """
        Return a World with this version of the object in it.

        An undecodable version keeps the last decodable one and adds its findings.
        """
        ref = resource.ref
        journal = self.journal.noting(ref)
        if isinstance(resource, Undecodable):
            undecodable = self.undecodable.insert(ref, resource)
            return replace(self, undecodable=undecodable, journal=journal)
        before = self.resources.get(ref)
        return World(
            resources=self.resources.insert(ref, resource),
            undecodable=self.undecodable.discard(ref),
            slices_by_service=_reindex_slices(self.slices_by_service, before, resource),
            grants_by_namespace=_reindex_grants(self.grants_by_namespace, before, resource),
            journal=journal,
        )

    def remove(self, ref: ObjectRef) -> World:
        """Return a World without the object; removing what is not there is no change."""
        if ref not in self.resources and ref not in self.undecodable:
            return self
        before = self.resources.get(ref)
        return World(
            resources=self.resources.discard(ref),
            undecodable=self.undecodable.discard(ref),
            slices_by_service=_reindex_slices(self.slices_by_service, before, None),
            grants_by_namespace=_reindex_grants(self.grants_by_namespace, before, None),
            journal=self.journal.noting(ref),
        )

    # Questions.

    def get(self, ref: ObjectRef) -> Resource | None:
        """Return the last decodable version of an object."""
        return self.resources.get(ref)

    def refs(self) -> Iterator[ObjectRef]:
        """Yield every object, also undecodable ones; resync prunes by this."""
        yield from self.resources
        for ref in self.undecodable:
            if ref not in self.resources:
                yield ref

    def problems(self, ref: ObjectRef) -> tuple[Finding, ...]:
        """Return what is wrong with the last version of an object in itself."""
        undecodable = self.undecodable.get(ref)
        if undecodable is not None:
            return undecodable.findings
        resource = self.resources.get(ref)
        return () if resource is None else resource.problems

    def ingress(self, ref: ObjectRef) -> Ingress | None:
        """Return an Ingress."""
        return self._typed(ref, Ingress)

    def route(self, ref: ObjectRef) -> Route | None:
        """Return a Route."""
        return self._typed(ref, Route)

    def ingress_class(self, name: str) -> IngressClass | None:
        """Return a class by its name."""
        return self._typed(ObjectRef(Kind.INGRESS_CLASS, "", name), IngressClass)

    def service(self, ref: ObjectRef) -> Service | None:
        """Return a Service."""
        return self._typed(ref, Service)

    def secret(self, ref: ObjectRef) -> Secret | None:
        """Return a Secret."""
        return self._typed(ref, Secret)

    def slices(self, service: ObjectRef) -> tuple[EndpointSlice, ...]:
        """Return the slices of a Service, sorted."""
        found = self.slices_by_service.get((service.namespace, service.name))
        return () if found is None else tuple(found[ref] for ref in sorted(found))

    def grants(self, namespace: str) -> Iterator[ReferenceGrant]:
        """Yield what the owners of a namespace let others refer to."""
        found = self.grants_by_namespace.get(namespace)
        if found is not None:
            yield from found.values()

    def changes_since(self, earlier: World) -> frozenset[ObjectRef]:
        """Return every object that may differ from ``earlier``; quick for a descendant."""
        if self is earlier:
            return frozenset()
        touched = self.journal.since(earlier.journal)
        if touched is not None:
            return touched
        return _differences(self.resources, earlier.resources) | _differences(
            self.undecodable, earlier.undecodable
        )

    def _typed(self, ref: ObjectRef, kind: type[_R]) -> _R | None:
        resource = self.resources.get(ref)
        return resource if isinstance(resource, kind) else None


EMPTY: Final = World(HashTrieMap(), HashTrieMap(), HashTrieMap(), HashTrieMap(), BLANK)


def _reindex_slices(
    index: HashTrieMap[tuple[str, str], HashTrieMap[ObjectRef, EndpointSlice]],
    before: Resource | None,
    after: Resource | None,
) -> HashTrieMap[tuple[str, str], HashTrieMap[ObjectRef, EndpointSlice]]:
    if isinstance(before, EndpointSlice) and before.service is not None:
        index = _without(index, (before.ref.namespace, before.service), before.ref)
    if isinstance(after, EndpointSlice) and after.service is not None:
        index = _with(index, (after.ref.namespace, after.service), after)
    return index


def _reindex_grants(
    index: HashTrieMap[str, HashTrieMap[ObjectRef, ReferenceGrant]],
    before: Resource | None,
    after: Resource | None,
) -> HashTrieMap[str, HashTrieMap[ObjectRef, ReferenceGrant]]:
    if isinstance(before, ReferenceGrant):
        index = _without(index, before.ref.namespace, before.ref)
    if isinstance(after, ReferenceGrant):
        index = _with(index, after.ref.namespace, after)
    return index


def _with(
    index: HashTrieMap[_K, HashTrieMap[ObjectRef, _R]], key: _K, resource: _R
) -> HashTrieMap[_K, HashTrieMap[ObjectRef, _R]]:
    group = index.get(key)
    if group is None:
        group = HashTrieMap()
    return index.insert(key, group.insert(resource.ref, resource))


def _without(
    index: HashTrieMap[_K, HashTrieMap[ObjectRef, _R]], key: _K, ref: ObjectRef
) -> HashTrieMap[_K, HashTrieMap[ObjectRef, _R]]:
    group = index[key].discard(ref)
    return index.insert(key, group) if len(group) else index.discard(key)


_V = TypeVar("_V")


def _differences(
    mine: HashTrieMap[ObjectRef, _V], theirs: HashTrieMap[ObjectRef, _V]
) -> frozenset[ObjectRef]:
    differing = {ref for ref, value in mine.items() if theirs.get(ref) is not value}
    differing.update(ref for ref in theirs if ref not in mine)
    return frozenset(differing)
