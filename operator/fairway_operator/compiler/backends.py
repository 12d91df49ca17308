"""
Services and EndpointSlices to backends.

Nothing here is asked for when a route is compiled, so endpoints that come and
go touch no route. Ready addresses are used; where there are none, those that
terminate and still serve. One family is used, the one that the Service
prefers, unless only the other has addresses: two addresses of one pod would
get twice its share.
"""

from collections.abc import Iterable

from fairway_operator.annotations import BackendOptions, backend_options
from fairway_operator.compiler.contribution import BackendUse
from fairway_operator.compiler.references import H2_HINT, is_local, unspoken
from fairway_operator.compiler.settings import CompilerSettings
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import EndpointSlice, Service
from fairway_operator.resources.service import Port
from fairway_operator.world import World
from fairway_snapshot.model import Backend, BackendProtocol, Endpoint, HealthCheck

_PROTOCOLS = {
    "http": BackendProtocol.HTTP,
    "kubernetes.io/ws": BackendProtocol.HTTP,
    "https": BackendProtocol.HTTPS,
    "kubernetes.io/wss": BackendProtocol.HTTPS,
}

_PLAIN = ("10.", "172.", "192.168.", "fd")
"""Beginnings of ordinary pods' addresses, which need no closer look."""


def build_backend(world: World, use: BackendUse, settings: CompilerSettings) -> Backend | None:
    """Return the backend; None where its Service is gone."""
    service = world.service(use.service)
    if service is None:
        return None
    options, _ = backend_options(service.ref, service.annotations)
    port = next((each for each in service.ports if each.number == use.port), None)
    protocol = _protocol(port, options)
    host = service.external_name
    if host is not None:
        endpoint = Endpoint(host=host, port=use.port)
        name = host if protocol is BackendProtocol.HTTPS else None
        return _backend((endpoint,), protocol, name, options)
    endpoints = () if port is None else _endpoints(world.slices(service.ref), service, port)
    if not settings.allow_local_addresses:
        endpoints = tuple(
            each for each in endpoints if each.host.startswith(_PLAIN) or not is_local(each.host)
        )
    return _backend(endpoints, protocol, None, options)


def service_findings(world: World, ref: ObjectRef) -> tuple[Finding, ...]:
    """Return what is wrong with a Service that is used, as its owner should know."""
    service = world.service(ref)
    if service is None:
        return ()
    _, findings = backend_options(ref, service.annotations)
    spoken = tuple(
        Finding(
            subject=ref,
            field=f"spec.ports[{at}].appProtocol",
            reason=Reason.UNSUPPORTED_PROTOCOL,
            severity=Severity.WARNING,
            message="HTTP/2 (and so gRPC) is not spoken to backends; HTTP/1.1 is",
            hint=H2_HINT,
        )
        for at, port in enumerate(service.ports)
        if unspoken(service, port.number) is not None
    )
    return (*world.problems(ref), *findings, *spoken)


def _backend(
    endpoints: tuple[Endpoint, ...],
    protocol: BackendProtocol,
    server_name: str | None,
    options: BackendOptions,
) -> Backend:
    balance, hash_key = options.balance
    return Backend(
        endpoints=endpoints,
        protocol=protocol,
        server_name=server_name,
        balance=balance,
        hash_key=hash_key,
        proxy_protocol=options.proxy_protocol,
        sticky_cookie=options.sticky_cookie,
        slow_start_seconds=options.slow_start,
        max_requests=options.max_requests,
        max_pending=options.max_pending,
        max_connections=options.max_connections,
        max_retries=options.max_retries,
        adaptive_concurrency=options.adaptive_concurrency,
        eject_latency_factor=options.eject_latency_factor,
        health_check=_health_check(options),
        retry_budget=options.retry_budget,
    )


def _health_check(options: BackendOptions) -> HealthCheck | None:
    if not options.check_path:
        return None
    return HealthCheck(
        path=options.check_path,
        host=options.check_host,
        statuses=options.check_statuses,
        interval_seconds=options.check_interval,
        timeout_seconds=options.check_timeout,
        unhealthy=options.check_unhealthy,
        healthy=options.check_healthy,
    )


def _protocol(port: Port | None, options: BackendOptions) -> BackendProtocol:
    if options.protocol is not None:
        return options.protocol
    spoken = port.app_protocol if port is not None else None
    return _PROTOCOLS.get((spoken or "").lower(), BackendProtocol.HTTP)


def _endpoints(
    slices: Iterable[EndpointSlice], service: Service, port: Port
) -> tuple[Endpoint, ...]:
    ready: dict[str, set[Endpoint]] = {}
    draining: dict[str, set[Endpoint]] = {}
    for each in slices:
        numbers = [at.number for at in each.ports if at.name == port.name]
        for addresses, found in ((each.ready, ready), (each.draining, draining)):
            if addresses and numbers:
                found.setdefault(each.family, set()).update(
                    Endpoint(host=host, port=number) for host in addresses for number in numbers
                )
    by_family = ready or draining
    if not by_family:
        return ()
    preferred = service.first_family or "IPv4"
    family = preferred if preferred in by_family else min(by_family)
    return tuple(sorted(by_family[family], key=lambda each: (each.host, each.port)))
