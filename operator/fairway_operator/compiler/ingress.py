"""
Ingress to a contribution.

The default backend of an Ingress with rules gets what its own hosts leave
over; of one without rules, what all hosts leave over that nobody names. A path
whose backend cannot be used answers 503: it is known, so it must not fall
through to a shorter path.
"""

from collections.abc import Iterator
from typing import Final

from fairway_operator.annotations import RouteOptions, route_options
from fairway_operator.compiler.contribution import (
    Age,
    BackendUse,
    Candidate,
    Contribution,
    age_of,
)
from fairway_operator.compiler.defaults import filled, retry_of, timeouts_of, with_defaults
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.compiler.matches import ALL_PATHS, BadMatch, Expressions, order_of, path_match
from fairway_operator.compiler.references import Reference, nowhere, resolve
from fairway_operator.compiler.tls import TlsOutcome, TlsSection, TlsSections
from fairway_operator.findings import Finding, Reason, Severity
from fairway_operator.foreign import NOTHING, Adopted, ServedPath, adopt, serve_path
from fairway_operator.foreign.paths import looks_like_pattern
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


_MOST_COPIES: Final = 20_000
"""Of paths under further names of their host."""


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
        self._foreign = self._adopted(own)
        if self._foreign is not NOTHING:
            own = filled(own, self._foreign.options)
        self._options = with_defaults(ingress, own, lookup)
        self._findings: list[Finding] = [*problems, *self._foreign.findings]
        self._backends: set[BackendUse] = set()
        self._expressions = Expressions()
        self._hosts: dict[HostPattern, list[Candidate]] = {}
        self._aliases = self._further_names()
        self._tls = self._compile_tls()

    def run(self) -> Contribution:
        ingress = self._ingress
        if self._foreign.is_shadow:
            return self._contribution()
        for rule in ingress.rules:
            for host in self._names_of(rule.host):
                candidates = self._hosts.setdefault(host, [])
                for path in rule.paths:
                    candidates.extend(self._path(host, rule.index, path))
        if ingress.has_default_backend:
            # Rules that were written and cannot be used do not make this a catch-all.
            if not ingress.rules and not _wrote_rules(ingress):
                self._hosts[ANY_HOST] = []
            self._default()
        self._say_if_insecure()
        self._say_if_empty()
        return self._contribution()

    def _contribution(self) -> Contribution:
        shadow = self._foreign.is_shadow
        return Contribution(
            generation=self._ingress.metadata.generation,
            age=self._age,
            hosts={
                host: tuple(sorted(candidates, key=lambda each: each.order))
                for host, candidates in self._hosts.items()
            },
            names={} if shadow else self._tls.claims,
            backends=frozenset(self._backends),
            findings=tuple(self._findings),
        )

    def _adopted(self, own: RouteOptions) -> Adopted:
        """Return what annotations of other controllers come to, but for those to be ignored."""
        ingress = self._ingress
        if not ingress.foreign:
            return NOTHING
        ignored = with_defaults(ingress, own, self._lookup).ignored_annotations
        return adopt(ingress.ref, ingress.foreign, ignored or ())

    def _further_names(self) -> tuple[HostPattern, ...]:
        """Return the aliases of the first host, unless they would multiply a large object."""
        rules, aliases = self._ingress.rules, self._foreign.aliases
        if not aliases or not rules or not rules[0].host:
            return ()
        if len(aliases) * sum(len(rule.paths) for rule in rules) > _MOST_COPIES:
            self._note(
                "spec.rules",
                Reason.TOO_LARGE,
                "there are too many paths to serve them under the names of server-alias, too",
                "write a Route with hosts",
            )
            return ()
        written = {rule.host for rule in rules}
        return tuple(alias for alias in aliases if alias not in written)

    def _names_of(self, host: HostPattern) -> tuple[HostPattern, ...]:
        """Return a host with its aliases; only the first host has any."""
        if self._aliases and host == self._ingress.rules[0].host:
            return (host, *self._aliases)
        return (host,)

    def _compile_tls(self) -> TlsOutcome:
        sections = [
            TlsSection(each.hosts, each.secret, f"spec.tls[{each.index}].secretName")
            for each in self._ingress.tls
        ]
        rules = self._ingress.rules
        hosts = dict.fromkeys(host for rule in rules for host in self._names_of(rule.host))
        hosts = hosts or {ANY_HOST: None}
        outcome = TlsSections(self._lookup, self._ingress.ref, self._age).outcome(sections, hosts)
        self._findings.extend(outcome.findings)
        return outcome

    def _path(self, host: HostPattern, rule: int, path: IngressPath) -> Iterator[Candidate]:
        field = f"spec.rules[{rule}].http.paths[{path.index}]"
        foreign = self._foreign
        served = serve_path(
            path.kind, path.path, foreign.rewrite_target, has_patterns=foreign.has_patterns
        )
        try:
            match = RouteMatch(path=path_match(served.kind, served.value, self._expressions))
        except BadMatch as bad:
            self._note(f"{field}.path", Reason.INVALID_PATH, str(bad), bad.hint)
            return
        self._judge_path(path, served, f"{field}.path")
        backend = self._backend(path.backend, f"{field}.backend.service")
        if served.problem:
            backend = nowhere(self._ingress.ref.namespace)
        yield Candidate(
            order_of(match, self._age, (rule, path.index)),
            self._route(host, f"{rule}-{path.index}", match, backend, served),
            self._ingress.ref,
            field,
        )

    def _judge_path(self, path: IngressPath, served: ServedPath, field: str) -> None:
        if served.problem:
            self._note(
                field,
                Reason.FOREIGN_ANNOTATION,
                f"rewrite-target cannot be had: {served.problem}; this path answers 503",
                "end the path with (/|$)(.*) and the target with /$2, or write a Route with a"
                " rewrite",
            )
        elif served == ServedPath(PathKind.PREFIX, path.path) and looks_like_pattern(path.path):
            self._note(
                field,
                Reason.INVALID_PATH,
                f"{path.path[:80]!r} looks like a regular expression, and is served as a plain"
                " prefix",
                "write a Route with a path of type RegularExpression",
                severity=Severity.WARNING,
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
        if port is None or self._foreign.redirect is not None:
            # A redirect answers by itself; who writes one names any Service.
            return nowhere(ref.namespace)
        reference = Reference(ref, field, ref.namespace, port.service, port.port)
        resolved = resolve(self._lookup, reference)
        if resolved.finding is not None:
            self._findings.append(resolved.finding)
        if resolved.use is not None:
            self._backends.add(resolved.use)
        return resolved.id

    def _route(
        self,
        host: HostPattern,
        name: str,
        match: RouteMatch,
        backend: BackendId,
        served: ServedPath | None = None,
    ) -> Route:
        options = self._options
        closed = options.lacks_filter or self._foreign.is_closed
        answered = self._foreign.redirect is not None and not closed
        if closed:
            backend = nowhere(self._ingress.ref.namespace)
        return Route(
            name=f"{self._ingress.ref.namespace}/{self._ingress.ref.name}/{name}",
            match=match,
            filters=tuple(self._filters(host, match.path, served, closed=closed)),
            backends=() if answered else (WeightedBackend(backend=backend),),
            timeouts=timeouts_of(options),
            retry=retry_of(options),
            allow_encoded_slash=options.allow_encoded_slash,
            max_body_bytes=options.max_body_bytes,
        )

    def _filters(
        self, host: HostPattern, path: PathMatch, served: ServedPath | None, *, closed: bool
    ) -> Iterator[FilterSpec]:
        options, settings, foreign = self._options, self._lookup.settings, self._foreign
        wanted = settings.ssl_redirect if options.ssl_redirect is None else options.ssl_redirect
        if wanted and host in self._tls.secure:
            yield HttpsRedirect(port=settings.https_port)
        if foreign.redirect is not None and not closed:
            yield foreign.redirect
        own = options.strip_prefix is not None or options.rewrite_prefix is not None
        if served is not None and served.target is not None and not own:
            prefix = path.value if served.swaps_prefix else None
            yield RewritePath(replacement=served.target, prefix=prefix)
        yield from foreign.filters
        if options.strip_prefix is not None:
            yield options.strip_prefix
        if options.rewrite_prefix is not None:
            prefix = path.value if path.kind is PathKind.PREFIX else None
            yield RewritePath(replacement=options.rewrite_prefix, prefix=prefix)
        if options.request_headers is not None:
            yield options.request_headers
        if options.response_headers is not None:
            yield options.response_headers

    def _say_if_insecure(self) -> None:
        insecure = next((host for host in self._hosts if host not in self._tls.secure), None)
        if self._foreign.forces_tls and insecure is not None:
            self._note(
                "spec.tls",
                Reason.FOREIGN_ANNOTATION,
                f"requests for {insecure or 'any host'} are not redirected to https, as"
                " force-ssl-redirect wants: it is in no TLS section",
                "list the host in spec.tls; without secretName it has the default certificate",
                severity=Severity.WARNING,
            )

    def _say_if_empty(self) -> None:
        if any(self._hosts.values()) or self._ingress.problems:
            return
        self._note(
            "spec",
            Reason.NO_ROUTES,
            "the Ingress has neither paths nor a default backend",
            "write rules with http.paths, or defaultBackend",
            severity=Severity.WARNING,
        )

    def _note(
        self,
        field: str,
        reason: Reason,
        message: str,
        hint: str,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        self._findings.append(
            Finding(
                subject=self._ingress.ref,
                field=field,
                reason=reason,
                severity=severity,
                message=message,
                hint=hint,
            )
        )


def _wrote_rules(ingress: Ingress) -> bool:
    return any(each.field.startswith("spec.rules") for each in ingress.problems)
