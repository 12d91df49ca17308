"""
Whose an object is: by the controller of its class, never by a class's name.

An Ingress says its class in the field; the old annotation counts only where
the field is absent. An object without a class is nobody's, unless the settings
say otherwise: the API server fills in the default class when an Ingress is
created, and objects older than that default stay as they are.
"""

from fairway_operator.compiler.lookup import Lookup
from fairway_operator.resources import Ingress, Route


def is_ours(resource: Ingress | Route, lookup: Lookup) -> bool:
    """Tell whether this controller serves the object."""
    if isinstance(resource, Route):
        return is_our_class(resource.spec.ingress_class_name, lookup)
    if resource.class_name is not None:
        return is_our_class(resource.class_name, lookup)
    return is_our_class(resource.class_annotation, lookup)


def is_our_class(name: str | None, lookup: Lookup) -> bool:
    """Tell whether this controller serves the objects that name this class, or none."""
    if not name:
        return lookup.settings.watch_without_class
    found = lookup.ingress_class(name)
    return found is not None and found.controller == lookup.settings.controller_name
