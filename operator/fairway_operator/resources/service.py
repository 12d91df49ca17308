"""Service (``v1``): its ports, and where it is when it is not in the cluster."""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding, Reason
from fairway_operator.hosts import parse_host
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader


class Port(msgspec.Struct, frozen=True, gc=False):
    """One port of a Service; EndpointSlices refer to it by its name."""

    name: str
    """Empty where the Service has one unnamed port."""
    number: int
    target: int | str | None
    app_protocol: str | None


class Service(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Service."""

    ref: ObjectRef
    uid: str
    """Empty in files."""
    ports: tuple[Port, ...]
    external_name: str | None
    """Host name that stands for the Service (type ExternalName)."""
    first_family: str | None
    """``IPv4`` or ``IPv6``: the family that the cluster prefers for this Service."""
    annotations: tuple[tuple[str, str], ...]
    addresses: tuple[str, ...]
    """Where it is reached from outside: of its load balancer, then its external IPs."""
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> Service:
    """Return the Service; ports that carry no TCP are left out."""
    spec = reader.mapping(body.get("spec"), "spec")
    families = reader.items(spec.get("ipFamilies"), "spec.ipFamilies")
    first = families[0] if families else None
    return Service(
        ref=reader.ref,
        uid=reader.metadata(body).uid,
        ports=_ports(reader, spec),
        external_name=_external_name(reader, spec),
        first_family=first if first in ("IPv4", "IPv6") else None,
        annotations=reader.annotations(body),
        addresses=_addresses(body, spec),
        problems=tuple(reader.findings),
    )


def _ports(reader: Reader, spec: Mapping[str, Any]) -> tuple[Port, ...]:
    ports = []
    for at, port in reader.objects(spec.get("ports"), "spec.ports"):
        field = f"spec.ports[{at}]"
        if port.get("protocol") not in (None, "TCP"):
            continue
        number = reader.port(port.get("port"), f"{field}.port")
        if number is None:
            continue
        target = port.get("targetPort")
        usable = isinstance(target, int | str) and not isinstance(target, bool)
        ports.append(
            Port(
                name=reader.text(port.get("name"), f"{field}.name") or "",
                number=number,
                target=target if usable else None,
                app_protocol=reader.text(port.get("appProtocol"), f"{field}.appProtocol"),
            )
        )
    return tuple(ports)


def _external_name(reader: Reader, spec: Mapping[str, Any]) -> str | None:
    if spec.get("type") != "ExternalName":
        return None
    field = "spec.externalName"
    text = reader.text(spec.get("externalName"), field) or ""
    name = text.removesuffix(".").lower()
    if _is_address(name):
        # Legal for the API server, and used in the wild; the compiler judges the address.
        return name
    try:
        return parse_host(name.replace("*", "_"))  # an asterisk is no part of a name here
    except ValueError as error:
        reader.note(field, str(error), "write a DNS name", reason=Reason.INVALID_HOST)
        return ""


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdecimal() and text.isascii()


def _addresses(body: Mapping[str, Any], spec: Mapping[str, Any]) -> tuple[str, ...]:
    status = body.get("status")
    balancer = status.get("loadBalancer") if isinstance(status, Mapping) else None
    entries = balancer.get("ingress") if isinstance(balancer, Mapping) else None
    found: list[str] = []
    for entry in entries if isinstance(entries, list | tuple) else ():
        if isinstance(entry, Mapping):
            address = entry.get("ip") or entry.get("hostname")
            if isinstance(address, str):
                found.append(address)
    external = spec.get("externalIPs")
    if isinstance(external, list | tuple):
        found.extend(address for address in external if isinstance(address, str))
    return tuple(dict.fromkeys(found))
