"""A data plane from its start to its end, with an operator that is there."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
from typing import TYPE_CHECKING

import msgspec
import pytest

from fairway_snapshot.filters import Header, RequestHeaders
from fairway_snapshot.model import Endpoint, HealthCheck, HostPattern, Section, VirtualHost
from fairway_snapshot.tree import Edit
from tests.fairway_dataplane.processes.conftest import LIMIT_SECONDS

if TYPE_CHECKING:
    from tests.fairway_dataplane.processes.conftest import (
        Authority,
        Operator,
        StartBackend,
        StartDataplane,
    )

REQUEST = b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n"


async def test_nobody_is_let_in_before_the_first_verified_snapshot(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(WORKERS="2")

    before = await dataplane.admin("/readyz")
    with pytest.raises(ConnectionRefusedError):
        await dataplane.connect()
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    after = await dataplane.get()

    assert (before.status, before.body) == (503, "no verified snapshot yet\n")
    assert (await dataplane.admin("/healthz")).status == 200
    assert (after.status, after.body) == (200, "one")


async def test_an_edit_is_served_by_every_worker_once_it_is_acknowledged(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    old, new = await start_backend("old"), await start_backend("new")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(old.serving("shop.example"))
    await dataplane.ready()
    assert (await dataplane.get()).body == "old"

    snapshot = new.serving("shop.example")
    await operator.publish(snapshot)
    await operator.acked(snapshot)

    assert {(await dataplane.get()).body for _ in range(20)} == {"new"}


async def test_tls_is_answered_with_the_certificate_of_the_name(
    authority: "Authority",
    operator: "Operator",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane()
    await operator.publish(authority.covering(backend.serving("shop.example"), "shop.example"))
    await dataplane.ready()

    trust = ssl.create_default_context(cadata=authority.trusted.decode())
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", dataplane.https_port, ssl=trust, server_hostname="shop.example"
    )
    writer.write(REQUEST)
    assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
    writer.close()

    metrics = (await dataplane.admin("/metrics")).body
    assert 'fairway_certificate_expiry_seconds{host="shop.example"}' in metrics


async def test_the_admin_pages_show_what_is_served_and_no_secret(
    authority: "Authority",
    operator: "Operator",
    start_backend: "StartBackend",
    start_dataplane: "StartDataplane",
) -> None:
    backend = await start_backend("one")
    token = RequestHeaders(set=(Header(name="authorization", value="Basic s3cr3t"),))
    (plain,) = backend.serving("shop.example").hosts[HostPattern("shop.example")].routes
    guarded = VirtualHost(routes=(msgspec.structs.replace(plain, filters=(token,)),))
    serving = backend.serving("shop.example").evolve([Edit(Section.HOSTS, "shop.example", guarded)])
    snapshot = authority.covering(serving, "shop.example")
    dataplane = await start_dataplane()
    await operator.publish(snapshot)
    await dataplane.ready()
    assert (await dataplane.get()).status == 200

    shown = await dataplane.admin("/debug/snapshot")
    listed = (await dataplane.admin("/debug/routes?host=shop.example")).body
    too_many = await dataplane.admin(f"/debug/routes?limit={'9' * 5000}")
    routes = json.loads(listed)
    metrics = (await dataplane.admin("/metrics")).body

    assert json.loads(shown.body)["digest"] == snapshot.root.hex()
    assert "PRIVATE" not in shown.body
    assert "authorization" in listed
    assert "s3cr3t" not in shown.body + listed
    assert too_many.status == 400
    assert routes["routes"][0]["backends"] == [
        {"backend": "test/one:80", "weight": 1, "endpoints": 1}
    ]
    assert 'fairway_requests_total{code="200",method="GET",route="test/shop.example/0"} 1.0' in (
        metrics
    )
    assert f'digest="{snapshot.root.hex()[:12]}",sequence="1"' in metrics


async def test_the_admin_pages_show_how_each_endpoint_stands_and_why(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    snapshot = backend.serving("shop.example")
    ((key, leaf),) = snapshot.backends.items()
    dataplane = await start_dataplane()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        silent = Endpoint(host="127.0.0.1", port=taken.getsockname()[1])
        checked = msgspec.structs.replace(
            leaf,
            endpoints=tuple(sorted((*leaf.endpoints, silent), key=lambda each: each.port)),
            health_check=HealthCheck(path="/", interval_seconds=1.0, unhealthy=1),
        )
        await operator.publish(snapshot.evolve([Edit(Section.BACKENDS, key, checked)]))
        await dataplane.ready()

        async def states() -> dict[int, str]:
            page = await dataplane.admin(f"/debug/backends?backend={key}")
            ((row,),) = [worker["backends"] for worker in json.loads(page.body)["workers"]]
            return {int(each["endpoint"].split(":")[1]): each["state"] for each in row["endpoints"]}

        async with asyncio.timeout(LIMIT_SECONDS):
            found: dict[int, str] = {}
            while found.get(silent.port) != "barred":
                found = await states()
                await asyncio.sleep(0.05)

        assert found[leaf.endpoints[0].port] == "in-choice"
        everything = (await dataplane.admin("/debug/backends")).body
        assert [each["backend"] for each in json.loads(everything)["workers"][0]["backends"]] == [
            key
        ]
        assert '"backends": []' in (await dataplane.admin("/debug/backends?backend=a/b:1")).body
        metrics = (await dataplane.admin("/metrics")).body
        for line in (
            'endpoints{backend="test/one:80",state="barred"} 1.0',
            'endpoints{backend="test/one:80",state="in-choice"} 1.0',
            'ejections_total{backend="test/one:80",reason="health-check"} 1.0',
            'panicking{backend="test/one:80"} 0.0',
        ):
            assert f"fairway_upstream_{line}" in metrics
        assert {(await dataplane.get()).body for _ in range(5)} == {"one"}


async def test_a_snapshot_that_no_worker_can_build_is_refused_and_the_old_one_stays(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    good = backend.serving("shop.example")
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(good)
    await operator.acked(good)

    await operator.publish(backend.unbuildable("shop.example"))
    await operator.until(lambda: bool(operator.nacks))

    assert (await dataplane.get()).body == "one"
    assert (await dataplane.admin("/readyz")).status == 200
    metrics = (await dataplane.admin("/metrics")).body
    assert 'fairway_snapshot_rejected_total{reason="apply"} 1.0' in metrics


async def test_sigterm_lets_a_request_in_flight_finish_and_ends_with_0(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    backend.hold = asyncio.Event()
    dataplane = await start_dataplane(WORKERS="2")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    reader, writer = await dataplane.connect()
    writer.write(REQUEST)
    await backend.arrived.wait()

    dataplane.signal(signal.SIGTERM)
    await dataplane.refuses()
    not_ready = await dataplane.admin("/readyz")
    backend.hold.set()
    answer = await reader.read()

    assert not_ready.body == "draining\n"
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer.lower()
    assert await dataplane.ended() == 0
    writer.close()


async def test_a_request_that_does_not_end_is_cut_at_the_limit_and_the_end_is_still_0(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    backend.hold = asyncio.Event()
    dataplane = await start_dataplane(DRAIN_SECONDS="0.3")
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    reader, writer = await dataplane.connect()
    writer.write(REQUEST)
    await backend.arrived.wait()

    dataplane.signal(signal.SIGTERM)

    assert (await dataplane.event("drain_cut_short"))["aborted"] == 1
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert await dataplane.ended() == 0
    writer.close()


async def test_ctrl_c_ends_an_idle_data_plane_at_once_with_0(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(DRAIN_SECONDS=str(10 * LIMIT_SECONDS))
    await operator.publish(backend.serving("shop.example"))
    await dataplane.ready()
    _, idle = await dataplane.connect()

    dataplane.signal(signal.SIGINT)

    assert await dataplane.ended() == 0
    idle.close()


async def test_a_taken_port_is_one_line_and_1(
    settings: dict[str, str], start_dataplane: "StartDataplane"
) -> None:
    first = await start_dataplane()
    for name in ("HTTP_PORT", "ADMIN_PORT"):
        port = first.admin_port
        process = await asyncio.create_subprocess_exec(
            *first.command,
            env=first.environ | {f"FAIRWAY__{name}": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await process.communicate()

        assert process.returncode == 1
        assert stderr.decode() == (
            f"fairway: cannot bind 127.0.0.1:{port}: address already in use; "
            "stop the other program or choose another port\n"
        )


async def test_the_admin_port_may_have_an_address_of_its_own(
    operator: "Operator", start_backend: "StartBackend", start_dataplane: "StartDataplane"
) -> None:
    backend = await start_backend("one")
    dataplane = await start_dataplane(BIND_ADDRESS="127.0.0.2", ADMIN_BIND_ADDRESS="127.0.0.1")
    await operator.publish(backend.serving("shop.example"))

    await dataplane.ready()

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", dataplane.admin_port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", dataplane.http_port)
    _, writer = await asyncio.open_connection("127.0.0.2", dataplane.http_port)
    writer.close()
