"""``fairway explain`` and ``fairway status`` against an API server."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from fairway_operator.cli.main import app
from fairway_operator.config import OperatorConfig
from fairway_operator.kube.client import KubeClient
from tests.fairway_operator.cluster.test_app import (
    data_plane,
    put_endpoints,
    put_ingress,
    running,
    shop,
)

if TYPE_CHECKING:
    from tests.fairway_operator.cluster.conftest import ApiServer

Eventually = Callable[..., Awaitable[None]]
Fairway = Callable[..., Awaitable[Result]]

__all__ = ["shop"]


@pytest.fixture
def config(config: OperatorConfig) -> OperatorConfig:
    return replace(config, instance_address="127.0.0.1", status_addresses=("203.0.113.7",))


@pytest.fixture
def fairway(api: "ApiServer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fairway:
    """The command line, with the kubeconfig that kubectl would take."""
    kubeconfig = tmp_path / "kubeconfig"
    known = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "here", "cluster": {"server": api.url}},
            {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}},
        ],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": "me"}}
            for name in ("here", "nowhere")
        ],
        "current-context": "here",
    }
    kubeconfig.write_text(json.dumps(known))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

    async def run(*arguments: str) -> Result:
        runner = CliRunner()
        return await asyncio.to_thread(runner.invoke, app, arguments, catch_exceptions=False)

    return run


async def test_explain_reads_what_the_api_server_holds(shop: "ApiServer", fairway: Fairway) -> None:
    shown = await fairway("explain", "http://shop.example/cart")

    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert "outcome forwarded" in lines
    assert "backend 100% default/web:80 at 10.0.0.1:8080" in lines
    assert "written at Ingress default/shop" in lines
    assert shown.stderr == ""


async def test_explain_says_what_is_wrong_with_objects_of_the_host_and_no_others(
    shop: "ApiServer", fairway: Fairway
) -> None:
    put_ingress(shop, "stranger", "stranger.example", port=81)
    put_ingress(shop, "other", "shop.example", port=82)

    shown = await fairway("explain", "http://shop.example/", "-o", "json")

    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["route"].startswith("default/other/")
    assert "Ingress default/other" in shown.stderr
    assert "stranger" not in shown.stderr


async def test_explain_tells_of_endpoints_that_are_gone(
    shop: "ApiServer", fairway: Fairway
) -> None:
    put_endpoints(shop)

    shown = await fairway("explain", "http://route.example/", "-o", "json")

    told = json.loads(shown.stdout)
    assert (told["status"], told["outcome"]) == (503, "the route has no ready endpoints")


async def test_explain_without_the_right_to_read_some_kinds(
    shop: "ApiServer", fairway: Fairway
) -> None:
    shop.denied = {"secrets", "ingressclasses"}

    shown = await fairway("explain", "https://shop.example/", "-n", "default")

    assert shown.exit_code == 0
    assert "outcome" in shown.stdout
    assert "forwarded" in shown.stdout
    assert "objects of kind Secret may not be read" in shown.stderr
    assert "the class fairway is taken to be ours" in shown.stderr
    assert shop.count("GET", "/namespaces/default/ingresses") == 1

    strange = await fairway(
        *("explain", "https://shop.example/", "-n", "default", "--assumed-class", "edge"),
        *("-o", "json"),
    )
    assert json.loads(strange.stdout)["status"] == 404
    assert "the class edge is taken to be ours" in strange.stderr


@pytest.mark.parametrize(
    "arguments", [("explain", "http://shop.example/"), ("status", "-n", "fairway-system")]
)
async def test_an_api_server_that_cannot_be_asked_is_status_1(
    shop: "ApiServer", fairway: Fairway, arguments: tuple[str, ...]
) -> None:
    shop.denied = {"services", "pods"}
    refused = await fairway(*arguments)
    away = await fairway(*arguments, "--context", "nowhere")
    unknown = await fairway(*arguments, "--context", "missing")

    for shown in (refused, away, unknown):
        assert shown.exit_code == 1
        assert shown.stdout == ""
        assert "the API server cannot be asked" in shown.stderr
    assert "forbidden (403)" in refused.stderr


@pytest.fixture
async def plane_admin() -> AsyncIterator[str]:
    """The admin port of a data plane that is not ready."""
    serving = web.Application()

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(status=503, text="no snapshot yet\n")

    async def snapshot(_: web.Request) -> web.Response:
        return web.json_response({"digest": None})

    serving.add_routes([web.get("/readyz", readyz), web.get("/debug/snapshot", snapshot)])
    runner = web.AppRunner(serving, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_status_asks_every_pod_of_the_release(  # noqa: PLR0917 - one fixture each
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    fairway: Fairway,
    plane_admin: str,
) -> None:
    put_ingress(shop, "broken", "broken.example", port=81)
    async with (
        running(client, config, eventually) as operator,
        data_plane(shop, operator, eventually) as plane,
    ):
        await eventually(lambda: "broken.example" in plane.hosts())
        shop.pod("operator-1", "operator", f"127.0.0.1:{operator.admin_port}")
        shop.pod("plane-1", "dataplane", plane_admin)
        shop.pod("plane-2", "dataplane", "127.0.0.1:1")
        shop.pod("plane-0", "dataplane", "127.0.0.1:1", phase="Failed")  # as when it was evicted
        shop.pod("elsewhere", "dataplane", "127.0.0.1:1", release="another")
        text = await fairway("status", "--release", "fairway")
        machine = await fairway("status", "--release", "fairway", "-o", "json")
        root = plane.snapshot.root.hex()

    assert text.exit_code == machine.exit_code == 1
    lines = [" ".join(line.split()) for line in text.stdout.splitlines()]
    assert "fairway-system: 1 operator, 2 data planes" in lines
    assert f"operator-1 {root[:12]} ready, leading" in lines
    assert "plane-1 nothing not ready: no snapshot yet, behind" in lines
    assert any(line.startswith("plane-2 nothing not ready: does not answer: ") for line in lines)
    assert "Ingress default/broken 1 in part closed" in lines
    at = next(
        at
        for at, line in enumerate(lines)
        if line.startswith("error: Ingress default/broken: spec.rules[0]")
    )
    assert lines[at + 1].startswith("its ports are ")
    told = json.loads(machine.stdout)
    assert [each["pod"] for each in told["dataplanes"]] == ["plane-1", "plane-2"]
    assert told["operators"][0]["subscribers"][0]["instance"] == "dp-1"
    assert told["outbox"]["leading"] is True


async def test_status_says_which_kinds_may_not_be_read(
    shop: "ApiServer",
    client: KubeClient,
    config: OperatorConfig,
    eventually: Eventually,
    fairway: Fairway,
) -> None:
    shop.denied = {"ingressclasses"}
    limited = replace(config, watch_namespaces=("default",))
    async with running(client, limited, eventually) as operator:
        shop.pod("operator-1", "operator", f"127.0.0.1:{operator.admin_port}")
        release = await fairway("status", "--release", "fairway")
        one = await fairway("status", "--admin", f"http://127.0.0.1:{operator.admin_port}")

    for shown in (release, one):
        assert shown.exit_code == 0
        assert "degraded: IngressClass is denied: ingressclasses is forbidden\n" in shown.stdout


async def test_status_of_a_namespace_without_a_release(api: "ApiServer", fairway: Fairway) -> None:
    shown = await fairway("status", "-n", "empty")

    assert shown.exit_code == 1
    assert "there is no pod in namespace empty" in shown.stderr
    assert api.count("GET", "/namespaces/empty/pods") == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"token: [s3cr3t", id="no YAML"),
        pytest.param(b"s3cr3t", id="a text"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(
            b'{"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1",'
            b' "certificate-authority-data": "czNjcjN0"}}],'
            b' "contexts": [{"name": "x", "context": {"cluster": "c"}}], "current-context": "x"}',
            id="an authority that is none",
        ),
    ],
)
async def test_a_kubeconfig_that_is_none_is_named_and_not_quoted(
    fairway: Fairway, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "odd"
    file.write_bytes(content)

    shown = await fairway("status", "--kubeconfig", str(file))

    assert shown.exit_code == 1
    assert f"no access to a cluster: {file} cannot be used: " in shown.stderr
    assert "s3cr3t" not in shown.output


async def test_status_without_a_kubeconfig_asks_the_port_of_fairway_dev(
    api: "ApiServer", fairway: Fairway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))

    shown = await fairway("status")

    assert "http://127.0.0.1:9000" in shown.output
    assert not api.requests
