"""
TLS towards backends: verified when a name is given, encrypted in any case.

In a cluster most backends show certificates that nobody can verify, which is
why the snapshot says for each backend whether to. A name to verify is a rule:
a backend that cannot prove it is never spoken to.
"""

import asyncio
import ssl
from collections.abc import Callable

from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.engine import PROTOCOLS, OpenSslEngine
from fairway_dataplane.tls.layer import TlsLayer


class TlsClientProtocol(TlsLayer):
    """
    One TLS connection to a backend.

    ``inner`` gets this object as its transport when the handshake is complete.
    If it never is, ``inner`` hears nothing and ``failed`` is called once with
    the reason: ``ssl.SSLCertVerificationError``, ``ssl.SSLError``,
    ``TimeoutError`` or ``ConnectionError``.
    """

    __slots__ = ("_context", "_made", "_server_name", "_tell_failure")

    def __init__(  # noqa: PLR0913 - each belongs to another owner
        self,
        inner: asyncio.Protocol,
        *,
        context: ssl.SSLContext,
        server_name: str | None,
        clock: Clock,
        limits: Limits,
        failed: Callable[[Exception], None],
    ) -> None:
        super().__init__(clock, limits, serves=False)
        self._context = context
        self._server_name = server_name
        self._made: asyncio.Protocol | None = inner
        self._tell_failure: Callable[[Exception], None] | None = failed

    def _arrive(self) -> None:
        """Send the hello."""
        self._engine = OpenSslEngine(self._context, serves=False, server_name=self._server_name)
        self._decrypt(b"")
        self._flush()

    def _connected(self) -> asyncio.Protocol:
        inner, self._made, self._tell_failure = self._made, None, None
        assert inner is not None
        return inner

    def _failed(self, result: str, error: Exception | None) -> None:
        tell, self._made, self._tell_failure = self._tell_failure, None, None
        if tell is not None:
            tell(error or ConnectionError(f"TLS handshake {result}"))


class ClientContexts:
    """
    The two contexts for backends, made when first needed and shared.

    Those that verify do it against ``authorities``: the path of a PEM bundle,
    or None for the system's.
    """

    __slots__ = ("_authorities", "_unverified", "_verified")

    def __init__(self, authorities: str | None) -> None:
        self._authorities = authorities
        self._verified: ssl.SSLContext | None = None
        self._unverified: ssl.SSLContext | None = None

    def __call__(self, server_name: str | None) -> ssl.SSLContext:
        """
        Return the context for a server name to verify, or for None.

        Raises OSError or ssl.SSLError for a bundle that cannot be read.
        """
        if server_name is None:
            if self._unverified is None:
                self._unverified = _client_context(verify=False, authorities=None)
            return self._unverified
        if self._verified is None:
            self._verified = _client_context(verify=True, authorities=self._authorities)
        return self._verified


def _client_context(*, verify: bool, authorities: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cafile=authorities)
    return context
