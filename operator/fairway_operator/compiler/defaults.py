"""
What a class says for all of its objects.

Annotations of an IngressClass are the defaults of every Ingress and Route of
that class; whatever an object says itself goes before them. Filters are not
among them: a filter of everybody that could not be read would have to close
everybody's routes.
"""

import msgspec

from fairway_operator.annotations import RouteOptions, route_options
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.resources import Ingress, Route
from fairway_snapshot import model


def with_defaults(resource: Ingress | Route, own: RouteOptions, lookup: Lookup) -> RouteOptions:
    """Return what the object says, and its class where the object says nothing."""
    if isinstance(resource, Route):
        name: str | None = resource.spec.ingress_class_name
    else:
        name = resource.class_name or resource.class_annotation
    found = lookup.ingress_class(name) if name else None
    if found is None or not found.annotations:
        return own
    # What is wrong with the class is told on the class, once.
    defaults, _ = route_options(found.ref, found.annotations)
    return filled(own, defaults)


def filled(own: RouteOptions, defaults: RouteOptions) -> RouteOptions:
    """Return what is said, and the defaults where nothing is said."""
    missing = {
        field: getattr(defaults, field)
        for field in RouteOptions.__struct_fields__
        if getattr(own, field) is None
    }
    return msgspec.structs.replace(own, **missing)


def timeouts_of(options: RouteOptions) -> model.Timeouts:
    """Return the limits that annotations give."""
    return model.Timeouts(
        request=options.request_timeout,
        backend_request=options.backend_request_timeout,
        connect=options.connect_timeout,
        idle=options.idle_timeout,
    )


def retry_of(options: RouteOptions) -> model.Retry | None:
    """Return what annotations say of retries; None where they say nothing."""
    attempts, codes, budget = options.retry_attempts, options.retry_codes, options.retry_budget
    if attempts is None and codes is None and budget is None:
        return None
    if attempts == 0:
        # Nothing said would leave the data plane's one attempt.
        return model.Retry(budget=0)
    return model.Retry(attempts=attempts or 1, codes=codes or (), budget=budget)
