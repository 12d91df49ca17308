"""The smallest objects that make a story: backends, Ingresses, Routes, certificates."""

import base64
import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from e2e.kubectl import Body, image

PROGRAM = Path(__file__).parent / "backend.py"
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
UNCONTAINED = {"runAsUser": 0, "runAsNonRoot": False, "capabilities": {"add": ["NET_ADMIN"]}}


class Ending(StrEnum):
    """How the pods of a backend end."""

    AFTER_HOOK = "after-hook"
    """As every server behind a load balancer should: first be forgotten, then end."""
    AT_ONCE = "at-once"
    """No preStop hook, and no answer to what is being asked when SIGTERM comes."""
    SILENT = "silent"
    """As above, and the address swallows packets from then on; not in a restricted namespace."""


def program() -> Body:
    """Return the ConfigMap with the backend's program."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "backend"},
        "data": {PROGRAM.name: PROGRAM.read_text()},
    }


def backend(
    app: str, *, replicas: int = 1, version: str = "1", ending: Ending = Ending.AFTER_HOOK
) -> tuple[Body, Body]:
    """Return a Deployment and its Service on port 80, named ``http``."""
    environment = {"APP": app, "VERSION": version, "ENDING": ending}
    hook = {"lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}
    container = {
        "name": "backend",
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", f"/app/{PROGRAM.name}"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": "web", "containerPort": 8000}],
        # Patient: a machine that is short of time is not what any scenario is about.
        "readinessProbe": {
            "httpGet": {"path": "/", "port": "web"},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 10,
        },
        **(hook if ending is Ending.AFTER_HOOK else {}),
        "securityContext": UNCONTAINED if ending is Ending.SILENT else CONTAINED,
        "volumeMounts": [{"name": "program", "mountPath": "/app"}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": app},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {
                    "securityContext": RESTRICTED,
                    "automountServiceAccountToken": False,
                    "containers": [container],
                    "volumes": [{"name": "program", "configMap": {"name": "backend"}}],
                },
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": app},
        "spec": {
            "selector": {"app": app},
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}],
        },
    }
    return deployment, service


def ingress(name: str, host: str, app: str, *, secret: str = "") -> Body:
    """Return an Ingress that sends all of a host to a backend."""
    service = {"name": app, "port": {"name": "http"}}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": service}}
    tls = {"tls": [{"hosts": [host], "secretName": secret}]} if secret else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "fairway",
            "rules": [{"host": host, "http": {"paths": [path]}}],
            **tls,
        },
    }


def route(name: str, host: str, weights: dict[str, int]) -> Body:
    """Return a Route that shares a host between backends."""
    refs = [{"name": app, "port": 80, "weight": weight} for app, weight in weights.items()]
    return {
        "apiVersion": "fairway.dev/v1alpha1",
        "kind": "Route",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "fairway",
            "hosts": [host],
            "rules": [{"backendRefs": refs}],
        },
    }


def role_binding(role: str, user: str) -> Body:
    """Return what gives a user a role of the cluster's, in one namespace and nowhere else."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }


@dataclass(frozen=True, slots=True)
class Certified:
    """A self-signed certificate, as a Secret and as what a client sees."""

    secret: Body
    der: bytes


def certified(name: str, host: str) -> Certified:
    """Make a certificate for a host."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    data = {
        "tls.crt": certificate.public_bytes(serialization.Encoding.PEM),
        "tls.key": key_pem,
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    return Certified(secret, certificate.public_bytes(serialization.Encoding.DER))
