"""
The World: every decoded object, in persistent indexes.

A World is a value. ``put`` and ``remove`` return another one that shares all
that did not change, and remember which objects they touched, so that
:meth:`World.changes_since` costs as much as the change.
"""

from collections.abc import Iterator

from fairway_operator.refs import ObjectRef
from fairway_operator.resources import Resource, Undecodable


class World:
    """All objects known at one moment; make one from :data:`EMPTY`."""

    __slots__ = ()

    def put(self, resource: Resource | Undecodable) -> "World":
        """
        Return a World with this version of the object in it.

        An undecodable version keeps the last decodable one and adds its findings.
        """
        raise NotImplementedError

    def remove(self, ref: ObjectRef) -> "World":
        """Return a World without the object; removing what is not there is no change."""
        raise NotImplementedError

    def get(self, ref: ObjectRef) -> Resource | None:
        """Return the last decodable version of an object."""
        raise NotImplementedError

    def refs(self) -> Iterator[ObjectRef]:
        """Yield every object, also undecodable ones; resync prunes by this."""
        raise NotImplementedError

    def changes_since(self, earlier: "World") -> frozenset[ObjectRef]:
        """Return every object that may differ from ``earlier``; quick for a descendant."""
        raise NotImplementedError


EMPTY = World()
