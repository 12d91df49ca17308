"""
What the access log says of a request that could not be read.

Nothing here decides anything: the request has been refused. The one rule is
that what is shown was looked at only as far as needed to show it safely: a
method if it is one, a path if it looks like one, and never a query.
"""

import re
from time import monotonic

from fairway_dataplane.exchange import Exchange, ResponseSink
from fairway_dataplane.policy import METHODS

UNKNOWN_METHOD = b"_OTHER"
"""OpenTelemetry's word for a method that is not known."""


def describe_refused(sink: ResponseSink, head: bytes) -> Exchange:
    """Return an exchange that tells of ``head``, as much of it as came; the rest is the sink's."""
    exchange = Exchange(sink)
    found = _line(head)
    method = b"" if found is None else found[1]
    exchange.method = method if method in METHODS else UNKNOWN_METHOD
    exchange.path = b"" if found is None else found[2]
    exchange.host = b""
    exchange.secure = False
    exchange.accepts_chunked = head.find(b" HTTP/1.0\r\n", 0, _LINE_BYTES) < 0
    exchange.started = monotonic()
    return exchange


_LINE_BYTES = 16 * 1024

# No query, no fragment, and nothing of an authority, which may hold credentials.
_line = re.compile(rb"(?:\r?\n){0,3}([A-Za-z-]{1,32}) (/[^ ?#\r\n]{0,1024}|\*?)").match
