"""What objects mean where the API server, or a real connection, has its say."""

import json
from contextlib import closing

from e2e import objects
from e2e.kubectl import Body, eventually, run
from e2e.load import Connection, Site, ask
from e2e.world import World

CONTROLLER = "fairway.dev/ingress-controller"


async def test_c4_of_several_default_classes_the_newest_is_given_and_served(world: World) -> None:
    await _apply(_default_class("somebody-elses", "example.com/other"))
    await _apply(_default_class("newest", CONTROLLER))
    body = objects.ingress("classless", "classless.test", "red")
    del body["spec"]["ingressClassName"]
    try:
        await world.apps.apply(body)
        given = await world.apps.get("ingress", "classless")
        # Of equal age, to the second, the API server takes the first name.
        assert given["spec"]["ingressClassName"] == "newest"
        await world.answers(world.site("classless.test"), "red")
    finally:
        await run("kubectl", "delete", "ingressclass", "somebody-elses", "newest")

    # C5: without its class, the object is nobody's.
    await eventually("the host is withdrawn", lambda: _not_found(world.site("classless.test")))


async def test_h8_a_connection_serves_no_host_that_its_certificate_is_not_for(
    world: World,
) -> None:
    ours, theirs = (objects.certified(f"{name}-tls", f"{name}.test") for name in ("sni", "other"))
    await world.apps.apply(
        ours.secret,
        theirs.secret,
        objects.ingress("sni", "sni.test", "red", secret="sni-tls"),
        objects.ingress("other", "other.test", "blue", secret="other-tls"),
    )
    secure, other = world.site("sni.test", secure=True), world.site("other.test", secure=True)
    await world.answers(secure, "red")
    await world.everywhere(other, "blue")

    connection = await Connection.open(secure)
    with closing(connection):
        assert (await connection.ask(secure)).status == 200
        assert (await connection.ask(other)).status == 421


async def test_an_ingress_is_told_by_an_event_that_it_is_programmed(world: World) -> None:
    await world.apps.apply(objects.ingress("receipt", "receipt.test", "red"))
    await world.answers(world.site("receipt.test"), "red")

    async def told() -> bool:
        events = await world.apps.items("events.events.k8s.io")
        return any(
            event["regarding"]["name"] == "receipt"
            and event["reason"] == "Programmed"
            and event["note"].startswith("2/2 data planes at ")
            for event in events
        )

    await eventually("an event says so", told)


async def test_c6_parameters_of_a_class_are_warned_of_and_everything_serves(world: World) -> None:
    parameters = {"apiGroup": "example.com", "kind": "Config", "name": "absent"}
    body = _default_class("parametric", CONTROLLER)
    del body["metadata"]["annotations"]
    body["spec"]["parameters"] = parameters
    ingress = objects.ingress("parametric", "parametric.test", "red")
    ingress["spec"]["ingressClassName"] = "parametric"
    await _apply(body)
    try:
        await world.apps.apply(ingress)
        await world.answers(world.site("parametric.test"), "red")

        async def warned() -> bool:
            described = await run("kubectl", "describe", "ingressclass", "parametric")
            return "UnsupportedParameters" in described

        await eventually("the class is warned of", warned)
    finally:
        await run("kubectl", "delete", "ingressclass", "parametric")


async def _apply(body: Body) -> None:
    """Apply an object that belongs to no namespace."""
    await run("kubectl", "apply", "--server-side", "--filename=-", stdin=json.dumps(body))


def _default_class(name: str, controller: str) -> Body:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {
            "name": name,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
        },
        "spec": {"controller": controller},
    }


async def _not_found(site: Site) -> bool:
    return (await ask(site)).status == 404
