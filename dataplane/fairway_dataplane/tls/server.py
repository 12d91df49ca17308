"""
TLS towards clients: read the hello, choose the certificate, then be a transport.

A connection has no TLS object before its hello is whole, so that one that
sends nothing costs next to nothing. Handshakes that fail are counted, and
that is all: anybody can make them fail.
"""

import asyncio

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tally import count
from fairway_dataplane.tls.contexts import FALLBACK, CurrentContexts
from fairway_dataplane.tls.engine import PROTOCOLS
from fairway_dataplane.tls.hello import HELLO_LIMIT_BYTES, ClientHello, Unread, read_hello
from fairway_dataplane.tls.layer import TlsLayer
from fairway_snapshot.model import CertificateId

_UNRECOGNIZED_NAME = 112
_NO_APPLICATION_PROTOCOL = 120

_HELD_LIMIT_BYTES = 2 * HELLO_LIMIT_BYTES
"""Bytes kept of an unfinished hello; the excess over the hello's limit is for record headers."""

_OURS = frozenset(name.encode() for name in PROTOCOLS)


class TlsServerProtocol(TlsLayer):
    """
    One TLS connection from a client.

    ``inner`` gets this object as its transport when the handshake is complete,
    and hears nothing if it never is. ``handshakes`` counts by ``version
    resumed result``: version ``TLSv1.3``, ``TLSv1.2`` or ``none``, resumed
    ``true`` or ``false``, result ``ok``, ``failed`` (the engine refused),
    ``not-tls``, ``malformed``, ``unknown-name``, ``no-protocol``, ``timeout``,
    ``closed`` (by the client) or ``refused`` (too many connections).
    """

    __slots__ = ("_arrivals", "_contexts", "_handshakes", "_made", "certificate", "server_name")

    server_name: bytes
    """As the client asked for it: lower case, no trailing dot; empty if it named no host."""

    certificate: CertificateId
    """Which certificate answered; empty for the self-signed one."""

    def __init__(  # noqa: PLR0913 - each belongs to another owner
        self,
        inner: asyncio.Protocol,
        *,
        contexts: CurrentContexts,
        clock: Clock,
        limits: Limits,
        handshakes: dict[str, int],
        arrivals: Arrivals,
    ) -> None:
        super().__init__(clock, limits, serves=True)
        self._made: asyncio.Protocol | None = inner
        self._contexts = contexts
        self._handshakes = handshakes
        self._arrivals = arrivals
        self.server_name = b""
        self.certificate = FALLBACK

    def covers(self, host: bytes) -> bool:
        """
        Tell whether a normalised host would be answered with this connection's certificate.

        A request for one that would not be is answered with 421 (RFC 9110 section 7.4).
        """
        return self._contexts.current.covers(self.certificate, host)

    def _arrive(self) -> None:
        """Take a place for the time of the handshake, or be refused one."""
        if not self._arrivals.add(self):
            count(self._handshakes, "none false refused")
            self.abort()

    def _begin(self, data: bytes) -> None:
        data = bytes(self._held) + data if self._held else data
        hello = read_hello(data)
        if isinstance(hello, ClientHello):
            self._held = b""
            self._answer(hello, data)
        elif hello is Unread.INCOMPLETE and len(data) <= _HELD_LIMIT_BYTES:
            self._held = data
        else:
            self._refuse("not-tls" if hello is Unread.NOT_TLS else "malformed", None)

    def _answer(self, hello: ClientHello, data: bytes) -> None:
        offered = hello.application_protocols
        if offered is not None and _OURS.isdisjoint(offered):
            self._alert(_NO_APPLICATION_PROTOCOL, "no-protocol")
            return
        chosen = self._contexts.current.choose(hello.server_name)
        if chosen is None:
            self._alert(_UNRECOGNIZED_NAME, "unknown-name")
            return
        self.server_name = hello.server_name
        self.certificate = chosen.certificate
        self._engine = chosen.context.engine()
        self._feed(data)

    def _alert(self, description: int, result: str) -> None:
        """Refuse with a fatal alert, in clear as everything before a ServerHello is."""
        if self._transport is not None:
            self._transport.write(bytes((21, 3, 3, 0, 2, 2, description)))
        self._refuse(result, None)

    def _connected(self) -> asyncio.Protocol:
        count(self._handshakes, f"{self.version} {'true' if self.resumed else 'false'} ok")
        inner, self._made = self._made, None
        assert inner is not None
        self._arrivals.remove(self)
        return inner

    def _failed(self, result: str, error: Exception | None) -> None:  # noqa: ARG002 - counted
        self._made = None
        self._arrivals.remove(self)
        count(self._handshakes, f"none false {result}")
