"""Where the API server keeps each kind."""

from dataclasses import dataclass

from fairway_operator.refs import CLUSTER_SCOPED, Kind, ObjectRef


@dataclass(frozen=True, slots=True)
class KindPath:
    """Group, version and plural of a kind."""

    group: str
    version: str
    plural: str

    @property
    def root(self) -> str:
        """Path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


KIND_PATHS: dict[Kind, KindPath] = {
    Kind.INGRESS: KindPath("networking.k8s.io", "v1", "ingresses"),
    Kind.INGRESS_CLASS: KindPath("networking.k8s.io", "v1", "ingressclasses"),
    Kind.ROUTE: KindPath("fairway.dev", "v1alpha1", "routes"),
    Kind.SERVICE: KindPath("", "v1", "services"),
    Kind.ENDPOINT_SLICE: KindPath("discovery.k8s.io", "v1", "endpointslices"),
    Kind.SECRET: KindPath("", "v1", "secrets"),
    Kind.REFERENCE_GRANT: KindPath("gateway.networking.k8s.io", "v1beta1", "referencegrants"),
}

OPTIONAL_KINDS = frozenset({Kind.ROUTE, Kind.REFERENCE_GRANT})
"""Kinds of custom resources; a cluster that does not know them has none of them."""

FIELD_SELECTORS = {Kind.SECRET: "type=kubernetes.io/tls"}
"""What the API server should leave out: tokens and passwords are not our business."""

LABELLED_KINDS = frozenset({Kind.INGRESS, Kind.ROUTE})
"""Kinds that ``watch_labels`` applies to; what they refer to need not carry the labels."""


def collection_path(kind: Kind, namespace: str = "") -> str:
    """Return the path of all objects of a kind, or of those in one namespace."""
    at = KIND_PATHS[kind]
    if namespace and kind not in CLUSTER_SCOPED:
        return f"{at.root}/namespaces/{namespace}/{at.plural}"
    return f"{at.root}/{at.plural}"


def object_path(ref: ObjectRef) -> str:
    """Return the path of one object."""
    return f"{collection_path(ref.kind, ref.namespace)}/{ref.name}"


def secret_path(namespace: str, name: str = "") -> str:
    """Return the path of a Secret, or of all in a namespace."""
    path = collection_path(Kind.SECRET, namespace)
    return f"{path}/{name}" if name else path


def lease_path(namespace: str, name: str = "") -> str:
    """Return the path of a Lease, or of all in a namespace."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    return f"{path}/{name}" if name else path


def pods_path(namespace: str, name: str = "") -> str:
    """Return the path of a Pod, or of all in a namespace."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return f"{path}/{name}" if name else path


def webhook_path(name: str) -> str:
    """Return the path of a ValidatingWebhookConfiguration."""
    return f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}"


def event_path(namespace: str, name: str = "") -> str:
    """Return the path of an Event (events.k8s.io/v1), or of all in a namespace."""
    path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    return f"{path}/{name}" if name else path
