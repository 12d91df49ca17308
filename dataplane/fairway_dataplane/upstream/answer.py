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
from fairway_dataplane.limits import Limits

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


def read_ordinary(data: bytes, exchange: Exchange, limits: Limits) -> bool:
    """
    Do what :func:`read_answer` does for the head that nearly every response has.

    That is one with a Content-Length and nothing else about framing or the
    connection but perhaps ``Connection: keep-alive``: one pattern validates and
    cuts it. False for any other, of which nothing has been said then.
    """
    found = _ordinary(data)
    if found is None or exchange.method == b"HEAD":
        return False
    end = found.end()
    # No line is shorter than five bytes.
    if end > limits.headers * 5 and (
        end > limits.header_block_bytes or data.count(b"\n", 0, end) > limits.headers + 2
    ):
        return False
    exchange.status = int(found[1])
    exchange.head_bytes = end
    length = found[4]
    if length is None:
        length = found[8]
    # Connection: keep-alive may stay in a head that is passed on as it came: the client's
    # connection goes on too, so it is what we would write.
    exchange.response_length = int(length)
    if not exchange.accepts_verbatim:
        exchange.status_line = data[: found.end(2)]
        exchange.response_fields = _rest(found)
    return True


def _rest(found: re.Match[bytes]) -> Block:
    """Return the fields of an ordinary head but those of framing and connection."""
    return b"".join(part for part in found.group(3, 5, 6, 7, 9) if part)


def read_answer(data: bytes, end: int, exchange: Exchange, limits: Limits) -> Answer:
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
    return _read_final(status, _cut_own_fields(block), exchange, modern=modern)


def _read_status_line(found: re.Match[bytes], exchange: Exchange) -> tuple[int, bool]:
    """Set the line in our version; a phrase with controls is replaced (row 90)."""
    status, phrase = int(found[2]), found[3] or b""
    if _is_phrase(phrase) is None:
        phrase = _PHRASES.get(status, b"")
    exchange.status_line = b"HTTP/1.1 %d %b" % (status, phrase)
    if exchange.status_line != found[0]:
        exchange.accepts_verbatim = False
    return status, found[1] == b"1"


def _read_final(status: int, pieces: list[bytes], exchange: Exchange, *, modern: bool) -> Answer:
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
        if codings and exchange.response_trailers is not None:
            for value in _values(pieces, b"trailer"):
                exchange.response_fields += b"\r\ntrailer: " + value
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

_OPTIONS = frozenset((b"", b"close", b"keep-alive", b"upgrade"))

_status_line = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([^\r\n]*))?").fullmatch
_is_phrase = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch

_cut_own_fields = re.compile(
    rb"\r\n(?=[cCkKpPtTuU])(?i:(connection|content-length|keep-alive|proxy-connection|te|trailer"
    rb"|transfer-encoding|upgrade)):[ \t]*([^\r]*)"
).split

# Lines of no concern: any whose name is not one of those that are cut. Most are told by their
# first letter. Nothing here is tried twice: every repetition is possessive.
_OWN = (
    rb"(?i:connection|content-length|keep-alive|proxy-connection|te|trailer|transfer-encoding"
    rb"|upgrade):"
)
_TOKEN_BYTES = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
_LINES = (
    rb"((?:\r\n(?:[!#$%&'*+\-.^_`|~0-9ABD-JL-OQRSV-Zabd-jl-oqrsv-z]|(?!" + _OWN + rb")[CcKkPpTtUu])"
    rb"[" + _TOKEN_BYTES + rb"]*+:[\t\x20-\x7e\x80-\xff]*+)*+)"
)
_COUNT = rb"\r\n(?i:content-length):[ \t]*+(0|[1-9][0-9]{0,15}+)[ \t]*+"
_KEEP = rb"\r\n(?i:connection):[ \t]*+(?i:keep-alive)[ \t]*+"
_ordinary = re.compile(
    rb"HTTP/1\.1 (?!204|304)([2-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*+)" + _LINES
    + rb"(?:" + _COUNT + _LINES + rb"(?:" + _KEEP + _LINES + rb")?"
    + rb"|" + _KEEP + _LINES + _COUNT + _LINES + rb")\r\n\r\n"
).match  # fmt: skip
