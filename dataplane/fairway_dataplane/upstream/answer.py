"""
The head of a response: what it says, and whether it may be believed.

A backend is trusted no more than a client where framing is concerned: a head
that two readers could understand differently is a broken backend, and the
request is answered with 502. Rows 78 to 90 of docs/http-policy.md. A head that
needs no change is passed on as it came.
"""

import re
from http import HTTPStatus
from typing import Final, TypeAlias

import httptools

from fairway_dataplane.exchange import CHUNKED, NO_BODY, UNTIL_CLOSE, Block, Exchange
from fairway_dataplane.policy import Limits

Answer: TypeAlias = int
"""What a head means for the connection it came on; plain integers, as enums are slow to read."""

REUSABLE: Final = 0
"""Final; the connection can serve another request after the body."""
LAST: Final = 1
"""Final; the connection ends with it."""
INTERIM: Final = 2
SWITCHING: Final = 3
REFUSED: Final = 4


class _Grammar:
    """No callbacks: httptools only validates."""


_GRAMMAR = _Grammar()


def read_answer(  # noqa: C901 - a call would cost what a branch does not
    data: bytes, end: int, exchange: Exchange, limits: Limits
) -> Answer:
    """
    Fill the response's half of an exchange from a head that ends at ``end``.

    ``end`` is where the empty line begins. Sets ``status``, ``status_line``,
    ``response_length``, ``head_bytes`` and, unless the head can be passed on as
    it came, ``response_fields``. The body of a response to HEAD, and of 204 and
    304, has no bytes whatever the head says.
    """
    try:
        httptools.HttpResponseParser(_GRAMMAR).feed_data(data[: end + 4])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return REFUSED
    line_end = data.find(b"\r\n")
    line = data[:line_end]
    status = _STATUS_LINES.get(line)
    modern = True
    if status is not None:
        exchange.status_line = line
    else:
        found = _status_line(line)
        if found is None:
            return REFUSED
        status, modern = _read_status_line(found, exchange)
    block = data[line_end:end]
    # No line is shorter than five bytes.
    if len(block) > limits.headers * 5 and block.count(b"\n") > limits.headers:
        return REFUSED
    if status < 200:
        return _read_interim(status, block, exchange)
    exchange.status = status
    exchange.head_bytes = end + 4
    pieces = _cut_own_fields(block)
    if modern and len(pieces) > 1 and exchange.method != b"HEAD" and status not in _BODILESS:
        # By far the most frequent: a length, and perhaps the wish to go on.
        length = pieces[2]
        if len(pieces) > 4 or pieces[1] not in _LENGTH:
            length = _length_beside_keep_alive(pieces)
            exchange.accepts_verbatim = False
        if length.isdigit() and len(length) < 17 and (length[:1] != b"0" or length == b"0"):
            exchange.response_length = int(length)
            if not exchange.accepts_verbatim:
                exchange.response_fields = b"".join(pieces[::3])
            return REUSABLE
    return _read_seldom(status, pieces, exchange, modern=modern)


def _read_status_line(found: re.Match[bytes], exchange: Exchange) -> tuple[int, bool]:
    """Set the line in our version; a phrase with controls is replaced (row 90)."""
    status, phrase = int(found[2]), found[3] or b""
    if _is_phrase(phrase) is None:
        phrase = _PHRASES.get(status, b"")
    exchange.status_line = b"HTTP/1.1 %d %b" % (status, phrase)
    if exchange.status_line != found[0]:
        exchange.accepts_verbatim = False
    return status, found[1] == b"1"


def _length_beside_keep_alive(pieces: list[bytes]) -> bytes:
    """Return the length if beside it there is only ``Connection: keep-alive``."""
    if len(pieces) != 7:
        return b""
    first, first_value, second, second_value = pieces[1], pieces[2], pieces[4], pieces[5]
    if first in _LENGTH and second in _CONNECTION and second_value in _KEEP_ALIVE:
        return first_value
    if second in _LENGTH and first in _CONNECTION and first_value in _KEEP_ALIVE:
        return second_value
    return b""


def _read_seldom(status: int, pieces: list[bytes], exchange: Exchange, *, modern: bool) -> Answer:
    """Settle framing and persistence by RFC 9112 section 6.3."""
    exchange.accepts_verbatim = False
    lengths = _values(pieces, b"content-length")
    codings = _values(pieces, b"transfer-encoding")
    named = [
        token.strip(b" \t").lower()
        for value in _values(pieces, b"connection")
        for token in value.split(b",")
    ]
    exchange.response_fields = _without(b"".join(pieces[::3]), named)
    length = NO_BODY
    if lengths:
        text = lengths[0]
        if len(lengths) > 1 or codings or not text.isdigit() or len(text) > 16:
            return REFUSED
        length = int(text)
    if codings and (not modern or [coding.lower() for coding in codings] != [b"chunked"]):
        return REFUSED  # row 80
    if exchange.method == b"HEAD" or status in _BODILESS:
        exchange.response_length = NO_BODY
        if lengths and status != 204:
            # What the length would be: for the client to know, not for framing.
            exchange.response_fields += b"\r\ncontent-length: %d" % length
    elif codings or lengths:
        exchange.response_length = CHUNKED if codings else length
    else:
        exchange.response_length = UNTIL_CLOSE
        return LAST
    keep_alive = b"close" not in named and (modern or b"keep-alive" in named)
    return REUSABLE if keep_alive else LAST


def _values(pieces: list[bytes], name: bytes) -> list[bytes]:
    return [
        pieces[at + 1].strip(b" \t")
        for at in range(1, len(pieces), 3)
        if pieces[at].lower() == name
    ]


def _read_interim(status: int, block: Block, exchange: Exchange) -> Answer:
    pieces = _cut_own_fields(block)
    fields = b"".join(pieces[::3])
    if status != 101:
        exchange.response_fields = fields
        return INTERIM
    protocols = [
        pieces[at + 1].strip(b" \t").lower()
        for at in range(1, len(pieces), 3)
        if pieces[at].lower() == b"upgrade"
    ]
    if not exchange.upgrade or protocols != [exchange.upgrade.lower()]:
        return REFUSED  # row 76
    exchange.status = 101
    exchange.response_fields = fields
    return SWITCHING


def _without(fields: Block, names: list[bytes]) -> Block:
    names = [name for name in names if name not in _OPTIONS]
    if not names:
        return fields
    return b"".join(
        b"\r\n" + line
        for line in fields.split(b"\r\n")[1:]
        if line.partition(b":")[0].lower() not in names
    )


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}

_STATUS_LINES = {
    b"HTTP/1.1 %d %b" % (status, phrase): status
    for status, phrase in _PHRASES.items()
    if 100 <= status < 600
}

_BODILESS = frozenset((204, 304))

_LENGTH = frozenset((b"Content-Length", b"content-length"))

_CONNECTION = frozenset((b"Connection", b"connection"))

_KEEP_ALIVE = frozenset((b"keep-alive", b"Keep-Alive"))

_OPTIONS = frozenset((b"", b"close", b"keep-alive", b"upgrade"))

_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([^\r\n]*))?").fullmatch
_is_phrase = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch

_cut_own_fields = re.compile(
    rb"\r\n(?=[cCkKpPtTuU])(?i:(connection|content-length|keep-alive|proxy-connection|te|trailer"
    rb"|transfer-encoding|upgrade)):[ \t]*([^\r]*)"
).split
