"""
Chunked bodies, read strictly and without copying.

Both directions use it: a body is taken out of one side's chunks and put into
chunks of our own for the other side, so no chunk size or extension of one peer
ever reaches the other, and a trailer only where that is asked for. RFC 9112
section 7.1, rows 15 to 26.
"""

import re

from fairway_dataplane.errors import Reason
from fairway_dataplane.exchange import Block
from fairway_dataplane.limits import Limits

LAST_CHUNK = b"0\r\n\r\n"

_SIZE, _DATA, _DATA_END, _TRAILER, _OVER = range(5)

_SIZE_LIMIT_BYTES = 1 << 31

_size_line = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*)?\r\n").fullmatch
_trailer_line = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t\x20-\x7e\x80-\xff]*\r\n").fullmatch

_FORBIDDEN_TRAILERS = frozenset(
    b"authorization connection content-length cookie expect forwarded host keep-alive "
    b"proxy-authorization set-cookie te trailer transfer-encoding upgrade".split()
)
"""Row 26, RFC 9110 section 6.5.1: in a header these would have been decided on already."""


_LEADING = frozenset(
    b"accept accept-encoding age cache-control content-encoding content-location content-range "
    b"content-type date expires http2-settings location max-forwards pragma proxy-authenticate "
    b"proxy-connection range retry-after vary via warning www-authenticate x-real-ip "
    b"x-request-id".split()
)
"""The same section: what modifies, controls or names the content comes too late; dropped."""


class ChunkDecoder:
    """The state of one chunked body between two reads."""

    __slots__ = (
        "_extension_bytes", "_left", "_limits", "_line", "_state", "_trailer_bytes",
        "_trailer_lines", "refused", "rest", "trailers",
    )  # fmt: skip

    refused: Reason | None
    """Why the body is not one; nothing more may be fed then."""

    rest: bytes | None
    """None until the body is over; then what was read behind it."""

    trailers: Block
    """Those that may be passed on, if any are."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._extension_bytes = 0
        self._trailer_lines = 0
        self._trailer_bytes = 0
        self.refused = None
        self.rest = None
        self.trailers = b""

    def feed(self, data: bytes) -> list[bytes | memoryview]:
        """Return the parts of the payload in ``data``; see ``refused`` and ``rest`` afterwards."""
        parts: list[bytes | memoryview] = []
        at, end = 0, len(data)
        while at < end and self.refused is None:
            if self._state == _DATA:
                take = min(self._left, end - at)
                parts.append(data if take == end else memoryview(data)[at : at + take])
                at += take
                self._left -= take
                if not self._left:
                    self._state = _DATA_END
            elif self._state == _DATA_END:
                at = self._read_data_end(data, at)
            else:
                at = self._read_line(data, at)
                if self._state == _OVER:
                    self.rest = data[at:]
                    break
        return parts

    def _read_data_end(self, data: bytes, at: int) -> int:
        wanted = 2 - len(self._line)
        line = self._line + data[at : at + wanted]
        if line == b"\r\n":
            self._line = b""
            self._state = _SIZE
        elif line == b"\r":
            self._line = line
        else:
            self.refused = Reason.BAD_CHUNK
        return at + wanted

    def _read_line(self, data: bytes, at: int) -> int:
        """Take a size or a trailer line, or keep its beginning."""
        newline = data.find(b"\n", at)
        after = len(data) if newline < 0 else newline + 1
        line = data[at:after]
        if self._line:
            line = self._line + line
        sizes = self._state == _SIZE
        limit = self._limits.chunk_extension_bytes + 18 if sizes else self._limits.trailer_bytes
        if len(line) > limit:
            self.refused = Reason.BAD_CHUNK if sizes else Reason.BAD_TRAILER
        elif newline < 0:
            self._line = line
        else:
            self._line = b""
            if sizes:
                self._take_size(line)
            else:
                self._take_trailer(line)
        return after

    def _take_size(self, line: bytes) -> None:
        found = _size_line(line)
        if found is None:
            self.refused = Reason.BAD_CHUNK
            return
        size = int(found[1], 16)
        if found[2] is not None:
            self._extension_bytes += len(found[2])
        if (
            size > _SIZE_LIMIT_BYTES
            or self._extension_bytes > self._limits.chunk_extensions_bytes
            or (found[2] is not None and len(found[2]) > self._limits.chunk_extension_bytes)
        ):
            self.refused = Reason.BAD_CHUNK
        elif size:
            self._left = size
            self._state = _DATA
        else:
            self._state = _TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._state = _OVER
            return
        self._trailer_lines += 1
        self._trailer_bytes += len(line)
        found = _trailer_line(line)
        if (
            found is None
            or self._trailer_lines > self._limits.trailer_lines
            or self._trailer_bytes > self._limits.trailer_bytes
            or found[1].lower() in _FORBIDDEN_TRAILERS
        ):
            self.refused = Reason.BAD_TRAILER
        elif self._limits.pass_trailers and _may_trail(found[1].lower()):
            self.trailers += b"\r\n" + line[:-2]


def _may_trail(name: bytes) -> bool:
    return not (name in _LEADING or b"_" in name or name.startswith((b"x-forwarded-", b"if-")))


def last_chunk(trailers: Block | None) -> bytes:
    """Return the end of a chunked body."""
    return b"0" + trailers + b"\r\n\r\n" if trailers else LAST_CHUNK


def chunk(parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the parts as one chunk, ready for ``writelines``; nothing for no bytes."""
    size = sum(map(len, parts))
    return [b"%x\r\n" % size, *parts, b"\r\n"] if size else []
