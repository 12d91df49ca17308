"""
Data plane settings.

One frozen value, made once from ``FAIRWAY__*`` variables or from flags and
passed down; nothing below the command line reads ``os.environ``. The string
under each field is its documentation: the reference page and the chart's
``values.schema.json`` are generated from here. Durations are in seconds, sizes
in bytes.
"""

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fairway_dataplane.accesslog import AccessLogSettings
from fairway_dataplane.limits import Limits
from fairway_snapshot.settings import read_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class DataplaneConfig:
    """Everything a data plane can be told."""

    bind_address: str = "0.0.0.0"
    """Address of the HTTP, HTTPS and admin ports; ``::`` for all of IPv6 and IPv4."""

    admin_bind_address: str = ""
    """
    Address of the admin port, if it is another one: ``127.0.0.1`` keeps metrics and debug
    pages on a machine whose network the data plane shares.
    """

    http_port: int = 8080
    """Plain HTTP. 0 takes a free port, which the log names."""

    https_port: int = 8443
    """HTTPS. 0 takes a free port, which the log names."""

    admin_port: int = 9000
    """Health, readiness, metrics and debug pages. 0 takes a free port, which the log names."""

    workers: int = 1
    """Worker processes; each has an event loop and keeps one CPU busy at most."""

    drain_seconds: float = 60.0
    """After SIGTERM, requests in flight have this long to finish."""

    operators: tuple[str, ...] = ()
    """Where to subscribe, as ``host:port``; they are tried in turn."""

    stream_certificate: str = "/etc/fairway/stream/tls.crt"
    """Client certificate (PEM) for the operator; read again when it changes."""

    stream_key: str = "/etc/fairway/stream/tls.key"
    """Key of the client certificate (PEM)."""

    stream_authority: str = "/etc/fairway/stream/ca.crt"
    """Certificates (PEM) that the operator's certificate must chain to."""

    stream_server_name: str = "fairway-operator"
    """Name that the operator's certificate must be for, whatever address it was reached at."""

    instance: str = ""
    """Name of this data plane in the operator's status; empty takes the host name."""

    state_directory: str = ""
    """
    Where the last good snapshot is kept, to start from it when no operator
    answers; empty keeps none. Snapshots with certificates are kept on
    memory-backed file systems only.
    """

    trusted_networks: tuple[str, ...] = ()
    """Proxies whose X-Forwarded-* and Forwarded are believed, as ``10.0.0.0/8``."""

    proxy_protocol_networks: tuple[str, ...] = ()
    """
    Load balancers that begin each connection with a PROXY protocol header
    (version 1 or 2), as ``10.0.0.0/8``. From there a connection without one is
    closed; from elsewhere one with it is refused.
    """

    send_forwarded: bool = False
    """Tell backends of the client in Forwarded (RFC 7239) too, beside X-Forwarded-*."""

    send_via: bool = True
    """Add Via to requests, as RFC 9110 section 7.6.3 wants from a gateway."""

    strict_server_names: bool = False
    """Refuse a TLS handshake for an unknown server name; else the default certificate answers."""

    backend_authorities: str = ""
    """Certificates (PEM) that backends with HTTPS must chain to; empty takes the system's."""

    limits: Limits = Limits()  # noqa: RUF009 - frozen

    access_log: AccessLogSettings = AccessLogSettings()  # noqa: RUF009 - frozen

    log_format: Literal["json", "text"] = "json"
    """Form of the program's own log on stderr."""

    def __post_init__(self) -> None:
        """Raise ValueError for what does not fit, with what to write instead."""
        for name in ("http_port", "https_port", "admin_port"):
            _check_port(name, getattr(self, name))
        if self.workers < 1:
            raise ValueError(f"workers: {self.workers} is too few; write 1 or more")
        if not 0 <= self.drain_seconds < math.inf:
            raise ValueError(f"drain_seconds: {self.drain_seconds} will not do; write 0 or more")
        _check_address("bind_address", self.bind_address)
        if self.admin_bind_address:
            _check_address("admin_bind_address", self.admin_bind_address)
        for network in self.trusted_networks:
            _check_network("trusted_networks", network)
        for network in self.proxy_protocol_networks:
            _check_network("proxy_protocol_networks", network)
        if not self.operators:
            raise ValueError("operators: none given; write host:port, several with commas")
        for operator in self.operators:
            host, _, port = operator.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"operators: {operator!r} has no port; write host:port")


def config_from_env(environ: Mapping[str, str]) -> DataplaneConfig:
    """Read ``FAIRWAY__*``; raises ValueError as :func:`read_settings` does."""
    return read_settings(DataplaneConfig, environ)


def _check_port(name: str, port: int) -> None:
    if not 0 <= port <= 65535:
        raise ValueError(f"{name}: {port} is not a port; write 0 to 65535")


def _check_address(name: str, text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; write an address such as 0.0.0.0 or ::") from None


def _check_network(name: str, text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}; write a network such as 10.0.0.0/8") from None
