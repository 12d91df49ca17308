"""
Data plane settings.

One frozen value, made once from ``FAIRWAY__*`` variables or from flags and
passed down; nothing below the command line reads ``os.environ``. The string
under each field is its documentation: the reference page and the chart's
``values.schema.json`` are generated from here. Durations are in seconds, sizes
in bytes.
"""

import ast
import inspect
import ipaddress
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, cast, get_type_hints

import msgspec

from fairway_dataplane.policy import Limits

PREFIX = "FAIRWAY__"
"""
Two underscores, because Kubernetes sets ``FAIRWAY_PORT`` and its kin in each
pod that can see a Service named fairway.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataplaneConfig:
    """Everything a data plane can be told."""

    bind_address: str = "0.0.0.0"
    """Address of the HTTP, HTTPS and admin ports; ``::`` for all of IPv6 and IPv4."""

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

    send_forwarded: bool = False
    """Tell backends of the client in Forwarded (RFC 7239) too, beside X-Forwarded-*."""

    send_via: bool = True
    """Add Via to requests, as RFC 9110 section 7.6.3 wants from a gateway."""

    strict_server_names: bool = False
    """Refuse a TLS handshake for an unknown server name; else the default certificate answers."""

    limits: Limits = Limits()  # noqa: RUF009 - frozen

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
        for network in self.trusted_networks:
            _check_network("trusted_networks", network)
        if not self.operators:
            raise ValueError("operators: none given; write host:port, several with commas")
        for operator in self.operators:
            host, _, port = operator.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"operators: {operator!r} has no port; write host:port")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as the reference page, ``--help`` and the values schema show it."""

    path: tuple[str, ...]
    """Names of the fields that lead to it."""
    kind: Any
    """Its Python type, as ``typing`` writes it."""
    default: object
    doc: str

    @property
    def variable(self) -> str:
        """``FAIRWAY__LIMITS__HEADER_BYTES``."""
        return PREFIX + "__".join(self.path).upper()

    @property
    def flag(self) -> str:
        """``--limits-header-bytes``."""
        return "--" + "-".join(self.path).replace("_", "-")


def config_from_env(environ: Mapping[str, str]) -> DataplaneConfig:
    """
    Read ``FAIRWAY__<FIELD>`` for each field; lists are separated by commas.

    Raises ValueError for a value that does not parse or does not fit, and for
    an unknown ``FAIRWAY__`` name: a misspelt setting must not be a default.
    """
    settings = {setting.variable: setting for setting in field_docs()}
    given: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in settings:
            raise ValueError(f"unknown setting {variable}")
        setting = settings[variable]
        at = given
        for name in setting.path[:-1]:
            at = at.setdefault(name, {})
        at[setting.path[-1]] = _parse(variable, text, setting.kind)
    return cast("DataplaneConfig", _make(DataplaneConfig, given))


def field_docs() -> tuple[Setting, ...]:
    """Return every setting, in the order of the source."""
    return tuple(_settings(DataplaneConfig, ()))


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


def _settings(owner: type[Any], path: tuple[str, ...]) -> Iterator[Setting]:
    docs = _docs(owner)
    hints = get_type_hints(owner)
    for entry in fields(owner):
        at = (*path, entry.name)
        kind = hints[entry.name]
        if is_dataclass(kind):
            yield from _settings(cast("type[Any]", kind), at)
            continue
        default = entry.default if entry.default_factory is MISSING else entry.default_factory()
        yield Setting(path=at, kind=kind, default=default, doc=docs[entry.name])


def _docs(owner: type) -> dict[str, str]:
    """Return the string under each field of a class."""
    (definition,) = ast.parse(inspect.getsource(owner)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, after in zip(definition.body, definition.body[1:], strict=False):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                docs[name] = inspect.cleandoc(text)
    return docs


def _parse(variable: str, text: str, kind: Any) -> object:
    value: object = text
    if str(kind).startswith("tuple["):
        value = [part for part in (part.strip() for part in text.split(",")) if part]
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"{variable}={text!r}: {error}") from None


def _make(owner: type, given: Mapping[str, Any]) -> Any:
    hints = get_type_hints(owner)
    return owner(
        **{
            name: _make(hints[name], value) if is_dataclass(hints[name]) else value
            for name, value in given.items()
        }
    )
