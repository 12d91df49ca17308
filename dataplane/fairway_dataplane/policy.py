"""
What a request must be to be forwarded.

httptools is strict about grammar and silent about meaning. Here stands what it
leaves open, under two principles: what two readers could understand
differently is refused, and the form that was matched is the form that is
forwarded. Row numbers in comments are those of docs/http-policy.md.

A head is read in three steps: httptools validates every byte of it; of its
lines those that concern this connection are taken out, and what is left is what
is forwarded; the target and the host are compared with the form that needs no
normalisation.
"""

import re

import httptools

from fairway_dataplane.errors import Reason
from fairway_dataplane.exchange import CHUNKED, NO_BODY, Block, Exchange, field_values
from fairway_dataplane.limits import Limits
from fairway_snapshot.target import (
    Refusal,
    TargetRefused,
    has_encoded_slash,
    normalize_host,
    normalize_path,
)

METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH QUERY PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK "
    b"SEARCH REPORT MKACTIVITY MKCALENDAR CHECKOUT MERGE ACL BIND REBIND UNBIND LINK UNLINK PURGE "
    b"NOTIFY SUBSCRIBE UNSUBSCRIBE M-SEARCH".split()
)
"""What httptools knows and HTTP means; row 50: anything else is 501."""

IDEMPOTENT = frozenset(b"GET HEAD PUT DELETE OPTIONS QUERY PROPFIND SEARCH REPORT".split())
"""RFC 9110 section 9.2.2, and the safe methods of WebDAV; TRACE is never forwarded."""

_REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE"))

_BODY_LIMIT_BYTES = 1 << 53
"""Row 13: above it, readers that count in doubles would disagree."""

VIA_LIMIT = 10
"""Row 77: a request that passed this many proxies is in a loop."""


class RequestReader:
    """Reads request heads; one per worker, because it holds nothing of a request."""

    __slots__ = (
        "_complete", "_feed", "_has_options", "_headers", "_limits", "_line_bytes", "_target_bytes",
    )  # fmt: skip

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._target_bytes = limits.request_line_bytes
        self._line_bytes = limits.header_line_bytes
        self._headers = limits.headers
        self._has_options = limits.merge_slashes or limits.pass_trailers
        self._complete = False
        self._feed = httptools.HttpRequestParser(self).feed_data

    def on_headers_complete(self) -> None:
        """Note that httptools saw the end of the head where we did."""
        self._complete = True

    def read(self, head: bytes, exchange: Exchange) -> Reason | None:
        """
        Fill the request's half of an exchange from a head, or tell why not.

        ``head`` ends with its first empty line, and is not longer than the
        limit of a block. A refused request must be the last on its connection.
        """
        line_end = head.find(b"\r\n")
        if line_end > self._target_bytes:
            return Reason.TARGET_TOO_LONG
        block = head[line_end:-4]
        # No more than tell that there are too many: a block has room for thousands.
        lines = block.split(b"\r\n", self._headers + 1)
        if len(lines) > self._headers + 1 or (
            len(block) > self._line_bytes and max(map(len, lines)) > self._line_bytes
        ):
            return Reason.HEADERS_TOO_LARGE
        self._complete = False
        try:
            self._feed(head)
        except httptools.HttpParserUpgrade:
            self._renew()
        except httptools.HttpParserError:
            if not self._takes_afresh(head):
                return _read(exchange, head[:line_end], lines) or _explain(lines)
        if not self._complete:
            # It waits for more, as for the rest of a preface of HTTP/2 (row 48).
            self._renew()
            return Reason.BAD_REQUEST
        reason = _read(exchange, head[:line_end], lines)
        if self._has_options and reason is None:
            self._apply_options(exchange, block)
        if reason is not None or exchange.body_length != NO_BODY or not exchange.keep_alive:
            # httptools waits for a body, or for nothing more.
            self._renew()
        return reason

    def _apply_options(self, exchange: Exchange, block: Block) -> None:
        """Do what only some installations want."""
        sent = exchange.sent_path or exchange.path
        if self._limits.merge_slashes and b"//" in sent:
            # Before dot segments are removed, as by those who merge: ``..`` takes a whole segment.
            exchange.sent_path = sent
            exchange.path = normalize_path(sent, merge_slashes=True)
        if not self._limits.pass_trailers or not exchange.accepts_chunked:
            return
        if exchange.body_length == CHUNKED:
            for value in field_values(block, b"trailer"):
                exchange.fields += b"\r\ntrailer: " + value
        if not exchange.upgrade and _wants_trailers(block):
            exchange.response_trailers = b""
            exchange.fields += b"\r\nte: trailers\r\nconnection: te"

    def _takes_afresh(self, head: bytes) -> bool:
        """
        Feed a new parser, for what the last one saw may have ended it.

        httptools also ends a connection at fields that are not for us, such as Proxy-Connection.
        """
        self._renew()
        try:
            self._feed(head)
        except httptools.HttpParserUpgrade:
            self._renew()
        except httptools.HttpParserError:
            self._renew()
            return False
        return True

    def _renew(self) -> None:
        self._feed = httptools.HttpRequestParser(self).feed_data


def _wants_trailers(block: Block) -> bool:
    """Tell whether TE says so, RFC 9110 section 10.1.4."""
    return any(
        token.strip(b" \t").lower() == b"trailers"
        for value in field_values(block, b"te")
        for token in value.split(b",")
    )


def _explain(lines: list[bytes]) -> Reason:
    """Name what httptools refused and the rules did not."""
    for line in lines[1:]:
        if _field_line(line) is None:
            return Reason.BAD_HEADER
    return Reason.BAD_REQUEST


def _read(exchange: Exchange, line: bytes, lines: list[bytes]) -> Reason | None:
    plain = plain_line(line)
    if plain is None or plain[2].find(b"/.") >= 0:
        parts = line.split(b" ")
        if len(parts) != 3:
            return Reason.BAD_REQUEST
        reason = _read_line(exchange, parts[0], parts[2]) or _read_fields(exchange, lines)
        return reason or _read_target(exchange, parts[1])
    exchange.method, exchange.path, exchange.query = plain.groups(b"")
    exchange.accepts_chunked = exchange.keep_alive = True
    return _read_fields(exchange, lines)


def _read_line(exchange: Exchange, method: bytes, version: bytes) -> Reason | None:
    """Set the method, and what the version says."""
    exchange.method = method
    if version == b"HTTP/1.1":
        exchange.accepts_chunked = exchange.keep_alive = True
    elif version == b"HTTP/1.0":
        exchange.accepts_chunked = exchange.keep_alive = False
    else:
        return Reason.BAD_VERSION if _is_version(version) else Reason.BAD_REQUEST
    return None if method in METHODS else _refuse_method(method)


def _read_fields(exchange: Exchange, lines: list[bytes]) -> Reason | None:
    """Set authority and host, what goes on, and what the fields of this connection say."""
    kept, own = _sort(lines)
    exchange.fields = b"\r\n".join(kept)
    if len(own) == 1 and own[0][0] == b"host":
        host: bytes | None = own[0][1]
    elif (
        len(own) == 2
        and exchange.keep_alive
        and own[0][0] == b"host"
        and own[1][0] == b"connection"
        and own[1][1] in _PERSISTENCE
    ):
        # As browsers write it, and programs that ask once.
        host = own[0][1]
        exchange.keep_alive = _PERSISTENCE[own[1][1]]
    else:
        fields = _OwnFields(own)
        host = fields.host
        reason = fields.refused or fields.apply(exchange)
        if reason is not None:
            return reason
        exchange.fields = fields.pass_on(exchange.fields)
    return _read_host(exchange, host)


def _sort(lines: list[bytes]) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """
    Return the lines that go on, and names and values of those that concern this connection.

    The latter are the fields of one connection, those that Fairway itself writes, those of
    framing, and names with an underscore. Names are in lower case. Only the first line is
    empty: the end of the request line is before it.
    """
    kept: list[bytes] = []
    own: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line and (_MAY_BE_OWN[line[0]] or _UNDERSCORE in line):
            name, colon, value = line.partition(b":")
            name = name.lower()
            if colon and _is_own(name):
                own.append((name, value))
                continue
        kept.append(line)
    return kept, own


def _is_own(name: bytes) -> bool:
    return name in _OWN or name.startswith(b"x-forwarded-") or _UNDERSCORE in name


def _refuse_method(method: bytes) -> Reason:
    if method in _REFUSED_METHODS:
        return Reason.METHOD_NOT_ALLOWED
    return Reason.UNKNOWN_METHOD if _is_token(method) else Reason.BAD_REQUEST


def _read_host(exchange: Exchange, host: bytes | None) -> Reason | None:
    if host is None:
        exchange.authority = exchange.host = b""
        # HTTP/1.0 may leave it out, and health checks of old load balancers do.
        return Reason.BAD_HOST if exchange.accepts_chunked else None
    exchange.authority = host = host.strip(b" \t")
    try:
        exchange.host = normalize_host(host)
    except TargetRefused:
        return Reason.BAD_HOST
    return None


def _read_target(exchange: Exchange, target: bytes) -> Reason | None:
    """Set path and query, and authority and host if the target names one."""
    try:
        if target[:1] != b"/":
            target = _read_odd_target(exchange, target)
        path, mark, query = target.partition(b"?")
        exchange.path = settled = normalize_path(path)
    except TargetRefused as error:
        return Reason.BAD_HOST if error.reason is Refusal.HOST else Reason.BAD_TARGET
    if settled != path:
        exchange.sent_path = path
    exchange.encoded_slash = has_encoded_slash(settled)
    exchange.query = mark + _unsafe_in_query(_escape, query)
    return None if _is_query(query) else Reason.BAD_TARGET


def _read_odd_target(exchange: Exchange, target: bytes) -> bytes:
    """Return the target of a request whose target is not in origin-form."""
    if target == b"*" and exchange.method == b"OPTIONS":
        # About the server, which answers at the path that stands for all of it.
        exchange.ends_here = True
        return b"/"
    absolute = _absolute_target(target)
    if absolute is None:
        raise TargetRefused(Refusal.NOT_ABSOLUTE)
    # Row 58, RFC 9112 section 3.2.2: the target's host, whatever Host says.
    exchange.authority, target = absolute[1], absolute[2]
    exchange.host = normalize_host(exchange.authority)
    return target if target[:1] == b"/" else b"/" + target


def _escape(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found[0][0]


class _OwnFields:
    """The fields of a request that concern this connection, sorted out; for less common ones."""

    __slots__ = (
        "claims", "codings", "connection", "expect", "host", "lengths", "max_forwards",
        "refused", "upgrade", "via",
    )  # fmt: skip

    def __init__(self, own: list[tuple[bytes, bytes]]) -> None:
        self.refused: Reason | None = None
        self.host: bytes | None = None
        self.connection: list[bytes] = []
        self.lengths: list[bytes] = []
        self.codings: list[bytes] = []
        self.expect: list[bytes] = []
        self.max_forwards: list[bytes] = []
        self.upgrade: list[bytes] = []
        self.via: list[bytes] = []
        self.claims: list[tuple[bytes, bytes]] = []
        for name, value in own:
            if name == b"host":
                if self.host is not None:
                    self.refused = Reason.BAD_HOST
                self.host = value
            elif name == b"connection":
                self.connection.append(value)
            else:
                self._sort(name, value)

    def _sort(self, name: bytes, value: bytes) -> None:
        match name:
            case b"content-length":
                self.lengths.append(value.strip(b" \t"))
            case b"transfer-encoding":
                self.codings.append(value.strip(b" "))
            case b"expect":
                self.expect.append(value.strip(b" \t").lower())
            case b"upgrade":
                self.upgrade.append(value)
            case b"via":
                self.via.append(value)
            case b"max-forwards":
                self.max_forwards.append(value.strip(b" \t"))
            case b"forwarded" | b"x-real-ip" | b"x-request-id":
                self.claims.append((name, value.strip(b" \t")))
            case b"transfer_encoding" | b"content_length":
                self.refused = Reason.BAD_FRAMING
            case _ if name.startswith(b"x-forwarded-"):
                self.claims.append((name, value.strip(b" \t")))
            # What is left goes no further: TE, Trailer, Keep-Alive, Proxy-*, HTTP2-Settings, and
            # names with an underscore, which some servers read as a hyphen (rows 7 and 71).

    def apply(self, exchange: Exchange) -> Reason | None:
        """Set framing, persistence, upgrade and expectation, or tell why not."""
        exchange.claims = self.claims
        nominated = self._nominated(exchange)
        if nominated is None:
            return Reason.BAD_CONNECTION
        reason = self._framing(exchange)
        if reason is not None:
            return reason
        if self.expect and exchange.accepts_chunked:
            if self.expect != [b"100-continue"]:
                return Reason.BAD_EXPECTATION  # row 28
            exchange.expects_continue = exchange.body_length not in (NO_BODY, 0)
        if b"upgrade" in nominated and exchange.accepts_chunked:
            exchange.upgrade = _protocol(self.upgrade)
            if exchange.upgrade and exchange.body_length not in (NO_BODY, 0):
                return Reason.BAD_UPGRADE  # row 74
        self.connection = nominated
        if sum(value.count(b",") + 1 for value in self.via) >= VIA_LIMIT:
            return Reason.LOOP_DETECTED
        return self._count_down(exchange)

    def pass_on(self, fields: Block) -> Block:
        """Return the block without what Connection names, and with what goes on after all."""
        dropped = [name for name in self.connection if name not in _NOT_DROPPED]
        if dropped:
            # No pattern is made of what a client sent: compiling one costs more than this.
            fields = b"".join(
                b"\r\n" + line
                for line in fields.split(b"\r\n")[1:]
                if line.partition(b":")[0].lower() not in dropped
            )
        for value in self.via:
            fields += b"\r\nvia: " + value.strip(b" \t")
        for value in self.max_forwards:
            fields += b"\r\nmax-forwards: " + value
        return fields

    def _nominated(self, exchange: Exchange) -> list[bytes] | None:
        """Return what Connection names; None if that may not be (row 68)."""
        names: list[bytes] = []
        for value in self.connection:
            names += [name.strip(b" \t").lower() for name in value.split(b",")]
        names = [name for name in names if name]
        for name in names:
            if name == b"close":
                exchange.keep_alive = False
            elif name in _NEVER_NOMINATED or not _is_token(name):
                return None
        if not exchange.accepts_chunked:
            exchange.keep_alive = b"keep-alive" in names and b"close" not in names
        return names

    def _framing(self, exchange: Exchange) -> Reason | None:
        """RFC 9112 section 6.3; rows 1 to 14 and 27."""
        if self.codings:
            if self.lengths or len(self.codings) > 1 or not exchange.accepts_chunked:
                return Reason.BAD_FRAMING
            coding = self.codings[0].lower()
            if coding != b"chunked":
                return _refuse_coding(coding)
            exchange.body_length = CHUNKED
        elif self.lengths:
            text = self.lengths[0]
            # isdigit of bytes knows the ten ASCII digits only.
            if len(self.lengths) > 1 or not text.isdigit() or len(text) > 20:
                return Reason.BAD_FRAMING
            length = int(text)
            if length > _BODY_LIMIT_BYTES:
                return Reason.BAD_FRAMING
            exchange.body_length = length
        if exchange.method == b"HEAD" and exchange.body_length not in (NO_BODY, 0):
            return Reason.BAD_FRAMING
        return None

    def _count_down(self, exchange: Exchange) -> Reason | None:
        """Max-Forwards, RFC 9110 section 7.6.2: for OPTIONS and TRACE, and any other ignores it."""
        if exchange.method != b"OPTIONS" or not self.max_forwards:
            return None
        text = self.max_forwards[0]
        if len(self.max_forwards) > 1 or not text.isdigit() or len(text) > 9:
            return Reason.BAD_HEADER
        exchange.ends_here = int(text) == 0
        self.max_forwards = [b"%d" % max(0, int(text) - 1)]
        return None


def _refuse_coding(coding: bytes) -> Reason:
    """Rows 2 to 6: only exactly ``chunked``; the rest differs in how wrong it is."""
    if not _is_coding_list(coding):
        return Reason.BAD_FRAMING
    codings = [part.strip(b" ") for part in coding.split(b",")]
    if b"chunked" in codings[:-1]:
        return Reason.BAD_FRAMING
    return Reason.UNKNOWN_CODING


def _protocol(values: list[bytes]) -> bytes:
    """Return the first protocol asked for that may be forwarded (row 73), as it came."""
    for value in values:
        for part in value.split(b","):
            protocol = part.strip(b" \t")
            name = protocol.lower()
            if name not in (b"h2c", b"h2") and _is_protocol(protocol):
                return protocol
    return b""


_OWN = frozenset(
    b"connection content-length expect forwarded host http2-settings keep-alive max-forwards "
    b"proxy-authorization proxy-connection te trailer transfer-encoding upgrade via x-real-ip "
    b"x-request-id".split()
)
"""Fields of one connection, fields that Fairway itself writes, and the fields of framing."""
_UNDERSCORE = ord("_")
_FIRST_LETTERS = frozenset(name[0] for name in _OWN)
_MAY_BE_OWN = bytes(bytes((code,)).lower()[0] in _FIRST_LETTERS for code in range(256))
"""By the first byte of a line: whether one of those may be there."""
_PERSISTENCE = {b" keep-alive": True, b" Keep-Alive": True, b" close": False}
_NEVER_NOMINATED = frozenset((b"host", b"content-length", b"transfer-encoding"))
_NOT_DROPPED = frozenset((b"close", b"keep-alive", b"upgrade"))

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_is_token = re.compile(_TOKEN).fullmatch
_is_protocol = re.compile(_TOKEN + rb"(?:/" + _TOKEN + rb")?").fullmatch
_is_coding_list = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z\"=;, ]*").fullmatch
_field_line = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*").fullmatch
_is_version = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
_absolute_target = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL).fullmatch
# Row 66: the target's characters that are not escaped and may stay, and those that get escaped.
_is_query = re.compile(rb"(?:[!\x22\x24\x26-\x5b\x5d-\x7e]|%[0-9A-Fa-f]{2})*+").fullmatch
_unsafe_in_query = re.compile(rb"[\x22<>^`{|}]").sub

# A request line of HTTP/1.1, in origin-form, with nothing to decode, to encode or to remove but
# perhaps dot segments: method, path and query.
_METHOD = rb"(GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH) "
_QUERY = rb"(\?(?:[A-Za-z0-9\-._~/!$&'()*+,;=:@?]++|%[0-9A-Fa-f]{2})*+)? HTTP/1\.1"
plain_line = re.compile(_METHOD + rb"(/[A-Za-z0-9\-._~/!$&'()*+,;=:@]*+)" + _QUERY).fullmatch
single_slashes = re.compile(
    _METHOD + rb"((?:/[A-Za-z0-9\-._~!$&'()*+,;=:@]++)*+/?)" + _QUERY
).fullmatch
"""Of these, the lines that merging slashes leaves as they are."""
