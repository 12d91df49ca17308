"""
The compiler and what it remembers.

One rule for its reader: the memo is brought from one World to the next in one
go. Whatever interrupts it throws the whole memo away, so a half-changed one is
never used.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from rpds import HashTrieMap

from fairway_operator.annotations import route_options
from fairway_operator.compiler.backends import build_backend, service_findings
from fairway_operator.compiler.certificates import CertificateChecks
from fairway_operator.compiler.classes import is_our_class, is_ours
from fairway_operator.compiler.conditions import conditions_of, standing_of
from fairway_operator.compiler.contribution import CertificateSource, Contribution
from fairway_operator.compiler.hosts import merge, merge_what_fits
from fairway_operator.compiler.lookup import Lookup, grants_of
from fairway_operator.compiler.memo import Memo, Touched
from fairway_operator.compiler.names import settle
from fairway_operator.compiler.outcome import Compilation, Serving
from fairway_operator.compiler.preview import Preview, preview
from fairway_operator.compiler.settings import CompilerSettings
from fairway_operator.compiler.single import Compiled, compile_single
from fairway_operator.findings import Finding, Severity
from fairway_operator.hosts import ANY_HOST
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import EndpointSlice, Ingress, IngressClass, Route
from fairway_operator.world import EMPTY as EMPTY_WORLD
from fairway_operator.world import World
from fairway_snapshot.codec import encode_leaf
from fairway_snapshot.model import Certificate, HostPattern, Section, ServerName, VirtualHost
from fairway_snapshot.tree import EMPTY as EMPTY_SNAPSHOT
from fairway_snapshot.tree import Edit, Snapshot

_OWNERS: Final = frozenset({Kind.INGRESS, Kind.ROUTE})
_MOST_FINDINGS: Final = 100
"""Of one object; a thousand would not say more."""


class Compiler:
    """Compile Worlds, one after the other; owns the memo."""

    def __init__(self, settings: CompilerSettings) -> None:
        self.settings = settings
        self._forget()

    def compile(self, world: World) -> Compilation:
        """Return the compilation of ``world``; quick when it resembles the last one."""
        try:
            return self._advance(world)
        except BaseException:
            self._forget()
            raise

    def serves_class(self, name: str | None) -> bool:
        """Tell whether objects of this class, or of none, are ours in the World compiled last."""
        return is_our_class(name, self._lookup(self._world))

    def preview(self, resource: Ingress | Route) -> Preview | None:
        """
        Return what would be said of this version in the World compiled last.

        None is for an object that is not ours. Costs what the object costs, and
        changes nothing.
        """
        lookup = self._lookup(self._world)
        if not is_ours(resource, lookup):
            return None
        return preview(resource, lookup, self._memo, lambda name: self._fixed(self._world, name))

    def _lookup(self, world: World) -> Lookup:
        return Lookup(world, self.settings, self._checks)

    def _forget(self) -> None:
        self._world: World = EMPTY_WORLD
        self._memo = Memo()
        self._checks = CertificateChecks()
        self._snapshot: Snapshot = EMPTY_SNAPSHOT
        self._findings: HashTrieMap[ObjectRef, tuple[Finding, ...]] = HashTrieMap()
        self._serving: HashTrieMap[ObjectRef, Serving] = HashTrieMap()

    def _advance(self, world: World) -> Compilation:
        changed = world.changes_since(self._world)
        touched = Touched()
        for ref in sorted(self._dirty(world, changed, touched)):
            known = self._memo.compiled.get(ref)
            lookup = self._lookup(world)
            good = None if known is None else known.good
            self._memo.replace(ref, compile_single(world, ref, lookup, good), touched)
        self._snapshot = self._evolve(world, touched)
        reported = self._report(world, changed, touched)
        self._world = world
        return Compilation(
            snapshot=self._snapshot,
            findings=self._findings,
            serving=self._serving,
            touched=reported,
        )

    def _dirty(
        self, world: World, changed: frozenset[ObjectRef], touched: Touched
    ) -> set[ObjectRef]:
        """Return the objects to compile again, and note which Services and Secrets changed."""
        dirty: set[ObjectRef] = set()
        for ref in changed:
            match ref.kind:
                case Kind.INGRESS | Kind.ROUTE:
                    dirty.add(ref)
                case Kind.ENDPOINT_SLICE:
                    touched.services.update(self._services_of(world, ref))
                case Kind.SERVICE:
                    touched.services.add(ref)
                    dirty.update(self._memo.needed_by.of(ref))
                case Kind.SECRET:
                    if world.secret(ref) is None:
                        # Whoever has only looked at it may never have served it.
                        self._checks.forget(ref)
                    touched.certificates.update(self._memo.sources_of.of(ref))
                    dirty.update(self._memo.needed_by.of(ref))
                    if ref == self.settings.default_certificate:
                        touched.names.add(ANY_HOST)
                case Kind.REFERENCE_GRANT:
                    dirty.update(self._memo.needed_by.of(grants_of(ref.namespace)))
                case Kind.INGRESS_CLASS:
                    dirty.update(self._memo.needed_by.of(ref))
        return dirty

    def _services_of(self, world: World, slice_ref: ObjectRef) -> Iterator[ObjectRef]:
        for version in (self._world.get(slice_ref), world.get(slice_ref)):
            if isinstance(version, EndpointSlice) and version.service is not None:
                yield ObjectRef(Kind.SERVICE, version.ref.namespace, version.service)

    # The snapshot.

    def _evolve(self, world: World, touched: Touched) -> Snapshot:
        edits = [
            *self._backend_edits(world, touched),
            *self._name_edits(world, touched),
            *self._certificate_edits(world, touched),
        ]
        try:
            return self._snapshot.evolve([*self._host_edits(touched, crowded=False), *edits])
        except ValueError:
            # Some host has more routes than fit into one node; its youngest objects must wait.
            return self._snapshot.evolve([*self._host_edits(touched, crowded=True), *edits])

    def _host_edits(self, touched: Touched, *, crowded: bool) -> Iterator[Edit]:
        memo = self._memo
        for host in touched.hosts:
            if host not in memo.by_host:
                memo.losses.pop(host, None)
                yield Edit(Section.HOSTS, host, None)
                continue
            asked = list(memo.candidates(host))
            merged = merge(host, (group for _, group in asked))
            if crowded and not _fits(merged.virtual_host):
                merged = merge_what_fits(host, ((who.age, group) for who, group in asked))
            memo.lose(host, merged, touched)
            yield Edit(Section.HOSTS, host, merged.virtual_host)

    def _backend_edits(self, world: World, touched: Touched) -> Iterator[Edit]:
        uses = set(touched.uses)
        for service in touched.services:
            uses.update(self._memo.uses_of.of(service))
        for use in uses:
            used = use in self._memo.used_by
            backend = build_backend(world, use, self.settings) if used else None
            yield Edit(Section.BACKENDS, use.id, backend)

    def _name_edits(self, world: World, touched: Touched) -> Iterator[Edit]:
        for name in touched.names:
            settled = settle(name, self._memo.claims(name), self._fixed(world, name))
            self._memo.settle(name, settled, touched)
            yield Edit(Section.SERVER_NAMES, name, _server_name(settled.source))

    def _fixed(self, world: World, name: HostPattern) -> ObjectRef | None:
        """Return the Secret from the settings if it speaks for ``name`` and can be served."""
        ref = self.settings.default_certificate
        if name != ANY_HOST or ref is None:
            return None
        secret = world.secret(ref)
        if secret is None or self._checks.check(secret).certificate is None:
            return None
        return ref

    def _certificate_edits(self, world: World, touched: Touched) -> Iterator[Edit]:
        for source in touched.certificates:
            served = source in self._memo.by_source
            certificate = self._certificate(world, source) if served else None
            for ref in source.secrets:
                if ref not in self._memo.sources_of or world.secret(ref) is None:
                    self._checks.forget(ref)
            yield Edit(Section.CERTIFICATES, source.id, certificate)

    def _certificate(self, world: World, source: CertificateSource) -> Certificate | None:
        found = [
            certificate
            for secret in map(world.secret, source.secrets)
            if secret is not None
            and (certificate := self._checks.check(secret).certificate) is not None
        ]
        if len(found) < len(source.secrets):
            return found[0] if found else None
        return msgspec.structs.replace(found[0], alternative=found[1]) if found[1:] else found[0]

    # What is told.

    def _report(
        self, world: World, changed: frozenset[ObjectRef], touched: Touched
    ) -> frozenset[ObjectRef]:
        """Bring findings and serving up to date; return the objects for which they differ."""
        reported = set()
        for ref in touched.owners:
            compiled = self._memo.compiled.get(ref)
            losses = () if compiled is None else tuple(self._losses(ref, compiled))
            told = self._tell(ref, _owner_findings(compiled, losses))
            if self._serve(ref, compiled, losses) or told:
                reported.add(ref)
        others = {ref for ref in changed if ref.kind not in _OWNERS} | touched.services
        for ref in others:
            if self._tell(ref, self._other_findings(world, ref)):
                reported.add(ref)
        return frozenset(reported)

    def _losses(self, ref: ObjectRef, compiled: Compiled) -> Iterator[Finding]:
        contribution = compiled.contribution
        if contribution is None:
            return
        for host in contribution.hosts:
            for _, finding in self._memo.losses.get(host, {}).get(ref, ()):
                yield finding
        for name in contribution.names:
            yield from self._memo.name_findings.get(name, {}).get(ref, ())

    def _other_findings(self, world: World, ref: ObjectRef) -> tuple[Finding, ...]:
        if ref.kind is Kind.SERVICE and ref not in world.undecodable:
            return service_findings(world, ref) if ref in self._memo.uses_of else ()
        found = world.get(ref)
        if isinstance(found, IngressClass):
            if found.controller != self.settings.controller_name:
                return ()
            _, findings = route_options(ref, found.annotations)
            return world.problems(ref) + findings
        return world.problems(ref)

    def _tell(self, ref: ObjectRef, findings: tuple[Finding, ...]) -> bool:
        """Put the findings of an object in place; return whether they differ."""
        before = self._findings.get(ref)
        if (before or ()) == findings:
            return False
        self._findings = (
            self._findings.insert(ref, findings) if findings else self._findings.discard(ref)
        )
        return True

    def _serve(
        self, ref: ObjectRef, compiled: Compiled | None, losses: tuple[Finding, ...]
    ) -> bool:
        """Put what an object serves in place; return whether it differs."""
        before = self._serving.get(ref)
        contribution = None if compiled is None else compiled.contribution
        if compiled is None or contribution is None:
            self._serving = self._serving.discard(ref)
            return before is not None
        routes = self._live_routes(ref, contribution)
        after = Serving(
            generation=compiled.generation,
            served_generation=contribution.generation,
            hosts=tuple(sorted(contribution.hosts)),
            routes=routes,
            conditions=conditions_of((*compiled.findings, *losses), live=bool(routes)),
            standing=standing_of(compiled.findings),
        )
        if after == before:
            return False
        self._serving = self._serving.insert(ref, after)
        return True

    def _live_routes(self, ref: ObjectRef, contribution: Contribution) -> tuple[str, ...]:
        names: set[str] = set()
        for host, candidates in contribution.hosts.items():
            pairs = self._memo.losses.get(host, {}).get(ref, ())
            lost = {candidate.order for candidate, _ in pairs}
            names.update(each.route.name for each in candidates if each.order not in lost)
        return tuple(sorted(names))


def _owner_findings(compiled: Compiled | None, losses: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Return all findings of an object, in the order of its fields and without repetitions."""
    if compiled is None or not (compiled.findings or losses):
        return ()
    found = sorted({*compiled.findings, *losses}, key=_by_field)
    if len(found) <= _MOST_FINDINGS:
        return tuple(found)
    rest = Finding(
        subject=found[0].subject,
        field="",
        reason=found[-1].reason,
        severity=Severity.INFO,
        message=f"{len(found) - _MOST_FINDINGS} further findings are not listed",
    )
    return (*found[:_MOST_FINDINGS], rest)


def _by_field(finding: Finding) -> tuple[str, str, str]:
    return finding.field, finding.reason, finding.message


def _server_name(source: CertificateSource | None) -> ServerName | None:
    return None if source is None else ServerName(certificate=source.id)


def _fits(virtual_host: VirtualHost) -> bool:
    try:
        encode_leaf(virtual_host)
    except ValueError:
        return False
    return True
