"""nginx as a reverse proxy; a change is a reload, which is what its open form has."""

import os
import signal
from collections.abc import Sequence

from bench.peers import Served, Setting, replace


class Nginx:
    """One file."""

    def configure(self, setting: Setting, served: Served) -> None:
        folder = setting.folder
        shared = "reuseport" if setting.workers > 1 else ""
        replace(
            folder / "nginx.conf",
            f"""
daemon off; worker_processes {setting.workers}; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000; server_names_hash_max_size 65536;
  server_names_hash_bucket_size 128; client_max_body_size 0; proxy_request_buffering off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  ssl_certificate {setting.certificate}; ssl_certificate_key {setting.key};
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m;
  upstream backend {{
    {" ".join(f"server {address}:{setting.backend_port};" for address in served.addresses)}
    keepalive 512; keepalive_requests 1000000;
  }}
  proxy_http_version 1.1;
  proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Connection "";
  server {{
    listen 127.0.0.1:{setting.plain_port} default_server backlog=4096 {shared};
    listen 127.0.0.1:{setting.tls_port} ssl default_server backlog=4096 {shared};
    return 404;
  }}
  server {{
    listen 127.0.0.1:{setting.plain_port};
    listen 127.0.0.1:{setting.tls_port} ssl;
    server_name {" ".join(served.hosts)};
    location / {{ proxy_pass http://backend; }}
    location /ws {{
      proxy_pass http://backend; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
    }}
  }}
}}
""",
        )

    def command(self, setting: Setting) -> Sequence[str]:
        return (setting.programs["nginx"], "-c", str(setting.folder / "nginx.conf"))

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:  # noqa: ARG002 - a reload
        self.configure(setting, after)
        os.kill(pid, signal.SIGHUP)
