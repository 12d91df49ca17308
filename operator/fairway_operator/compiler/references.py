"""
From a Service and a port, as written, to a backend.

The id of a backend always has the port's number, so a port that is named and
one that is numbered are one backend. What cannot be resolved keeps an id that
no snapshot holds: its requests answer 503 and do not fall through to another
route.
"""

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from fairway_operator.compiler.contribution import BackendUse
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import Service
from fairway_operator.resources.service import Port
from fairway_snapshot.model import BackendId

_HTTP_2 = frozenset({"kubernetes.io/h2c", "h2c", "http2", "grpc"})

H2_HINT = (
    "if the backend speaks HTTP/1.1 too, say so: fairway.dev/backend-protocol: http on the Service"
)


class Resolved(NamedTuple):
    """A backend, if it can be used, and what is wrong with it."""

    id: BackendId
    use: BackendUse | None
    finding: Finding | None


def nowhere(namespace: str) -> BackendId:
    """Return the id of a backend that cannot be; a Service is never called ``-``."""
    return BackendId(f"{namespace}/-:0")


def is_nowhere(backend: BackendId) -> bool:
    """Tell whether this is the id of a backend that cannot be, and not of one that is away."""
    return backend.endswith("/-:0")


class Reference(NamedTuple):
    """A Service and one of its ports, as an author wrote them."""

    subject: ObjectRef
    """Whose author."""
    field: str
    """Of the whole reference."""
    namespace: str
    name: str
    port: int | str


def resolve(lookup: Lookup, reference: Reference) -> Resolved:
    """Return the backend that is meant."""
    subject, field, namespace, name, port = reference
    service = lookup.service(namespace, name)
    if service is None:
        finding = Finding(
            subject=subject,
            field=f"{field}.name",
            reason=Reason.UNKNOWN_SERVICE,
            message=f"there is no Service {name!r} in namespace {namespace!r};"
            " its requests answer 503",
            hint="create the Service or correct the name",
        )
        return Resolved(BackendId(f"{namespace}/{name}:{port}"), None, finding)
    number = _number(service, port)
    if number is None:
        return Resolved(
            BackendId(f"{namespace}/{name}:{port}"),
            None,
            Finding(
                subject=subject,
                field=f"{field}.port",
                reason=Reason.UNKNOWN_PORT,
                message=f"Service {name!r} has no port {port}; its requests answer 503",
                hint=_port_hint(service, port),
            ),
        )
    backend = BackendId(f"{namespace}/{name}:{number}")
    refused = _refused(lookup, subject, service, f"{field}.name")
    if refused is not None:
        return Resolved(backend, None, refused)
    spoken = unspoken(service, number)
    warning = None
    if spoken is not None:
        warning = Finding(
            subject=subject,
            field=f"{field}.port",
            reason=Reason.UNSUPPORTED_PROTOCOL,
            severity=Severity.WARNING,
            message=f"port {number} of Service {name!r} says appProtocol {spoken}, and HTTP/1.1"
            " is what is spoken to it: HTTP/2 (and so gRPC) is not spoken to backends",
            hint=H2_HINT,
        )
    return Resolved(backend, BackendUse(backend, service.ref, number), warning)


def unspoken(service: Service, number: int) -> str | None:
    """Return the protocol that a port asks for and that nobody here speaks; None is all well."""
    if any(name == "backend-protocol" for name, _ in service.annotations):
        # Its owner has said what is to be spoken instead.
        return None
    for port in service.ports:
        if port.number == number and (port.app_protocol or "").lower() in _HTTP_2:
            return port.app_protocol
    return None


def _number(service: Service, port: int | str) -> int | None:
    for each in service.ports:
        if port in (each.number, each.name):
            return each.number
    # The ports of an ExternalName are not declared, they are only used.
    return port if service.external_name is not None and isinstance(port, int) else None


def _port_hint(service: Service, port: int | str) -> str:
    if not service.ports:
        return "the Service has no TCP ports"
    for each in service.ports:
        if each.target == port:
            return f"{port} is the targetPort; write {each.number}"
    return f"its ports are {', '.join(_show(each) for each in service.ports)}"


def _show(port: Port) -> str:
    return f"{port.number} ({port.name})" if port.name else str(port.number)


def _refused(lookup: Lookup, subject: ObjectRef, service: Service, field: str) -> Finding | None:
    host = service.external_name
    if host is None:
        return None
    if not lookup.settings.allow_external_names:
        message = f"Service {service.ref.name!r} is an ExternalName, and those are switched off"
    elif not host:
        message = f"Service {service.ref.name!r} has an externalName that is not a host name"
    elif is_local(host) and not lookup.settings.allow_local_addresses:
        message = f"Service {service.ref.name!r} leads to {host}, an address of the proxy itself"
    else:
        return None
    return Finding(
        subject=subject,
        field=field,
        reason=Reason.ADDRESS_NOT_PERMITTED,
        message=f"{message}; its requests answer 503",
        hint="refer to a Service with a selector",
    )


def is_local(host: str) -> bool:
    """Tell whether a host, by its name or as an address, is loopback, link-local or nowhere."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        # Resolvers also take 127.1 and 2130706433 for addresses; a name never ends in digits.
        return host.rpartition(".")[2].isdecimal()
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    judged = mapped or address
    return (
        judged.is_loopback or judged.is_link_local or judged.is_unspecified or judged.is_multicast
    )
