"""
What the compiler remembers between two Worlds.

Indexes, each from a cause to those that it touches, and the outcomes so far.

Only :class:`~fairway_operator.compiler.compiler.Compiler` writes here.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

from fairway_operator.compiler.contribution import (
    BackendUse,
    Candidate,
    CertificateSource,
    Contribution,
    NameClaim,
)
from fairway_operator.compiler.hosts import MergedHost
from fairway_operator.compiler.names import SettledName
from fairway_operator.compiler.single import Compiled
from fairway_operator.findings import Finding  # noqa: TC001 - with its peers, for the reader
from fairway_operator.refs import ObjectRef
from fairway_snapshot.model import HostPattern

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V", bound=Hashable)


class Relation(Generic[_K, _V]):
    """Pairs of keys and values, asked for by key."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[_K, set[_V]] = {}

    def of(self, key: _K) -> Iterable[_V]:
        """Return the values of a key, in no order."""
        return self._values.get(key, ())

    def add(self, key: _K, value: _V) -> None:
        """Relate a value to a key."""
        self._values.setdefault(key, set()).add(value)

    def discard(self, key: _K, value: _V) -> None:
        """Undo :meth:`add`."""
        values = self._values.get(key)
        if values is not None:
            values.discard(value)
            if not values:
                del self._values[key]

    def __contains__(self, key: object) -> bool:
        """Tell whether a key has any value."""
        return key in self._values


class Touched:
    """What one step has touched so far, and must be looked at again."""

    __slots__ = ("certificates", "hosts", "names", "owners", "services", "uses")

    def __init__(self) -> None:
        self.owners: set[ObjectRef] = set()
        self.hosts: set[HostPattern] = set()
        self.names: set[HostPattern] = set()
        self.uses: set[BackendUse] = set()
        self.services: set[ObjectRef] = set()
        self.certificates: set[CertificateSource] = set()


class Memo:
    """All indexes; consistent between two steps."""

    __slots__ = (
        "by_host",
        "by_name",
        "by_source",
        "compiled",
        "losses",
        "name_findings",
        "needed_by",
        "settled",
        "sources_of",
        "used_by",
        "uses_of",
    )

    def __init__(self) -> None:
        self.compiled: dict[ObjectRef, Compiled] = {}
        self.needed_by: Relation[ObjectRef, ObjectRef] = Relation()
        self.by_host: Relation[HostPattern, ObjectRef] = Relation()
        self.by_name: Relation[HostPattern, ObjectRef] = Relation()
        self.used_by: Relation[BackendUse, ObjectRef] = Relation()
        self.uses_of: Relation[ObjectRef, BackendUse] = Relation()
        self.by_source: Relation[CertificateSource, HostPattern] = Relation()
        """Certificate to the server names that it is served for."""
        self.sources_of: Relation[ObjectRef, CertificateSource] = Relation()
        """Secret to the certificates that are served of it: alone, and as one of two."""
        self.settled: dict[HostPattern, CertificateSource] = {}
        self.losses: dict[HostPattern, dict[ObjectRef, tuple[tuple[Candidate, Finding], ...]]] = {}
        self.name_findings: dict[HostPattern, dict[ObjectRef, tuple[Finding, ...]]] = {}

    def contribution(self, ref: ObjectRef) -> Contribution | None:
        """Return what an object asks for."""
        compiled = self.compiled.get(ref)
        return None if compiled is None else compiled.contribution

    def replace(self, ref: ObjectRef, after: Compiled | None, touched: Touched) -> None:
        """Put another outcome of an object in place, and note what that touches."""
        before = self.compiled.pop(ref, None)
        if after is not None:
            self.compiled[ref] = after
        for need in () if before is None else before.needs:
            self.needed_by.discard(need, ref)
        for need in () if after is None else after.needs:
            self.needed_by.add(need, ref)
        old = None if before is None else before.contribution
        new = None if after is None else after.contribution
        touched.owners.add(ref)
        self._relate_hosts(ref, old, new, touched)
        self._relate_names(ref, old, new, touched)
        self._relate_uses(ref, old, new, touched)

    def candidates(self, host: HostPattern) -> Iterator[tuple[Contribution, tuple[Candidate, ...]]]:
        """Yield what each object asks for on a host."""
        for ref in self.by_host.of(host):
            contribution = self.contribution(ref)
            if contribution is not None:
                yield contribution, contribution.hosts[host]

    def claims(self, name: HostPattern) -> Iterator[NameClaim]:
        """Yield all claims to a server name."""
        for ref in self.by_name.of(name):
            contribution = self.contribution(ref)
            if contribution is not None:
                yield contribution.names[name]

    def lose(self, host: HostPattern, merged: MergedHost, touched: Touched) -> None:
        """Note who loses on a host."""
        lost: dict[ObjectRef, list[tuple[Candidate, Finding]]] = {}
        for candidate, finding in merged.losses:
            lost.setdefault(candidate.owner, []).append((candidate, finding))
        before = self.losses.pop(host, {})
        if lost:
            self.losses[host] = {ref: tuple(pairs) for ref, pairs in lost.items()}
        touched.owners.update(before, lost)

    def settle(self, name: HostPattern, settled: SettledName, touched: Touched) -> None:
        """Note whose certificate a name has, and who loses."""
        old = self.settled.pop(name, None)
        if old is not None:
            self.by_source.discard(old, name)
            touched.certificates.add(old)
            if old not in self.by_source:
                for secret in old.secrets:
                    self.sources_of.discard(secret, old)
        if settled.source is not None:
            self.settled[name] = settled.source
            self.by_source.add(settled.source, name)
            touched.certificates.add(settled.source)
            for secret in settled.source.secrets:
                self.sources_of.add(secret, settled.source)
        lost: dict[ObjectRef, tuple[Finding, ...]] = {}
        for finding in settled.findings:
            lost[finding.subject] = (*lost.get(finding.subject, ()), finding)
        before = self.name_findings.pop(name, {})
        if lost:
            self.name_findings[name] = lost
        touched.owners.update(before, lost)

    def _relate_hosts(
        self, ref: ObjectRef, old: Contribution | None, new: Contribution | None, touched: Touched
    ) -> None:
        before = {} if old is None else old.hosts
        after = {} if new is None else new.hosts
        for host in before:
            if host not in after:
                self.by_host.discard(host, ref)
        for host in after:
            self.by_host.add(host, ref)
        touched.hosts.update(
            host for host in before.keys() | after.keys() if before.get(host) != after.get(host)
        )

    def _relate_names(
        self, ref: ObjectRef, old: Contribution | None, new: Contribution | None, touched: Touched
    ) -> None:
        before = {} if old is None else old.names
        after = {} if new is None else new.names
        for name in before:
            if name not in after:
                self.by_name.discard(name, ref)
        for name in after:
            self.by_name.add(name, ref)
        touched.names.update(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        )

    def _relate_uses(
        self, ref: ObjectRef, old: Contribution | None, new: Contribution | None, touched: Touched
    ) -> None:
        before: frozenset[BackendUse] = frozenset() if old is None else old.backends
        after: frozenset[BackendUse] = frozenset() if new is None else new.backends
        for use in before - after:
            self.used_by.discard(use, ref)
            if use not in self.used_by:
                self.uses_of.discard(use.service, use)
                touched.uses.add(use)
                touched.services.add(use.service)
        for use in after - before:
            if use not in self.used_by:
                self.uses_of.add(use.service, use)
                touched.uses.add(use)
                touched.services.add(use.service)
            self.used_by.add(use, ref)
