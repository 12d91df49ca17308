"""
The leaves of a snapshot: everything a data plane needs to serve, as values.

A snapshot has four sections, each a set of keyed leaves (:class:`Section`), so
that what changes often (endpoints) never touches what is dear to rebuild
(routes, certificates). Leaves are frozen and compare by value; equal meaning
is written in one way only, so equal meaning has an equal digest. What only a
person needs (where a route came from) stays with the compiler.
"""

from enum import StrEnum
from typing import NewType, TypeAlias

from fairway_snapshot.filters import FilterSpec
from fairway_snapshot.record import Record
from fairway_snapshot.secret import SecretBytes

HostPattern = NewType("HostPattern", str)
"""``shop.example``, ``*.shop.example`` or the empty string for any host; lower case, no port."""

BackendId = NewType("BackendId", str)
"""``namespace/service:port`` with the Service's port number or name; outlives its endpoints."""

CertificateId = NewType("CertificateId", str)
"""``namespace/secret``, or ``namespace/secret+secret`` for two that answer together."""


class Section(StrEnum):
    """The children of the root, and the type of key and leaf of each."""

    HOSTS = "hosts"
    """:data:`HostPattern` to :class:`VirtualHost`."""
    BACKENDS = "backends"
    """:data:`BackendId` to :class:`Backend`."""
    CERTIFICATES = "certificates"
    """:data:`CertificateId` to :class:`Certificate`."""
    SERVER_NAMES = "server-names"
    """Server name of a TLS hello (a :data:`HostPattern`) to :class:`ServerName`."""


class PathKind(StrEnum):
    """How a path is compared; the values are those of HTTPRoute."""

    EXACT = "Exact"
    PREFIX = "PathPrefix"
    REGEX = "RegularExpression"


class PathMatch(Record, frozen=True, kw_only=True):
    """
    A path and how to compare it.

    Prefixes match whole segments and are written without a trailing slash
    (``/`` is the one exception). A regular expression (RE2) must match the
    whole path.
    """

    kind: PathKind
    value: str


class ValueKind(StrEnum):
    """How a header or a query parameter is compared."""

    EXACT = "Exact"
    REGEX = "RegularExpression"
    PRESENT = "Present"


class ValueMatch(Record, frozen=True, kw_only=True):
    """A named value and how to compare it; header names are lower case."""

    name: str
    kind: ValueKind = ValueKind.EXACT
    value: str = ""


class RouteMatch(Record, frozen=True, kw_only=True):
    """All conditions of one way in; every one must hold."""

    path: PathMatch
    method: str | None = None
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


class Timeouts(Record, frozen=True, kw_only=True):
    """Limits in seconds; None takes the data plane's setting, 0 means no limit."""

    request: float | None = None
    """From the last byte of the request head to the last byte of the response."""
    backend_request: float | None = None
    """One attempt: from its first byte sent to the head of its response."""
    connect: float | None = None
    idle: float | None = None
    """Between two reads of a response body, and of an idle tunnel."""


class Retry(Record, frozen=True, kw_only=True):
    """When another endpoint is tried; without codes only failures before any response byte."""

    attempts: int = 1
    """Further attempts after the first."""
    codes: tuple[int, ...] = ()
    per_try_timeout: float | None = None
    """Seconds; None takes ``Timeouts.backend_request``."""
    budget: int | None = None
    """Percent of a backend's requests that may be retries; None takes that of the backend."""


class WeightedBackend(Record, frozen=True, kw_only=True):
    """A share of a route's requests; the share is weight by the sum of weights."""

    backend: BackendId
    weight: int = 1


class Route(Record, frozen=True, kw_only=True):
    """
    One way in.

    A backend that the snapshot does not hold, or that has no endpoints, is
    answered with 503; a route without backends is answered by its filters.
    """

    name: str
    """``namespace/object/rule``: the label of metrics and logs."""
    match: RouteMatch
    filters: tuple[FilterSpec, ...] = ()
    backends: tuple[WeightedBackend, ...] = ()
    timeouts: Timeouts = Timeouts()
    retry: Retry | None = None
    allow_encoded_slash: bool = False
    max_body_bytes: int | None = None
    """None takes the data plane's setting."""


class VirtualHost(Record, frozen=True, kw_only=True):
    """
    All routes of one host, in order of precedence: the first that matches is taken.

    The order is the compiler's (exact paths, then regular expressions, then
    prefixes from the longest, then method, headers, query parameters, age);
    the matcher may index it but never changes its meaning.
    """

    routes: tuple[Route, ...]


class BackendProtocol(StrEnum):
    """What is spoken to the endpoints."""

    HTTP = "http"
    HTTPS = "https"


class Balance(StrEnum):
    """How an endpoint is chosen."""

    ROUND_ROBIN = "round-robin"
    LEAST_REQUESTS = "least-requests"
    RANDOM = "random"
    CONSISTENT_HASH = "consistent-hash"


class HashKey(Record, frozen=True, kw_only=True):
    """
    What a consistent hash reads of a request: a header, a cookie, or the client's address.

    At most one is named; a request without it is known by its client's address.
    """

    header: str = ""
    """Lower case."""
    cookie: str = ""


class Endpoint(Record, frozen=True, kw_only=True, array_like=True):
    """One address; a host name (ExternalName) is resolved by the data plane."""

    host: str
    port: int


class HealthCheck(Record, frozen=True, kw_only=True):
    """How each endpoint is asked whether it is well: a GET on a connection of its own."""

    path: str
    """With its query."""
    host: str = ""
    """The Host field; empty sends the address of the endpoint."""
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    """Ranges, both ends included; those of a probe of Kubernetes unless said otherwise."""
    interval_seconds: float = 10.0
    """From one check of an endpoint to its next."""
    timeout_seconds: float = 2.0
    """To connect and to answer; more is a failure."""
    unhealthy: int = 3
    """So many failures in a row take an endpoint out of the choice."""
    healthy: int = 2
    """So many successes in a row bring it back."""


class Backend(Record, frozen=True, kw_only=True):
    """A named set of endpoints; sorted, without duplicates."""

    endpoints: tuple[Endpoint, ...]
    protocol: BackendProtocol = BackendProtocol.HTTP
    server_name: str | None = None
    """Name to ask for and to verify over HTTPS; None does not verify."""
    balance: Balance = Balance.ROUND_ROBIN
    hash_key: HashKey = HashKey()
    """Of :attr:`Balance.CONSISTENT_HASH`."""
    proxy_protocol: int = 0
    """Version of the PROXY protocol header before each connection, 1 or 2; 0 sends none."""
    sticky_cookie: str = ""
    """Name of a cookie that keeps a client at its endpoint; empty for none."""
    slow_start_seconds: float = 0.0
    """For so long the share of a new endpoint grows; not with a consistent hash. 0 is at once."""
    max_requests: int = 0
    """In flight from one worker, waiting ones included; more get 503. 0 is no limit."""
    max_pending: int = 0
    """Waiting in one worker for a connection; more get 503. 0 is no limit."""
    max_connections: int = 0
    """Of one worker: in use, kept and being opened. 0 is no limit."""
    max_retries: int = 0
    """Further attempts in flight from one worker; more are not made. 0 is no limit."""
    retry_budget: int | None = None
    """Percent of requests that may be retries; None takes the data plane's setting."""
    adaptive_concurrency: bool = False
    """Bound what is in flight by what answers take: more get 503."""
    eject_latency_factor: float | None = None
    """So many times as slow as the others is too slow; None takes the setting, 0 is never."""
    health_check: HealthCheck | None = None


class Certificate(Record, frozen=True, kw_only=True):
    """A chain (leaf first) and its key, both PEM."""

    chain: bytes
    key: SecretBytes
    alternative: "Certificate | None" = None
    """Another for the same names, with a key of another kind: each client gets what it can take."""


class ServerName(Record, frozen=True, kw_only=True):
    """Which certificate answers a server name; the empty name is the default certificate."""

    certificate: CertificateId


Leaf: TypeAlias = VirtualHost | Backend | Certificate | ServerName
