"""
Claims to one server name, settled: the oldest object's certificate is served.

Others that want the same certificate agree; those that want another one lose
and are told.
"""

from collections.abc import Iterable
from typing import NamedTuple

from fairway_operator.compiler.contribution import CertificateSource, NameClaim
from fairway_operator.findings import Finding, Reason
from fairway_operator.refs import ObjectRef
from fairway_snapshot.model import HostPattern


class SettledName(NamedTuple):
    """Whose certificate is served for a name; None is nobody's."""

    source: CertificateSource | None
    findings: tuple[Finding, ...]


def settle(host: HostPattern, claims: Iterable[NameClaim], fixed: ObjectRef | None) -> SettledName:
    """Settle the claims; ``fixed`` is a Secret from the settings that goes before all of them."""
    ordered = sorted(claims, key=lambda claim: claim.age)
    if fixed is None and not ordered:
        return SettledName(None, ())
    winner = ordered[0].source if fixed is None else CertificateSource(fixed)
    by = "the settings" if fixed is not None else f"{ordered[0].owner}"
    name = host or "clients that name no known host"
    findings = tuple(
        Finding(
            subject=claim.owner,
            field=claim.field,
            reason=Reason.CONFLICT,
            message=f"the certificate for {name} is already given by {by}: {winner} is served",
            hint=f"refer to the Secret {winner}",
            other=None if fixed is not None else ordered[0].owner,
        )
        for claim in ordered
        if not set(claim.source.secrets) <= set(winner.secrets)
    )
    return SettledName(winner, findings)
