"""HAProxy with a map of hosts; changes go through its runtime API, without a reload."""

import socket
from collections.abc import Sequence

from bench.backend import ADDRESSES
from bench.peers import Served, Setting, replace


class Haproxy:
    """Every address that the backend may have is a server; those that it has not are in maint."""

    def configure(self, setting: Setting, served: Served) -> None:
        folder = setting.folder
        replace(folder / "hosts.map", "".join(f"{host} backend\n" for host in served.hosts))
        replace(folder / "both.pem", setting.certificate.read_text() + setting.key.read_text())
        servers = "\n".join(
            f"  server {address} {address}:{setting.backend_port}"
            + ("" if address in served.addresses else " disabled")
            for address in ADDRESSES
        )
        replace(
            folder / "haproxy.cfg",
            f"""
global
  nbthread {setting.workers}
  maxconn 10500
  no strict-limits
  stats socket {folder}/api level admin
defaults
  mode http
  timeout client 60s
  timeout http-keep-alive 300s
  timeout server 60s
  timeout connect 5s
  timeout tunnel 1h
  option forwardfor
  http-reuse always
frontend in
  maxconn 10500
  bind 127.0.0.1:{setting.plain_port}
  bind 127.0.0.1:{setting.tls_port} ssl crt {folder}/both.pem
  use_backend %[req.hdr(host),field(1,:),lower,map({folder}/hosts.map)]
backend backend
{servers}
""",
        )

    def command(self, setting: Setting) -> Sequence[str]:
        return (setting.programs["haproxy"], "-db", "-f", str(setting.folder / "haproxy.cfg"))

    def change(self, setting: Setting, before: Served, after: Served, pid: int) -> None:  # noqa: ARG002 - a socket
        orders = [
            *(f"set server backend/{address} state ready" for address in after.addresses),
            *(
                f"set server backend/{address} state maint"
                for address in before.addresses
                if address not in after.addresses
            ),
            *(
                f"add map {setting.folder}/hosts.map {host} backend"
                for host in after.hosts
                if host not in before.hosts
            ),
            *(
                f"del map {setting.folder}/hosts.map {host}"
                for host in before.hosts
                if host not in after.hosts
            ),
        ]
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(5.0)
            link.connect(str(setting.folder / "api"))
            link.sendall(";".join(orders).encode() + b"\n")
            while link.recv(4096):
                pass
