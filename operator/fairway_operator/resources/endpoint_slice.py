"""
EndpointSlice (``discovery.k8s.io/v1``): addresses behind a Service.

Absent conditions have meanings of their own (KEP-752): absent ``ready`` is
ready, absent ``serving`` is as ready, absent ``terminating`` is not. Only the
first address of an endpoint counts; the API defines no meaning for others.
"""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.hosts import parse_host
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader, show

SERVICE_LABEL = "kubernetes.io/service-name"


class SlicePort(msgspec.Struct, frozen=True, gc=False):
    """A port of every endpoint of the slice."""

    name: str
    number: int


class EndpointSlice(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One slice."""

    ref: ObjectRef
    service: str | None
    """Name of the Service in the same namespace; None belongs to nobody."""
    family: str
    """``IPv4``, ``IPv6`` or ``FQDN``."""
    ports: tuple[SlicePort, ...]
    ready: tuple[str, ...]
    """Addresses that want traffic."""
    draining: tuple[str, ...]
    """Addresses that terminate and still answer: used where nothing is ready."""
    problems: tuple[Finding, ...]


def decode(reader: Reader, body: Mapping[str, Any]) -> EndpointSlice:
    """Return the slice; endpoints with bad addresses are left out."""
    metadata = reader.mapping(body.get("metadata"), "metadata")
    labels = reader.mapping(metadata.get("labels"), "metadata.labels")
    family = body.get("addressType")
    if family not in ("IPv4", "IPv6", "FQDN"):
        reader.note("addressType", f"{show(family)} is not an address type", "write IPv4 or IPv6")
        family = ""
    ready, draining = _endpoints(reader, body, family)
    return EndpointSlice(
        ref=reader.ref,
        service=reader.text(labels.get(SERVICE_LABEL), f"metadata.labels[{SERVICE_LABEL}]"),
        family=family,
        ports=_ports(reader, body),
        ready=ready,
        draining=draining,
        problems=tuple(reader.findings),
    )


def _ports(reader: Reader, body: Mapping[str, Any]) -> tuple[SlicePort, ...]:
    ports = []
    for at, port in reader.objects(body.get("ports"), "ports"):
        if port.get("protocol") not in (None, "TCP") or port.get("port") is None:
            continue
        number = reader.port(port.get("port"), f"ports[{at}].port")
        if number is not None:
            ports.append(
                SlicePort(reader.text(port.get("name"), f"ports[{at}].name") or "", number)
            )
    return tuple(ports)


def _endpoints(
    reader: Reader, body: Mapping[str, Any], family: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    ready: list[str] = []
    draining: list[str] = []
    if not family:
        return (), ()
    for at, endpoint in reader.objects(body.get("endpoints"), "endpoints"):
        field = f"endpoints[{at}]"
        addresses = reader.items(endpoint.get("addresses"), f"{field}.addresses")
        address = _address(reader, addresses[0], family, field) if addresses else None
        if address is None:
            continue
        conditions = reader.mapping(endpoint.get("conditions"), f"{field}.conditions")
        is_ready = reader.flag(conditions.get("ready"), f"{field}.conditions.ready")
        serving = reader.flag(conditions.get("serving"), f"{field}.conditions.serving")
        terminating = reader.flag(conditions.get("terminating"), f"{field}.conditions.terminating")
        if is_ready is None or is_ready:
            ready.append(address)
        elif terminating and serving:
            draining.append(address)
    return tuple(ready), tuple(draining)


def _address(reader: Reader, value: object, family: str, field: str) -> str | None:
    text = reader.text(value, f"{field}.addresses[0]")
    if text is None:
        return None
    try:
        if family == "FQDN":
            return parse_host(text.removesuffix(".").lower())
        address = ip_address(text)
        if f"IPv{address.version}" == family and "%" not in text:
            return address.compressed
    except ValueError:
        pass  # noted below, with the same words as an address of the other family
    reader.note(f"{field}.addresses[0]", f"{show(value)} is not an {family} address")
    return None
