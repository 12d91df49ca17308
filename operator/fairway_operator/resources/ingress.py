"""
Ingress (``networking.k8s.io/v1``).

Paths keep their place in the object, so that a finding of the compiler can
name the field; a path whose backend makes no sense stays, without a backend,
because it must answer 503 and not fall through to a shorter one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding, Reason
from fairway_operator.hosts import ANY_HOST, BadHost, is_name, parse_host
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Metadata, Reader, show, status_managers
from fairway_snapshot.model import HostPattern, PathKind

CLASS_ANNOTATION = "kubernetes.io/ingress.class"

_PATH_KINDS = {
    "Exact": PathKind.EXACT,
    "Prefix": PathKind.PREFIX,
    # "Interpretation is up to the IngressClass": ours is that of Prefix.
    "ImplementationSpecific": PathKind.PREFIX,
}
_FORBIDDEN = ("//", "/./", "/../", "%2f", "%2F")
_FORBIDDEN_ENDS = ("/..", "/.")


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """A Service of the same namespace, and its port by number or by name."""

    service: str
    port: int | str


class IngressPath(msgspec.Struct, frozen=True, gc=False):
    """One path of a rule."""

    index: int
    kind: PathKind
    path: str
    """As written, but "/" where it was empty."""
    backend: ServicePort | None
    """None for a backend that cannot be used; a finding says why."""


class IngressRule(msgspec.Struct, frozen=True, gc=False):
    """One rule; without paths, all paths of the host go to the default backend."""

    index: int
    host: HostPattern
    paths: tuple[IngressPath, ...]


class IngressTls(msgspec.Struct, frozen=True, gc=False):
    """One TLS section; without a secret, the default certificate is meant."""

    index: int
    hosts: tuple[HostPattern, ...]
    secret: str | None


class Ingress(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Ingress."""

    ref: ObjectRef
    metadata: Metadata
    class_name: str | None
    class_annotation: str | None
    annotations: tuple[tuple[str, str], ...]
    foreign: tuple[tuple[str, str], ...]
    """Annotations of other controllers, by their whole names."""
    default_backend: ServicePort | None
    has_default_backend: bool
    """True also where the default backend cannot be used."""
    rules: tuple[IngressRule, ...]
    tls: tuple[IngressTls, ...]
    problems: tuple[Finding, ...]
    addresses: tuple[str, ...]
    """What its status shows now."""
    shown_error: str
    """The error of the ports in its status; empty where there is none."""
    status_managers: tuple[str, ...]
    """Field managers that have written its status; one may withdraw what is its own."""


def decode(reader: Reader, body: Mapping[str, Any]) -> Ingress:
    """Return the Ingress; mistakes are its ``problems``."""
    spec = reader.mapping(body.get("spec"), "spec")
    default = spec.get("defaultBackend")
    metadata = reader.mapping(body.get("metadata"), "metadata")
    others = metadata.get("annotations")
    class_annotation = others.get(CLASS_ANNOTATION) if isinstance(others, Mapping) else None
    return Ingress(
        ref=reader.ref,
        metadata=reader.metadata(body),
        class_name=reader.text(spec.get("ingressClassName"), "spec.ingressClassName"),
        class_annotation=reader.text(class_annotation, f"metadata.annotations[{CLASS_ANNOTATION}]"),
        annotations=reader.annotations(body),
        foreign=reader.foreign_annotations(body),
        default_backend=None
        if default is None
        else _backend(reader, default, "spec.defaultBackend"),
        has_default_backend=default is not None,
        rules=_rules(reader, spec),
        tls=_tls(reader, spec),
        addresses=_addresses(body),
        shown_error=_shown_error(body),
        status_managers=status_managers(body),
        problems=tuple(reader.findings),
    )


def _rules(reader: Reader, spec: Mapping[str, Any]) -> tuple[IngressRule, ...]:
    rules = []
    for at, rule in reader.objects(spec.get("rules"), "spec.rules"):
        field = f"spec.rules[{at}]"
        host = _host(reader, rule.get("host"), f"{field}.host")
        if host is None:
            continue
        http = reader.mapping(rule.get("http"), f"{field}.http")
        paths = []
        for index, path in reader.objects(http.get("paths"), f"{field}.http.paths"):
            decoded = _path(reader, index, path, f"{field}.http.paths[{index}]")
            if decoded is not None:
                paths.append(decoded)
        if http.get("paths") and not paths:
            # Without paths the default backend would get this host; its author wants less.
            continue
        rules.append(IngressRule(at, host, tuple(paths)))
    return tuple(rules)


def _host(reader: Reader, value: object, field: str) -> HostPattern | None:
    if value is None or value == "":
        return ANY_HOST
    text = reader.text(value, field)
    if text is None:
        return None
    try:
        return parse_host(text)
    except BadHost as bad:
        reader.note(field, str(bad), bad.hint, reason=Reason.INVALID_HOST)
        return None


def _path(reader: Reader, index: int, body: Mapping[str, Any], field: str) -> IngressPath | None:
    written = reader.text(body.get("pathType"), f"{field}.pathType")
    path = reader.text(body.get("path"), f"{field}.path")
    kind = _PATH_KINDS.get(written or "")
    if kind is None:
        reader.note(
            f"{field}.pathType",
            f"{show(body.get('pathType'))} is not a path type",
            "write Exact, Prefix or ImplementationSpecific",
            reason=Reason.INVALID_PATH,
        )
        return None
    if path is None and body.get("path") is not None:
        return None
    if not path and written == "ImplementationSpecific":
        path = "/"
    if problem := _path_problem(path or "", strict=written != "ImplementationSpecific"):
        reader.note(f"{field}.path", problem, "write it as /name", reason=Reason.INVALID_PATH)
        return None
    assert path is not None
    backend = _backend(reader, body.get("backend"), f"{field}.backend")
    return IngressPath(index, kind, path, backend)


def _path_problem(path: str, *, strict: bool) -> str | None:
    """Say what the API server would say (``validateHTTPIngressPath``)."""
    if not path.startswith("/"):
        return f"{show(path)} is not an absolute path"
    if not strict:
        return None
    for part in _FORBIDDEN:
        if part in path:
            return f"{show(path)} contains {part!r}"
    if path.endswith(_FORBIDDEN_ENDS):
        return f"{show(path)} ends in a dot segment"
    return None


def _backend(reader: Reader, value: object, field: str) -> ServicePort | None:
    body = reader.mapping(value, field)
    if body.get("resource") is not None:
        reader.note(
            f"{field}.resource",
            "backends other than Services are not supported; this path answers 503",
            "write service: {name: ..., port: {number: ...}}",
            reason=Reason.UNSUPPORTED_BACKEND,
        )
        return None
    at = f"{field}.service"
    if body.get("service") is None and body.get("serviceName") is not None:
        reader.note(
            field,
            "serviceName and servicePort are of an API version of the past; this path answers 503",
            "write service: {name: ..., port: {number: ...}}",
            reason=Reason.INVALID_BACKEND,
        )
        return None
    service = reader.mapping(body.get("service"), at)
    name = reader.text(service.get("name"), f"{at}.name")
    port = reader.mapping(service.get("port"), f"{at}.port")
    number = reader.port(port.get("number") or None, f"{at}.port.number")
    port_name = reader.text(port.get("name") or None, f"{at}.port.name")
    if name is None or not is_name(name):
        reader.note(
            f"{at}.name",
            f"{show(service.get('name'))} cannot name a Service"
            if service.get("name") is not None
            else "the backend names no Service",
            "write service: {name: ..., port: {number: ...}}",
            reason=Reason.INVALID_BACKEND,
        )
        return None
    if bool(port.get("number")) == bool(port.get("name")):
        reader.note(
            f"{at}.port",
            "a backend names its port exactly once",
            "write either number or name",
            reason=Reason.INVALID_BACKEND,
        )
        return None
    if number is None and port_name is None:
        return None  # what it says instead of a port is noted already
    return ServicePort(name, number if number is not None else port_name or "")


def _tls(reader: Reader, spec: Mapping[str, Any]) -> tuple[IngressTls, ...]:
    sections = []
    for at, section in reader.objects(spec.get("tls"), "spec.tls"):
        field = f"spec.tls[{at}]"
        hosts = []
        listed = reader.items(section.get("hosts"), f"{field}.hosts")
        for index, value in enumerate(listed):
            host = _host(reader, value, f"{field}.hosts[{index}]")
            if host:
                hosts.append(host)
        if listed and not hosts:
            # Without hosts the section would speak for every host of the object.
            continue
        secret = reader.text(section.get("secretName") or None, f"{field}.secretName")
        if secret is not None and not is_name(secret):
            reader.note(f"{field}.secretName", f"{show(secret)} cannot name a Secret")
            secret = None
        sections.append(IngressTls(at, tuple(hosts), secret))
    return tuple(sections)


def _addresses(body: Mapping[str, Any]) -> tuple[str, ...]:
    addresses = (entry.get("ip") or entry.get("hostname") for entry in _shown(body))
    return tuple(address for address in addresses if isinstance(address, str))


def _shown_error(body: Mapping[str, Any]) -> str:
    for entry in _shown(body):
        ports = entry.get("ports")
        for port in ports if isinstance(ports, list | tuple) else ():
            error = port.get("error") if isinstance(port, Mapping) else None
            if error and isinstance(error, str):
                return error
    return ""


def _shown(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield what the status shows; it is not the author's, so nothing is noted."""
    status = body.get("status")
    balancer = status.get("loadBalancer") if isinstance(status, Mapping) else None
    entries = balancer.get("ingress") if isinstance(balancer, Mapping) else None
    for entry in entries if isinstance(entries, list | tuple) else ():
        if isinstance(entry, Mapping):
            yield entry
