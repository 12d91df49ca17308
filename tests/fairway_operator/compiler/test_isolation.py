"""One bad object harms only itself, and its last good version goes on serving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.compiler import compiler, single
from fairway_operator.compiler.ingress import compile_ingress
from fairway_operator.refs import Kind, ObjectRef

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects

REF = ObjectRef(Kind.INGRESS, "shop", "i")


def test_an_edit_with_errors_leaves_the_version_before_in_place(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"), objects.web("b"))

    seen = steps.put(objects.ingress("i", "x.com ^/ b:81", generation=2))

    assert seen.ask("x.com/") == "shop/a:80"
    assert sorted(seen.reasons("i")) == ["LastGoodServed", "UnknownPort"]
    serving = seen.compilation.serving[REF]
    assert (serving.generation, serving.served_generation) == (2, 1)
    mended = steps.put(objects.ingress("i", "x.com ^/ b:80", generation=3))
    assert mended.ask("x.com/") == "shop/b:80"
    assert mended.findings() == ()


def test_the_new_version_is_served_as_soon_as_its_service_appears(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))
    assert steps.put(objects.ingress("i", "x.com ^/ b:80")).ask("x.com/") == "shop/a:80"

    assert steps.put(objects.web("b")).ask("x.com/") == "shop/b:80"


def test_a_service_that_goes_is_no_edit_of_the_ingress(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    seen = steps.remove(Kind.SERVICE, "a")

    assert seen.ask("x.com/") == "503"
    assert seen.reasons("i") == ["UnknownService"]


def test_when_both_versions_have_errors_the_new_one_is_served(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))
    steps.put(objects.ingress("i", "x.com ^/ gone:80", "x.com ^/b b:80"), objects.web("b"))

    seen = steps.remove(Kind.SERVICE, "a")

    assert seen.ask("x.com/b") == "shop/b:80"


def test_a_host_that_its_author_withdrew_is_not_served_on(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80", "secret.com ^/ a:80"), objects.web("a"))

    seen = steps.put(objects.ingress("i", "x.com ^/ gone:80"))

    assert seen.ask("secret.com/") == "404"
    assert seen.ask("x.com/") == "503"


def test_a_host_that_became_unreadable_is_served_on(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    assert steps.put(objects.ingress("i", "x..com ^/ a:80")).ask("x.com/") == "shop/a:80"


def test_a_refused_reference_is_never_answered_with_an_older_version(
    compiled: Compile, objects: Objects
) -> None:
    here = {"backendRefs": [{"name": "a", "port": 80}]}
    there = {
        "backendRefs": [{"name": "a", "namespace": "data", "port": 80}, {"name": "z", "port": 1}]
    }
    steps = compiled.steps()
    steps.put(objects.route("r", here), objects.web("a"), objects.web("data/a"))

    seen = steps.put(objects.route("r", there))

    assert "LastGoodServed" not in seen.reasons("r", Kind.ROUTE)
    assert seen.ask("a.example/") == "503"


def test_an_object_that_was_made_anew_inherits_nothing(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))
    again = objects.ingress("i", "x.com ^/ gone:80")
    again["metadata"]["uid"] = "another"

    assert steps.put(again).ask("x.com/") == "503"


def test_a_version_that_cannot_be_read_at_all(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps()
    rule = {"backendRefs": [{"name": "a", "port": 80}]}
    steps.put(objects.route("r", rule), objects.web("a"))

    seen = steps.put(objects.route("r", {"backendReffs": []}, generation=2))

    assert seen.ask("a.example/") == "shop/a:80"
    assert sorted(seen.reasons("r", Kind.ROUTE)) == ["InvalidObject", "LastGoodServed"]
    mended = steps.put(objects.route("r", rule, generation=3))
    assert mended.findings() == ()


def test_l3_a_version_that_cannot_be_read_and_names_another_class_is_no_longer_ours(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    rule = {"backendRefs": [{"name": "a", "port": 80}]}
    steps.put(objects.route("r", rule), objects.web("a"))
    left = objects.route("r", {"backendReffs": []}, generation=2)
    left["spec"]["ingressClassName"] = "nginx"

    seen = steps.put(left)

    assert seen.ask("a.example/") == "404"
    assert seen.findings("r", Kind.ROUTE) == ()
    assert len(seen.compilation.serving) == 0
    back = steps.put(objects.route("r", {"backendReffs": []}, generation=3))
    assert back.ask("a.example/") == "shop/a:80"


def test_a_first_version_that_cannot_be_read_harms_nobody(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.route("r", {"backendReffs": []}),
        objects.ingress("i", "x.com ^/ a:80"),
        objects.web("a"),
    )

    assert seen.ask("x.com/") == "shop/a:80"
    (finding,) = seen.findings("r", Kind.ROUTE)
    assert "backendReffs" in finding.message
    assert finding.field == "spec.rules[0]"


def test_last_good_can_be_switched_off(compiled: Compile, objects: Objects) -> None:
    steps = compiled.steps(keep_last_good=False)
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))

    assert steps.put(objects.ingress("i", "x.com ^/ gone:80")).ask("x.com/") == "503"


def test_a_bug_harms_the_object_that_brings_it_out(
    compiled: Compile, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:

    def buggy(ingress: Any, lookup: Any) -> Any:
        if ingress.ref.name == "bad":
            raise ZeroDivisionError
        return compile_ingress(ingress, lookup)

    monkeypatch.setattr(single, "compile_ingress", buggy)

    seen = compiled(
        objects.ingress("bad", "x.com ^/ a:80"),
        objects.ingress("good", "y.com ^/ a:80"),
        objects.web("a"),
    )

    assert seen.ask("y.com/") == "shop/a:80"
    assert seen.reasons("bad") == ["InternalError"]


def test_an_interrupted_compilation_leaves_nothing_half_done(
    compiled: Compile, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = compiled.steps()
    steps.put(objects.ingress("i", "x.com ^/ a:80"), objects.web("a"))
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "build_backend", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.put(objects.slice("a", "10.0.0.9"))

    seen = steps.put(objects.ingress("j", "y.com ^/ a:80"))

    assert seen.endpoints("shop/a:80") == ["10.0.0.9:8080"]
    assert seen.ask("x.com/") == "shop/a:80"
