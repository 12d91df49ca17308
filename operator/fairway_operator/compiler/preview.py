"""
What would be said of one version of an object, before it is there.

The object is compiled on its own and held against what its neighbours ask for
on the same hosts; nothing else is looked at, and nothing is remembered.
"""

from collections.abc import Callable, Iterator

import msgspec

from fairway_operator.compiler.contribution import Contribution
from fairway_operator.compiler.hosts import merge
from fairway_operator.compiler.lookup import Lookup
from fairway_operator.compiler.memo import Memo
from fairway_operator.compiler.names import settle
from fairway_operator.compiler.single import contribution_of
from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.resources import Ingress, Route
from fairway_snapshot.model import HostPattern


class Preview(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an object of ours would hear of itself, and what its neighbours would."""

    findings: tuple[Finding, ...]
    """About this version and what it refers to."""
    conflicts: tuple[Finding, ...]
    """What it would not get, because it has lost it to another object or to itself."""
    displaced: tuple[Finding, ...]
    """What others would lose to it and have now; their objects are the subjects."""


def preview(
    resource: Ingress | Route,
    lookup: Lookup,
    memo: Memo,
    fixed: Callable[[HostPattern], ObjectRef | None],
) -> Preview:
    """
    Return what would be said of this version; ``memo`` is what is known of all others.

    ``fixed`` returns the Secret that the settings give to a server name.
    """
    contribution = contribution_of(resource, lookup)
    disputes = {
        finding: None
        for found in (
            _about_hosts(resource.ref, contribution, memo),
            _about_names(resource.ref, contribution, memo, fixed),
        )
        for finding in found
    }
    return Preview(
        findings=resource.problems + contribution.findings,
        conflicts=tuple(each for each in disputes if each.subject == resource.ref),
        displaced=tuple(each for each in disputes if each.subject != resource.ref),
    )


def _about_hosts(ref: ObjectRef, contribution: Contribution, memo: Memo) -> Iterator[Finding]:
    for host, mine in contribution.hosts.items():
        matches = {candidate.route.match for candidate in mine}
        theirs = (
            tuple(each for each in group if each.owner != ref and each.route.match in matches)
            for _, group in memo.candidates(host)
        )
        lost = memo.losses.get(host, {}).values()
        known = {candidate.order for pairs in lost for candidate, _ in pairs}
        for candidate, finding in merge(host, (mine, *theirs)).losses:
            if candidate.owner == ref or candidate.order not in known:
                yield finding


def _about_names(
    ref: ObjectRef,
    contribution: Contribution,
    memo: Memo,
    fixed: Callable[[HostPattern], ObjectRef | None],
) -> Iterator[Finding]:
    for name, claim in contribution.names.items():
        others = (each for each in memo.claims(name) if each.owner != ref)
        settled = settle(name, (claim, *others), fixed(name))
        known = memo.name_findings.get(name, {})
        for finding in settled.findings:
            if finding.subject == ref or not known.get(finding.subject):
                yield finding
