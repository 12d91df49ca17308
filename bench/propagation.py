"""
From an edit to the traffic that follows it, on a real cluster.

    python -m bench.propagation --objects 1000 --edits 50

Installs the chart as the end-to-end suite does, creates that many Ingresses,
and edits some of them one by one after quiet. An edit takes from the API call's
return to the first right answer of *every* data plane, each asked directly at
its pod. Beside the times stands what changes cost: status writes and events, as
the API server counts them, and the memory of both operators; for the creation, the
edits, one edit of a thousand objects each, and a thousand edits of one object.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench import processes
from e2e import image, objects
from e2e.cluster.kubernetes import Kubernetes, choose
from e2e.kubectl import eventually, run
from e2e.load import Connection, Site, ask
from e2e.places import ROOT
from e2e.world import World
from fairway_operator.kube.client import KubeClient, connect

PAUSE_SECONDS = (0.3, 0.9)
"""Between two edits, so that each comes after quiet, and at any moment of any period."""

POLL_SECONDS = 0.001

END_SECONDS = 120.0
"""To take everything away again."""

WRITERS = 8
MANY = 1000
ADDRESS = "192.0.2.10"
"""What a cloud would give to the Service of type LoadBalancer; nobody connects to it."""


def main() -> int:
    """Run where the cluster can be reached; there, measure."""
    options = _options()
    if "FAIRWAY_E2E_NODE" in os.environ:
        asyncio.run(_measure(options.objects, options.edits, busy=options.while_writing))
        return 0
    kubernetes = choose(os.environ.get("CLUSTER") or "local")
    name = os.environ.get("IMAGE")
    if name is None:
        name, archive = image.build()
        kubernetes.up()
        kubernetes.load_image(archive, name)
    else:
        kubernetes.up()
    return _again_inside(kubernetes, name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.propagation", description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument(
        "--while-writing",
        action="store_true",
        help="edit while the status of the new objects is still being written",
    )
    return parser.parse_args()


def _again_inside(kubernetes: Kubernetes, image_name: str) -> int:
    node = {"FAIRWAY_E2E_IMAGE": image_name, "FAIRWAY_E2E_NODE": kubernetes.node_address()}
    environment = {**os.environ, **kubernetes.environment(), **node}
    command = kubernetes.command((sys.executable, "-m", "bench.propagation", *sys.argv[1:]))
    inside = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
    with processes.alive(inside, END_SECONDS):
        return inside.wait()


async def _measure(count: int, edits: int, *, busy: bool) -> None:
    world = World()
    await world.begin()
    client = await connect(os.environ["KUBECONFIG"])
    try:
        await _publish_address(world)
        planes = await _data_planes(world)
        before = await _writes()
        created_seconds = await _create(client, world, count)
        live_seconds = await _all_live(planes, count)
        written_seconds = None if busy else await _quiet(world)
        after_creation = await _writes()
        times, calls = await _edit(client, world, planes, count, edits)
        if not busy:
            await _quiet(world)
        after_edits = await _writes()
        report = {
            "objects": count,
            "edits": edits,
            "data_planes": len(planes),
            "creation": {
                "created_seconds": round(created_seconds, 1),
                "last_live_after_seconds": round(live_seconds, 3),
                "all_written_after_seconds": written_seconds and round(written_seconds, 1),
                "writes": _since(before, after_creation),
            },
            "edit_to_live_ms": _summary(times),
            "api_call_ms": _summary(calls),
            "writes_meanwhile": _since(after_creation, after_edits),
        }
        if not busy:
            report["one_edit_of_many_objects"] = await _burst(client, world, _each(count))
            report["many_edits_of_one_object"] = await _burst(client, world, [0] * MANY)
        report["operators"] = await _operators(world)
        print(json.dumps(report, indent=2))
    finally:
        await client.close()
        await world.end()


async def _publish_address(world: World) -> None:
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    await world.system.kubectl(
        *("patch", "service", "fairway", "--subresource=status", "--type=merge"),
        f"--patch={json.dumps(status)}",
    )


async def _data_planes(world: World) -> list[str]:
    items = await world.system.items("pods", "app.kubernetes.io/component=dataplane")
    return [item["status"]["podIP"] for item in items]


async def _create(client: KubeClient, world: World, count: int) -> float:
    """Create the Ingresses as fast as the API server takes them; return after how long."""
    started = time.monotonic()
    numbers = iter(range(count))

    async def create() -> None:
        for number in numbers:
            body = objects.ingress(f"site-{number}", _host(number), "red")
            await client.create(_path(world), body)

    await asyncio.gather(*(create() for _ in range(WRITERS)))
    return time.monotonic() - started


async def _all_live(planes: list[str], count: int) -> float:
    """Return how long after its creation the last one answers everywhere."""
    sites = [Site(plane, 8080, _host(count - 1)) for plane in planes]
    started = time.monotonic()
    await asyncio.gather(*(_answered(site, "red") for site in sites))
    return time.monotonic() - started


async def _answered(site: Site, app: str) -> None:
    while True:
        answer = await ask(site)
        if answer.status == 200 and answer.told()["app"] == app:
            return
        await asyncio.sleep(POLL_SECONDS)


async def _edit(
    client: KubeClient, world: World, planes: list[str], count: int, edits: int
) -> tuple[list[float], list[float]]:
    """Edit one Ingress after the other; return the times to live and those of the API calls."""
    connections = [await Connection.open(Site(plane, 8080, "")) for plane in planes]
    times, calls = [], []
    for number in random.sample(range(count), edits):
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
        path = f"{_path(world)}/site-{number}"
        body = await client.get(path)
        path_of_rule = body["spec"]["rules"][0]["http"]["paths"][0]
        path_of_rule["backend"]["service"]["name"] = "blue"
        called = time.monotonic()
        await client.replace(path, body)
        returned = time.monotonic()
        calls.append(returned - called)
        site = Site("", 0, _host(number))
        await asyncio.gather(*(_turned(connection, site) for connection in connections))
        times.append(time.monotonic() - returned)
    for connection in connections:
        connection.close()
    return times, calls


async def _burst(client: KubeClient, world: World, numbers: Sequence[int]) -> dict[str, Any]:
    """Edit these Ingresses as fast as the API server takes it; return what came of it."""
    snapshots, before = await _published(world), await _writes()
    started = time.monotonic()
    remaining = iter(enumerate(numbers, start=1))

    async def edit() -> None:
        for at, number in remaining:
            # Each means something else, so that none would be left out by itself.
            spec = objects.ingress("", _host(number), "red")["spec"]
            spec["rules"][0]["http"]["paths"][0]["path"] = f"/{at}"
            path = f"{_path(world)}/site-{number}"
            await client.merge(path, {"spec": spec}, field_manager="bench")

    # One after the other where it is one object: each edit is the newest for a moment.
    writers = WRITERS if len(set(numbers)) > 1 else 1
    await asyncio.gather(*(edit() for _ in range(writers)))
    seconds = time.monotonic() - started
    quiet_seconds = await _quiet(world)
    return {
        "edits": len(numbers),
        "seconds": round(seconds, 1),
        "all_written_after_seconds": round(quiet_seconds, 1),
        "snapshots": await _published(world) - snapshots,
        "writes": _since(before, await _writes()),
    }


def _each(count: int) -> list[int]:
    return random.sample(range(count), min(count, MANY))


async def _turned(connection: Connection, site: Site) -> None:
    while True:
        answer = await connection.ask(site)
        if answer.told()["app"] == "blue":
            return
        await asyncio.sleep(POLL_SECONDS)


async def _quiet(world: World) -> float:
    """Wait until no replica has anything to write; return after how long."""
    started = time.monotonic()
    await asyncio.sleep(2.0)

    async def empty() -> bool:
        pods = await world.system.pods("operator")
        return sum([await world.metric(pod, "fairway_outbox_pending") for pod in pods]) == 0

    await eventually("everything is written", empty, 1200)
    return time.monotonic() - started


async def _writes() -> dict[str, int]:
    """Return how many statuses and events the API server has been sent, by its own count."""
    wanted = {
        "statuses": ('resource="ingresses"', 'subresource="status"', 'verb="APPLY"'),
        "events": ('resource="events"', 'group="events.k8s.io"'),
    }
    lines = (await run("kubectl", "get", "--raw", "/metrics")).splitlines()
    asked = [line for line in lines if line.startswith("apiserver_request_total{")]
    return {
        name: sum(
            int(float(line.rpartition(" ")[2]))
            for line in asked
            if all(part in line for part in parts) and 'verb="GET"' not in line
        )
        for name, parts in wanted.items()
    }


def _since(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    return {name: now[name] - before[name] for name in now}


async def _published(world: World) -> int:
    """Return how many snapshots the busier replica has published."""
    return max([await world.sequence(pod) for pod in await world.system.pods("operator")])


async def _operators(world: World) -> dict[str, dict[str, float]]:
    """Return memory of each replica, in MiB, as its node accounts for it."""
    pods = await world.system.items("pods", "app.kubernetes.io/component=operator")
    found = {}
    for pod in pods:
        node, name = pod["spec"]["nodeName"], pod["metadata"]["name"]
        text = await run("kubectl", "get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
        (stats,) = [each for each in json.loads(text)["pods"] if each["podRef"]["name"] == name]
        memory: dict[str, Any] = stats["containers"][0]["memory"]
        found[name] = {
            "working_set_mib": round(memory["workingSetBytes"] / 2**20, 1),
            "rss_mib": round(memory.get("rssBytes", 0) / 2**20, 1),
            "leader": await world.metric(name, "fairway_leader"),
        }
    return found


def _summary(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    shown = {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98], "max": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in shown.items()}


def _host(number: int) -> str:
    return f"site-{number}.propagation.test"


def _path(world: World) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{world.apps.name}/ingresses"


if __name__ == "__main__":
    processes.run(main)
