"""What clients get: the same from every engine that is built here."""

import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairway_dataplane.exchange import COMPILED
from fairway_dataplane.tls.certificates import CertificateRefused, self_signed
from fairway_dataplane.tls.engine import Engine, ServerContext
from fairway_dataplane.tls.serving import RUSTLS, OpenSslContext, openssl_context, server_context
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_snapshot.model import Certificate
from fairway_snapshot.secret import SecretBytes
from tests.fairway_dataplane.tls.conftest import SHOP, signed_like, trusting

MAKERS: list[Callable[[Certificate], ServerContext]] = [openssl_context]
if RUSTLS:
    MAKERS.append(server_context)


@pytest.fixture(params=MAKERS, ids=["openssl", "rustls"][: len(MAKERS)])
def made(request: pytest.FixtureRequest) -> ServerContext:
    context: ServerContext = request.param(SHOP)
    context.use_ticket_keys(new_ticket_keys().key(SHOP.chain))
    return context


class Peer:
    """A client of OpenSSL, joined to an engine without a network."""

    def __init__(
        self,
        engine: Engine,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.engine = engine
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or trusting()).wrap_bio(
            self._incoming, self._outgoing, server_hostname="shop.example", session=session
        )
        self.shake()

    def shake(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                assert self.say() == b""
                self.hear()
            else:
                return

    def say(self) -> bytes:
        return self.engine.receive(self._outgoing.read())

    def hear(self) -> None:
        self._incoming.write(self.engine.take())

    def read(self) -> bytes:
        self.hear()
        found = b""
        try:
            while more := self.tls.read(1 << 16):
                found += more
        except ssl.SSLWantReadError:
            pass
        return found


def test_a_release_serves_clients_by_rustls() -> None:
    assert RUSTLS is COMPILED
    assert isinstance(server_context(SHOP), OpenSslContext) is not COMPILED


def test_bytes_go_through_whole_in_both_directions(made: ServerContext) -> None:
    peer = Peer(made.engine())
    blob = os.urandom(300_000)

    peer.tls.write(blob)
    assert peer.say() == blob
    for form in (blob, bytearray(blob), memoryview(blob), memoryview(blob)[::-1]):
        peer.engine.send(bytes(form) if not memoryview(form).contiguous else form)
        assert peer.engine.unsent >= len(blob)
        assert peer.read() == bytes(form)
    assert peer.engine.unsent == 0
    assert peer.engine.take() == b""


def test_each_byte_may_come_alone(made: ServerContext) -> None:
    engine = made.engine()
    context = trusting()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
    heard = b""
    for _ in range(2):
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            tls.write(b"hello")
        for byte in outgoing.read():
            heard += engine.receive(bytes((byte,)))
        incoming.write(engine.take())

    assert (engine.opened, heard) == (True, b"hello")


@pytest.mark.parametrize(
    ("ciphers", "expected"),
    [
        (None, "TLS_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", None),
        ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "CHACHA20"),
    ],
)
def test_the_order_of_suites_is_ours_but_for_who_has_no_aes(
    made: ServerContext, ciphers: str | None, expected: str | None
) -> None:
    context = trusting()
    if ciphers:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)

    chosen = Peer(made.engine(), context).tls.cipher()

    assert chosen is not None
    assert (expected or "GCM") in chosen[0]


@pytest.mark.parametrize(
    "ciphers", ["ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA", "AES128-GCM-SHA256"]
)
def test_neither_cbc_nor_keys_without_forward_secrecy(made: ServerContext, ciphers: str) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    engine = made.engine()

    with pytest.raises(ssl.SSLError):
        Peer(engine, context)
    assert engine.unsent
    assert engine.take()[0] == 21  # an alert
    assert not engine.opened


def test_garbage_after_the_handshake_is_an_error_and_an_alert(made: ServerContext) -> None:
    peer = Peer(made.engine())
    peer.say()
    peer.read()

    with pytest.raises(ssl.SSLError):
        peer.engine.receive(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
    assert peer.engine.unsent
    assert peer.engine.take()


def test_one_ticket_that_is_good_with_the_same_keys_only() -> None:
    keys, others = new_ticket_keys().key(b"chain"), new_ticket_keys().key(b"chain")
    for make in MAKERS:
        first, second = make(SHOP), make(SHOP)
        first.use_ticket_keys(keys)
        second.use_ticket_keys(keys)
        context = trusting()
        peer = Peer(first.engine(), context)
        peer.say()
        peer.read()
        session = peer.tls.session

        assert Peer(second.engine(), context, session).tls.session_reused
        second.use_ticket_keys(others)
        assert not Peer(second.engine(), context, session).tls.session_reused


def test_both_sides_can_end_alone(made: ServerContext) -> None:
    peer = Peer(made.engine())
    peer.say()
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    peer.say()

    assert peer.engine.ended
    peer.engine.send(b"still")
    peer.engine.close()
    assert peer.engine.unsent
    peer.hear()
    with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
        peer.tls.unwrap()


def test_a_curve_that_rustls_does_not_know_is_served_by_openssl() -> None:
    odd = signed_like(SHOP, ec.generate_private_key(ec.SECP256K1()))

    assert isinstance(server_context(odd), OpenSslContext)


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8]
)
def test_keys_of_both_forms_are_loaded(form: serialization.PrivateFormat) -> None:
    key = serialization.load_pem_private_key(SHOP.key.reveal(), None)
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    context = server_context(Certificate(chain=SHOP.chain, key=SecretBytes(secret)))

    assert isinstance(context, OpenSslContext) is not COMPILED


def test_what_openssl_refuses_no_engine_serves() -> None:
    stranger = self_signed(("shop.example",), now=time.time(), valid_seconds=60)

    with pytest.raises(CertificateRefused, match="does not belong"):
        server_context(Certificate(chain=SHOP.chain, key=stranger.key))


def test_no_engine_shows_a_key() -> None:
    shown = repr(server_context(SHOP)) + repr(server_context(SHOP).engine())

    assert "PRIVATE" not in shown
    assert SHOP.key.reveal().split(b"\n")[1].decode() not in shown


def test_a_plain_installation_does_without(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from fairway_dataplane.tls.serving import RUSTLS; print(RUSTLS)"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "False\n"
