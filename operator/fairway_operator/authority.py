"""
The certificate authority of the stream: who may send and who may receive snapshots.

A snapshot holds private keys, so both ends of the stream show a certificate
from this authority and from no other. An :class:`Authority` is a value: the
pair that signs, perhaps its successor, and what is still trusted. Where the
value is kept (a Secret, or the memory of ``fairway dev``) is not known here, and
neither is the time: ``now`` is an argument.

The one rule of rotation: an authority is trusted everywhere before it signs
anything, and stays trusted until it expires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fairway_snapshot.secret import SecretBytes

OPERATOR_NAME = "fairway-operator"
"""DNS name in every operator's certificate: what a subscriber checks, wherever it connects."""

BACKDATED = timedelta(hours=2)
"""Certificates begin this long before they are made, because clocks of nodes differ."""


class Role(StrEnum):
    """What a certificate may be used for."""

    OPERATOR = "operator"
    DATAPLANE = "dataplane"

    @property
    def uri(self) -> str:
        """How the role is written into a certificate, as a subject alternative name."""
        return f"spiffe://fairway.dev/{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long certificates live."""

    authority: timedelta = timedelta(days=365)
    overlap: timedelta = timedelta(days=7)
    """How long a successor is trusted before it signs."""
    certificate: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A certificate, its key, and whom its holder should trust; all as PEM."""

    chain: bytes
    key: SecretBytes
    trusted: bytes
    """Every authority that a peer's certificate may come from."""

    def is_due(self, authority: "Authority", *, now: datetime) -> bool:
        """
        Say whether to issue these anew.

        That is so after two thirds of their life, and at once when the trusted
        authorities are others by now.
        """
        if self.trusted != authority.trusted:
            return True
        return now >= _third_of_life(x509.load_pem_x509_certificate(self.chain), thirds=2)

    def to_files(self) -> dict[str, bytes]:
        """Return them under the names of a kubernetes.io/tls Secret, with ca.crt."""
        return {"tls.crt": self.chain, "tls.key": self.key.reveal(), "ca.crt": self.trusted}


@dataclass(frozen=True, slots=True)
class Pair:
    """The certificate and the key of one authority, as PEM."""

    certificate: bytes
    key: SecretBytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority, its successor, and its predecessors that are still trusted."""

    signing: Pair
    successor: Pair | None = None
    retired: tuple[bytes, ...] = ()

    @property
    def trusted(self) -> bytes:
        """PEM of all authorities to trust; equal sets are equal bytes."""
        pairs = [self.signing] if self.successor is None else [self.signing, self.successor]
        return b"".join(sorted({pair.certificate for pair in pairs} | set(self.retired)))

    def issue(
        self, role: Role, names: Sequence[str] = (), *, now: datetime, lifetimes: Lifetimes
    ) -> Credentials:
        """
        Issue a certificate for ``role``; ``names`` are DNS names and IP addresses.

        It never outlives the authority that signs it.
        """
        issuer = x509.load_pem_x509_certificate(self.signing.certificate)
        key = ec.generate_private_key(ec.SECP256R1())
        # Operators are clients, too: of the leader, to whom they report.
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if role is Role.OPERATOR:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        alternatives = [x509.UniformResourceIdentifier(role.uri), *map(_general_name, names)]
        builder = (
            _builder(role.value, key, now=now)
            .issuer_name(issuer.subject)
            .not_valid_after(min(now + lifetimes.certificate, issuer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type] # only EC keys are made here
                critical=False,
            )
        )
        signer = serialization.load_pem_private_key(self.signing.key.reveal(), password=None)
        certificate = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type] # as above
        return Credentials(
            chain=certificate.public_bytes(serialization.Encoding.PEM),
            key=_key_pem(key),
            trusted=self.trusted,
        )

    def renewed(self, *, now: datetime, lifetimes: Lifetimes) -> "Authority":
        """
        Return the authority as it should be at ``now``; equal when nothing is due.

        After two thirds of its life it gets a successor; after the overlap the
        successor signs; what has expired is no longer trusted.
        """
        signing = x509.load_pem_x509_certificate(self.signing.certificate)
        authority = replace(
            self, retired=tuple(pem for pem in self.retired if not _has_expired(pem, now=now))
        )
        if signing.not_valid_after_utc <= now:
            fresh = self.successor or _create_pair(now=now, lifetimes=lifetimes)
            return replace(authority, signing=fresh, successor=None)
        if authority.successor is None:
            if now < _third_of_life(signing, thirds=2):
                return authority
            return replace(authority, successor=_create_pair(now=now, lifetimes=lifetimes))
        successor = x509.load_pem_x509_certificate(authority.successor.certificate)
        if now < successor.not_valid_before_utc + BACKDATED + lifetimes.overlap:
            return authority
        return Authority(
            signing=authority.successor, retired=(*authority.retired, self.signing.certificate)
        )

    def to_files(self) -> dict[str, bytes]:
        """Return the content of the authority's Secret."""
        files = {
            "tls.crt": self.signing.certificate,
            "tls.key": self.signing.key.reveal(),
            "ca.crt": self.trusted,
        }
        if self.successor is not None:
            files["next.crt"] = self.successor.certificate
            files["next.key"] = self.successor.key.reveal()
        return files


def create_authority(*, now: datetime, lifetimes: Lifetimes) -> Authority:
    """Make a new authority."""
    return Authority(signing=_create_pair(now=now, lifetimes=lifetimes))


def authority_from_files(files: Mapping[str, bytes]) -> Authority:
    """Read what :meth:`Authority.to_files` wrote. Raises ValueError, which names the file."""
    signing = _read_pair(files, "tls")
    successor = _read_pair(files, "next") if "next.crt" in files else None
    known = {signing.certificate, successor.certificate if successor else b""}
    trusted = _read_certificates(files, "ca.crt")
    return Authority(
        signing=signing,
        successor=successor,
        retired=tuple(sorted(pem for pem in trusted if pem not in known)),
    )


def credentials_from_files(files: Mapping[str, bytes]) -> Credentials:
    """Read what :meth:`Credentials.to_files` wrote. Raises ValueError, which names the file."""
    pair = _read_pair(files, "tls")
    trusted = b"".join(sorted(_read_certificates(files, "ca.crt")))
    return Credentials(chain=pair.certificate, key=pair.key, trusted=trusted)


def _create_pair(*, now: datetime, lifetimes: Lifetimes) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own, so that two generations are never taken for one another.
    name = f"fairway authority {now:%Y-%m-%d} {x509.random_serial_number():040x}"[:64]
    certificate = (
        _builder(name, key, now=now)
        .issuer_name(_name(name))
        .not_valid_after(now + lifetimes.authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def _builder(
    name: str, key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> x509.CertificateBuilder:
    public_key = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> SecretBytes:
    return SecretBytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _third_of_life(certificate: x509.Certificate, *, thirds: int) -> datetime:
    begin = certificate.not_valid_before_utc + BACKDATED
    return begin + (certificate.not_valid_after_utc - begin) * thirds / 3


def _has_expired(pem: bytes, *, now: datetime) -> bool:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc <= now


def _read_pair(files: Mapping[str, bytes], stem: str) -> Pair:
    certificates = _read_certificates(files, f"{stem}.crt")
    pem = files.get(f"{stem}.key", b"")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{stem}.key is not a private key in PEM") from error
    public_key = x509.load_pem_x509_certificate(certificates[0]).public_key()
    if key.public_key() != public_key:
        raise ValueError(f"{stem}.key does not belong to {stem}.crt")
    return Pair(certificates[0], SecretBytes(pem))


def _read_certificates(files: Mapping[str, bytes], name: str) -> list[bytes]:
    try:
        certificates = x509.load_pem_x509_certificates(files.get(name, b""))
    except ValueError as error:
        raise ValueError(f"{name} holds no certificates in PEM") from error
    return [each.public_bytes(serialization.Encoding.PEM) for each in certificates]
