"""
Why an exchange ended otherwise than it should have.

A reason is one word of a closed set. The status of the answer, the header
``fairway-reason``, the metric label and the access log are all read from that
word, so no caller tests exception types or messages, and no value of a request
can reach a label.
"""

from enum import Enum, StrEnum


class Side(StrEnum):
    """Who is at fault; also a metric label."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    INTERNAL = "internal"


class Retry(Enum):
    """Whether the request may go to another connection."""

    NEVER = "never"
    IF_IDEMPOTENT = "if-idempotent"
    """No byte of an answer came; RFC 9110 section 9.2.2 lets idempotent requests repeat."""
    SAFE = "safe"
    """No byte of the request was sent."""


class Reason(StrEnum):
    """Every word that can stand in ``fairway-reason``; see :data:`STATUS`."""

    BAD_REQUEST = "bad-request"
    BAD_VERSION = "bad-version"
    BAD_TARGET = "bad-target"
    BAD_HEADER = "bad-header"
    BAD_HOST = "bad-host"
    BAD_FRAMING = "bad-framing"
    BAD_CHUNK = "bad-chunk"
    BAD_TRAILER = "bad-trailer"
    BAD_CONNECTION = "bad-connection"
    BAD_UPGRADE = "bad-upgrade"
    BAD_EXPECTATION = "bad-expectation"
    UNKNOWN_METHOD = "unknown-method"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    UNKNOWN_CODING = "unknown-coding"
    TARGET_TOO_LONG = "target-too-long"
    HEADERS_TOO_LARGE = "headers-too-large"
    BODY_TOO_LARGE = "body-too-large"
    HEADER_TIMEOUT = "header-timeout"
    BODY_TIMEOUT = "body-timeout"
    SEND_TIMEOUT = "send-timeout"
    IDLE_TIMEOUT = "idle-timeout"
    CLIENT_CLOSED = "client-closed"
    MISDIRECTED = "misdirected"
    LOOP_DETECTED = "loop-detected"
    NO_ROUTE = "no-route"
    NO_ENDPOINTS = "no-endpoints"
    UPSTREAM_CONNECT = "upstream-connect"
    UPSTREAM_RESET = "upstream-reset"
    UPSTREAM_PROTOCOL = "upstream-protocol"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    REQUEST_TIMEOUT = "request-timeout"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    INTERNAL_ERROR = "internal-error"


STATUS: dict[Reason, int] = {
    Reason.BAD_REQUEST: 400,
    Reason.BAD_VERSION: 505,
    Reason.BAD_TARGET: 400,
    Reason.BAD_HEADER: 400,
    Reason.BAD_HOST: 400,
    Reason.BAD_FRAMING: 400,
    Reason.BAD_CHUNK: 400,
    Reason.BAD_TRAILER: 400,
    Reason.BAD_CONNECTION: 400,
    Reason.BAD_UPGRADE: 400,
    Reason.BAD_EXPECTATION: 417,
    Reason.UNKNOWN_METHOD: 501,
    Reason.METHOD_NOT_ALLOWED: 405,
    Reason.UNKNOWN_CODING: 501,
    Reason.TARGET_TOO_LONG: 414,
    Reason.HEADERS_TOO_LARGE: 431,
    Reason.BODY_TOO_LARGE: 413,
    Reason.HEADER_TIMEOUT: 408,
    Reason.BODY_TIMEOUT: 408,
    Reason.SEND_TIMEOUT: 0,
    Reason.IDLE_TIMEOUT: 0,
    Reason.CLIENT_CLOSED: 0,
    Reason.MISDIRECTED: 421,
    Reason.LOOP_DETECTED: 508,
    Reason.NO_ROUTE: 404,
    Reason.NO_ENDPOINTS: 503,
    Reason.UPSTREAM_CONNECT: 503,
    Reason.UPSTREAM_RESET: 502,
    Reason.UPSTREAM_PROTOCOL: 502,
    Reason.UPSTREAM_TIMEOUT: 504,
    Reason.REQUEST_TIMEOUT: 504,
    Reason.OVERLOADED: 503,
    Reason.DRAINING: 503,
    Reason.INTERNAL_ERROR: 500,
}
"""Status of the answer to each reason; 0 where nobody is left to answer."""


class ProxyError(Exception):
    """One exchange failed; the process is fine."""

    def __init__(
        self, reason: Reason, *, side: Side, retry: Retry = Retry.NEVER, detail: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.side = side
        self.status = STATUS[reason]
        self.retry = retry
        self.detail = detail

    def __str__(self) -> str:
        """Say who failed and how; ``detail`` names a peer and never anything from a request."""
        where = f" ({self.detail})" if self.detail else ""
        return f"{self.side} {self.reason}{where}"
