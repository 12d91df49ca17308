"""PROXY protocol towards a backend: what it says, and that it is said of one client only."""

import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairway_dataplane.downstream.forwarded import Forwarding
from fairway_dataplane.downstream.introduction import Introduced, read_header
from fairway_dataplane.upstream.announcement import announce
from fairway_snapshot.model import BackendProtocol
from tests.fairway_dataplane.request_path.conftest import BACKEND, route, to

if TYPE_CHECKING:
    from tests.fairway_dataplane.request_path.conftest import Link, Stage, StageMaker

GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def answer_announced(link: "Link") -> None:
    """Read a header as a server would, then answer requests for as long as they come."""
    held = b""
    while (found := read_header(held)) is None:
        held += await link.read()
    link.received[:] = held[found.size :]
    link.requests.append(repr(found).encode())
    while b"\r\n\r\n" not in link.received:
        await link.read()
    link.writer.write(OK)
    while await link.read():
        link.writer.write(OK)


def announced(stage: "Stage", version: int, **more: Any) -> None:
    stage.serve(route(), **{BACKEND: to(stage.upstream.port, proxy_protocol=version, **more)})


@pytest.mark.parametrize("version", [1, 2])
async def test_a_backend_hears_of_the_client_before_anything_else(
    make_stage: "StageMaker", version: int
) -> None:
    stage = await make_stage(answer_announced)
    announced(stage, version)
    client = await stage.connect()
    client.send(GET)
    assert (await client.response()).status == 200
    said = stage.upstream.links[0].requests[0].decode()
    host, port = client.writer.get_extra_info("sockname")
    assert f"client=({host!r}, {port})" in said
    assert bytes(stage.upstream.links[0].received).startswith(b"GET /x HTTP/1.1\r\n")


async def test_no_connection_serves_two_requests(make_stage: "StageMaker") -> None:
    stage = await make_stage(answer_announced)
    announced(stage, 2)
    clients = [await stage.connect(), await stage.connect()]
    for client in (clients[0], clients[1], clients[0]):
        client.send(GET)
        assert (await client.response()).status == 200
    said = [link.requests[0] for link in stage.upstream.links]
    assert len(said) == 3
    assert said[0] == said[2] != said[1]
    for number in (1, 2, 3):
        await (await stage.upstream.link(number)).closed.wait()


async def test_the_client_is_the_one_behind_proxies_of_ours(make_stage: "StageMaker") -> None:
    ours = Forwarding(trusted=(ip_network("127.0.0.0/8"),))
    stage = await make_stage(answer_announced, forwarding=ours)
    announced(stage, 1)
    head = GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n")
    assert (await stage.ask(head)).status == 200
    assert b"client=('2001:db8::7', 0)" in stage.upstream.links[0].requests[0]


async def test_a_header_leads_to_another_header(make_stage: "StageMaker") -> None:
    balancers = Forwarding(introducers=(ip_network("127.0.0.0/8"),))
    stage = await make_stage(answer_announced, forwarding=balancers)
    announced(stage, 2)
    line = b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n"
    assert (await stage.ask(line + GET)).status == 200
    assert b"client=('192.0.2.7', 40000)" in stage.upstream.links[0].requests[0]


async def test_the_header_comes_before_tls(make_stage: "StageMaker") -> None:
    async def script(link: "Link") -> None:
        while await link.read():
            pass

    stage = await make_stage(script)
    announced(stage, 1, protocol=BackendProtocol.HTTPS)
    client = await stage.connect()
    client.send(GET)
    link = await stage.upstream.link()
    await stage.settle(lambda: b"\r\n\x16\x03" in link.received)
    assert link.received.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


async def test_a_retry_is_announced_anew(make_stage: "StageMaker") -> None:
    async def reset_first(link: "Link") -> None:
        if len(stage.upstream.links) > 1:
            await answer_announced(link)
        else:
            await link.read()

    stage = await make_stage(reset_first)
    announced(stage, 1)
    assert (await stage.ask(GET)).status == 200
    assert b"client=('127.0.0.1'" in stage.upstream.links[1].requests[0]


@pytest.mark.parametrize("version", [1, 2])
def test_ourselves_are_nobody(version: int) -> None:
    for ends in (None, (("", 0), ("127.0.0.1", 80))):
        header = announce(version, ends)
        assert read_header(header) == Introduced(None, len(header))


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
PORTS = st.integers(0, 65535)


@settings(max_examples=200, deadline=None)
@given(ADDRESSES, PORTS, ADDRESSES, PORTS, st.sampled_from([1, 2]))
def test_what_is_written_is_what_is_read(
    client: str, port: int, ours: str, our_port: int, version: int
) -> None:
    header = announce(version, ((client, port), (ours, our_port)))
    found = read_header(header + b"GET")
    assert found is not None
    assert found.size == len(header)
    assert found.client is not None
    assert found.client[1] == port
    same = (":" in client) == (":" in ours)
    expected = client if same or ":" in client else f"::ffff:{client}"
    family = socket.AF_INET6 if ":" in expected else socket.AF_INET
    assert socket.inet_pton(family, found.client[0]) == socket.inet_pton(family, expected)
