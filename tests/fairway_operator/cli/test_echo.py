"""The built-in backend."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from fairway_operator.cli.dev.echo import SHOWN_BODY_BYTES, EchoServers


@pytest.fixture
async def servers() -> AsyncIterator[EchoServers]:
    servers = EchoServers()
    yield servers
    await servers.stop()


async def exchange(port: int, *requests: bytes) -> bytes:
    """Send raw requests on one connection, one after the other, and return what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer += head + (b"" if request.startswith(b"HEAD") else await reader.readexactly(length))
    writer.close()
    await writer.wait_closed()
    return answer


async def test_it_answers_with_its_name_and_the_request_as_it_arrived(
    servers: EchoServers,
) -> None:
    port = await servers.port("shop/cart:80")

    answer = await exchange(port, b"GET /a%2Fb/../c?x=%zz HTTP/1.1\r\nhOsT: shop\r\nx-A: 1\r\n\r\n")

    assert b"x-echo-backend: shop/cart:80\r\n" in answer
    assert answer.endswith(
        b"shop/cart:80 has received:\n\nGET /a%2Fb/../c?x=%zz HTTP/1.1\nhOsT: shop\nx-A: 1\n"
    )


async def test_a_connection_is_kept_whatever_the_body(servers: EchoServers) -> None:
    port = await servers.port("shop/cart:80")

    answer = await exchange(
        port,
        b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfirst",
        b"HEAD /2 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PUT /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nthird\r\n0\r\n\r\n",
    )

    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert b"\n\nfirst\n" in answer
    assert b"\n\nthird\n" in answer


async def test_a_large_body_is_counted_and_shown_in_part(servers: EchoServers) -> None:
    port = await servers.port("shop/cart:80")
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{port}/",
            data=b"x" * (SHOWN_BODY_BYTES + 1),
            headers={"accept": "application/json"},
        ) as response,
    ):
        seen = json.loads(await response.text())

    assert seen["body_bytes"] == SHOWN_BODY_BYTES + 1
    assert seen["body"] == "x" * SHOWN_BODY_BYTES


async def test_a_websocket_is_echoed(servers: EchoServers) -> None:
    port = await servers.port("shop/cart:80")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/") as socket,
    ):
        await socket.send_str("hello")
        await socket.send_bytes(b"\x00\x01")

        assert await socket.receive_str() == "hello"
        assert await socket.receive_bytes() == b"\x00\x01"


async def test_one_name_is_one_server(servers: EchoServers) -> None:
    first, again, other = [await servers.port(name) for name in ("a/b:80", "a/b:80", "a/b:81")]

    assert first == again
    assert first != other
