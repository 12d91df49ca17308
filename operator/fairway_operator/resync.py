"""
Lists are the truth, events are hints.

The watch tells what changed while somebody listened. What changed while nobody
did (a broken connection, an expired resourceVersion, an API server that was
away) only a list can tell, and above all that an object is gone. Each kind is
listed at start, from time to time, and after each gap in its watch; what the
list knows better than the inbox is put into the inbox.

The one rule: a list is used whole or not at all. Half a list would look like
deletions, and so would a wrong one; a list without most of the known objects
must be confirmed by another one.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import structlog

from fairway_operator.config import OperatorConfig
from fairway_operator.inbox import Inbox, WatchEvent
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import (
    FIELD_SELECTORS,
    KIND_PATHS,
    LABELLED_KINDS,
    OPTIONAL_KINDS,
    collection_path,
)
from fairway_operator.refs import CLUSTER_SCOPED, Kind, ObjectRef

log = structlog.get_logger(__name__)

ABSENT_SECONDS = 10.0
"""How often to look whether the cluster knows a kind by now; the answer costs it nothing."""

HANDFUL = 5
"""Fewer objects than this may all go at once without a second look."""

BACKOFF_SECONDS = (0.5, 30.0)
"""First and longest pause after a failed list; doubled in between, and jittered."""


class ListState(StrEnum):
    """How the last list of a kind went; also a metric label."""

    PENDING = "pending"
    """Not listed yet."""
    COMPLETE = "complete"
    ABSENT = "absent"
    """The cluster does not know the kind."""
    DENIED = "denied"
    """Not allowed (RBAC); what was known is kept."""
    FAILED = "failed"
    """No usable answer; what was known is kept."""


@dataclass(slots=True)
class KindStatus:
    """What is known of the lists of one kind."""

    state: ListState = ListState.PENDING
    message: str = ""
    completed_at: float | None = None
    """When the last complete list ended, by the monotonic clock."""
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the first compilation need not wait for this kind."""


class Resync:
    """Lists every kind and repairs the inbox."""

    def __init__(
        self,
        client: KubeClient,
        inbox: Inbox,
        config: OperatorConfig,
        *,
        on_state: Callable[[Kind, ListState], None] = lambda _kind, _state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_state`` hears of every change of a kind's state."""
        self.kinds: dict[Kind, KindStatus] = {kind: KindStatus() for kind in Kind}
        self._client = client
        self._inbox = inbox
        self._config = config
        self._on_state = on_state
        self._clock = clock

    async def complete(self) -> None:
        """
        Wait until the inbox has heard of every object.

        A kind that may not be read keeps this waiting, since a snapshot without
        it would take away what data planes serve now. The exceptions are kinds
        that only ever grant more, and cluster-scoped kinds where the operator is
        limited to namespaces.
        """
        for status in self.kinds.values():
            await status.settled.wait()

    def request(self, kind: Kind) -> None:
        """Ask for a list soon, because the watch of this kind had a gap."""
        self.kinds[kind].requested.set()

    def age_seconds(self, kind: Kind) -> float | None:
        """Return the time since the last complete list of a kind; None before the first."""
        completed_at = self.kinds[kind].completed_at
        return None if completed_at is None else self._clock() - completed_at

    async def run(self, kind: Kind) -> None:
        """Keep one kind right until cancelled."""
        status = self.kinds[kind]
        pause = BACKOFF_SECONDS[0]
        while True:
            status.requested.clear()
            if await self.list_now(kind):
                pause = BACKOFF_SECONDS[0]
                absent = status.state is ListState.ABSENT
                seconds = ABSENT_SECONDS if absent else self._config.resync_seconds
                seconds *= random.uniform(0.9, 1.1)  # noqa: S311 - jitter
            else:
                seconds = pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                pause = min(pause * 2, BACKOFF_SECONDS[1])
            try:
                async with asyncio.timeout(seconds):
                    await status.requested.wait()
            except TimeoutError:
                continue

    async def list_now(self, kind: Kind) -> bool:
        """List one kind and repair the inbox; False when there was no whole list."""
        try:
            versions = [await self._list_scope(kind, scope) for scope in self._scopes(kind)]
        except KubeError as error:
            self._note_failure(kind, error)
            return False
        # A deletion that is older than every list can be contradicted by none to come.
        self._inbox.forget_deletions(kind, until_version=min(versions))
        if self.kinds[kind].state is not ListState.ABSENT:
            self._note(kind, ListState.COMPLETE, "")
        self.kinds[kind].completed_at = self._clock()
        self.kinds[kind].settled.set()
        return True

    def _scopes(self, kind: Kind) -> tuple[str, ...]:
        if not self._config.watch_namespaces or kind in CLUSTER_SCOPED:
            return ("",)
        return self._config.watch_namespaces

    async def _list_scope(self, kind: Kind, namespace: str) -> int:
        """List one namespace, or all; return the resourceVersion of the list, or 0."""
        bodies, version = await self._fetch(kind, namespace)
        lost = self._merge(kind, namespace, bodies, version)
        known = sum(1 for ref in self._inbox.known(kind) if namespace in ("", ref.namespace))
        if known >= HANDFUL and len(lost) * 2 > known:
            log.warning(
                "suspicious_list", kind=kind, namespace=namespace, known=known, lost=len(lost)
            )
            await asyncio.sleep(self._config.confirm_seconds)
            bodies, version = await self._fetch(kind, namespace)
            lost = self._merge(kind, namespace, bodies, version)
        for ref in lost:
            self._inbox.put(WatchEvent(kind, deleted=True, body=_tombstone(ref, version)))
        if lost:
            log.info("pruned", kind=kind, namespace=namespace, objects=len(lost))
        return version or 0

    async def _fetch(self, kind: Kind, namespace: str) -> tuple[list[Body], int | None]:
        newest = self._inbox.newest(kind)
        query = {}
        if kind in FIELD_SELECTORS:
            query["fieldSelector"] = FIELD_SELECTORS[kind]
        if kind in LABELLED_KINDS and self._config.watch_labels:
            query["labelSelector"] = self._config.watch_labels
        bodies: list[Body] = []
        version = ""
        try:
            async for page, version in self._client.pages(  # noqa: B007 - the last one counts
                collection_path(kind, namespace), **query
            ):
                bodies.extend(page)
        except KubeError as error:
            if error.status != HTTPStatus.NOT_FOUND or kind not in OPTIONAL_KINDS:
                raise
            self._note(kind, ListState.ABSENT, "the cluster does not know this kind")
            return [], None
        if self.kinds[kind].state is ListState.ABSENT:
            self._note(kind, ListState.PENDING, "")
        number = int(version) if version.isdecimal() else None
        if number is not None and number < newest:
            log.warning("history_went_back", kind=kind, heard=newest, listed=number)
            self._inbox.forget_versions(kind)
        return bodies, number

    def _merge(
        self, kind: Kind, namespace: str, bodies: list[Body], version: int | None
    ) -> list[ObjectRef]:
        """Put what is new, and return the known objects that the list has lost."""
        at = KIND_PATHS[kind]
        listed = set()
        for body in bodies:
            # Items of a list carry neither.
            body.setdefault("kind", kind.value)
            body.setdefault("apiVersion", f"{at.group}/{at.version}" if at.group else at.version)
            event = WatchEvent(kind, deleted=False, body=body)
            listed.add(event.ref)
            self._inbox.put(event)
        return [
            ref
            for ref, known_version in self._inbox.known(kind).items()
            if ref not in listed
            and namespace in ("", ref.namespace)
            # The watch may be ahead of the list.
            and (version is None or known_version <= version)
        ]

    def _note_failure(self, kind: Kind, error: KubeError) -> None:
        denied = error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED)
        self._note(kind, ListState.DENIED if denied else ListState.FAILED, error.message)
        limited = bool(self._config.watch_namespaces) and kind in CLUSTER_SCOPED
        if error.status == HTTPStatus.FORBIDDEN and (limited or kind is Kind.REFERENCE_GRANT):
            self.kinds[kind].settled.set()

    def _note(self, kind: Kind, state: ListState, message: str) -> None:
        status = self.kinds[kind]
        status.message = message
        if status.state is state:
            return
        previous, status.state = status.state, state
        log.info("list_state", kind=kind, state=state, previous=previous, message=message)
        self._on_state(kind, state)


def _tombstone(ref: ObjectRef, version: int | None) -> Mapping[str, Any]:
    metadata = {"namespace": ref.namespace, "name": ref.name}
    if version is not None:
        metadata["resourceVersion"] = str(version)
    return {"kind": ref.kind.value, "metadata": metadata}
