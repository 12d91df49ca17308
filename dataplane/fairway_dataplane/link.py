"""
What the supervisor and a worker say to each other, and how it is framed.

Frames are four bytes of length, big endian, and one msgpack message. The
stream's own messages travel here unchanged; the rest is what only a parent and
its child need. The end of the connection is a message as well: a worker whose
supervisor is gone drains and exits.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar, cast

import msgspec

from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.ports import Scheme
from fairway_dataplane.tls.tickets import TicketSecret
from fairway_snapshot.protocol import Ack, Commit, Hello, Message, Nack, Nodes

FRAME_LIMIT_BYTES = 64 << 20
"""Far above any message; a longer length means that the two sides have lost each other."""


class Door(msgspec.Struct, frozen=True, kw_only=True):
    """
    An inherited listening socket.

    Every worker inherits the doors of all slots, so that a neighbour can serve
    the queue of a worker that died until its successor is up.
    """

    slot: int
    scheme: Scheme
    descriptor: int


class Configure(msgspec.Struct, frozen=True, kw_only=True, tag="configure"):
    """The first message to a worker."""

    config: DataplaneConfig
    slot: int
    doors: tuple[Door, ...]
    tickets: TicketSecret


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """Listen and accept on the doors of a slot; said once a snapshot is served."""

    slot: int


class Shut(msgspec.Struct, frozen=True, kw_only=True, tag="shut"):
    """Stop accepting on the doors of a slot; what is queued there stays for its own worker."""

    slot: int


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag="drain"):
    """
    Finish and exit.

    With ``closing``, nobody accepts after this worker: it takes what is still
    queued at every door before it closes them.
    """

    limit_seconds: float
    closing: bool


class Scrape(msgspec.Struct, frozen=True, kw_only=True, tag="scrape"):
    """Ask for the tally; doubles as the sign of life."""

    id: int
    connections: int
    """Describe so many connections, too."""
    backends: int = 0
    """And so many backends."""
    backend: str = ""
    """Of these the one of this name; empty for any."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The worker has read its configuration and waits for a snapshot."""

    hello: Hello


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """
    A part of the tally: some of its routes and backends.

    Those of ten thousand routes take a worker 20 ms to write, and its requests
    cannot wait for so long; they come in parts, before the rest.
    """

    id: int
    """That of the :class:`Scrape`; 0 before :class:`Drained`."""
    rows: bytes
    """:meth:`~fairway_dataplane.tally.Tally.packed_rows`."""


class Scraped(msgspec.Struct, frozen=True, kw_only=True, tag="scraped"):
    """The end of the answer to :class:`Scrape`."""

    id: int
    counts: bytes
    """:meth:`~fairway_dataplane.tally.Tally.packed`; :class:`Counted` told of the rest."""
    connections: tuple[dict[str, object], ...]
    backends: tuple[dict[str, object], ...] = ()


class Drained(msgspec.Struct, frozen=True, kw_only=True, tag="drained"):
    """The last message of a worker; its routes and backends came as :class:`Counted`."""

    counts: bytes


Downward: TypeAlias = Configure | Nodes | Commit | Open | Shut | Drain | Scrape
Upward: TypeAlias = Started | Ack | Nack | Counted | Scraped | Drained

Received = TypeVar("Received")
Sent = TypeVar("Sent")


class Link(asyncio.Protocol, Generic[Received, Sent]):
    """One end of a control socket."""

    def __init__(
        self,
        decode: Callable[[bytes | memoryview], Received],
        on_message: Callable[[Received], None],
        on_close: Callable[[], None],
    ) -> None:
        self._decode = decode
        self._on_message = on_message
        self._on_close = on_close
        self._encode = msgspec.msgpack.Encoder().encode
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    async def connect(self, control: socket.socket) -> None:
        """Speak over ``control``; messages may arrive before this returns."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self, sock=control)

    def send(self, message: Sent) -> None:
        """Send a message; one to a peer that is gone is lost, and ``on_close`` tells of that."""
        if self._transport is not None:
            payload = self._encode(message)
            self._transport.write(len(payload).to_bytes(4, "big") + payload)

    def close(self) -> None:
        """Send what is buffered, then close."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready to send."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass each whole message on; a peer that is not understood, or not obeyed, is left."""
        try:
            self._read(data)
        except Exception:
            # Half a conversation is worse than none: both sides know what to do without.
            assert self._transport is not None
            self._transport.abort()
            raise

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the owner, once."""
        self._transport = None
        self._on_close()

    def _read(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            length = int.from_bytes(buffer[at : at + 4], "big")
            if length > FRAME_LIMIT_BYTES:
                raise RuntimeError(f"frame of {length} bytes on a control socket")
            if len(buffer) - at - 4 < length:
                break
            with memoryview(buffer) as whole, whole[at + 4 : at + 4 + length] as payload:
                message = self._decode(payload)
            at += 4 + length
            self._on_message(message)
        del buffer[:at]


def link_to_worker(
    on_message: Callable[[Upward], None], on_close: Callable[[], None]
) -> Link[Upward, Downward | Message]:
    """Return the supervisor's end, not connected yet."""
    return Link(msgspec.msgpack.Decoder(Upward).decode, on_message, on_close)


def link_to_supervisor(
    on_message: Callable[[Downward], None], on_close: Callable[[], None]
) -> Link[Downward, Upward]:
    """Return the worker's end, not connected yet."""
    return Link(msgspec.msgpack.Decoder(Downward).decode, on_message, on_close)
