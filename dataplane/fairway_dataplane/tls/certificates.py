"""
Certificates of the snapshot in the shape OpenSSL wants.

OpenSSL is the judge: what it loads is served, what it refuses is refused with
a reason that names no content. The standard library loads keys from files
only, so a key goes through an anonymous file in memory and never meets a disk.
"""

import datetime as dt
import os
import re
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway_snapshot.model import Certificate
from fairway_snapshot.secret import SecretBytes

CHAIN_LIMIT_BYTES = 16 * 1024
"""Longest chain sent in a handshake. A longer one costs every client a round trip or more."""

PEM_LIMIT_BYTES = 64 * 1024
"""Longest text of a chain or a key that is read at all."""

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class CertificateRefused(Exception):  # noqa: N818 - it is an answer, not a bug
    """A chain or a key that cannot be served; the message says why and shows no content."""


def load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Load a chain and its key; raises CertificateRefused and then ``context`` is not usable."""
    key = certificate.key.reveal()
    if not certificate.chain.strip() or not key.strip():
        raise CertificateRefused("the chain or the key is empty")
    if len(certificate.chain) > PEM_LIMIT_BYTES or len(key) > PEM_LIMIT_BYTES:
        raise CertificateRefused(f"the chain or the key is longer than {PEM_LIMIT_BYTES} bytes")
    if (sent := _sent_bytes(certificate.chain)) > CHAIN_LIMIT_BYTES:
        raise CertificateRefused(f"the chain has {sent} bytes, more than {CHAIN_LIMIT_BYTES}")
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        # The kernel takes a write to memory whole: it is far below its 2 GiB limit.
        os.write(descriptor, b"\n".join((certificate.chain, key, b"")))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    except ssl.SSLError as error:
        raise CertificateRefused(_explain(error)) from None
    finally:
        os.close(descriptor)


def not_after(certificate: Certificate) -> float | None:
    """
    Return when the leaf expires, in seconds since the epoch; of two the earlier.

    None when the parser refuses what OpenSSL accepts (it is the stricter of the
    two). Takes tens of microseconds: for metrics, never for a handshake.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate.chain)
    except ValueError:
        return None
    expiry = leaf.not_valid_after_utc.timestamp()
    other = None if certificate.alternative is None else not_after(certificate.alternative)
    return expiry if other is None else min(expiry, other)


def self_signed(names: tuple[str, ...], *, now: float, valid_seconds: float) -> Certificate:
    """
    Make a certificate that no client trusts, so that a handshake has something to show.

    ``now`` is seconds since the epoch; validity begins an hour before it, for
    clients whose clock is behind.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fairway default certificate")])
    start = dt.datetime.fromtimestamp(now, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - dt.timedelta(hours=1))
        .not_valid_after(start + dt.timedelta(seconds=valid_seconds))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    chain = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Certificate(chain=chain, key=SecretBytes(secret))


def _sent_bytes(chain: bytes) -> int:
    """Return the size of the chain in a handshake: DER is three quarters of its Base64."""
    return sum(len(b"".join(body.split())) * 3 // 4 for body in _BLOCK.findall(chain))


def _no_password() -> bytes:
    # Without a callback OpenSSL asks on the terminal.
    raise CertificateRefused("the key is encrypted")


_EXPLANATIONS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the first certificate of the chain",
    "KEY_TYPE_MISMATCH": "the key does not belong to the first certificate of the chain",
    # A chain and a key of different kinds are kept apart until they are compared.
    "NO_CERTIFICATE_ASSIGNED": "the key does not belong to the first certificate of the chain",
    "NO_START_LINE": "the chain or the key is not PEM",
    "BAD_BASE64_DECODE": "the chain or the key is not PEM",
    "BAD_END_LINE": "the chain or the key is not PEM",
    "EE_KEY_TOO_SMALL": "the key is too weak",
    "CA_KEY_TOO_SMALL": "a key of the chain is too weak",
    "CA_MD_TOO_WEAK": "a signature of the chain is too weak",
}


def _explain(error: ssl.SSLError) -> str:
    """Return a sentence; OpenSSL's reason word is kept because it can be searched for."""
    # Python has no word for the commonest one.
    reason = error.reason or "NO_START_LINE"
    return f"{_EXPLANATIONS.get(reason, 'the chain or the key cannot be read')} ({reason})"
