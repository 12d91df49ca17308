"""
What one object contributes to the snapshot, before its neighbours are asked.

A contribution depends on its object and on what that refers to, never on
other Ingresses or Routes; those come in when the contributions of one host are
merged (:mod:`fairway_operator.compiler.hosts`).
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_snapshot.model import BackendId, CertificateId, HostPattern, Route

Age: TypeAlias = tuple[str, str, str, str]
"""Of an object: creation, namespace, name, kind. The smaller wins a conflict."""

_NOT_YET = "~"
"""Later than every timestamp: an object without one has not been created yet."""


def age_of(ref: ObjectRef, created: str) -> Age:
    """Return what decides conflicts: the oldest wins, then namespace and name."""
    return created or _NOT_YET, ref.namespace, ref.name, ref.kind


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One way into one host, if no older object has the same."""

    order: tuple[object, ...]
    """Place among the routes of the host; the smallest is asked first."""
    route: Route
    owner: ObjectRef
    field: str
    """Where its author wrote it."""
    fallback: bool = False
    """A default backend: gives way to any route for all paths, and nobody is told."""


class CertificateSource(NamedTuple):
    """The Secret of a certificate, or two: with keys of different kinds, for different clients."""

    first: ObjectRef
    second: ObjectRef | None = None
    """Of the same namespace; after the first by name, so that a pair is written in one way."""

    @property
    def secrets(self) -> tuple[ObjectRef, ...]:
        """One or two Secrets."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def id(self) -> CertificateId:
        """The key of the certificate in the snapshot."""
        names = "+".join(secret.name for secret in self.secrets)
        return CertificateId(f"{self.first.namespace}/{names}")

    def __str__(self) -> str:
        """Name the Secrets as their author does."""
        return " and ".join(secret.name for secret in self.secrets)


def pair_of(one: ObjectRef, other: ObjectRef) -> CertificateSource:
    """Return the source of two Secrets, whatever their order."""
    return CertificateSource(*sorted((one, other)))


class NameClaim(msgspec.Struct, frozen=True, gc=False):
    """The wish to answer a server name with a certificate."""

    host: HostPattern
    age: Age
    source: CertificateSource
    owner: ObjectRef
    field: str


class BackendUse(msgspec.Struct, frozen=True, gc=False):
    """A port of a Service that is there."""

    id: BackendId
    service: ObjectRef
    port: int


class Contribution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that one version of one object asks for."""

    generation: int
    age: Age
    hosts: Mapping[HostPattern, tuple[Candidate, ...]]
    """Every host of the object, those without a route too; sorted candidates."""
    names: Mapping[HostPattern, NameClaim]
    """Every server name that it wants a certificate for."""
    backends: frozenset[BackendUse]
    findings: tuple[Finding, ...]
