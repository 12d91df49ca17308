"""
Route: what its author may write.

Words are those of Gateway API's HTTPRoute wherever they mean the same. Each
description below is what ``kubectl explain`` prints, and each limit is checked
by the API server and, for files, here. What ``__cel__`` holds is CEL for the
API server alone; :mod:`fairway_operator.compiler.route` checks the same again,
because a file has no API server.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

# Python's $ also matches before a last newline, so ends are written \Z; the schema says $ for it.
_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_HOST = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z"
_HEADER_NAME = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z"
_HEADER_VALUE = r"^[\x20-\x7e\t]*\Z"
_ABSOLUTE = r"^/[\x21-\x7e]*\Z"
_PRINTABLE = r"^[\x20-\x7e]*\Z"
_DURATION = r"^([0-9]{1,5}(h|m|s|ms)){1,4}\Z"

FORMS: Mapping[str, str] = {
    pattern.replace(r"\Z", "$"): words
    for pattern, words in {
        _LABEL: "lower-case letters, digits and dashes, such as shop-2",
        _SUBDOMAIN: "a name such as shop.example, in lower case",
        _HOST: "a name such as shop.example or *.shop.example, in lower case",
        _HEADER_NAME: "the name of a header, such as x-tier",
        _HEADER_VALUE: "one line of printable ASCII",
        _ABSOLUTE: "an absolute path such as /shop, without blanks",
        _PRINTABLE: "printable ASCII",
        _DURATION: "a duration such as 500ms, 30s or 1m30s; 0s is no limit",
    }.items()
}
"""What to write where a pattern of the schema does not match, in the schema's writing."""

Host: TypeAlias = Annotated[
    str,
    Meta(
        description="A host name, or *. and a host name for all names one label longer.",
        min_length=1,
        max_length=253,
        pattern=_HOST,
    ),
]
HeaderName: TypeAlias = Annotated[
    str,
    Meta(
        description="Name of the header; case does not matter.",
        min_length=1,
        max_length=256,
        pattern=_HEADER_NAME,
    ),
]
HeaderValue: TypeAlias = Annotated[
    str,
    Meta(
        description="Value of the header, in printable ASCII.",
        max_length=4096,
        pattern=_HEADER_VALUE,
    ),
]
Duration: TypeAlias = Annotated[
    str,
    Meta(
        description="A duration such as 500ms, 30s or 1m30s; 0s means no limit.",
        max_length=24,
        pattern=_DURATION,
    ),
]


class Cel(NamedTuple):
    """A rule that the API server checks, and what it says when the rule does not hold."""

    rule: str
    message: str


class ApiStruct(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True
):
    """Base of the structs of the API; an unknown field is refused, not ignored."""

    __cel__: ClassVar[tuple[Cel, ...]] = ()


class PathType(StrEnum):
    """How a path is compared."""

    EXACT = "Exact"
    PATH_PREFIX = "PathPrefix"
    REGULAR_EXPRESSION = "RegularExpression"


class ValueType(StrEnum):
    """How a header or a query parameter is compared."""

    EXACT = "Exact"
    REGULAR_EXPRESSION = "RegularExpression"
    PRESENT = "Present"


class Method(StrEnum):
    """A request method."""

    GET = "GET"
    HEAD = "HEAD"
    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"
    CONNECT = "CONNECT"
    OPTIONS = "OPTIONS"
    TRACE = "TRACE"
    PATCH = "PATCH"


class PathMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on the path of a request."""

    __cel__ = (
        Cel(
            "self.type == 'RegularExpression' || (self.value.startsWith('/') &&"
            " !self.value.contains('//') && !self.value.contains(' '))",
            "a path starts with a slash and has no empty segments and no spaces",
        ),
        Cel(
            "self.type != 'RegularExpression' || size(self.value) <= 512",
            "a regular expression has at most 512 characters",
        ),
    )

    type: Annotated[
        PathType,
        Meta(
            description="How the path is compared. Exact: the same path. PathPrefix: whole"
            " segments, so that /shop matches /shop and /shop/cart but not /shopping."
            " RegularExpression: RE2 syntax, must match the whole path."
        ),
    ] = PathType.PATH_PREFIX
    value: Annotated[
        str,
        Meta(
            description="The path, or the expression. Paths are compared after dot segments"
            " are removed; the query is no part of them.",
            min_length=1,
            max_length=1024,
            pattern=_PRINTABLE,
        ),
    ] = "/"


class HeaderMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on a header of a request."""

    name: HeaderName
    type: Annotated[
        ValueType,
        Meta(
            description="How the value is compared. Exact: the same value. RegularExpression:"
            " RE2 syntax, must match the whole value. Present: any value."
        ),
    ] = ValueType.EXACT
    value: Annotated[
        str,
        Meta(description="The value, or the expression; not for Present.", max_length=4096),
    ] = ""


class QueryMatch(ApiStruct, frozen=True, kw_only=True):
    """Condition on a parameter of the query."""

    name: Annotated[str, Meta(description="Name of the parameter.", min_length=1, max_length=256)]
    type: Annotated[
        ValueType,
        Meta(
            description="How the value is compared. Exact: the same value. RegularExpression:"
            " RE2 syntax, must match the whole value. Present: any value."
        ),
    ] = ValueType.EXACT
    value: Annotated[
        str,
        Meta(description="The value, or the expression; not for Present.", max_length=1024),
    ] = ""


class Match(ApiStruct, frozen=True, kw_only=True):
    """Conditions on a request; all of them must hold."""

    path: Annotated[PathMatch, Meta(description="Condition on the path; without it, any path.")] = (
        PathMatch()
    )
    method: Annotated[
        Method | None, Meta(description="The request's method; without it, any method.")
    ] = None
    headers: Annotated[
        tuple[HeaderMatch, ...],
        Meta(description="Conditions on headers; all must hold.", max_length=16),
    ] = ()
    query_params: Annotated[
        tuple[QueryMatch, ...],
        Meta(description="Conditions on parameters of the query; all must hold.", max_length=16),
    ] = ()


class Header(ApiStruct, frozen=True, kw_only=True):
    """A header."""

    name: HeaderName
    value: HeaderValue


class HeaderEdit(ApiStruct, frozen=True, kw_only=True):
    """Changes of headers: first remove, then set, then add."""

    set: Annotated[
        tuple[Header, ...],
        Meta(description="Headers that get this value and no other.", max_length=16),
    ] = ()
    add: Annotated[
        tuple[Header, ...],
        Meta(description="Headers that get this value besides those they have.", max_length=16),
    ] = ()
    remove: Annotated[
        tuple[HeaderName, ...],
        Meta(description="Names of headers that are removed.", max_length=16),
    ] = ()


AbsolutePath: TypeAlias = Annotated[
    str, Meta(description="An absolute path.", max_length=1024, pattern=_ABSOLUTE)
]


class StripPrefix(ApiStruct, frozen=True, kw_only=True):
    """Remove a leading path before the request goes to the backend."""

    prefix: Annotated[
        str,
        Meta(
            description="The path to remove, whole segments only; a path without it stays.",
            min_length=2,
            max_length=1024,
            pattern=_ABSOLUTE,
        ),
    ]


class PathRewrite(ApiStruct, frozen=True, kw_only=True):
    """Another path."""

    __cel__ = (
        Cel(
            "has(self.replaceFullPath) != has(self.replacePrefixMatch)",
            "write either replaceFullPath or replacePrefixMatch",
        ),
    )

    replace_full_path: Annotated[
        AbsolutePath | None, Meta(description="Replaces the whole path; the query stays.")
    ] = None
    replace_prefix_match: Annotated[
        AbsolutePath | None,
        Meta(description="Replaces the part that matched; only with matches of type PathPrefix."),
    ] = None


class Rewrite(ApiStruct, frozen=True, kw_only=True):
    """Send the request under another path or host name."""

    __cel__ = (Cel("has(self.path) || has(self.host)", "write path, host, or both"),)

    path: Annotated[PathRewrite | None, Meta(description="The path for the backend.")] = None
    host: Annotated[
        Annotated[str, Meta(max_length=253, pattern=_SUBDOMAIN)] | None,
        Meta(description="The Host header for the backend."),
    ] = None


class Scheme(StrEnum):
    """Scheme of a URL."""

    HTTP = "http"
    HTTPS = "https"


class Redirect(ApiStruct, frozen=True, kw_only=True):
    """Answer with a redirect; what is not given stays as the request had it."""

    scheme: Annotated[Scheme | None, Meta(description="Scheme of the new location.")] = None
    host: Annotated[
        Annotated[str, Meta(max_length=253, pattern=_SUBDOMAIN)] | None,
        Meta(description="Host of the new location."),
    ] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None,
        Meta(description="Port of the new location; the usual one of a scheme is left out."),
    ] = None
    path: Annotated[PathRewrite | None, Meta(description="Path of the new location.")] = None
    code: Annotated[
        int,
        Meta(
            description="Status of the answer: 301, 302, 303, 307 or 308.",
            extra={"enum": [301, 302, 303, 307, 308]},
        ),
    ] = 302


class DirectResponse(ApiStruct, frozen=True, kw_only=True):
    """Answer without a backend."""

    status: Annotated[int, Meta(description="Status of the answer.", ge=200, le=599)]
    body: Annotated[str, Meta(description="Body of the answer.", max_length=16384)] = ""
    content_type: Annotated[
        str,
        Meta(
            description="Media type of the body.",
            min_length=1,
            max_length=256,
            pattern=_HEADER_VALUE,
        ),
    ] = "text/plain; charset=utf-8"


class Filter(ApiStruct, frozen=True, kw_only=True):
    """One change of the request or of the response; exactly one of its fields is given."""

    __cel__ = (
        Cel(
            "[has(self.stripPrefix), has(self.rewrite), has(self.redirect),"
            " has(self.requestHeaders), has(self.responseHeaders), has(self.directResponse)]"
            ".exists_one(given, given)",
            "a filter has exactly one of stripPrefix, rewrite, redirect, requestHeaders,"
            " responseHeaders, directResponse",
        ),
    )

    strip_prefix: Annotated[
        StripPrefix | None,
        Meta(description="Remove a leading path before the request goes to the backend."),
    ] = None
    rewrite: Annotated[
        Rewrite | None, Meta(description="Send the request under another path or host name.")
    ] = None
    redirect: Annotated[
        Redirect | None,
        Meta(description="Answer with a redirect; the rule then has no backendRefs."),
    ] = None
    request_headers: Annotated[
        HeaderEdit | None, Meta(description="Change the headers that the backend gets.")
    ] = None
    response_headers: Annotated[
        HeaderEdit | None, Meta(description="Change the headers that the client gets.")
    ] = None
    direct_response: Annotated[
        DirectResponse | None,
        Meta(description="Answer without a backend; the rule then has no backendRefs."),
    ] = None


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
        Meta(description="Name of the Service.", min_length=1, max_length=253, pattern=_SUBDOMAIN),
    ]
    namespace: Annotated[
        Annotated[str, Meta(min_length=1, max_length=63, pattern=_LABEL)] | None,
        Meta(
            description="Namespace of the Service; another namespace than the Route's needs a"
            " ReferenceGrant there."
        ),
    ] = None
    port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)]
        | Annotated[str, Meta(min_length=1, max_length=63, pattern=_LABEL)],
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
        Annotated[str, Meta(min_length=1, max_length=63, pattern=_LABEL)] | None,
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
        Annotated[str, Meta(min_length=1, max_length=253, pattern=_SUBDOMAIN)] | None,
        Meta(
            description="Secret of type kubernetes.io/tls in the Route's namespace; without it,"
            " the default certificate."
        ),
    ] = None
    alternative_secret_name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=253, pattern=_SUBDOMAIN)] | None,
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
            pattern=_SUBDOMAIN,
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


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class RouteCondition(ApiStruct, frozen=True, kw_only=True):
    """One aspect of the state, as metav1.Condition."""

    type: Annotated[
        str,
        Meta(description="Accepted, ResolvedRefs or Programmed.", min_length=1, max_length=316),
    ]
    status: Annotated[ConditionStatus, Meta(description="True, False or Unknown.")]
    reason: Annotated[str, Meta(description="Why, in one word.", min_length=1, max_length=1024)]
    message: Annotated[str, Meta(description="Why, in a sentence.", max_length=32768)]
    last_transition_time: Annotated[
        str,
        Meta(
            description="When the status last changed.",
            extra_json_schema={"format": "date-time"},
        ),
    ]
    observed_generation: Annotated[
        int,
        Meta(
            description="Generation of the object that this is about.",
            ge=0,
            extra_json_schema={"format": "int64"},
        ),
    ]


class RouteStatus(ApiStruct, frozen=True, kw_only=True):
    """What is true of the Route; written by the operator."""

    observed_generation: Annotated[
        int | None,
        Meta(
            description="Generation of the object that the status is about.",
            extra_json_schema={"format": "int64"},
        ),
    ] = None
    conditions: Annotated[
        tuple[RouteCondition, ...],
        Meta(
            description="Accepted: the Route is well-formed and ours. ResolvedRefs: what it refers"
            " to exists and may be used. Programmed: every data plane serves this generation.",
            max_length=8,
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = ()
