"""
HTTP/1.1 with a client: one object for each connection.

Requests are read one after the other, and the next one is not looked at before
the answer to the last is complete: what a client pipelines waits as bytes. Of a
request, only the head is parsed; a counted body is measured, a chunked one is
decoded strictly, and both are passed on as they come. The one rule is that
whatever ends an exchange goes through :meth:`HttpConnection._over`, so that it
is counted once and lets go of both sides.
"""

import asyncio
import re
from time import monotonic
from typing import TYPE_CHECKING, cast

from fairway_dataplane.clock import LOOK_SECONDS, NEVER
from fairway_dataplane.downstream.responses import (
    CONTINUE,
    error_response,
    serialise,
    status_line,
)
from fairway_dataplane.downstream.tunnel import Tunnel
from fairway_dataplane.errors import ProxyError, Reason, Side
from fairway_dataplane.exchange import (
    CHUNKED,
    NO_BODY,
    Block,
    DirectResponse,
    Exchange,
)
from fairway_dataplane.framing import LAST_CHUNK, ChunkDecoder, chunk
from fairway_dataplane.tally import count
from fairway_dataplane.tls.server import TlsServerProtocol

if TYPE_CHECKING:
    from fairway_dataplane.downstream.listener import Listener

_HEAD, _BODY, _WAIT, _QUEUED, _TUNNEL, _LINGER, _CLOSED = range(7)

_JOINED_BYTES = 16 * 1024
"""Up to this size a head and a body are joined: a copy is cheaper than a second buffer."""


class HttpConnection(asyncio.Protocol):
    """One client connection: a protocol to the loop, a sink to the proxy."""

    __slots__ = (
        "_address", "_authority", "_body_wanted", "_born", "_chunked", "_clock", "_decoder",
        "_ends_at", "_exchange", "_forward", "_forwarded", "_head_bytes", "_last_at",
        "_last_request", "_left", "_limits", "_listener", "_pending", "_proxy", "_rate_bytes",
        "_rate_since", "_read", "_read_at", "_reading_paused", "_requests", "_secure",
        "_server_name", "_serving", "_started", "_state", "_tally", "_transport", "_trusted",
        "_tunnel", "_unsent", "_write", "_write_paused", "deadline", "slot",
    )  # fmt: skip

    def __init__(self, listener: "Listener", *, secure: bool) -> None:
        self._listener = listener
        self._proxy = listener.proxy
        self._forward = listener.proxy.forward
        self._read = listener.reader.read
        self._clock = listener.clock
        self._limits = listener.limits
        self._tally = listener.tally
        self._secure = secure
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._decoder: ChunkDecoder | None = None
        self._tunnel: Tunnel | None = None
        self._pending = bytearray()
        self._state = _HEAD
        self._left = 0
        self._requests = 0
        self._unsent = 0
        self._body_wanted = False
        self._chunked = False
        self._reading_paused = False
        self._serving = False
        self._started = False
        self._write_paused = False
        self._authority: bytes | None = None
        self._forwarded: Block = b""
        self._read_at = 0.0
        self._ends_at = NEVER
        self._rate_since = 0.0
        self._rate_bytes = 0
        self.deadline = NEVER
        self.slot = 0

    # Called by the event loop and the clock.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or be refused one."""
        # uvloop's transports have the interface and not the class.
        self._transport = cast("asyncio.Transport", transport)
        self._write = self._transport.write
        peer = transport.get_extra_info("peername")
        self._address: str = peer[0] if isinstance(peer, tuple) else ""
        self._head_bytes = self._limits.header_block_bytes
        self._server_name = (
            transport.server_name if isinstance(transport, TlsServerProtocol) else b""
        )
        self._born = now = self._clock.now
        self._last_at = now + self._limits.connection_age_seconds
        self._last_request = self._limits.requests_per_connection
        self.deadline = now + self._limits.keep_alive_seconds
        if not self._listener.admit(self, self._address):
            self._state = _CLOSED
            self._transport.abort()
            return
        self._trusted = self._listener.forwarding.trusts(self._address)
        self._clock.watch(self)

    def data_received(self, data: bytes) -> None:
        """Read requests, or the body of one, or what is tunnelled."""
        state = self._state
        try:
            if state == _HEAD:
                if self._pending:
                    self._gather(data)
                elif data.find(b"\r\n\r\n") + 4 == len(data) <= self._head_bytes and data[0] != 13:
                    # One whole head and nothing else: by far the most frequent read.
                    self._begin(data, len(data))
                else:
                    self._serve(data)
            elif state == _BODY:
                self._read_body(data)
            elif state in (_WAIT, _QUEUED):
                self._keep(data)
            elif state == _TUNNEL:
                self.deadline = self._clock.now + self._limits.tunnel_idle_seconds
                cast("Tunnel", self._tunnel).from_client(data)
            elif state == _LINGER:
                self._left -= len(data)
                if self._left < 0:
                    self._abort()
        except Exception as bug:  # noqa: BLE001 - a bug in one exchange ends that one only
            self._crash(bug)

    def eof_received(self) -> bool:
        """
        Let the transport close, but for a tunnel, whose other side may go on.

        A client that has only ended its own side cannot be told from one that
        is gone, and the work of a backend for nobody is the greater harm.
        """
        return self._tunnel is not None and self._tunnel.end_client()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Give up what is in flight, and let go of everything."""
        exchange = self._exchange
        admitted = self._state != _CLOSED
        self._state = _CLOSED
        if exchange is not None:
            exchange.reason = exchange.reason or Reason.CLIENT_CLOSED.value
            upstream = exchange.upstream
            if upstream is not None:
                upstream.abort()
            self._over(exchange)
        self._clock.forget(self)
        self.deadline = NEVER
        self._transport = None
        self._write = _dropped
        self._decoder = None
        if admitted:
            self._listener.forget(self, self._address)

    def pause_writing(self) -> None:
        """Stop the response: the client reads more slowly than it comes."""
        self._write_paused = True
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._clock.now + self._limits.send_seconds
        exchange = self._exchange
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.pause()

    def resume_writing(self) -> None:
        """Let the response go on."""
        self._write_paused = False
        self._set_deadline()
        exchange = self._exchange
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.resume()

    def expire(self, now: float) -> None:
        """End what takes too long, or look again later."""
        if self._write_paused:
            self._expect_progress(now)
        elif self._state == _HEAD and not self._pending:
            self._close()
        elif self._state == _HEAD:
            self._refuse(Reason.HEADER_TIMEOUT)
        elif self._state == _BODY and not self._body_is_late(now):
            self._set_deadline()
        elif self._state in (_LINGER, _CLOSED):
            self._abort()
        elif self._state == _TUNNEL:
            self._end_exchange(Reason.IDLE_TIMEOUT)
        elif self._state == _BODY and now < self._ends_at:
            self._end_exchange(Reason.BODY_TIMEOUT)
        else:
            self._end_exchange(Reason.REQUEST_TIMEOUT)

    # Called by the listener.

    def is_idle(self) -> bool:
        """Tell whether no request is in flight or half read."""
        return self._state == _HEAD and not self._pending

    def close_idle(self) -> None:
        """Close an idle connection to make room for another."""
        self._close()

    def drain(self, idle_until: float) -> None:
        """Take no request after the one in flight; an idle client may bring one more till then."""
        exchange = self._exchange
        if exchange is not None:
            exchange.keep_alive = exchange.accepts_verbatim = False
        elif self._state == _HEAD:
            self.deadline = min(self.deadline, idle_until)
            self._clock.hasten(self)

    def cut(self) -> None:
        """End at once, whatever is in flight."""
        if self._exchange is not None:
            self._exchange.reason = Reason.DRAINING.value
        self._abort()

    def describe(self) -> dict[str, object]:
        """Return a line for the debug page."""
        exchange = self._exchange
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return {
            "client": self._address,
            "client_port": peer[1] if isinstance(peer, tuple) else 0,
            "state": ("head", "body", "wait", "queued", "tunnel", "linger", "closed")[self._state],
            "requests": self._requests,
            "age_seconds": round(self._clock.now - self._born, 1),
            "route": "" if exchange is None or exchange.route is None else exchange.route.name,
            "endpoint": "" if exchange is None else exchange.endpoint,
        }

    # Reading requests.

    def _gather(self, data: bytes) -> None:
        """Add to a head that came in parts, without looking at any byte twice."""
        pending = self._pending
        seen = max(0, len(pending) - 3)
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
            self._refuse(Reason.BAD_REQUEST)  # row 35: its end would never come
        elif len(pending) > limits.request_line_bytes and (
            pending.find(b"\r\n", 0, limits.request_line_bytes + 2) < 0
        ):
            self._refuse(Reason.TARGET_TOO_LONG)
        elif len(pending) > limits.header_block_bytes:
            self._refuse(Reason.HEADERS_TOO_LARGE)

    def _serve(self, data: bytes) -> None:
        """Serve the requests at the beginning of ``data``, and keep what cannot be served yet."""
        self._serving = True
        served = 0
        while data and self._state == _HEAD:
            if data[0] == 13:
                # Row 33: empty lines before a request line, but not many.
                data = data[2:] if data.startswith(b"\r\n") else data
                data = data[2:] if data.startswith(b"\r\n") else data
                if not data:
                    break
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._limits.header_block_bytes:
                self._serving = False
                self._hold(data)
                return
            if served >= self._limits.pipelined_requests:
                self._serving = False
                self._pending += data
                self._queue()
                return
            served += 1
            data = self._begin(data, end)
        self._serving = False
        if data and self._state not in (_CLOSED, _LINGER):
            self._keep(data)

    def _queue(self) -> None:
        """Serve what is pending when others had their turn."""
        self._state = _QUEUED
        asyncio.get_running_loop().call_soon(self._continue)

    def _continue(self) -> None:
        if self._state == _QUEUED:
            self._state = _HEAD
            data, self._pending = bytes(self._pending), bytearray()
            try:
                self._serve(data)
            except Exception as bug:  # noqa: BLE001 - see data_received
                self._crash(bug)

    def _hold(self, data: bytes) -> None:
        """Keep the beginning of a head, and give it its time."""
        self._pending = bytearray(data)
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

    def _begin(self, data: bytes, end: int) -> bytes:
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
        exchange.request_id = self._listener.next_id()
        reason = self._read(data if whole else data[:end], exchange)
        if reason is not None:
            self._refuse(reason)
            return b""
        if (
            self._requests >= self._last_request
            or self._clock.now >= self._last_at
            or self._listener.draining
        ):
            exchange.keep_alive = False
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
        length = exchange.body_length
        rest = b"" if whole else data[end:]
        if length == NO_BODY or not length:  # noqa: PLR1714 - a tuple would be built each time
            exchange.request_complete = True
            self._state = _WAIT
        else:
            self._state = _BODY
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

    def _covers(self, exchange: Exchange) -> bool:
        """Tell whether this connection's certificate is the one that serves the host too."""
        transport = self._transport
        return isinstance(transport, TlsServerProtocol) and transport.covers(exchange.host)

    def _settle(self, exchange: Exchange) -> None:
        """Set the time an exchange has, once its route is known."""
        route = exchange.route
        assert route is not None
        seconds = route.request_seconds
        self.deadline = self._ends_at = self._clock.now + seconds
        if self._state == _BODY:
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
                self._refuse(self._decoder.refused)
                return b""
            exchange.held_body = b"".join(parts)
            rest = self._decoder.rest or b""
            exchange.request_complete = self._decoder.rest is not None
        else:
            exchange.held_body = rest[: exchange.body_length]
            rest = rest[exchange.body_length :]
            self._left = exchange.body_length - len(exchange.held_body)
            exchange.request_complete = not self._left
        exchange.bytes_in = len(exchange.held_body)
        if exchange.request_complete:
            self._decoder = None
            self._state = _WAIT
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
        exchange.body_sent = True
        for part in parts:
            if exchange.upstream is not None:
                exchange.upstream.send_body(part)

    def _end_body(self, exchange: Exchange, rest: bytes) -> None:
        exchange.request_complete = True
        self._decoder = None
        self._state = _WAIT
        if rest:
            self._keep(rest)
        if exchange.upstream is not None:
            exchange.upstream.end_body()
        if self._exchange is exchange:
            self.deadline = self._ends_at

    # Called by the proxy and the upstream side, as ResponseSink.

    def interim(self, exchange: Exchange, status_line: bytes, fields: Block) -> None:  # noqa: ARG002
        """Write an interim response."""
        self._write(status_line + fields + b"\r\n\r\n")

    def wants_body(self) -> None:
        """Read the body, and tell a client that waits to be told."""
        exchange = self._exchange
        assert exchange is not None
        self._body_wanted = True
        if exchange.expects_continue and not exchange.bytes_in:
            exchange.expects_continue = False
            self._write(CONTINUE)
        self._rate_since = self._read_at = self._clock.now
        self._rate_bytes = 0
        self._resume_reading()

    def pause(self) -> None:
        """Stop reading the request's body."""
        self._pause_reading()

    def resume(self) -> None:
        """Go on reading the request's body."""
        self._rate_since = self._read_at = self._clock.now
        self._rate_bytes = 0
        self._resume_reading()

    def start(self, exchange: Exchange, data: bytes) -> None:
        """Write the head, and what came with it."""
        self._started = True
        if exchange.accepts_verbatim:
            self._chunked = False
            exchange.bytes_out += len(data) - exchange.head_bytes
            self._write(data)
        else:
            self._start_changed(exchange, data)
        if self._write_paused and exchange.upstream is not None:
            exchange.upstream.pause()

    def _start_changed(self, exchange: Exchange, data: bytes) -> None:
        if not exchange.request_complete:
            exchange.keep_alive = False
        length = exchange.response_length
        self._chunked = False
        if length >= 0:
            framing = b"\r\ncontent-length: %d" % length
        elif length == NO_BODY:
            framing = b""
        elif exchange.accepts_chunked:
            framing = b"\r\ntransfer-encoding: chunked"
            self._chunked = True
        else:
            framing = b""
            exchange.keep_alive = False
        head = b"".join((
            exchange.status_line, exchange.response_fields, framing, self._connection(exchange),
            b"\r\n\r\n",
        ))  # fmt: skip
        size = len(data) - exchange.head_bytes
        if not size:
            self._write(head)
            return
        exchange.bytes_out += size
        body = memoryview(data)[exchange.head_bytes :]
        parts: list[bytes | memoryview] = [head, *chunk([body])] if self._chunked else [head, body]
        if size <= _JOINED_BYTES:
            self._write(b"".join(parts))
        elif self._transport is not None:
            self._transport.writelines(parts)

    def _connection(self, exchange: Exchange) -> Block:
        if not exchange.keep_alive:
            return b"\r\nconnection: close"
        return b"" if exchange.accepts_chunked else b"\r\nconnection: keep-alive"

    def body(self, data: bytes | memoryview) -> None:
        """Write a part of the body."""
        if self._state == _TUNNEL:
            self.deadline = self._clock.now + self._limits.tunnel_idle_seconds
            cast("Tunnel", self._tunnel).from_server(data)
            return
        exchange = self._exchange
        if exchange is None:
            return
        exchange.bytes_out += len(data)
        if not self._chunked:
            self._write(data)
        elif self._transport is not None:
            self._transport.writelines(chunk([data]))

    def end(self) -> None:
        """End the answer, and go on with the next request or close."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._state == _TUNNEL:
            if not cast("Tunnel", self._tunnel).end_server():
                if exchange.upstream is not None:
                    exchange.upstream.abort()
                self._over(exchange)
                self._close()
            return
        if self._chunked:
            self._write(LAST_CHUNK)
        if (
            exchange.keep_alive
            and exchange.request_complete
            and not (self._pending or self._write_paused or self._reading_paused)
        ):
            self._over(exchange)
            self._state = _HEAD
            self.deadline = self._clock.now + self._limits.keep_alive_seconds
        else:
            self._go_on(exchange)

    def respond(self, exchange: Exchange, response: DirectResponse) -> None:
        """Write an answer that needs no backend."""
        if not exchange.request_complete:
            exchange.keep_alive = False
        exchange.status = response.status
        if exchange.response_edit is not None:
            exchange.status_line = status_line(response.status)
            exchange.response_fields = response.fields
            exchange.response_edit(exchange)
            response = DirectResponse(
                response.status,
                fields=exchange.response_fields,
                body=response.body,
                content_type=response.content_type,
            )
        head_only = exchange.method == b"HEAD"
        exchange.bytes_out = 0 if head_only else len(response.body)
        self._started = True
        self._write(serialise(response, connection=self._connection(exchange), head_only=head_only))
        self._go_on(exchange)

    def fail(self, error: ProxyError) -> None:
        """Answer with an error, or cut off an answer that has begun."""
        exchange = self._exchange
        if exchange is None:
            return
        exchange.reason = error.reason.value
        if self._started or not error.status:
            self._abort()
            return
        count(self._tally.rejected, error.reason.value)
        exchange.response_edit = None
        self.respond(
            exchange,
            error_response(error.reason, request_id=exchange.request_id, fields=exchange.fields),
        )

    def switch(self, exchange: Exchange, data: bytes) -> None:
        """Become a tunnel."""
        assert self._transport is not None
        self._started = True
        self._state = _TUNNEL
        self._tunnel = Tunnel(exchange, self._transport)
        self._tally.tunnels_active += 1
        self._write(
            b"".join(
                (
                    exchange.status_line,
                    exchange.response_fields,
                    b"\r\nconnection: upgrade\r\nupgrade: ",
                    exchange.upgrade,
                    b"\r\n\r\n",
                    data,
                )
            )
        )
        exchange.bytes_out += len(data)
        self.deadline = self._clock.now + self._limits.tunnel_idle_seconds
        if self._pending:
            held, self._pending = bytes(self._pending), bytearray()
            self._tunnel.from_client(held)
        self._resume_reading()

    # The end of an exchange, and of the connection.

    def _go_on(self, exchange: Exchange) -> None:
        """End an exchange that was answered, and go on with the next request or close."""
        keep = exchange.keep_alive and exchange.request_complete
        # Row 29: a client that still sends has to be heard out, or it may lose its answer.
        lingers = not exchange.request_complete
        self._over(exchange)
        if not keep:
            if lingers:
                self._linger()
            else:
                self._close()
            return
        self._state = _HEAD
        if not self._write_paused:
            self.deadline = self._clock.now + self._limits.keep_alive_seconds
        if self._reading_paused:
            self._resume_reading()
        if self._pending and not self._serving:
            self._queue()

    def _over(self, exchange: Exchange) -> None:
        """Let go of an exchange, and count it."""
        self._exchange = None
        self._decoder = None
        if self._tunnel is not None:
            self._tally.tunnels_active -= 1
            self._tunnel = None
        tally = self._tally
        tally.bytes_in += exchange.bytes_in
        tally.bytes_out += exchange.bytes_out
        self._proxy.finished(exchange)

    def _refuse(self, reason: Reason) -> None:
        """Answer a request that is not forwarded, and read no further one."""
        exchange, self._exchange = self._exchange, None
        count(self._tally.rejected, reason.value)
        if self._state in (_LINGER, _CLOSED):
            return
        request_id = b"" if exchange is None else exchange.request_id
        response = error_response(reason, request_id=request_id, fields=b"")
        self._write(serialise(response, connection=b"\r\nconnection: close", head_only=False))
        self._linger()

    def _end_exchange(self, reason: Reason) -> None:
        """Give an exchange up from this side."""
        exchange = self._exchange
        if exchange is None:
            self._abort()
            return
        upstream = exchange.upstream
        if upstream is not None:
            upstream.abort()
        exchange.keep_alive = False
        side = Side.UPSTREAM if reason is Reason.REQUEST_TIMEOUT else Side.DOWNSTREAM
        self.fail(ProxyError(reason, side=side))

    def _crash(self, bug: Exception) -> None:
        exchange = self._exchange
        if exchange is None or self._state == _HEAD:
            # Not even its head was read: there is nothing to answer.
            self._exchange = None
            self._listener.note_bug(bug)
            self._abort()
            return
        self._proxy.crashed(exchange, bug)

    def _linger(self) -> None:
        """Close, but read on for a while: a reset could overtake the answer (RFC 9112, 9.6)."""
        transport = self._transport
        if transport is None:
            return
        self._state = _LINGER
        self._pending = bytearray()
        self._left = self._limits.linger_bytes
        self.deadline = self._clock.now + self._limits.shutdown_seconds
        self._resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def _close(self) -> None:
        if self._transport is not None:
            self._state = _LINGER
            self._left = self._limits.linger_bytes
            self.deadline = self._clock.now + self._limits.send_seconds
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # Time and back-pressure.

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is not None and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _set_deadline(self) -> None:
        """Set the next time at which something may be too late."""
        now, limits = self._clock.now, self._limits
        if self._state == _HEAD:
            self.deadline = now + (
                limits.header_seconds if self._pending else limits.keep_alive_seconds
            )
        elif self._state == _TUNNEL:
            self.deadline = now + limits.tunnel_idle_seconds
        elif self._state == _BODY:
            self.deadline = min(self._ends_at, now + limits.body_grace_seconds)
        else:
            self.deadline = self._ends_at

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
            self._abort()
            return
        self._unsent = unsent
        self.deadline = now + self._limits.send_seconds


_bare_line_end = re.compile(rb"(?<!\r)\n").search


def _dropped(data: bytes | bytearray | memoryview) -> None:
    """Take what is written after the end."""
