"""
What the chart can be told: one table, from which its schema and its README are made.

The rows of settings come from the programs' own configuration, so that a new
setting is a new value of the chart without another word. Everything not in the
table is refused: a misspelt value must not be a default.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml

from e2e.places import CHART
from fairway_dataplane.config import DataplaneConfig
from fairway_operator.config import OperatorConfig
from fairway_snapshot.settings import Setting, describe

Schema = dict[str, Any]

SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by `make docs` -->\n", "<!-- end of values -->\n"

TEXT: Schema = {"type": "string"}
NAME: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
AT_LEAST_ONE: Schema = {"type": "integer", "minimum": 1}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
NODE_PORT: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": 65535}
COUNT_OR_PERCENT: Schema = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%$"}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
QUANTITY: Schema = {"type": "string", "pattern": "^[0-9]+([KMG]i?)?$"}
TEXTS: Schema = {"type": "array", "items": TEXT}
STRING_MAP: Schema = {"type": "object", "additionalProperties": TEXT}
OBJECT: Schema = {"type": "object"}
"""Of Kubernetes' own form, which the API server checks better than a copy here could."""
OBJECTS: Schema = {"type": "array", "items": OBJECT}


def one_of(*values: str) -> Schema:
    """Return the schema of a closed set."""
    return {"type": "string", "enum": list(values)}


@dataclass(frozen=True, slots=True)
class Row:
    """One value of the chart."""

    path: str
    schema: Schema
    doc: str


def _placement(component: str) -> Iterator[Row]:
    """Yield what both kinds of pods have."""
    yield Row(f"{component}.resources", OBJECT, "Requests and limits of the container.")
    account = f"{component}.serviceAccount"
    yield Row(f"{account}.create", FLAG, "Make a service account.")
    yield Row(f"{account}.name", NAME, "Its name; empty: one made from the release's.")
    yield Row(f"{account}.annotations", STRING_MAP, "Its annotations.")
    budget = f"{component}.podDisruptionBudget"
    yield Row(f"{budget}.enabled", FLAG, "Limit how many pods a drained node may take away.")
    yield Row(f"{budget}.maxUnavailable", COUNT_OR_PERCENT, "That limit: a number, or `50%`.")
    yield Row(f"{component}.podLabels", STRING_MAP, "Further labels of the pods.")
    yield Row(f"{component}.podAnnotations", STRING_MAP, "Annotations of the pods.")
    yield Row(f"{component}.extraEnv", OBJECTS, "Further environment variables.")
    yield Row(f"{component}.extraVolumes", OBJECTS, "Further volumes of the pods.")
    yield Row(f"{component}.extraVolumeMounts", OBJECTS, "Where the container has them.")
    yield Row(f"{component}.nodeSelector", STRING_MAP, "Labels of the nodes to run on.")
    yield Row(f"{component}.tolerations", OBJECTS, "Taints to run in spite of.")
    yield Row(f"{component}.affinity", OBJECT, "Affinity of the pods.")
    yield Row(
        f"{component}.topologySpreadConstraints",
        OBJECTS,
        "How pods spread; empty: over nodes and zones where possible.",
    )
    yield Row(f"{component}.priorityClassName", NAME, "Priority class of the pods.")


ROWS: tuple[Row, ...] = (
    Row("nameOverride", NAME, "Stands for the chart's name in labels and names."),
    Row("fullnameOverride", NAME, "Stands for the prefix of all names."),
    Row("image.repository", {**TEXT, "minLength": 1}, "The image of both programs."),
    Row("image.tag", TEXT, "Its tag; empty: the chart's `appVersion`."),
    Row(
        "image.digest",
        {**TEXT, "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "Its digest, which stands above the tag.",
    ),
    Row("image.pullPolicy", one_of("IfNotPresent", "Always", "Never"), "When to pull it."),
    Row("imagePullSecrets", OBJECTS, "Secrets for the registry, as `[{name: ...}]`."),
    Row(
        "podSecurityContext",
        OBJECT,
        "Of all pods. Where the platform assigns users (OpenShift), set `runAsUser`, "
        "`runAsGroup` and `fsGroup` to `null`.",
    ),
    Row("securityContext", OBJECT, "Of all containers."),
    Row("commonLabels", STRING_MAP, "Labels of every object."),
    Row("commonAnnotations", STRING_MAP, "Annotations of every object."),
    Row(
        "controllerName",
        {**TEXT, "minLength": 1},
        "`spec.controller` of the IngressClasses to serve. A second release beside another one "
        "needs a name of its own.",
    ),
    Row("ingressClass.create", FLAG, "Make an IngressClass."),
    Row(
        "ingressClass.name",
        {**NAME, "minLength": 1},
        "Its name. Where the operator may not read IngressClasses, it takes this one for its own.",
    ),
    Row("ingressClass.default", FLAG, "Make it the class of Ingresses that name none."),
    Row("ingressClass.annotations", STRING_MAP, "Its annotations."),
    Row(
        "aggregateRoles",
        FLAG,
        "Make Routes part of the roles `view`, `edit` and `admin` that users have in their "
        "namespaces. Never with `operator.watchNamespaces`.",
    ),
    Row("publish.addresses", TEXTS, "Addresses or host names for the status of Ingresses."),
    Row(
        "publish.nodeLabels",
        TEXT,
        "Without addresses: those of the nodes that this label selector finds.",
    ),
    Row(
        "publish.service",
        FLAG,
        "Without both: the load balancer of `dataplane.service`.",
    ),
    Row("operator.replicas", AT_LEAST_ONE, "All serve data planes; one of them writes status."),
    Row(
        "operator.watchNamespaces",
        {"type": "array", "items": {**NAME, "minLength": 1}, "uniqueItems": True},
        "Serve these namespaces only, by Roles in them; empty: all. They must exist. A ClusterRole "
        "is left for `ingressClass.create`, `webhook.enabled` and `publish.nodeLabels` alone.",
    ),
    Row("operator.service.annotations", STRING_MAP, "Annotations of the stream's Service."),
    *_placement("operator"),
    Row("dataplane.kind", one_of("Deployment", "DaemonSet"), "What runs the data planes."),
    Row("dataplane.replicas", COUNT, "Pods of a Deployment, unless autoscaling is on."),
    Row(
        "dataplane.updateStrategy",
        OBJECT,
        "How pods are replaced; empty: each by one that is ready, or, where two cannot have the "
        "ports of one node, one after the other.",
    ),
    Row("dataplane.minReadySeconds", COUNT, "How long a new pod must be ready to count."),
    Row("dataplane.workers", AT_LEAST_ONE, "Worker processes of a pod: one for each CPU."),
    Row(
        "dataplane.preStopSeconds",
        COUNT,
        "How long a pod that ends goes on as before, so that load balancers can leave it.",
    ),
    Row(
        "dataplane.drainSeconds",
        COUNT,
        "How long requests in flight may take after that. The pod's grace period is the sum of "
        "both and 5 s.",
    ),
    Row(
        "dataplane.hostNetwork",
        FLAG,
        "Use the node's network: ports 8080, 8443 and 9000 of the node. No network policy holds "
        "there: `dataplane.settings.adminBindAddress: 127.0.0.1` keeps 9000 to the node. Not "
        "allowed by Pod Security `restricted`.",
    ),
    Row("dataplane.hostPorts.enabled", FLAG, "Map ports of the node to the pods."),
    Row("dataplane.hostPorts.http", PORT, "The node's port for HTTP."),
    Row("dataplane.hostPorts.https", PORT, "The node's port for HTTPS."),
    Row(
        "dataplane.state.sizeLimit",
        QUANTITY,
        "Memory for the last good snapshot; counts as the container's memory.",
    ),
    Row("dataplane.service.enabled", FLAG, "Make a Service in front of the data planes."),
    Row(
        "dataplane.service.type",
        one_of("LoadBalancer", "NodePort", "ClusterIP"),
        "Type of that Service.",
    ),
    Row("dataplane.service.annotations", STRING_MAP, "Its annotations."),
    Row("dataplane.service.labels", STRING_MAP, "Its labels."),
    Row("dataplane.service.clusterIP", TEXT, "A fixed address; `None` for a headless Service."),
    Row("dataplane.service.externalIPs", TEXTS, "Addresses of nodes that it answers at."),
    Row(
        "dataplane.service.externalTrafficPolicy",
        one_of("Cluster", "Local"),
        "`Local` keeps the client's address.",
    ),
    Row(
        "dataplane.service.sessionAffinity",
        one_of("None", "ClientIP"),
        "`ClientIP`: one client, one pod.",
    ),
    Row("dataplane.service.loadBalancerClass", TEXT, "Class of the load balancer."),
    Row(
        "dataplane.service.loadBalancerIP",
        TEXT,
        "A fixed address, where the cloud still reads this field and no annotation.",
    ),
    Row(
        "dataplane.service.allocateLoadBalancerNodePorts",
        FLAG,
        "Off, where the load balancer reaches pods without ports of the nodes.",
    ),
    Row("dataplane.service.loadBalancerSourceRanges", TEXTS, "Who may use the load balancer."),
    Row(
        "dataplane.service.ipFamilyPolicy",
        one_of("", "SingleStack", "PreferDualStack", "RequireDualStack"),
        "IPv4, IPv6 or both.",
    ),
    Row(
        "dataplane.service.ipFamilies",
        {"type": "array", "items": one_of("IPv4", "IPv6"), "maxItems": 2},
        "Which, and which first; empty: the cluster's.",
    ),
    Row("dataplane.service.http.port", PORT, "The Service's port for HTTP."),
    Row("dataplane.service.http.nodePort", NODE_PORT, "A fixed port of the nodes for HTTP."),
    Row("dataplane.service.https.port", PORT, "The Service's port for HTTPS."),
    Row("dataplane.service.https.nodePort", NODE_PORT, "A fixed port of the nodes for HTTPS."),
    Row("dataplane.autoscaling.enabled", FLAG, "Scale the Deployment by its use."),
    Row("dataplane.autoscaling.minReplicas", AT_LEAST_ONE, "Fewest pods."),
    Row("dataplane.autoscaling.maxReplicas", AT_LEAST_ONE, "Most pods."),
    Row(
        "dataplane.autoscaling.targetCPUUtilizationPercentage",
        COUNT,
        "Use of the requested CPU to aim at; 0: not by CPU.",
    ),
    Row(
        "dataplane.autoscaling.targetMemoryUtilizationPercentage",
        COUNT,
        "Use of the requested memory to aim at; 0: not by memory.",
    ),
    Row("dataplane.autoscaling.metrics", OBJECTS, "Further metrics to scale by."),
    Row("dataplane.autoscaling.behavior", OBJECT, "`behavior` of the HorizontalPodAutoscaler."),
    *_placement("dataplane"),
    Row(
        "webhook.enabled",
        FLAG,
        "Refuse Ingresses and Routes that cannot compile, and warn of conflicts, when they are "
        "written.",
    ),
    Row(
        "webhook.failurePolicy",
        one_of("Ignore", "Fail"),
        "What becomes of objects while no operator answers. With `Fail` nobody can write an "
        "Ingress or a Route then.",
    ),
    Row(
        "webhook.timeoutSeconds",
        {"type": "integer", "minimum": 1, "maximum": 30},
        "How long the API server waits for an answer.",
    ),
    Row(
        "webhook.objectSelector",
        OBJECT,
        "Ask about objects with these labels only, as a LabelSelector; say the same in "
        "`operator.settings.watchLabels`.",
    ),
    Row("networkPolicy.enabled", FLAG, "Let in what belongs in and nothing else."),
    Row(
        "networkPolicy.metricsFrom",
        OBJECTS,
        "Who may reach the admin ports, as peers of a NetworkPolicy; empty: everybody.",
    ),
    Row(
        "networkPolicy.allowEgress",
        FLAG,
        "Let everything out, for namespaces in which another policy forbids what none allows.",
    ),
    Row("metrics.service.enabled", FLAG, "Make headless Services for `/metrics`."),
    Row("metrics.service.annotations", STRING_MAP, "Their annotations."),
    Row("metrics.serviceMonitor.enabled", FLAG, "Make a ServiceMonitor for them."),
    Row("metrics.serviceMonitor.labels", STRING_MAP, "Labels by which Prometheus finds it."),
    Row("metrics.serviceMonitor.interval", DURATION, "Time between two scrapes."),
    Row("metrics.serviceMonitor.scrapeTimeout", DURATION, "Limit of one scrape."),
    Row("metrics.serviceMonitor.relabelings", OBJECTS, "Relabelings of targets."),
    Row("metrics.serviceMonitor.metricRelabelings", OBJECTS, "Relabelings of samples."),
)

_OWN_OPERATOR_SETTINGS = frozenset(
    {
        *("instance", "instance_address", "namespace", "release", "kubeconfig"),
        *("controller_name", "assumed_class", "watch_namespaces", "publish_names"),
        *("publish_address", "admin_address"),
        *("webhook_address", "webhook_names", "webhook_configuration"),
        *("status_service", "status_addresses", "status_node_labels"),
    }
)
"""What the chart sets by itself or by another value."""
_OWN_DATAPLANE_SETTINGS = frozenset(
    {
        *("instance", "operators", "state_directory", "workers", "drain_seconds"),
        *("http_port", "https_port", "admin_port"),
        *("stream_certificate", "stream_key", "stream_authority", "stream_server_name"),
    }
)


def schema() -> str:
    """Return ``values.schema.json``."""
    whole: Schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart fairway",
        **_closed(),
    }
    for row in (*ROWS, *_settings()):
        _put(whole, row)
    # helm gives every chart that is used by another one these two.
    whole["properties"]["global"] = OBJECT
    whole["properties"]["enabled"] = FLAG
    return json.dumps(whole, indent=2) + "\n"


def readme() -> str:
    """Return ``README.md`` with fresh tables."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ["| value | default | what |", "|---|---|---|"]
    lines += [f"| `{row.path}` | {_default(row.path, defaults)} | {row.doc} |" for row in ROWS]
    lines += ["", "Settings of the programs, passed on as environment variables:", ""]
    lines += ["| value | what |", "|---|---|"]
    lines += [f"| `{row.path}` | {row.doc} |" for row in _settings()]
    table = "\n".join(lines) + "\n"
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _settings() -> Iterator[Row]:
    for component, config, own in (
        ("operator", OperatorConfig, _OWN_OPERATOR_SETTINGS),
        ("dataplane", DataplaneConfig, _OWN_DATAPLANE_SETTINGS),
    ):
        for setting in describe(config):
            if setting.path[0] not in own:
                path = ".".join(_camel(name) for name in setting.path)
                yield Row(f"{component}.settings.{path}", _schema_of(setting), _doc(setting))


def _camel(name: str) -> str:
    """Return the name as the chart has it; ``_helpers.tpl`` goes the other way."""
    first, *rest = name.split("_")
    assert all(part[:1].isalpha() for part in rest), f"{name} would not come back"
    return first + "".join(part.capitalize() for part in rest)


def _schema_of(setting: Setting) -> Schema:
    kind = setting.kind
    if get_origin(kind) is Literal:
        return one_of(*get_args(kind))
    if get_origin(kind) is tuple:
        return TEXTS
    kinds = [part for part in get_args(kind) or (kind,) if part is not type(None)]
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[kinds[0]]}


def _doc(setting: Setting) -> str:
    text = " ".join(setting.doc.replace("``", "`").split())
    return text.replace("|", "\\|")


def _put(whole: Schema, row: Row) -> None:
    *groups, name = row.path.split(".")
    at = whole
    for group in groups:
        at = at["properties"].setdefault(group, _closed())
    at["properties"][name] = {"description": row.doc, **row.schema}


def _closed() -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _default(path: str, defaults: Mapping[str, Any]) -> str:
    value: Any = defaults
    for name in path.split("."):
        value = value[name]
    text = "" if value in ("", None) else json.dumps(value).strip('"')
    return f"`{text}`" if text else "none"


if __name__ == "__main__":
    sys.stdout.write(schema())
