"""
The contestants: how each is configured and started.

Each gets its recommended fast form: one worker, connections to the backend
kept alive, no access log. A contestant is started for one shape of
configuration (a number of hosts) and listens on one plain and one TLS port.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a contestant is told."""

    folder: Path
    backend_port: int
    plain_port: int
    tls_port: int
    admin_port: int
    hosts: tuple[str, ...]
    certificate: Path
    key: Path
    programs: dict[str, str]


Start = Callable[[Setting], Sequence[str]]
"""Write the configuration and return the command."""


def fairway(setting: Setting) -> Sequence[str]:
    """Fairway as released, fed through its own stream from a folder of manifests."""
    manifests = setting.folder / "manifests"
    manifests.mkdir()
    meta = {"namespace": "bench"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**meta, "name": "backend"},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    }
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **meta,
            "name": "backend-1",
            "labels": {"kubernetes.io/service-name": "backend"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": setting.backend_port}],
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {**meta, "name": "bench-tls"},
        "stringData": {
            "tls.crt": setting.certificate.read_text(),
            "tls.key": setting.key.read_text(),
        },
    }
    backend = {"service": {"name": "backend", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    ingresses = [
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                **meta,
                "name": f"bench-{number}",
                "annotations": {"fairway.dev/ssl-redirect": "false"},
            },
            "spec": {
                "ingressClassName": "fairway",
                "tls": [{"hosts": [host], "secretName": "bench-tls"}],
                "rules": [{"host": host, "http": {"paths": [path]}}],
            },
        }
        for number, host in enumerate(setting.hosts)
    ]
    objects = [service, slices, secret, *ingresses]
    (manifests / "all.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )
    return (
        *(setting.programs.get("fairway") or str(Path(sys.executable).parent / "fairway"), "dev"),
        *("-f", str(manifests)),
        *("--http-port", str(setting.plain_port), "--https-port", str(setting.tls_port)),
        *("--admin-port", str(setting.admin_port), "--workers", "1"),
    )


def traefik(setting: Setting) -> Sequence[str]:
    """Traefik with the file provider."""
    routers: dict[str, dict[str, object]] = {}
    for number, host in enumerate(setting.hosts):
        rule = f"Host(`{host}`)"
        routers[f"p{number}"] = {"rule": rule, "service": "backend", "entryPoints": ["web"]}
        routers[f"s{number}"] = {
            "rule": rule,
            "service": "backend",
            "entryPoints": ["websecure"],
            "tls": {},
        }
    server = {"url": f"http://127.0.0.1:{setting.backend_port}"}
    dynamic = {
        "http": {
            "routers": routers,
            "services": {"backend": {"loadBalancer": {"servers": [server]}}},
        },
        "tls": {
            "certificates": [
                {"certFile": str(setting.certificate), "keyFile": str(setting.key)},
            ]
        },
    }
    static: dict[str, object] = {
        "entryPoints": {
            "web": {"address": f"127.0.0.1:{setting.plain_port}"},
            "websecure": {"address": f"127.0.0.1:{setting.tls_port}"},
        },
        "providers": {"file": {"filename": str(setting.folder / "dynamic.yaml")}},
        "serversTransport": {"maxIdleConnsPerHost": 512},
        "log": {"level": "ERROR"},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }
    # JSON is YAML, and Traefik knows the format of a file by its suffix.
    (setting.folder / "dynamic.yaml").write_text(json.dumps(dynamic))
    (setting.folder / "traefik.yaml").write_text(json.dumps(static))
    return (setting.programs["traefik"], f"--configfile={setting.folder / 'traefik.yaml'}")


def nginx(setting: Setting) -> Sequence[str]:
    """Nginx as a reverse proxy."""
    names = "\n".join(setting.hosts)
    (setting.folder / "nginx.conf").write_text(
        f"""
daemon off; worker_processes 1; pid {setting.folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 1000000; server_names_hash_max_size 65536;
  server_names_hash_bucket_size 128; client_max_body_size 0; proxy_request_buffering off;
  client_body_temp_path {setting.folder}/b; proxy_temp_path {setting.folder}/p;
  fastcgi_temp_path {setting.folder}/f; uwsgi_temp_path {setting.folder}/u;
  scgi_temp_path {setting.folder}/s;
  ssl_certificate {setting.certificate}; ssl_certificate_key {setting.key};
  ssl_protocols TLSv1.2 TLSv1.3;
  upstream backend {{
    server 127.0.0.1:{setting.backend_port}; keepalive 512; keepalive_requests 1000000;
  }}
  server {{
    listen 127.0.0.1:{setting.plain_port}; listen 127.0.0.1:{setting.tls_port} ssl;
    server_name {names};
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""
    )
    return (setting.programs["nginx"], "-c", str(setting.folder / "nginx.conf"))


def haproxy(setting: Setting) -> Sequence[str]:
    """HAProxy with a map of hosts."""
    (setting.folder / "hosts.map").write_text(
        "".join(f"{host} backend\n" for host in setting.hosts)
    )
    (setting.folder / "both.pem").write_text(
        setting.certificate.read_text() + setting.key.read_text()
    )
    (setting.folder / "haproxy.cfg").write_text(
        f"""
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option forwardfor
  http-reuse always
frontend in
  bind 127.0.0.1:{setting.plain_port}
  bind 127.0.0.1:{setting.tls_port} ssl crt {setting.folder}/both.pem
  use_backend %[req.hdr(host),field(1,:),lower,map({setting.folder}/hosts.map)]
backend backend
  server s 127.0.0.1:{setting.backend_port}
"""
    )
    return (setting.programs["haproxy"], "-db", "-f", str(setting.folder / "haproxy.cfg"))


def envoy(setting: Setting) -> Sequence[str]:
    """Envoy with a static configuration."""
    http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"

    def address(port: int) -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    connection = {
        "@type": f"{http}.HttpConnectionManager",
        "stat_prefix": "in",
        "use_remote_address": True,
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": host,
                    "domains": [host, f"{host}:*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}],
                }
                for host in setting.hosts
            ]
        },
    }
    chain = {"filters": [{"name": "http", "typed_config": connection}]}
    secure = {
        **chain,
        "transport_socket": {
            "name": "tls",
            "typed_config": {
                "@type": tls,
                "common_tls_context": {
                    "tls_certificates": [
                        {
                            "certificate_chain": {"filename": str(setting.certificate)},
                            "private_key": {"filename": str(setting.key)},
                        }
                    ]
                },
            },
        },
    }
    endpoint = {"endpoint": {"address": address(setting.backend_port)}}
    config = {
        "static_resources": {
            "listeners": [
                {"name": "plain", "address": address(setting.plain_port), "filter_chains": [chain]},
                {"name": "tls", "address": address(setting.tls_port), "filter_chains": [secure]},
            ],
            "clusters": [
                {
                    "name": "backend",
                    "type": "STATIC",
                    "load_assignment": {
                        "cluster_name": "backend",
                        "endpoints": [{"lb_endpoints": [endpoint]}],
                    },
                }
            ],
        }
    }
    (setting.folder / "envoy.json").write_text(json.dumps(config))
    return (
        *(setting.programs["envoy"], "-c", str(setting.folder / "envoy.json")),
        *("--concurrency", "1", "--log-level", "error", "--disable-hot-restart"),
    )


CONTESTANTS: dict[str, Start] = {
    "fairway": fairway,
    "traefik": traefik,
    "nginx": nginx,
    "haproxy": haproxy,
    "envoy": envoy,
}


def start_backend(folder: Path, port: int, nginx_program: str) -> subprocess.Popen[bytes]:
    """Start nginx as the backend of all contestants, on the load generator's CPU."""
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "10k").write_bytes(b"k" * 10_240)
    (files / "1m").write_bytes(b"m" * (1 << 20))
    (folder / "backend.conf").write_text(
        f"""
daemon off; worker_processes 1; pid {folder}/backend.pid; error_log stderr crit; user root;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 3600s; sendfile on;
  tcp_nopush on; client_max_body_size 0; client_body_buffer_size 2m;
  client_body_temp_path {folder}/bb; proxy_temp_path {folder}/bp;
  fastcgi_temp_path {folder}/bf; uwsgi_temp_path {folder}/bu; scgi_temp_path {folder}/bs;
  open_file_cache max=16; default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {files};
    location = /128 {{ return 200 "{"x" * 128}"; }}
    location = /ok {{ return 200 "ok"; }}
    # Unlike `return`, a proxied request is read to its end.
    location = /upload {{
      proxy_pass http://127.0.0.1:{port}/ok; proxy_method GET; proxy_set_body "";
    }}
  }}
}}
"""
    )
    command = ["taskset", "-c", "1", nginx_program, "-c", str(folder / "backend.conf")]
    return subprocess.Popen(command, start_new_session=True)


def start(name: str, setting: Setting) -> subprocess.Popen[bytes]:
    """Start a contestant on the CPU of the proxies."""
    command = ["taskset", "-c", "0", *CONTESTANTS[name](setting)]
    log = (setting.folder / "log").open("wb")
    env = {**os.environ, "GOMAXPROCS": "1"}
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env
    )
