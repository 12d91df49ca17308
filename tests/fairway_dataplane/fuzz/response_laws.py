"""
What must hold of every answer of a backend, whatever was sent.

The client gets one answer, the one that h11 reads in the backend's bytes, or one
of ours; what was cut short never ends well; and no byte of one exchange is left
for the next.
"""

from dataclasses import dataclass

from tests.fairway_dataplane.fuzz.oracle import (
    Answers,
    Message,
    Violation,
    find_statuses,
    read_answers,
    tidy_answers,
)
from tests.fairway_dataplane.fuzz.rig import Link, Rig
from tests.fairway_dataplane.fuzz.streams import ASKED, Asked, ResponseCase

NEXT = b"GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n"
NEXT_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"

INTERIM_LIMIT = 8
INTERIM_END = 64

_OURS = frozenset(
    b"connection content-length keep-alive proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)


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

    def verdict(self, case: ResponseCase) -> object:
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
            # Whether the backend had to wait for a slow client depends on what it had sent.
            self.reused and not case.slow,
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
        if whole.verdict(case) != answered.verdict(case):
            raise Violation(f"cut: {answered.verdict(case)}, whole: {whole.verdict(case)}")
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
    _play(rig, link, segments, slow=case.slow)
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


def _play(rig: Rig, link: Link, segments: tuple[bytes, ...], *, slow: bool) -> None:
    if slow:
        rig.connection.pause_writing()
    for segment in segments:
        if link.pipe.paused:
            rig.take_all()
        if link.pipe.lost:
            break
        rig.from_backend(link, segment)
    if slow:
        rig.take_all()


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
    if not rig.client.written.endswith(b"\r\n\r\nnext") or find_statuses(
        bytes(rig.client.written)
    ) != [b"200"]:
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
    elif not answered.cut_off:
        _compare_unfinished(answered, got, expected, ending)


def _compare_unfinished(answered: Answered, got: Message, expected: Message, ending: str) -> None:
    if expected.complete:
        raise Violation("we wait while h11 has the whole answer")
    if not answered.took_all or ending != "open":
        raise Violation("an answer that is not whole was not cut off")
    if got.body != expected.body or not answered.open:
        raise Violation(f"passed on {bytes(got.body)!r} of {bytes(expected.body)!r}")


def _passable_answer(message: Message) -> list[tuple[bytes, bytes]]:
    nominated = message.nominated()
    return [
        (name, value)
        for name, value in message.fields
        if name not in _OURS and name not in nominated
    ]
