"""
The webhook's registration: whom the API server should trust when it asks us.

Release and operator share the ValidatingWebhookConfiguration. The release
says what is asked and what becomes of objects when nobody answers; the leader
fills in the authority, and changes nothing else.

The one rule: an authority is registered while it is trusted, long before it
signs, so that no certificate is ever shown that the API server does not know.
"""

import asyncio
import base64
from collections.abc import Callable
from http import HTTPStatus
from typing import NoReturn

import structlog

from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import webhook_path
from fairway_operator.resources.body import FIELD_MANAGER

log = structlog.get_logger(__name__)

LOOK_SECONDS = 10.0
"""Between two looks: as long as a registration that was made anew may be without an authority."""


class Registration:
    """Keeps ``caBundle`` of one ValidatingWebhookConfiguration."""

    def __init__(
        self,
        client: KubeClient,
        name: str,
        *,
        trusted: Callable[[], bytes],
        leading: Callable[[], bool],
    ) -> None:
        """
        Take the name of the configuration; an empty one is none.

        ``trusted`` returns the authorities as PEM, empty while there is none.
        """
        self._client = client
        self._name = name
        self._trusted = trusted
        self._leading = leading
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look now: we lead, or there is another authority."""
        self._woken.set()

    async def run(self) -> NoReturn:
        """Keep looking until cancelled."""
        while True:
            try:
                await self.look()
            except KubeError as error:
                log.warning("webhook_not_registered", status=error.status, message=error.message)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                continue
            finally:
                self._woken.clear()

    async def look(self) -> None:
        """Register the authority where it is not, once. Raises KubeError."""
        trusted = self._trusted()
        if not self._name or not trusted or not self._leading():
            return
        try:
            found = await self._client.get(webhook_path(self._name))
        except KubeError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return
            raise
        bundle = base64.b64encode(trusted).decode()
        stale = [hook for hook in found.get("webhooks") or () if _bundle(hook) != bundle]
        if not stale:
            return
        await self._client.merge(
            webhook_path(self._name),
            {
                # Refused if somebody else was quicker: the list may have other entries by now.
                "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
                "webhooks": [
                    {"name": hook["name"], "clientConfig": {"caBundle": bundle}} for hook in stale
                ],
            },
            field_manager=FIELD_MANAGER,
        )
        log.info("webhook_registered", name=self._name)


def _bundle(hook: Body) -> str:
    return str((hook.get("clientConfig") or {}).get("caBundle") or "")
