"""Two certificates for one name: each client gets the one that it can take (T12)."""

import asyncio
import ssl
import sys
import time
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from fairway_dataplane.tls.certificates import not_after, self_signed
from fairway_dataplane.tls.contexts import build_contexts
from fairway_snapshot.model import Certificate, CertificateId
from tests.fairway_dataplane.tls.conftest import (
    PATIENCE_SECONDS,
    SHOP,
    WILD,
    Client,
    Server,
    certificates,
    contexts,
    der,
    pem_of,
    server_names,
    signed_like,
    trusting,
)

RSA = signed_like(SHOP, rsa.generate_private_key(65537, 2048))
BOTH = msgspec.structs.replace(SHOP, alternative=RSA)
NAMES = server_names({"shop.example": "both"})


def offering(ciphers: str) -> ssl.SSLContext:
    """A client of TLS 1.2 that can take one kind of key."""
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize("first", [SHOP, RSA], ids=["ECDSA first", "RSA first"])
@pytest.mark.parametrize(
    ("context", "expected"),
    [
        pytest.param(offering("ECDHE-RSA-AES128-GCM-SHA256"), RSA, id="RSA alone"),
        pytest.param(offering("ECDHE-ECDSA-AES128-GCM-SHA256"), SHOP, id="ECDSA alone"),
        pytest.param(trusting(), SHOP, id="both, of which ECDSA is the quicker"),
    ],
)
async def test_t12_the_client_decides_which_certificate_it_gets(
    server: Server, context: ssl.SSLContext, expected: Certificate, first: Certificate
) -> None:
    second = RSA if first is SHOP else SHOP
    both = msgspec.structs.replace(first, alternative=second)
    server.current.swap(contexts(*certificates(both=both), *NAMES))

    client = await Client.connect(server.port, "shop.example", context=context)

    assert client.peer() == der(expected)
    client.close()


_ASK = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tls = context.wrap_socket(raw, server_hostname="shop.example")
assert tls.version() == "TLSv1.3"
sys.stdout.buffer.write(tls.getpeercert(binary_form=True))
"""


@pytest.mark.parametrize(
    ("algorithms", "expected"),
    [
        pytest.param("rsa_pss_rsae_sha256", RSA, id="RSA"),
        pytest.param("ecdsa_secp256r1_sha256", SHOP, id="ECDSA"),
    ],
)
async def test_t12_in_tls_1_3_the_signature_algorithms_decide(
    server: Server, tmp_path: Path, algorithms: str, expected: Certificate
) -> None:
    server.current.swap(contexts(*certificates(both=BOTH), *NAMES))
    # The ssl module cannot say which algorithms a client offers; OpenSSL's own settings can.
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = here\n"
        f"[here]\nSignatureAlgorithms = {algorithms}\n"
    )

    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _ASK, str(server.port),
        env={"OPENSSL_CONF": str(settings)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_SECONDS):
        shown, _ = await client.communicate()

    assert shown == der(expected)


def test_t12_two_with_one_bad_are_refused_as_one() -> None:
    stranger = Certificate(chain=RSA.chain, key=pem_of(rsa.generate_private_key(65537, 2048)))
    before = contexts(*certificates(both=BOTH), *NAMES)
    bad = msgspec.structs.replace(SHOP, alternative=stranger)

    after = build_contexts(before, certificates(both=bad))

    assert "does not belong" in after.leaves[CertificateId("n/both")].refused
    assert after.choose(b"shop.example") is before.choose(b"shop.example")


def test_t12_the_earlier_end_is_the_end_of_both() -> None:
    soon = self_signed(("shop.example",), now=time.time(), valid_seconds=60)

    assert not_after(msgspec.structs.replace(WILD, alternative=soon)) == not_after(soon)
    assert not_after(msgspec.structs.replace(soon, alternative=WILD)) == not_after(soon)
