"""Objects in few words, and what becomes of requests: the language of the compiler's tests."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fairway_operator.compiler import Compilation, Compiler, CompilerSettings
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import decode
from fairway_operator.world import EMPTY, World
from fairway_snapshot.filters import DirectResponse, HttpsRedirect, Redirect
from fairway_snapshot.matcher import build_host_matcher, host_candidates
from fairway_snapshot.model import HostPattern
from fairway_snapshot.target import normalize_host, normalize_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fairway_operator.findings import Finding
    from fairway_snapshot.model import Route, VirtualHost

Body = dict[str, Any]

OURS: Body = {
    "kind": "IngressClass",
    "metadata": {"name": "fairway"},
    "spec": {"controller": "fairway.dev/ingress-controller"},
}
PATH_TYPES = {"=": "Exact", "^": "Prefix", "~": "ImplementationSpecific"}


class Objects:
    """Builds bodies. A name is ``namespace/name`` or a name in ``shop``."""

    def metadata(self, name: str, age: int | None = None, **more: Any) -> Body:
        """``age`` counts days back from now: the larger, the older."""
        namespace, _, short = name.rpartition("/")
        made: Body = {"name": short, "namespace": namespace or "shop", "uid": f"uid-{name}"}
        if age is not None:
            moment = datetime(2026, 6, 1, tzinfo=UTC) - timedelta(days=age)
            made["creationTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return made | more

    def backend(self, text: str) -> Body:
        """``web:80`` or ``web:http``."""
        name, _, port = text.partition(":")
        key = "number" if port.isdigit() else "name"
        value = int(port) if port.isdigit() else port
        return {"service": {"name": name, "port": {key: value}}}

    def ingress(
        self,
        name: str,
        *paths: str,
        default: str | None = None,
        tls: Iterable[Body] = (),
        age: int | None = None,
        annotations: Mapping[str, str] | None = None,
        cls: str | None = "fairway",
        generation: int = 1,
        **spec: Any,
    ) -> Body:
        """A path is ``host ^/path service:port``: ^ Prefix, = Exact, ~ neither; - is no host."""
        rules: dict[str, list[Body]] = {}
        for text in paths:
            host, _, rest = text.partition(" ")
            entries = rules.setdefault("" if host == "-" else host, [])
            if rest:
                path, _, backend = rest.partition(" ")
                entries.append(
                    {
                        "path": path[1:],
                        "pathType": PATH_TYPES[path[0]],
                        "backend": self.backend(backend),
                    }
                )
        body: Body = {
            "kind": "Ingress",
            "metadata": self.metadata(name, age, generation=generation),
            "spec": {
                "rules": [
                    ({"host": host} if host else {}) | ({"http": {"paths": each}} if each else {})
                    for host, each in rules.items()
                ],
                **spec,
            },
        }
        if cls is not None:
            body["spec"]["ingressClassName"] = cls
        if default is not None:
            body["spec"]["defaultBackend"] = self.backend(default)
        if tls:
            body["spec"]["tls"] = list(tls)
        if annotations:
            body["metadata"]["annotations"] = dict(annotations)
        return body

    def route(
        self,
        name: str,
        *rules: Body,
        hosts: Iterable[str] = ("a.example",),
        age: int | None = None,
        generation: int = 1,
        **spec: Any,
    ) -> Body:
        return {
            "kind": "Route",
            "metadata": self.metadata(name, age, generation=generation),
            "spec": {
                "ingressClassName": "fairway",
                "hosts": list(hosts),
                "rules": list(rules),
                **spec,
            },
        }

    def service(
        self, name: str, *ports: Body, annotations: Mapping[str, str] | None = None, **spec: Any
    ) -> Body:
        listed = list(ports) or [{"name": "http", "port": 80, "targetPort": 8080}]
        body: Body = {
            "kind": "Service",
            "metadata": self.metadata(name),
            "spec": {"ports": listed, **spec},
        }
        if annotations:
            body["metadata"]["annotations"] = dict(annotations)
        return body

    def slice(
        self,
        name: str,
        *endpoints: str | Body,
        service: str | None = None,
        ports: Iterable[Body] = ({"name": "http", "port": 8080},),
        family: str = "IPv4",
    ) -> Body:
        """An endpoint is an address, or a body."""
        short = name.rpartition("/")[2]
        labels = {"kubernetes.io/service-name": service or short}
        return {
            "kind": "EndpointSlice",
            "metadata": self.metadata(name, labels=labels),
            "addressType": family,
            "ports": list(ports),
            "endpoints": [
                {"addresses": [each]} if isinstance(each, str) else each for each in endpoints
            ],
        }

    def web(self, name: str, address: str = "10.0.0.1") -> list[Body]:
        """A Service and one endpoint."""
        return [self.service(name), self.slice(name, address)]

    def secret(
        self, name: str, *hosts: str, rsa_bits: int = 0, days: int = 3650, **more: Any
    ) -> Body:
        """A certificate for ``hosts``, with its key: ECDSA unless RSA is asked for."""
        chain, key = self.certificate(*hosts, rsa_bits=rsa_bits, days=days)
        data = {"tls.crt": b64encode(chain).decode(), "tls.key": b64encode(key).decode()}
        return {
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": self.metadata(name),
            "data": data | more,
        }

    def certificate(self, *hosts: str, rsa_bits: int = 0, days: int = 3650) -> tuple[bytes, bytes]:
        key = (
            rsa.generate_private_key(65537, rsa_bits)
            if rsa_bits
            else ec.generate_private_key(ec.SECP256R1())
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0] if hosts else "none")])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=days))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False
            )
        )
        certificate = builder.sign(key, hashes.SHA256())
        return (
            certificate.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )

    def grant(self, namespace: str, source: str, **to: str) -> Body:
        return {
            "kind": "ReferenceGrant",
            "metadata": self.metadata(f"{namespace}/from-{source}"),
            "spec": {
                "from": [{"group": "fairway.dev", "kind": "Route", "namespace": source}],
                "to": [{"group": "", "kind": "Service", **to}],
            },
        }


class Seen:
    """A compilation, as a client and as an author see it."""

    def __init__(self, compilation: Compilation) -> None:
        self.compilation = compilation
        self.snapshot = compilation.snapshot

    def route(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Route | None:
        """Return the route that a request for ``host/path?query`` takes."""
        host, _, rest = url.partition("/")
        path, _, query = f"/{rest}".partition("?")
        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        wanted = normalize_host(host.encode()).decode() if host else ""
        for pattern in host_candidates(wanted):
            virtual_host = self.snapshot.hosts.get(pattern)
            if virtual_host is not None:
                matcher = build_host_matcher(virtual_host, lambda route: route)
                normalized = normalize_path(path.encode())
                return matcher.match(normalized, method.encode(), given, query.encode())
        return None

    def ask(
        self,
        url: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        tls: bool = False,
    ) -> str:
        """Return where a request ends: a backend, or the status of an answer."""
        route = self.route(url, method, headers)
        if route is None:
            return "404"
        for spec in route.filters:
            if isinstance(spec, HttpsRedirect) and not tls:
                return "308"
            if isinstance(spec, Redirect | DirectResponse):
                return str(spec.status)
        first = route.backends[0].backend
        backend = self.snapshot.backends.get(first)
        return first if backend is not None and backend.endpoints else "503"

    def virtual_host(self, host: str) -> VirtualHost:
        return self.snapshot.hosts[HostPattern(host)]

    def endpoints(self, backend: str) -> list[str]:
        for key, found in self.snapshot.backends.items():
            if key == backend:
                return [f"{each.host}:{each.port}" for each in found.endpoints]
        raise KeyError(backend)

    def certificate(self, name: str) -> str | None:
        """Return the certificate for a server name as a data plane chooses it."""
        for pattern in host_candidates(name):
            found = self.snapshot.server_names.get(pattern)
            if found is not None:
                return found.certificate
        return None

    def findings(self, name: str = "", kind: Kind = Kind.INGRESS) -> tuple[Finding, ...]:
        if not name:
            return tuple(each for found in self.compilation.findings.values() for each in found)
        namespace, _, short = name.rpartition("/")
        return self.compilation.findings.get(ObjectRef(kind, namespace or "shop", short), ())

    def reasons(self, name: str = "", kind: Kind = Kind.INGRESS) -> list[str]:
        return [each.reason.value for each in self.findings(name, kind)]


class Compile:
    """Compile bodies from scratch, or step by step with one compiler."""

    def __call__(self, *bodies: Body | list[Body], **settings: Any) -> Seen:
        compiler = Compiler(CompilerSettings(**settings))
        return Seen(compiler.compile(self.world(*bodies)))

    def world(self, *bodies: Body | list[Body], base: World | None = None) -> World:
        world = EMPTY.put(decode(Kind.INGRESS_CLASS, OURS)) if base is None else base
        for each in bodies:
            for body in each if isinstance(each, list) else [each]:
                world = world.put(decode(Kind(body["kind"]), body))
        return world

    def steps(self, **settings: Any) -> Steps:
        return Steps(self, CompilerSettings(**settings))


class Steps:
    """One compiler that sees World after World."""

    def __init__(self, compile_: Compile, settings: CompilerSettings) -> None:
        self._compile = compile_
        self._compiler = Compiler(settings)
        self.world = compile_.world()

    def put(self, *bodies: Body | list[Body]) -> Seen:
        self.world = self._compile.world(*bodies, base=self.world)
        return Seen(self._compiler.compile(self.world))

    def remove(self, kind: Kind, name: str) -> Seen:
        namespace, _, short = name.rpartition("/")
        cluster_scoped = kind is Kind.INGRESS_CLASS
        ref = ObjectRef(kind, "" if cluster_scoped else namespace or "shop", short)
        self.world = self.world.remove(ref)
        return Seen(self._compiler.compile(self.world))


@pytest.fixture(scope="session")
def objects() -> Objects:
    return Objects()


@pytest.fixture(scope="session")
def compiled() -> Compile:
    return Compile()
