"""What a compilation comes to."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_snapshot.model import HostPattern
from fairway_snapshot.tree import Snapshot


class Condition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One condition as the compiler sees it; times and receipts come with the status."""

    type: str
    """``Accepted`` or ``ResolvedRefs``."""
    status: bool
    reason: str
    message: str


class Standing(StrEnum):
    """How far an object of ours is served as it is written; also a metric label."""

    LIVE = "live"
    LAST_GOOD = "last-good"
    """Quarantined: this version has errors, and an earlier one goes on serving."""
    CLOSED = "closed"
    """Quarantined: what cannot be served as written answers 503, or nothing at all."""


class Serving(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one Ingress or Route of ours contributes to the snapshot."""

    generation: int
    """Of the object as it is in the World."""
    served_generation: int
    """Of the version that is served; older while the present one has errors."""
    hosts: tuple[HostPattern, ...]
    """All hosts of the object, sorted; the empty pattern is any host."""
    routes: tuple[str, ...]
    """Names of its routes that are live, sorted; those lost to conflicts are missing."""
    conditions: tuple[Condition, ...]
    """Accepted, then ResolvedRefs."""
    standing: Standing


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one compilation; shares with earlier ones whatever did not change."""

    snapshot: Snapshot
    findings: Mapping[ObjectRef, tuple[Finding, ...]]
    """Only objects with at least one finding; sorted, without duplicates."""
    serving: Mapping[ObjectRef, Serving]
    """Every Ingress and Route that is ours."""
    touched: frozenset[ObjectRef]
    """Objects whose findings or serving differ from the compilation before."""
