"""
Ten thousand half heads, and what they cost: memory for each, and time for everybody else.

    python -m tests.fairway_dataplane.flood --connections 10000 --rounds 5

A data plane with one worker is started, and a backend in a process of its own.
Quiet and flooded rounds take turns, so that whatever else this machine does
falls on both alike; what is compared are percentiles over all rounds of a kind.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, cast

import uvloop

from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.limits import Limits
from fairway_dataplane.link import Door
from fairway_dataplane.tls.tickets import new_ticket_keys
from fairway_dataplane.traffic import Traffic
from fairway_snapshot.protocol import Offer, Position
from fairway_snapshot.tree import EMPTY
from tests.fairway_dataplane.catalogue.conftest import snapshot

HALF = b"GET /x HTTP/1.1\r\nHost: a.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nX-A: "
GET = b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLIENTS = 8
PACE_SECONDS = 0.01
"""Between two requests of a client: far from busy, so that a flood and not the load is seen."""
TRICKLE_SECONDS = 4.0
"""After that each half head gets another byte: it never ends, and is never idle."""


def say(line: str) -> None:
    """Write a line at once: the other process waits for it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def backend() -> None:
    """Answer at a port that is printed."""

    class Answer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            # uvloop's transports have the interface and not the class.
            self.write = cast("asyncio.Transport", transport).write

        def data_received(self, data: bytes) -> None:
            self.write(OK * data.count(b"\r\n\r\n"))

    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    say(str(server.sockets[0].getsockname()[1]))
    await asyncio.Event().wait()


async def dataplane(port: int, connections: int) -> None:
    """Forward from a port that is printed."""
    doors = []
    schemes: tuple[Literal["http"], Literal["https"]] = ("http", "https")
    for scheme in schemes:
        door = socket.create_server(("127.0.0.1", 0), backlog=4096)
        door.setblocking(False)  # noqa: FBT003 - the socket module's own
        doors.append(Door(slot=0, scheme=scheme, descriptor=door.detach()))
    own = socket.socket(fileno=os.dup(doors[0].descriptor)).getsockname()[1]
    limits = Limits(connections=2 * connections + 100, header_seconds=60.0, memory_percent=0)
    config = DataplaneConfig(operators=("127.0.0.1:1",), limits=limits)
    traffic = Traffic(asyncio.get_running_loop(), config, doors, new_ticket_keys())
    await traffic.apply(Offer(snapshot=snapshot(port), position=Position(1, 1), previous=EMPTY))
    await traffic.open(0)
    say(str(own))
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[tuple[int, int]]:
    """Run this module as another process; yield its process id and port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fairway_dataplane.flood", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.pid, int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Flood:
    """Half heads that never end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    async def open(self, number: int) -> None:
        """Connect so often, and begin a head on each connection."""
        loop = asyncio.get_running_loop()
        for _ in range(number):
            connection = socket.socket()
            connection.setblocking(False)  # noqa: FBT003 - as above
            await loop.sock_connect(connection, ("127.0.0.1", self._port))
            connection.send(HALF)
            self._sockets.append(connection)

    async def trickle(self) -> None:
        """Send another byte on each, spread over the time."""
        while True:
            for at in range(0, len(self._sockets), 100):
                for connection in self._sockets[at : at + 100]:
                    with contextlib.suppress(OSError):
                        connection.send(b"a")
                await asyncio.sleep(TRICKLE_SECONDS * 100 / max(1, len(self._sockets)))
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Leave all at once."""
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()


async def measure(port: int, seconds: float) -> list[float]:
    """Return how long each request of a few well-behaved clients took."""
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            before = time.perf_counter()
            writer.write(GET)
            await reader.readexactly(len(OK))
            taken.append(time.perf_counter() - before)
            await asyncio.sleep(PACE_SECONDS)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return taken


async def run(connections: int, rounds: int, seconds: float) -> None:
    """Measure, and print."""
    quiet: list[float] = []
    flooded: list[float] = []
    async with (
        started("--backend") as (_, backend_port),
        started("--dataplane", str(backend_port), "--connections", str(connections)) as (pid, port),
    ):
        await measure(port, seconds)
        flood = Flood(port)
        base = resident_bytes(pid)
        await flood.open(connections)
        await measure(port, 0.5)
        first = resident_bytes(pid)
        flood.close()
        say(f"memory for each half head: {(first - base) / connections / 1024:.1f} KiB")
        for number in range(rounds):
            quiet += await measure(port, seconds)
            await flood.open(connections)
            trickling = asyncio.create_task(flood.trickle())
            flooded += await measure(port, seconds)
            trickling.cancel()
            flood.close()
            await measure(port, 0.5)
            say(f"round {number + 1} of {rounds}")
        last = resident_bytes(pid)
        say(f"memory after {rounds + 1} floods: {(last - base) / 2**20:+.1f} MiB")
    for share in (50, 99):
        before, after = (sorted(found)[len(found) * share // 100] for found in (quiet, flooded))
        say(
            f"p{share}: quiet {before * 1e3:.2f} ms, flooded {after * 1e3:.2f} ms,"
            f" ratio {after / before:.2f}"
        )


def main() -> None:
    """Read the arguments."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (hard, 1 << 16):
        with contextlib.suppress(ValueError, PermissionError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, max(most, hard)))
    parser = argparse.ArgumentParser(prog="python -m tests.fairway_dataplane.flood")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--backend", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dataplane", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.backend:
        uvloop.run(backend())
    elif given.dataplane:
        uvloop.run(dataplane(given.dataplane, given.connections))
    else:
        uvloop.run(run(given.connections, given.rounds, given.seconds))


if __name__ == "__main__":
    main()
