"""
Annotations ``fairway.dev/*``: one table, one strict parser for each row.

A value travels on as typed data, never as text. What does not parse becomes a
finding; where the annotation is a filter its object then answers 503 and does
not serve without it. A name that is not in the table is a finding too,
because a misspelt setting must not be a silent default.
"""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Final, NamedTuple, TypeVar

import msgspec

from fairway_operator.annotations import (
    backends,
    checks,
    flags,
    headers,
    ignored,
    limits,
    paths,
    redirects,
    retries,
)
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources.body import ANNOTATION_PREFIX
from fairway_snapshot.filters import RequestHeaders, ResponseHeaders, StripPrefix
from fairway_snapshot.model import BackendProtocol, Balance, HashKey, HealthCheck

_DEFAULT: Final = HealthCheck(path="")


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of an Ingress or a Route say; None is not said."""

    strip_prefix: StripPrefix | None = None
    rewrite_prefix: str | None = None
    request_headers: RequestHeaders | None = None
    response_headers: ResponseHeaders | None = None
    ssl_redirect: bool | None = None
    request_timeout: float | None = None
    backend_request_timeout: float | None = None
    connect_timeout: float | None = None
    idle_timeout: float | None = None
    retry_attempts: int | None = None
    retry_codes: tuple[int, ...] | None = None
    retry_budget: int | None = None
    max_body_bytes: int | None = None
    ignored_annotations: tuple[str, ...] | None = None
    """Of other controllers, that nobody misses here."""
    allow_encoded_slash: bool = False
    lacks_filter: bool = False
    """A filter could not be read, so nothing may be served without it."""


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of a Service say; None is not said."""

    balance: tuple[Balance, HashKey] = (Balance.ROUND_ROBIN, HashKey())
    sticky_cookie: str = ""
    slow_start: float = 0.0
    max_requests: int = 0
    max_pending: int = 0
    max_connections: int = 0
    max_retries: int = 0
    adaptive_concurrency: bool = False
    eject_latency_factor: float | None = None
    check_path: str = ""
    """Empty for no health checks, whatever the others say."""
    check_host: str = _DEFAULT.host
    check_statuses: tuple[tuple[int, int], ...] = _DEFAULT.statuses
    check_interval: float = _DEFAULT.interval_seconds
    check_timeout: float = _DEFAULT.timeout_seconds
    check_unhealthy: int = _DEFAULT.unhealthy
    check_healthy: int = _DEFAULT.healthy
    retry_budget: int | None = None
    protocol: BackendProtocol | None = None
    proxy_protocol: int = 0


class _Row(NamedTuple):
    field: str
    """Of the options."""
    parse: Callable[[str], object]
    """Raises ValueError with a message that says what to write."""
    kinds: frozenset[Kind]
    is_filter: bool = False


_INGRESS: Final = frozenset({Kind.INGRESS})
_ROUTES: Final = frozenset({Kind.INGRESS, Kind.ROUTE})
_SERVICE: Final = frozenset({Kind.SERVICE})
_CLASS: Final = frozenset({Kind.INGRESS_CLASS})
"""For all objects of the class; no row of these is a filter."""
_DEFAULTS: Final = _INGRESS | _CLASS

_CHECK: Final = "health-check"

_MOST_GUESSES: Final = 8
"""Of what was meant by a name; each takes a millisecond."""

TABLE: Final[Mapping[str, _Row]] = {
    "strip-prefix": _Row("strip_prefix", paths.parse_strip_prefix, _INGRESS, is_filter=True),
    "rewrite-prefix": _Row("rewrite_prefix", paths.parse_rewrite_prefix, _INGRESS, is_filter=True),
    "request-headers": _Row("request_headers", headers.parse_request, _INGRESS, is_filter=True),
    "response-headers": _Row("response_headers", headers.parse_response, _INGRESS, is_filter=True),
    "ssl-redirect": _Row("ssl_redirect", redirects.parse_ssl_redirect, _DEFAULTS),
    "request-timeout": _Row("request_timeout", limits.parse_timeout, _DEFAULTS),
    "backend-request-timeout": _Row(
        "backend_request_timeout", limits.parse_timeout, _INGRESS | _CLASS
    ),
    "connect-timeout": _Row("connect_timeout", limits.parse_timeout, _DEFAULTS),
    "idle-timeout": _Row("idle_timeout", limits.parse_timeout, _DEFAULTS),
    "retry-attempts": _Row("retry_attempts", retries.parse_attempts, _DEFAULTS),
    "retry-codes": _Row("retry_codes", retries.parse_codes, _DEFAULTS),
    "retry-budget": _Row("retry_budget", retries.parse_budget, _DEFAULTS | _SERVICE),
    "max-body-size": _Row("max_body_bytes", limits.parse_size, _ROUTES | _CLASS),
    "allow-encoded-slash": _Row("allow_encoded_slash", paths.parse_encoded_slash, _ROUTES),
    "ignored-annotations": _Row("ignored_annotations", ignored.parse_names, _DEFAULTS),
    "balance": _Row("balance", backends.parse_balance, _SERVICE),
    "sticky-cookie": _Row("sticky_cookie", backends.parse_sticky_cookie, _SERVICE),
    "slow-start": _Row("slow_start", limits.parse_timeout, _SERVICE),
    "max-requests": _Row("max_requests", limits.parse_number, _SERVICE),
    "max-pending": _Row("max_pending", limits.parse_number, _SERVICE),
    "max-connections": _Row("max_connections", limits.parse_number, _SERVICE),
    "max-retries": _Row("max_retries", limits.parse_number, _SERVICE),
    "adaptive-concurrency": _Row("adaptive_concurrency", flags.parse_flag, _SERVICE),
    "eject-latency-factor": _Row("eject_latency_factor", backends.parse_factor, _SERVICE),
    _CHECK: _Row("check_path", checks.parse_path, _SERVICE),
    "health-check-host": _Row("check_host", checks.parse_host, _SERVICE),
    "health-check-statuses": _Row("check_statuses", checks.parse_statuses, _SERVICE),
    "health-check-interval": _Row("check_interval", checks.parse_interval, _SERVICE),
    "health-check-timeout": _Row("check_timeout", checks.parse_timeout, _SERVICE),
    "health-check-unhealthy": _Row("check_unhealthy", checks.parse_number, _SERVICE),
    "health-check-healthy": _Row("check_healthy", checks.parse_number, _SERVICE),
    "backend-protocol": _Row("protocol", backends.parse_protocol, _SERVICE),
    "proxy-protocol": _Row("proxy_protocol", backends.parse_proxy_protocol, _SERVICE),
}
"""Name after ``fairway.dev/`` to what it sets, where it may stand, and its parser."""


def route_options(
    subject: ObjectRef, given: tuple[tuple[str, str], ...]
) -> tuple[RouteOptions, tuple[Finding, ...]]:
    """Read the annotations of an Ingress, a Route or a class; names come without the prefix."""
    return _read(RouteOptions, subject, given)


def backend_options(
    subject: ObjectRef, given: tuple[tuple[str, str], ...]
) -> tuple[BackendOptions, tuple[Finding, ...]]:
    """Read the annotations of a Service; names come without the prefix."""
    options, findings = _read(BackendOptions, subject, given)
    names = {name for name, _ in given}
    if _CHECK not in names:
        findings += tuple(
            _invalid(
                subject,
                name,
                f"nothing is checked without {ANNOTATION_PREFIX}{_CHECK};"
                f" add {ANNOTATION_PREFIX}{_CHECK}: /healthz",
            )
            for name in sorted(names)
            if name.startswith(f"{_CHECK}-") and name in TABLE
        )
    return options, findings


_T = TypeVar("_T", RouteOptions, BackendOptions)


def _read(
    kind: type[_T], subject: ObjectRef, given: tuple[tuple[str, str], ...]
) -> tuple[_T, tuple[Finding, ...]]:
    values: dict[str, object] = {}
    findings: list[Finding] = []
    for name, text in given:
        row = TABLE.get(name)
        if row is None or subject.kind not in row.kinds:
            findings.append(_unknown(subject, name, guess=len(findings) < _MOST_GUESSES))
            continue
        try:
            values[row.field] = row.parse(text)
        except ValueError as error:
            findings.append(_invalid(subject, name, str(error)))
            if row.is_filter:
                values["lacks_filter"] = True
    # A row's parser returns what its field takes; a test holds the table to that.
    return kind(**values), tuple(findings)  # type: ignore[arg-type]


def _unknown(subject: ObjectRef, name: str, *, guess: bool) -> Finding:
    known = sorted(at for at, row in TABLE.items() if subject.kind in row.kinds)
    elsewhere = TABLE.get(name)
    close = get_close_matches(name[:80], known, n=1, cutoff=0.7) if guess else ()
    if elsewhere is not None and subject.kind is Kind.ROUTE and Kind.INGRESS in elsewhere.kinds:
        hint = "a Route has a field for it: kubectl explain route.spec.rules"
    elif elsewhere is not None:
        hint = f"write it on the {' or '.join(sorted(elsewhere.kinds))}"
    elif close:
        hint = f"write {ANNOTATION_PREFIX}{close[0]}"
    else:
        hint = f"known after {ANNOTATION_PREFIX} are {', '.join(known)}"
    return Finding(
        subject=subject,
        field=f"metadata.annotations[{ANNOTATION_PREFIX}{name}]",
        reason=Reason.UNKNOWN_ANNOTATION,
        severity=Severity.WARNING,
        message=f"there is no annotation {ANNOTATION_PREFIX}{name} for {subject.kind}",
        hint=hint,
    )


def _invalid(subject: ObjectRef, name: str, message: str) -> Finding:
    problem, _, hint = message.partition("; ")
    return Finding(
        subject=subject,
        field=f"metadata.annotations[{ANNOTATION_PREFIX}{name}]",
        reason=Reason.INVALID_ANNOTATION,
        message=problem,
        hint=hint,
    )
