"""
The TLS layer: a protocol to the socket, a transport to HTTP, an engine between.

Ciphertext comes in through ``data_received``, plaintext goes to the inner
protocol; the inner protocol writes plaintext, ciphertext goes to the socket's
transport. One object is both ends, so that a connection costs one object. It
and the inner protocol refer to each other while the connection lives; the one
rule is that ``connection_lost`` cuts every such reference, because a garbage
collector that has to find these cycles costs ten times the memory.

Ordinary traffic makes no task, future or timer. What is bounded, and where:
the handshake and the shutdown by deadlines of the worker's clock; decrypted
bytes by pausing; encrypted bytes by the buffer limits of the socket's
transport; the peer's overhead (tiny records, key updates) by a byte budget.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast

from fairway_dataplane.clock import NEVER, Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.engine import Data, Engine

FEED_BYTES = 64 * 1024
"""Ciphertext given to an engine, and plaintext handed on, at once. OpenSSL keeps such buffers."""

WRITE_BYTES = 64 * 1024
"""
Plaintext encrypted for one write to the socket's transport.

OpenSSL's buffers never shrink: four times as much costs each connection that once sent a large
answer 200 KB for as long as it lives, and is no faster.
"""

JOIN_BYTES = 16 * 1024
"""Parts of a ``writelines`` up to this size in all become one record."""

WASTE_BYTES = 64 * 1024
"""Ciphertext that may come without an equal amount of plaintext."""

WASTE_BYTES_PER_SECOND = 16 * 1024
"""Forgiven while a connection lives: some 700 one-byte records a second."""


class TruncatedError(ConnectionError):
    """The peer's bytes ended without close_notify: they may not be all it meant to send."""


class TlsLayer:
    """
    Both halves of a TLS connection but for its beginning, which subclasses own.

    It has the methods of a protocol and of a transport and neither class: a compiled class has
    no base in Python.
    """

    __slots__ = (
        "_clock", "_closing", "_ended", "_engine", "_failure", "_held", "_holding", "_inner",
        "_last", "_lazy", "_limits", "_open", "_peer_closed", "_pumping", "_reading", "_serves",
        "_stalled_seconds", "_transport", "_unsent", "_waste", "_waste_since", "deadline",
        "resumed", "slot", "version",
    )  # fmt: skip

    resumed: bool
    """Whether the handshake resumed a session."""

    version: str
    """``TLSv1.3``; empty before the handshake is complete."""

    def __init__(self, clock: Clock, limits: Limits, *, serves: bool) -> None:
        """Take ``serves`` if the peer is a client."""
        self._serves = serves
        self._clock = clock
        self._limits = limits
        self._transport: asyncio.Transport | None = None
        self._inner: asyncio.Protocol | None = None
        self._engine: Engine | None = None
        self._held: Data = b""
        self._failure: Exception | None = None
        self._open = False
        self._closing = False
        self._peer_closed = False
        self._ended = False
        self._reading = True
        self._pumping = False
        self._lazy = 0
        self._last = False
        self._holding = False
        self._unsent = 0
        self._stalled_seconds = 0.0
        self._waste = 0
        self._waste_since = 0.0
        self.deadline = NEVER
        self.slot = 0
        self.resumed = False
        self.version = ""

    # For subclasses.

    def _arrive(self) -> None:
        """Begin: the socket's transport is there."""
        raise NotImplementedError

    def _begin(self, data: bytes) -> None:
        """Take bytes that came before there is an engine; call :meth:`_feed` when there is."""
        raise NotImplementedError

    def _connected(self) -> asyncio.Protocol:
        """Return the inner protocol; called once the handshake is complete."""
        raise NotImplementedError

    def _failed(self, result: str, error: Exception | None) -> None:
        """Take the failure of the handshake, once; the connection is being closed."""
        raise NotImplementedError

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake's time."""
        # uvloop's transports have this interface and not this class.
        self._transport = cast("asyncio.Transport", transport)
        self._expire_in(self._limits.handshake_seconds)
        self._arrive()

    def data_received(self, data: bytes) -> None:
        """Decrypt, and hand the plaintext on."""
        if self._closing or self._peer_closed:
            self._drop(len(data))
        elif self._engine is None:
            self._begin(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """End the connection, unless the peer said goodbye and the inner protocol goes on."""
        if self._closing or not self._open:
            return False
        # It may come while decrypted bytes wait for a reader: those are handed on first.
        self._ended = True
        self._pump()
        return not self.is_closing()

    def pause_writing(self) -> None:
        """Pass the socket's back-pressure on."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass the end of the socket's back-pressure on."""
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the inner protocol, and let go of everything."""
        self._never_expire()
        if not self._open and not self._closing:
            self._refuse("closed", exc)
        inner, self._inner = self._inner, None
        failure, self._failure = self._failure, None
        self._closing = True
        self._transport = None
        self._engine = None
        self._held = b""
        if inner is not None:
            inner.connection_lost(failure or exc)

    def expire(self, now: float) -> None:  # noqa: ARG002 - called by the clock
        """End a handshake or a shutdown that takes too long."""
        if self._transport is None or self.deadline == NEVER:
            return
        if not self._closing:
            self._refuse("timeout", TimeoutError("the handshake took too long"))
            self.abort()
            return
        unsent = self._transport.get_write_buffer_size()
        progressed, self._unsent = unsent < self._unsent, unsent
        self._stalled_seconds = (
            0.0 if progressed else self._stalled_seconds + self._limits.shutdown_seconds
        )
        # The limit of the shutdown runs from the moment that all is sent: a client
        # that is slow to read its last answer gets it whole as long as it reads.
        if self._stalled_seconds >= (
            self._limits.send_seconds if unsent else self._limits.shutdown_seconds
        ):
            self.abort()
        else:
            self._expire_in(self._limits.shutdown_seconds)

    # Called by the inner protocol: the interface of asyncio.Transport.

    def write(self, data: Data) -> None:
        """Encrypt and send; dropped once closing, as a socket's transport does."""
        if self._closing:
            return
        if len(data) <= WRITE_BYTES:
            self._encrypt(data)
            if self._last:
                self._hold()
            # What is written while records are read goes out together after them.
            elif not self._pumping or self._waiting() > FEED_BYTES:
                self._flush()
            return
        view = memoryview(data)
        for at in range(0, len(view), WRITE_BYTES):
            self._encrypt(view[at : at + WRITE_BYTES])
            self._flush()

    def writelines(self, parts: Iterable[Data]) -> None:
        """Send the parts in order, small ones in one record."""
        parts = list(parts)
        if sum(map(len, parts)) <= JOIN_BYTES:
            self.write(b"".join(parts))
            return
        for part in parts:
            self.write(part)

    def expect_close(self) -> None:
        """
        Know that the client sends nothing after the request it has sent.

        From now on what is written leaves at the end of the loop's turn, so that an
        answer and its close_notify are one write, and :meth:`close` need not wait for
        the client's end: there is nothing of it that a reset could punish.
        """
        self._last = True

    def can_write_eof(self) -> bool:
        """Tell that close_notify ends our side alone."""
        return True

    def write_eof(self) -> None:
        """Send close_notify and end our side; the peer's goes on."""
        if self._open and not self._closing and self._transport is not None:
            self._say_goodbye()
            self._transport.write_eof()

    def close(self) -> None:
        """
        Send what was written and close_notify, then close once the peer has done so too.

        Closing at once would reset the connection if the peer has sent more,
        and the reset can overtake the end of our answer (RFC 9112 section 9.6).
        After :meth:`expect_close` there is no more, and it is done at once.
        """
        if self._closing or self._transport is None:
            return
        if self._open:
            self._say_goodbye()
        self._closing = True
        unread, self._held = self._held, b""
        if self._last and not unread:
            self._transport.close()
            if not self._transport.get_write_buffer_size():
                return  # its end comes in the next turn of the loop
        elif self._open and not self._peer_closed and not self._ended:
            # Only a transport that reads can see the end of the other side.
            self._transport.write_eof()
            self._resume_socket()
        else:
            self._transport.close()
        self._unsent = self._transport.get_write_buffer_size()
        self._expire_in(self._limits.shutdown_seconds)

    def abort(self) -> None:
        """Close without a word."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether writes are dropped."""
        return self._closing

    def pause_reading(self) -> None:
        """Hand nothing on, and stop reading the socket."""
        if self._reading and not self._closing:
            self._reading = False
            if self._transport is not None:
                self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on; what was decrypted late is handed over in the next turn of the loop."""
        if self._reading or self._closing:
            return
        self._resume_socket()
        if not self._pumping and (self._ended or self._held):
            asyncio.get_running_loop().call_soon(self._pump)

    def is_reading(self) -> bool:
        """Tell whether plaintext is handed on."""
        return self._reading and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the socket's transport; they count ciphertext."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return the bytes of ciphertext that are not sent."""
        if self._transport is None:
            return 0
        return self._transport.get_write_buffer_size() + self._waiting()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``ssl_object`` where it is OpenSSL's, or what the socket's transport knows."""
        if name == "ssl_object":
            return getattr(self._engine, "handle", default)
        if self._transport is None:
            return default
        return self._transport.get_extra_info(name, default)

    # The handshake.

    def _expire_in(self, seconds: float) -> None:
        """Set the deadline; all of ours are longer than the second the clock needs to be told."""
        if self.deadline == NEVER:
            self._clock.watch(self)
        self.deadline = self._clock.now + seconds

    def _never_expire(self) -> None:
        if self.deadline != NEVER:
            self._clock.forget(self)
            self.deadline = NEVER

    def _complete(self, plain: bytes) -> None:
        """Take up work: the handshake is complete, and this came behind it."""
        assert self._engine is not None
        self._never_expire()
        self._waste = 0
        self._waste_since = self._clock.now
        self._open = True
        self.version = self._engine.version
        self.resumed = self._engine.resumed
        if plain and self.version == "TLSv1.3" and self._serves:
            # Only the session ticket is left to send. If the first request is here it can go
            # with the answer. If not, it must go now: it acknowledges the client's last
            # message, and a client without TCP_NODELAY holds its request until then.
            self._lazy = self._engine.unsent
        self._inner = inner = self._connected()
        inner.connection_made(cast("asyncio.Transport", self))

    def _refuse(self, result: str, error: Exception | None) -> None:
        """Give the handshake up: count it, and close."""
        if self._closing:
            return
        self._closing = True
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self._expire_in(self._limits.shutdown_seconds)
            self._transport.close()
        self._failed(result, error)

    # Ciphertext to plaintext.

    def _feed(self, data: bytes) -> None:
        """Give the engine what has come."""
        # Something is held if reading was paused; the socket is paused then, too.
        self._held = bytes(self._held) + data if self._held else data
        if not self._open and self._waste + len(data) > _HANDSHAKE_BYTES:
            self._refuse("malformed", None)
        else:
            self._pump()

    def _pump(self) -> None:
        """Hand plaintext on until nothing is left, or the inner protocol pauses or closes."""
        if self._pumping or self._peer_closed or self._engine is None:
            return
        self._pumping = True
        try:
            while self._held and self._reading and not self._closing and not self._peer_closed:
                part = self._held
                if len(part) <= FEED_BYTES:
                    self._held = b""
                else:
                    part, self._held = _cut(part)
                plain = self._decrypt(part)
                if plain and self._inner is not None and not self.is_closing():
                    self._inner.data_received(plain)
        finally:
            self._pumping = False
        if self.is_closing():
            return
        if self._waiting() > self._lazy:
            self._flush()
        if self._waste > WASTE_BYTES and self._open:
            self._forgive()
        self._hear_end()

    def _decrypt(self, data: Data) -> bytes:
        """Return the plaintext that these bytes bring; none if they break the connection."""
        assert self._engine is not None
        try:
            plain = self._engine.receive(data)
        except ssl.SSLError as error:
            self._flush()  # the alert
            if self._open:
                self._failure = error
                self.abort()
            else:
                self._refuse("failed", error)
            return b""
        size = len(plain)
        self._waste += len(data) - size - (size >> 3)
        self._peer_closed = self._engine.ended
        if not self._open and self._engine.opened:
            self._complete(plain)
        return plain

    def _forgive(self) -> None:
        """Forgive overhead by the time that has passed; end a connection that is all overhead."""
        now = self._clock.now
        self._waste -= int((now - self._waste_since) * WASTE_BYTES_PER_SECOND)
        self._waste_since = now
        if self._waste > WASTE_BYTES:
            self._failure = ConnectionError("too many records with too little in them")
            self.abort()

    def _hear_end(self) -> None:
        """Act on the end of the peer's side, once all before it has been handed on."""
        if self._peer_closed:
            if self._inner is not None and not self._inner.eof_received():
                self.close()
        elif self._ended and self._reading:
            self._failure = TruncatedError("the connection ended without close_notify")
            self._closing = True
            if self._transport is not None:
                self._transport.close()

    # Plaintext to ciphertext.

    def _encrypt(self, data: Data) -> None:
        if self._engine is None or not data:
            return
        try:
            self._engine.send(data)
        except ssl.SSLError as error:
            # The engine failed before, in a read that has closed the connection.
            self._failure = self._failure or error
            self.abort()

    def _waiting(self) -> int:
        """Return how much ciphertext the engine has for the socket's transport."""
        return 0 if self._engine is None else self._engine.unsent

    def _hold(self) -> None:
        """Keep what is written for the end of this turn, or until it is much."""
        if self._waiting() > FEED_BYTES:
            self._flush()
        elif not self._holding:
            self._holding = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        self._holding = False
        if not self._closing:
            self._flush()

    def _flush(self) -> None:
        self._lazy = 0
        if self._transport is not None and self._engine is not None and self._engine.unsent:
            self._transport.write(self._engine.take())

    def _say_goodbye(self) -> None:
        """Send close_notify."""
        assert self._engine is not None
        self._engine.close()
        self._flush()

    def _resume_socket(self) -> None:
        if not self._reading:
            self._reading = True
            if self._transport is not None and not self._ended:
                self._transport.resume_reading()

    def _drop(self, size: int) -> None:
        """Read on for the end of the peer's side, but not for ever."""
        self._waste += size
        if self._waste > WASTE_BYTES + self._limits.linger_bytes:
            self.abort()


_HANDSHAKE_BYTES = 512 * 1024
"""More than a handshake, and what one read of the socket may bring behind it."""


def _cut(held: Data) -> tuple[memoryview, memoryview]:
    view = memoryview(held)
    return view[:FEED_BYTES], view[FEED_BYTES:]
