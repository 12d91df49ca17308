"""What is written to the cluster: the truth, once, and only to objects that are ours."""

from typing import Any

import pytest

from fairway_operator.compiler import Compilation, Compiler, CompilerSettings, Standing
from fairway_operator.effects import (
    NO_RECEIPTS,
    Effect,
    EmitEvent,
    PatchStatus,
    Receipts,
    Told,
    plan_effects,
    published_addresses,
)
from fairway_operator.refs import Kind, ObjectRef
from fairway_operator.resources import decode
from fairway_operator.world import EMPTY, World
from fairway_snapshot.protocol import Position

NOW, LATER = "2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"
OURS = {"metadata": {"name": "fairway"}, "spec": {"controller": "fairway.dev/ingress-controller"}}
INGRESS = ObjectRef(Kind.INGRESS, "shop", "i")
ROUTE = ObjectRef(Kind.ROUTE, "shop", "r")
MANAGED = [{"manager": "fairway-operator", "fieldsV1": {"f:status": {"f:conditions": {}}}}]


def ingress(
    *addresses: str, cls: str = "fairway", ours: bool = True, port: int = 80
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "i", "namespace": "shop", "uid": "u", "generation": 1}
    if ours:
        metadata["managedFields"] = MANAGED
    shown = [{"ip": address} for address in addresses]
    return {
        "metadata": metadata,
        "spec": {
            "ingressClassName": cls,
            "defaultBackend": {"service": {"name": "w", "port": {"number": port}}},
        },
        "status": {"loadBalancer": {"ingress": shown}},
    }


def route(
    generation: int = 1, status: Any = None, cls: str = "fairway", port: int = 80
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "r",
            "namespace": "shop",
            "uid": "u",
            "generation": generation,
            "managedFields": MANAGED if status else [],
        },
        "spec": {
            "ingressClassName": cls,
            "hosts": ["x.com"],
            "rules": [{"backendRefs": [{"name": "w", "port": port}]}],
        },
        "status": status,
    }


def world(*parts: tuple[Kind, Any]) -> World:
    service = {"metadata": {"name": "w", "namespace": "shop"}, "spec": {"ports": [{"port": 80}]}}
    made = EMPTY.put(decode(Kind.INGRESS_CLASS, OURS)).put(decode(Kind.SERVICE, service))
    for kind, body in parts:
        made = made.put(decode(kind, body))
    return made


def compiled(of: World) -> Compilation:
    return Compiler(CompilerSettings()).compile(of)


def plan(
    of: World,
    receipts: Receipts = NO_RECEIPTS,
    *addresses: str,
    now: str = NOW,
    told: Told | None = None,
) -> tuple[Effect, ...]:
    return plan_effects(compiled(of), of, receipts, addresses, now=now, told=told)


def status_of(effects: tuple[Effect, ...]) -> dict[str, Any]:
    (patch,) = [effect for effect in effects if isinstance(effect, PatchStatus)]
    status = patch.manifest["status"]
    assert isinstance(status, dict)
    return status


def programmed(of: World, receipts: Receipts) -> tuple[str, str, str]:
    conditions = {each["type"]: each for each in status_of(plan(of, receipts))["conditions"]}
    found = conditions["Programmed"]
    return found["status"], found["reason"], found["message"]


# Ingress.


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        pytest.param(("192.0.2.1",), [{"ip": "192.0.2.1"}], id="L1 an address"),
        pytest.param(("lb.example",), [{"hostname": "lb.example"}], id="L1 a host name"),
        pytest.param(
            ("192.0.2.1", "2001:db8::1"), [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], id="L1 two"
        ),
    ],
)
def test_an_ingress_shows_where_it_is_reached(given: tuple[str, ...], shown: Any) -> None:
    effects = plan(world((Kind.INGRESS, ingress(ours=False))), NO_RECEIPTS, *given)

    assert status_of(effects) == {"loadBalancer": {"ingress": shown}}
    (patch,) = effects
    assert isinstance(patch, PatchStatus)
    assert patch.manifest["apiVersion"] == "networking.k8s.io/v1"
    assert patch.manifest["metadata"] == {"name": "i", "namespace": "shop"}


def test_l1_a_pending_load_balancer_empties_what_was_ours() -> None:
    assert status_of(plan(world((Kind.INGRESS, ingress("192.0.2.1"))))) == {
        "loadBalancer": {"ingress": []}
    }
    assert plan(world((Kind.INGRESS, ingress("192.0.2.1", ours=False)))) == ()


def test_l2_a_status_that_is_true_is_not_written() -> None:
    assert plan(world((Kind.INGRESS, ingress("192.0.2.1"))), NO_RECEIPTS, "192.0.2.1") == ()


def test_l3_objects_of_others_are_never_touched() -> None:
    foreign = world((Kind.INGRESS, ingress("198.51.100.1", cls="nginx", ours=False)))

    assert plan(foreign, NO_RECEIPTS, "192.0.2.1") == ()


def test_l4_what_was_ours_is_withdrawn_and_nothing_else() -> None:
    left = world((Kind.INGRESS, ingress("192.0.2.1", cls="nginx")))

    assert status_of(plan(left, NO_RECEIPTS, "192.0.2.1")) == {}


def test_addresses_are_those_of_the_service() -> None:
    body = {
        "metadata": {"name": "lb", "namespace": "fairway"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }
    ref = ObjectRef(Kind.SERVICE, "fairway", "lb")

    assert published_addresses(world((Kind.SERVICE, body)), ref) == ("192.0.2.1",)
    assert published_addresses(world(), ref) == ()


# Route.


def receipts_of(of: World) -> Receipts:
    compilation = compiled(of)
    return NO_RECEIPTS.published(compilation, Position(1, 1), compilation.snapshot.root, at=0.0)


def test_a_route_tells_how_many_data_planes_serve_it() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of)
    assert programmed(of, NO_RECEIPTS)[:2] == ("False", "Pending")
    assert programmed(of, receipts)[:2] == ("False", "NoDataPlanes")

    receipts = receipts.acked("a", Position(0, 0), at=0.0).acked("b", Position(1, 1), at=0.01)
    root = compiled(of).snapshot.root.hex()[:6]
    assert programmed(of, receipts) == ("False", "Pending", f"1/2 data planes at {root}…")

    receipts = receipts.acked("a", Position(1, 1), at=0.041)
    assert programmed(of, receipts) == (
        "True", "Programmed", f"2/2 data planes at {root}… in 41 ms",
    )  # fmt: skip


def test_a_later_snapshot_contains_what_an_earlier_one_did() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of).acked("a", Position(1, 7), at=1.0)

    assert programmed(of, receipts)[0] == "True"


def test_a_refusal_is_told_with_its_reason_and_ends_with_an_acknowledgement() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of).acked("a", Position(0, 0), at=0.0)

    refused = receipts.refused("a", Position(1, 1), "unknown filter", at=0.1)
    assert programmed(of, refused) == (
        "False", "Rejected", "1 data plane refuses it: a: unknown filter",
    )  # fmt: skip
    assert programmed(of, refused.acked("a", Position(1, 2), at=0.2))[0] == "True"


def test_a_refusal_of_any_length_fits_into_a_condition() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of)
    for name in ("a", "b", "c"):
        receipts = receipts.refused(name, Position(1, 1), "x" * 64_000, at=0.1)

    status, reason, message = programmed(of, receipts)

    assert (status, reason) == ("False", "Rejected")
    assert message.startswith("3 data planes refuse it: a: xxx")
    assert len(message) < 32_768


def test_a_refusal_of_something_later_is_not_about_this_generation() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of).acked("a", Position(1, 1), at=0.0)

    assert programmed(of, receipts.refused("a", Position(1, 2), "other", at=0.1))[0] == "True"


def test_who_joins_later_changes_nothing_and_who_left_is_not_waited_for() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of).acked("a", Position(1, 1), at=0.0)
    joined = receipts.acked("b", Position(0, 0), at=1.0)
    assert programmed(of, joined)[0] == "True"

    waiting = receipts_of(of).acked("a", Position(1, 1), at=0.0).acked("b", Position(0, 0), at=0)
    both = receipts_of(of).acked("b", Position(0, 0), at=0.0).acked("a", Position(1, 1), at=0.0)
    assert programmed(of, both)[0] == "False"
    assert programmed(of, both.left("b", at=2.0))[0] == "True"
    assert programmed(of, waiting)[0] == "True"


def test_a_new_generation_waits_anew() -> None:
    first, second = world((Kind.ROUTE, route(1))), world((Kind.ROUTE, route(2)))
    receipts = receipts_of(first).acked("a", Position(1, 1), at=0.0)
    compilation = compiled(second)

    receipts = receipts.published(compilation, Position(1, 2), compilation.snapshot.root, at=1.0)

    assert programmed(second, receipts)[:2] == ("False", "Pending")
    assert programmed(second, receipts.acked("a", Position(1, 2), at=1.5))[0] == "True"


def test_receipts_of_objects_that_are_gone_are_dropped() -> None:
    compiler = Compiler(CompilerSettings())
    of = world((Kind.ROUTE, route()))
    first = compiler.compile(of)
    receipts = NO_RECEIPTS.published(first, Position(1, 1), first.snapshot.root, at=0.0)
    assert receipts.pending == {ROUTE}

    second = compiler.compile(of.remove(ROUTE))
    receipts = receipts.published(second, Position(1, 2), second.snapshot.root, at=1.0)

    assert receipts.pending == frozenset()
    assert len(receipts.by_object) == 0


def test_a_status_that_was_written_is_not_written_again_when_only_time_has_passed() -> None:
    of = world((Kind.ROUTE, route()))
    receipts = receipts_of(of).acked("a", Position(1, 1), at=0.5)
    status = status_of(plan(of, receipts))
    written = world((Kind.ROUTE, route(status=status)))

    assert plan(written, receipts, now=LATER) == ()
    slower = receipts_of(written).acked("a", Position(1, 1), at=9.0)
    joined = slower.acked("b", Position(1, 1), at=9.5)
    assert plan(written, joined, now=LATER) == ()


def test_a_condition_keeps_its_time_until_it_flips() -> None:
    of = world((Kind.ROUTE, route()))
    status = status_of(plan(of, receipts_of(of)))
    of = world((Kind.ROUTE, route(2, status=status, port=81)))

    conditions = {
        each["type"]: each for each in status_of(plan(of, receipts_of(of), now=LATER))["conditions"]
    }

    assert {name: each["lastTransitionTime"] for name, each in conditions.items()} == {
        "Accepted": NOW,
        "ResolvedRefs": LATER,
        "Programmed": NOW,
    }
    assert {each["observedGeneration"] for each in conditions.values()} == {2}
    assert conditions["ResolvedRefs"]["reason"] == "UnknownPort"


def test_a_route_that_left_our_class_loses_our_status() -> None:
    of = world((Kind.ROUTE, route()))
    status = status_of(plan(of))

    left = world((Kind.ROUTE, route(status=status, cls="other")))

    assert status_of(plan(left)) == {}


def test_a_version_that_is_not_served_is_not_programmed() -> None:
    compiler = Compiler(CompilerSettings())
    compiler.compile(world((Kind.ROUTE, route(1))))
    of = world((Kind.ROUTE, route(2, port=81)))

    effects = plan_effects(compiler.compile(of), of, NO_RECEIPTS, (), now=NOW)

    conditions = {each["type"]: each for each in status_of(effects)["conditions"]}
    assert conditions["Programmed"]["reason"] == "LastGoodServed"
    assert conditions["Programmed"]["observedGeneration"] == 2
    assert "generation 1" in conditions["Programmed"]["message"]


# Events.


def events(effects: tuple[Effect, ...]) -> list[tuple[str, str]]:
    return [(each.type, each.reason) for each in effects if isinstance(each, EmitEvent)]


def test_a_finding_is_told_once() -> None:
    of = world((Kind.ROUTE, route(port=81)))

    first = plan(of)

    assert events(first) == [("Warning", "UnknownPort")]
    (event,) = [each for each in first if isinstance(each, EmitEvent)]
    assert (event.ref, event.uid) == (ROUTE, "u")
    assert event.message == (
        "spec.rules[0].backendRefs[0].port: Service 'w' has no port 81; its requests answer 503"
        " (its ports are 80)"
    )
    assert events(plan(of, told=Told(compiled(of), NO_RECEIPTS))) == []
    assert events(plan(of, told=Told(compiled(world((Kind.ROUTE, route()))), NO_RECEIPTS))) == [
        ("Warning", "UnknownPort")
    ]


def test_only_some_objects_can_be_looked_at() -> None:
    of = world((Kind.INGRESS, ingress()), (Kind.ROUTE, route()))
    compilation = compiled(of)

    effects = plan_effects(
        compilation,
        of,
        NO_RECEIPTS,
        ("192.0.2.1",),
        now=NOW,
        only={INGRESS, ObjectRef(Kind.SERVICE, "shop", "w")},
    )

    assert [effect.ref for effect in effects] == [INGRESS]


# Receipts of an Ingress.


SHOP = "192.0.2.1"


def ingress_of(generation: int = 1, *, error: str = "", port: int = 80) -> World:
    body = ingress(SHOP, port=port)
    body["metadata"]["generation"] = generation
    if error:
        body["status"]["loadBalancer"]["ingress"][0]["ports"] = [
            {"port": 80, "protocol": "TCP", "error": error}
        ]
    return world((Kind.INGRESS, body))


def test_an_ingress_is_told_once_for_each_generation_that_every_data_plane_serves_it() -> None:
    of = ingress_of()
    sent = receipts_of(of).acked("a", Position(0, 0), at=0.0)
    told = Told(compiled(of), sent)
    live = sent.acked("a", Position(1, 1), at=0.041)

    assert events(plan(of, sent, SHOP, told=told)) == []
    (event,) = plan(of, live, SHOP, told=told)
    assert isinstance(event, EmitEvent)
    root = compiled(of).snapshot.root.hex()[:6]
    assert (event.type, event.reason) == ("Normal", "Programmed")
    assert event.message == f"1/1 data planes at {root}… in 41 ms"
    joined = live.acked("b", Position(1, 1), at=1.0)
    assert plan(of, joined, SHOP, told=Told(compiled(of), live)) == ()

    edited = ingress_of(2)
    compilation = compiled(edited)
    again = live.published(compilation, Position(1, 2), compilation.snapshot.root, at=2.0)
    again = again.acked("a", Position(1, 2), at=2.01)
    assert events(plan(edited, again, SHOP, told=Told(compiled(of), live))) == [
        ("Normal", "Programmed")
    ]


def test_a_new_leader_does_not_tell_again_what_is_live() -> None:
    of = ingress_of()
    live = receipts_of(of).acked("a", Position(1, 1), at=0.0)
    untold = world((Kind.INGRESS, ingress(ours=False)))

    assert plan(of, live, SHOP) == ()
    assert events(plan(untold, live, SHOP)) == [("Normal", "Programmed")]


def test_a_refusal_is_a_warning_and_an_error_in_the_status_until_it_is_over() -> None:
    of = ingress_of()
    sent = receipts_of(of).acked("a", Position(0, 0), at=0.0)
    refused = sent.refused("a", Position(1, 1), "unknown filter", at=0.1)

    effects = plan(of, refused, SHOP, told=Told(compiled(of), sent))

    assert events(effects) == [("Warning", "Rejected")]
    (entry,) = status_of(effects)["loadBalancer"]["ingress"]
    assert entry == {
        "ip": SHOP,
        "ports": [{"port": 80, "protocol": "TCP", "error": "fairway.dev/Rejected"}],
    }
    shown = ingress_of(error="fairway.dev/Rejected")
    assert plan(shown, refused, SHOP, told=Told(compiled(of), refused)) == ()
    over = refused.acked("a", Position(1, 2), at=0.2)
    effects = plan(shown, over, SHOP, told=Told(compiled(of), refused))
    assert events(effects) == [("Normal", "Programmed")]
    assert status_of(effects) == {"loadBalancer": {"ingress": [{"ip": SHOP}]}}


def test_a_quarantined_ingress_says_so_in_its_status() -> None:
    compiler = Compiler(CompilerSettings())
    compiler.compile(ingress_of())
    of = ingress_of(2, port=81)

    compilation = compiler.compile(of)
    effects = plan_effects(compilation, of, NO_RECEIPTS, (SHOP,), now=NOW)

    assert compilation.serving[INGRESS].standing is Standing.LAST_GOOD
    (entry,) = status_of(effects)["loadBalancer"]["ingress"]
    assert entry["ports"][0]["error"] == "fairway.dev/UnknownPort"
    assert set(events(effects)) == {("Warning", "UnknownPort"), ("Normal", "LastGoodServed")}


def test_what_fails_closed_stands_so() -> None:
    assert compiled(ingress_of(port=81)).serving[INGRESS].standing is Standing.CLOSED
    assert compiled(ingress_of()).serving[INGRESS].standing is Standing.LIVE


# What could never be read.


def test_a_route_that_could_never_be_read_is_told_why() -> None:
    body = route(3)
    body["spec"]["rules"] = "none"
    of = world((Kind.ROUTE, body))

    effects = plan(of, receipts_of(of))

    status = status_of(effects)
    conditions = {each["type"]: each for each in status["conditions"]}
    assert status["observedGeneration"] == 3
    assert (conditions["Accepted"]["status"], conditions["Accepted"]["reason"]) == (
        "False",
        "InvalidObject",
    )
    assert conditions["Accepted"]["message"].startswith("spec.rules: ")
    assert conditions["Programmed"]["reason"] == "NotServed"
    assert events(effects) == [("Warning", "InvalidObject")]
    body["status"] = status
    assert [each for each in plan(world((Kind.ROUTE, body))) if isinstance(each, PatchStatus)] == []


def test_an_unreadable_route_of_another_class_is_left_alone() -> None:
    body = route(cls="other")
    body["spec"]["rules"] = "none"

    assert plan(world((Kind.ROUTE, body))) == ()


def test_an_unreadable_version_is_told_under_its_own_generation() -> None:
    body = route(2)
    body["spec"]["rules"] = "none"
    of = world((Kind.ROUTE, route(1)), (Kind.ROUTE, body))

    conditions = {each["type"]: each for each in status_of(plan(of))["conditions"]}

    assert conditions["Accepted"]["observedGeneration"] == 2
    assert conditions["Programmed"]["reason"] == "LastGoodServed"
    assert conditions["Programmed"]["message"] == "generation 1 goes on serving"


def test_c6_parameters_of_a_class_are_told_on_the_class() -> None:
    given = {"kind": "Config", "name": "x"}
    body: dict[str, Any] = {
        "metadata": {"name": "fairway", "uid": "c"},
        "spec": {**OURS["spec"], "parameters": given},
    }

    (event,) = plan(world((Kind.INGRESS_CLASS, body)))

    assert isinstance(event, EmitEvent)
    assert (event.ref.name, event.uid, event.reason) == ("fairway", "c", "UnsupportedParameters")
