"""
What must hold of every case, whatever was sent.

We may refuse what h11 takes: that is policy. We may never take what it refuses,
read anything otherwise than it does, or pass on what it would read otherwise.
"""

import re
from dataclasses import dataclass, field

from fairway_dataplane.exchange import CHUNKED, NO_BODY, Exchange
from fairway_snapshot.target import TargetRefused, normalize_path
from tests.fairway_dataplane.fuzz.oracle import (
    Answers,
    Message,
    RequestOracle,
    read_answers,
    read_requests,
    tidy_answers,
)
from tests.fairway_dataplane.fuzz.rig import Link, Rig
from tests.fairway_dataplane.fuzz.streams import ASKED, Asked, RequestCase, ResponseCase

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: %b\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"
NEXT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

REFUSALS = frozenset((400, 405, 413, 414, 417, 431, 501, 505, 508))
"""With which a request may be refused; 204 and 200 are answers."""

INTERIM_LIMIT = 8
INTERIM_END = 64

_OURS = frozenset(
    b"connection content-length expect forwarded host http2-settings keep-alive max-forwards "
    b"proxy-connection proxy-authorization te trailer transfer-encoding upgrade via x-real-ip "
    b"x-request-id".split()
)
"""Request fields that are not passed on as they are."""

_OURS_OF_RESPONSES = frozenset(
    b"connection content-length keep-alive proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)

_statuses = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n").findall


class Violation(AssertionError):  # noqa: N818 - of a law
    """A case broke a law."""


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
    sent = _send(rig, case.segments, switches=case.switches)
    _compare_requests(sent, expected, raw)
    if len(case.segments) > 1:
        whole = _send(rig, (raw,), switches=case.switches)
        # What is answered before it is whole ends its connection, and need not come whole.
        early = any(exchange.status and not exchange.request_complete for exchange in sent.begun)
        if whole.verdict() != sent.verdict() and not early:
            raise Violation(f"cut: {sent.verdict()}, whole: {whole.verdict()}")
    if sent.statuses and sent.statuses[-1] in REFUSALS:
        return f"refused {sent.statuses[-1]}" + (" by both" if expected.refused else "")
    if sent.tunnelled is not None:
        return "switched"
    return "answered" if sent.statuses else "waiting"


def _send(rig: Rig, segments: tuple[bytes, ...], *, switches: bool) -> Sent:
    rig.begin()
    sent = Sent(rig.begun)
    backend = _RequestBackend(rig, sent, switches=switches)
    for segment in segments:
        if rig.client.over or rig.client.paused:
            break
        rig.from_client(segment)
        backend.serve()
    client = rig.client
    sent.statuses = [int(status) for status in _statuses(bytes(client.written)) if status != b"100"]
    sent.open = not (client.over or client.half_closed or client.paused)
    rig.end_client()
    backend.check_ends()
    return sent


class _RequestBackend:
    """Reads with h11 what is forwarded, and answers it."""

    def __init__(self, rig: Rig, sent: Sent, *, switches: bool) -> None:
        self._rig = rig
        self._sent = sent
        self._switches = switches
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
        if complete:
            self._answer(link, oracle.messages[-1])

    def _answer(self, link: Link, message: Message) -> None:
        protocols = message.values(b"upgrade")
        if protocols and self._switches:
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
    nominated = _nominated(message)
    return [
        (name, value)
        for name, value in message.fields
        if name not in _OURS
        and name not in nominated
        and b"_" not in name
        and not name.startswith(b"x-forwarded-")
    ]


def _nominated(message: Message) -> set[bytes]:
    names = {
        name.strip(b" \t").lower()
        for value in message.values(b"connection")
        for name in value.split(b",")
    }
    return names - {b"close", b"keep-alive", b"upgrade"}


@dataclass
class Answered:
    """What came of what a backend sent."""

    answers: Answers
    """As h11 reads what the client got."""
    cut_off: bool
    """The client's connection was aborted."""
    open: bool
    """The client's connection was neither closed nor aborted."""
    reused: bool
    """The backend's connection serves the next request."""
    took_all: bool
    """The backend's connection was open to the end of what was sent."""

    @property
    def is_ours(self) -> bool:
        """The answer is one of our own."""
        final = self.answers.final
        return final is not None and bool(final.values(b"fairway-reason"))

    def verdict(self) -> object:
        """Return what must not depend on how the stream is cut."""
        final, answers = self.answers.final, self.answers
        return (
            self.is_ours,
            final and (final.first, final.complete, not self.is_ours and bytes(final.body)),
            answers.interim,
            answers.switched,
            answers.switched and answers.rest,
            self.cut_off,
            self.open,
            self.reused,
        )


def check_response(rig: Rig, case: ResponseCase) -> str:
    """Raise :class:`Violation`, or return in a word what came of the answer."""
    asked = ASKED[case.asked]
    raw = b"".join(case.segments)
    expected = _read(asked, raw, ends=case.ending == "closed")
    if expected.refused:
        expected = _read(asked, tidy_answers(raw), ends=case.ending == "closed")
    answered = _answer(rig, asked, case, case.segments)
    _compare_answers(answered, expected, asked, case.ending)
    if len(case.segments) > 1:
        whole = _answer(rig, asked, case, (raw,))
        if whole.verdict() != answered.verdict():
            raise Violation(f"cut: {answered.verdict()}, whole: {whole.verdict()}")
    if answered.is_ours:
        return "refused by both" if expected.refused else "refused"
    if answered.answers.switched:
        return "switched"
    if answered.answers.complete:
        return "answered"
    return "cut off" if answered.cut_off else "waiting"


def _read(asked: Asked, raw: bytes, *, ends: bool) -> Answers:
    return read_answers(
        raw, method=asked.method, upgrade=asked.upgrade, ends=ends, sends_body=asked.sends_body
    )


def _answer(rig: Rig, asked: Asked, case: ResponseCase, segments: tuple[bytes, ...]) -> Answered:
    rig.begin()
    if case.before:
        _exchange(rig, case.before)
    rig.from_client(asked.raw)
    (link,) = (link for link in rig.links if link.pipe.written)
    link.pipe.written.clear()
    for segment in segments:
        if link.pipe.lost:
            break
        rig.from_backend(link, segment)
    took_all, reused = not link.pipe.lost, link.task in rig.endpoint.idle
    if case.ending == "closed":
        rig.end_backend(link, None)
    elif case.ending == "reset":
        rig.end_backend(link, ConnectionResetError())
    client = rig.client
    ends = (client.closed or client.half_closed) and not client.aborted
    answers = _read(asked, bytes(client.written), ends=ends)
    is_open = not client.over and not client.half_closed
    if is_open and answers.complete:
        _ask_again(rig)
    answered = Answered(answers, client.aborted, is_open, reused, took_all)
    rig.end_client()
    if rig.endpoint.active:
        raise Violation(f"{rig.endpoint.active} connections in use at the end")
    return answered


def _exchange(rig: Rig, answer: bytes) -> None:
    """Have a request answered, and start anew if that leaves no connection to go on with."""
    rig.from_client(NEXT)
    (link,) = (link for link in rig.links if link.pipe.written)
    rig.from_backend(link, answer)
    if link.task not in rig.endpoint.idle or rig.client.over or rig.client.half_closed:
        rig.begin()
        return
    link.pipe.written.clear()
    rig.client.written.clear()


def _ask_again(rig: Rig) -> None:
    """See that the next request gets its own answer, and nothing before it."""
    rig.client.written.clear()
    for link in rig.links:
        link.pipe.written.clear()
    rig.from_client(NEXT)
    written = [link for link in rig.links if link.pipe.written]
    if len(written) != 1:
        raise Violation(f"the next request was sent {len(written)} times")
    rig.from_backend(written[0], NEXT_ANSWER)
    if not rig.client.written.endswith(b"\r\n\r\nnext") or _statuses(bytes(rig.client.written)) != [
        b"200"
    ]:
        raise Violation(f"the next answer is {bytes(rig.client.written)!r}")


def _compare_answers(answered: Answered, expected: Answers, asked: Asked, ending: str) -> None:
    got = answered.answers
    if got.refused and not answered.cut_off:
        raise Violation(f"h11 refuses what the client got: {got.refused}")
    _compare_interim(answered, expected, asked)
    if got.final is None:
        _compare_unanswered(answered, expected, ending)
    elif answered.is_ours:
        if got.final.first != b"502" or not got.complete:
            raise Violation(f"refused with {got.final.first!r}")
    elif expected.final is None:
        raise Violation(f"we take what h11 refuses: {expected.refused or 'nothing yet'}")
    else:
        _compare_finals(answered, got.final, expected.final, ending)
    if answered.reused and not (got.complete and _is_reusable(expected)):
        raise Violation("a connection is kept that h11 would not keep")


def _is_reusable(expected: Answers) -> bool:
    if expected.final is None or expected.rest:
        return False
    # h11 keeps no connection to an HTTP/1.0 server, which may ask for it.
    asks = b"keep-alive" in b",".join(expected.final.values(b"connection")).lower()
    return expected.reusable or (asks and not expected.final.modern)


def _compare_interim(answered: Answered, expected: Answers, asked: Asked) -> None:
    passed = [status for status in expected.interim[:INTERIM_LIMIT] if status != 100]
    got = answered.answers.interim
    if got != (passed if asked.modern else []) and not answered.is_ours:
        raise Violation(f"interim responses {got}, of {expected.interim}")
    if len(expected.interim) > INTERIM_END and not answered.is_ours:
        raise Violation(f"waits for the end of {len(expected.interim)} interim responses")


def _compare_unanswered(answered: Answered, expected: Answers, ending: str) -> None:
    got = answered.answers
    if got.switched:
        if not expected.switched or got.rest != expected.rest:
            raise Violation(f"tunnelled {got.rest!r} of {expected.rest!r}")
    elif expected.final is not None and not expected.refused:
        raise Violation("we wait while h11 has an answer")
    elif expected.switched:
        raise Violation("we wait while h11 has switched")
    elif ending != "open" or not answered.open:
        raise Violation("the client has no answer")


def _compare_finals(answered: Answered, got: Message, expected: Message, ending: str) -> None:
    if got.first != expected.first:
        raise Violation(f"status {got.first!r} is {expected.first!r} to h11")
    kept, passed = _passable_answer(expected), _passable_answer(got)
    if kept != passed:
        raise Violation(f"fields {passed} are {kept} to h11")
    if not expected.body.startswith(got.body):
        raise Violation(f"body {bytes(got.body)!r} does not begin {bytes(expected.body)!r}")
    if got.complete:
        if not expected.complete:
            raise Violation(f"body {bytes(got.body)!r} is not over to h11")
        if got.body != expected.body:
            raise Violation(f"body {bytes(got.body)!r} is {bytes(expected.body)!r} to h11")
    elif expected.complete and not answered.cut_off:
        raise Violation("we wait while h11 has the whole answer")
    elif answered.took_all and ending == "open":
        if got.body != expected.body or not answered.open:
            raise Violation(f"passed on {bytes(got.body)!r} of {bytes(expected.body)!r}")
    elif not answered.cut_off:
        raise Violation("an answer that is not whole was not cut off")


def _passable_answer(message: Message) -> list[tuple[bytes, bytes]]:
    nominated = _nominated(message)
    return [
        (name, value)
        for name, value in message.fields
        if name not in _OURS_OF_RESPONSES and name not in nominated
    ]
