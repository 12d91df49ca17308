"""
Which certificate answers a server name.

A :class:`Contexts` is a value: it is built beside the one in use and replaces
it by one assignment, so a handshake sees either the old certificates or the
new ones and none fails in between (connections that exist keep theirs). The
one rule: a certificate that cannot be loaded is refused alone, its last good
form goes on serving, and the reason is part of the value.

There is one ``ssl.SSLContext`` for each certificate, shared by all of its names
and connections, and it is made anew only when its leaf changes. Session
tickets are encrypted with a key of the context. The standard library cannot
set that key, so a session is resumed by the worker that issued it, and a
client that reaches another worker has a full handshake: with N workers one in
N resumes. A rotated certificate ends resumption for its names, as it should.
"""

import ssl
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fairway_dataplane.tls.certificates import CertificateRefused, load
from fairway_snapshot.diff import Change
from fairway_snapshot.model import Certificate, CertificateId, Section, ServerName

FALLBACK = CertificateId("")
"""Id of the self-signed certificate that answers where there is no better one."""

PROTOCOLS = ("http/1.1",)
"""What ALPN offers, in order of preference."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
"""For TLS 1.2; those of 1.3 are all sound and cannot be chosen here."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that is ready to serve."""

    certificate: CertificateId
    context: ssl.SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """Every server name and the certificate that answers it; never changed once built."""

    fallback: Identity
    """Answers when the snapshot has no default certificate, or the chosen one cannot be loaded."""

    strict: bool
    """Refuse a hello whose name is unknown or missing, instead of answering by default."""

    exact: Mapping[bytes, CertificateId] = field(default_factory=dict)
    wildcard: Mapping[bytes, CertificateId] = field(default_factory=dict)
    """By the name without its first label, as in ``.shop.example``."""

    default: CertificateId = FALLBACK
    identities: Mapping[CertificateId, Identity] = field(default_factory=dict)
    refused: Mapping[CertificateId, str] = field(default_factory=dict)
    """Why a certificate of the snapshot is not served in its present form."""

    def choose(self, server_name: bytes) -> Identity | None:
        """
        Return who answers; None means ``unrecognized_name``.

        An exact name beats a wildcard, which stands for one label; both beat the default.
        """
        certificate = self._named(server_name)
        if certificate is None and self.strict:
            return None
        found = self.identities.get(certificate or self.default)
        # The certificate of a name may be missing or bad: its other routes still serve.
        return found or self.identities.get(self.default, self.fallback)

    def _named(self, name: bytes) -> CertificateId | None:
        found = self.exact.get(name)
        if found is None:
            dot = name.find(b".")
            found = self.wildcard.get(name[dot:]) if dot > 0 else None
        return found


class CurrentContexts:
    """The contexts in use. One writer, the snapshot stream; every handshake reads."""

    __slots__ = ("current",)

    def __init__(self, contexts: Contexts) -> None:
        self.current = contexts

    def swap(self, contexts: Contexts) -> Contexts:
        """Publish ``contexts`` and return those they replace."""
        previous, self.current = self.current, contexts
        return previous


def no_contexts(fallback: Certificate, *, strict: bool) -> Contexts:
    """Return contexts that know ``fallback`` only; raises CertificateRefused if it is bad."""
    return Contexts(fallback=Identity(FALLBACK, server_context(fallback)), strict=strict)


def build_contexts(previous: Contexts, changes: Iterable[Change]) -> Contexts:
    """Return ``previous`` with the changes of its two sections applied; others are skipped."""
    steps = build_contexts_in_steps(previous, changes)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            built: Contexts = end.value
            return built


def build_contexts_in_steps(
    previous: Contexts, changes: Iterable[Change]
) -> Generator[None, None, Contexts]:
    """
    Do as :func:`build_contexts`, and stop after each certificate.

    Loading one takes most of a millisecond, so a caller on an event loop that
    serves lets other work run at each stop.
    """
    certificates: dict[str, Certificate | None] = {}
    names: dict[str, ServerName | None] = {}
    for change in changes:
        if change.section is Section.CERTIFICATES:
            assert change.after is None or isinstance(change.after, Certificate)
            certificates[change.key] = change.after
        elif change.section is Section.SERVER_NAMES:
            assert change.after is None or isinstance(change.after, ServerName)
            names[change.key] = change.after
    built = previous
    if names:
        built = _with_names(built, names)
    if certificates:
        built = yield from _with_certificates(built, certificates)
    return built


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """
    Return a context that serves ``certificate``; raises CertificateRefused.

    With an alternative, OpenSSL chooses by what the client offers: the signature
    algorithms of TLS 1.3, the cipher suites of 1.2. Both are refused as one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(PROTOCOLS))
    # Each ticket costs bytes and time in every full handshake; one is what a client uses.
    # Early data needs no refusal: OpenSSL takes none unless it is told to.
    context.num_tickets = 1
    load(context, certificate)
    if certificate.alternative is not None:
        load(context, certificate.alternative)
    return context


def _with_names(contexts: Contexts, names: Mapping[str, ServerName | None]) -> Contexts:
    exact, wildcard = dict(contexts.exact), dict(contexts.wildcard)
    default = contexts.default
    for pattern, leaf in names.items():
        if not pattern:
            default = FALLBACK if leaf is None else leaf.certificate
            continue
        table = wildcard if pattern.startswith("*.") else exact
        _put(table, pattern.removeprefix("*").encode(), leaf.certificate if leaf else None)
    return replace(contexts, exact=exact, wildcard=wildcard, default=default)


def _with_certificates(
    contexts: Contexts, certificates: Mapping[str, Certificate | None]
) -> Generator[None, None, Contexts]:
    identities, refused = dict(contexts.identities), dict(contexts.refused)
    for name, leaf in certificates.items():
        certificate = CertificateId(name)
        refused.pop(certificate, None)
        if leaf is None:
            identities.pop(certificate, None)
            continue
        try:
            identities[certificate] = Identity(certificate, server_context(leaf))
        except CertificateRefused as refusal:
            refused[certificate] = str(refusal)
        yield
    return replace(contexts, identities=identities, refused=refused)


_K = TypeVar("_K")
_V = TypeVar("_V")


def _put(table: dict[_K, _V], key: _K, value: _V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
