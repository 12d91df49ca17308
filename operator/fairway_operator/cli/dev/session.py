"""
One run of ``fairway dev``: builds the parts, and owns the tasks.

Files are read in a thread, tried on the side, and then go the operator's way:
Inbox, Reconciler, Publisher, stream. A change is told when the data plane has
acknowledged it.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import structlog

from fairway_operator.authority import (
    OPERATOR_NAME,
    Credentials,
    Lifetimes,
    Role,
    create_authority,
)
from fairway_operator.cli.dev import DevOptions
from fairway_operator.cli.dev.board import Board
from fairway_operator.cli.dev.echo import EchoServers
from fairway_operator.cli.dev.furnish import DEFAULT_CERTIFICATE, Furniture
from fairway_operator.cli.dev.machine import Machine
from fairway_operator.cli.dev.ports import PortTakenError, claim, port_of
from fairway_operator.cli.dev.progress import Progress
from fairway_operator.cli.dev.source import LOSS_SECONDS, FileSource, Reading
from fairway_operator.cli.dev.trial import Admitted, Contents, Trials
from fairway_operator.cli.dev.watch import watch
from fairway_operator.cli.routes import Address
from fairway_operator.cli.stand_ins import Body
from fairway_operator.compiler import Compiler, CompilerSettings
from fairway_operator.inbox import Inbox, WatchEvent
from fairway_operator.publisher import Publisher
from fairway_operator.reconciler import Reconciler
from fairway_operator.refs import ObjectRef

DRAIN_SECONDS = 3.0

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - made private there
"""Where private keys touch no disk; None where there is no such place."""

_LIFETIMES = Lifetimes(
    authority=timedelta(days=3650), overlap=timedelta(days=30), certificate=timedelta(days=1000)
)
"""Nothing is rotated here: it all ends with this process."""


async def run_session(options: DevOptions, stdin: BinaryIO) -> int:
    """Serve until SIGINT or SIGTERM; return the exit status."""
    _quiet_logs()
    with ExitStack() as claims:
        try:
            address = _claim_address(options, claims)
        except PortTakenError as error:
            sys.stderr.write(f"fairway: {error}\n")
            return 1
        session = Session(options, address, stdin)
        async with session.parts():
            return await session.run()


def _claim_address(options: DevOptions, claims: ExitStack) -> Address:
    """Return where the data plane will listen; nobody else does while ``claims`` is open."""

    def claimed(port: int, flag: str) -> int:
        return port_of(claims.enter_context(claim(options.bind, port, flag)))

    return Address(
        host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.bind, options.bind),
        http_port=claimed(options.http_port, "--http-port"),
        https_port=claimed(options.https_port, "--https-port"),
        admin_port=claimed(options.admin_port, "--admin-port"),
    )


class Session:
    """The parts of one run."""

    def __init__(self, options: DevOptions, address: Address, stdin: BinaryIO) -> None:
        serving = _compiler_settings(address.https_port, keep_last_good=True)
        trying = _compiler_settings(address.https_port, keep_last_good=False)
        self._options = options
        self._address = address
        self._board = Board(address)
        self._source = FileSource(options.paths, stdin)
        self._echo = EchoServers()
        self._trials = Trials(trying, Furniture(self._echo))
        self._inbox = Inbox()
        self._authority = create_authority(now=datetime.now(UTC), lifetimes=_LIFETIMES)
        self._progress = Progress(self._board)
        self._publisher = Publisher(on_receipt=self._progress.received)
        self._publisher.renew_credentials(self._issue(Role.OPERATOR))
        self._reconciler = Reconciler(Compiler(serving), self._publisher)
        self._machine = Machine(self._board.say)
        self._stopping = asyncio.Event()
        self._admitted: Admitted | None = None
        self._considered: Contents = {}
        self._fed: Mapping[ObjectRef, Body] = {}
        self._edited_at = time.monotonic()

    @asynccontextmanager
    async def parts(self) -> AsyncIterator[None]:
        """Start what the files are served with, and stop it in the opposite order."""
        port = await self._publisher.start("127.0.0.1", 0)
        try:
            with tempfile.TemporaryDirectory(
                prefix=f"fairway-dev-{os.getpid()}-", dir=MEMORY, ignore_cleanup_errors=True
            ) as folder:
                credentials = self._issue(Role.DATAPLANE)
                await self._machine.start(Path(folder), credentials, self._settings(port))
                try:
                    yield
                finally:
                    await self._machine.stop()
        finally:
            await self._publisher.stop(grace_seconds=0)
            await self._echo.stop()

    def _settings(self, port: int) -> dict[str, str]:
        return {
            "FAIRWAY__OPERATORS": f"127.0.0.1:{port}",
            "FAIRWAY__BIND_ADDRESS": self._options.bind,
            "FAIRWAY__HTTP_PORT": str(self._address.http_port),
            "FAIRWAY__HTTPS_PORT": str(self._address.https_port),
            "FAIRWAY__ADMIN_PORT": str(self._address.admin_port),
            "FAIRWAY__WORKERS": str(self._options.workers),
            "FAIRWAY__DRAIN_SECONDS": str(DRAIN_SECONDS),
            "FAIRWAY__INSTANCE": "dev",
            "FAIRWAY__ACCESS_LOG__FORMAT": "off",
        }

    async def run(self) -> int:
        """Follow the files until a signal comes or the data plane ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        ended = asyncio.create_task(self._machine.wait(), name="data plane")
        stopping = asyncio.create_task(self._stopping.wait(), name="signals")
        work = [
            asyncio.create_task(self._follow_files(), name="files"),
            asyncio.create_task(self._reconcile(), name="reconcile"),
        ]
        done, _ = await asyncio.wait({ended, stopping, *work}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, stopping, *work):
            task.cancel()
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        if stopping not in done:
            sys.stderr.write(f"fairway: the data plane ended with status {ended.result()}\n")
            return 1
        self._board.say("stopping")
        return 0

    # From files to events.

    async def _follow_files(self) -> None:
        await self._scan()
        async for changed_at in watch(self._options.paths):
            # Without news, when we looked is the best that is known.
            self._edited_at = changed_at or time.monotonic()
            await self._scan()

    async def _scan(self) -> None:
        """Read the files until nothing in them looks half done."""
        while True:
            reading = await asyncio.to_thread(self._source.scan, time.monotonic())
            await self._take(reading)
            if not reading.unsettled:
                return
            await asyncio.sleep(LOSS_SECONDS)

    async def _take(self, reading: Reading) -> None:
        """Feed what may be served of a reading to the inbox."""
        if self._admitted is None or reading.contents != self._considered:
            current = self._admitted.trial if self._admitted else None
            self._admitted = await self._trials.admit(current, reading.contents)
            self._considered = reading.contents
        # The texts' own problems are in the reading; those of what counts are older ones.
        found = {each.text: each for each in (*reading.problems, *self._admitted.wanted.problems)}
        self._board.show_problems(
            found.values(), tuple(dict.fromkeys((*reading.stale, *self._admitted.held)))
        )
        self._feed(self._admitted.trial.bodies)

    def _feed(self, bodies: Mapping[ObjectRef, Body]) -> None:
        for ref, body in self._fed.items():
            if ref not in bodies:
                self._inbox.put(WatchEvent(ref.kind, deleted=True, body=body))
        for ref, body in bodies.items():
            if self._fed.get(ref) != body:
                self._inbox.put(WatchEvent(ref.kind, deleted=False, body=body))
        self._fed = bodies

    # From events to the data plane.

    async def _reconcile(self) -> None:
        while True:
            commit = self._reconciler.apply(await self._inbox.take())
            echoes = self._admitted.trial.echoes if self._admitted else frozenset()
            self._progress.committed(commit, self._edited_at, echoes)

    def _issue(self, role: Role) -> Credentials:
        names = ("127.0.0.1", OPERATOR_NAME) if role is Role.OPERATOR else ()
        return self._authority.issue(role, names, now=datetime.now(UTC), lifetimes=_LIFETIMES)


def _compiler_settings(https_port: int, *, keep_last_good: bool) -> CompilerSettings:
    return CompilerSettings(
        https_port=https_port,
        default_certificate=DEFAULT_CERTIFICATE,
        allow_local_addresses=True,
        keep_last_good=keep_last_good,
    )


def _quiet_logs() -> None:
    """Leave the console to the board; what is left of the programs' logs goes to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            # Plain: a traceback that shows variables would show the content of files, keys too.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
