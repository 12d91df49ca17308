"""
An API server over real sockets, with the faults of a real one at hand.

It speaks as much of the protocol as the operator uses: discovery, paged lists,
watches from a resourceVersion, optimistic locks, patches of a status and of webhooks.
What only a real one can prove is left to the e2e suite.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import Body, KubeClient
from fairway_operator.kube.paths import KIND_PATHS, OPTIONAL_KINDS
from fairway_operator.labels import parse_selector
from fairway_operator.refs import CLUSTER_SCOPED, Kind

PATIENCE_SECONDS = 60.0
"""No test waits longer for something that must happen; a machine may be busy or slow."""


@dataclass(slots=True, eq=False)
class Watcher:
    plural: str
    events: "asyncio.Queue[Body | None]"


@dataclass(slots=True, eq=False)
class ApiServer:
    """Objects by path; every change has its own resourceVersion."""

    url: str = ""
    version: int = 1000
    objects: dict[str, Body] = field(default_factory=dict)
    log: list[tuple[int, str, str, Body]] = field(default_factory=list)
    """(version, plural, type, object): what a watch replays."""
    watchers: list[Watcher] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    """Plurals that answer 403."""
    busy: set[str] = field(default_factory=set)
    """Plurals that answer 429, as those of a CRD do while it is replaced."""
    absent: set[str] = field(
        default_factory=lambda: {KIND_PATHS[kind].plural for kind in OPTIONAL_KINDS}
    )
    """Plurals that answer 404."""
    undiscovered: set[str] = field(default_factory=set)
    """Plurals that discovery does not show yet."""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers to writes."""
    emptied: int = 0
    """So many of the next lists are empty, as from a server that has lost its mind."""
    gone: bool = False
    """Answer every watch with 410."""
    expired: int = 0
    """How many watches were answered so."""
    deaf: bool = False
    """Tell watches of nothing, now or later."""
    stuck: bool = False
    """Take requests and never answer."""
    page_size: int = 500
    pods: dict[str, str] = field(default_factory=dict)
    """``name:port`` of a pod to the address at which its port really is."""
    after_list: Callable[[], object] | None = None
    """Happens once a list is made and before it is answered."""

    def put(self, kind: Kind, name: str, namespace: str = "default", **body: Any) -> Body:
        """Create or change an object, as a user would."""
        scoped = "" if kind in CLUSTER_SCOPED else namespace
        path = object_path(kind, scoped, name)
        verb = "MODIFIED" if path in self.objects else "ADDED"
        metadata = {"name": name, "uid": f"uid-{kind}-{name}", **body.pop("metadata", {})}
        if scoped:
            metadata["namespace"] = scoped
        return self._store(path, {"metadata": metadata, **body}, verb)

    def delete(self, kind: Kind, name: str, namespace: str = "default") -> None:
        """Delete an object, as a user would."""
        path = object_path(kind, "" if kind in CLUSTER_SCOPED else namespace, name)
        gone = self.objects.pop(path)
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        self._tell(plural_of(path), "DELETED", gone)

    def end_watches(self) -> None:
        """Close every watch, as a restarting server does."""
        for watcher in self.watchers:
            watcher.events.put_nowait(None)

    def count(self, method: str, part: str) -> int:
        """Return how many requests there were whose path holds ``part``."""
        return sum(1 for verb, path, _ in self.requests if verb == method and part in path)

    def _store(self, path: str, body: Body, verb: str) -> Body:
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        stored = {**body, "metadata": metadata}
        self.objects[path] = stored
        self._tell(plural_of(path), verb, stored)
        return stored

    def _tell(self, plural: str, verb: str, body: Body) -> None:
        if self.deaf:
            return
        self.log.append((self.version, plural, verb, body))
        for watcher in self.watchers:
            if watcher.plural == plural:
                watcher.events.put_nowait({"type": verb, "object": body})

    async def handle(self, request: web.Request) -> web.StreamResponse:  # noqa: C901, PLR0911 - a table
        query = dict(request.query)
        self.requests.append((request.method, request.path, query))
        if self.stuck:
            await asyncio.Event().wait()
        if request.path in ("/api", "/apis") or request.path in DISCOVERY:
            return web.json_response(self._discover(request.path))
        plural = plural_of(request.path)
        if plural in self.denied:
            return failure(403, f"{plural} is forbidden")
        if "/proxy/" in request.path:
            return await self._proxy(request.path)
        if plural in self.busy:
            return failure(429, "storage is (re)initializing")
        if plural in self.absent:
            return failure(404, "the server could not find the requested resource")
        if request.method != "GET":
            return await self._write(request)
        if not request.path.endswith(f"/{plural}"):
            found = self.objects.get(request.path)
            return web.json_response(found) if found else failure(404, "not found")
        if query.get("watch"):
            return await self._watch(request, plural, int(query.get("resourceVersion", "0")))
        listed = self._list(request.path, query)
        if self.after_list is not None:
            self.after_list()
        return web.json_response(listed)

    def pod(
        self,
        name: str,
        component: str,
        address: str,
        *,
        release: str = "fairway",
        phase: str = "Running",
    ) -> None:
        """Add a pod of a release whose admin port is at ``address``."""
        labels = {
            "app.kubernetes.io/instance": release,
            "app.kubernetes.io/component": component,
        }
        ports = [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9000}]
        path = f"/api/v1/namespaces/fairway-system/pods/{name}"
        metadata = {"name": name, "namespace": "fairway-system", "labels": labels}
        spec = {"containers": [{"name": "sidecar"}, {"name": component, "ports": ports}]}
        body = {"metadata": metadata, "spec": spec, "status": {"phase": phase}}
        self._store(path, body, "ADDED")
        self.pods[f"{name}:9000"] = address

    async def _proxy(self, path: str) -> web.Response:
        """Pass a request on to a pod, as a real one does."""
        pod, _, page = path.partition("/pods/")[2].partition("/proxy/")
        try:
            url = f"http://{self.pods[pod]}/{page}"
            async with aiohttp.ClientSession() as session, session.get(url) as answer:
                return web.Response(status=answer.status, body=await answer.read())
        except (KeyError, aiohttp.ClientError):
            return failure(503, f"error trying to reach service: no route to {pod}")

    def _list(self, path: str, query: dict[str, str]) -> Body:
        if self.emptied:
            self.emptied -= 1
            return {"items": [], "metadata": {"resourceVersion": str(self.version)}}
        plural, (prefix, _, _) = plural_of(path), path.rpartition("/")
        found = [
            body
            for at, body in sorted(self.objects.items())
            if plural_of(at) == plural and at.startswith(prefix) and selected(body, query)
        ]
        size = min(int(query.get("limit", "500")), self.page_size)
        begin = int(query.get("continue", "0"))
        metadata = {"resourceVersion": str(self.version)}
        if begin + size < len(found):
            metadata["continue"] = str(begin + size)
        return {"items": found[begin : begin + size], "metadata": metadata}

    async def _watch(self, request: web.Request, plural: str, since: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        if self.gone:
            self.expired += 1
            error = {"kind": "Status", "code": 410, "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": error}).encode() + b"\n")
            return response
        watcher = Watcher(plural, asyncio.Queue())
        for version, about, verb, body in self.log:
            if version > since and about == plural:
                watcher.events.put_nowait({"type": verb, "object": body})
        self.watchers.append(watcher)
        try:
            while (event := await watcher.events.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            return response
        finally:
            self.watchers.remove(watcher)
        return response

    async def _write(self, request: web.Request) -> web.Response:  # noqa: PLR0911 - a table
        if self.answers:
            status, headers = self.answers.pop(0)
            return failure(status, "as the test wants it", headers)
        body = json.loads(await request.read())
        path = request.path
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
            if path in self.objects:
                return failure(409, "already exists")
            body["metadata"].setdefault("uid", f"uid-{body['metadata']['name']}")
            return web.json_response(self._store(path, body, "ADDED"), status=201)
        target = path.removesuffix("/status")
        current = self.objects.get(target)
        if current is None:
            return failure(404, "not found")
        given = body["metadata"].get("resourceVersion")
        if given is not None and given != current["metadata"]["resourceVersion"]:
            return failure(409, "the object has been modified")
        if request.method == "PATCH":
            body = patched(current, body)
            if body == current:
                return web.json_response(current)
        return web.json_response(self._store(target, body, "MODIFIED"))

    def _discover(self, path: str) -> Body:
        if path == "/api":
            return {"versions": ["v1"]}
        if path == "/apis":
            return {
                "groups": [
                    {
                        "name": group,
                        "versions": [{"version": version}],
                        "preferredVersion": {"version": version},
                    }
                    for group, version in {(group, version) for group, version, _, _ in RESOURCES}
                    if group
                ]
            }
        return {
            "resources": [
                {
                    "name": plural,
                    "kind": kind,
                    "singularName": kind.lower(),
                    "namespaced": kind not in {*CLUSTER_SCOPED, "Namespace"},
                    "verbs": ["list", "watch"],
                }
                for group, version, plural, kind in RESOURCES
                if root_of(group, version) == path and plural not in self.absent | self.undiscovered
            ]
        }


RESOURCES = [(at.group, at.version, at.plural, kind.value) for kind, at in KIND_PATHS.items()] + [
    # kopf does not start before discovery shows this kind, and then asks for none of it.
    ("", "v1", "namespaces", "Namespace"),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
    ("events.k8s.io", "v1", "events", "Event"),
    ("coordination.k8s.io", "v1", "leases", "Lease"),
]


def root_of(group: str, version: str) -> str:
    return f"/apis/{group}/{version}" if group else f"/api/{version}"


DISCOVERY = {root_of(group, version) for group, version, _, _ in RESOURCES}
PLURALS = {plural for _, _, plural, _ in RESOURCES} | {"nodes", "pods"}


def plural_of(path: str) -> str:
    parts = path.strip("/").split("/")
    # The last that is a plural: /api/v1/namespaces/a/services/b is a Service.
    return (
        next((part for part in reversed(parts[:-1]) if part in PLURALS), "")
        if (parts[-1] not in PLURALS)
        else parts[-1]
    )


def object_path(kind: Kind, namespace: str, name: str) -> str:
    at = KIND_PATHS[kind]
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root_of(at.group, at.version)}{scope}/{at.plural}/{name}"


def patched(current: Body, patch: Body) -> Body:
    """Apply a status, or merge webhooks by their names."""
    if "webhooks" not in patch:
        return {**current, "status": patch["status"]}
    bundles = {hook["name"]: hook["clientConfig"]["caBundle"] for hook in patch["webhooks"]}
    webhooks = [
        {**hook, "clientConfig": {**hook["clientConfig"], "caBundle": bundles[hook["name"]]}}
        if hook["name"] in bundles
        else hook
        for hook in current["webhooks"]
    ]
    return {**current, "webhooks": webhooks}


def selected(body: Body, query: dict[str, str]) -> bool:
    name, _, value = query.get("fieldSelector", "").partition("=")
    if name and body.get(name) != value:
        return False
    selector = parse_selector(query.get("labelSelector", ""))
    return selector.selects(body["metadata"].get("labels") or {})


def failure(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": status, "message": message}
    return web.json_response(body, status=status, headers=headers)


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    yield server
    server.end_watches()
    await runner.cleanup()


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[KubeClient]:
    from kubernetes.aio.client.configuration import Configuration  # noqa: PLC0415 - only here

    configuration = Configuration()
    configuration.host = api.url
    configuration.retries = None
    client = KubeClient(configuration, timeout_seconds=5.0)
    yield client
    await client.close()


@pytest.fixture
def config() -> OperatorConfig:
    return OperatorConfig(
        instance="pod-a",
        publish_address="127.0.0.1:0",
        publish_names=("localhost", "127.0.0.1"),
        admin_address="127.0.0.1:0",
        confirm_seconds=0.05,
        lease_seconds=4,
        lease_renew_seconds=3,
        lease_retry_seconds=1,
        drain_seconds=0.5,
    )


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Any]:
    """Wait for a condition that events of another task bring about."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - it belongs to kopf or to a socket
                await asyncio.sleep(0.005)

    return wait
