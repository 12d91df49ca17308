"""
The release under test, its users' namespace, and what can be seen of both.

Every wait is for an event that somebody can observe from outside: an answer,
an object, a metric or a page of the admin ports.
"""

import asyncio
import json
import os
import ssl
from contextlib import suppress

from e2e import objects
from e2e.kubectl import Body, CommandError, Namespace, Release, eventually, node, run
from e2e.load import Site, ask

HTTP_NODE_PORT = 30080
HTTPS_NODE_PORT = 30443

_repository, _, _tag = os.environ.get("FAIRWAY_E2E_IMAGE", "").rpartition(":")
IMAGE_VALUES = (f"image.repository={_repository}", f"image.tag={_tag}")
DEFAULT_CERTIFICATE = "default-tls"
"""Secret of the users' namespace; it need not exist."""

VALUES = (
    *IMAGE_VALUES,
    f"operator.settings.defaultCertificate=fairway-e2e-apps/{DEFAULT_CERTIFICATE}",
    f"dataplane.service.http.nodePort={HTTP_NODE_PORT}",
    f"dataplane.service.https.nodePort={HTTPS_NODE_PORT}",
)


class World:
    """The release and the namespace of its users."""

    def __init__(self) -> None:
        self.system = Namespace("fairway-system")
        self.apps = Namespace("fairway-e2e-apps")
        self.release = Release(self.system, "fairway", VALUES)

    async def begin(self) -> None:
        """Start from nothing, whatever an earlier run has left."""
        await self.end()
        await asyncio.gather(self.system.create("restricted"), self.apps.create("restricted"))
        await self.apps.apply(objects.program(), *objects.backend("red"), *objects.backend("blue"))
        await self.release.install()
        await self.apps.rolled_out("deployment/red")
        await self.apps.rolled_out("deployment/blue")

    async def end(self) -> None:
        """Remove it all."""
        with suppress(CommandError):
            await self.release.uninstall()
        await asyncio.gather(self.system.remove(), self.apps.remove())

    def site(self, host: str, path: str = "/", *, secure: bool = False) -> Site:
        """Return a host as a client outside the cluster reaches it."""
        if not secure:
            return Site(node(), HTTP_NODE_PORT, host, path)
        # The scenarios compare certificates byte by byte, which is stricter than a chain.
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return Site(node(), HTTPS_NODE_PORT, host, path, trusting)

    async def answers(self, site: Site, app: str) -> float:
        """Wait until a backend answers for a site once; return after how many seconds."""

        async def by_the_app() -> bool:
            with suppress(OSError, EOFError, ValueError, TimeoutError):
                answer = await ask(site)
                return answer.status == 200 and answer.told()["app"] == app
            return False

        return await eventually(f"{site.host}{site.path} is answered by {app}", by_the_app)

    async def everywhere(self, site: Site, app: str) -> None:
        """Wait until a backend answers for a site, whichever data plane is asked."""
        await self.answers(site, app)
        await self.one_snapshot()

    async def withdrawn(self, host: str) -> None:
        """Wait until a host is unknown."""
        await self.answered(host, 404)

    async def answered(self, host: str, status: int) -> None:
        """Wait until a host is answered with a status."""

        async def by_status() -> bool:
            return (await ask(self.site(host))).status == status

        await eventually(f"{host} is answered with {status}", by_status)

    async def one_snapshot(self) -> None:
        """Wait until every data plane serves the same snapshot."""
        pods = await self.system.pods("dataplane")

        async def equal() -> bool:
            return len(set(await asyncio.gather(*map(self.snapshot, pods)))) == 1

        await eventually("all data planes serve one snapshot", equal)

    async def metric(self, pod: str, start: str) -> float:
        """Return the sum of a pod's samples that start like this."""
        pods = f"/api/v1/namespaces/{self.system.name}/pods"
        text = await run("kubectl", "get", "--raw", f"{pods}/{pod}:9000/proxy/metrics")
        lines = [line for line in text.splitlines() if line.startswith(start)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def snapshot(self, pod: str) -> str:
        """Return the digest of what a data plane serves."""
        digest: str = (await self._newest(pod))["digest"]
        return digest

    async def published(self, pod: str) -> str:
        """Return the root of what an operator publishes; empty before the first."""
        root: str = (await self._newest(pod)).get("root", "")
        return root

    async def sequence(self, pod: str) -> int:
        """Return how many snapshots an operator has published since it started."""
        position: list[int] = (await self._newest(pod))["position"]
        return position[1]

    async def balanced(self, namespace: Namespace, service: str) -> list[str]:
        """Return the addresses of a Service; give it one where no cloud does."""
        body = await namespace.get("service", service)
        if not body["status"]["loadBalancer"]:
            status = '{"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}]}}}'
            await namespace.kubectl(
                "patch", "service", service, "--subresource=status", f"--patch={status}"
            )
            body = await namespace.get("service", service)
        return addresses(body)

    async def leader(self) -> str:
        """Wait until an operator that lives holds the Lease; return it."""

        async def held() -> bool:
            return await self.holder() in await self.system.pods("operator")

        await eventually("an operator holds the Lease", held)
        return await self.holder()

    async def leader_and_follower(self) -> tuple[str, str]:
        """Wait until there is a leader of two operators; return both."""
        leader = await self.leader()
        (follower,) = [pod for pod in await self.system.pods("operator") if pod != leader]
        return leader, follower

    async def holder(self) -> str:
        """Return who holds the Lease; empty when nobody does."""
        lease = await self.system.get("lease", "fairway-operator")
        holder: str = lease.get("spec", {}).get("holderIdentity") or ""
        return holder

    async def _newest(self, pod: str) -> Body:
        pods = f"/api/v1/namespaces/{self.system.name}/pods"
        text = await run("kubectl", "get", "--raw", f"{pods}/{pod}:9000/proxy/debug/snapshot")
        newest: Body = json.loads(text)
        return newest


def addresses(body: Body) -> list[str]:
    """Return where the status of a Service or an Ingress says that it can be reached."""
    points = body.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    return [point.get("ip") or point["hostname"] for point in points]


def condition(body: Body, kind: str) -> str:
    """Return the status of one of a Route's conditions; empty without it."""
    conditions = body.get("status", {}).get("conditions", [])
    return next((str(found["status"]) for found in conditions if found["type"] == kind), "")
