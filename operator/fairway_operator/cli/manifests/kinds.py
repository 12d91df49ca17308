"""
Which documents are objects that Fairway reads.

Everything else in a folder of manifests is left alone without a word. An
object that its author meant for us and that would be overlooked for its
``apiVersion`` is reported instead: an Ingress of an API that Kubernetes no
longer serves must not look like an Ingress that was never written.
"""

from fairway_operator.cli.manifests.malformed import shown
from fairway_operator.refs import Kind

SERVED: dict[Kind, tuple[str, ...]] = {
    Kind.INGRESS: ("networking.k8s.io/v1",),
    Kind.INGRESS_CLASS: ("networking.k8s.io/v1",),
    Kind.ROUTE: ("fairway.dev/v1alpha1",),
    Kind.SERVICE: ("v1",),
    Kind.ENDPOINT_SLICE: ("discovery.k8s.io/v1",),
    Kind.SECRET: ("v1",),
    Kind.REFERENCE_GRANT: (
        "gateway.networking.k8s.io/v1",
        "gateway.networking.k8s.io/v1beta1",
    ),
}
"""The versions of each kind that are read; the first is the one to write."""


def kind_of(api_version: object, kind: object) -> Kind | None:
    """
    Return the kind of an object; None for one that Fairway does not need.

    Raises ValueError, with what to write, for one that is meant but misspelt.
    """
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return _incomplete(api_version, kind)
    named = _BY_NAME.get(kind.lower())
    group = api_version.rpartition("/")[0]
    if named is None:
        if group == "fairway.dev":
            raise ValueError(f"there is no kind {shown(kind)} in fairway.dev; write Route")
        return None
    if api_version in SERVED[named]:
        if kind != named.value:
            raise ValueError(f"there is no kind {shown(kind)}; write {named}")
        return named
    ours = {each.rpartition("/")[0] for each in SERVED[named]}
    if group in ours or group in _FORMER.get(named, ()) or "." not in group:
        raise ValueError(
            f"{shown(api_version)} has no {named} that is read; write {SERVED[named][0]}"
        )
    return None


def _incomplete(api_version: object, kind: object) -> Kind | None:
    if isinstance(kind, str) and kind.lower() in _BY_NAME:
        write = SERVED[_BY_NAME[kind.lower()]][0]
        raise ValueError(f"apiVersion is missing or not text; write {write}")
    if isinstance(api_version, str) and api_version in _VERSIONS_OF_OURS:
        raise ValueError("kind is missing or not text; write, for example, Ingress")
    return None


_BY_NAME = {kind.value.lower(): kind for kind in Kind}
_FORMER = {Kind.INGRESS: ("extensions",)}
_VERSIONS_OF_OURS = frozenset({"networking.k8s.io/v1", "fairway.dev/v1alpha1"})
