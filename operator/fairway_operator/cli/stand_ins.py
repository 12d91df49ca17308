"""
What files leave out because a cluster would have it.

People keep their Ingresses in one place and their Services, classes and
Secrets in another. So that what they have works at once, these rules fill the
gaps, the same for every command that reads files, and say so:

- Classes. If no IngressClass in the files is ours, every class counts as ours,
  also that of an Ingress that names none. If one is, classes are taken at their
  word, and the default one is filled in as the API server would.
- Services. In a namespace without a single Service in the files, each Service
  that a backend names stands in with the ports that are asked for. A namespace
  that has Services is taken at its word: a name that is not there is a mistake.

Bodies may have any shape here; what makes no sense is left to the decoder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fairway_operator.cli.manifests import Manifest, Manifests
from fairway_operator.cli.problems import Problem
from fairway_operator.compiler import CONTROLLER_NAME
from fairway_operator.findings import Severity
from fairway_operator.refs import Kind, ObjectRef

OUR_CLASS = "fairway"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
DEFAULT_CLASS_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Completed:
    """Objects as a cluster would hold them."""

    bodies: Mapping[ObjectRef, Body]
    services: frozenset[ObjectRef]
    """Services that stand in."""
    notes: tuple[Problem, ...]


def complete(manifests: Manifests) -> Completed:
    """Fill what the files leave out."""
    bodies: dict[ObjectRef, Body] = {
        ref: manifest.body for ref, manifest in manifests.objects.items()
    }
    entries = [*manifests.of_kind(Kind.INGRESS), *manifests.of_kind(Kind.ROUTE)]
    notes = [*_fill_classes(manifests, entries, bodies)]
    services = _missing_services(manifests, entries)
    for ref, (ports, manifest, field) in services.items():
        bodies[ref] = _service(ref, ports)
        notes.append(
            _note(
                manifest,
                field,
                f"Service {ref.namespace}/{ref.name} is not in the files,"
                " nor is any other of its namespace; one stands in",
            )
        )
    return Completed(bodies, frozenset(services), tuple(notes))


def _fill_classes(
    manifests: Manifests, entries: list[Manifest], bodies: dict[ObjectRef, Body]
) -> Iterator[Problem]:
    classes = list(manifests.of_kind(Kind.INGRESS_CLASS))
    ours = [each for each in classes if look(each.body, "spec", "controller") == CONTROLLER_NAME]
    if ours:
        default = next(filter(_is_default, reversed(classes)), None)
        if default is not None:
            for entry in entries:
                if entry.ref.kind is Kind.INGRESS and _class_of(entry) is None:
                    bodies[entry.ref] = _with_class(entry.body, default.ref.name)
        return
    names = {OUR_CLASS}
    for entry in entries:
        name = _class_of(entry)
        if name is None and entry.ref.kind is Kind.INGRESS:
            bodies[entry.ref] = _with_class(entry.body, OUR_CLASS)
        elif name is not None and name not in names:
            names.add(name)
            yield _note(
                entry,
                "spec.ingressClassName",
                f"no IngressClass of ours is in the files; the class {name!r} counts as ours",
            )
    for name in names:
        bodies[ObjectRef(Kind.INGRESS_CLASS, "", name)] = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": name},
            "spec": {"controller": CONTROLLER_NAME},
        }


def _class_of(entry: Manifest) -> str | None:
    for value in (
        look(entry.body, "spec", "ingressClassName"),
        look(entry.body, "metadata", "annotations", CLASS_ANNOTATION),
    ):
        if isinstance(value, str) and value:
            return value
    return None


def _is_default(manifest: Manifest) -> bool:
    mark = look(manifest.body, "metadata", "annotations", DEFAULT_CLASS_ANNOTATION)
    return isinstance(mark, str) and mark == "true"


def _with_class(body: Body, name: str) -> Body:
    spec = body.get("spec")
    if not isinstance(spec, dict):
        return body
    return {**body, "spec": {**spec, "ingressClassName": name}}


_Wanted = dict[ObjectRef, tuple[list[int | str], Manifest, str]]
"""Service to the ports that are asked for, and where it is first named."""


def _missing_services(manifests: Manifests, entries: list[Manifest]) -> _Wanted:
    peopled = {manifest.ref.namespace for manifest in manifests.of_kind(Kind.SERVICE)}
    wanted: _Wanted = {}
    for entry in entries:
        for ref, port, field in _backends(entry):
            if ref.namespace not in peopled:
                ports, _, _ = wanted.setdefault(ref, ([], entry, field))
                if port not in ports:
                    ports.append(port)
    return wanted


def _backends(entry: Manifest) -> Iterator[tuple[ObjectRef, int | str, str]]:
    named = _ingress_backends if entry.ref.kind is Kind.INGRESS else _route_backends
    for name, namespace, port, field in named(entry.body):
        space = entry.ref.namespace if namespace is None else namespace
        if isinstance(name, str) and isinstance(space, str) and name and space and _is_port(port):
            yield ObjectRef(Kind.SERVICE, space, name), port, field


_Named = Iterator[tuple[Any, Any, Any, str]]


def _ingress_backends(body: Body) -> _Named:
    places = [(look(body, "spec", "defaultBackend"), "spec.defaultBackend")]
    for at, rule in enumerate(_items(look(body, "spec", "rules"))):
        for index, path in enumerate(_items(look(rule, "http", "paths"))):
            field = f"spec.rules[{at}].http.paths[{index}].backend"
            places.append((look(path, "backend"), field))
    for backend, field in places:
        port = look(backend, "service", "port", "number") or look(
            backend, "service", "port", "name"
        )
        yield look(backend, "service", "name"), None, port, f"{field}.service.name"


def _route_backends(body: Body) -> _Named:
    for at, rule in enumerate(_items(look(body, "spec", "rules"))):
        for index, backend in enumerate(_items(look(rule, "backendRefs"))):
            field = f"spec.rules[{at}].backendRefs[{index}]"
            namespace = look(backend, "namespace")
            yield look(backend, "name"), namespace, look(backend, "port"), f"{field}.name"


def _is_port(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, str) or (isinstance(value, int) and 0 < value < 65536)


def _service(ref: ObjectRef, ports: list[int | str]) -> Body:
    numbers = {port for port in ports if isinstance(port, int)}
    free = (number for number in range(80, 65536) if number not in numbers)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "spec": {
            "ports": [
                {"name": f"port-{port}", "port": port}
                if isinstance(port, int)
                else {"name": port, "port": next(free)}
                for port in ports
            ]
        },
    }


def look(value: object, *keys: str) -> Any:
    """Return what the keys lead to; None when it is not there or something else stands there."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _note(manifest: Manifest, field: str, message: str) -> Problem:
    return Problem(
        severity=Severity.INFO,
        reason="StandIn",
        message=message,
        place=manifest.place(field),
        object=manifest.ref,
        field=field,
    )
