"""
What is measured.

A workload is a path on the backend, a way to ask for it, and the shape of the
configuration it is asked through. Everything a contestant and a load generator
need to know stands here, so that all of them are asked for the same thing.
"""

import random
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

HOST = "bench.example"

_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

IDLE_CONNECTIONS = 10_000 if _FILES == resource.RLIM_INFINITY else min(10_000, _FILES * 3 // 10)
"""Fewer where a process may not open many files: a proxy keeps some for the backends."""

BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://bench.example/start",
    "DNT": "1",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark; consent=all",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-User": "?1",
    "Priority": "u=0, i",
}

WEBSOCKET_HEADERS = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""The key is the example of RFC 6455, section 1.3; ``client.c`` knows its answer."""


class Load(StrEnum):
    """How it is asked for."""

    KEEP_ALIVE = "keep-alive"
    """Request after request on the same connections (wrk)."""

    HANDSHAKE = "handshake"
    """A connection for each request (client.c)."""

    WEBSOCKET = "websocket"
    """Message after message on the same connections (client.c)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a contestant is started for."""

    hosts: int = 1
    workers: int = 1
    changing: bool = False
    """Its endpoints and one of its hosts change while it is measured."""
    idle: bool = False
    """Idle connections are held open; they would be in the way of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table."""

    name: str
    title: str
    path: str = "/128"
    answer_bytes: int = 128
    fill: str = "x"
    """The byte that the answer is made of."""
    load: Load = Load.KEEP_ALIVE
    tls: bool = False
    resume: bool = False
    """Resume the TLS session of the connection before."""
    connections: int = 64
    headers: tuple[tuple[str, str], ...] = ()
    upload_bytes: int = 0
    variants: int = 1
    """So many different heads, none of which comes twice in a row."""
    idle_connections: int = 0
    shape: Shape = Shape()

    @property
    def paced(self) -> bool:
        """Whether it is also measured at a constant rate, half of what saturates."""
        return self.load is Load.KEEP_ALIVE and not self.idle_connections

    def host(self, number: int) -> str:
        """Return the name of one of the hosts."""
        return HOST if self.shape.hosts == 1 else f"h{number}.{HOST}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """All names that are asked for."""
        return tuple(self.host(number) for number in range(self.shape.hosts))

    def requests(self) -> Iterator[bytes]:
        """Yield every different request, in an order without a pattern, the same each time."""
        chance = random.Random(1)
        numbers = list(range(max(self.shape.hosts, self.variants)))
        chance.shuffle(numbers)
        for number in numbers:
            yield self._request(number, chance)

    def _request(self, number: int, chance: random.Random) -> bytes:
        method = "POST" if self.upload_bytes else "GET"
        path, headers = self.path, dict(self.headers)
        if self.variants > 1:
            path += f"?page={number}"
            headers["Cookie"] = f"session={chance.getrandbits(128):032x}; theme=dark; consent=all"
        if self.upload_bytes:
            headers["Content-Length"] = str(self.upload_bytes)
        if self.load is Load.HANDSHAKE:
            headers["Connection"] = "close"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host = self.host(number % self.shape.hosts)
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"
        return head.encode() + b"u" * self.upload_bytes


_BROWSER = tuple(BROWSER_HEADERS.items())

_ALL = (
    Workload(name="a", title="128 B"),
    Workload(name="ah", title="128 B, browser headers", headers=_BROWSER),
    Workload(
        name="an",
        title="128 B, browser headers, every head new",
        path="/new",
        headers=_BROWSER,
        variants=4_999,
    ),
    Workload(name="b", title="10 KB", path="/10k", answer_bytes=10_240, fill="k"),
    Workload(name="c", title="1 MB", path="/1m", answer_bytes=1 << 20, fill="m", connections=16),
    Workload(
        name="ct",
        title="1 MB over TLS",
        path="/1m",
        answer_bytes=1 << 20,
        fill="m",
        connections=16,
        tls=True,
    ),
    Workload(name="d", title="128 B over TLS 1.3", tls=True),
    Workload(name="e", title="a full TLS handshake", load=Load.HANDSHAKE, tls=True, connections=16),
    Workload(
        name="er",
        title="a resumed TLS handshake",
        load=Load.HANDSHAKE,
        tls=True,
        resume=True,
        connections=16,
    ),
    Workload(
        name="u",
        title="1 MB upload",
        path="/upload",
        answer_bytes=2,
        fill="o",
        upload_bytes=1 << 20,
        connections=16,
    ),
    Workload(
        name="w",
        title="WebSocket echo, 128 B",
        path="/ws",
        load=Load.WEBSOCKET,
        headers=tuple(WEBSOCKET_HEADERS.items()),
    ),
    Workload(name="f10", title="10 hosts", shape=Shape(hosts=10)),
    Workload(name="f1000", title="1,000 hosts", shape=Shape(hosts=1_000)),
    Workload(name="f10000", title="10,000 hosts", shape=Shape(hosts=10_000)),
    Workload(
        name="churn", title="128 B while endpoints and a route change", shape=Shape(changing=True)
    ),
    Workload(
        name="idle",
        title=f"128 B beside {IDLE_CONNECTIONS:,} idle connections",
        idle_connections=IDLE_CONNECTIONS,
        shape=Shape(idle=True),
    ),
    Workload(name="a2", title="128 B, two workers", shape=Shape(workers=2)),
)

WORKLOADS = {workload.name: workload for workload in _ALL}
