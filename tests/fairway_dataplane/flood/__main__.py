"""
Ten thousand half heads, and what they cost: memory for each, and time for everybody else.

    python -m tests.fairway_dataplane.flood --connections 10000 --rounds 5
    python -m tests.fairway_dataplane.flood --idle

A data plane with one worker is started, and a backend and the flood in processes
of their own. Quiet and flooded rounds take turns, so that whatever else this
machine does falls on both alike; what is compared are percentiles over all
rounds of a kind, and the time that the worker worked. With ``--idle``, the
connections have had an answer and are kept, over plain TCP and over TLS.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal, cast

import uvloop

from fairway_dataplane import traffic as traffic_module
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
    """Forward from two ports that are printed, the second one over TLS."""
    # Who sends half a head, or is idle, never needs a second descriptor.
    traffic_module.CLIENTS_PER_DESCRIPTOR = 1.0
    doors = []
    schemes: tuple[Literal["http"], Literal["https"]] = ("http", "https")
    for scheme in schemes:
        door = socket.create_server(("127.0.0.1", 0), backlog=4096)
        door.setblocking(False)  # noqa: FBT003 - the socket module's own
        doors.append(Door(slot=0, scheme=scheme, descriptor=door.detach()))
    ports = [socket.socket(fileno=os.dup(one.descriptor)).getsockname()[1] for one in doors]
    limits = Limits(
        connections=2 * connections + 100,
        header_seconds=60.0,
        keep_alive_seconds=600.0,
        memory_percent=0,
        descriptors_percent=0,
    )
    config = DataplaneConfig(operators=("127.0.0.1:1",), limits=limits)
    traffic = Traffic(asyncio.get_running_loop(), config, doors, new_ticket_keys())
    await traffic.apply(Offer(snapshot=snapshot(port), position=Position(1, 1), previous=EMPTY))
    await traffic.open(0)
    say("{} {}".format(*ports))
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[tuple[int, list[int]]]:
    """Run this module as another process; yield its process id and the numbers that it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fairway_dataplane.flood", *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.pid, [int(number) for number in (await process.stdout.readline()).split()]
    finally:
        process.kill()
        await process.wait()


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def worked_seconds(pid: int) -> float:
    """Return the time that a process has worked."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def flood(port: int, connections: int) -> None:
    """Open half heads that never end, say so, and send another byte on each now and then."""
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    for _ in range(connections):
        connection = socket.socket()
        connection.setblocking(False)  # noqa: FBT003 - as above
        await loop.sock_connect(connection, ("127.0.0.1", port))
        connection.send(HALF)
        sockets.append(connection)
    say("0")
    pause = TRICKLE_SECONDS * 10 / connections
    while True:
        for at in range(0, len(sockets), 10):
            for connection in sockets[at : at + 10]:
                with contextlib.suppress(OSError):
                    connection.send(b"a")
            await asyncio.sleep(pause)


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
    taken: dict[str, list[float]] = {"quiet": [], "flooded": []}
    worked = dict.fromkeys(taken, 0.0)
    number = str(connections)
    async with (
        started("--backend") as (_, (backend_port,)),
        started("--dataplane", str(backend_port), "--connections", number) as (pid, (port, _)),
    ):
        flooding = ("--flood", str(port), "--connections", number)
        await measure(port, seconds)
        base = resident_bytes(pid)
        async with started(*flooding):
            await measure(port, 0.5)
            first = resident_bytes(pid)
        say(f"memory for each half head: {(first - base) / connections / 1024:.1f} KiB")
        for at in range(rounds):
            for kind in taken:
                async with contextlib.AsyncExitStack() as stack:
                    if kind == "flooded":
                        await stack.enter_async_context(started(*flooding))
                    await measure(port, 0.5)
                    before = worked_seconds(pid)
                    taken[kind] += await measure(port, seconds)
                    worked[kind] += worked_seconds(pid) - before
            await measure(port, 0.5)
            say(f"round {at + 1} of {rounds}")
        last = resident_bytes(pid)
        say(f"memory after {rounds + 1} floods: {(last - base) / 2**20:+.1f} MiB")
    for kind, spent in worked.items():
        share = spent / rounds / seconds
        say(f"{kind}: {len(taken[kind])} requests, the worker worked {share:.1%} of the time")
    for percent in (50, 90, 99):
        quiet, flooded = (sorted(found)[len(found) * percent // 100] for found in taken.values())
        say(
            f"p{percent}: quiet {quiet * 1e3:.2f} ms, flooded {flooded * 1e3:.2f} ms,"
            f" ratio {flooded / quiet:.2f}"
        )


async def idle(connections: int) -> None:
    """Measure what a kept connection costs that asks for nothing, and print it."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    for name, at, context in (("plain", 0, None), ("TLS", 1, trusting)):
        async with (
            started("--backend") as (_, (backend_port,)),
            started("--dataplane", str(backend_port), "--connections", str(connections)) as (
                pid,
                ports,
            ),
        ):
            kept = [await asked(ports[at], context) for _ in range(100)]
            base = resident_bytes(pid)
            kept += [await asked(ports[at], context) for _ in range(connections)]
            more = (resident_bytes(pid) - base) / connections / 1024
            say(f"memory for each of {connections} idle connections, {name}: {more:.1f} KiB")
            for writer in kept:
                writer.transport.abort()


async def asked(port: int, context: ssl.SSLContext | None) -> asyncio.StreamWriter:
    """Return a connection that has had one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    writer.write(GET)
    await reader.readexactly(len(OK))
    return writer


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
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--backend", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--flood", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--dataplane", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.backend:
        uvloop.run(backend())
    elif given.dataplane:
        uvloop.run(dataplane(given.dataplane, given.connections))
    elif given.flood:
        uvloop.run(flood(given.flood, given.connections))
    elif given.idle:
        uvloop.run(idle(given.connections))
    else:
        uvloop.run(run(given.connections, given.rounds, given.seconds))


if __name__ == "__main__":
    main()
