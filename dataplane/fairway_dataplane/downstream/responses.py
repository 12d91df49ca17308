"""
Answers that Fairway gives itself: small, honest, and the same everywhere.

They name a reason from a closed set and the request's id, and never a value
from the request, an address or a version.
"""

from http import HTTPStatus

from fairway_dataplane.errors import STATUS, Reason
from fairway_dataplane.exchange import DirectResponse, field_value

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def status_line(status: int) -> bytes:
    """Return the first line of a response."""
    return b"HTTP/1.1 %d %b" % (status, _PHRASES.get(status, b""))


def error_response(reason: Reason, *, request_id: bytes, fields: bytes) -> DirectResponse:
    """
    Return the answer for a reason.

    ``fields`` are those of the request, empty if they could not be read; a client that
    accepts JSON gets JSON.
    """
    status = STATUS[reason]
    word = reason.value.encode()
    extra = b"\r\nfairway-reason: " + word
    if request_id:
        extra += b"\r\nx-request-id: " + request_id
    if reason is Reason.METHOD_NOT_ALLOWED:
        extra += b"\r\nallow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"
    if reason is Reason.OVERLOADED:
        extra += b"\r\nretry-after: 1"
    accept = field_value(fields, b"accept")
    if accept is not None and b"application/json" in accept.lower():
        return DirectResponse(
            status,
            fields=extra,
            body=b'{"status":%d,"reason":"%b","request_id":"%b"}\n' % (status, word, request_id),
            content_type=b"application/json",
        )
    body = b"%d %b: %b" % (status, _PHRASES.get(status, b""), word)
    if request_id:
        body += b" (request " + request_id + b")"
    return DirectResponse(
        status, fields=extra, body=body + b"\n", content_type=b"text/plain; charset=utf-8"
    )


def serialise(response: DirectResponse, *, connection: bytes, head_only: bool) -> bytes:
    """Return a whole response; ``connection`` is a line for the head, or empty."""
    head = status_line(response.status) + response.fields
    if response.body and response.content_type:
        head += b"\r\ncontent-type: " + response.content_type
    if response.status not in (204, 304):
        head += b"\r\ncontent-length: %d" % len(response.body)
    head += connection + b"\r\n\r\n"
    if head_only or response.status in (204, 304):
        return head
    return head + response.body
