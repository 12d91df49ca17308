"""Endpoints given by name (S8): asked for anew each time, and never a way back to this machine."""

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from fairway_dataplane.clock import Clock
from fairway_dataplane.limits import Limits
from fairway_dataplane.tally import Tally
from fairway_dataplane.upstream.connector import Connector
from fairway_dataplane.upstream.health import Endpoint

if TYPE_CHECKING:
    from fairway_dataplane.upstream.backend_task import BackendTask


class Names:
    """What the resolver says."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in self.addresses[host]]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found.getaddrinfo)
    return found


async def connect(host: str, port: int, *, local: bool) -> str:
    """Open one connection and return the address that it went to."""
    loop = asyncio.get_running_loop()
    limits = Limits(allow_loopback_names=local)
    connector = Connector(loop, Clock(loop), limits, lambda _: ssl.create_default_context())
    made: asyncio.Future[asyncio.Task[BackendTask]] = loop.create_future()
    tally = Tally()
    endpoint = Endpoint(host, port, tally.backend("a/b:80"), 1)
    connector.open(endpoint, tls=False, server_name=None, seconds=30.0, done=made.set_result)
    task = (await made).result()
    address: str = task._transport.get_extra_info("peername")[0]  # type: ignore[union-attr] # it is connected
    task.close()
    return address


async def test_s8_a_name_is_asked_for_with_each_new_connection(names: Names) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    second = await loop.create_server(asyncio.Protocol, "127.0.0.2", port)

    names.addresses["moving.test"] = ["127.0.0.1"]
    assert await connect("moving.test", port, local=True) == "127.0.0.1"
    names.addresses["moving.test"] = ["127.0.0.2"]
    assert await connect("moving.test", port, local=True) == "127.0.0.2"

    server.close()
    second.close()


async def test_an_address_that_refuses_is_followed_by_the_next(names: Names) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    names.addresses["both.test"] = ["::1", "127.0.0.9", "127.0.0.1"]
    assert await connect("both.test", port, local=True) == "127.0.0.1"
    names.addresses["neither.test"] = ["127.0.0.8", "127.0.0.9"]
    with pytest.raises(ConnectionRefusedError):
        await connect("neither.test", port, local=True)
    server.close()


async def test_s8_a_name_that_is_not_there_is_the_failure_of_one_connection(names: Names) -> None:
    with pytest.raises(OSError, match="Name or service not known"):
        await connect("absent.test", 80, local=True)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.169.254",
        "fe80::1%eth0",
        "0.0.0.0",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
    ],
)
async def test_s8_a_name_never_leads_back_to_this_machine(names: Names, address: str) -> None:
    names.addresses["rebound.test"] = [address]

    with pytest.raises(ConnectionError, match="no address that may be used"):
        await connect("rebound.test", 80, local=False)
