"""
TLS without I/O: ciphertext in, plaintext out, one state machine for each connection.

There are two. OpenSSL's is here, through the standard library and two memory
BIOs; it speaks to backends, and to clients where nothing else is built. That of
rustls is a compiled module (``dataplane/rustls``) which speaks to clients: a
handshake costs it half, and an idle connection takes less memory. The one rule:
who drives an engine cannot tell which it is.
"""

import ssl
from typing import Protocol

READ_BYTES = 16 * 1024
"""One read of plaintext: the most a record holds. Larger reads allocate more than they save."""

PROTOCOLS = ("http/1.1",)
"""What ALPN offers, in order of preference."""

Data = bytes | bytearray | memoryview


class Engine(Protocol):
    """The TLS of one connection. An error of its peer is an ``ssl.SSLError``."""

    @property
    def opened(self) -> bool:
        """Tell whether the handshake is complete."""

    @property
    def ended(self) -> bool:
        """Tell whether the peer has said that nothing more comes (close_notify)."""

    @property
    def unsent(self) -> int:
        """Return how many bytes of ciphertext wait for :meth:`take`; after an error, if any."""

    @property
    def version(self) -> str:
        """Return ``TLSv1.3`` or ``TLSv1.2``; empty before the handshake is complete."""

    @property
    def resumed(self) -> bool:
        """Tell whether the handshake resumed a session."""

    def receive(self, data: Data) -> bytes:
        """Take ciphertext and return the plaintext that it brings; raises ssl.SSLError."""

    def send(self, data: Data) -> None:
        """Encrypt plaintext, once opened; may raise ssl.SSLError after one of :meth:`receive`."""

    def take(self) -> bytes:
        """Return the ciphertext that is to be sent; after an error that is an alert."""

    def close(self) -> None:
        """Say that nothing more is sent (close_notify)."""


class ServerContext(Protocol):
    """What the connections of one certificate share."""

    def use_ticket_keys(self, keys: bytes) -> None:
        """Encrypt session tickets with these from now on: ``TICKET_KEY_BYTES`` of ``openssl``."""

    def engine(self) -> Engine:
        """Return the engine of a new connection."""


class OpenSslEngine:
    """OpenSSL's, for either side."""

    __slots__ = ("_incoming", "_outgoing", "_partial", "ended", "handle", "opened", "resumed",
                 "version")  # fmt: skip

    handle: ssl.SSLObject
    """What the standard library knows of the connection, such as the peer's certificate."""

    def __init__(
        self, context: ssl.SSLContext, *, serves: bool, server_name: str | None = None
    ) -> None:
        """Take ``server_name`` for a client: whom it asks for."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.handle = context.wrap_bio(
            self._incoming, self._outgoing, server_side=serves, server_hostname=server_name
        )
        self._partial = False
        self.opened = False
        self.ended = False
        self.resumed = False
        self.version = ""

    @property
    def unsent(self) -> int:
        """Return how many bytes of ciphertext wait."""
        return self._outgoing.pending

    def receive(self, data: Data) -> bytes:
        """Take ciphertext, a client's first time none, and return plaintext."""
        self._incoming.write(data)
        if not self.opened:
            try:
                self.handle.do_handshake()
            except ssl.SSLWantReadError:
                return b""
            self.opened = True
            self.version = self.handle.version() or ""
            self.resumed = bool(self.handle.session_reused)
        parts: list[bytes] = []
        more = self._incoming.pending
        try:
            while more:
                # Plaintext is shorter than its records, unless OpenSSL has the beginning of one.
                wanted = READ_BYTES if self._partial or more > READ_BYTES else more
                plain = self.handle.read(wanted)
                self._partial = False
                if not plain:
                    self.ended = True
                    break
                parts.append(plain)
                more = self._incoming.pending
        except ssl.SSLWantReadError:
            self._partial = True  # The rest of a record is still on its way.
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def send(self, data: Data) -> None:
        """Encrypt plaintext."""
        size = len(data)
        sent = self.handle.write(data)
        while sent < size:
            sent += self.handle.write(memoryview(data)[sent:])

    def take(self) -> bytes:
        """Return the ciphertext that is to be sent."""
        return self._outgoing.read()

    def close(self) -> None:
        """Say that nothing more is sent."""
        try:  # noqa: SIM105 - suppress() costs two microseconds
            self.handle.unwrap()
        except ssl.SSLError:
            pass  # It goes on to wait for the peer's, which is of no interest here.
