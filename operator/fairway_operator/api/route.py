"""
Route: what its author may write.

Words are those of Gateway API's HTTPRoute wherever they mean the same. Each
description below is what ``kubectl explain`` prints, and each limit is checked
by the API server and, for files, here. What ``__cel__`` holds is CEL for the
API server alone; :mod:`fairway_operator.compiler.route` checks the same again,
because a file has no API server.
"""

from typing import Annotated

from msgspec import Meta

from fairway_operator.api.filters import Filter
from fairway_operator.api.forms import LABEL, SUBDOMAIN, ApiStruct, Cel, Duration, Host
from fairway_operator.api.matches import Match


class Timeouts(ApiStruct, frozen=True, kw_only=True):
    """Limits; what is not given is the data plane's setting."""

    __cel__ = (
        Cel(
            "!(has(self.request) && has(self.backendRequest) && duration(self.request) !="
            " duration('0s') && duration(self.backendRequest) > duration(self.request))",
            "backendRequest is not longer than request",
        ),
    )

    request: Annotated[
        Duration | None,
        Meta(description="From the end of the request's head to the end of the response."),
    ] = None
    backend_request: Annotated[
        Duration | None,
        Meta(description="One attempt at a backend, up to the head of its response."),
    ] = None
    connect: Annotated[Duration | None, Meta(description="Opening a connection to a backend.")] = (
        None
    )
    idle: Annotated[
        Duration | None, Meta(description="Silence within a response or an upgraded connection.")
    ] = None


class Retry(ApiStruct, frozen=True, kw_only=True):
    """When a request is sent again, to another endpoint where there is one."""

    attempts: Annotated[int, Meta(description="Further attempts after the first.", ge=1, le=10)] = 1
    codes: Annotated[
        tuple[Annotated[int, Meta(ge=400, le=599)], ...],
        Meta(
            description="Statuses of a response that is not passed on but tried again, for"
            " idempotent methods. Without any, only failures before the first byte of a"
            " response are tried again.",
            max_length=16,
        ),
    ] = ()
    per_try_timeout: Annotated[
        Duration | None,
        Meta(
            description="Limit of one attempt up to the head of its response, instead of"
            " backendRequest; not longer than timeouts.request."
        ),
    ] = None
    budget: Annotated[
        Annotated[int, Meta(ge=0, le=100)] | None,
        Meta(
            description="Most retries, in percent of the requests to the backend in ten seconds;"
            " ten are always free, so that a quiet backend is tried again, too. What is above"
            " fails at once, so that retries do not drown a backend in trouble. 0 is no retry at"
            " all. Without it, what the Service says (annotation fairway.dev/retry-budget), else"
            " the data plane's setting, which is 20."
        ),
    ] = None


class BackendRef(ApiStruct, frozen=True, kw_only=True):
    """A Service, and its share of the requests."""

    name: Annotated[
        str,
        Meta(description="Name of the Service.", min_length=1, max_length=253, pattern=SUBDOMAIN),
    ]
    namespace: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63, pattern=LABEL)] | None,
        Meta(
            description="Namespace of the Service; another namespace than the Route's needs a"
            " ReferenceGrant there."
        ),
    ] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)]
        | Annotated[str, Meta(min_length=1, max_length=63, pattern=LABEL)],
        Meta(description="Port of the Service (not of its pods), by number or by name."),
    ]
    weight: Annotated[
        int,
        Meta(
            description="Share of the requests: weight divided by the sum of the rule's weights."
            " 0 gets none.",
            ge=0,
            le=1_000_000,
        ),
    ] = 1


class Rule(ApiStruct, frozen=True, kw_only=True):
    """Requests that match, what is done to them, and where they go."""

    __cel__ = (
        Cel(
            "!has(self.backendRefs) || size(self.backendRefs) == 0 || !has(self.filters) ||"
            " self.filters.all(f, !has(f.redirect) && !has(f.directResponse))",
            "a rule with a redirect or directResponse has no backendRefs",
        ),
        Cel(
            "(has(self.backendRefs) && size(self.backendRefs) > 0) || (has(self.filters) &&"
            " self.filters.exists(f, has(f.redirect) || has(f.directResponse)))",
            "a rule has backendRefs, or a filter that answers (redirect, directResponse)",
        ),
        Cel(
            "!(has(self.retry) && has(self.retry.perTryTimeout) && has(self.timeouts) &&"
            " has(self.timeouts.request) && duration(self.timeouts.request) != duration('0s') &&"
            " duration(self.retry.perTryTimeout) > duration(self.timeouts.request))",
            "retry.perTryTimeout is not longer than timeouts.request",
        ),
    )

    name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63, pattern=LABEL)] | None,
        Meta(description="Name of the rule in metrics and logs; without it, its place."),
    ] = None
    matches: Annotated[
        tuple[Match, ...],
        Meta(
            description="The rule is for requests that one of these matches; without any, for"
            " all requests of the hosts.",
            max_length=64,
        ),
    ] = ()
    filters: Annotated[
        tuple[Filter, ...],
        Meta(description="Changes of request and response, in this order.", max_length=16),
    ] = ()
    timeouts: Annotated[Timeouts, Meta(description="Limits of a request.")] = Timeouts()
    retry: Annotated[
        Retry | None,
        Meta(
            description="When a request is sent again. Without it, once: where no byte of the"
            " request was sent, or where its method is idempotent and no byte of an answer came."
        ),
    ] = None
    backend_refs: Annotated[
        tuple[BackendRef, ...],
        Meta(description="Services that get the requests, by weight.", max_length=16),
    ] = ()


class Tls(ApiStruct, frozen=True, kw_only=True):
    """How the hosts of the Route are served over TLS."""

    __cel__ = (
        Cel(
            "!has(self.alternativeSecretName) || (has(self.secretName) &&"
            " self.secretName != self.alternativeSecretName)",
            "alternativeSecretName goes with another secretName",
        ),
    )

    secret_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=253, pattern=SUBDOMAIN)] | None,
        Meta(
            description="Secret of type kubernetes.io/tls in the Route's namespace; without it,"
            " the default certificate."
        ),
    ] = None
    alternative_secret_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=253, pattern=SUBDOMAIN)] | None,
        Meta(
            description="A second Secret, whose key is of another kind (RSA beside ECDSA); each"
            " client gets the certificate that it can take."
        ),
    ] = None
    redirect: Annotated[
        bool, Meta(description="Redirect requests that came without TLS to https.")
    ] = True


class RouteSpec(ApiStruct, frozen=True, kw_only=True):
    """What its author wants."""

    __cel__ = (
        Cel(
            "self.rules.all(r, !has(r.name) || self.rules.exists_one(other, has(other.name) &&"
            " other.name == r.name))",
            "names of rules are unique",
        ),
    )

    ingress_class_name: Annotated[
        str,
        Meta(
            description="The IngressClass that says which controller serves this Route.",
            min_length=1,
            max_length=253,
            pattern=SUBDOMAIN,
        ),
    ] = "fairway"
    hosts: Annotated[
        tuple[Host, ...],
        Meta(
            description="Hosts that the rules are for: names, or *. and a name. Without any, all"
            " hosts that no other object names. The most specific host is chosen first; its"
            " rules alone count then.",
            max_length=64,
            extra_json_schema={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    tls: Annotated[
        Tls | None, Meta(description="Serve the hosts over TLS with this certificate.")
    ] = None
    rules: Annotated[
        tuple[Rule, ...],
        Meta(
            description="Rules; the most specific match wins, whatever their order: Exact paths,"
            " then the longest RegularExpression, then the longest PathPrefix, then with method,"
            " more headers, more query parameters, then the oldest object, then the first rule.",
            min_length=1,
            max_length=64,
        ),
    ]
