"""Envoy: listeners as a static configuration, routes and endpoints by xDS from files."""

from collections.abc import Sequence
from pathlib import Path

from bench.peers import Served, Setting, replace

_TYPES = "type.googleapis.com/envoy"
_HTTP = f"{_TYPES}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = f"{_TYPES}.extensions.filters.http.router.v3.Router"
_TLS = f"{_TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


class Envoy:
    """The files of routes and endpoints are watched; they are moved into place."""

    def configure(self, setting: Setting, served: Served) -> None:
        folder = setting.folder
        replace(folder / "routes.json", _routes(served))
        replace(folder / "endpoints.json", _endpoints(setting, served))
        chain = {"filters": [{"name": "http", "typed_config": _manager(folder)}]}
        secure = {**chain, "transport_socket": _transport_socket(setting)}
        listeners = [
            {"name": "plain", "address": _address(setting.plain_port), "filter_chains": [chain]},
            {"name": "tls", "address": _address(setting.tls_port), "filter_chains": [secure]},
        ]
        cluster = {
            "name": "backend",
            "type": "EDS",
            "eds_cluster_config": {"eds_config": _source(folder / "endpoints.json")},
            # The default of 1,024 would be met by connections of a burst.
            "circuit_breakers": {
                "thresholds": [
                    {"max_connections": 16384, "max_requests": 16384, "max_pending_requests": 16384}
                ]
            },
        }
        replace(
            folder / "envoy.json",
            {
                "node": {"id": "bench", "cluster": "bench"},
                "static_resources": {"listeners": listeners, "clusters": [cluster]},
            },
        )

    def command(self, setting: Setting) -> Sequence[str]:
        return (
            *(setting.programs["envoy"], "-c", str(setting.folder / "envoy.json")),
            *("--concurrency", str(setting.workers)),
            *("--log-level", "error", "--disable-hot-restart"),
        )

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:  # noqa: ARG002 - files
        if after.hosts != before.hosts:
            replace(setting.folder / "routes.json", _routes(after))
        if after.addresses != before.addresses:
            replace(setting.folder / "endpoints.json", _endpoints(setting, after))


def _source(path: Path) -> dict[str, object]:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}


def _address(port: int, address: str = "127.0.0.1") -> dict[str, object]:
    return {"socket_address": {"address": address, "port_value": port}}


def _manager(folder: Path) -> dict[str, object]:
    return {
        "@type": _HTTP,
        "stat_prefix": "in",
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
        "rds": {"route_config_name": "routes", "config_source": _source(folder / "routes.json")},
    }


def _transport_socket(setting: Setting) -> dict[str, object]:
    certificate = {
        "certificate_chain": {"filename": str(setting.certificate)},
        "private_key": {"filename": str(setting.key)},
    }
    common = {"tls_certificates": [certificate]}
    return {"name": "tls", "typed_config": {"@type": _TLS, "common_tls_context": common}}


def _routes(served: Served) -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
    configuration = {
        "@type": f"{_TYPES}.config.route.v3.RouteConfiguration",
        "name": "routes",
        "virtual_hosts": [
            {"name": host, "domains": [host, f"{host}:*"], "routes": [route]}
            for host in served.hosts
        ],
    }
    return {"resources": [configuration]}


def _endpoints(setting: Setting, served: Served) -> dict[str, object]:
    assignment = {
        "@type": f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "backend",
        "endpoints": [
            {
                "lb_endpoints": [
                    {"endpoint": {"address": _address(setting.backend_port, address)}}
                    for address in served.addresses
                ]
            }
        ],
    }
    return {"resources": [assignment]}
