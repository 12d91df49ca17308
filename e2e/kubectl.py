"""kubectl and helm as coroutines, so that load goes on while they work."""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from e2e.places import CHART

Body = dict[str, Any]

PATIENCE_SECONDS = 60.0


class CommandError(Exception):
    """A command failed; the message has its words."""


async def run(*command: str | Path, stdin: str = "") -> str:
    """Run a command; return what it printed. Raises CommandError."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate(stdin.encode())
    if process.returncode != 0:
        words = f"{said.decode()}{complained.decode()}".strip()
        raise CommandError(f"{' '.join(map(str, command))}\n{words}")
    return said.decode()


async def eventually(
    what: str, holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_SECONDS
) -> float:
    """Wait until it holds; return after how many seconds. Fails the test by AssertionError."""
    started = time.monotonic()
    while not await holds():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.1)
    return time.monotonic() - started


class Namespace:
    """A namespace and what happens in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in it."""
        return await run("kubectl", "--namespace", self.name, *arguments, stdin=stdin)

    async def create(self, level: str) -> None:
        """Make it, with the level of Pod Security, and wait for its account."""
        labels = {"pod-security.kubernetes.io/enforce": level}
        body = {"kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}
        await self.apply({"apiVersion": "v1", **body})
        # No pod is admitted before; a controller manager that lost its API server takes a while.
        await self.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=120s")

    async def remove(self) -> None:
        """Delete it and wait until it is gone."""
        await run("kubectl", "delete", "namespace", self.name, "--ignore-not-found", "--wait=true")

    async def apply(self, *bodies: Body) -> None:
        """Apply objects by server-side apply."""
        content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(bodies)})
        await self.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--filename", "-"), stdin=content
        )

    async def delete(self, kind: str, name: str) -> None:
        """Delete one object."""
        await self.kubectl("delete", kind, name, "--wait=false")

    async def get(self, kind: str, name: str) -> Body:
        """Return one object."""
        body: Body = json.loads(await self.kubectl("get", kind, name, "--output=json"))
        return body

    async def items(self, kind: str, selector: str = "") -> list[Body]:
        """Return the objects of a kind."""
        found = await self.kubectl("get", kind, f"--selector={selector}", "--output=json")
        items: list[Body] = json.loads(found)["items"]
        return items

    async def pods(self, component: str) -> list[str]:
        """Return the names of a component's pods that are not on their way out."""
        items = await self.items("pods", f"app.kubernetes.io/component={component}")
        return [
            item["metadata"]["name"]
            for item in items
            if "deletionTimestamp" not in item["metadata"]
        ]

    async def rolled_out(self, workload: str) -> None:
        """Wait until a workload is as its specification says."""
        await self.kubectl("rollout", "status", workload, "--timeout=120s")

    async def scale(self, workload: str, replicas: int) -> None:
        """Scale and wait until the pods are what they should be, in number."""
        await self.kubectl("scale", workload, f"--replicas={replicas}")
        await self.rolled_out(workload)


class Release:
    """The chart, installed."""

    def __init__(
        self, namespace: Namespace, name: str, values: Sequence[str], *, user: str = ""
    ) -> None:
        """``user`` is who installs, if not whom the kubeconfig names: one who writes no CRDs."""
        self.namespace = namespace
        self.name = name
        self.values = values
        self.user = user

    async def install(self, *more: str) -> None:
        """Install or upgrade, and wait until all pods are ready."""
        # Not by ``--wait``: without a cloud the Service never gets its load balancer.
        await self._helm(
            *("upgrade", "--install", self.name, str(CHART)),
            *(("--skip-crds",) if self.user else ()),
            *(f"--set={value}" for value in (*self.values, *more)),
        )
        selector = f"--selector=app.kubernetes.io/instance={self.name}"
        await self.namespace.kubectl("rollout", "status", "deployment", selector, "--timeout=120s")

    async def test(self) -> str:
        """Run ``helm test``."""
        return await self._helm("test", self.name, "--timeout=120s")

    async def uninstall(self) -> None:
        """Uninstall and wait until the objects are gone."""
        await self._helm("uninstall", self.name, "--wait", "--ignore-not-found")

    async def _helm(self, *arguments: str) -> str:
        acting = (f"--kube-as-user={self.user}",) if self.user else ()
        return await run("helm", "--namespace", self.namespace.name, *acting, *arguments)


async def everything() -> set[str]:
    """Return every object of the cluster but those that come and go by themselves."""
    kinds = (await run("kubectl", "api-resources", "--verbs=list", "--output=name")).split()
    passing = {"events", "events.events.k8s.io", "componentstatuses", "leases.coordination.k8s.io"}
    wanted = ",".join(kind for kind in kinds if kind not in passing)
    listed = await run(
        *("kubectl", "get", wanted, "--all-namespaces", "--ignore-not-found", "--output=json")
    )
    leases = await run("kubectl", "get", "leases", "--all-namespaces", "--output=json")
    items = json.loads(listed)["items"] + json.loads(leases)["items"]
    return {
        "/".join((item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]))
        for item in items
    }


async def may(user: str, verb: str, resource: str, namespace: str) -> bool:
    """Tell whether a user may do that in a namespace."""
    asked = ("auth", "can-i", verb, resource, f"--as={user}")
    with suppress(CommandError):
        await run("kubectl", "--namespace", namespace, *asked)
        return True
    return False


def image() -> str:
    """Return the image under test."""
    return os.environ["FAIRWAY_E2E_IMAGE"]


def node() -> str:
    """Return the address at which NodePorts answer."""
    return os.environ["FAIRWAY_E2E_NODE"]
