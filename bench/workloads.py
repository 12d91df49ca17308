"""
What is measured.

A workload is a path on the backend, a way to ask for it, and the size of the
routing table. Everything a contestant needs to know stands here, so that all
of them are asked for the same thing.
"""

from dataclasses import dataclass

HOST = "bench.example"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table."""

    name: str
    title: str
    path: str
    answer_bytes: int
    tls: bool = False
    connections: int = 64
    headers: tuple[tuple[str, str], ...] = ()
    upload_bytes: int = 0
    hosts: int = 1
    close: bool = False
    """Ask on a new connection each time."""

    def host(self, number: int) -> str:
        """Return the name of one of the hosts."""
        return HOST if self.hosts == 1 else f"h{number}.{HOST}"


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="a", title="128 B", path="/128", answer_bytes=128),
        Workload(
            name="ah",
            title="128 B, browser headers",
            path="/128",
            answer_bytes=128,
            headers=tuple(BROWSER_HEADERS.items()),
        ),
        Workload(name="b", title="10 KB", path="/10k", answer_bytes=10_240),
        Workload(name="c", title="1 MB", path="/1m", answer_bytes=1 << 20, connections=16),
        Workload(
            name="ct",
            title="1 MB over TLS",
            path="/1m",
            answer_bytes=1 << 20,
            connections=16,
            tls=True,
        ),
        Workload(name="d", title="128 B over TLS 1.3", path="/128", answer_bytes=128, tls=True),
        Workload(
            name="e",
            title="full TLS handshake",
            path="/128",
            answer_bytes=128,
            tls=True,
            close=True,
            connections=16,
        ),
        Workload(name="f10", title="10 hosts", path="/128", answer_bytes=128, hosts=10),
        Workload(name="f1000", title="1,000 hosts", path="/128", answer_bytes=128, hosts=1_000),
        Workload(name="f10000", title="10,000 hosts", path="/128", answer_bytes=128, hosts=10_000),
        Workload(
            name="u",
            title="1 MB upload",
            path="/upload",
            answer_bytes=2,
            upload_bytes=1 << 20,
            connections=16,
        ),
    )
}
