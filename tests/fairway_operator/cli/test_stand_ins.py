"""What files leave out, and when it is filled in."""

import textwrap

import pytest

from fairway_operator.cli.manifests import merge, parse
from fairway_operator.cli.stand_ins import Completed, complete
from fairway_operator.refs import Kind, ObjectRef

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  CLASS
  defaultBackend: {service: {name: web, port: {name: http}}}
  rules:
    - http:
        paths:
          - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
          - {path: /x, pathType: Prefix, backend: BACKEND}
"""
CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: NAME, annotations: {ingressclass.kubernetes.io/is-default-class: "DEFAULT"}}
spec: {controller: CONTROLLER}
"""
OURS = "fairway.dev/ingress-controller"


def ingress(class_line: str = "", backend: str = "{}") -> str:
    return INGRESS.replace("CLASS", class_line).replace("BACKEND", backend)


def ingress_class(name: str, controller: str, *, default: bool = False) -> str:
    text = CLASS.replace("NAME", name).replace("CONTROLLER", controller)
    return text.replace("DEFAULT", str(default).lower())


def completed(*documents: str) -> Completed:
    return complete(merge([parse("all.yaml", "---".join(map(textwrap.dedent, documents)))]))


def served_classes(found: Completed) -> set[str]:
    return {
        ref.name
        for ref, body in found.bodies.items()
        if ref.kind is Kind.INGRESS_CLASS and body["spec"]["controller"] == OURS
    }


def class_of(found: Completed) -> str | None:
    spec = found.bodies[ObjectRef(Kind.INGRESS, "shop", "web")]["spec"]
    name: str | None = spec.get("ingressClassName")
    return name


def test_without_a_class_of_ours_every_class_counts() -> None:
    found = completed(
        ingress("ingressClassName: nginx"), ingress_class("nginx", "k8s.io/ingress-nginx")
    )

    assert served_classes(found) == {"nginx", "fairway"}


def test_without_a_class_of_ours_an_ingress_without_one_counts() -> None:
    assert class_of(completed(ingress())) == "fairway"


def test_with_a_class_of_ours_classes_are_taken_at_their_word() -> None:
    found = completed(
        ingress("ingressClassName: nginx"),
        ingress_class("nginx", "k8s.io/ingress-nginx"),
        ingress_class("edge", OURS),
    )

    assert served_classes(found) == {"edge"}


@pytest.mark.parametrize(("default", "name"), [(True, "edge"), (False, None)])
def test_the_default_class_is_filled_in_as_the_api_server_would(
    default: bool,  # noqa: FBT001 - a column
    name: str | None,
) -> None:
    assert class_of(completed(ingress(), ingress_class("edge", OURS, default=default))) == name


def test_services_stand_in_where_a_namespace_has_none() -> None:
    found = completed(ingress())

    (ref,) = found.services
    assert ref == ObjectRef(Kind.SERVICE, "shop", "web")
    assert found.bodies[ref]["spec"]["ports"] == [
        {"name": "http", "port": 81},
        {"name": "port-80", "port": 80},
    ]
    assert any("Service shop/web is not in the files" in note.message for note in found.notes)


def test_a_namespace_with_services_is_taken_at_its_word() -> None:
    other = "\napiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: shop}\n"

    assert completed(ingress(), other).services == frozenset()


@pytest.mark.parametrize(
    "backend",
    ["{}", "[]", "null", "7", "{service: []}", "{service: {name: 7, port: {number: true}}}"],
)
def test_nonsense_is_left_to_the_decoder(backend: str) -> None:
    assert len(completed(ingress(backend=backend)).services) == 1
