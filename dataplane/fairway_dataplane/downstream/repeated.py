"""
The header lines that a client sends again and again.

On a connection that is kept, most clients send the same lines with every
request, and only the request line changes. What such lines come to was decided
when they came first, by :class:`~fairway_dataplane.policy.RequestReader`; for
the very same bytes it is taken from here. The one rule: this knows nothing of
its own. It reads the plainest request lines and leaves any other head to the
reader, so that forgetting everything at any time changes no answer.

A connection remembers one block, its own last one, of a bounded size, for as
long as it lives: nothing is ever taken from one client for another, and there
is no table that a client could fill or probe (docs/adr/0014-repeated-heads.md).
"""

from typing import TYPE_CHECKING

from fairway_dataplane.exchange import NO_BODY, Block, Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.policy import plain_line, single_slashes

if TYPE_CHECKING:
    from collections.abc import Sequence

REMEMBERED_BYTES = 2048
"""Longest block that is remembered: what an idle connection may cost beside itself."""


class RepeatedLines:
    """The last header lines of one client connection, and what they came to."""

    __slots__ = ("_authority", "_block", "_claims", "_fields", "_host", "_line_bytes", "_plain")

    def __init__(self, limits: Limits) -> None:
        self._line_bytes = limits.request_line_bytes
        self._plain = single_slashes if limits.merge_slashes else plain_line
        self._block = _NOTHING
        self._authority = self._host = b""
        self._fields: Block = b""
        self._claims: Sequence[tuple[bytes, bytes]] = ()

    def read(self, head: bytes, exchange: Exchange) -> bool:
        """
        Fill the request's half of an exchange if its lines are known; False to have it read.

        ``head`` is whole. After False, whatever was set is set anew by the reader.
        """
        block = self._block
        if not head.endswith(block):
            return False
        found = self._plain(head, 0, len(head) - len(block))
        if found is None:
            return False
        exchange.method, path, exchange.query = found.groups(b"")
        if path.find(b"/.") >= 0 or found.end() > self._line_bytes:
            return False
        exchange.path = path
        exchange.accepts_chunked = exchange.keep_alive = True
        exchange.authority = self._authority
        exchange.host = self._host
        exchange.fields = self._fields
        exchange.claims = self._claims
        return True

    def learn(self, head: bytes, exchange: Exchange) -> None:
        """Remember the lines of a head that was read, if they mean the same with any such line."""
        line_end = head.find(b"\r\n")
        if (
            len(head) - line_end <= REMEMBERED_BYTES
            and exchange.body_length == NO_BODY
            and exchange.keep_alive
            and exchange.accepts_chunked
            and not exchange.upgrade
            and not exchange.expects_continue
            and exchange.response_trailers is None
            # A target that names a host outdoes the lines, and Max-Forwards is for one method.
            and head[len(exchange.method) + 1] == _SLASH
            and exchange.fields.find(b"\r\nmax-forwards:") < 0
        ):
            self._block = head[line_end:]
            self._authority = exchange.authority
            self._host = exchange.host
            self._fields = exchange.fields
            self._claims = exchange.claims


_SLASH = ord("/")
_NOTHING = b"\0"
"""Ends no head."""
