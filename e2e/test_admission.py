"""What the API server refuses and warns of, and what it takes while nobody can be asked."""

import json

import pytest_asyncio

from e2e import objects
from e2e.kubectl import Body, CommandError, Namespace, eventually, run
from e2e.world import World

REGISTRATION = "fairway.fairway-system"
MISTAKE = "metadata.annotations[fairway.dev/request-timeout]"


def broken(name: str, *more: str) -> Body:
    """Return an Ingress that the API server alone would take."""
    body = objects.ingress(name, f"{name}.test", "red")
    body["metadata"]["annotations"] = {
        f"fairway.dev/{setting}": "soon" for setting in ("request-timeout", *more)
    }
    return body


async def told(namespace: Namespace, body: Body, *arguments: str) -> str:
    """Apply, and return what kubectl complains of: an error, or warnings; empty is neither."""
    try:
        await namespace.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--warnings-as-errors"),
            *("--filename", "-", *arguments),
            stdin=json.dumps(body),
        )
    except CommandError as error:
        return str(error)
    return ""


async def exists(namespace: Namespace, name: str) -> bool:
    return name in {item["metadata"]["name"] for item in await namespace.items("ingresses")}


@pytest_asyncio.fixture
async def asked(world: World) -> World:
    """Return the release once the API server asks it and trusts its answers."""

    async def refuses() -> bool:
        return MISTAKE in await told(world.apps, broken("probe"), "--dry-run=server")

    await eventually("the webhook is registered and answers", refuses)
    return world


async def test_what_cannot_compile_is_refused_and_kubectl_says_why(asked: World) -> None:
    complaint = await told(asked.apps, broken("mistaken", "idle-timeout"))

    assert MISTAKE in complaint
    assert "metadata.annotations[fairway.dev/idle-timeout]" in complaint
    assert not await exists(asked.apps, "mistaken")


async def test_a_route_whose_pattern_no_schema_can_check_is_refused(asked: World) -> None:
    body = objects.route("patterned", "patterned.test", {"red": 1})
    path = {"type": "RegularExpression", "value": "/(a)\\1"}
    body["spec"]["rules"][0]["matches"] = [{"path": path}]

    complaint = await told(asked.apps, body)

    assert "spec.rules[0].matches[0].path.value" in complaint
    assert "RE2" in complaint


async def test_a_conflict_is_a_warning_with_the_name_of_the_other(asked: World) -> None:
    await asked.apps.apply(objects.ingress("settled", "disputed.test", "red"))
    await asked.answers(asked.site("disputed.test"), "red")

    complaint = await told(asked.apps, objects.ingress("zealous", "disputed.test", "blue"))

    assert "Warning:" in complaint
    assert f"belongs to Ingress {asked.apps.name}/settled" in complaint
    assert await exists(asked.apps, "zealous")
    await asked.answers(asked.site("disputed.test"), "red")


async def test_a_service_that_comes_later_is_a_warning(asked: World) -> None:
    complaint = await told(asked.apps, objects.ingress("early", "early.test", "not-yet"))

    assert "Warning:" in complaint
    assert "there is no Service 'not-yet'" in complaint
    assert await exists(asked.apps, "early")


async def test_objects_of_another_class_are_none_of_our_business(asked: World) -> None:
    body = broken("foreign")
    body["spec"]["ingressClassName"] = "somebody-elses"

    assert await told(asked.apps, body) == ""
    assert await exists(asked.apps, "foreign")


async def test_without_an_operator_everything_is_taken_and_may_be_mended_later(
    asked: World,
) -> None:
    await asked.system.scale("deployment/fairway-operator", 0)

    async def taken() -> bool:
        return await told(asked.apps, broken("unasked")) == ""

    try:
        # The last pods answer until they are gone.
        await eventually("nobody answers and the API server takes the object", taken)
    finally:
        await asked.system.scale("deployment/fairway-operator", 2)
    worse = broken("unasked", "idle-timeout")

    async def refuses() -> bool:
        return "idle-timeout" in await told(asked.apps, worse, "--dry-run=server")

    await eventually("the webhook answers again", refuses)
    await asked.apps.kubectl("label", "ingress", "unasked", "still=broken")
    assert await told(asked.apps, objects.ingress("unasked", "unasked.test", "red")) == ""
    await asked.answers(asked.site("unasked.test"), "red")


async def test_an_upgrade_leaves_the_authority_registered(asked: World) -> None:
    async def bundle() -> str:
        text = await run(
            "kubectl", "get", "validatingwebhookconfiguration", REGISTRATION, "--output=json"
        )
        registered: str = json.loads(text)["webhooks"][0]["clientConfig"]["caBundle"]
        return registered

    before = await bundle()
    await asked.release.install()

    assert await bundle() == before
