"""
HTTP/1.1 with a client: one object for each connection.

Requests are read one after the other, and the next one is not looked at before
the answer to the last is complete: what a client pipelines waits as bytes. Of a
request, only the head is parsed; a counted body is measured, a chunked one is
decoded strictly, and both are passed on as they come.
"""

import asyncio
import re
from time import monotonic
from typing import TYPE_CHECKING, cast

from fairway_dataplane.clock import LOOK_SECONDS, NEVER
from fairway_dataplane.downstream.answering import (
    BODY,
    CLOSED,
    EMPTY_BYTES,
    HEAD,
    LINGER,
    QUEUED,
    TUNNEL,
    WAIT,
    AnswerSide,
    dropped,
)
from fairway_dataplane.errors import ProxyError, Reason, Side
from fairway_dataplane.exchange import CHUNKED, NO_BODY, Exchange
from fairway_dataplane.framing import ChunkDecoder
from fairway_dataplane.policy import IDEMPOTENT
from fairway_dataplane.tls.server import TlsServerProtocol

if TYPE_CHECKING:
    from fairway_dataplane.downstream.tunnel import Tunnel


class HttpConnection(AnswerSide):
    """One client connection: a protocol to the loop, a sink to the proxy."""

    __slots__ = ()

    # Called by the event loop and the clock.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or be refused one."""
        # uvloop's transports have the interface and not the class.
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        self._head_bytes = self._limits.header_block_bytes
        layer: object = transport
        self._server_name = layer.server_name if isinstance(layer, TlsServerProtocol) else b""
        self._born = now = self._clock.now
        self._last_at = now + self._limits.connection_age_seconds
        self._last_request = self._limits.requests_per_connection
        self.deadline = now + self._limits.keep_alive_seconds
        if self._listener.draining:
            # Its handshake was under way: it may bring the request that it was for.
            self.deadline = now + self._limits.drain_idle_seconds + LOOK_SECONDS
        if not self._listener.admit(self, self._address):
            self._state = CLOSED
            self._transport.abort()
            return
        self._trusted = self._listener.forwarding.trusts(self._address)
        self._clock.watch(self)

    def data_received(self, data: bytes) -> None:
        """Read requests, or the body of one, or what is tunnelled."""
        state = self._state
        try:
            if state == HEAD:
                if self._pending:
                    self._gather(data)
                elif (
                    3 < data.find(b"\r\n\r\n") + 4 == len(data) <= self._head_bytes
                    and data[0] != 13
                ):
                    # One whole head and nothing else: by far the most frequent read.
                    self._begin(data, len(data))
                else:
                    self._serve(data)
            elif state == BODY:
                self._read_body(data)
            elif state in (WAIT, QUEUED):
                self._keep(data)
            elif state == TUNNEL:
                self.deadline = self._clock.now + self._limits.tunnel_idle_seconds
                cast("Tunnel", self._tunnel).from_client(data)
            elif state == LINGER:
                self._left -= len(data)
                if self._left < 0:
                    self._abort()
        except Exception as bug:  # noqa: BLE001 - a bug in one exchange ends that one only
            self._crash(bug)

    def eof_received(self) -> bool:
        """
        Let the transport close, unless something is owed to a client that ended its side alone.

        It cannot be told from one that is gone until something is sent to it,
        and a backend should not work for nobody: so it is waited for a moment only.
        """
        if self._tunnel is not None:
            return bool(self._tunnel.end_client())
        if self._state not in (WAIT, QUEUED) or not self._limits.half_close_seconds:
            return False
        self._half_closed = True
        self._finish_input()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Give up what is in flight, and let go of everything."""
        exchange = self._exchange
        admitted = self._state != CLOSED
        self._state = CLOSED
        if exchange is not None:
            exchange.reason = exchange.reason or Reason.CLIENT_CLOSED.value
            upstream = exchange.upstream
            if upstream is not None:
                upstream.abort()
            self._over(exchange)
        self._clock.forget(self)
        self.deadline = NEVER
        self._transport = None
        self._write = dropped
        self._decoder = None
        if admitted:
            self._listener.forget(self, self._address)

    def expire(self, now: float) -> None:
        """End what takes too long, or look again later."""
        if self._write_paused:
            self._expect_progress(now)
        elif self.is_idle():
            self._close()
        elif self._half_closed and now < self._ends_at:
            self._expect_answer(now)
        elif self._state == HEAD:
            self._refuse(Reason.HEADER_TIMEOUT, self._pending)
        elif self._state == BODY and not self._body_is_late(now):
            self._set_deadline()
        elif self._state in (LINGER, CLOSED):
            self._abort()
        elif self._state == TUNNEL:
            self._end_exchange(Reason.IDLE_TIMEOUT)
        elif self._state == BODY and now < self._ends_at:
            self._end_exchange(Reason.BODY_TIMEOUT)
        else:
            self._end_exchange(Reason.REQUEST_TIMEOUT)

    # Called by the listener.

    def close_idle(self) -> None:
        """Close an idle connection to make room for another."""
        self._close()

    def drain(self, idle_until: float) -> None:
        """Take no request after the one in flight; an idle client may bring one more till then."""
        exchange = self._exchange
        if exchange is not None:
            exchange.keep_alive = exchange.accepts_verbatim = False
        elif self.is_idle():
            self.deadline = min(self.deadline, idle_until)
            self._clock.hasten(self)

    def cut(self) -> None:
        """End at once, whatever is in flight."""
        if self._exchange is not None:
            self._exchange.reason = Reason.DRAINING.value
        self._reset()

    def describe(self) -> dict[str, object]:
        """Return a line for the debug page."""
        exchange = self._exchange
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return {
            "client": self._address,
            "client_port": peer[1] if isinstance(peer, tuple) else 0,
            "state": ("head", "body", "wait", "queued", "tunnel", "linger", "closed")[self._state],
            "requests": self._requests,
            "held_bytes": len(self._pending),
            "age_seconds": round(self._clock.now - self._born, 1),
            "route": "" if exchange is None or exchange.route is None else exchange.route.name,
            "endpoint": "" if exchange is None else exchange.endpoint,
        }

    # Reading requests.

    def _gather(self, data: bytes) -> None:
        """Add to a head that came in parts, without looking at any byte twice."""
        pending = self._pending
        seen = max(0, len(pending) - 3)
        if len(pending) <= EMPTY_BYTES and self.is_idle():
            self.deadline = self._clock.now + self._limits.header_seconds
        pending += data
        if pending.find(b"\r\n\r\n", seen) >= 0:
            self._pending = bytearray()
            self._serve(bytes(pending))
        else:
            self._check_partial(pending, seen)

    def _check_partial(self, pending: bytearray | bytes, seen: int) -> None:
        """Refuse what is too long before its end is known."""
        limits = self._limits
        if _bare_line_end(pending, seen):
            self._refuse(Reason.BAD_REQUEST, pending)  # row 35: its end would never come
        elif len(pending) > limits.request_line_bytes and (
            pending.find(b"\r\n", 0, limits.request_line_bytes + 2) < 0
        ):
            self._refuse(Reason.TARGET_TOO_LONG, pending)
        elif len(pending) > limits.header_block_bytes:
            self._refuse(Reason.HEADERS_TOO_LARGE, pending)

    def _serve(self, data: bytes) -> None:
        """Serve the requests at the beginning of ``data``, and keep what cannot be served yet."""
        self._serving = True
        served = 0
        while data and self._state == HEAD:
            start = 0
            if data[0] == 13:
                # Row 33: empty lines before a request line, but not many. They are kept with
                # a head that is not whole, so that segments make no difference.
                while start < EMPTY_BYTES and data.startswith(b"\r\n", start):
                    start += 2
                if data.startswith(b"\r\n", start):
                    self._serving = False
                    self._refuse(Reason.BAD_REQUEST, data)
                    return
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4 or end - start > self._limits.header_block_bytes:
                self._serving = False
                self._hold(data)
                return
            if served >= self._limits.pipelined_requests:
                self._serving = False
                self._pending += data
                self._queue()
                return
            served += 1
            data = self._begin(data[start:], end - start)
        self._serving = False
        if data and self._state not in (CLOSED, LINGER):
            self._keep(data)

    def _queue(self) -> None:
        """Serve what is pending when others had their turn."""
        self._state = QUEUED
        asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        if self._state == QUEUED:
            self._state = HEAD
            data, self._pending = bytes(self._pending), bytearray()
            self._set_deadline()
            try:
                self._serve(data)
                if self._half_closed:
                    self._finish_input()
            except Exception as bug:  # noqa: BLE001 - see data_received
                self._crash(bug)

    def _finish_input(self) -> None:
        """Answer what has come whole; no more will."""
        exchange = self._exchange
        if self._state == QUEUED:
            return
        if exchange is None:
            self._close()
        elif self._state == BODY:
            self._abort()
        else:
            if not self._pending:
                exchange.keep_alive = exchange.accepts_verbatim = False
            self._answered = exchange.bytes_out
            self.deadline = min(self.deadline, self._clock.now + self._limits.half_close_seconds)
            self._clock.hasten(self)

    def _expect_answer(self, now: float) -> None:
        """Give up a client that ended its side, if nothing has gone to it for a while."""
        exchange = self._exchange
        if exchange is None or exchange.bytes_out == self._answered:
            self._abort()
            return
        self._answered = exchange.bytes_out
        self.deadline = now + self._limits.half_close_seconds

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a head, and give it its time."""
        self._pending = bytearray(data)
        if not self.is_idle():
            self.deadline = self._clock.now + self._limits.header_seconds
        if len(data) > self._limits.header_block_bytes:
            first = data[: self._limits.header_block_bytes + 1]
            self._check_partial(first, 0)
        else:
            self._check_partial(data, 0)

    def _keep(self, data: bytes) -> None:
        """Keep what was pipelined, and read no more while that is enough."""
        self._pending += data
        if len(self._pending) > self._limits.header_block_bytes:
            self._pause_reading()

    def _begin(self, data: bytes, end: int) -> bytes:  # noqa: C901, PLR0912 - one line, decided in order
        """Start the exchange whose head ends at ``end``; return what is behind its request."""
        exchange = Exchange(self)
        whole = len(data) == end
        self._exchange = exchange
        self._started = False
        self._requests += 1
        exchange.started = monotonic()
        exchange.client_address = self._address
        exchange.secure = self._secure
        exchange.server_name = self._server_name
        exchange.request_id = self._ids.next()
        head = data if whole else data[:end]
        if not self._repeated.read(head, exchange):
            reason = self._read(head, exchange)
            if reason is not None:
                self._refuse(reason, head)
                return b""
            self._repeated.learn(head, exchange)
        if not exchange.keep_alive:
            self._expect_close()
        if (
            self._requests >= self._last_request
            or self._clock.now >= self._last_at
            or self._listener.wary
        ):
            if self._listener.sheds():
                return self._shed(exchange)
            exchange.keep_alive = exchange.keep_alive and not self._is_last()
        exchange.accepts_verbatim = exchange.keep_alive and exchange.accepts_chunked
        if self._trusted:
            exchange.forwarded = self._listener.forwarding.believe(exchange, address=self._address)
        else:
            authority = exchange.authority
            if authority != self._authority:
                self._authority = authority
                self._forwarded = self._listener.forwarding.block(
                    address=self._address, secure=self._secure, authority=authority
                )
            exchange.forwarded = self._forwarded
        self._tally.requests_active += 1
        length = exchange.body_length
        rest = b"" if whole else data[end:]
        if length == NO_BODY or not length:
            exchange.request_complete = True
            self._state = WAIT
        else:
            self._state = BODY
            rest = self._begin_body(exchange, rest)
            if self._exchange is not exchange:
                return rest
        if self._server_name and exchange.host != self._server_name and not self._covers(exchange):
            self.fail(ProxyError(Reason.MISDIRECTED, side=Side.DOWNSTREAM))  # row 104
            return rest
        self._forward(exchange)
        if self._exchange is exchange:
            self._settle(exchange)
        return rest

    def _is_last(self) -> bool:
        """Tell whether this connection takes no request after this one."""
        return (
            self._requests >= self._last_request
            or self._clock.now >= self._last_at
            or self._listener.draining
        )

    def _shed(self, exchange: Exchange) -> bytes:
        """Refuse a request because there are too many; its connection has to go too."""
        exchange.keep_alive = exchange.accepts_verbatim = False
        exchange.request_complete = exchange.body_length in (NO_BODY, 0)
        self._tally.requests_active += 1
        self._state = WAIT
        self.fail(ProxyError(Reason.OVERLOADED, side=Side.INTERNAL))
        return b""

    def _covers(self, exchange: Exchange) -> bool:
        """Tell whether this connection's certificate is the one that serves the host too."""
        layer: object = self._transport
        return isinstance(layer, TlsServerProtocol) and layer.covers(exchange.host)

    def _expect_close(self) -> None:
        """Have the TLS layer know that the next answer is the last one."""
        layer: object = self._transport
        if isinstance(layer, TlsServerProtocol):
            layer.expect_close()

    def _settle(self, exchange: Exchange) -> None:
        """Set the time an exchange has, once its route is known."""
        route = exchange.route
        assert route is not None
        seconds = route.request_seconds
        self.deadline = self._ends_at = self._clock.now + seconds
        if self._state == BODY:
            self._set_deadline()
            if not self._body_wanted:
                self._pause_reading()
        if self._write_paused:
            self.deadline = self._clock.now + self._limits.send_seconds
        elif seconds < LOOK_SECONDS:
            self._clock.hasten(self)

    def _begin_body(self, exchange: Exchange, rest: bytes) -> bytes:
        """Take what has come of a body; return what is behind it."""
        self._body_wanted = False
        self._rate_since = self._read_at = self._clock.now
        self._rate_bytes = 0
        if exchange.body_length == CHUNKED:
            self._decoder = ChunkDecoder(self._limits)
            parts = self._decoder.feed(rest)
            if self._decoder.refused is not None:
                self._end_exchange(self._decoder.refused)
                return b""
            exchange.held_body = b"".join(parts)
            rest = self._decoder.rest or b""
            exchange.trailers = self._decoder.trailers
            exchange.request_complete = self._decoder.rest is not None
        else:
            exchange.held_body = rest[: exchange.body_length]
            rest = rest[exchange.body_length :]
            self._left = exchange.body_length - len(exchange.held_body)
            exchange.request_complete = not self._left
        exchange.bytes_in = len(exchange.held_body)
        exchange.body_sent = exchange.bytes_in > self._limits.replay_bytes
        if exchange.request_complete:
            self._decoder = None
            self._state = WAIT
        return rest

    def _read_body(self, data: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        self._read_at = self._clock.now
        decoder = self._decoder
        rest = b""
        if decoder is None:
            if len(data) > self._left:
                rest = data[self._left :]
                data = data[: self._left]
            self._left -= len(data)
            complete = not self._left
            parts: list[bytes | memoryview] = [data]
        else:
            parts = decoder.feed(data)
            if decoder.refused is not None:
                self._end_exchange(decoder.refused)
                return
            complete = decoder.rest is not None
            exchange.trailers = decoder.trailers
            rest = decoder.rest or b""
        self._pass_body(exchange, parts)
        if self._exchange is exchange and complete:
            self._end_body(exchange, rest)

    def _pass_body(self, exchange: Exchange, parts: list[bytes | memoryview]) -> None:
        size = sum(map(len, parts))
        exchange.bytes_in += size
        self._rate_bytes += size
        if exchange.body_limit and exchange.bytes_in > exchange.body_limit:
            self._end_exchange(Reason.BODY_TOO_LARGE)
            return
        if not exchange.body_sent:
            if exchange.method in IDEMPOTENT and exchange.bytes_in <= self._limits.replay_bytes:
                exchange.held_body = b"".join((exchange.held_body, *parts))
            else:
                exchange.body_sent = True
        for part in parts:
            if exchange.upstream is not None:
                exchange.upstream.send_body(part)

    def _end_body(self, exchange: Exchange, rest: bytes) -> None:
        exchange.request_complete = True
        self._decoder = None
        self._state = WAIT
        if rest:
            self._keep(rest)
        if exchange.upstream is not None:
            exchange.upstream.end_body()
        if self._exchange is exchange:
            self.deadline = self._ends_at

    def _crash(self, bug: Exception) -> None:
        exchange = self._exchange
        if exchange is None or self._state == HEAD:
            # Not even its head was read: there is nothing to answer.
            self._exchange = None
            self._listener.note_bug(bug)
            self._abort()
            return
        self._proxy.crashed(exchange, bug)

    def _body_is_late(self, now: float) -> bool:
        """Tell whether the client sends its body too slowly, or the whole takes too long."""
        if now >= self._ends_at:
            return True
        if self._reading_paused:
            return False
        limits = self._limits
        seconds = now - self._rate_since
        return now - self._read_at >= limits.body_idle_seconds or (
            seconds > limits.body_grace_seconds
            and self._rate_bytes < limits.body_bytes_per_second * seconds
        )

    def _expect_progress(self, now: float) -> None:
        """Cut off a client that takes nothing of its answer."""
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if self._exchange is not None and now >= self._ends_at:
            self._end_exchange(Reason.REQUEST_TIMEOUT)
            return
        if unsent >= self._unsent:
            if self._exchange is not None:
                self._exchange.reason = Reason.SEND_TIMEOUT.value
            self._reset()
            return
        self._unsent = unsent
        self.deadline = now + self._limits.send_seconds


_bare_line_end = re.compile(rb"(?<!\r)\n").search
