"""The TLS layer towards clients, over real sockets, on both event loops."""

import asyncio
import gc
import itertools
import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from fairway_dataplane.tls.contexts import build_contexts
from fairway_dataplane.tls.layer import FEED_BYTES, TruncatedError
from fairway_dataplane.tls.server import TlsServerProtocol
from tests.fairway_dataplane.tls.by_hand import renegotiate, update_key
from tests.fairway_dataplane.tls.conftest import (
    FALLBACK,
    PATIENCE_SECONDS,
    SHOP,
    WILD,
    Client,
    Inner,
    Server,
    certificate,
    certificates,
    contexts,
    der,
    server_names,
    trusting,
)

ALL = [
    *certificates(shop=SHOP, wild=WILD),
    *server_names({"shop.example": "shop", "*.shop.example": "wild"}),
]


async def test_bytes_pass_in_both_directions(server: Server) -> None:
    client = await Client.connect(server.port)
    client.send(b"ping")
    inner = await server.inner()
    await inner.until_received(b"ping")
    inner.tls().write(b"po")
    inner.tls().writelines([b"n", bytearray(b"g"), memoryview(b"!")])

    assert await client.receive(5) == b"pong!"
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert inner.tls().version == "TLSv1.3"
    assert server.handshakes == {"TLSv1.3 false ok": 1}
    client.close()


async def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    server: Server,
) -> None:
    client = await Client.connect(server.port, finish=False)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.flush()
    await client.fill()
    client.tls.do_handshake()
    client.tls.write(b"early")
    client.flush()

    inner = await server.inner()
    await inner.until_received(b"early")
    client.close()


async def test_a_client_that_keeps_its_request_back_gets_the_ticket_at_once(
    server: Server,
) -> None:
    """Its bytes acknowledge the handshake; without them such a client may wait 40 ms."""
    client = await Client.connect(server.port)

    await client.fill()

    with pytest.raises(ssl.SSLWantReadError):
        client.tls.read(1)
    assert client.tls.session is not None
    client.close()


@pytest.mark.parametrize(
    ("name", "leaf"),
    [
        pytest.param("shop.example", SHOP, id="exact"),
        pytest.param("SHOP.example", SHOP, id="in another case"),
        pytest.param("a.shop.example", WILD, id="wildcard"),
        pytest.param("other.example", FALLBACK, id="unknown"),
        pytest.param(None, FALLBACK, id="none"),
    ],
)
async def test_the_server_name_chooses_the_certificate(
    server: Server, name: str | None, leaf: object
) -> None:
    server.current.swap(contexts(*ALL))
    client = await Client.connect(server.port, name)
    inner = await server.inner()

    assert client.peer() == der(leaf)  # type: ignore[arg-type] # a Certificate, as the rows say
    assert inner.tls().server_name == (name or "").lower().encode()
    client.close()


@pytest.mark.parametrize("name", ["other.example", None])
async def test_strict_contexts_answer_unknown_names_with_an_alert(
    server: Server, name: str | None
) -> None:
    server.current.swap(contexts(*ALL, strict=True))

    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await Client.connect(server.port, name)
    assert server.handshakes == {"none false unknown-name": 1}


async def test_a_rotated_certificate_serves_the_next_handshake_and_no_connection_ends(
    server: Server,
) -> None:
    server.current.swap(contexts(*ALL))
    old = await Client.connect(server.port, "shop.example")
    inner = await server.inner()
    rotated = certificate("shop.example")

    server.current.swap(build_contexts(server.current.current, certificates(shop=rotated)))
    new = await Client.connect(server.port, "shop.example")
    old.send(b"still here")

    assert (old.peer(), new.peer()) == (der(SHOP), der(rotated))
    await inner.until_received(b"still here")
    for client in (old, new):
        client.close()


async def test_a_connection_covers_the_hosts_of_its_certificate(server: Server) -> None:
    server.current.swap(contexts(*ALL))
    client = await Client.connect(server.port, "a.shop.example")
    tls = (await server.inner()).tls()

    assert tls.covers(b"a.shop.example")
    assert tls.covers(b"b.shop.example")
    assert not tls.covers(b"shop.example")
    assert not tls.covers(b"other.example")
    client.close()


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = trusting()
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_resume(server: Server, version: ssl.TLSVersion) -> None:
    context = only(version)
    first = await Client.connect(server.port, context=context)
    inner = await server.inner()
    inner.tls().write(b"x")  # The ticket of TLS 1.3 comes before it.
    await first.receive(1)
    second = await Client.connect(server.port, context=context, session=first.tls.session)
    resumed = await server.inner()

    assert second.tls.session_reused
    assert (inner.tls().resumed, resumed.tls().resumed) == (False, True)
    word = "TLSv1.2" if version is ssl.TLSVersion.TLSv1_2 else "TLSv1.3"
    assert server.handshakes == {f"{word} false ok": 1, f"{word} true ok": 1}
    for client in (first, second):
        client.close()


async def test_a_session_of_another_certificate_does_not_resume(server: Server) -> None:
    server.current.swap(contexts(*ALL))
    context = trusting()
    first = await Client.connect(server.port, "shop.example", context=context)
    (await server.inner()).tls().write(b"x")
    await first.receive(1)
    second = await Client.connect(
        server.port, "a.shop.example", context=context, session=first.tls.session
    )

    assert not second.tls.session_reused
    assert second.peer() == der(WILD)
    for client in (first, second):
        client.close()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_tls_1_1_is_refused(server: Server) -> None:
    context = only(ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")

    # rustls sees first that such a client names no signature algorithms.
    with pytest.raises(ssl.SSLError, match=r"PROTOCOL_VERSION|HANDSHAKE_FAILURE"):
        await Client.connect(server.port, context=context)
    assert server.handshakes == {"none false failed": 1}


async def test_protocols_that_nobody_shares_are_refused_with_an_alert(server: Server) -> None:
    context = trusting()
    context.set_alpn_protocols(["h2", "spdy/3"])

    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await Client.connect(server.port, context=context)
    assert server.handshakes == {"none false no-protocol": 1}


async def test_a_client_without_alpn_is_served(server: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    client = await Client.connect(server.port, context=context)

    assert client.tls.selected_alpn_protocol() is None
    client.close()


@pytest.mark.parametrize(
    ("sent", "word"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", "none false not-tls", id="HTTP in clear"),
        pytest.param(b"\x16\x03\x01\x00\x00", "none false malformed", id="an empty record"),
        pytest.param(
            b"\x16\x03\x01\x00\x04\x01\x00\x00\x00" + b"\0" * 8, "none false malformed", id="short"
        ),
    ],
)
async def test_what_is_not_tls_is_closed_and_counted(
    server: Server, sent: bytes, word: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent + b"\0" * 16)

    await server.counted(word)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


async def test_a_hello_byte_by_byte_is_a_hello(server: Server) -> None:
    client = await Client.connect(server.port, finish=False)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    for byte in client.outgoing.read():
        client.writer.write(bytes((byte,)))
        await client.writer.drain()
        await asyncio.sleep(0)
    await client.fill()
    await client.handshake()

    assert client.peer() == der(FALLBACK)
    client.close()


async def test_a_client_that_leaves_in_its_handshake_is_counted_and_nothing_more(
    server: Server,
) -> None:
    client = await Client.connect(server.port, finish=False)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.flush()
    await client.fill()
    client.close()

    await server.counted("none false closed")
    assert not server.inners.get_nowait().made.is_set()


async def test_a_handshake_has_ten_seconds(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x16\x03\x01")
    await server.arrived()
    server.advance(9.8)
    assert server.handshakes == {}
    server.advance(0.4)

    assert server.handshakes == {"none false timeout": 1}
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_is_open_has_no_deadline(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    server.advance(100.0)
    client.send(b"late")

    await inner.until_received(b"late")
    client.close()


# Ends.


async def test_close_says_goodbye_and_waits_for_the_other_side(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().write(b"last")
    inner.tls().close()
    inner.tls().write(b"dropped")

    assert inner.tls().is_closing()
    assert await client.receive(4) == b"last"
    await client.receive_goodbye()
    client.send(b"heard by nobody")
    assert not inner.lost.done()
    client.close()
    assert await inner.lost is None
    assert inner.received == b""


async def test_after_the_last_request_answer_and_goodbye_are_one_write_and_nothing_is_awaited(
    server: Server,
) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().expect_close()
    inner.tls().write(b"last")
    inner.tls().close()

    assert await client.receive(4) == b"last"
    # What came with the answer is enough: nothing more is read from the socket.
    assert client.tls.read(1) == b""
    assert await inner.lost is None
    client.close()


async def test_what_is_written_after_the_last_request_waits_for_the_turn_alone(
    server: Server,
) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().expect_close()
    inner.tls().write(b"first part")

    assert await client.receive(10) == b"first part"
    inner.tls().write(b"x" * 200_000)
    inner.tls().close()
    assert await client.receive(200_000) == b"x" * 200_000
    await client.receive_goodbye()
    client.close()
    assert await inner.lost is None


async def test_a_client_that_does_not_close_has_three_seconds(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().close()
    await client.receive_goodbye()
    server.advance(2.8)
    assert not inner.lost.done()
    server.advance(0.4)

    assert await inner.lost is None
    client.close()


async def test_a_client_that_reads_slowly_gets_all_of_its_last_answer(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    answer = bytes(range(256)) * 4096 * 16
    inner.tls().write(answer)
    inner.tls().close()
    received = b""
    while len(received) < len(answer):
        received += await client.receive(1 << 20)
        server.advance(2.0)

    assert received == answer
    await client.receive_goodbye()
    client.close()
    assert await inner.lost is None


async def test_a_client_that_stops_reading_is_reset_after_the_send_limit(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().write(b"x" * (1 << 24))
    inner.tls().close()
    server.advance(20.0)
    assert not inner.lost.done()
    server.advance(20.0)

    await inner.lost
    client.close()


async def test_what_a_client_sends_after_our_end_is_dropped_up_to_a_limit(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().close()
    for _ in range(64):
        client.send(b"x" * 16384)

    await inner.lost
    assert inner.received == b""
    client.close()


async def test_abort_ends_without_a_word(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().abort()

    await inner.lost
    with pytest.raises((EOFError, ConnectionResetError)):
        await client.receive_goodbye()
    client.close()


async def test_an_end_without_goodbye_is_a_truncation(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    client.send(b"half")
    client.end()

    assert isinstance(await inner.lost, TruncatedError)
    client.close()
    assert inner.received == b"half"
    assert not inner.goodbye


async def test_a_goodbye_is_an_end(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    client.send(b"all")
    client.say_goodbye()

    await client.receive_goodbye()
    client.close()
    assert await inner.lost is None
    assert inner.goodbye
    assert inner.received == b"all"


async def test_after_a_goodbye_the_answer_can_still_be_sent(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.stays_open = True
    client.say_goodbye()
    await inner.until(lambda: inner.goodbye)
    inner.tls().write(b"answer")
    inner.tls().close()

    assert await client.receive(6) == b"answer"
    await client.receive_goodbye()
    client.close()
    assert await inner.lost is None


async def test_write_eof_ends_our_side_alone(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().write_eof()
    await client.receive_goodbye()
    client.send(b"more")

    await inner.until_received(b"more")
    client.close()


# Back-pressure.


async def test_a_client_that_does_not_read_pauses_the_writer(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.tls().set_write_buffer_limits(high=64 * 1024, low=16 * 1024)
    size = 0
    while not inner.paused:
        inner.tls().write(b"x" * 65536)
        size += 65536
        assert size < 1 << 26
    assert inner.tls().get_write_buffer_size() > 64 * 1024
    await client.receive(size)

    await inner.until(lambda: not inner.paused)
    client.close()


async def test_pausing_hands_nothing_on_and_resuming_loses_nothing(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    data = b"".join(at.to_bytes(4) for at in range(1 << 18))
    inner.on_data = lambda _: inner.tls().pause_reading()
    client.send(data)
    while len(inner.received) < len(data):
        await inner.until(lambda: not inner.tls().is_reading())
        held = len(inner.received)
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(inner.received) == held
        inner.tls().resume_reading()

    assert bytes(inner.received) == data
    client.close()


async def test_a_goodbye_behind_held_bytes_comes_after_them(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.on_data = lambda _: inner.tls().pause_reading()
    data = b"x" * (5 * FEED_BYTES)
    client.send(data)
    client.say_goodbye()
    client.end()
    while not inner.lost.done():
        await asyncio.sleep(0)
        if inner.transport is not None:
            inner.tls().resume_reading()
    client.close()

    assert len(inner.received) == len(data)
    assert inner.goodbye
    assert inner.lost.result() is None


async def test_answers_written_while_requests_are_read_leave_in_one_write(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()

    def answer(data: bytes) -> None:
        for _ in data:
            inner.tls().write(b"ok")

    inner.on_data = answer
    client.send(b"....")

    assert await client.receive(8) == b"okokokok"
    client.close()


async def test_a_large_answer_leaves_no_large_buffer_behind(server: Server) -> None:
    data = bytes(256 * 1024)
    clients = [await Client.connect(server.port) for _ in range(40)]
    layers = [(await server.inner()).tls() for _ in clients]
    before = resident_bytes()
    for client, layer in zip(clients, layers, strict=True):
        layer.write(data)
        assert await client.receive(len(data)) == data

    kept = (resident_bytes() - before) / len(clients)
    for client in clients:
        client.close()
    # OpenSSL's buffers never shrink; the client's are in this process too.
    assert kept < 200 * 1024


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Hostile bytes.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cut", [1, 5, 6, 300, -2, -1], ids=lambda at: f"at {at}")
async def test_a_record_that_comes_in_two_parts_is_handed_on_whole(
    server: Server, version: ssl.TLSVersion, cut: int
) -> None:
    client = await Client.connect(server.port, context=only(version))
    inner = await server.inner()
    before, record, after = (client.records(each) for each in (b"a" * 9, b"b" * 9000, b"c" * 9))
    tls = inner.tls()
    # As the loop would have it; whether the kernel cuts there is chance.
    tls.data_received(before + record[:cut])
    tls.data_received(record[cut:])
    assert bytes(inner.received) == b"a" * 9 + b"b" * 9000
    tls.data_received(after)
    assert bytes(inner.received) == b"a" * 9 + b"b" * 9000 + b"c" * 9
    client.close()
    await inner.lost


async def test_a_damaged_record_ends_the_connection(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    record = bytearray(client.records(b"hello"))
    record[-1] ^= 1
    client.writer.write(bytes(record))

    assert isinstance(await inner.lost, ssl.SSLError)
    assert inner.received == b""
    client.close()


async def test_a_flood_of_tiny_records_ends_and_a_trickle_does_not(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    for number in range(1, 11):
        for _ in range(300):
            client.send(b"x")
        await inner.until_received(b"x" * 300 * number)
        server.advance(1.0)
    assert not inner.lost.done()

    for _ in range(10_000):
        client.send(b"x")
    assert isinstance(await inner.lost, ConnectionError)
    client.close()


async def test_a_large_upload_is_no_flood(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    inner.on_data = lambda _: inner.received.clear()
    total = 0
    for size in itertools.islice(itertools.cycle([100, 1400, 16384]), 3000):
        client.send(b"x" * size)
        total += size
        if total % 7 == 0:
            await client.writer.drain()
    client.send(b"end")
    client.say_goodbye()

    await client.receive_goodbye()
    client.close()
    assert await inner.lost is None


async def test_renegotiation_is_refused(server: Server) -> None:
    client = await Client.connect(server.port, context=only(ssl.TLSVersion.TLSv1_2))
    inner = await server.inner()
    renegotiate(client.tls)

    with pytest.raises(ssl.SSLError, match="NO_RENEGOTIATION"):
        await client.handshake()
    assert await inner.lost is not None
    assert inner.received == b""
    assert server.handshakes == {"TLSv1.2 false ok": 1}


@pytest.mark.parametrize("answer", [False, True], ids=["", "that ask for one"])
async def test_a_flood_of_key_updates_ends_and_a_few_do_not(
    server: Server, *, answer: bool
) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    for _ in range(20):
        update_key(client.tls, answer=answer)
        client.send(b"x")
    await inner.until_received(b"x" * 20)
    inner.tls().write(b"fine")
    assert await client.receive(4) == b"fine"

    for _ in range(4000):
        update_key(client.tls, answer=answer)
        client.flush()
    assert isinstance(await inner.lost, ConnectionError | ssl.SSLError)
    assert inner.received == b"x" * 20
    client.close()


# What is left behind.


def alive() -> list[object]:
    """Return what connections are made of, wherever it hides."""
    kinds = (TlsServerProtocol, Inner, ssl.SSLObject)
    return [found for found in gc.get_objects() if isinstance(found, kinds)]


async def test_nothing_of_a_connection_is_left_for_the_collector(server: Server) -> None:
    gc.collect()
    before = len(alive())
    gc.disable()
    try:
        client = await Client.connect(server.port)
        inner = await server.inner()
        client.send(b"hello")
        await inner.until_received(b"hello")
        assert len(alive()) > before
        client.say_goodbye()
        await client.receive_goodbye()
        client.close()
        await inner.lost
        del inner, client
        # The loop lets go of some a turn or two later, and by itself.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (left := len(alive())) > before:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
    finally:
        gc.enable()

    assert left == before


async def test_extra_information_is_that_of_the_socket(server: Server) -> None:
    client = await Client.connect(server.port)
    inner = await server.inner()
    tls = inner.tls()

    assert tls.get_extra_info("peername") == client.writer.get_extra_info("sockname")
    assert tls.get_extra_info("sockname") == client.writer.get_extra_info("peername")
    assert tls.get_extra_info("nothing", "such") == "such"
    client.close()
    await inner.lost
    assert tls.get_extra_info("peername") is None
    tls.write(b"late")
    tls.close()
    tls.abort()


@pytest.mark.parametrize("kind", [asyncio.Protocol, asyncio.Transport])
def test_the_layer_has_what_a_protocol_and_a_transport_have(kind: type) -> None:
    wanted = {name for name in dir(kind) if not name.startswith("_")}
    # A server of asyncio that has a transport's protocol changed is none that this layer meets.
    wanted -= {"get_protocol", "set_protocol", "get_write_buffer_limits"}
    assert not wanted - set(dir(TlsServerProtocol))
