"""
Route to a contribution.

What the API server checks by CEL is checked again, because a file has no API
server. A rule that cannot be understood in full answers 503 where its matches
are known; a match that cannot be understood is left out.
"""

from collections.abc import Iterator
from math import gcd

from fairway_operator.annotations import route_options
from fairway_operator.api.matches import Match
from fairway_operator.api.route import BackendRef, Retry, Rule
from fairway_operator.compiler.contribution import (
    Age,
    BackendUse,
    Candidate,
    Contribution,
    age_of,
)
from fairway_operator.compiler.defaults import retry_of, timeouts_of, with_defaults
from fairway_operator.compiler.filters import BadFilter, answers, compile_filter
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.compiler.matches import BadMatch, Expressions, order_of, route_match
from fairway_operator.compiler.references import Reference, nowhere, resolve
from fairway_operator.compiler.tls import TlsSection, TlsSections
from fairway_operator.durations import parse_duration
from fairway_operator.findings import Finding, Reason
from fairway_operator.hosts import ANY_HOST, BadHost, parse_host
from fairway_operator.resources import Route as RouteResource
from fairway_operator.resources.reference_grant import GrantFrom, GrantTo
from fairway_snapshot import model
from fairway_snapshot.filters import FilterSpec, HttpsRedirect
from fairway_snapshot.model import BackendId, HostPattern, RouteMatch, WeightedBackend

_EVERYTHING = (Match(),)
_OURS = "fairway.dev"


def compile_route(route: RouteResource, lookup: Lookup) -> Contribution:
    """Return what the Route asks for; what it cannot have is among the findings."""
    return _RouteCompilation(route, lookup).run()


class _RouteCompilation:
    """One Route being compiled."""

    def __init__(self, route: RouteResource, lookup: Lookup) -> None:
        self._route = route
        self._spec = route.spec
        self._lookup = lookup
        self._age: Age = age_of(route.ref, route.metadata.created)
        own, problems = route_options(route.ref, route.annotations)
        self._options = with_defaults(route, own, lookup)
        self._findings: list[Finding] = list(problems)
        self._backends: set[BackendUse] = set()
        self._expressions = Expressions()

    def run(self) -> Contribution:
        hosts = self._hosts()
        sections = []
        tls = self._spec.tls
        if tls is not None:
            sections.append(TlsSection(hosts, tls.secret_name, "spec.tls.secretName"))
            second = tls.alternative_secret_name
            if second is not None:
                field = "spec.tls.alternativeSecretName"
                sections.append(TlsSection(hosts, second, field))
                if tls.secret_name in (None, second):
                    self._note(
                        field, Reason.INVALID_OBJECT,
                        "there is no other certificate beside this one", "write another secretName",
                    )  # fmt: skip
        outcome = TlsSections(self._lookup, self._route.ref, self._age).outcome(sections, hosts)
        self._findings.extend(outcome.findings)
        redirect: tuple[FilterSpec, ...] = ()
        if tls is not None and tls.redirect:
            redirect = (HttpsRedirect(port=self._lookup.settings.https_port),)
        names = [rule.name for rule in self._spec.rules if rule.name is not None]
        if len(set(names)) < len(names):
            self._note("spec.rules", Reason.INVALID_OBJECT, "names of rules are not unique")
        candidates = [
            candidate
            for at, rule in enumerate(self._spec.rules)
            for candidate in self._rule(at, rule, redirect)
        ]
        candidates.sort(key=lambda each: each.order)
        return Contribution(
            generation=self._route.metadata.generation,
            age=self._age,
            hosts=dict.fromkeys(hosts, tuple(candidates)),
            names=outcome.claims,
            backends=frozenset(self._backends),
            findings=tuple(self._findings),
        )

    def _hosts(self) -> tuple[HostPattern, ...]:
        if not self._spec.hosts:
            return (ANY_HOST,)
        hosts = []
        for at, text in enumerate(self._spec.hosts):
            try:
                hosts.append(parse_host(text))
            except BadHost as bad:
                self._note(f"spec.hosts[{at}]", Reason.INVALID_HOST, str(bad), bad.hint)
        return tuple(dict.fromkeys(hosts))

    def _rule(self, at: int, rule: Rule, redirect: tuple[FilterSpec, ...]) -> Iterator[Candidate]:
        field = f"spec.rules[{at}]"
        name = f"{self._route.ref.namespace}/{self._route.ref.name}/{rule.name or at}"
        backends = self._targets(rule, field)
        timeouts = self._timeouts(rule, field)
        retry = retry_of(self._options) if rule.retry is None else _retry(rule.retry)
        for index, given in enumerate(rule.matches or _EVERYTHING):
            match = self._match(given, f"{field}.matches[{index}]")
            if match is None:
                continue
            filters = self._filters(rule, match, field)
            lame = filters is None
            made = model.Route(
                name=name,
                match=match,
                filters=redirect + (filters or ()),
                backends=self._unserved() if lame else backends,
                timeouts=timeouts,
                retry=retry,
                allow_encoded_slash=self._options.allow_encoded_slash,
                max_body_bytes=self._options.max_body_bytes,
            )
            order = order_of(match, self._age, (at, index))
            yield Candidate(order, made, self._route.ref, f"{field}.matches[{index}]")

    def _match(self, given: Match, field: str) -> RouteMatch | None:
        try:
            return route_match(given, self._expressions)
        except BadMatch as bad:
            self._note(f"{field}.{bad.field}", Reason.INVALID_MATCH, str(bad), bad.hint)
            return None

    def _filters(self, rule: Rule, match: RouteMatch, field: str) -> tuple[FilterSpec, ...] | None:
        made: list[FilterSpec] = []
        for at, each in enumerate(rule.filters):
            try:
                made.extend(compile_filter(each, match.path))
            except BadFilter as bad:
                inner = f".{bad.field}" if bad.field else ""
                message = f"{bad}; the rule answers 503"
                where = f"{field}.filters[{at}]{inner}"
                self._note(where, Reason.INVALID_FILTER, message, bad.hint)
                return None
        return tuple(made)

    def _targets(self, rule: Rule, field: str) -> tuple[WeightedBackend, ...]:
        if answers(rule.filters):
            if rule.backend_refs:
                self._note(
                    f"{field}.backendRefs",
                    Reason.INVALID_BACKEND,
                    "a filter of this rule answers, so its backends get no requests",
                    "leave backendRefs or the filter out",
                )
            return ()
        if not rule.backend_refs:
            self._note(
                field,
                Reason.INVALID_BACKEND,
                "the rule has neither backends nor a filter that answers; it answers 503",
                "write backendRefs",
            )
            return self._unserved()
        shares: dict[BackendId, int] = {}
        for at, ref in enumerate(rule.backend_refs):
            backend = self._backend(ref, f"{field}.backendRefs[{at}]")
            shares[backend] = shares.get(backend, 0) + ref.weight
        divisor = gcd(*shares.values())
        if not divisor:
            # All weights are 0: nobody may get the requests.
            return self._unserved()
        return tuple(
            WeightedBackend(backend=backend, weight=shares[backend] // divisor)
            for backend in sorted(shares)
            if shares[backend]
        )

    def _backend(self, ref: BackendRef, field: str) -> BackendId:
        owner = self._route.ref
        namespace = ref.namespace or owner.namespace
        if namespace != owner.namespace and not self._lookup.permits(
            GrantFrom(_OURS, "Route", owner.namespace), GrantTo("", "Service", ref.name), namespace
        ):
            self._note(
                f"{field}.namespace",
                Reason.REF_NOT_PERMITTED,
                f"no ReferenceGrant in namespace {namespace!r} lets Routes of"
                f" {owner.namespace!r} refer to Service {ref.name!r}; its share answers 503",
                f"ask the owner of {namespace!r} for a ReferenceGrant",
            )
            # All that is refused has one id, whatever it names.
            return nowhere(owner.namespace)
        reference = Reference(owner, field, namespace, ref.name, ref.port)
        resolved = resolve(self._lookup, reference)
        if resolved.finding is not None:
            self._findings.append(resolved.finding)
        if resolved.use is not None:
            self._backends.add(resolved.use)
        return resolved.id

    def _timeouts(self, rule: Rule, field: str) -> model.Timeouts:
        given, retry = rule.timeouts, rule.retry
        made = model.Timeouts(
            request=_seconds(given.request),
            backend_request=_seconds(given.backend_request),
            connect=_seconds(given.connect),
            idle=_seconds(given.idle),
        )
        attempts = {
            "timeouts.backendRequest": made.backend_request,
            "retry.perTryTimeout": None if retry is None else _seconds(retry.per_try_timeout),
        }
        for name, seconds in attempts.items():
            if made.request and seconds is not None and seconds > made.request:
                self._note(
                    f"{field}.{name}",
                    Reason.INVALID_OBJECT,
                    "one attempt may not take longer than the whole request",
                    f"write at most {given.request}, the value of timeouts.request",
                )
        defaults = timeouts_of(self._options)
        return model.Timeouts(
            request=_or(made.request, defaults.request),
            backend_request=_or(made.backend_request, defaults.backend_request),
            connect=_or(made.connect, defaults.connect),
            idle=_or(made.idle, defaults.idle),
        )

    def _unserved(self) -> tuple[WeightedBackend, ...]:
        return (WeightedBackend(backend=nowhere(self._route.ref.namespace)),)

    def _note(self, field: str, reason: Reason, message: str, hint: str = "") -> None:
        finding = Finding(
            subject=self._route.ref, field=field, reason=reason, message=message, hint=hint
        )
        if finding not in self._findings:
            self._findings.append(finding)


def _seconds(text: str | None) -> float | None:
    # The API's pattern has been held to the same grammar, so this does not raise.
    return None if text is None else parse_duration(text)


def _or(own: float | None, default: float | None) -> float | None:
    return default if own is None else own


def _retry(given: Retry) -> model.Retry:
    return model.Retry(
        attempts=given.attempts,
        codes=tuple(sorted(set(given.codes))),
        per_try_timeout=_seconds(given.per_try_timeout),
        budget=given.budget,
    )
