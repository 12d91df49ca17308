"""
The answering half of a client connection: from an exchange's answer to bytes.

It is the sink of one exchange at a time. The one rule is that whatever ends an
exchange goes through :meth:`AnswerSide._over`, so that it is counted once and
lets go of both sides.
"""

import socket
import struct
from typing import TYPE_CHECKING, cast

from fairway_dataplane.clock import NEVER
from fairway_dataplane.downstream.refusals import describe_refused
from fairway_dataplane.downstream.repeated import RepeatedLines
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
    UNTIL_CLOSE,
    Block,
    DirectResponse,
    Exchange,
)
from fairway_dataplane.framing import ChunkDecoder, chunk, last_chunk
from fairway_dataplane.tally import count

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fairway_dataplane.downstream.listener import Listener

HEAD, BODY, WAIT, QUEUED, TUNNEL, LINGER, CLOSED = range(7)
"""
What a connection reads: a head, a body, nothing (the answer is awaited), nothing (its turn
is awaited), a tunnel, what is dropped before the end, or nothing any more.
"""

EMPTY_BYTES = 4
"""Row 33: of empty lines before a request."""

_JOINED_BYTES = 16 * 1024
"""Up to this size a head and a body are joined: a copy is cheaper than a second buffer."""

_UNMEASURED = frozenset((CHUNKED, UNTIL_CLOSE))
"""Lengths of answers that end with their connection, if they do not go out in chunks."""

_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER, socket(7): close with a reset."""


class AnswerSide:
    """State of a client connection, and its half that writes."""

    __slots__ = (
        "_address", "_answered", "_authority", "_body_wanted", "_born", "_chunked", "_clock",
        "_decoder", "_ends_at", "_exchange", "_forward", "_forwarded", "_half_closed",
        "_head_bytes", "_ids", "_last_at",
        "_last_request", "_left", "_limits", "_listener", "_pending", "_proxy", "_rate_bytes",
        "_rate_since", "_read", "_read_at", "_reading_paused", "_repeated", "_requests", "_secure",
        "_server_name", "_serving", "_started", "_state", "_tally", "_transport", "_trusted",
        "_tunnel", "_unsent", "_write", "_write_paused", "deadline", "slot",
    )  # fmt: skip

    def __init__(self, listener: "Listener", *, secure: bool) -> None:
        self._listener = listener
        self._proxy = listener.proxy
        self._forward = listener.proxy.forward
        self._read = listener.reader.read
        self._ids = listener.ids
        self._repeated = RepeatedLines(listener.limits)
        self._clock = listener.clock
        self._limits = listener.limits
        self._tally = listener.tally
        self._secure = secure
        self._address = ""
        self._transport: asyncio.Transport | None = None
        self._write: Callable[[bytes | memoryview], None] = dropped
        self._exchange: Exchange | None = None
        self._decoder: ChunkDecoder | None = None
        self._tunnel: Tunnel | None = None
        self._pending = bytearray()
        self._state = HEAD
        self._left = 0
        self._requests = 0
        self._unsent = 0
        self._answered = 0
        self._body_wanted = False
        self._chunked = False
        self._reading_paused = False
        self._serving = False
        self._started = False
        self._half_closed = False
        self._write_paused = False
        self._authority: bytes | None = None
        self._forwarded: Block = b""
        self._read_at = 0.0
        self._ends_at = NEVER
        self._rate_since = 0.0
        self._rate_bytes = 0
        self.deadline = NEVER
        self.slot = 0

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
        if self._state == QUEUED and exchange is None:
            self._resume_reading()
            self._queue()
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.resume()

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

    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Return address and port of the client behind trusted proxies, and of our socket."""
        exchange, transport = self._exchange, self._transport
        peer = ours = None
        if transport is not None:
            peer = transport.get_extra_info("peername")
            ours = transport.get_extra_info("sockname")
        client = self._address if exchange is None else exchange.client_address
        # The port of a client behind a proxy of ours is not known.
        port = peer[1] if isinstance(peer, tuple) and client == self._address else 0
        return (client, port), (ours[:2] if isinstance(ours, tuple) else ("", 0))

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
        if self._state == TUNNEL:
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
        if self._state == TUNNEL:
            if not cast("Tunnel", self._tunnel).end_server():
                if exchange.upstream is not None:
                    exchange.upstream.abort()
                self._over(exchange)
                self._close()
            return
        if self._chunked:
            self._write(last_chunk(exchange.response_trailers))
        if (
            exchange.keep_alive
            and exchange.request_complete
            and not (self._pending or self._write_paused or self._reading_paused)
        ):
            self._over(exchange)
            self._state = HEAD
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
        if (
            self._started
            and not self._chunked
            and self._tunnel is None
            and exchange.response_length in _UNMEASURED
        ):
            # Row 86: the end of the connection would be taken for the end of the body.
            self._reset()
            return
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
        self._state = TUNNEL
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
        if self._half_closed:
            self._half_closed = False
            self._tunnel.end_client()
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
        if self._write_paused:
            # Who does not read its answers is asked for no more requests, or they pile up here.
            self._state = QUEUED
            return
        self._state = HEAD
        self.deadline = self._clock.now + self._limits.keep_alive_seconds
        if self._reading_paused:
            self._resume_reading()
        if self._pending and not self._serving:
            self._queue()

    def _over(self, exchange: Exchange) -> None:
        """Let go of an exchange, and count it."""
        self._exchange = None
        self._decoder = None
        tally = self._tally
        if self._tunnel is not None:
            tally.tunnels_active -= 1
            self._tunnel = None
        tally.requests_active -= 1
        if exchange.bytes_in:
            tally.bytes_in += exchange.bytes_in
        tally.bytes_out += exchange.bytes_out
        self._proxy.finished(exchange)

    def _refuse(self, reason: Reason, head: bytes | bytearray) -> None:
        """Answer a request whose head cannot be read, and read no further one."""
        if self._state in (LINGER, CLOSED):
            return
        count(self._tally.rejected, reason.value)
        exchange = describe_refused(self, bytes(head))
        exchange.client_address = self._address
        exchange.secure = self._secure
        exchange.request_id = self._ids.next()
        exchange.reason = reason.value
        response = error_response(reason, request_id=exchange.request_id, fields=b"")
        exchange.status = response.status
        exchange.bytes_out = len(response.body)
        self._exchange = None
        self._write(serialise(response, connection=b"\r\nconnection: close", head_only=False))
        self._linger()
        self._proxy.finished(exchange)

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

    def _linger(self) -> None:
        """Close, but read on for a while: a reset could overtake the answer (RFC 9112, 9.6)."""
        transport = self._transport
        if transport is None:
            return
        self._state = LINGER
        self._pending = bytearray()
        self._left = self._limits.linger_bytes
        self.deadline = self._clock.now + self._limits.shutdown_seconds
        self._resume_reading()
        if transport.can_write_eof():
            transport.write_eof()

    def _close(self) -> None:
        if self._transport is not None:
            self._state = LINGER
            self._left = self._limits.linger_bytes
            self.deadline = self._clock.now + self._limits.send_seconds
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _reset(self) -> None:
        """End at once and visibly: what is unsent is dropped by the kernel too."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._abort()

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
        if self._state == HEAD:
            self.deadline = now + (
                limits.keep_alive_seconds if self.is_idle() else limits.header_seconds
            )
        elif self._state == TUNNEL:
            self.deadline = now + limits.tunnel_idle_seconds
        elif self._state == BODY:
            self.deadline = min(self._ends_at, now + limits.body_grace_seconds)
        else:
            self.deadline = self._ends_at

    def is_idle(self) -> bool:
        """Tell whether no request is in flight or half read; empty lines are none (row 33)."""
        pending = self._pending
        return self._state == HEAD and (
            not pending or (len(pending) <= EMPTY_BYTES and not pending.strip(b"\r\n"))
        )

    def is_asking(self) -> bool:
        """Tell whether a head is half read, and nothing else is in flight."""
        return self._state == HEAD and not self.is_idle()

    def _queue(self) -> None:
        """Serve what is pending when others had their turn."""
        raise NotImplementedError


def dropped(data: bytes | bytearray | memoryview) -> None:
    """Take what is written after the end."""
