"""
One line for each exchange, written when nobody waits for it.

The request path puts a tuple into a ring and goes on. A tick of the coarse
clock formats what has gathered and writes it without blocking. The one rule: a
reader of the log that is slow or gone costs lines, which are counted, and
never a request.

Lines go out whole, as many at once as a pipe takes in one piece, so the lines
of several workers do not mix. Left out unless asked for: query strings, where
credentials like to hide. No other credential has a field to be in.
"""

import errno
import os
import re
import time
from asyncio import AbstractEventLoop
from collections import deque
from dataclasses import dataclass
from select import PIPE_BUF
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from fairway_dataplane.clock import NEVER, TICK_SECONDS, Clock
from fairway_dataplane.exchange import Exchange, field_value

RING_RECORDS = 16_384
"""Records that may wait to be written."""

RING_BYTES = 8 * 1024 * 1024
"""Request fields that waiting records may hold on to."""

TURN_RECORDS = 128
"""Records formatted in one turn of the loop: less than a millisecond."""

TEXT_LIMIT = 1024
"""Characters of a field that the client wrote; the rest is cut off."""

Format: TypeAlias = Literal["json", "combined", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings:
    """What is logged, and how."""

    format: Format = "json"
    """``json`` with OpenTelemetry's names, ``combined`` as of Apache and nginx, or ``off``."""

    statuses: tuple[str, ...] = ()
    """Log only these, as ``404`` or ``5xx``; none given is all."""

    sample: float = 1.0
    """Share of those to log, evenly spread."""

    queries: bool = False
    """Log query strings too; they often hold credentials."""

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit, with what to write instead."""
        for status in self.statuses:
            if re.fullmatch(r"[1-5](xx|[0-9]{2})", status) is None:
                raise ValueError(f"statuses: {status!r} is not a status; write 404 or 5xx")
        if not 0 <= self.sample <= 1:
            raise ValueError(f"sample: {self.sample} is not a share; write 0 to 1")


class AccessLog:
    """The access log of one worker."""

    __slots__ = (
        "_clock", "_credit", "_descriptor", "_format", "_held_bytes", "_loop", "_pieces",
        "_queries", "_ring", "_sample", "_turn", "_wanted", "deadline", "dropped", "slot",
        "snapshot",
    )  # fmt: skip

    dropped: int
    """Lines that were lost because the log was read too slowly, or by nobody."""

    snapshot: str
    """Digest of the snapshot in use, for people; written by whoever swaps the tables."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        clock: Clock,
        settings: AccessLogSettings,
        descriptor: int,
    ) -> None:
        """``descriptor`` stays the caller's; it may be shared (see :func:`_own`)."""
        self._loop = loop
        self._clock = clock
        self._sample = settings.sample
        self._credit = 0.0
        self._queries = settings.queries
        self._wanted = _statuses(settings.statuses)
        self._format = _combined if settings.format == "combined" else _json
        self._descriptor = -1 if settings.format == "off" else _own(descriptor)
        self._ring: deque[Record] = deque()
        self._held_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._turn = False
        self.deadline = NEVER
        self.slot = 0
        self.dropped = 0
        self.snapshot = ""
        clock.watch(self)

    def record(self, exchange: Exchange) -> None:
        """Note an exchange that is over, if it is to be logged."""
        if self._descriptor < 0 or exchange.status not in self._wanted:
            return
        self._credit += self._sample
        if self._credit < 1.0:
            return
        self._credit -= 1.0
        fields = exchange.fields
        if len(self._ring) >= RING_RECORDS or self._held_bytes > RING_BYTES:
            self.dropped += 1
            return
        self._held_bytes += len(fields)
        backend = exchange.backend
        if not self._ring and self.deadline is NEVER:
            self.deadline = self._clock.now + TICK_SECONDS
            self._clock.hasten(self)
        self._ring.append(
            Record(
                exchange.started,
                time.monotonic(),
                exchange.method,
                exchange.sent_path or exchange.path,
                exchange.path if exchange.attempts and exchange.sent_path else b"",
                exchange.query if self._queries else b"",
                exchange.status,
                exchange.host,
                exchange.client_address,
                fields,
                "" if exchange.route is None else exchange.route.name,
                "" if backend is None else backend.id,
                exchange.endpoint,
                self.snapshot,
                exchange.upstream_seconds,
                exchange.bytes_in,
                exchange.bytes_out,
                exchange.attempts,
                exchange.request_id,
                exchange.reason,
                exchange.secure,
                exchange.accepts_chunked,
            )
        )

    def expire(self, now: float) -> None:  # noqa: ARG002 - called by the clock
        """Write what has gathered."""
        self.deadline = NEVER
        if not self._turn:
            self._take_turn()

    def close(self) -> None:
        """Write what can be written at once, and let go of the descriptor."""
        self._clock.forget(self)
        while self._descriptor >= 0 and (self._ring or self._pieces):
            self._format_some()
            if not self._send():
                break
        self._give_up()

    def _take_turn(self) -> None:
        """Write a part; the rest in the next turn of the loop, or in a tick if nobody reads."""
        self._turn = False
        if self._descriptor < 0:
            return
        if not self._pieces:
            self._format_some()
        if not self._send():
            self.deadline = self._clock.now + TICK_SECONDS
            self._clock.hasten(self)
        elif self._ring:
            self._turn = True
            self._loop.call_soon(self._take_turn)

    def _format_some(self) -> None:
        """Make a turn's worth of records into pieces that a pipe takes whole or not at all."""
        lines: list[bytes] = []
        size = 0
        offset = time.time() - time.monotonic()
        for _ in range(min(TURN_RECORDS, len(self._ring))):
            record = self._ring.popleft()
            self._held_bytes -= len(record.fields)
            line = self._format(record, offset, self._queries)
            if size + len(line) > PIPE_BUF and lines:
                self._pieces.append(b"".join(lines))
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            self._pieces.append(b"".join(lines))

    def _send(self) -> bool:
        """Write the pieces without blocking; tell whether none is left."""
        pieces = self._pieces
        while pieces:
            try:
                sent = os.write(self._descriptor, pieces[0])
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EBADF):
                    self._give_up()
                    return True
                sent = len(pieces[0])  # Such as a full disk: later lines may fare better.
                self.dropped += pieces[0].count(b"\n")
            if sent == len(pieces[0]):
                pieces.popleft()
            else:
                pieces[0] = pieces[0][sent:]
        return True

    def _give_up(self) -> None:
        """Drop what waits: nobody reads, or nothing more is to be written."""
        self.dropped += len(self._ring) + sum(piece.count(b"\n") for piece in self._pieces)
        self._ring.clear()
        self._pieces.clear()
        self._held_bytes = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Record(NamedTuple):
    """What is kept of an exchange until its line is written."""

    started: float
    ended: float
    method: bytes
    path: bytes
    """As the client wrote it."""
    forwarded_path: bytes
    """As the backend read it; empty if that is the same, or nobody did."""
    query: bytes
    status: int
    host: bytes
    client: str
    fields: bytes
    route: str
    backend: str
    endpoint: str
    snapshot: str
    upstream_seconds: float
    bytes_in: int
    bytes_out: int
    attempts: int
    request_id: bytes
    reason: str
    secure: bool
    modern: bool
    """HTTP/1.1 or later."""


class _Line(msgspec.Struct, omit_defaults=True, gc=False):
    """A line of JSON; what is empty is left out."""

    timestamp: str
    method: str = msgspec.field(name="http.request.method")
    scheme: str = msgspec.field(name="url.scheme")
    path: str = msgspec.field(name="url.path")
    status: int = msgspec.field(name="http.response.status_code")
    version: str = msgspec.field(name="network.protocol.version")
    client: str = msgspec.field(name="client.address")
    duration_ms: float
    bytes_in: int
    bytes_out: int
    attempts: int
    request_id: str
    termination: str
    server: str = msgspec.field(name="server.address", default="")
    forwarded_path: str = ""
    query: str = msgspec.field(name="url.query", default="")
    user_agent: str = msgspec.field(name="user_agent.original", default="")
    route: str = ""
    backend: str = ""
    endpoint: str = ""
    snapshot: str = ""
    upstream_ms: float = 0.0


_encode = msgspec.json.Encoder().encode


def _json(record: Record, offset: float, queries: bool) -> bytes:  # noqa: ARG001, FBT001 - a format
    line = _Line(
        timestamp=_timestamp(record.started + offset),
        method=record.method.decode(),
        scheme="https" if record.secure else "http",
        path=_text(record.path),
        status=record.status,
        version="1.1" if record.modern else "1.0",
        client=record.client,
        duration_ms=round((record.ended - record.started) * 1000, 3),
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        attempts=record.attempts,
        request_id=_text(record.request_id),
        termination=record.reason or "ok",
        server=record.host.decode(),
        forwarded_path="" if record.forwarded_path == record.path else _text(record.forwarded_path),
        query=_text(record.query[1:]),
        user_agent=_text(field_value(record.fields, b"user-agent") or b""),
        route=record.route,
        backend=record.backend,
        endpoint=record.endpoint,
        snapshot=record.snapshot,
        upstream_ms=round(record.upstream_seconds * 1000, 3),
    )
    return _encode(line) + b"\n"


def _combined(record: Record, offset: float, queries: bool) -> bytes:  # noqa: FBT001 - a format
    referer = field_value(record.fields, b"referer") or b"-"
    if not queries:
        # The page that a link was on may have had a token in its query.
        referer = referer.partition(b"?")[0]
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(record.started + offset))
    target = _quoted(record.path + record.query)
    agent = _quoted(field_value(record.fields, b"user-agent") or b"-")
    return (
        f"{record.client} - - [{when}] "
        f'"{record.method.decode()} {target} HTTP/{"1.1" if record.modern else "1.0"}" '
        f'{record.status} {record.bytes_out or "-"} "{_quoted(referer)}" "{agent}"\n'
    ).encode()


def _timestamp(seconds: float) -> str:
    """Return RFC 3339 with milliseconds."""
    whole = int(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{int((seconds - whole) * 1000):03}Z"


def _text(data: bytes) -> str:
    return data[:TEXT_LIMIT].decode("utf-8", "replace")


def _quoted(data: bytes) -> str:
    """Return text that cannot end its quotes or its line."""
    return _SPECIAL.sub(lambda found: f"\\x{ord(found[0]):02x}", _text(data))


_SPECIAL = re.compile(r'["\\\x00-\x1f\x7f]')


def _statuses(patterns: tuple[str, ...]) -> frozenset[int]:
    return frozenset(
        status
        for status in range(1000)
        if not patterns
        or any(pattern in (f"{status}", f"{status // 100}xx") for pattern in patterns)
    )


def _own(descriptor: int) -> int:
    """
    Return a descriptor that does not block.

    Opened anew where that is possible, because not to block is a property that
    all who inherited the old one would share. Where it is not (the pipe of a
    container belongs to another user, a socket has no path), they do share it.
    """
    try:
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
    except OSError:
        mine = os.dup(descriptor)
        os.set_blocking(mine, False)
        return mine
