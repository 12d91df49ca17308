"""
The other reader: h11, which shares no code and no author with what it checks.

It reads a stream of requests, or the answers to one request, to the end or to
the first thing it refuses, and says what it saw.
"""

import re
from dataclasses import dataclass, field

import h11

MAX_HEAD_BYTES = 1 << 20
"""Sizes are ours to limit, so h11 has no limit of its own."""


class Violation(AssertionError):  # noqa: N818 - of a law
    """A case broke a law."""


@dataclass(slots=True)
class Message:
    """One request or final response, as far as it was read."""

    first: bytes
    """Method, or status."""
    target: bytes
    """Empty for a response."""
    modern: bool
    """HTTP/1.1."""
    fields: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    rest_bytes: int = 0
    """Read behind its end so far."""

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    def nominated(self) -> set[bytes]:
        """Return what Connection names, in lower case, but for its own options."""
        names = {
            name.strip(b" \t").lower()
            for value in self.values(b"connection")
            for name in value.split(b",")
        }
        return names - {b"close", b"keep-alive", b"upgrade"}


class RequestOracle:
    """A server that reads requests one after the other, whatever it would answer."""

    __slots__ = ("_connection", "_skips_empty_lines", "messages", "refused")

    def __init__(self, *, skips_empty_lines: bool) -> None:
        self.messages: list[Message] = []
        self.refused = ""
        self._skips_empty_lines = skips_empty_lines
        self._connection = _server()

    def feed(self, data: bytes) -> int:
        """Read on; return how many messages became complete."""
        if self.refused:
            return 0
        before = self.count_complete()
        if self._skips_empty_lines and not self.messages:
            data = _without_empty_lines(data)
        try:
            self._connection.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as error:
            self.refused = str(error)
        return self.count_complete() - before

    def count_complete(self) -> int:
        """Return how many messages were read whole."""
        return len(self.messages) - bool(self.messages and not self.messages[-1].complete)

    def _read(self) -> None:
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Data):
                self.messages[-1].body += event.data
            elif isinstance(event, h11.Request):
                self.messages.append(
                    Message(
                        event.method,
                        event.target,
                        event.http_version == b"1.1",
                        list(event.headers),
                    )
                )
            elif isinstance(event, h11.EndOfMessage):
                self.messages[-1].complete = True
                # Whether the connection goes on is not the question: read on with a new one.
                rest = self._connection.trailing_data[0]
                self.messages[-1].rest_bytes = len(rest)
                self._connection = _server()
                if self._skips_empty_lines:
                    rest = _without_empty_lines(rest)
                if not rest:
                    return
                self._connection.receive_data(rest)
            else:
                return


def read_requests(raw: bytes) -> RequestOracle:
    """Read a whole stream of requests as RFC 9112 has servers read it (row 33)."""
    oracle = RequestOracle(skips_empty_lines=True)
    oracle.feed(raw)
    return oracle


@dataclass(slots=True)
class Answers:
    """What a client reads in answer to one request."""

    interim: list[int] = field(default_factory=list)
    final: Message | None = None
    refused: str = ""
    switched: bool = False
    rest: bytes = b""
    """Behind the end of the answer, or of the 101."""
    ended: bool = False
    """The connection ended, and h11 has seen it."""
    reusable: bool = False

    @property
    def complete(self) -> bool:
        return self.final is not None and self.final.complete


def read_answers(
    raw: bytes, *, method: bytes, upgrade: bytes = b"", ends: bool, sends_body: bool = False
) -> Answers:
    """Read the answer to a request; ``ends`` is a clean end of the connection behind it."""
    answers = Answers()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
    fields = [(b"host", b"a.example")]
    if upgrade:
        fields += [(b"connection", b"upgrade"), (b"upgrade", upgrade)]
    if sends_body:
        fields.append((b"content-length", b"10"))
    connection.send(h11.Request(method=method, target=b"/", headers=fields))
    if not sends_body:
        connection.send(h11.EndOfMessage())
    try:
        if raw:
            connection.receive_data(raw)
        if ends:
            connection.receive_data(b"")
        _read_answers(connection, answers)
    except h11.RemoteProtocolError as error:
        answers.refused = str(error)
    answers.rest, answers.ended = connection.trailing_data
    answers.reusable = connection.their_state is h11.DONE and not answers.rest
    return answers


def tidy_answers(raw: bytes) -> bytes:
    """
    Return an answer without what h11 refuses and we pass over.

    That is a control character in a reason phrase, which is replaced (row 90),
    and framing in an interim response, which frames nothing (RFC 9110, 15.2).
    """
    heads = []
    while (found := _head(raw)) is not None:
        line, fields, raw = found["line"], found["fields"], raw[found.end() :]
        interim = found["status"][:1] == b"1"
        heads += [_control.sub(b"?", line), _framing.sub(b"", fields) if interim else fields]
        if not interim:
            break
    return b"".join(heads) + raw


_head = re.compile(
    rb"(?P<line>HTTP/1\.[01] (?P<status>[1-5][0-9]{2})(?: [^\r\n]*)?)"
    rb"(?P<fields>(?:\r\n[^\r\n]+)*\r\n\r\n)"
).match
_control = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_framing = re.compile(rb"\r\n(?i:content-length|transfer-encoding):[^\r\n]*")


def _read_answers(connection: h11.Connection, answers: Answers) -> None:
    while True:
        if answers.complete:
            return
        event = connection.next_event()
        if isinstance(event, h11.InformationalResponse):
            if event.status_code == 101:
                answers.switched = True
                return
            answers.interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            answers.final = Message(
                b"%d" % event.status_code,
                b"",
                event.http_version == b"1.1",
                list(event.headers),
            )
        elif isinstance(event, h11.Data):
            assert answers.final is not None
            answers.final.body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert answers.final is not None
            answers.final.complete = True
        else:
            return


find_statuses = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n").findall
"""Of answers that were written by a test or by Fairway itself."""


def _without_empty_lines(raw: bytes) -> bytes:
    return raw.removeprefix(b"\r\n").removeprefix(b"\r\n")


def _server() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
