"""
Harm from outside a container, for the scenarios about crashes.

A process cannot kill process 1 of its own container, and the API offers no way
to. A privileged pod that sees the node's processes can, and it works the same
on every cluster.
"""

import asyncio
from contextlib import suppress

from e2e.kubectl import Body, CommandError, Namespace, eventually, run

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

HOLD_DOWN = """
import os, pathlib, signal, sys, time
name, until, killed = sys.argv[1].encode(), time.monotonic() + float(sys.argv[2]), 0
while True:
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\\0")[:2]
            if name in map(os.path.basename, words):
                os.kill(int(process.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue
    if time.monotonic() >= until:
        sys.exit(0 if killed else "not found")
    time.sleep(0.1)
"""
"""Kills a program whenever it runs, for a time: whoever replaces it replaces it in vain."""

COMPACT = """
import base64, json, os, pathlib, ssl, sys, urllib.request
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_text().split("\\0")
    except OSError:
        continue
    if "etcd" in map(os.path.basename, words[:2]):
        break
else:
    sys.exit("no etcd runs here")
flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
url = flags["advertise-client-urls"].split(",")[0]
context = None
if url.startswith("https:"):
    def path(flag):
        return f"{process}/root{flags[flag]}"
    context = ssl.create_default_context(cafile=path("trusted-ca-file"))
    context.load_cert_chain(path("cert-file"), path("key-file"))
def call(path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, context=context, timeout=30) as response:
        return json.load(response)
revision = call("/v3/kv/range", {"key": base64.b64encode(b"x").decode()})["header"]["revision"]
call("/v3/kv/compaction", {"revision": revision, "physical": True})
"""
"""Has etcd forget every version but the newest; how to reach it, its own flags say."""


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

    async def hold_down(self, program: str, seconds: float) -> None:
        """Kill a program of the control plane, and its successors for some seconds."""
        node = await self._control_plane()
        await self._start("hold-down", node, HOLD_DOWN, program, str(seconds))

        async def over() -> bool:
            with suppress(CommandError):
                pod = await self._namespace.get("pod", "hold-down")
                return bool(pod["status"]["phase"] == "Succeeded")
            return False

        await eventually(f"{program} was down and is back", over, seconds + 60)
        await self._namespace.kubectl("delete", "pod", "hold-down", "--wait=false")

    async def compact(self) -> None:
        """Have etcd forget what is not the present, so that no watch can be resumed."""
        await self._start("compact", await self._control_plane(), COMPACT)
        await self._succeeded("compact")

    async def _kill(self, node: str, containers: list[str]) -> None:
        name = f"kill-{node}"[:60]
        await self._start(name, node, KILL, *containers)
        await self._succeeded(name)

    async def _succeeded(self, name: str) -> None:
        await self._namespace.kubectl(
            "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"
        )

    async def _control_plane(self) -> str:
        """Return the node that runs etcd and the API server."""
        selector = "node-role.kubernetes.io/control-plane"
        nodes = (await run("kubectl", "get", "nodes", f"--selector={selector}", "-o=name")).split()
        # The local cluster's only node has no role.
        nodes = nodes or (await run("kubectl", "get", "nodes", "--output=name")).split()
        return nodes[0].partition("/")[2]

    async def _start(self, name: str, node: str, program: str, *arguments: str) -> None:
        container = {
            "name": "kill",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", program, *arguments],
            "securityContext": {"privileged": True, "runAsUser": 0, "runAsNonRoot": False},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "hostPID": True,
                "hostNetwork": True,
                "nodeName": node,
                "restartPolicy": "Never",
                "containers": [container],
            },
        }
        await self._namespace.apply(pod)
