"""
What a request must be to be forwarded.

The parser is strict about grammar and silent about meaning. Here stands what
it leaves open, under two principles: what two readers could understand
differently is refused, and the form that was matched is the form that is
forwarded. Row numbers in comments are those of docs/http-policy.md.
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
    """Trailer lines of a chunked body; they are dropped. More is answered with 400."""

    trailer_bytes: int = 8 * 1024
    """Trailer lines together."""

    chunk_extension_bytes: int = 256
    """Extensions of one chunk; they are dropped. More is answered with 400."""

    chunk_extensions_bytes: int = 16 * 1024
    """Extensions of all chunks of one body."""

    body_bytes: int = 0
    """Request body; more is answered with 413. 0 is no limit. A route may set its own."""

    replay_bytes: int = 64 * 1024
    """A body that came whole with its head and is not longer may be sent again."""

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
    """Client connections of one address (/32 or /64); 0 is no limit."""

    connect_seconds: float = 2.0
    """One connection attempt to an endpoint."""

    connect_race_seconds: float = 0.25
    """Then a second endpoint is tried beside the first; the first to connect wins."""

    request_seconds: float = 0.0
    """From the head of a request to the end of its answer; 0 is no limit. Then 504."""

    backend_request_seconds: float = 60.0
    """From a request sent to the head of its answer; then 504."""

    backend_idle_seconds: float = 60.0
    """Between two reads of a response body."""

    tunnel_idle_seconds: float = 3600.0
    """Of a tunnel (WebSocket) in both directions."""

    interim_responses: int = 8
    """Interim responses (1xx) to one request; more is answered with 502."""

    idle_per_endpoint: int = 128
    """Kept connections to one endpoint, per worker."""

    idle_endpoint_seconds: float = 50.0
    """Of a kept connection to an endpoint; below the usual 60 s of servers."""

    retry_budget_percent: int = 20
    """Retries by requests, over the last ten seconds; the rest fails at once."""

    allow_loopback_names: bool = False
    """Endpoints given by name may resolve to loopback or link-local addresses."""
