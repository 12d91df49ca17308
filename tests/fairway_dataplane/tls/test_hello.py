"""Reading hellos: those of OpenSSL, and those that nobody should send."""

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.tls.hello import HELLO_LIMIT_BYTES, ClientHello, Unread, read_hello


def hello(name: str | None = "shop.example", protocols: list[str] | None = None) -> bytes:
    """Return what OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def cut(data: bytes, size: int) -> bytes:
    """Cut a hello into records of this size, as its sender may."""
    message = data[5:]
    parts = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


HELLO = hello("shop.example", ["h2", "http/1.1"])
READ = ClientHello(b"shop.example", (b"h2", b"http/1.1"))


def test_names_and_protocols_are_read() -> None:
    assert read_hello(HELLO) == READ
    assert read_hello(HELLO + b"more") == READ


def test_without_extensions_nothing_is_asked_for() -> None:
    assert read_hello(hello(None)) == ClientHello(b"", None)


def test_names_are_in_lower_case_and_without_the_final_dot() -> None:
    named = HELLO.replace(b"shop.example", b"SHOP.Exampl.")

    assert read_hello(named) == ClientHello(b"shop.exampl", (b"h2", b"http/1.1"))


def test_an_address_names_no_host() -> None:
    # OpenSSL's client would not send one, but others do.
    addressed = HELLO.replace(b"shop.example", b"127.0.10.11.")

    assert read_hello(addressed) == ClientHello(b"", (b"h2", b"http/1.1"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 500])
def test_a_hello_in_several_records_is_joined(size: int) -> None:
    assert read_hello(cut(HELLO, size)) == READ


@pytest.mark.parametrize("size", [4, 60, 1000])
def test_every_part_of_a_hello_is_incomplete(size: int) -> None:
    whole = cut(HELLO, size)

    assert {read_hello(whole[:at]) for at in range(len(whole))} == {Unread.INCOMPLETE}


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", Unread.NOT_TLS, id="HTTP in clear"),
        pytest.param(b"\x80\x2e\x01\x03\x01", Unread.NOT_TLS, id="a hello of SSL 2"),
        pytest.param(b"\x16\x02\x00\x00\x20", Unread.NOT_TLS, id="not a version"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", Unread.NOT_TLS, id="an alert"),
        pytest.param(b"\x16\x03\x01\x00\x20\x02\x00\x00\x1c", Unread.NOT_TLS, id="a ServerHello"),
        pytest.param(b"\x16\x03\x01\x00\x00" + HELLO, Unread.MALFORMED, id="an empty record"),
        pytest.param(
            b"\x16\x03\x01\x40\x00\x01" + (HELLO_LIMIT_BYTES + 1).to_bytes(3),
            Unread.MALFORMED,
            id="a hello above the limit",
        ),
        pytest.param(
            HELLO.replace(b"shop.example", b"sh\xf6p.example"), Unread.MALFORMED, id="not ASCII"
        ),
        pytest.param(
            HELLO.replace(b"shop.example", b"shop\0exampl"[:11] + b"e"), Unread.MALFORMED, id="NUL"
        ),
        pytest.param(
            HELLO.replace(b"\x00\x0cshop.example", b"\x00\x0bshop.example"),
            Unread.MALFORMED,
            id="two lengths of one name",
        ),
        pytest.param(
            HELLO.replace(b"\x02h2\x08http/1.1", b"\x02h2\x09http/1.1"),
            Unread.MALFORMED,
            id="a protocol that goes on behind its list",
        ),
    ],
)
def test_what_is_no_hello(data: bytes, verdict: Unread) -> None:
    assert read_hello(data) is verdict


@given(at=st.integers(0, len(HELLO) - 1), byte=st.integers(0, 255), size=st.integers(1, 600))
@settings(max_examples=300, deadline=None)
def test_no_damage_to_a_hello_raises(at: int, byte: int, size: int) -> None:
    damaged = bytearray(cut(HELLO, size))
    damaged[at] = byte

    assert isinstance(read_hello(bytes(damaged)), ClientHello | Unread)
