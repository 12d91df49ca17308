"""
The response head that an endpoint sends again and again.

Of what an endpoint answers within a second, much has the very same head. What
such a head means was decided when it came first, by
:func:`~fairway_dataplane.upstream.answer.read_ordinary`; for the same bytes it
is taken from here. The one rule: what is remembered is a reading, never an answer.
The bytes that go to the client are those that came for it, and forgetting
everything at any time changes none of them.

A connection remembers one head, its own last one, of a bounded size
(docs/adr/0014-repeated-heads.md).
"""

from fairway_dataplane.exchange import Block, Exchange

REMEMBERED_BYTES = 2048
"""Longest head that is remembered: what an idle connection may cost beside itself."""


class RepeatedHead:
    """The last head of one connection to an endpoint, and what it means."""

    __slots__ = ("_fields", "_head", "_length", "_status", "_status_line")

    def __init__(self) -> None:
        self._head = _NOTHING
        self._length = 0
        self._status = 0
        self._status_line = b""
        self._fields: Block | None = None

    def read(self, data: bytes, exchange: Exchange) -> bool:
        """
        Fill the response's half of an exchange if ``data`` begins with the known head.

        The connection can serve another request after such an answer. False to have it read.
        """
        head = self._head
        if not data.startswith(head) or head is _NOTHING or exchange.method == b"HEAD":
            return False
        if not exchange.accepts_verbatim:
            fields = self._fields
            if fields is None:
                return False
            exchange.status_line = self._status_line
            exchange.response_fields = fields
        exchange.status = self._status
        exchange.head_bytes = len(head)
        exchange.response_length = self._length
        return True

    def learn(self, data: bytes, exchange: Exchange) -> None:
        """Remember a head that :func:`~fairway_dataplane.upstream.answer.read_ordinary` read."""
        size = exchange.head_bytes
        if size > REMEMBERED_BYTES:
            return
        self._head = data[:size]
        self._status = exchange.status
        self._length = exchange.response_length
        # Only an exchange that cannot take the head as it came has its parts.
        if exchange.accepts_verbatim:
            self._fields = None
        else:
            self._status_line = exchange.status_line
            self._fields = exchange.response_fields


_NOTHING = b"\0"
"""No head that was read, but what a broken backend may well begin with."""
