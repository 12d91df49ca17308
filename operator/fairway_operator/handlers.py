"""
kopf handlers: from kopf's calling convention to an inbox, and nothing more.

Only ``on.event`` is used. The ``on.create`` family keeps its state in
annotations and finalizers of the object, and the objects watched here belong
to users and to other controllers. Handlers are ``async`` although they await
nothing: kopf runs plain functions in a thread, and the inbox is for the loop.

Each kind has a kopf operator of its own. kopf stops as a whole when one watch
fails for longer than its patience (a permission taken away, an API server that
answers 500), and one kind that may not be read must not deafen the others.
What a stopped watch missed is the business of :mod:`fairway_operator.resync`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import kopf
import structlog

from fairway_operator.config import OperatorConfig
from fairway_operator.inbox import Inbox, WatchEvent
from fairway_operator.kube.client import Access
from fairway_operator.kube.paths import (
    FIELD_SELECTORS,
    KIND_PATHS,
    LABELLED_KINDS,
    OPTIONAL_KINDS,
)
from fairway_operator.refs import Kind

log = structlog.get_logger(__name__)

BACKOFF_SECONDS = (0.5, 30.0)
"""First and longest pause before a stopped watch starts again; doubled in between, jittered."""

REQUEST_BACKOFFS = (0.5, 1.0, 2.0, 4.0)
"""Pauses between the attempts of one request of kopf's, before it gives up and stops."""

BEGIN_SECONDS = 10.0
"""
A watch that has not begun with a list by then is started again. Discovery may
be behind a new CRD, and kopf waits for ever for what discovery did not show.
"""

STALL_SECONDS = 600.0
"""A watch that has made no request for so long is dead: each lasts 480 s at most."""

CHECK_SECONDS = 1.0

STOP_SECONDS = 5.0
"""Longest wait for kopf to end."""

STEADY_SECONDS = 60.0
"""A watch that lived this long starts again with the first pause."""


@dataclass(frozen=True, slots=True)
class WatchHooks:
    """What a watch needs of the program it runs in."""

    access: Callable[[], Awaitable[Access]]
    """Returns present credentials."""
    on_gap: Callable[[Kind], None]
    """Called when events may have been missed."""
    claim_signals: Callable[[], None]
    """Installs the program's signal handlers again: kopf takes them whenever it starts."""


class WatchStalledError(Exception):
    """kopf runs and does not watch."""


class Watch:
    """The watch of one kind, started again whenever it stops."""

    def __init__(self, kind: Kind, inbox: Inbox, config: OperatorConfig, hooks: WatchHooks) -> None:
        self.kind = kind
        self.readable = asyncio.Event()
        """
        Set while the cluster knows the kind and lets us list it; kopf does not start before.
        It would ask in vain, stop, and say so, over and over.
        """
        self.failures = 0
        self.lists = 0
        """How often it began with a list, for want of a version that could be resumed."""
        self._inbox = inbox
        self._config = config
        self._hooks = hooks
        self._listed = False
        self._heard_at = 0.0
        self._refused = False

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = BACKOFF_SECONDS[0]
        while True:
            await self.readable.wait()
            started_at = time.monotonic()
            try:
                await self._watch()
            except Exception as error:  # noqa: BLE001 - whatever stopped kopf, the answer is to start again
                log.warning(
                    "watch_stopped", kind=self.kind, error=f"{type(error).__name__}: {error}"
                )
            self.failures += 1
            if time.monotonic() - started_at > STEADY_SECONDS:
                pause = BACKOFF_SECONDS[0]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(pause * 2, BACKOFF_SECONDS[1])
            self._hooks.on_gap(self.kind)

    async def _watch(self) -> None:
        """Run kopf until one of its tasks ends; raise what ended it."""
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=self._settings(),
            standalone=True,
            clusterwide=not self._config.watch_namespaces,
            namespaces=self._config.watch_namespaces,
        )
        self._hooks.claim_signals()
        self._listed, self._heard_at = False, time.monotonic()
        self._refused = False
        # Not kopf.run_tasks: it ends by cancelling every task of the loop, ours as well.
        try:
            done = await self._until_one_ends(tasks)
        finally:
            for task in tasks:
                task.cancel()
            # Some of kopf's tasks can swallow a cancellation; we do not wait for ever.
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in done:
            task.result()

    async def _until_one_ends(
        self, tasks: Collection["asyncio.Task[None]"]
    ) -> set["asyncio.Task[None]"]:
        """Wait for the end of any task. Raises WatchStalledError when they run for nothing."""
        while True:
            done, _ = await asyncio.wait(
                tasks, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return done
            if self._refused:
                raise WatchStalledError("refused: the storage of the kind is made anew")
            quiet_seconds = time.monotonic() - self._heard_at
            if quiet_seconds > (STALL_SECONDS if self._listed else BEGIN_SECONDS):
                raise WatchStalledError(f"no request for {quiet_seconds:.0f} s")

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        at = KIND_PATHS[self.kind]

        @kopf.on.login(registry=registry)
        async def on_login(**_: Any) -> kopf.AiohttpSession:
            return await self._open_session()

        @kopf.on.event(at.group, at.version, at.plural, registry=registry)
        async def on_event(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's name
            self._inbox.put(WatchEvent(self.kind, type == "DELETED", dict(body)))

        return registry

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        # Otherwise kopf kills the process ten minutes after one of its operators stopped.
        settings.process.ultimate_exiting_timeout = None
        settings.networking.error_backoffs = REQUEST_BACKOFFS
        settings.watching.server_timeout = random.randint(240, 480)  # noqa: S311 - jitter
        settings.watching.chunk_size = 500
        settings.queueing.idle_timeout = 1.0
        at = KIND_PATHS[self.kind]
        if self.kind in FIELD_SELECTORS:
            settings.watching.field_selectors[at.group, at.plural] = FIELD_SELECTORS[self.kind]
        if self.kind in LABELLED_KINDS and self._config.watch_labels:
            settings.watching.label_selectors[at.group, at.plural] = self._config.watch_labels
        return settings

    async def _open_session(self) -> kopf.AiohttpSession:
        """Open a session that tells of lists, since kopf tells its handlers of no gap."""
        access = await self._hooks.access()
        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(self._on_request_end)
        trace.on_request_exception.append(self._on_request_exception)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=access.ssl),
            headers=access.headers,
            trace_configs=[trace],
            read_bufsize=2**21,
        )
        return kopf.AiohttpSession(server=access.server, aiohttp_session=session)

    async def _on_request_end(
        self, _session: object, _trace: object, params: aiohttp.TraceRequestEndParams
    ) -> None:
        if not params.url.path.endswith(f"/{KIND_PATHS[self.kind].plural}"):
            return
        self._listed, self._heard_at = True, time.monotonic()
        # A CRD that is replaced gets another storage, and answers 429 until it is ready. Nobody
        # promises that a version of the old one means the same there: begin with a list.
        renewed = params.response.status == HTTPStatus.TOO_MANY_REQUESTS
        self._refused = self._refused or (renewed and self.kind in OPTIONAL_KINDS)
        if "watch" not in params.url.query and "continue" not in params.url.query:
            self.lists += 1
            self._hooks.on_gap(self.kind)

    async def _on_request_exception(
        self, _session: object, _trace: object, _params: object
    ) -> None:
        self._heard_at = time.monotonic()
