"""
What answers clients with a certificate: rustls where it is built, OpenSSL otherwise.

Both serve the same versions, suites and protocols, in the same order. The one
rule: a certificate is served if and only if OpenSSL loads it, and one that
rustls does not take (a key on a curve that browsers do not know, a certificate of
version 1) is served by OpenSSL, so that no build refuses what another serves.
"""

import ssl

from fairway_dataplane.tls.certificates import load
from fairway_dataplane.tls.engine import PROTOCOLS, Engine, OpenSslEngine, ServerContext
from fairway_dataplane.tls.openssl import PRIORITIZE_CHACHA, prefer_small_suites, set_ticket_keys
from fairway_snapshot.model import Certificate

try:
    import fairway_dataplane.tls._rustls as _rustls  # noqa: PLR0402 - see what is caught
except ModuleNotFoundError:  # a plain installation; one that is there and broken is an error
    RUSTLS = False
else:
    RUSTLS = True

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
"""For TLS 1.2; for those of 1.3 see :data:`fairway_dataplane.tls.openssl.PREFERRED`."""


class OpenSslContext:
    """OpenSSL's context for one certificate."""

    __slots__ = ("context",)

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def use_ticket_keys(self, keys: bytes) -> None:
        """Encrypt session tickets with these from now on."""
        set_ticket_keys(self.context, keys)

    def engine(self) -> Engine:
        """Return the engine of a new connection."""
        return OpenSslEngine(self.context, serves=True)


def server_context(certificate: Certificate) -> ServerContext:
    """Return what serves ``certificate``; raises CertificateRefused."""
    openssl = openssl_context(certificate)  # in any case: it says what is wrong with one
    if RUSTLS:
        both = [certificate, *([certificate.alternative] if certificate.alternative else ())]
        pairs = [(one.chain, one.key.reveal()) for one in both]
        try:
            return _rustls.ServerContext(pairs, [name.encode() for name in PROTOCOLS])
        except ValueError:
            pass  # it takes less than OpenSSL, which then serves it
    return openssl


def openssl_context(certificate: Certificate) -> OpenSslContext:
    """
    Return a context of OpenSSL that serves ``certificate``; raises CertificateRefused.

    With an alternative, OpenSSL chooses by what the client offers: the signature
    algorithms of TLS 1.3, the cipher suites of 1.2. Both are refused as one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    prefer_small_suites(context)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | PRIORITIZE_CHACHA
    context.set_alpn_protocols(list(PROTOCOLS))
    # Each ticket costs bytes and time in every full handshake; one is what a client uses.
    # Early data needs no refusal: OpenSSL takes none unless it is told to.
    context.num_tickets = 1
    load(context, certificate)
    if certificate.alternative is not None:
        load(context, certificate.alternative)
    return OpenSslContext(context)
