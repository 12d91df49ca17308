"""Fairway as released, ``fairway dev``, fed through its own stream from a folder of manifests."""

from collections.abc import Sequence

from bench.peers import Served, Setting, replace

_META = {"namespace": "bench"}


class Fairway:
    """Each kind of object that may change has a file of its own."""

    def __init__(self, program: str) -> None:
        self._program = program

    def configure(self, setting: Setting, served: Served) -> None:
        manifests = setting.folder / "manifests"
        manifests.mkdir()
        service: dict[str, object] = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {**_META, "name": "backend"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }
        secret: dict[str, object] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {**_META, "name": "bench-tls"},
            "stringData": {
                "tls.crt": setting.certificate.read_text(),
                "tls.key": setting.key.read_text(),
            },
        }
        fixed = [_ingress(number, host) for number, host in enumerate(served.hosts[:-1])]
        replace(manifests / "fixed.json", _list([service, secret, *fixed]))
        replace(manifests / "edited.json", _edited(served))
        replace(manifests / "endpoints.json", _endpoints(setting, served))

    def command(self, setting: Setting) -> Sequence[str]:
        return (
            *(setting.programs[self._program], "dev", "-f", str(setting.folder / "manifests")),
            *("--http-port", str(setting.plain_port), "--https-port", str(setting.tls_port)),
            *("--admin-port", str(setting.admin_port), "--workers", str(setting.workers)),
        )

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:  # noqa: ARG002 - files
        manifests = setting.folder / "manifests"
        if after.hosts != before.hosts:
            replace(manifests / "edited.json", _edited(after))
        if after.addresses != before.addresses:
            replace(manifests / "endpoints.json", _endpoints(setting, after))


def _list(items: list[dict[str, object]]) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _edited(served: Served) -> dict[str, object]:
    return _list([_ingress(len(served.hosts) - 1, served.hosts[-1])])


def _endpoints(setting: Setting, served: Served) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **_META,
            "name": "backend-1",
            "labels": {"kubernetes.io/service-name": "backend"},
        },
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in served.addresses
        ],
        "ports": [{"name": "http", "port": setting.backend_port}],
    }


def _ingress(number: int, host: str) -> dict[str, object]:
    backend = {"service": {"name": "backend", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            **_META,
            "name": f"bench-{number}",
            "annotations": {"fairway.dev/ssl-redirect": "false"},
        },
        "spec": {
            "ingressClassName": "fairway",
            "tls": [{"hosts": [host], "secretName": "bench-tls"}],
            "rules": [{"host": host, "http": {"paths": [path]}}],
        },
    }
