"""
How much a client or a backend may ask of one worker.

One frozen value that every part of the data plane is given. The string under
each field is its documentation, as in :mod:`fairway_dataplane.config`; the one
rule is that whatever a stranger can make longer, slower or more has a field
here, with its unit in its name.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a client or a backend may ask of one worker."""

    header_block_bytes: int = 32 * 1024
    """Request line and header lines together; more is answered with 431."""

    request_line_bytes: int = 8 * 1024
    """Method, target and version; more is answered with 414."""

    header_line_bytes: int = 16 * 1024
    """One header line; more is answered with 431."""

    headers: int = 100
    """Header lines of a request or a response; more is answered with 431, or 502."""

    trailer_lines: int = 32
    """Trailer lines of a chunked body. More is answered with 400."""

    trailer_bytes: int = 8 * 1024
    """Trailer lines together."""

    pass_trailers: bool = False
    """
    Pass trailers on instead of dropping them: those of requests, and those of responses to
    clients that ask for them (``TE: trailers``). What is no business of a trailer is dropped.
    """

    merge_slashes: bool = False
    """Take ``//`` in a path for ``/``, in what is matched and in what is forwarded."""

    chunk_extension_bytes: int = 256
    """Extensions of one chunk; they are dropped. More is answered with 400."""

    chunk_extensions_bytes: int = 16 * 1024
    """Extensions of all chunks of one body."""

    body_bytes: int = 0
    """Request body; more is answered with 413. 0 is no limit. A route may set its own."""

    replay_bytes: int = 64 * 1024
    """
    So much of the body of an idempotent request is kept until its answer comes, to send it to
    another endpoint if the first one is lost. 0 keeps none.
    """

    header_seconds: float = 10.0
    """From the first byte of a request to the end of its head; then 408."""

    body_idle_seconds: float = 30.0
    """Between two reads of a request body; then 408."""

    body_grace_seconds: float = 5.0
    """A request body may be slow for this long."""

    body_bytes_per_second: int = 240
    """Least rate of a request body after the grace; below it, 408."""

    send_seconds: float = 30.0
    """Without progress of a response towards the client; then the connection is reset."""

    half_close_seconds: float = 2.0
    """
    A client that ends its side after a request gets an answer that begins, or goes on, within
    this time; then it is taken for gone. 0 takes it for gone at once.
    """

    keep_alive_seconds: float = 60.0
    """Of an idle client connection."""

    keep_alive_pressure_seconds: float = 5.0
    """Of an idle client connection while there are nearly too many."""

    requests_per_connection: int = 1000
    """Then a client connection is closed after the answer."""

    connection_age_seconds: float = 3600.0
    """Then a client connection is closed after the answer."""

    pipelined_requests: int = 16
    """Answered in one go before other connections have their turn."""

    handshake_seconds: float = 10.0
    """TLS handshake with a client."""

    shutdown_seconds: float = 3.0
    """TLS close, and the wait for a client that still sends after its answer."""

    linger_bytes: int = 64 * 1024
    """Read and dropped from a client that still sends after its answer."""

    connections: int = 20_000
    """Client connections of one worker; further ones are closed at once."""

    connections_per_client: int = 0
    """
    Client connections of one address (/32 or /64), those of trusted networks aside. 0 is no
    limit.
    """

    active_requests: int = 0
    """In flight in one worker, tunnels included; more are answered with 503. 0 is no limit."""

    memory_bytes: int = 0
    """Resident memory of one worker; above it, requests are shed with 503. 0 is no limit."""

    memory_percent: int = 90
    """
    The same, as a share of the memory limit of the container (control group version 2),
    which all of its workers use together. 0 is no limit.
    """

    descriptors_percent: int = 90
    """
    Share of the open files that a worker may have; above it, new connections wait in the
    queue of the listening sockets. 0 only stops at the last one.
    """

    connect_seconds: float = 2.0
    """One connection attempt to an endpoint."""

    connect_race_seconds: float = 0.25
    """Then another endpoint is tried beside it, three at once; the first to connect wins."""

    request_seconds: float = 0.0
    """From the head of a request to the end of its answer; 0 is no limit. Then 504."""

    backend_request_seconds: float = 60.0
    """From a request sent to the head of its answer; then 504."""

    backend_idle_seconds: float = 60.0
    """Between two reads of a response body."""

    tunnel_idle_seconds: float = 3600.0
    """Of a tunnel (WebSocket) in both directions."""

    interim_responses: int = 8
    """Interim responses (103) to one request that are passed on; more are dropped."""

    idle_per_endpoint: int = 128
    """Kept connections to one endpoint, per worker."""

    idle_endpoint_seconds: float = 50.0
    """Of a kept connection to an endpoint; below the usual 60 s of servers."""

    retry_budget_percent: int = 20
    """
    Retries by requests to a backend, over the last ten seconds; the rest fails at once. 0 is no
    retry.
    """

    eject_failures: int = 5
    """
    Requests to an endpoint that fail in a row (reset, timeout, 502, 503, 504); then it is left
    out for a time. 0 never.
    """

    eject_seconds: float = 10.0
    """For so long an endpoint is left out; doubled each time, up to 300 s."""

    eject_percent: int = 50
    """
    Most endpoints of a backend that may be left out at once. If more do not pass their health
    checks, the checks are not followed.
    """

    eject_latency_factor: float = 5.0
    """
    An endpoint whose answers take so many times the median of its backend, and 50 ms more than
    it, is left out as well. 0 never.
    """

    eject_latency_seconds: float = 10.0
    """For so long it must have been that slow."""

    allow_loopback_names: bool = False
    """Endpoints given by name may resolve to loopback or link-local addresses."""

    drain_idle_seconds: float = 1.0
    """While draining, an idle client connection may bring one more request for this long."""
