"""Traefik with the file provider, which it watches."""

from collections.abc import Sequence

from bench.peers import Served, Setting, replace


class Traefik:
    """
    One static file, one dynamic one.

    Changes take effect every 100 ms; by default two seconds would be waited
    for, and most of them would never be served.
    """

    def configure(self, setting: Setting, served: Served) -> None:
        static = {
            "entryPoints": {
                "web": {"address": f"127.0.0.1:{setting.plain_port}"},
                "websecure": {"address": f"127.0.0.1:{setting.tls_port}"},
            },
            "providers": {
                "file": {"filename": str(setting.folder / "dynamic.yaml"), "watch": True},
                "providersThrottleDuration": "100ms",
            },
            "serversTransport": {"maxIdleConnsPerHost": 512},
            "log": {"level": "ERROR"},
            "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        }
        # JSON is YAML, and Traefik knows the format of a file by its suffix.
        replace(setting.folder / "traefik.yaml", static)
        replace(setting.folder / "dynamic.yaml", _dynamic(setting, served))

    def command(self, setting: Setting) -> Sequence[str]:
        return (setting.programs["traefik"], f"--configfile={setting.folder / 'traefik.yaml'}")

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:  # noqa: ARG002 - files
        replace(setting.folder / "dynamic.yaml", _dynamic(setting, after))


def _dynamic(setting: Setting, served: Served) -> dict[str, object]:
    routers: dict[str, dict[str, object]] = {}
    for number, host in enumerate(served.hosts):
        route = {"rule": f"Host(`{host}`)", "service": "backend"}
        routers[f"p{number}"] = {**route, "entryPoints": ["web"]}
        routers[f"s{number}"] = {**route, "entryPoints": ["websecure"], "tls": {}}
    servers = [{"url": f"http://{address}:{setting.backend_port}"} for address in served.addresses]
    files = {"certFile": str(setting.certificate), "keyFile": str(setting.key)}
    return {
        "http": {
            "routers": routers,
            "services": {"backend": {"loadBalancer": {"servers": servers}}},
        },
        "tls": {
            "certificates": [files],
            "stores": {"default": {"defaultCertificate": files}},
        },
    }
