"""The backend of all contestants: nginx, and behind it an echo of WebSockets."""

import subprocess
from pathlib import Path

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
"""Where the backend listens; the first one is always an endpoint, another may be."""

CPU = "1"
"""Of the backend and the load generators."""


def start(
    folder: Path, port: int, echo_port: int, programs: dict[str, str]
) -> list[subprocess.Popen[bytes]]:
    """Start both on the load generator's CPU."""
    files = folder / "files"
    files.mkdir(parents=True)
    (files / "10k").write_bytes(b"k" * 10_240)
    (files / "1m").write_bytes(b"m" * (1 << 20))
    listen = "\n".join(f"listen {address}:{port} backlog=4096;" for address in ADDRESSES)
    small = "x" * 128
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
    {listen} root {files};
    location = /128 {{ return 200 "{small}"; }}
    location = /new {{ add_header X-Request-Id $request_id; return 200 "{small}"; }}
    location = /ok {{ return 200 "oo"; }}
    # Unlike `return`, a proxied request is read to its end.
    location = /upload {{
      proxy_pass http://127.0.0.1:{port}/ok; proxy_method GET; proxy_set_body "";
    }}
    location = /ws {{
      proxy_pass http://127.0.0.1:{echo_port}; proxy_http_version 1.1; proxy_read_timeout 1h;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""
    )
    commands = (
        (programs["nginx"], "-c", str(folder / "backend.conf")),
        (programs["client"], "serve", f"port={echo_port}"),
    )
    return [
        subprocess.Popen(["taskset", "-c", CPU, *command], start_new_session=True)
        for command in commands
    ]
