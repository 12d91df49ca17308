"""
The compiler: a World in, a snapshot, findings and conditions out.

Its answers depend on the World alone, never on the order in which the World
came about or on a clock; what it keeps between two calls only saves work.
Work follows the change: an object is compiled again when it or something it
refers to has changed, a host is merged again when one of its objects was.
"""

from collections.abc import Mapping

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.world import World
from fairway_snapshot.model import HostPattern
from fairway_snapshot.tree import Snapshot

CONTROLLER_NAME = "fairway.dev/ingress-controller"


class CompilerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler can be told."""

    controller_name: str = CONTROLLER_NAME
    """``spec.controller`` of the IngressClasses that are ours; case-sensitive."""
    watch_without_class: bool = False
    """Serve Ingresses and Routes that name no class at all."""
    every_class: bool = False
    """Serve every Ingress and Route whatever its class; for one machine without a cluster."""
    ssl_redirect: bool = True
    """Redirect plain requests for hosts with TLS, unless the object says otherwise."""
    https_port: int = 443
    """Port that such a redirect names; 443 is left out of the location."""
    default_certificate: ObjectRef | None = None
    """Secret with the certificate of last resort."""
    allow_external_names: bool = True
    """Forward to Services of type ExternalName."""
    allow_local_addresses: bool = False
    """Forward to loopback and link-local addresses."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One condition as the compiler sees it; times and receipts come with the status."""

    type: str
    """``Accepted`` or ``ResolvedRefs``."""
    status: bool
    reason: str
    message: str


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """What one Ingress or Route of ours contributes to the snapshot."""

    generation: int
    """Of the object as it is in the World."""
    served_generation: int
    """Of the version that is served; older while the present one has errors."""
    hosts: tuple[HostPattern, ...]
    """All hosts of the object, sorted; the empty pattern is any host."""
    routes: tuple[str, ...]
    """Names of its routes that are live; those lost to a conflict are missing."""
    conditions: tuple[Condition, ...]


class Compilation(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one compilation; shares with earlier ones whatever did not change."""

    snapshot: Snapshot
    findings: Mapping[ObjectRef, tuple[Finding, ...]]
    """Only objects with at least one finding; sorted, without duplicates."""
    serving: Mapping[ObjectRef, Serving]
    """Every Ingress and Route that is ours."""
    touched: frozenset[ObjectRef]
    """Objects whose findings or serving differ from the compilation before."""


class Compiler:
    """Compile Worlds, one after the other; owns the memo."""

    def __init__(self, settings: CompilerSettings) -> None:
        self.settings = settings

    def compile(self, world: World) -> Compilation:
        """Return the compilation of ``world``; quick when it resembles the last one."""
        raise NotImplementedError
