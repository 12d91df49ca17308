"""
What must hold of every stream of a client, whatever was sent.

We may refuse what h11 takes: that is policy. We may never take what it refuses,
read anything otherwise than it does, or pass on what it would read otherwise.
"""

import re
from dataclasses import dataclass, field

from fairway_dataplane.exchange import CHUNKED, NO_BODY, Exchange
from fairway_snapshot.target import TargetRefused, normalize_path
from tests.fairway_dataplane.fuzz.oracle import (
    Message,
    RequestOracle,
    Violation,
    find_statuses,
    read_requests,
)
from tests.fairway_dataplane.fuzz.rig import Link, Rig
from tests.fairway_dataplane.fuzz.streams import RequestCase

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"

REFUSALS = frozenset((400, 405, 413, 414, 417, 431, 501, 505, 508))
"""With which a request may be refused; 204 and 200 are answers."""

_OURS = frozenset(
    b"connection content-length expect forwarded host http2-settings keep-alive max-forwards "
    b"proxy-connection proxy-authorization te trailer transfer-encoding upgrade via x-real-ip "
    b"x-request-id".split()
)
"""Request fields that are not passed on as they are."""


@dataclass
class Sent:
    """What came of the requests of a client."""

    begun: list[Exchange]
    statuses: list[int] = field(default_factory=list)
    forwarded: dict[bytes, Message] = field(default_factory=dict)
    """By request id."""
    tunnelled: bytes | None = None
    open: bool = False
    """The client can send more, and it would be read as a request or a body."""

    def verdict(self) -> object:
        """Return what must not depend on how the stream is cut."""
        whole = [
            (message.first, message.target, bytes(message.body))
            for message in self.forwarded.values()
            if message.complete
        ]
        # Of two reasons to refuse a stream, the first to arrive counts.
        statuses = [400 if status in REFUSALS else status for status in self.statuses]
        return statuses, whole, self.tunnelled, self.open


def check_request(rig: Rig, case: RequestCase) -> str:
    """Raise :class:`Violation`, or return in a word what came of the stream."""
    raw = b"".join(case.segments)
    expected = read_requests(raw)
    sent = _send(rig, case.segments, backend=case.backend)
    _compare_requests(sent, expected, raw)
    if len(case.segments) > 1:
        whole = _send(rig, (raw,), backend=case.backend)
        # What is answered before it is whole ends its connection, and need not come whole.
        early = any(exchange.status and not exchange.request_complete for exchange in sent.begun)
        if whole.verdict() != sent.verdict() and not early:
            raise Violation(f"cut: {sent.verdict()}, whole: {whole.verdict()}")
    if sent.statuses and sent.statuses[-1] in REFUSALS:
        return f"refused {sent.statuses[-1]}" + (" by both" if expected.refused else "")
    if sent.tunnelled is not None:
        return "switched"
    return "answered" if sent.statuses else "waiting"


def _send(rig: Rig, segments: tuple[bytes, ...], *, backend: str) -> Sent:
    rig.begin()
    sent = Sent(rig.begun)
    reader = _RequestBackend(rig, sent, backend)
    for segment in segments:
        if rig.client.over or rig.client.paused:
            break
        rig.from_client(segment)
        reader.serve()
    client = rig.client
    statuses = find_statuses(bytes(client.written))
    sent.statuses = [int(status) for status in statuses if status != b"100"]
    sent.open = not (client.over or client.half_closed or client.paused)
    rig.end_client()
    reader.check_ends()
    return sent


class _RequestBackend:
    """Reads with h11 what is forwarded, and answers it."""

    def __init__(self, rig: Rig, sent: Sent, backend: str) -> None:
        self._rig = rig
        self._sent = sent
        self._backend = backend
        self._oracles: dict[Link, RequestOracle] = {}
        self._tunnel: Link | None = None

    def serve(self) -> None:
        moved = True
        while moved:
            moved = False
            for link in self._rig.links:
                if link.pipe.written:
                    moved = True
                    data = bytes(link.pipe.written)
                    link.pipe.written.clear()
                    self._read(link, data)

    def _read(self, link: Link, data: bytes) -> None:
        if link is self._tunnel:
            self._sent.tunnelled = (self._sent.tunnelled or b"") + data
            return
        oracle = self._oracles.get(link)
        if oracle is None:
            oracle = self._oracles[link] = RequestOracle(skips_empty_lines=False)
        before = len(oracle.messages)
        complete = oracle.feed(data)
        if oracle.refused:
            raise Violation(f"h11 refuses what was forwarded: {oracle.refused}")
        for message in oracle.messages:
            ids = message.values(b"x-request-id")
            if len(ids) != 1:
                raise Violation(f"{len(ids)} request ids")
            self._sent.forwarded[ids[0]] = message
        if complete > 1:
            raise Violation("a second request was sent before the first was answered")
        if self._backend == "early":
            complete = len(oracle.messages) - before
        if complete:
            self._answer(link, oracle.messages[-1])

    def _answer(self, link: Link, message: Message) -> None:
        protocols = message.values(b"upgrade")
        if protocols and self._backend == "switches":
            self._tunnel = link
            self._sent.tunnelled = b""
            self._rig.from_backend(link, SWITCHING % protocols[0])
        else:
            self._rig.from_backend(link, OK)

    def check_ends(self) -> None:
        for link, oracle in self._oracles.items():
            if oracle.count_complete() < len(oracle.messages) and not link.pipe.aborted:
                raise Violation("a request that is not whole was not cut off")
        if self._rig.endpoint.active:
            raise Violation(f"{self._rig.endpoint.active} connections in use at the end")


def _compare_requests(sent: Sent, expected: RequestOracle, raw: bytes) -> None:
    if len(sent.begun) > len(expected.messages):
        raise Violation(f"we take what h11 refuses: {expected.refused or 'nothing yet'}")
    ids = {exchange.request_id for exchange in sent.begun}
    if not sent.forwarded.keys() <= ids:
        raise Violation("a request was forwarded that we have not read")
    for exchange, message in zip(sent.begun, expected.messages, strict=False):
        _compare_head(exchange, message)
        forwarded = sent.forwarded.get(exchange.request_id)
        if forwarded is not None:
            _compare_forwarded(exchange, forwarded, message)
    bad = [status for status in sent.statuses if status not in REFUSALS and status not in _ANSWERS]
    if bad:
        raise Violation(f"answered with {bad}")
    if sent.tunnelled is not None:
        last = expected.messages[len(sent.begun) - 1]
        if sent.tunnelled != raw[len(raw) - last.rest_bytes :]:
            raise Violation(f"tunnelled {sent.tunnelled!r}")
    elif sent.open:
        complete = sum(exchange.request_complete for exchange in sent.begun)
        if complete != expected.count_complete() or (
            not expected.refused and len(sent.begun) != len(expected.messages)
        ):
            raise Violation(
                f"we read {complete} whole requests of {len(sent.begun)}, "
                f"h11 {expected.count_complete()} of {len(expected.messages)}"
            )


_ANSWERS = (101, 200, 204)


def _compare_head(exchange: Exchange, message: Message) -> None:
    ours = (exchange.method, exchange.path + exchange.query, exchange.accepts_chunked)
    target, authority = _settle(message)
    if ours != (message.first, target, message.modern):
        raise Violation(f"{ours} is {(message.first, target, message.modern)} to h11")
    if exchange.authority != authority:
        raise Violation(f"host {exchange.authority!r} is {authority!r} to h11")
    length = _length(message)
    if exchange.body_length != length:
        raise Violation(f"length {exchange.body_length} is {length} to h11")


def _length(message: Message) -> int:
    if message.values(b"transfer-encoding"):
        return CHUNKED
    lengths = message.values(b"content-length")
    return int(lengths[0]) if lengths else NO_BODY


def _settle(message: Message) -> tuple[bytes | None, bytes]:
    """Return the target as it must be forwarded, and whose it is (rows 58, 64 and 66)."""
    target = message.target
    hosts = message.values(b"host")
    authority = hosts[0] if hosts else b""
    absolute = re.fullmatch(rb"(?i:https?)://([^/?]*)(.*)", target)
    if absolute:
        authority, target = absolute[1], absolute[2]
        target = target if target[:1] == b"/" else b"/" + target
    elif target == b"*" and message.first == b"OPTIONS":
        target = b"/"
    path, mark, query = target.partition(b"?")
    for character in b'"<>^`{|}':
        query = query.replace(bytes((character,)), b"%%%02X" % character)
    try:
        return normalize_path(path) + mark + query, authority
    except TargetRefused:
        return None, authority


def _compare_forwarded(exchange: Exchange, forwarded: Message, message: Message) -> None:
    if not forwarded.modern or forwarded.first != message.first:
        raise Violation(f"forwarded as {forwarded.first!r}")
    if forwarded.target != exchange.path + exchange.query:
        raise Violation(f"matched {exchange.path!r} and forwarded {forwarded.target!r}")
    if exchange.authority and forwarded.values(b"host") != [exchange.authority]:
        raise Violation(f"forwarded for {forwarded.values(b'host')}")
    if _length(forwarded) != exchange.body_length:
        raise Violation(f"forwarded with length {_length(forwarded)}")
    if forwarded.complete:
        if not message.complete:
            raise Violation(f"body {forwarded.body!r} is not over to h11")
        if forwarded.body != message.body:
            raise Violation(f"body {forwarded.body!r} is {message.body!r} to h11")
    elif not message.body.startswith(forwarded.body):
        raise Violation(f"body {forwarded.body!r} does not begin {message.body!r}")
    kept, passed = _passable(message), _passable(forwarded)
    if kept != passed:
        raise Violation(f"fields {passed} are {kept} to h11")


def _passable(message: Message) -> list[tuple[bytes, bytes]]:
    """Return the fields that concern the backend."""
    nominated = message.nominated()
    return [
        (name, value)
        for name, value in message.fields
        if name not in _OURS
        and name not in nominated
        and b"_" not in name
        and not name.startswith(b"x-forwarded-")
    ]
