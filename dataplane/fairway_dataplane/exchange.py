r"""
An exchange: one request and its answer, in no version of HTTP.

The downstream protocol fills the request's half, filters change it, the proxy
sends it, the upstream task fills the answer's half, and the downstream
protocol writes that. Fields travel as one *block* of bytes, each line led by
CRLF (``\r\nname: value\r\nname: value``), already checked: a line costs
nothing until somebody asks for it. Framing (Content-Length,
Transfer-Encoding), Host and the fields of one connection are never in a block.

Back-pressure is two calls, ``pause`` and ``resume``, in each direction.
"""

import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from fairway_dataplane.errors import ProxyError
    from fairway_dataplane.table import RouteEntry
    from fairway_dataplane.upstream.backend_task import BackendTask
    from fairway_dataplane.upstream.pool import Backend

COMPILED: Final = not __file__.endswith(".py")
"""Whether the request path runs compiled; every module with a ``.pxd`` does, or none."""

Block: TypeAlias = bytes
"""Checked header fields, each line led by CRLF; empty for none."""

CHUNKED = -1
"""A body whose length is known at its end only."""

UNTIL_CLOSE = -2
"""A response body that the end of the upstream connection ends."""

NO_BODY = -3
"""No body, and no Content-Length either (as opposed to a length of 0)."""


class Exchange:
    """One request and its answer; made by the downstream side, which also ends it."""

    __slots__ = (
        "accepts_chunked", "accepts_verbatim", "attempts", "authority", "backend", "body_length",
        "body_limit", "body_sent", "bytes_in", "bytes_out", "claims", "client_address",
        "encoded_slash", "endpoint", "ends_here", "expects_continue", "fields", "forwarded",
        "head_bytes", "held_body", "host", "keep_alive", "method", "owner", "path", "query",
        "reason", "request_complete", "request_id", "response_edit", "response_fields",
        "response_length", "response_trailers", "retry_codes", "route", "secure", "sent_at",
        "sent_path", "server_name", "sink", "started", "status", "status_line", "trailers", "tried",
        "upgrade", "upstream", "upstream_seconds",
    )  # fmt: skip

    method: bytes
    """As the client wrote it; methods are case-sensitive."""
    authority: bytes
    """The Host field to send; from the client until a filter changes it."""
    host: bytes
    """The host to match: lower case, without port and without a trailing dot."""
    path: bytes
    """Normalised: what is matched is what is forwarded."""
    sent_path: bytes
    """The path as the client wrote it; empty if it is the same. For the log alone."""
    query: bytes
    """With its ``?``; empty for none. The path and the query make the target."""
    fields: Block
    """What the client sent for the backend; :func:`build_field_edit` makes a change."""
    forwarded: Block
    """What Fairway adds beside ``request_id``: X-Forwarded-*, Forwarded, Via."""
    body_length: int
    """Bytes, :data:`CHUNKED` or :data:`NO_BODY`."""
    held_body: bytes
    """The part of the body that came with the head, and more while all of it may be replayed."""
    secure: bool
    """The client came over TLS."""
    server_name: bytes
    """Lower-case server name of the TLS hello; empty without."""
    client_address: str
    """Of the client behind trusted proxies."""
    request_id: bytes
    claims: Sequence[tuple[bytes, bytes]]
    """X-Forwarded-*, Forwarded, X-Real-IP and X-Request-Id as they came; believed if trusted."""
    keep_alive: bool
    """The client can take another answer on its connection."""
    accepts_chunked: bool
    """The client speaks HTTP/1.1 or later: it can take chunks and interim responses."""
    trailers: Block
    """Of the request's body, if they are passed on; known at its end."""
    response_trailers: Block | None
    """Of the response's body; None if the client does not take any."""
    request_complete: bool
    """The whole request has been read."""
    ends_here: bool
    """Max-Forwards has come to 0: to be answered without a backend."""
    expects_continue: bool
    encoded_slash: bool
    """The path has ``%2F`` or ``%5C``; refused unless its route allows it."""
    upgrade: bytes
    """The protocol asked for by Upgrade; empty for none."""
    sink: "ResponseSink"
    """Where the answer goes."""

    route: "RouteEntry | None"
    """Set by the proxy once matched."""
    backend: "Backend | None"
    """Set by the proxy once chosen."""
    body_limit: int
    """Bytes of the request's body that its route allows; 0 is no limit."""
    retry_codes: Collection[int]
    """Statuses that the proxy wants to hear of, by ``ExchangeOwner.disliked``, before the sink."""
    sent_at: float
    """Monotonic seconds when the head of the last attempt was sent."""
    owner: "ExchangeOwner"
    """The proxy: told when an attempt fails or a head has come."""
    upstream: "UpstreamStream | None"
    """The connection that serves this exchange now."""
    endpoint: str
    """``host:port`` of the last attempt."""
    attempts: int
    tried: "tuple[object, ...]"
    """Endpoints that failed; not chosen again while there are others."""
    started: float
    """Monotonic seconds when the head was complete."""
    upstream_seconds: float
    """From the head sent to the head received, of the last attempt; 0.0 without."""
    body_sent: bool
    """More of the body came than ``held_body`` has, or may have: no replay."""
    bytes_in: int
    """Of the request's body so far."""
    bytes_out: int
    """Of the response's body so far."""

    accepts_verbatim: bool
    """The sink can take an upstream head as it came; cleared by whoever changes the head."""
    head_bytes: int
    """Length of the head as it came, of a response passed on verbatim."""
    status: int
    status_line: bytes
    """``HTTP/1.1 200 OK``."""
    response_fields: Block
    """Not set for a response passed on verbatim."""
    response_length: int
    """Bytes, :data:`CHUNKED`, :data:`UNTIL_CLOSE` or :data:`NO_BODY`."""
    response_edit: "ResponseEdit | None"
    """Set by filters (see :func:`add_response_edit`); runs once on each final head."""
    reason: str
    """Why the exchange ended, from the closed set of errors; empty for well."""

    def __init__(self, sink: "ResponseSink") -> None:
        self.sink = sink
        self.fields = b""
        self.query = b""
        self.sent_path = b""
        self.trailers = b""
        self.response_trailers = None
        self.held_body = b""
        self.upgrade = b""
        self.body_length = NO_BODY
        self.expects_continue = False
        self.encoded_slash = False
        self.claims = ()
        self.request_complete = False
        self.ends_here = False
        self.route = None
        self.backend = None
        self.body_limit = 0
        self.retry_codes = ()
        self.upstream = None
        self.endpoint = ""
        self.attempts = 0
        self.tried = ()
        self.upstream_seconds = 0.0
        self.body_sent = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.status = 0
        self.response_edit = None
        self.reason = ""

    def field(self, name: bytes) -> bytes | None:
        """Return the value of the first line of a request field; ``name`` is lower case."""
        found = _line(name).search(self.fields)
        return None if found is None else found[1].rstrip(b" \t")


ResponseEdit: TypeAlias = Callable[[Exchange], None]
"""Change ``status_line`` or ``response_fields``."""


class DirectResponse:
    """An answer that needs no backend; built once with its route or for one request."""

    __slots__ = ("body", "content_type", "fields", "status")

    def __init__(
        self, status: int, *, fields: Block = b"", body: bytes = b"", content_type: bytes = b""
    ) -> None:
        self.status = status
        self.fields = fields
        """Further fields, such as ``\\r\\nlocation: ...``."""
        self.body = body
        self.content_type = content_type


Filter: TypeAlias = Callable[[Exchange], DirectResponse | None]
"""Change the exchange in place; return a response to answer without a backend."""


class ResponseSink(Protocol):
    """Where the answer goes; the downstream side is one."""

    def interim(self, exchange: Exchange, status_line: bytes, fields: Block) -> None:
        """Take an interim response such as 103."""

    def start(self, exchange: Exchange, data: bytes) -> None:
        """
        Take the head, and what was read with it.

        ``data[:exchange.head_bytes]`` is the head as it came if
        ``accepts_verbatim`` still holds, and ``head_bytes`` is where the body
        starts. What is behind it is never more than the body.
        """

    def body(self, data: bytes | memoryview) -> None:
        """Take a part of the body."""

    def end(self) -> None:
        """Take the end of the message; the exchange is over."""

    def fail(self, error: "ProxyError") -> None:
        """Take a failure; the sink answers if nothing was sent, and aborts otherwise."""

    def switch(self, exchange: Exchange, data: bytes) -> None:
        """
        Take a 101: from here bytes go both ways as they come, ``data`` first.

        ``end`` then means that the backend's side is over, and ``end_body`` the client's.
        """

    def respond(self, exchange: Exchange, response: DirectResponse) -> None:
        """Take an answer that needs no backend; the exchange is over."""

    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return address and port of the client, and of the socket of ours that it reached."""

    def wants_body(self) -> None:
        """Send more of the request's body, and 100 Continue first if the client waits for it."""

    def pause(self) -> None:
        """Stop reading the request's body."""

    def resume(self) -> None:
        """Go on reading the request's body."""


class UpstreamStream(Protocol):
    """Where the body of a request goes; one connection to a backend is one."""

    def send_body(self, data: bytes | memoryview) -> None:
        """Send a part of the body, framed as ``body_length`` says."""

    def end_body(self) -> None:
        """Send the end of the body."""

    def pause(self) -> None:
        """Stop reading the response."""

    def resume(self) -> None:
        """Go on reading the response."""

    def abort(self) -> None:
        """Give the exchange up; the connection is closed and nothing more is told."""


class ExchangeOwner(Protocol):
    """Who decides about an exchange between the two sides: the proxy."""

    def failed(self, exchange: Exchange, error: "ProxyError") -> None:
        """Try again or fail the sink; nothing of the answer has been passed on yet."""

    def disliked(self, exchange: Exchange) -> bool:
        """Try again because of the status; False to let the answer pass."""

    def connected(self, exchange: Exchange, task: "BackendTask") -> None:
        """Go on with a connection that was opened for this exchange."""

    def crashed(self, exchange: Exchange, bug: Exception) -> None:
        """End an exchange that met an exception nobody expected."""


def field_value(block: Block, name: bytes) -> bytes | None:
    """Return the value of the first line called ``name`` (lower case), or None."""
    found = _line(name).search(block)
    return None if found is None else found[1].rstrip(b" \t")


def field_values(block: Block, name: bytes) -> list[bytes]:
    """Return the value of each line called ``name`` (lower case), in order."""
    return [value.rstrip(b" \t") for value in _line(name).findall(block)]


def field_pairs(block: Block) -> list[tuple[bytes, bytes]]:
    """Return every line as a name, in lower case, and a value."""
    return [(name.lower(), value.rstrip(b" \t")) for name, value in _every_line(block)]


def build_field_edit(remove: tuple[bytes, ...], add: Block) -> Callable[[Block], Block]:
    """
    Return a function that drops all lines with these names and appends a block.

    To set a field is to remove it and add it. Costs one scan of the block,
    whatever the number of names.
    """
    if not remove:

        def append(block: Block) -> Block:
            return block + add

        return append
    names = b"|".join(re.escape(name) for name in remove)
    drop = re.compile(rb"\r\n(?i:" + names + rb"):[^\r]*").sub

    def edit(block: Block) -> Block:
        return drop(b"", block) + add

    return edit


def add_response_edit(exchange: Exchange, edit: ResponseEdit) -> None:
    """Let ``edit`` run on the head of the answer, after those that came before it."""
    first = exchange.response_edit
    exchange.accepts_verbatim = False
    if first is None:
        exchange.response_edit = edit
        return

    def both(answered: Exchange) -> None:
        first(answered)
        edit(answered)

    exchange.response_edit = both


_every_line = re.compile(rb"\r\n([^:\r]+):[ \t]*([^\r]*)").findall


@lru_cache(maxsize=512)
def _line(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\r\n(?i:" + re.escape(name) + rb"):[ \t]*([^\r]*)")
