"""
Secrets to certificates.

What is checked here is advice to the author: a key of another certificate, or
text that is no PEM, is caught before a handshake fails. OpenSSL in the data
plane is the judge; where :mod:`cryptography` cannot read what OpenSSL may serve
(odd extensions, old serial numbers), it is passed on with a warning. No
message holds any of the content.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fairway_operator.refs import ObjectRef
from fairway_operator.resources import Secret
from fairway_operator.resources.secret import TLS_TYPE
from fairway_snapshot.model import Certificate
from fairway_snapshot.secret import SecretBytes

_BLOCK: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", re.DOTALL)
_MAX_BYTES: Final = 256 * 1024
_RSA_BITS: Final = 2048
_CURVE_BITS: Final = 224
"""The least at security level 2 of OpenSSL, which the data plane uses."""


@dataclass(frozen=True, slots=True)
class CheckedCertificate:
    """What a Secret is good for."""

    certificate: Certificate | None
    """None where it cannot be served."""
    names: tuple[str, ...]
    """DNS names that the leaf is for, in lower case."""
    key_kind: str = ""
    """Kind of its key, as ``RSA``; empty where it may not be served beside another."""
    problem: str = ""
    """Why it cannot be served, or what is odd about it; empty when all is well."""


class CertificateChecks:
    """Remembers the outcome for each Secret, because a check takes a good part of a millisecond."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[ObjectRef, tuple[Secret, CheckedCertificate]] = {}

    def check(self, secret: Secret) -> CheckedCertificate:
        """Return what a Secret is good for."""
        known = self._known.get(secret.ref)
        if known is not None and known[0] is secret:
            return known[1]
        checked = check_secret(secret)
        self._known[secret.ref] = secret, checked
        return checked

    def forget(self, ref: ObjectRef) -> None:
        """Drop the outcome for a Secret that nobody refers to any more."""
        self._known.pop(ref, None)


def check_secret(secret: Secret) -> CheckedCertificate:
    """Return what a Secret is good for."""
    if secret.type != TLS_TYPE:
        return _useless(f"has the type {secret.type or 'Opaque'}, not {TLS_TYPE}")
    if secret.chain is None or secret.key is None:
        missing = "tls.crt" if secret.chain is None else "tls.key"
        return _useless(f"has no usable {missing}")
    size = max(len(secret.chain), len(secret.key.reveal()))
    if size > _MAX_BYTES:
        return _useless(f"has {size} bytes in one entry, {_MAX_BYTES} at most")
    blocks: list[bytes] = _BLOCK.findall(secret.chain)
    if not blocks:
        return _useless("has no PEM certificate in tls.crt")
    if b"PRIVATE KEY-----" not in secret.key.reveal():
        return _useless("has no PEM private key in tls.key")
    return _matched(blocks, secret.key)


def _matched(blocks: list[bytes], key: SecretBytes) -> CheckedCertificate:
    """Return the chain with the leaf first; the leaf is what the key belongs to."""
    public = _public_key(key)
    leaves = [_read(block) for block in blocks]
    if public is None or leaves[0] is None:
        unchecked = Certificate(chain=_join(blocks), key=key)
        return CheckedCertificate(
            unchecked,
            () if leaves[0] is None else tuple(_names(leaves[0])),
            problem="could not be checked, and is passed on as it is",
        )
    for at, leaf in enumerate(leaves):
        if leaf is not None and _spki(leaf) == public:
            ordered = [blocks[at], *blocks[:at], *blocks[at + 1 :]]
            return CheckedCertificate(
                Certificate(chain=_join(ordered), key=key),
                tuple(_names(leaf)),
                _key_kind(leaf),
                "" if at == 0 else "does not begin with its own certificate; put the leaf first",
            )
    return _useless("has a tls.key that belongs to another certificate")


def _public_key(key: SecretBytes) -> bytes | None:
    try:
        # Whether the numbers are sound is OpenSSL's to say; the full check takes 20 ms for RSA.
        private = load_pem_private_key(
            key.reveal(), password=None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(block: bytes) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(block)
    except ValueError:
        return None


def _spki(certificate: x509.Certificate) -> bytes | None:
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_kind(certificate: x509.Certificate) -> str:
    """Return the kind; empty also for a key so weak that OpenSSL would refuse both of a pair."""
    match certificate.public_key():
        case rsa.RSAPublicKey(key_size=size) if size >= _RSA_BITS:
            return "RSA"
        case ec.EllipticCurvePublicKey(key_size=size) if size >= _CURVE_BITS:
            return "ECDSA"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case _:
            return ""


def _names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return
    for name in extension.value.get_values_for_type(x509.DNSName):
        yield name.lower()


def _join(blocks: list[bytes]) -> bytes:
    return b"\n".join(blocks) + b"\n"


def _useless(problem: str) -> CheckedCertificate:
    return CheckedCertificate(None, (), problem=problem)
