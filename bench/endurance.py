"""
An hour of change: does anybody's request fail, does any process grow?

    python -m bench.endurance --minutes 60

``fairway dev`` with two workers serves a plain and a TLS host while its folder is
edited: ten times a second the endpoint behind both moves on to the next of three,
once a second a route comes and the one before it goes, and now and then a worker is
killed. Clients that keep connections and clients that do not ask all the time. The
memory of each process is noted every minute.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import uvloop
import yaml

from bench import processes
from bench.processes import alive, free_port, rss_mb, workers
from e2e import objects
from e2e.kubectl import eventually
from e2e.load import Load, Site, ask

HOST, SECURE_HOST = "plain.bench.example", "secure.bench.example"
ADDRESSES = ("127.0.3.1", "127.0.3.2", "127.0.3.3")
INTERVAL_SECONDS = 0.1
ROUTE_EVERY = 10
"""One new route for so many moves of the endpoint."""
GRACE_SECONDS = 10.0


def main() -> int:
    """Run, and print JSON; 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.endurance", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--kill-seconds", type=float, default=0.0, help="between kills; 0 is none")
    options = parser.parse_args()
    report = uvloop.run(_endure(options.minutes * 60, options.kill_seconds))
    print(json.dumps(report, indent=2))
    return 1 if report["failed"] else 0


class Folder:
    """The manifests, as they are edited."""

    def __init__(self, path: Path, port: int) -> None:
        self._path = path
        self._port = port
        self._moves = 0
        certified = objects.certified("secure", SECURE_HOST)
        self._write("secret.yaml", certified.secret)
        self._write("plain.yaml", objects.ingress("plain", HOST, "app"))
        self._write("secure.yaml", objects.ingress("secure", SECURE_HOST, "app", secret="secure"))
        self.move()

    def move(self) -> None:
        """Send all traffic to the next endpoint."""
        address = f"{ADDRESSES[self._moves % len(ADDRESSES)]}:{self._port}"
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "app", "annotations": {"dev.fairway.dev/address": address}},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }
        self._write("app.yaml", service)
        self._moves += 1

    def edit(self) -> None:
        """Let one route come and the one before it go."""
        name = f"edit{self._moves // ROUTE_EVERY}"
        self._write("edited.yaml", objects.ingress("edited", f"{name}.bench.example", "app"))

    def _write(self, name: str, body: Mapping[str, object]) -> None:
        # As an editor saves: a reader sees the old file or the new one.
        fresh = self._path / f".{name}.new"
        fresh.write_text(yaml.safe_dump(body))
        fresh.replace(self._path / name)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests on one connection, as ``e2e.load`` reads them."""
    pod = writer.get_extra_info("sockname")[0]
    body = json.dumps({"pod": pod, "version": "1"}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + body)
    writer.close()


async def _endure(seconds: float, kill_seconds: float) -> dict[str, object]:
    port, http_port, https_port = free_port(), free_port(), free_port()
    servers = [await asyncio.start_server(_answer, address, port) for address in ADDRESSES]
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    plain = Site("127.0.0.1", http_port, HOST)
    secure = Site("127.0.0.1", https_port, SECURE_HOST, tls=trusting)
    with tempfile.TemporaryDirectory() as folder:
        manifests = Folder(Path(folder), port)
        with alive(_start(folder, http_port, https_port), GRACE_SECONDS) as process:
            await eventually("both hosts are served", lambda: _served(plain, secure))
            minutes: list[dict[str, float]] = []
            killed = 0
            async with Load(plain) as load, Load(secure, keeping=2, opening=1) as secure_load:
                began = noted = last_kill = time.monotonic()
                moves = 0
                while (now := time.monotonic()) < began + seconds:
                    manifests.move()
                    moves += 1
                    if moves % ROUTE_EVERY == 0:
                        manifests.edit()
                    if kill_seconds and now > last_kill + kill_seconds:
                        last_kill = now
                        os.kill(random.choice(workers(process.pid)), signal.SIGKILL)
                        killed += 1
                    if now >= noted:
                        minutes.append(_memory(process.pid))
                        noted += 60
                    await asyncio.sleep(INTERVAL_SECONDS)
                minutes.append(_memory(process.pid))
    for server in servers:
        server.close()
    failures = load.failures + secure_load.failures
    return {
        "minutes": seconds / 60,
        "moves": moves,
        "workers_killed": killed,
        "answered": load.answered + secure_load.answered,
        "pods": dict(load.pods + secure_load.pods),
        "failed": len(failures),
        "stories": [load.story(), secure_load.story()],
        "rss_mb": minutes,
    }


def _start(folder: str, http_port: int, https_port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        (
            *(Path(sys.executable).with_name("fairway"), "dev", "-f", folder),
            *("--workers", "2", "--admin-port", "0"),
            *("--http-port", str(http_port), "--https-port", str(https_port)),
        ),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _served(*sites: Site) -> bool:
    with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
        return all([(await ask(site)).status == 200 for site in sites])
    return False


def _memory(pid: int) -> dict[str, float]:
    """Return the resident memory of the whole, and of the largest worker, in MiB."""
    largest = max((rss_mb(each) for each in workers(pid)), default=0.0)
    return {"all": round(rss_mb(pid), 1), "worker": round(largest, 1)}


if __name__ == "__main__":
    processes.run(main)
