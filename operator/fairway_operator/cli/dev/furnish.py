"""
What a cluster would run: endpoints behind Services, certificates in Secrets.

Objects that the files have are never changed; what is added is made once for
each name and kept, so that an edit elsewhere touches neither a backend nor a
certificate.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from fairway_operator.cli.dev.echo import EchoServers
from fairway_operator.cli.dev.self_signed import secret_body
from fairway_operator.cli.manifests import Manifests
from fairway_operator.cli.problems import Problem
from fairway_operator.cli.stand_ins import Body, Completed, look
from fairway_operator.config import split_address
from fairway_operator.findings import Severity
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import (
    EndpointSlice,
    Ingress,
    Resource,
    Route,
    Service,
    Undecodable,
    decode,
)

ADDRESS_ANNOTATION = "dev.fairway.dev/address"
SERVICE_LABEL = "kubernetes.io/service-name"

DEFAULT_CERTIFICATE = ObjectRef(Kind.SECRET, "fairway-dev", "self-signed")
"""Answers for every host without TLS of its own, so that https works for all of them."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """Everything the reconciler should know, and what was added to the files."""

    bodies: Mapping[ObjectRef, Body]
    notes: tuple[Problem, ...]
    echoes: frozenset[ObjectRef]
    """Services that the built-in backend answers for."""


class Furniture:
    """Echo backends and self-signed certificates; one per name."""

    def __init__(self, echo: EchoServers) -> None:
        self._echo = echo
        self._secrets: dict[tuple[ObjectRef, frozenset[str]], Body] = {}
        self._decoded: dict[ObjectRef, tuple[Body, Resource | Undecodable]] = {}

    async def furnish(self, completed: Completed, manifests: Manifests) -> Furnished:
        """Add endpoints to Services that have none, and Secrets that are missing."""
        bodies = dict(completed.bodies)
        notes: list[Problem] = []
        echoes = set()
        sliced = {
            ObjectRef(Kind.SERVICE, each.ref.namespace, each.service)
            for each in self._all(completed.bodies, Kind.ENDPOINT_SLICE)
            if isinstance(each, EndpointSlice) and each.service is not None
        }
        for service in self._all(completed.bodies, Kind.SERVICE):
            if not isinstance(service, Service) or service.external_name is not None:
                continue
            given = _given_address(completed.bodies[service.ref], manifests, service.ref)
            if isinstance(given, Problem):
                notes.append(given)
            elif given is not None:
                _add(bodies, _slice(service, *given))
            elif service.ref not in sliced:
                echoes.add(service.ref)
                _add(bodies, await self._echo_slice(service))
        notes += self._add_secrets(bodies, manifests)
        return Furnished(bodies, tuple(notes), frozenset(echoes))

    async def _echo_slice(self, service: Service) -> Body:
        ports = []
        for port in service.ports:
            name = f"{service.ref.namespace}/{service.ref.name}:{port.number}"
            ports.append({"name": port.name, "port": await self._echo.port(name)})
        return _slice_body(service.ref, "127.0.0.1", ports)

    def _add_secrets(self, bodies: dict[ObjectRef, Body], manifests: Manifests) -> list[Problem]:
        wanted: dict[ObjectRef, tuple[set[str], ObjectRef, str]] = {}
        for kind in (Kind.INGRESS, Kind.ROUTE):
            for entry in self._all(bodies, kind):
                for name, hosts, field in _tls_of(entry):
                    ref = ObjectRef(Kind.SECRET, entry.ref.namespace, name)
                    if ref not in bodies:
                        wanted.setdefault(ref, (set(), entry.ref, field))[0].update(hosts)
        wanted[DEFAULT_CERTIFICATE] = ({"localhost", "*.localhost"}, DEFAULT_CERTIFICATE, "")
        notes = []
        for ref, (hosts, owner, field) in wanted.items():
            bodies[ref] = self._secret(ref, frozenset(hosts))
            if ref != DEFAULT_CERTIFICATE:
                message = (
                    f"Secret {ref.namespace}/{ref.name} is not in the files;"
                    f" a self-signed certificate stands in for {', '.join(sorted(hosts))}"
                )
                notes.append(_note(owner, field, message, manifests))
        return notes

    def _all(
        self, bodies: Mapping[ObjectRef, Body], kind: Kind
    ) -> Iterator[Resource | Undecodable]:
        """Yield all of a kind, decoded; what has not changed since the last time is not again."""
        for ref, body in bodies.items():
            if ref.kind is kind:
                known = self._decoded.get(ref)
                if known is None or known[0] is not body:
                    known = self._decoded[ref] = body, decode(kind, body)
                yield known[1]

    def _secret(self, ref: ObjectRef, hosts: frozenset[str]) -> Body:
        if (ref, hosts) not in self._secrets:
            self._secrets[ref, hosts] = secret_body(ref, hosts, datetime.now(UTC))
        return self._secrets[ref, hosts]


def _tls_of(entry: object) -> Iterator[tuple[str, set[str], str]]:
    """Yield Secret, hosts and field of each TLS section."""
    match entry:
        case Ingress():
            everywhere: set[str] = {rule.host for rule in entry.rules if rule.host}
            for section in entry.tls:
                hosts = {*section.hosts} or everywhere
                if section.secret is not None and hosts:
                    yield section.secret, {*hosts}, f"spec.tls[{section.index}].secretName"
        case Route():
            tls = entry.spec.tls
            if tls is not None and tls.secret_name is not None:
                yield tls.secret_name, set(entry.spec.hosts), "spec.tls.secretName"


def _given_address(
    body: Body, manifests: Manifests, ref: ObjectRef
) -> tuple[str, int] | Problem | None:
    text = look(body, "metadata", "annotations", ADDRESS_ANNOTATION)
    if text is None:
        return None
    try:
        host, port = split_address(str(text))
        if host == "localhost":
            host = "127.0.0.1"
        return str(ip_address(host)), port
    except ValueError as error:
        field = f"metadata.annotations[{ADDRESS_ANNOTATION}]"
        return Problem(
            severity=Severity.ERROR,
            reason="InvalidAnnotation",
            message=str(error),
            hint="write an address and a port such as 127.0.0.1:3000",
            place=manifests.place(ref, field),
            object=ref,
            field=field,
        )


def _slice(service: Service, host: str, number: int) -> Body:
    return _slice_body(
        service.ref, host, [{"name": port.name, "port": number} for port in service.ports]
    )


def _slice_body(service: ObjectRef, host: str, ports: list[dict[str, Any]]) -> Body:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service.name}-dev",
            "namespace": service.namespace,
            "labels": {SERVICE_LABEL: service.name},
        },
        "addressType": "IPv6" if ":" in host else "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [host]}],
    }


def _add(bodies: dict[ObjectRef, Body], body: Body) -> None:
    metadata = body["metadata"]
    bodies[ObjectRef(Kind.ENDPOINT_SLICE, metadata["namespace"], metadata["name"])] = body


def _note(ref: ObjectRef, field: str, message: str, manifests: Manifests) -> Problem:
    return Problem(
        severity=Severity.INFO,
        reason="StandIn",
        message=message,
        place=manifests.place(ref, field),
        object=ref,
        field=field,
    )
