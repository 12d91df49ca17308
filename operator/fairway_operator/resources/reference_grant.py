"""
ReferenceGrant (``gateway.networking.k8s.io/v1beta1``).

A grant lives in the namespace that is referred to: the owner of a Service
says which namespaces may send traffic to it. What cannot be read grants
nothing.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from fairway_operator.findings import Finding
from fairway_operator.refs import ObjectRef
from fairway_operator.resources.body import Reader


class GrantFrom(msgspec.Struct, frozen=True, gc=False):
    """Who may refer."""

    group: str
    kind: str
    namespace: str


class GrantTo(msgspec.Struct, frozen=True, gc=False):
    """What may be referred to; None is every object of the kind."""

    group: str
    kind: str
    name: str | None


class ReferenceGrant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One grant: each of ``sources`` may refer to each of ``targets``."""

    ref: ObjectRef
    sources: tuple[GrantFrom, ...]
    targets: tuple[GrantTo, ...]
    problems: tuple[Finding, ...]

    def permits(self, source: GrantFrom, target: GrantTo) -> bool:
        """Tell whether this grant lets ``source`` refer to ``target``."""
        return source in self.sources and any(
            to.group == target.group and to.kind == target.kind and to.name in (None, target.name)
            for to in self.targets
        )


def decode(reader: Reader, body: Mapping[str, Any]) -> ReferenceGrant:
    """Return the grant; an entry that cannot be read is left out."""
    spec = reader.mapping(body.get("spec"), "spec")
    sources = []
    for at, entry in reader.objects(spec.get("from"), "spec.from"):
        field = f"spec.from[{at}]"
        group = reader.text(entry.get("group"), f"{field}.group")
        kind = reader.text(entry.get("kind"), f"{field}.kind")
        namespace = reader.text(entry.get("namespace"), f"{field}.namespace")
        if group is None or not kind or not namespace:
            reader.note(field, "group, kind and namespace are needed")
            continue
        sources.append(GrantFrom(group, kind, namespace))
    targets = []
    for at, entry in reader.objects(spec.get("to"), "spec.to"):
        field = f"spec.to[{at}]"
        group = reader.text(entry.get("group"), f"{field}.group")
        kind = reader.text(entry.get("kind"), f"{field}.kind")
        name = reader.text(entry.get("name"), f"{field}.name")
        if group is None or not kind or (name is None and entry.get("name") is not None):
            reader.note(field, "group and kind are needed, and a name is a string")
            continue
        targets.append(GrantTo(group, kind, name or None))
    return ReferenceGrant(
        ref=reader.ref,
        sources=tuple(sources),
        targets=tuple(targets),
        problems=tuple(reader.findings),
    )
