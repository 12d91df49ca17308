"""PROXY protocol (row 72): who is believed, and what is a header."""

import asyncio
import re
import ssl
import struct
import time
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.arrivals import Arrivals
from fairway_dataplane.clock import Clock
from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.downstream.introduction import BadHeaderError, read_header
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.certificates import self_signed
from fairway_dataplane.tls.contexts import BuiltContexts, CurrentContexts, no_contexts
from fairway_dataplane.tls.server import TlsServerProtocol
from fairway_dataplane.tls.tickets import new_ticket_keys

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
BALANCERS = Forwarding(introducers=(ip_network("127.0.0.0/8"),))


def block(rest: bytes, *, command: int = 0x21, family: int = 0x11) -> bytes:
    head = b"\r\n\r\n\0\r\nQUIT\n" + bytes((command, family))
    return head + struct.pack("!H", len(rest)) + rest


FOUR = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + struct.pack("!HH", 4711, 443)
SIX = bytes.fromhex("20010db8" + "00" * 11 + "07" + "20010db8" + "00" * 12) + b"\x12\x67\x01\xbb"


def client_of(stage: "Stage") -> bytes:
    found = re.search(rb"\r\nx-forwarded-for: ([^\r]*)", stage.upstream.requests[-1], re.IGNORECASE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("header", "client"),
    [
        pytest.param(LINE, b"192.0.2.7", id="version 1, IPv4"),
        pytest.param(
            b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 1 2\r\n", b"2001:db8::7", id="version 1, IPv6"
        ),
        pytest.param(b"PROXY UNKNOWN\r\n", b"127.0.0.1", id="version 1, a health check"),
        pytest.param(block(FOUR), b"192.0.2.7", id="version 2, IPv4"),
        pytest.param(block(SIX, family=0x21), b"2001:db8::7", id="version 2, IPv6"),
        pytest.param(block(FOUR + b"\x04\0\x02hi\x05\0\0"), b"192.0.2.7", id="with extensions"),
        pytest.param(block(b"", command=0x20, family=0), b"127.0.0.1", id="version 2, local"),
        pytest.param(block(b"", family=0), b"127.0.0.1", id="version 2, unspecified"),
    ],
)
async def test_a_header_says_who_the_client_is(
    make_stage: "StageMaker", *, header: bytes, client: bytes
) -> None:
    stage = await make_stage(forwarding=BALANCERS)
    assert (await stage.ask(header + GET)).status == 200
    assert client_of(stage) == client

    # The same, byte for byte.
    slow = await stage.connect()
    for at in range(len(header)):
        slow.send(header[at : at + 1])
        await asyncio.sleep(0)
    slow.send(GET)
    assert (await slow.response()).status == 200
    assert client_of(stage) == client


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GET, id="no header"),
        pytest.param(LINE.replace(b"TCP4", b"TCP6") + GET, id="an address of another family"),
        pytest.param(LINE.replace(b"443", b"65536") + GET, id="a port that is none"),
        pytest.param(
            LINE.replace(b"192.0.2.7", b"192.0.2.07") + GET, id="an address with two readings"
        ),
        pytest.param(LINE.replace(b" 443", b" 443 1") + GET, id="a word too many"),
        pytest.param(b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n" + GET, id="a line that is too long"),
        pytest.param(block(FOUR[:11]) + GET, id="addresses cut short"),
        pytest.param(block(FOUR + b"\x04\0\x03hi") + GET, id="an extension past the end"),
        pytest.param(block(FOUR + b"\x04\0") + GET, id="half an extension"),
        pytest.param(block(FOUR, command=0x11) + GET, id="another version"),
        pytest.param(block(FOUR, command=0x22) + GET, id="another command"),
        pytest.param(block(FOUR, family=0x12) + GET, id="datagrams"),
        pytest.param(block(b"\xee\x40\x00" + bytes(0x4000), family=0), id="longer than the limit"),
    ],
)
async def test_what_is_no_header_closes_the_connection(
    make_stage: "StageMaker", data: bytes
) -> None:
    stage = await make_stage(forwarding=BALANCERS)
    client = await stage.connect()
    client.send(data)
    assert await client.rest() == b""
    assert not stage.upstream.links
    assert stage.tally.connections_refused == 1


@pytest.mark.parametrize("header", [LINE, block(FOUR)])
async def test_nobody_else_may_say_who_it_is(make_stage: "StageMaker", header: bytes) -> None:
    elsewhere = Forwarding(introducers=(ip_network("192.0.2.0/24"),))
    for forwarding in (elsewhere, Forwarding()):
        stage = await make_stage(forwarding=forwarding)
        client = await stage.connect()
        client.send(header + GET)
        assert (await client.response()).status == 400
        await client.rest()
        assert not stage.upstream.links
        assert (await stage.ask(GET)).status == 200


@pytest.mark.parametrize("begun", [b"", LINE[:20], block(FOUR)[:14], block(FOUR)[:20]])
async def test_a_header_that_does_not_end_has_its_time(
    make_stage: "StageMaker", begun: bytes
) -> None:
    stage = await make_stage(forwarding=BALANCERS)
    client = await stage.connect()
    client.send(begun)
    other = await stage.ask(LINE + GET)
    assert other.status == 200
    stage.advance(stage.limits.header_seconds + 1.1)
    assert await client.rest() == b""


async def test_connections_are_counted_by_the_client_behind_the_balancer(
    make_stage: "StageMaker",
) -> None:
    stage = await make_stage(forwarding=BALANCERS, connections_per_client=1)
    clients = [await stage.connect() for _ in range(3)]
    for client, line in zip(clients, (LINE, LINE, LINE.replace(b".7", b".8")), strict=True):
        client.send(line + GET)
        if client is not clients[1]:
            assert (await client.response()).status == 200
    assert await clients[1].rest() == b""


async def test_a_header_comes_before_tls(make_stage: "StageMaker") -> None:
    fallback = self_signed((), now=time.time(), valid_seconds=3600.0)
    contexts = CurrentContexts(
        no_contexts(fallback, BuiltContexts(new_ticket_keys(), lambda *_: None), strict=False)
    )
    clock = Clock(asyncio.get_running_loop())
    wrap = partial(
        TlsServerProtocol,
        contexts=contexts,
        clock=clock,
        limits=Limits(),
        handshakes={},
        arrivals=Arrivals(admits=lambda: True, on_leave=lambda: None),
    )
    stage = await make_stage(forwarding=BALANCERS, wrap=wrap)
    client = await stage.connect()
    client.send(LINE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    await client.writer.start_tls(context, server_hostname="a.example")
    client.send(GET)
    assert (await client.response()).status == 200
    assert client_of(stage) == b"192.0.2.7"


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(block)))
def test_any_bytes_are_read_refused_or_awaited(data: bytes) -> None:
    try:
        found = read_header(data)
    except BadHeaderError:
        return
    if found is not None:
        assert 0 < found.size <= len(data)
        assert read_header(data[: found.size - 1]) is None
