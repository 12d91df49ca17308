"""
The admin ports of a release's pods, through the API server's proxy.

Nobody has to forward a port, and network policies that keep others from the
admin ports need no exception. It takes the right to list pods and to ``get``
``pods/proxy`` in the namespace of the release.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from fairway_operator.kube.client import Body, KubeClient, KubeError
from fairway_operator.kube.paths import pods_path

PROGRAMS = ("operator", "dataplane")
_COMPONENT = "app.kubernetes.io/component"
_INSTANCE = "app.kubernetes.io/instance"
_ADMIN = "admin"
"""Name of the port in the chart."""
_OVER = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """One pod, and what its admin port has answered."""

    name: str
    release: str
    program: str
    """``operator`` or ``dataplane``."""
    answers: Mapping[str, tuple[bool, str]]
    """By page: whether it was 200, and the text."""

    @property
    def ready(self) -> bool:
        """Whether it says that it is ready."""
        return self.answers["readyz"][0]

    @property
    def reason(self) -> str:
        """Why it is not ready."""
        return "" if self.ready else self.answers["readyz"][1].strip()

    @property
    def degraded(self) -> list[str]:
        """What it does without, ready as it is."""
        return degraded_of(self.answers["readyz"][1])

    def page(self, name: str) -> Any:
        """Return a debug page; None where there is none."""
        found, text = self.answers.get(f"debug/{name}", (False, ""))
        return msgspec.json.decode(text) if found else None


def degraded_of(readyz: str) -> list[str]:
    """Return what an operator does without, of the text of its ``/readyz``."""
    mark = "degraded: "
    return [line.removeprefix(mark) for line in readyz.splitlines() if line.startswith(mark)]


async def ask_pods(
    client: KubeClient, namespace: str, release: str, pages: Iterable[str]
) -> list[Pod]:
    """Ask every pod of the release (of all, if empty) that is not over. Raises KubeError."""
    selector = f"{_COMPONENT} in ({','.join(PROGRAMS)})"
    if release:
        selector += f",{_INSTANCE}={release}"
    wanted = ["readyz", *(f"debug/{page}" for page in pages)]
    bodies: list[Body] = []
    async for page, _ in client.pages(pods_path(namespace), labelSelector=selector):
        bodies.extend(body for body in page if not _is_over(body))
    asked = [_ask(client, body, port, wanted) for body in bodies if (port := _port_of(body))]
    return sorted(await asyncio.gather(*asked), key=lambda pod: (pod.program, pod.name))


async def _ask(client: KubeClient, body: Body, port: int, pages: Iterable[str]) -> Pod:
    metadata = body["metadata"]
    labels = metadata.get("labels") or {}
    proxy = f"{pods_path(metadata['namespace'], metadata['name'])}:{port}/proxy"
    answers: dict[str, tuple[bool, str]] = {}
    try:
        for page in pages:
            status, text = await client.proxy(f"{proxy}/{page}")
            answers[page] = status == HTTPStatus.OK, text
    except KubeError as error:
        if error.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            raise
        # A pod that starts or has gone away; the others still have something to say.
        answers = {"readyz": (False, f"does not answer: {error.message}")}
    return Pod(
        name=metadata["name"],
        release=labels.get(_INSTANCE, ""),
        program=labels.get(_COMPONENT, ""),
        answers=answers,
    )


def _is_over(body: Body) -> bool:
    """Tell whether a pod has ended for good, such as one that was evicted: it stays on the list."""
    return (body.get("status") or {}).get("phase") in _OVER


def _port_of(body: Body) -> int | None:
    for container in (body.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("name") == _ADMIN:
                return int(port["containerPort"])
    return None
