"""
One effect, written to the API server.

Status goes by server-side apply with our own field manager, so that only what
is ours is changed or withdrawn. Events go to events.k8s.io under a name made
of what they say, so that telling the same twice counts and does not pile up.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from fairway_operator.config import OperatorConfig
from fairway_operator.effects import Effect, EmitEvent, PatchStatus
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import KIND_PATHS, event_path, object_path
from fairway_operator.outbox import Answer, Outcome
from fairway_operator.refs import ObjectRef

REMEMBERED_WRITES = 10_000

_HOPELESS = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}
)


_OVERLOADED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class _Write:
    status: object
    version: int


class KubeWriter:
    """Performs effects; remembers what it wrote until the watch has shown it."""

    def __init__(
        self, client: KubeClient, config: OperatorConfig, *, seen: Callable[[ObjectRef], int]
    ) -> None:
        """``seen`` returns the resourceVersion of an object as the World has it."""
        self._client = client
        self._config = config
        self._seen = seen
        self._written: dict[ObjectRef, _Write] = {}

    async def write(self, effect: Effect) -> Answer:
        """Try once."""
        try:
            match effect:
                case PatchStatus():
                    return await self._apply_status(effect)
                case EmitEvent():
                    return await self._emit(effect)
        except KubeError as error:
            return _answer(error)

    async def _apply_status(self, effect: PatchStatus) -> Answer:
        status = _without_times(effect.manifest.get("status"))
        last = self._written.get(effect.ref)
        if last is not None and last.status == status and self._seen(effect.ref) < last.version:
            # Planned from a World that has not heard of our last write yet.
            return Answer(Outcome.UNCHANGED)
        answer = await self._client.apply(
            f"{object_path(effect.ref)}/status",
            effect.manifest,
            field_manager=self._config.field_manager,
        )
        version = str((answer.get("metadata") or {}).get("resourceVersion", ""))
        self._written.pop(effect.ref, None)
        if version.isdecimal():
            self._written[effect.ref] = _Write(status, int(version))
        if len(self._written) > REMEMBERED_WRITES:
            del self._written[next(iter(self._written))]
        return Answer(Outcome.WRITTEN)

    async def _emit(self, effect: EmitEvent) -> Answer:
        # Events of cluster-scoped objects live in the default namespace.
        namespace = effect.ref.namespace or "default"
        name = _event_name(effect)
        try:
            await self._client.create(event_path(namespace), self._event(effect, namespace, name))
        except KubeError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            await self._count(event_path(namespace, name))
        return Answer(Outcome.WRITTEN)

    async def _count(self, path: str) -> None:
        """Note that an event has happened once more."""
        event = await self._client.get(path)
        count = int((event.get("series") or {}).get("count", 1))
        event["series"] = {"count": count + 1, "lastObservedTime": _now()}
        await self._client.replace(path, event)

    def _event(self, effect: EmitEvent, namespace: str, name: str) -> Body:
        at = KIND_PATHS[effect.ref.kind]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": _now(),
            "type": effect.type,
            "reason": effect.reason,
            "action": "Compile",
            # The API server refuses more than 1 kB.
            "note": effect.message.encode()[:1000].decode(errors="ignore"),
            "regarding": {
                "apiVersion": f"{at.group}/{at.version}" if at.group else at.version,
                "kind": effect.ref.kind.value,
                "namespace": effect.ref.namespace,
                "name": effect.ref.name,
                "uid": effect.uid,
            },
            "reportingController": self._config.controller_name,
            "reportingInstance": self._config.instance,
        }


def _answer(error: KubeError) -> Answer:
    if error.status == HTTPStatus.NOT_FOUND:
        return Answer(Outcome.GONE)
    if error.status in _HOPELESS:
        return Answer(Outcome.REFUSED, str(error))
    return Answer(
        Outcome.FAILED, str(error), error.retry_after, overloaded=error.status in _OVERLOADED
    )


def _event_name(effect: EmitEvent) -> str:
    words = f"{effect.uid}\0{effect.type}\0{effect.reason}\0{effect.message}"
    return f"{effect.ref.name[:200]}.{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def _without_times(value: Any) -> Any:
    """Return a status without the times at which its conditions flipped."""
    if isinstance(value, dict):
        return {
            key: _without_times(item) for key, item in value.items() if key != "lastTransitionTime"
        }
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    return value


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
