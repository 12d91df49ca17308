"""
Traffic that notices everything.

Requests are written by hand on plain sockets, because libraries repeat what
fails and this must not: every request that is not answered by 200 in time
counts, whatever would have come of a second try. Some clients keep their
connection, some open one for each request: a proxy that drains, restarts or
moves has to get both right.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

ANSWER_LIMIT_SECONDS = 10.0

ENDED: list["Load"] = []
"""Every load that came to its end, for whoever sums up."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the data planes are reached, and by which name."""

    address: str
    port: int
    host: str
    path: str = "/"
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server said that this was the last one on its connection."""
        return self.headers.get("connection", "").lower() == "close"

    def told(self) -> dict[str, Any]:
        """Return what ``backend.py`` says of itself and of the request."""
        content: dict[str, Any] = json.loads(self.body)
        return content


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a good answer."""

    after_seconds: float
    kept: bool
    """Whether its connection had answered before."""
    reason: str


@dataclass(slots=True)
class Load:
    """Clients that ask a site from ``async with`` to its end."""

    site: Site
    keeping: int = 4
    """Clients that keep their connection."""
    opening: int = 2
    """Clients that open a connection for each request."""
    pause_seconds: float = 0.02
    """Between two requests of a client."""
    answered: int = 0
    failures: list[Failure] = field(default_factory=list)
    pods: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    _started: float = 0.0
    _stopping: bool = False
    _clients: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._started = time.monotonic()
        self._clients = [
            *(asyncio.create_task(self._keep()) for _ in range(self.keeping)),
            *(asyncio.create_task(self._open()) for _ in range(self.opening)),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        await asyncio.gather(*self._clients)
        ENDED.append(self)

    def forget(self) -> None:
        """Count the pods and versions from here on."""
        self.pods.clear()
        self.versions.clear()

    def story(self) -> str:
        """Return what failed, for the message of an assertion."""
        reasons = Counter((failure.kept, failure.reason) for failure in self.failures)
        lines = [f"{len(self.failures)} failed, {self.answered} answered"]
        lines += [
            f"  {count} x {reason} ({'kept' if kept else 'new'} connection)"
            for (kept, reason), count in reasons.most_common(10)
        ]
        times = ", ".join(f"{failure.after_seconds:.2f}" for failure in self.failures[:20])
        return "\n".join((*lines, f"  after seconds: {times}"))

    async def _keep(self) -> None:
        connection: Connection | None = None
        while not self._stopping:
            # Seeing a close before the next request is what keeping clients have to do.
            if connection is not None and connection.over():
                connection.close()
                connection = None
            kept = connection is not None
            try:
                connection = connection or await Connection.open(self.site)
                answer = await connection.ask(self.site)
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                self._fail(kept=kept, reason=f"{type(error).__name__}: {error}")
                if connection is not None:
                    connection.close()
                    connection = None
            else:
                self._note(answer, kept=kept)
                if answer.closes:
                    connection.close()
                    connection = None
            await asyncio.sleep(self.pause_seconds)
        if connection is not None:
            connection.close()

    async def _open(self) -> None:
        while not self._stopping:
            try:
                answer = await ask(self.site)
            except (OSError, ValueError, EOFError, TimeoutError) as error:
                self._fail(kept=False, reason=f"{type(error).__name__}: {error}")
            else:
                self._note(answer, kept=False)
            await asyncio.sleep(self.pause_seconds)

    def _note(self, answer: Answer, *, kept: bool) -> None:
        if answer.status != 200:
            self._fail(kept=kept, reason=f"{answer.status} {answer.body[:120]!r}")
            return
        told = answer.told()
        self.answered += 1
        self.pods[told["pod"]] += 1
        self.versions[told["version"]] += 1

    def _fail(self, *, kept: bool, reason: str) -> None:
        self.failures.append(Failure(time.monotonic() - self._started, kept, reason))


class Connection:
    """One connection to a site; asks one thing at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, site: Site) -> "Connection":
        """Connect, within the limit."""
        async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
            name = site.host if site.tls else None
            streams = await asyncio.open_connection(
                site.address, site.port, ssl=site.tls, server_hostname=name
            )
        return cls(*streams)

    def over(self) -> bool:
        """Whether the server has closed it."""
        return self._reader.at_eof() or self._writer.is_closing()

    def certificate(self) -> bytes:
        """Return the server's certificate (DER)."""
        transport: ssl.SSLObject = self._writer.get_extra_info("ssl_object")
        certificate = transport.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate

    async def ask(self, site: Site, *fields: str) -> Answer:
        """Send one GET and read its answer, within the limit."""
        lines = (f"GET {site.path} HTTP/1.1", f"host: {site.host}", *fields, "", "")
        self._writer.write("\r\n".join(lines).encode())
        async with asyncio.timeout(ANSWER_LIMIT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields_read = (line.partition(":") for line in head[1:] if line)
            headers = {name.lower(): value.strip() for name, _, value in fields_read}
            body = await self._reader.readexactly(int(headers["content-length"]))
        return Answer(int(head[0].split()[1]), headers, body)

    def close(self) -> None:
        """Close it at once: a TLS close would wait for the other side's word."""
        self._writer.transport.abort()


async def ask(site: Site, *fields: str) -> Answer:
    """Ask once, on a new connection."""
    connection = await Connection.open(site)
    with contextlib.closing(connection):
        return await connection.ask(site, "connection: close", *fields)
