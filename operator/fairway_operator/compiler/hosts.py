"""
Contributions to one host, merged.

Of candidates with the same match the oldest object's is served; the others
lose, are told who won, and are served as soon as it is gone. Nothing else that
an object does changes what another one gets.
"""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fairway_operator.compiler.contribution import Age, Candidate
from fairway_operator.findings import Finding, Reason
from fairway_operator.refs import ObjectRef
from fairway_snapshot.codec import MAX_BLOB_BYTES
from fairway_snapshot.model import HostPattern, RouteMatch, VirtualHost


class Loss(NamedTuple):
    """A candidate that is not served."""

    candidate: Candidate
    finding: Finding


class MergedHost(NamedTuple):
    """A host as it is served, and who is not served by it."""

    virtual_host: VirtualHost
    losses: tuple[Loss, ...]


def merge(host: HostPattern, groups: Iterable[tuple[Candidate, ...]]) -> MergedHost:
    """Merge what each object contributes to ``host``."""
    candidates = [candidate for group in groups for candidate in group]
    candidates.sort(key=_order)
    winners: dict[RouteMatch, Candidate] = {}
    losses = []
    for candidate in candidates:
        winner = winners.setdefault(candidate.route.match, candidate)
        if winner is not candidate and (winner.fallback or not candidate.fallback):
            losses.append(Loss(candidate, _conflict(host, candidate, winner)))
    routes = tuple(candidate.route for candidate in winners.values())
    return MergedHost(VirtualHost(routes=routes), tuple(losses))


def merge_what_fits(
    host: HostPattern, groups: Iterable[tuple[Age, tuple[Candidate, ...]]]
) -> MergedHost:
    """Merge the oldest objects of a host that is too large for one node of the snapshot."""
    fitting: list[tuple[Candidate, ...]] = []
    losses: list[Loss] = []
    room = MAX_BLOB_BYTES * 3 // 4
    for _, group in sorted(groups, key=lambda pair: pair[0]):
        room -= sum(len(msgspec.msgpack.encode(candidate.route)) for candidate in group)
        if room >= 0:
            fitting.append(group)
        else:
            losses.extend(Loss(candidate, _too_large(host, candidate)) for candidate in group)
    merged = merge(host, fitting)
    return MergedHost(merged.virtual_host, (*merged.losses, *losses))


def _order(candidate: Candidate) -> tuple[object, ...]:
    return candidate.order


def _conflict(host: HostPattern, loser: Candidate, winner: Candidate) -> Finding:
    path = loser.route.match.path
    what = f"{path.kind} {path.value} of {_show(host)}"
    if winner.owner == loser.owner:
        message = f"{what} is there twice with the same conditions; only the first is served"
        hint = f"leave one out, or merge it with {winner.field}"
    else:
        message = f"{what} belongs to {winner.owner}, which is older or goes before by its name"
        hint = "this one is not served; use another path or host, or delete one of the two"
    return Finding(
        subject=loser.owner,
        field=loser.field,
        reason=Reason.CONFLICT,
        message=message,
        hint=hint,
        other=_other(loser.owner, winner.owner),
    )


def _too_large(host: HostPattern, candidate: Candidate) -> Finding:
    return Finding(
        subject=candidate.owner,
        field=candidate.field,
        reason=Reason.TOO_LARGE,
        message=f"all routes of {_show(host)} together are too large; this one is not served",
        hint="spread the routes over several hosts",
    )


def _other(loser: ObjectRef, winner: ObjectRef) -> ObjectRef | None:
    return None if winner == loser else winner


def _show(host: HostPattern) -> str:
    return host or "any host"
