"""Conflicts (X) of the catalogue: who wins, who is told, who takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fairway_operator.refs import Kind, ObjectRef

if TYPE_CHECKING:
    from tests.fairway_operator.compiler.conftest import Compile, Objects


@pytest.mark.parametrize(
    ("ages", "winner"),
    [
        pytest.param({"a/x": 1, "b/x": 2}, "b/x", id="X1 the oldest wins"),
        pytest.param({"b/x": 1, "a/x": 1}, "a/x", id="X1 then the namespace"),
        pytest.param({"a/y": 1, "a/x": 1}, "a/x", id="X1 then the name"),
        pytest.param({"a/x": None, "b/x": 1}, "b/x", id="X1 what was not created yet is young"),
    ],
)
def test_winner(
    compiled: Compile, objects: Objects, ages: dict[str, int | None], winner: str
) -> None:
    bodies = [objects.ingress(name, "x.com ^/ w:80", age=age) for name, age in ages.items()]
    webs = [each for name in ages for each in objects.web(f"{name.partition('/')[0]}/w")]
    (loser,) = ages.keys() - {winner}

    seen = compiled(*bodies, webs)

    assert seen.ask("x.com/") == f"{winner.partition('/')[0]}/w:80"
    route = seen.route("x.com/")
    assert route is not None
    assert route.name.startswith(f"{winner}/")
    (finding,) = seen.findings(loser)
    assert finding.reason == "Conflict"
    assert finding.other is not None
    assert f"{finding.other.namespace}/{finding.other.name}" == winner
    assert winner in finding.message
    assert seen.findings(winner) == ()
    assert compiled(*reversed(bodies), webs).snapshot.root == seen.snapshot.root


def test_x1_the_loser_is_live_at_once_when_the_winner_goes(
    compiled: Compile, objects: Objects
) -> None:
    steps = compiled.steps()
    seen = steps.put(
        objects.ingress("old", "x.com ^/ a:80", age=2),
        objects.ingress("young", "x.com ^/ b:80", "x.com ^/b b:80", age=1),
        objects.web("a"),
        objects.web("b"),
    )
    assert seen.ask("x.com/") == "shop/a:80"
    assert seen.ask("x.com/b") == "shop/b:80"
    young = ObjectRef(Kind.INGRESS, "shop", "young")
    assert seen.compilation.serving[young].routes == ("shop/young/0-1",)

    after = steps.remove(Kind.INGRESS, "old")

    assert after.ask("x.com/") == "shop/b:80"
    assert after.findings("young") == ()
    assert after.compilation.serving[young].routes == ("shop/young/0-0", "shop/young/0-1")
    assert after.compilation.touched >= {young}


def test_x1_an_object_that_lost_everything_is_not_accepted(
    compiled: Compile, objects: Objects
) -> None:
    rule = {"backendRefs": [{"name": "a", "port": 80}]}
    seen = compiled(
        objects.route("old", rule, age=2), objects.route("young", rule, age=1), objects.web("a")
    )

    serving = seen.compilation.serving[ObjectRef(Kind.ROUTE, "shop", "young")]
    assert serving.routes == ()
    accepted = serving.conditions[0]
    assert (accepted.type, accepted.status, accepted.reason) == ("Accepted", False, "Conflict")


def test_x1_the_same_path_twice_in_one_object(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.ingress("i", "x.com ^/ a:80", "x.com ^/ b:80"), objects.web("a"), objects.web("b")
    )

    assert seen.ask("x.com/") == "shop/a:80"
    (finding,) = seen.findings("i")
    assert (finding.reason, finding.field) == ("Conflict", "spec.rules[0].http.paths[1]")
    assert finding.other is None


def test_x1_paths_that_differ_only_in_writing_are_the_same(
    compiled: Compile, objects: Objects
) -> None:
    seen = compiled(
        objects.ingress("a", "x.com ^/foo/ a:80", age=2),
        objects.ingress("b", "x.com ^/%66oo a:80", age=1),
        objects.web("a"),
    )

    assert seen.reasons("b") == ["Conflict"]


def test_x1_an_ingress_and_a_route_compete_by_the_same_rule(
    compiled: Compile, objects: Objects
) -> None:
    rule = {"backendRefs": [{"name": "b", "port": 80}]}
    seen = compiled(
        objects.ingress("i", "a.example ^/ a:80", age=1),
        objects.route("r", rule, age=2),
        objects.web("a"),
        objects.web("b"),
    )

    assert seen.ask("a.example/") == "shop/b:80"
    assert seen.reasons("i") == ["Conflict"]


def test_x2_paths_of_different_namespaces_share_a_host(compiled: Compile, objects: Objects) -> None:
    seen = compiled(
        objects.ingress("one/i", "x.com ^/one w:80"),
        objects.ingress("two/i", "x.com ^/two w:80"),
        objects.web("one/w"),
        objects.web("two/w"),
    )

    assert seen.ask("x.com/one") == "one/w:80"
    assert seen.ask("x.com/two") == "two/w:80"
    assert seen.findings() == ()


def test_x3_annotations_stay_with_their_ingress(compiled: Compile, objects: Objects) -> None:
    strip = {"fairway.dev/strip-prefix": "/one", "fairway.dev/request-timeout": "9s"}
    seen = compiled(
        objects.ingress("one", "x.com ^/one a:80", annotations=strip),
        objects.ingress("two", "x.com ^/two a:80"),
        objects.web("a"),
    )

    route = seen.route("x.com/two")
    assert route is not None
    assert (route.filters, route.timeouts.request) == ((), None)


def test_of_routes_that_are_too_large_together_the_oldest_stay(
    compiled: Compile, objects: Objects
) -> None:
    def big(name: str, age: int) -> dict[str, Any]:
        rules = [
            {
                "matches": [{"path": {"value": f"/{name}/{at}"}}],
                "filters": [{"directResponse": {"status": 200, "body": "x" * 16_384}}],
            }
            for at in range(64)
        ]
        return objects.route(name, *rules, age=age)

    seen = compiled(*(big(f"r{at:02}", 100 - at) for at in range(20)))

    assert seen.ask("a.example/r00/0") == "200"
    assert seen.ask("a.example/r19/0") == "404"
    assert seen.reasons("r00", Kind.ROUTE) == []
    assert set(seen.reasons("r19", Kind.ROUTE)) == {"TooLarge"}
