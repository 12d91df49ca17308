"""From objects to answers: what a user of the cluster sees first."""

import asyncio
import contextlib
from collections import Counter

from e2e import objects
from e2e.kubectl import eventually
from e2e.load import Connection, Site, ask
from e2e.world import DEFAULT_CERTIFICATE, World, addresses, condition


async def test_an_ingress_is_answered_by_its_own_pods(world: World) -> None:
    await world.apps.apply(
        objects.ingress("red", "red.test", "red"), objects.ingress("blue", "blue.test", "blue")
    )
    await world.answers(world.site("red.test"), "red")
    await world.everywhere(world.site("blue.test"), "blue")
    answer = await ask(world.site("red.test", "/some/path?with=query"), "x-mine: kept")
    told = answer.told()
    assert told["request"] == "GET /some/path?with=query HTTP/1.1"
    headers = {name.lower(): value for name, value in told["headers"]}
    assert headers["x-mine"] == "kept"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-host"] == "red.test"


async def test_a_route_shares_its_host_by_weight(world: World) -> None:
    await world.apps.apply(objects.route("shared", "shared.test", {"red": 90, "blue": 10}))
    site = world.site("shared.test")

    async def served() -> bool:
        return (await ask(site)).status == 200

    await eventually("the Route is served", served)
    await world.one_snapshot()
    apps: Counter[str] = Counter()
    for _ in range(300):
        apps[(await ask(site)).told()["app"]] += 1
    assert apps["red"] + apps["blue"] == 300
    assert 10 <= apps["blue"] <= 60


async def test_a_host_that_nobody_has_is_not_found(world: World) -> None:
    answer = await ask(world.site("nobody.test"), "accept: application/json")
    assert answer.status == 404
    assert answer.told()["reason"] == "no-route"


async def test_the_certificate_of_a_host_comes_from_its_secret(world: World) -> None:
    first = objects.certified("first-tls", "first.test")
    second = objects.certified("second-tls", "second.test")
    await world.apps.apply(
        first.secret,
        second.secret,
        objects.ingress("first", "first.test", "red", secret="first-tls"),
        objects.ingress("second", "second.test", "blue", secret="second-tls"),
    )
    await world.answers(world.site("first.test", secure=True), "red")
    await world.everywhere(world.site("second.test", secure=True), "blue")
    assert await _certificate(world.site("first.test", secure=True)) == first.der
    assert await _certificate(world.site("second.test", secure=True)) == second.der
    redirect = await ask(world.site("first.test", "/some?query"))
    assert redirect.status == 308
    assert redirect.headers["location"] == "https://first.test/some?query"

    renewed = objects.certified("first-tls", "first.test")
    await world.apps.apply(renewed.secret)

    async def shown() -> bool:
        return await _certificate(world.site("first.test", secure=True)) == renewed.der

    await eventually("new handshakes show the renewed certificate", shown)


async def test_a_host_without_a_certificate_is_answered_by_the_default_one(world: World) -> None:
    default = objects.certified(DEFAULT_CERTIFICATE, "default.test")
    unknown = world.site("uncertified.test", secure=True)
    assert await _certificate(unknown) != default.der
    await world.apps.apply(
        default.secret, objects.ingress("uncertified", "uncertified.test", "red")
    )

    async def shown() -> bool:
        return await _certificate(unknown) == default.der

    await eventually("the certificate of the release's settings is shown", shown)
    await world.answers(unknown, "red")


async def test_status_says_where_and_whether(world: World) -> None:
    address = await world.balanced(world.system, "fairway")
    await world.apps.apply(
        objects.ingress("told", "told.test", "red"),
        objects.route("told", "told-r.test", {"red": 1}),
    )

    async def addressed() -> bool:
        return addresses(await world.apps.get("ingress", "told")) == address

    async def programmed() -> bool:
        body = await world.apps.get("routes.fairway.dev", "told")
        return all(
            condition(body, kind) == "True" for kind in ("Accepted", "ResolvedRefs", "Programmed")
        )

    await eventually("the Ingress shows the load balancer's address", addressed)
    await eventually("the Route is accepted, resolved and programmed", programmed)
    body = await world.apps.get("routes.fairway.dev", "told")
    assert body["status"]["observedGeneration"] == body["metadata"]["generation"]

    await world.apps.apply(objects.route("told", "told-r.test", {"missing": 1}))

    async def unresolved() -> bool:
        body = await world.apps.get("routes.fairway.dev", "told")
        return condition(body, "ResolvedRefs") == "False"

    await eventually("the Route says that its backend is missing", unresolved)


async def test_what_is_deleted_is_withdrawn(world: World) -> None:
    await world.apps.apply(
        objects.ingress("gone", "gone.test", "red"),
        objects.route("gone", "gone-r.test", {"red": 1}),
    )
    sites = [world.site("gone.test"), world.site("gone-r.test")]
    for site in sites:
        await world.everywhere(site, "red")
    await world.apps.delete("ingress", "gone")
    await world.apps.delete("routes.fairway.dev", "gone")

    async def withdrawn() -> bool:
        answers = await asyncio.gather(*(ask(site) for site in sites))
        return all(answer.status == 404 for answer in answers)

    await eventually("both hosts are unknown", withdrawn)


async def _certificate(site: Site) -> bytes:
    connection = await Connection.open(site)
    with contextlib.closing(connection):
        return connection.certificate()
