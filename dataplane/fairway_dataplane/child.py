"""
One worker process, as its supervisor sees it.

A child is asked and answers, or it is gone: every wait here ends with an
answer, with :class:`ChildGoneError`, or by killing a child that has stopped
answering. Nothing here decides when a child is started or replaced.
"""

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import TypeVar

import structlog

from fairway_dataplane.link import (
    Configure,
    Counted,
    Drain,
    Drained,
    Open,
    Scrape,
    Scraped,
    Shut,
    Started,
    Upward,
    link_to_worker,
)
from fairway_dataplane.store import Stored
from fairway_dataplane.tally import unpacked
from fairway_dataplane.totals import Report
from fairway_snapshot.protocol import Ack, Nack, PublisherSession, SnapshotHistory

START_LIMIT_SECONDS = 30.0
"""From the start of the process to its first message."""

APPLY_LIMIT_SECONDS = 60.0
"""To build and swap in a snapshot; ten thousand routes take about one second."""

_log = structlog.get_logger("fairway.supervisor")

Answer = TypeVar("Answer")


class ChildGoneError(Exception):
    """The process ended, or was killed because it did not answer."""


class Child:
    """A worker process and the control socket that leads to it."""

    def __init__(
        self, slot: int, process: asyncio.subprocess.Process, history: SnapshotHistory
    ) -> None:
        self.slot = slot
        self.born = asyncio.get_running_loop().time()
        self.gone = asyncio.Event()
        self.report: Report | None = None
        """What it had counted when it was last asked."""
        self._process = process
        self._link = link_to_worker(self._receive, self._hang_up)
        self._session = PublisherSession(history)
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._verdict: asyncio.Future[str | None] | None = None
        self._asked = 0
        self._scrapes: dict[int, asyncio.Future[Scraped]] = {}
        self._rows: dict[int, list[bytes]] = {}
        self._reaper = asyncio.create_task(self._reap(), name=f"reap {process.pid}")

    def __repr__(self) -> str:
        """Show slot, process and what it serves."""
        return f"<Child slot={self.slot} pid={self.pid} acked={self._session.acked}>"

    @property
    def pid(self) -> int:
        """Process id; it stays valid for messages after the process is gone."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, minus the number of the signal that killed it, None while it lives."""
        return self._process.returncode

    async def connect(self, control: socket.socket) -> None:
        """Speak to it over our end of a socket pair."""
        await self._link.connect(control)

    async def configure(self, message: Configure) -> None:
        """Tell it what it is; returns when it waits for a snapshot. Raises ChildGoneError."""
        self._link.send(message)
        await self._answer(self._started, START_LIMIT_SECONDS)

    async def apply(self, target: Stored) -> str | None:
        """Have it serve a snapshot; return why it refuses, or None. Raises ChildGoneError."""
        self._check_there()
        position = target.position
        messages = self._session.publish(target.snapshot, position.epoch, position.sequence)
        if not messages:
            refused = self._session.refused
            return refused[1] if refused is not None and refused[0] == position else None
        self._verdict = asyncio.get_running_loop().create_future()
        for message in messages:
            self._link.send(message)
        return await self._answer(self._verdict, APPLY_LIMIT_SECONDS)

    async def scrape(
        self, limit_seconds: float, *, connections: int = 0, backends: int = 0, backend: str = ""
    ) -> Scraped:
        """
        Ask what it has counted, and for a description of so many connections and backends.

        ``backend`` names the one that is wanted; empty is any.

        Raises ChildGoneError, and TimeoutError if it is busy.
        """
        self._check_there()
        self._asked = number = self._asked + 1
        answer: asyncio.Future[Scraped] = asyncio.get_running_loop().create_future()
        self._scrapes[number] = answer
        self._link.send(
            Scrape(id=number, connections=connections, backends=backends, backend=backend)
        )
        try:
            async with asyncio.timeout(limit_seconds):
                return await answer
        finally:
            self._scrapes.pop(number, None)

    def open(self, slot: int) -> None:
        """Have it accept on the doors of a slot, its own or a neighbour's."""
        self._link.send(Open(slot=slot))

    def shut(self, slot: int) -> None:
        """Have it stop accepting on the doors of a slot."""
        self._link.send(Shut(slot=slot))

    def drain(self, limit_seconds: float, *, closing: bool) -> None:
        """Have it finish and exit."""
        self._link.send(Drain(limit_seconds=limit_seconds, closing=closing))

    def kill(self) -> None:
        """End it now."""
        if self._process.returncode is None:
            self._process.kill()

    def _check_there(self) -> None:
        """Ask nothing of the dead: who waited when it ended was told then, and nobody since."""
        if self.gone.is_set():
            raise self._end()

    def _end(self) -> ChildGoneError:
        return ChildGoneError(f"worker {self.pid} ended with code {self.exit_code}")

    async def _answer(self, answer: "asyncio.Future[Answer]", limit_seconds: float) -> Answer:
        try:
            async with asyncio.timeout(limit_seconds):
                return await answer
        except TimeoutError:
            _log.error("worker_hung", slot=self.slot, pid=self.pid, after_seconds=limit_seconds)
            self.kill()
            raise ChildGoneError(f"worker {self.pid} did not answer") from None

    def _receive(self, message: Upward) -> None:
        match message:
            case Started():
                for answer in self._session.receive(message.hello):
                    self._link.send(answer)
                self._started.set_result(None)
            case Ack() | Nack():
                for answer in self._session.receive(message):
                    self._link.send(answer)
                if self._verdict is not None and not self._verdict.done():
                    self._verdict.set_result(message.reason if isinstance(message, Nack) else None)
            case Counted():
                self._rows.setdefault(message.id, []).append(message.rows)
            case Scraped():
                self.report = Report(unpacked(message.counts), self._rows.pop(message.id, ()))
                waiting = self._scrapes.get(message.id)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case Drained():
                self.report = Report(unpacked(message.counts), self._rows.pop(0, ()))

    def _hang_up(self) -> None:
        # A worker closes its end only by ending; one that lives on without it cannot be told
        # anything, and one that is ending anyway does not mind.
        asyncio.get_running_loop().call_later(5.0, self.kill)

    async def _reap(self) -> None:
        await self._process.wait()
        self.gone.set()
        reason = self._end()
        for waiting in (self._started, self._verdict, *self._scrapes.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(reason)
                waiting.exception()  # nobody need be waiting


async def spawn(slot: int, doors: Sequence[socket.socket], history: SnapshotHistory) -> Child:
    """Start a worker that inherits ``doors``; ``history`` is shared by all. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                # Never import from the folder that somebody happened to start us in.
                "-P",
                "-m",
                "fairway_dataplane.worker",
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *(door.fileno() for door in doors)],
            )
        except OSError:
            ours.close()
            raise
    ours.setblocking(False)  # noqa: FBT003 - the socket module's signature
    child = Child(slot, process, history)
    await child.connect(ours)
    return child
