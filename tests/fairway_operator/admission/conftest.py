"""The API server's side of a review: what it knows, and what it asks."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from fairway_operator.admission.review import (
    AdmissionRequest,
    Verdict,
    decode_review,
    encode_answer,
    review,
)
from fairway_operator.compiler import Compilation, Compiler, CompilerSettings
from fairway_operator.labels import parse_selector
from fairway_operator.refs import Kind
from fairway_operator.resources import decode
from fairway_operator.world import EMPTY

Body = dict[str, Any]

CLASS: Body = {
    "kind": "IngressClass",
    "metadata": {"name": "fairway"},
    "spec": {"controller": "fairway.dev/ingress-controller"},
}
VERSIONS = {"Ingress": "networking.k8s.io/v1", "Route": "fairway.dev/v1alpha1"}


class Objects:
    """Builds bodies. A name is ``namespace/name`` or a name in ``shop``."""

    def metadata(self, name: str, **more: Any) -> Body:
        namespace, _, short = name.rpartition("/")
        made = {"name": short, "namespace": namespace or "shop", "uid": f"uid-{name}"}
        return made | {"creationTimestamp": "2026-06-01T00:00:00Z"} | more

    def service(self, name: str) -> Body:
        spec = {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
        return {"kind": "Service", "metadata": self.metadata(name), "spec": spec}

    def ingress(
        self,
        name: str,
        *paths: str,
        host: str = "a.example",
        backend: str = "web",
        cls: str | None = "fairway",
        tls: str | None = None,
        **more: Any,
    ) -> Body:
        """``more`` is metadata."""
        to = {"service": {"name": backend, "port": {"number": 80}}}
        entries = [{"path": path, "pathType": "Prefix", "backend": to} for path in paths]
        spec: Body = {"rules": [{"host": host, "http": {"paths": entries}}]}
        if cls is not None:
            spec["ingressClassName"] = cls
        if tls is not None:
            spec["tls"] = [{"hosts": [host], "secretName": tls}]
        return {"kind": "Ingress", "metadata": self.metadata(name, **more), "spec": spec}

    def route(self, name: str, *rules: Body, cls: str = "fairway", **more: Any) -> Body:
        spec = {"ingressClassName": cls, "hosts": ["a.example"], "rules": list(rules)}
        return {"kind": "Route", "metadata": self.metadata(name, **more), "spec": spec}

    def rule(self, path: str, *filters: Body, kind: str = "PathPrefix") -> Body:
        return {
            "matches": [{"path": {"type": kind, "value": path}}],
            "filters": list(filters),
            "backendRefs": [{"name": "web", "port": 80}],
        }


class Questions:
    """Asks as an API server does."""

    def bytes(self, after: Body, before: Body | None = None, **fields: Any) -> bytes:
        group, _, version = VERSIONS[after["kind"]].partition("/")
        given = after.get("metadata")
        named = given if isinstance(given, dict) else {}
        request = {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": group, "version": version, "kind": after["kind"]},
            "resource": {"group": group, "version": version, "resource": "ingresses"},
            "operation": "CREATE" if before is None else "UPDATE",
            "namespace": named.get("namespace", ""),
            "name": named.get("name", ""),
            "userInfo": {"username": "alice"},
            "object": after,
            "oldObject": before,
            "dryRun": False,
            "options": None,
        } | fields
        asked = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
        return json.dumps(asked).encode()

    def __call__(self, after: Body, before: Body | None = None, **fields: Any) -> AdmissionRequest:
        return decode_review(self.bytes(after, before, **fields))

    def response(self, request: AdmissionRequest, verdict: Verdict) -> Body:
        """Return the response as the API server reads it."""
        response: Body = json.loads(encode_answer(request, verdict))["response"]
        return response


class Cluster:
    """A compiler that has seen some objects, and the questions to it."""

    def __init__(self, bodies: Iterable[Body], **settings: Any) -> None:
        self.compiler = Compiler(CompilerSettings(**settings))
        self._ask = Questions()
        world = EMPTY
        for body in bodies:
            world = world.put(decode(Kind(body["kind"]), body))
        self.compilation: Compilation = self.compiler.compile(world)

    def create(self, body: Body) -> Verdict:
        return self.judge(self._ask(body))

    def update(self, before: Body, after: Body) -> Verdict:
        return self.judge(self._ask(after, before))

    def judge(
        self, request: AdmissionRequest, namespaces: tuple[str, ...] = (), labels: str = ""
    ) -> Verdict:
        selector = parse_selector(labels)
        return review(request, self.compiler, namespaces=namespaces, selector=selector)


class Clusters:
    """Makes clusters with our class, a Service ``shop/web``, and these objects."""

    def __call__(self, *bodies: Body, **settings: Any) -> Cluster:
        return Cluster((CLASS, Objects().service("web"), *bodies), **settings)

    def bare(self, *bodies: Body, **settings: Any) -> Cluster:
        """Without the Service."""
        return Cluster((CLASS, *bodies), **settings)


@pytest.fixture(scope="session")
def objects() -> Objects:
    return Objects()


@pytest.fixture(scope="session")
def ask() -> Questions:
    return Questions()


@pytest.fixture(scope="session")
def clusters() -> Clusters:
    return Clusters()
