"""
Where the data planes are reached from outside, for the status of Ingresses.

The first of these that is set: fixed addresses, the Service in front of the data
planes, the nodes. What is watched anyway is read from the World; nodes, and a
Service outside the watched namespaces, are asked for from time to time.
"""

import asyncio
from collections.abc import Callable

import structlog

from fairway_operator import world as worlds
from fairway_operator.config import OperatorConfig
from fairway_operator.effects import published_addresses
from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import object_path
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import decode
from fairway_operator.world import World

log = structlog.get_logger(__name__)

POLL_SECONDS = 30.0

NODE_ADDRESS_TYPES = ("ExternalIP", "InternalIP")
"""The first of these that any node has is shown of all nodes."""


class Addresses:
    """Knows the addresses to publish."""

    def __init__(
        self, client: KubeClient, config: OperatorConfig, *, on_change: Callable[[], None]
    ) -> None:
        self._client = client
        self._config = config
        self._on_change = on_change
        self._polled: tuple[str, ...] = ()
        self._service: ObjectRef | None = None
        self._service_is_watched = False
        if config.status_service:
            namespace, name = config.status_service.split("/")
            self._service = ObjectRef(Kind.SERVICE, namespace, name)
            watched = config.watch_namespaces
            self._service_is_watched = not watched or namespace in watched

    def current(self, world: World) -> tuple[str, ...]:
        """Return the addresses to show; empty while there are none."""
        if self._config.status_addresses:
            return self._config.status_addresses
        if self._service is not None and self._service_is_watched:
            return published_addresses(world, self._service)
        return self._polled

    async def run(self) -> None:
        """Ask for what is not watched, until cancelled."""
        config = self._config
        polls_service = self._service is not None and not self._service_is_watched
        polls_nodes = self._service is None and bool(config.status_node_labels)
        while not config.status_addresses and (polls_service or polls_nodes):
            try:
                found = await (self._ask_service() if polls_service else self._ask_nodes())
            except KubeError as error:
                log.warning("addresses_unknown", status=error.status, message=error.message)
            else:
                if found != self._polled:
                    self._polled = found
                    self._on_change()
            await asyncio.sleep(POLL_SECONDS)

    async def _ask_service(self) -> tuple[str, ...]:
        assert self._service is not None
        body = await self._client.get(object_path(self._service))
        alone = worlds.EMPTY.put(decode(Kind.SERVICE, body))
        return published_addresses(alone, self._service)

    async def _ask_nodes(self) -> tuple[str, ...]:
        labels = self._config.status_node_labels
        nodes: list[Body] = []
        async for page, _ in self._client.pages("/api/v1/nodes", labelSelector=labels):
            nodes.extend(page)
        for kind in NODE_ADDRESS_TYPES:
            found = {
                address["address"]
                for node in nodes
                for address in (node.get("status") or {}).get("addresses") or ()
                if address.get("type") == kind
            }
            if found:
                return tuple(sorted(found))
        return ()
