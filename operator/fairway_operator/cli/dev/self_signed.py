"""
Certificates for hosts whose Secret is not in the files.

Nobody commits a private key to show an Ingress, so what a cluster would have
made (cert-manager, an administrator) is made here, in memory.
"""

import base64
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fairway_operator.refs import ObjectRef

_LIFE = timedelta(days=365)


def secret_body(ref: ObjectRef, hosts: Collection[str], now: datetime) -> Mapping[str, Any]:
    """Return a ``kubernetes.io/tls`` Secret whose certificate is for ``hosts``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fairway dev")])
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in sorted(hosts)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - timedelta(hours=1))
        .not_valid_after(now.astimezone(UTC) + _LIFE)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(certificate.public_bytes(encoding)).decode(),
            "tls.key": base64.b64encode(private).decode(),
        },
    }
