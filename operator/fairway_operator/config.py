"""
Operator settings.

One frozen value, made once from the environment and passed down; nothing below
:mod:`fairway_operator.cli` reads ``os.environ``. The string under each field is
its documentation: ``values.schema.json`` and the reference page are made from
here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fairway_operator.labels import parse_selector
from fairway_operator.refs import Kind, ObjectRef
from fairway_snapshot.settings import read_settings

DEFAULT_CONTROLLER = "fairway.dev/ingress-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorConfig:
    """Everything an operator process can be told."""

    instance: str = "operator"
    """This replica's name, as it stands in the Lease; in a cluster the name of the pod."""

    instance_address: str = ""
    """Address at which other replicas reach this one; in a cluster that of the pod."""

    namespace: str = "fairway-system"
    """The operator's own namespace: where its Lease and its two Secrets are."""

    release: str = "fairway"
    """Prefix of the names of Lease and Secrets, so that two releases can share a cluster."""

    kubeconfig: str = ""
    """Path of a kubeconfig file; empty means the pod's service account."""

    controller_name: str = DEFAULT_CONTROLLER
    """Serve the IngressClasses whose ``spec.controller`` is exactly this."""

    assumed_class: str = "fairway"
    """
    The IngressClass taken to be ours where IngressClasses may not be read, which is
    so when the operator is limited to namespaces and has no ClusterRole.
    """

    watch_without_class: bool = False
    """Serve Ingresses and Routes that name no class, too."""

    allow_external_names: bool = True
    """Serve Services of type ExternalName."""

    default_certificate: str = ""
    """
    ``namespace/name`` of the Secret whose certificate answers for every host that has none
    of its own; a self-signed one does while it is empty or there is no such Secret.
    """

    watch_namespaces: tuple[str, ...] = ()
    """Watch these namespaces only, comma separated; empty means all."""

    watch_labels: str = ""
    """
    A Kubernetes label selector that Ingresses and Routes must match, such as
    ``team=shop,env in (live, next)``; empty means all.
    """

    publish_address: str = "0.0.0.0:8600"
    """Where data planes connect for snapshots. Mutual TLS is always on."""

    publish_names: tuple[str, ...] = ()
    """DNS names and addresses at which data planes reach this operator, comma separated."""

    max_subscribers: int = 10_000
    """Refuse further data planes above this number."""

    admin_address: str = "0.0.0.0:9000"
    """Where ``/healthz``, ``/readyz``, ``/metrics`` and ``/debug`` answer."""

    webhook_address: str = ""
    """Where the API server asks whether to take an Ingress or a Route; empty means nowhere."""

    webhook_names: tuple[str, ...] = ()
    """DNS names at which the API server reaches the webhook, comma separated."""

    webhook_configuration: str = ""
    """
    The ValidatingWebhookConfiguration in which the leader keeps the authority that the
    webhook's certificate comes from; empty means none.
    """

    status_service: str = ""
    """``namespace/name`` of the Service whose load-balancer address Ingress status shows."""

    status_addresses: tuple[str, ...] = ()
    """Addresses or host names for Ingress status, comma separated; before ``status_service``."""

    status_node_labels: str = ""
    """Label selector of nodes whose addresses Ingress status shows, when nothing else is set."""

    settle_seconds: float = 0.05
    """Quiet time that ends a burst of events, so that the burst makes one snapshot."""

    settle_limit_seconds: float = 0.5
    """Compile after this long even if events keep coming."""

    resync_seconds: float = 600.0
    """How often every kind is listed again; jittered by a tenth."""

    confirm_seconds: float = 5.0
    """How long a suspiciously empty list waits for the second list that must confirm it."""

    lease_seconds: float = 15.0
    """How long a silent leader is respected."""

    lease_renew_seconds: float = 10.0
    """A leader that could not renew for this long stops writing."""

    lease_retry_seconds: float = 2.0
    """Time between two attempts to take or to renew the Lease."""

    outbox_rate: float = 100.0
    """
    Most writes of status and events in a second, over all objects. Halved when the API
    server says that it has too much to do (429, 503, 504), and back within 30 s.
    """

    outbox_burst: int = 200
    """Writes that may go out at once after a quiet time."""

    authority_days: float = 365.0
    """Life of a certificate authority; the next one is trusted after two thirds of it."""

    authority_overlap_days: float = 7.0
    """How long a new authority is trusted before it signs, so that every data plane knows it."""

    certificate_days: float = 30.0
    """Life of the certificates of operators and data planes; renewed after two thirds of it."""

    drain_seconds: float = 5.0
    """How long open streams may take to end after SIGTERM."""

    log_level: str = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""

    def __post_init__(self) -> None:
        """Refuse, by ValueError, what cannot work together."""
        _require(
            self.settle_seconds <= self.settle_limit_seconds,
            "settle_seconds must not exceed settle_limit_seconds",
        )
        _require(
            1 <= self.lease_retry_seconds * 1.2 < self.lease_renew_seconds < self.lease_seconds,
            "lease_retry_seconds, lease_renew_seconds and lease_seconds must grow in this order",
        )
        _require(
            self.authority_overlap_days < self.authority_days / 3,
            "authority_overlap_days must be less than a third of authority_days",
        )
        _require(
            self.certificate_days <= self.authority_days / 3,
            "certificate_days must not exceed a third of authority_days",
        )
        _require(
            self.outbox_rate > 0 and self.outbox_burst > 0,
            "outbox_rate and outbox_burst must be positive",
        )
        _require(self.resync_seconds > 0, "resync_seconds must be positive")
        _require(
            self.status_service == "" or self.status_service.count("/") == 1,
            f"status_service is namespace/name, not {self.status_service!r}",
        )
        _require(
            self.default_certificate == "" or _is_qualified(self.default_certificate),
            f"default_certificate is namespace/name, not {self.default_certificate!r}",
        )
        _require(
            self.log_level in ("debug", "info", "warning", "error"),
            f"log_level is debug, info, warning or error, not {self.log_level!r}",
        )
        parse_selector(self.watch_labels)
        for address in (self.publish_address, self.admin_address):
            split_address(address)
        if self.webhook_address:
            split_address(self.webhook_address)

    @property
    def authority_secret(self) -> str:
        """Name of the Secret with the certificate authority; only operators read it."""
        return f"{self.release}-ca"

    @property
    def dataplane_secret(self) -> str:
        """Name of the Secret that data-plane pods mount: tls.crt, tls.key, ca.crt."""
        return f"{self.release}-dataplane-tls"

    @property
    def field_manager(self) -> str:
        """Field manager of status; one for each controller name, so that none undoes another's."""
        if self.controller_name == DEFAULT_CONTROLLER:
            return "fairway-operator"
        return f"fairway-operator {self.controller_name}"[:128]

    @property
    def default_certificate_secret(self) -> ObjectRef | None:
        """The Secret of ``default_certificate``, if one is set."""
        namespace, _, name = self.default_certificate.partition("/")
        return ObjectRef(Kind.SECRET, namespace, name) if name else None

    @property
    def lease_name(self) -> str:
        """Name of the Lease whose holder writes status."""
        return f"{self.release}-operator"


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def config_from_env(environ: Mapping[str, str]) -> OperatorConfig:
    """Read ``FAIRWAY__*``; raises ValueError as :func:`read_settings` does."""
    return read_settings(OperatorConfig, environ)


def _is_qualified(name: str) -> bool:
    return name.count("/") == 1 and all(name.partition("/"))


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads like assert
    if not holds:
        raise ValueError(message)
