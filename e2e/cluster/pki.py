"""
Certificates of the local cluster: one authority, and a pair for each component.

They live as long as the cluster's folder, a month at most; nothing outside the
cluster's own network namespace can reach what they open.
"""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=30)


class Pki:
    """A folder with ``ca.crt`` and the pairs that it signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
        authority = (
            _builder(self._name, self._key.public_key())
            .issuer_name(self._name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._write("ca.crt", authority.public_bytes(serialization.Encoding.PEM))
        self._write("ca.key", _private_pem(self._key))
        accounts = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._write("accounts.key", _private_pem(accounts))
        self._write("accounts.pub", _public_pem(accounts))

    def issue(self, file: str, user: str, group: str, names: Sequence[str] = ()) -> None:
        """Write ``file.crt`` and ``file.key`` for a client, or with ``names`` for a server too."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
                x509.NameAttribute(NameOID.COMMON_NAME, user),
            ]
        )
        usage = [ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = _builder(subject, key.public_key()).issuer_name(self._name)
        if names:
            usage.append(ExtendedKeyUsageOID.SERVER_AUTH)
            alternative = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        certificate = (
            builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._write(f"{file}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        self._write(f"{file}.key", _private_pem(key))

    def kubeconfig(self, file: str, server: str) -> str:
        """Return a kubeconfig (JSON is YAML) that needs no other file."""

        def content(name: str) -> str:
            return base64.b64encode((self.folder / name).read_bytes()).decode()

        user = {
            "client-certificate-data": content(f"{file}.crt"),
            "client-key-data": content(f"{file}.key"),
        }
        access = {"server": server, "certificate-authority-data": content("ca.crt")}
        whole = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": access}],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": file}}],
            "current-context": "local",
        }
        return json.dumps(whole, indent=2)

    def _write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_bytes(content)


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
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


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _public_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
