"""
BackendTask: one connection to one endpoint, and its only owner.

Nobody else writes to the transport or reads the state. An endpoint keeps idle
tasks; between checkout and checkin one exchange has the task to itself, so
nothing here needs a lock. Bytes go straight from the event loop's callback to
the sink: there is no queue between the two connections, and the one rule is
that the task lets go of an exchange before it tells the sink of its end, for
the sink may begin the next one at once.
"""

import asyncio
import contextlib
import os
from time import monotonic
from typing import TYPE_CHECKING, cast

from fairway_dataplane.clock import LOOK_SECONDS, NEVER, Clock
from fairway_dataplane.errors import ProxyError, Reason, Retry, Side
from fairway_dataplane.exchange import CHUNKED, NO_BODY, UNTIL_CLOSE, Exchange
from fairway_dataplane.framing import ChunkDecoder, chunk, last_chunk
from fairway_dataplane.limits import Limits
from fairway_dataplane.upstream.answer import (
    INTERIM,
    LAST,
    SWITCHING,
    Answer,
    read_answer,
    read_ordinary,
)
from fairway_dataplane.upstream.repeated import RepeatedHead
from fairway_dataplane.upstream.silence import SMALL_BYTES, wait_for_room

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairway_dataplane.upstream.health import Endpoint

_CONNECTING, _IDLE, _HEAD, _COUNTED, _CHUNKED, _UNTIL_CLOSE, _TUNNEL, _CLOSED = range(8)

_LAST_WORDS_BYTES = 64 * 1024

_INTERIM_LIMIT = 64
"""Row 84: a backend that sends more interim responses to one request never means to answer."""


class BackendTask:
    """Speak HTTP/1.1 to one endpoint, one exchange at a time."""

    __slots__ = (
        "_answer_seconds", "_clock", "_decoder", "_endpoint", "_exchange", "_held", "_idle_seconds",
        "_interims", "_last", "_left", "_limits", "_made", "_patient", "_paused", "_repeated",
        "_state", "_transport", "_write", "deadline", "reused", "slot",
    )  # fmt: skip

    reused: bool
    """It has served an exchange before: a reset may only mean that the peer was tired of it."""

    def __init__(self, endpoint: "Endpoint", clock: Clock, limits: Limits) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes | memoryview], None] = _dropped
        self._exchange: Exchange | None = None
        self._decoder: ChunkDecoder | None = None
        self._made: asyncio.Future[None] | None = None
        self._state = _CONNECTING
        self._held = b""
        self._left = 0
        self._last = False
        self._paused = False
        self._patient = False
        self._interims = 0
        self._repeated = RepeatedHead()
        self._answer_seconds = NEVER
        self._idle_seconds = NEVER
        self.deadline = NEVER
        self.reused = False
        self.slot = 0

    # Called by the connector, the pool and the proxy.

    def tell_when_made(self, made: "asyncio.Future[None]") -> None:
        """Settle ``made`` once the connection, with its handshake, is up."""
        self._made = made

    def send(
        self, exchange: Exchange, head: bytes, answer_seconds: float, idle_seconds: float
    ) -> None:
        """
        Start an exchange; its sink is told everything from here.

        ``answer_seconds`` is the limit to the head of the answer, and
        ``idle_seconds`` that between two reads of its body.
        """
        self._exchange = exchange
        exchange.upstream = self
        exchange.sent_at = monotonic()
        self._state = _HEAD
        self._last = False
        self._idle_seconds = idle_seconds
        self._answer_seconds = answer_seconds
        self.deadline = deadline = self._clock.now + answer_seconds
        if answer_seconds < LOOK_SECONDS:
            self._clock.hasten(self)
        body = exchange.held_body
        if not body:
            self._write(head)
            if exchange.request_complete:
                if exchange.body_length == CHUNKED:
                    self._write(last_chunk(exchange.trailers))
                return
        else:
            self._write(head)
            self.send_body(body)
        if not 0 <= exchange.body_length <= SMALL_BYTES:
            self._be_patient()
        self.deadline = deadline
        if exchange.request_complete:
            self.end_body()
        else:
            exchange.sink.wants_body()

    def is_usable(self) -> bool:
        """Tell whether it is connected and serves nobody."""
        return self._state == _IDLE

    def keep(self) -> None:
        """Be idle, after a connection that nobody waits for any more, or be closed."""
        endpoint = self._endpoint
        if self._state != _IDLE:
            return
        if endpoint.removed or len(endpoint.idle) >= endpoint.idle_limit:
            self._close()
            return
        self.deadline = self._clock.now + self._limits.idle_endpoint_seconds
        endpoint.idle.append(self)

    def close(self) -> None:
        """Close an idle connection."""
        self._state = _CLOSED
        self.deadline = NEVER
        self._clock.forget(self)
        if self._transport is not None:
            self._transport.abort()

    # Called by the downstream side, as UpstreamStream.

    def send_body(self, data: bytes | memoryview) -> None:
        """Send a part of the body."""
        exchange = self._exchange
        if exchange is None or self._transport is None:
            return
        if self._state == _TUNNEL or exchange.body_length != CHUNKED:
            self._write(data)
        else:
            self._transport.writelines(chunk([data]))
        if self._state == _HEAD:
            # The time to answer begins when the request is sent.
            self.deadline = self._clock.now + self._answer_seconds

    def end_body(self) -> None:
        """Send the end of the body; of a tunnel, the end of the client's side."""
        exchange = self._exchange
        if exchange is None or self._transport is None:
            return
        if self._state == _TUNNEL:
            if self._transport.can_write_eof():
                self._transport.write_eof()
        elif exchange.body_length == CHUNKED:
            self._write(last_chunk(exchange.trailers))

    def pause(self) -> None:
        """Stop reading the response."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Go on reading the response."""
        if self._transport is not None and self._paused:
            self._paused = False
            self.deadline = self._clock.now + self._idle_seconds
            self._transport.resume_reading()

    def abort(self) -> None:
        """Give the exchange up."""
        if self._exchange is not None:
            self._let_go()
            self._close()

    # Called by the event loop and the clock.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Become usable."""
        # uvloop's transports have the interface and not the class.
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        self._state = _IDLE
        self._clock.watch(self)
        made, self._made = self._made, None
        if made is not None and not made.done():
            made.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Pass on what belongs to the exchange; anything else ends the connection."""
        state = self._state
        try:
            if state == _HEAD:
                self._read_head(data)
            elif state == _COUNTED:
                self._read_counted(data)
            elif state == _CHUNKED:
                self._read_chunks(data)
            elif state in (_UNTIL_CLOSE, _TUNNEL):
                self._touch()
                assert self._exchange is not None
                self._exchange.sink.body(data)
            elif state != _CLOSED:
                # Row 83: nobody asked. Whoever is next must not be answered with this.
                self._retire()
        except Exception as error:  # noqa: BLE001 - a bug in one exchange ends that one only
            self._crash(error)

    def eof_received(self) -> bool:
        """Let the transport close, but for a tunnel, whose other side may go on."""
        if self._state == _TUNNEL and self._exchange is not None:
            self._exchange.sink.end()
            return self._exchange is not None
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """End a response that only the end of the connection ends; fail any other."""
        if exc is not None and self._state == _HEAD:
            self._read_last_words()
        state, self._state = self._state, _CLOSED
        self._transport = None
        self._write = _dropped
        self.deadline = NEVER
        self._clock.forget(self)
        if self._made is not None and not self._made.done():
            self._made.set_exception(exc or ConnectionError("closed before it was usable"))
        exchange = self._exchange
        if exchange is None:
            if state == _IDLE and self in self._endpoint.idle:
                self._endpoint.idle.remove(self)
            return
        self._let_go()
        try:
            if state == _TUNNEL or (state == _UNTIL_CLOSE and exc is None):
                exchange.sink.end()
                return
            detail = self._endpoint.name
            if state == _HEAD:
                # An interim response is an answer that has begun, too.
                begun = self._held or self._interims
                retry = Retry.NEVER if begun else Retry.IF_IDEMPOTENT
                error = ProxyError(
                    Reason.UPSTREAM_RESET, side=Side.UPSTREAM, retry=retry, detail=detail
                )
                exchange.owner.failed(exchange, error)
            else:
                error = ProxyError(Reason.UPSTREAM_RESET, side=Side.UPSTREAM, detail=detail)
                exchange.sink.fail(error)
        except Exception as bug:  # noqa: BLE001 - see data_received
            exchange.owner.crashed(exchange, bug)

    def pause_writing(self) -> None:
        """Stop the client's body."""
        if self._exchange is not None:
            self._exchange.sink.pause()

    def resume_writing(self) -> None:
        """Let the client's body go on."""
        if self._exchange is not None:
            self._exchange.sink.resume()

    def expire(self, now: float) -> None:
        """Close a connection that was idle for too long, or that answers too slowly."""
        if self._exchange is None:
            self._retire()
        elif self._paused:
            # The client reads slowly, and has a limit of its own for that.
            self.deadline = now + self._idle_seconds
        elif self._state == _HEAD and not self._exchange.request_complete:
            # The client sends slowly, as above.
            self.deadline = now + self._answer_seconds
        else:
            self._fail(Reason.UPSTREAM_TIMEOUT)

    # The response.

    def _read_last_words(self) -> None:
        """
        Read what came before a write failed: who refuses a body says so, and closes (row 29).

        The descriptor is open until :meth:`connection_lost` returns. What is
        encrypted cannot be read without its layer.
        """
        transport = self._transport
        if transport is None or transport.get_extra_info("ssl_object") is not None:
            return
        descriptor = transport.get_extra_info("socket").fileno()
        with contextlib.suppress(OSError):
            while self._exchange is not None:
                data = os.read(descriptor, _LAST_WORDS_BYTES)
                if not data:
                    return
                self.data_received(data)

    def _read_head(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        if not exchange.request_complete:
            # Row 29: the client has to be told that this answer ends its connection.
            exchange.accepts_verbatim = False
        if not self._held and self._read_known(data, exchange):
            self._last = not exchange.request_complete
            self._take_answer(exchange, data)
            return
        if self._held:
            data = self._held + data
        end = data.find(b"\r\n\r\n")
        limit = self._limits.header_block_bytes
        if end < 0 or end > limit:
            self._held = data
            if len(data) > limit or data.count(b"\n") != data.count(b"\r\n"):
                # Row 87, or a line that LF alone ends: the end of that head would never come.
                self._fail(Reason.UPSTREAM_PROTOCOL)
            return
        self._held = b""
        answer = read_answer(data, end, exchange, self._limits)
        if answer <= LAST:
            self._last = answer == LAST or not exchange.request_complete
            self._take_answer(exchange, data)
        else:
            self._read_seldom_head(answer, data, end + 4, exchange)

    def _read_known(self, data: bytes, exchange: Exchange) -> bool:
        """Read a head that came before, or one that is as most are; False for any other."""
        if self._repeated.read(data, exchange):
            return True
        if not read_ordinary(data, exchange, self._limits):
            return False
        self._repeated.learn(data, exchange)
        return True

    def _take_answer(self, exchange: Exchange, data: bytes) -> None:
        """Pass the head on, and what of the body came with it; or try another backend."""
        if (
            exchange.retry_codes
            and exchange.status in exchange.retry_codes
            and exchange.owner.disliked(exchange)
        ):
            # It is with another connection already.
            self._exchange = None
            self._endpoint.active -= 1
            self._close()
            return
        if exchange.response_edit is not None:
            exchange.response_edit(exchange)
        seconds = monotonic() - exchange.sent_at
        exchange.upstream_seconds = seconds
        endpoint = self._endpoint
        endpoint.answers += 1
        endpoint.answer_seconds += seconds
        length = exchange.response_length
        head_bytes = exchange.head_bytes
        have = len(data) - head_bytes
        if length >= 0 or length == NO_BODY:
            left = max(0, length) - have
            if left > 0:
                self._state = _COUNTED
                self._left = left
                self._touch()
                exchange.sink.start(exchange, data)
                return
            if left < 0:
                # Row 82: more than was announced. Deliver what was, trust the rest to nobody.
                data = data[:left]
                self._last = True
            self._finish(exchange)
            exchange.sink.start(exchange, data)
            exchange.sink.end()
        elif length == UNTIL_CLOSE:
            self._state = _UNTIL_CLOSE
            self._touch()
            exchange.sink.start(exchange, data)
        else:
            self._state = _CHUNKED
            self._touch()
            self._decoder = ChunkDecoder(self._limits)
            exchange.sink.start(exchange, data[:head_bytes])
            if have and self._exchange is exchange:
                self._read_chunks(data[head_bytes:])

    def _read_seldom_head(
        self, answer: Answer, data: bytes, head_bytes: int, exchange: Exchange
    ) -> None:
        rest = data[head_bytes:]
        if answer == INTERIM and self._interims < _INTERIM_LIMIT:
            self._interims += 1
            # 100 is never passed on: the client has had ours, or has not asked for one.
            if (
                exchange.status_line[9:12] != b"100"
                and exchange.accepts_chunked
                and self._interims <= self._limits.interim_responses
            ):
                exchange.sink.interim(exchange, exchange.status_line, exchange.response_fields)
            if rest and self._exchange is exchange:
                self._read_head(rest)
        elif answer == SWITCHING:
            self._state = _TUNNEL
            self._last = True
            self._be_patient()
            self._idle_seconds = self._limits.tunnel_idle_seconds
            self._touch()
            exchange.sink.switch(exchange, rest)
        else:
            self._fail(Reason.UPSTREAM_PROTOCOL)

    def _read_counted(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        left = self._left - len(data)
        if left > 0:
            self._left = left
            self.deadline = self._clock.now + self._idle_seconds
            exchange.sink.body(data)
            return
        if left < 0:
            data = data[:left]
            self._last = True
        self._finish(exchange)
        exchange.sink.body(data)
        exchange.sink.end()

    def _read_chunks(self, data: bytes) -> None:
        exchange, decoder = self._exchange, self._decoder
        assert exchange is not None
        assert decoder is not None
        self._touch()
        parts = decoder.feed(data)
        for part in parts:
            exchange.sink.body(part)
        if self._exchange is not exchange:
            return
        if decoder.refused is not None:
            self._fail(Reason.UPSTREAM_PROTOCOL)
        elif decoder.rest is not None:
            if decoder.rest:
                self._last = True
            if exchange.response_trailers is not None:
                exchange.response_trailers = decoder.trailers
            self._finish(exchange)
            exchange.sink.end()

    def _be_patient(self) -> None:
        """Expect from here on that the peer may have no room for what it is sent."""
        transport = self._transport
        if not self._patient and transport is not None and not transport.is_closing():
            self._patient = True
            wait_for_room(transport.get_extra_info("socket"), self._limits.send_seconds)

    def _touch(self) -> None:
        self.deadline = self._clock.now + self._idle_seconds
        if self._idle_seconds < LOOK_SECONDS:
            self._clock.hasten(self)

    # The end.

    def _finish(self, exchange: Exchange) -> None:
        """Let go after a whole response, and be idle or closed."""
        if self._last or not exchange.request_complete or self._paused:
            self._let_go()
            self._close()
            return
        self._exchange = None
        exchange.upstream = None
        self._decoder = None
        self._interims = 0
        self._state = _IDLE
        self.reused = True
        endpoint = self._endpoint
        endpoint.active -= 1
        if endpoint.removed or len(endpoint.idle) >= endpoint.idle_limit:
            self._close()
            return
        self.deadline = self._clock.now + self._limits.idle_endpoint_seconds
        endpoint.idle.append(self)

    def _let_go(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._decoder = None
        if exchange is not None:
            exchange.upstream = None
            self._endpoint.active -= 1

    def _fail(self, reason: Reason) -> None:
        exchange, state = self._exchange, self._state
        self._let_go()
        self._close()
        if exchange is None:
            return
        error = ProxyError(reason, side=Side.UPSTREAM, detail=self._endpoint.name)
        if state == _HEAD:
            exchange.owner.failed(exchange, error)
        elif state == _TUNNEL:
            # Both sides measure its silence, and either may be the first to notice.
            exchange.reason = Reason.IDLE_TIMEOUT.value
            exchange.sink.end()
        else:
            exchange.sink.fail(error)

    def _crash(self, bug: Exception) -> None:
        exchange = self._exchange
        self._let_go()
        self._close()
        if exchange is not None:
            exchange.owner.crashed(exchange, bug)

    def _retire(self) -> None:
        """Close an idle connection that its endpoint still keeps."""
        if self in self._endpoint.idle:
            self._endpoint.idle.remove(self)
        self._close()

    def _close(self) -> None:
        self._state = _CLOSED
        self.deadline = NEVER
        if self._transport is not None:
            self._transport.abort()

    def __repr__(self) -> str:
        """Show the state."""
        return f"<BackendTask {self._endpoint.name} state={self._state}>"


def _dropped(data: bytes | bytearray | memoryview) -> None:
    """Take what is written after the end."""
