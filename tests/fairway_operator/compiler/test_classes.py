"""Whose an object is: classes (C) of the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.refs import Kind
from fairway_snapshot.model import Retry

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects

CLASS_ANNOTATION = "kubernetes.io/ingress.class"


def ingress_class(name: str, controller: str, **spec: Any) -> dict[str, Any]:
    return {
        "kind": "IngressClass",
        "metadata": {"name": name},
        "spec": {"controller": controller, **spec},
    }


@pytest.mark.parametrize(
    ("cls", "annotation", "served"),
    [
        pytest.param("fairway", None, True, id="C1 a class of our controller"),
        pytest.param("edge", None, True, id="C1 whatever its name"),
        pytest.param("nginx", None, False, id="C1 a class of another controller"),
        pytest.param("absent", None, False, id="C1 a name without a class means nothing"),
        pytest.param(None, "fairway", True, id="C2 the annotation counts without the field"),
        pytest.param(None, "nginx", False, id="C2 and may name another's class"),
        pytest.param("nginx", "fairway", False, id="C2 the field goes before the annotation"),
        pytest.param("fairway", "nginx", True, id="C2 in both directions"),
        pytest.param(None, None, False, id="C3 no class at all"),
        pytest.param("Fairway", None, False, id="C7 names are case-sensitive"),
        pytest.param("shouting", None, False, id="C7 controllers are case-sensitive"),
    ],
)
def test_class(
    compiled: Compile, objects: Objects, cls: str | None, annotation: str | None, *, served: bool
) -> None:
    classes = [
        ingress_class("edge", "fairway.dev/ingress-controller"),
        ingress_class("nginx", "k8s.io/ingress-nginx"),
        ingress_class("shouting", "Fairway.dev/ingress-controller"),
    ]
    annotations = {} if annotation is None else {CLASS_ANNOTATION: annotation}

    seen = compiled(
        objects.ingress("i", "x.com ^/ missing:80", cls=cls, annotations=annotations), classes
    )

    assert (len(seen.compilation.serving) == 1) is served
    assert bool(seen.findings()) is served


def test_c3_objects_without_a_class_are_served_where_the_settings_say_so(
    compiled: Compile, objects: Objects
) -> None:
    ingress = objects.ingress("i", "x.com ^/ a:80", cls=None)

    seen = compiled(ingress, objects.web("a"), watch_without_class=True)

    assert seen.ask("x.com/") == "shop/a:80"


def test_c3_a_default_class_does_not_reach_back(compiled: Compile, objects: Objects) -> None:
    default = ingress_class("main", "fairway.dev/ingress-controller")
    default["metadata"]["annotations"] = {"ingressclass.kubernetes.io/is-default-class": "true"}

    seen = compiled(default, objects.ingress("i", "x.com ^/ a:80", cls=None), objects.web("a"))

    assert seen.ask("x.com/") == "404"


def test_c4_which_of_several_default_classes_is_meant_is_for_the_api_server_to_say(
    compiled: Compile, objects: Objects
) -> None:
    classes = [ingress_class(name, "fairway.dev/ingress-controller") for name in ("one", "two")]
    for each in classes:
        each["metadata"]["annotations"] = {"ingressclass.kubernetes.io/is-default-class": "true"}

    seen = compiled(
        classes,
        objects.ingress("given", "given.com ^/ a:80", cls="two"),
        objects.ingress("none", "none.com ^/ a:80", cls=None),
        objects.web("a"),
    )

    assert seen.ask("given.com/") == "shop/a:80"
    assert seen.ask("none.com/") == "404"


def test_c5_a_class_that_goes_withdraws_and_one_that_comes_adopts(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    ingress = objects.ingress("i", "x.com ^/ a:80", cls="late")

    assert steps.put(ingress, objects.web("a")).ask("x.com/") == "404"
    late = ingress_class("late", "fairway.dev/ingress-controller")
    assert steps.put(late).ask("x.com/") == "shop/a:80"
    assert steps.put(ingress_class("late", "other.example/x")).ask("x.com/") == "404"
    assert steps.put(late).ask("x.com/") == "shop/a:80"
    gone = steps.remove(Kind.INGRESS_CLASS, "late")
    assert gone.ask("x.com/") == "404"
    assert len(gone.snapshot.backends) == 0
    assert len(gone.compilation.serving) == 0


def test_c6_parameters_are_reported_on_the_class_and_everything_serves(
    compiled: Compile, objects: Objects
) -> None:
    given = {"apiGroup": "x.example", "kind": "Config", "name": "gone", "scope": "Namespace"}
    ours = ingress_class("fairway", "fairway.dev/ingress-controller", parameters=given)
    theirs = ingress_class("nginx", "k8s.io/ingress-nginx", parameters=given)

    seen = compiled(ours, theirs, objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    assert seen.ask("x.com/") == "shop/a:80"
    (finding,) = seen.findings()
    assert (finding.subject.name, finding.field) == ("fairway", "spec.parameters")


def test_c6_annotations_of_a_class_are_the_defaults_of_its_objects(
    compiled: Compile, objects: Objects
) -> None:
    ours = ingress_class("fairway", "fairway.dev/ingress-controller")
    ours["metadata"]["annotations"] = {
        "fairway.dev/request-timeout": "30s",
        "fairway.dev/retry-attempts": "2",
        "fairway.dev/max-body-size": "8Mi",
    }
    rule = {"backendRefs": [{"name": "a", "port": 80}]}
    own = rule | {"timeouts": {"request": "5s", "connect": "1s"}, "retry": {"codes": [503]}}
    steps = compiled.steps()
    given = {"fairway.dev/request-timeout": "0s"}

    seen = steps.put(
        ours,
        objects.ingress("i", "silent.com ^/ a:80"),
        objects.ingress("j", "says.com ^/ a:80", annotations=given),
        objects.route("r", rule, hosts=["silent.route"]),
        objects.route("s", own, hosts=["says.route"]),
        objects.web("a"),
    )

    found = {host: seen.route(f"{host}/") for host in seen.snapshot.hosts}
    shown = {
        host: (route.timeouts.request, route.retry, route.max_body_bytes)
        for host, route in found.items()
        if route is not None
    }
    assert shown == {
        "silent.com": (30.0, Retry(attempts=2), 8 * 2**20),
        "says.com": (0.0, Retry(attempts=2), 8 * 2**20),
        "silent.route": (30.0, Retry(attempts=2), 8 * 2**20),
        "says.route": (5.0, Retry(attempts=1, codes=(503,)), 8 * 2**20),
    }
    assert seen.findings() == ()

    del ours["metadata"]["annotations"]
    bare = steps.put(ours).route("silent.com/")
    assert bare is not None
    assert (bare.timeouts.request, bare.retry, bare.max_body_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("request-timeout", "soon", "InvalidAnnotation"),
        ("response-headers", "x-frame-options: DENY", "UnknownAnnotation"),
        ("no-such-thing", "x", "UnknownAnnotation"),
    ],
)
def test_c6_a_bad_default_is_told_on_the_class_alone_and_everything_serves(
    compiled: Compile, objects: Objects, name: str, value: str, reason: str
) -> None:
    ours = ingress_class("fairway", "fairway.dev/ingress-controller")
    theirs = ingress_class("nginx", "k8s.io/ingress-nginx")
    for each in (ours, theirs):
        each["metadata"]["annotations"] = {f"fairway.dev/{name}": value}

    seen = compiled(ours, theirs, objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    assert seen.ask("x.com/") == "shop/a:80"
    (finding,) = seen.findings()
    assert (finding.subject.kind, finding.subject.name) == (Kind.INGRESS_CLASS, "fairway")
    assert finding.reason == reason
