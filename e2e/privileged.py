"""
Harm from outside a container, for the scenarios about crashes.

A process cannot kill process 1 of its own container, and the API offers no way
to. A privileged pod that sees the node's processes can, and it works the same
on every cluster.
"""

import asyncio

from e2e.kubectl import Body, Namespace

KILL = """
import os, pathlib, signal, sys
wanted = sys.argv[1:]
killed = set()
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        groups = (process / "cgroup").read_text()
        status = (process / "status").read_text()
    except OSError:
        continue
    container = next((name for name in wanted if name in groups), None)
    if container is None:
        continue
    inner = [line.split() for line in status.splitlines() if line.startswith("NSpid:")][0][-1]
    if inner == "1":
        os.kill(int(process.name), signal.SIGKILL)
        killed.add(container)
sys.exit(f"not found: {set(wanted) - killed}" if set(wanted) - killed else 0)
"""


class Privileged:
    """A namespace in which pods may do anything."""

    def __init__(self, namespace: Namespace, image: str) -> None:
        self._namespace = namespace
        self._image = image

    async def kill_containers(self, pods: list[Body]) -> None:
        """Kill process 1 of the containers of pods, by SIGKILL."""
        by_node: dict[str, list[str]] = {}
        for pod in pods:
            for status in pod["status"]["containerStatuses"]:
                identity = status["containerID"].rpartition("/")[2]
                by_node.setdefault(pod["spec"]["nodeName"], []).append(identity)
        await asyncio.gather(*(self._kill(node, ids) for node, ids in by_node.items()))

    async def _kill(self, node: str, containers: list[str]) -> None:
        name = f"kill-{node}"[:60]
        container = {
            "name": "kill",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", KILL, *containers],
            "securityContext": {"privileged": True, "runAsUser": 0, "runAsNonRoot": False},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "hostPID": True,
                "nodeName": node,
                "restartPolicy": "Never",
                "containers": [container],
            },
        }
        await self._namespace.apply(pod)
        await self._namespace.kubectl(
            "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"
        )
