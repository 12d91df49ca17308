"""
Ingress to a contribution.

The default backend of an Ingress with rules gets what its own hosts leave
over; of one without rules, what all hosts leave over that nobody names. A path
whose backend cannot be used answers 503: it is known, so it must not fall
through to a shorter path.
"""

from collections.abc import Iterator

from fairway_operator.annotations import route_options
from fairway_operator.compiler.contribution import (
    Age,
    BackendUse,
    Candidate,
    Contribution,
    age_of,
)
from fairway_operator.compiler.defaults import retry_of, timeouts_of, with_defaults
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.compiler.matches import ALL_PATHS, BadMatch, order_of, path_match
from fairway_operator.compiler.references import Reference, nowhere, resolve
from fairway_operator.compiler.tls import TlsOutcome, TlsSection, TlsSections
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.hosts import ANY_HOST
from fairway_operator.resources import Ingress
from fairway_operator.resources.ingress import IngressPath, ServicePort
from fairway_snapshot.filters import FilterSpec, HttpsRedirect, RewritePath
from fairway_snapshot.model import (
    BackendId,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    WeightedBackend,
)

_DEFAULT_PLACE = 1 << 30
"""Place of the default backend: after every rule."""


def compile_ingress(ingress: Ingress, lookup: Lookup) -> Contribution:
    """Return what the Ingress asks for; what it cannot have is among the findings."""
    return _IngressCompilation(ingress, lookup).run()


class _IngressCompilation:
    """One Ingress being compiled."""

    def __init__(self, ingress: Ingress, lookup: Lookup) -> None:
        self._ingress = ingress
        self._lookup = lookup
        self._age: Age = age_of(ingress.ref, ingress.metadata.created)
        own, problems = route_options(ingress.ref, ingress.annotations)
        self._options = with_defaults(ingress, own, lookup)
        self._findings: list[Finding] = list(problems)
        self._backends: set[BackendUse] = set()
        self._hosts: dict[HostPattern, list[Candidate]] = {}
        self._tls = self._compile_tls()

    def run(self) -> Contribution:
        ingress = self._ingress
        for rule in ingress.rules:
            candidates = self._hosts.setdefault(rule.host, [])
            for path in rule.paths:
                candidates.extend(self._path(rule.host, rule.index, path))
        if ingress.has_default_backend:
            # Rules that were written and cannot be used do not make this a catch-all.
            if not ingress.rules and not _wrote_rules(ingress):
                self._hosts[ANY_HOST] = []
            self._default()
        self._say_if_empty()
        return Contribution(
            generation=ingress.metadata.generation,
            age=self._age,
            hosts={
                host: tuple(sorted(candidates, key=lambda each: each.order))
                for host, candidates in self._hosts.items()
            },
            names=self._tls.claims,
            backends=frozenset(self._backends),
            findings=tuple(self._findings),
        )

    def _compile_tls(self) -> TlsOutcome:
        sections = [
            TlsSection(each.hosts, each.secret, f"spec.tls[{each.index}].secretName")
            for each in self._ingress.tls
        ]
        hosts = dict.fromkeys(rule.host for rule in self._ingress.rules) or {ANY_HOST: None}
        outcome = TlsSections(self._lookup, self._ingress.ref, self._age).outcome(sections, hosts)
        self._findings.extend(outcome.findings)
        return outcome

    def _path(self, host: HostPattern, rule: int, path: IngressPath) -> Iterator[Candidate]:
        field = f"spec.rules[{rule}].http.paths[{path.index}]"
        try:
            match = RouteMatch(path=path_match(path.kind, path.path))
        except BadMatch as bad:
            self._findings.append(
                Finding(
                    subject=self._ingress.ref,
                    field=f"{field}.path",
                    reason=Reason.INVALID_PATH,
                    message=str(bad),
                    hint=bad.hint,
                )
            )
            return
        backend = self._backend(path.backend, f"{field}.backend.service")
        yield Candidate(
            order_of(match, self._age, (rule, path.index)),
            self._route(host, f"{rule}-{path.index}", match, backend),
            self._ingress.ref,
            field,
        )

    def _default(self) -> None:
        match = RouteMatch(path=ALL_PATHS)
        order = order_of(match, self._age, (_DEFAULT_PLACE, 0), fallback=True)
        field = "spec.defaultBackend"
        backend = self._backend(self._ingress.default_backend, f"{field}.service")
        for host, candidates in self._hosts.items():
            route = self._route(host, "default", match, backend)
            candidates.append(Candidate(order, route, self._ingress.ref, field, fallback=True))

    def _backend(self, port: ServicePort | None, field: str) -> BackendId:
        ref = self._ingress.ref
        if port is None:
            return nowhere(ref.namespace)
        reference = Reference(ref, field, ref.namespace, port.service, port.port)
        resolved = resolve(self._lookup, reference)
        if resolved.finding is not None:
            self._findings.append(resolved.finding)
        if resolved.use is not None:
            self._backends.add(resolved.use)
        return resolved.id

    def _route(self, host: HostPattern, name: str, match: RouteMatch, backend: BackendId) -> Route:
        options = self._options
        if options.lacks_filter:
            backend = nowhere(self._ingress.ref.namespace)
        return Route(
            name=f"{self._ingress.ref.namespace}/{self._ingress.ref.name}/{name}",
            match=match,
            filters=tuple(self._filters(host, match.path)),
            backends=(WeightedBackend(backend=backend),),
            timeouts=timeouts_of(options),
            retry=retry_of(options),
            allow_encoded_slash=options.allow_encoded_slash,
            max_body_bytes=options.max_body_bytes,
        )

    def _filters(self, host: HostPattern, path: PathMatch) -> Iterator[FilterSpec]:
        options, settings = self._options, self._lookup.settings
        wanted = settings.ssl_redirect if options.ssl_redirect is None else options.ssl_redirect
        if wanted and host in self._tls.secure:
            yield HttpsRedirect(port=settings.https_port)
        if options.strip_prefix is not None:
            yield options.strip_prefix
        if options.rewrite_prefix is not None:
            prefix = path.value if path.kind is PathKind.PREFIX else None
            yield RewritePath(replacement=options.rewrite_prefix, prefix=prefix)
        if options.request_headers is not None:
            yield options.request_headers
        if options.response_headers is not None:
            yield options.response_headers

    def _say_if_empty(self) -> None:
        if any(self._hosts.values()) or self._ingress.problems:
            return
        self._findings.append(
            Finding(
                subject=self._ingress.ref,
                field="spec",
                reason=Reason.NO_ROUTES,
                severity=Severity.WARNING,
                message="the Ingress has neither paths nor a default backend",
                hint="write rules with http.paths, or defaultBackend",
            )
        )


def _wrote_rules(ingress: Ingress) -> bool:
    return any(each.field.startswith("spec.rules") for each in ingress.problems)
