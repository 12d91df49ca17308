"""
The admin port: health, readiness, metrics and what one wants to know at night.

Read-only, and bounded: pages that cost something are made a few at a time, and
lists are cut at a limit, so that whoever scrapes too eagerly slows down nobody
but himself. Nothing here shows a key, a certificate's content, a request, or the
value of a header that a route sets or asks for.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

import msgspec
from aiohttp import web

from fairway_dataplane.exposition import CONTENT_TYPE
from fairway_dataplane.metrics import Readings, render
from fairway_dataplane.store import Stored
from fairway_snapshot.model import Route
from fairway_snapshot.redaction import redacted_backend, redacted_route
from fairway_snapshot.tree import Snapshot

COSTLY_AT_ONCE = 4
SCRAPE_LIMIT_SECONDS = 30.0
"""To read all metrics; Prometheus itself gives up after 10 by default."""

LIST_LIMIT = 1_000
LARGEST_LIST_LIMIT = 100_000


class Status(Protocol):
    """What the admin port may ask of the supervisor."""

    def unready(self) -> str:
        """Return why no traffic should come here; empty when it should."""

    def unwell(self) -> str:
        """Return why this container should be restarted; empty when it should not."""

    def served(self) -> Stored | None:
        """Return what the workers serve."""

    async def readings(self) -> Readings:
        """Return what a scrape shows."""

    async def connections(self) -> list[dict[str, object]]:
        """Return one row for each worker."""

    async def backends(self, name: str) -> list[dict[str, object]]:
        """Return one row for each worker, with the backend of this name, or with some."""


async def start_admin(status: Status, listening: socket.socket) -> web.AppRunner:
    """Serve the pages on a listening socket; end it by ``cleanup`` of what is returned."""
    pages = _Pages(status)
    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
            web.get("/metrics", pages.metrics),
            web.get("/debug/snapshot", pages.snapshot),
            web.get("/debug/routes", pages.routes),
            web.get("/debug/connections", pages.connections),
            web.get("/debug/backends", pages.backends),
        ]
    )
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=15.0,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    await web.SockSite(runner, listening).start()
    return runner


class _Pages:
    def __init__(self, status: Status) -> None:
        self._status = status
        self._costly = asyncio.Semaphore(COSTLY_AT_ONCE)

    async def healthz(self, _: web.Request) -> web.Response:
        return _verdict(self._status.unwell())

    async def readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._status.unready())

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": CONTENT_TYPE})
        async with self._costly:
            readings = await self._status.readings()
            try:
                # Who does not read has a place among the few, and must not keep it.
                async with asyncio.timeout(SCRAPE_LIMIT_SECONDS):
                    await response.prepare(request)
                    for part in render(readings):
                        await response.write(part)
                        await asyncio.sleep(0)  # who reads quickly makes nobody wait
            except TimeoutError:
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                pass  # it has had enough
        return response

    async def snapshot(self, request: web.Request) -> web.Response:
        limit = _limit(request)
        served = self._status.served()
        if served is None:
            return _json({"digest": None})
        async with self._costly:
            return _json(_show_snapshot(served, limit))

    async def routes(self, request: web.Request) -> web.Response:
        limit, host = _limit(request), request.query.get("host")
        served = self._status.served()
        rows = iter(()) if served is None else _rows(served.snapshot, host)
        async with self._costly:
            shown = list(islice(rows, limit))
            return _json({"routes": shown, "truncated": next(rows, None) is not None})

    async def connections(self, _: web.Request) -> web.Response:
        async with self._costly:
            return _json({"workers": await self._status.connections()})

    async def backends(self, request: web.Request) -> web.Response:
        name = request.query.get("backend", "")
        async with self._costly:
            return _json({"workers": await self._status.backends(name)})


def _verdict(problem: str) -> web.Response:
    if problem:
        return web.Response(status=503, text=f"{problem}\n")
    return web.Response(text="ok\n")


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIST_LIMIT))
    # Its length first: Python takes no number of thousands of digits.
    if not text.isdecimal() or len(text) > 6 or int(text) > LARGEST_LIST_LIMIT:
        raise web.HTTPBadRequest(text=f"limit: write a number up to {LARGEST_LIST_LIMIT}\n")
    return int(text)


def _json(value: object) -> web.Response:
    return web.Response(
        text=json.dumps(value, indent=2) + "\n", content_type="application/json", charset="utf-8"
    )


def _show_snapshot(served: Stored, limit: int) -> dict[str, object]:
    snapshot, position = served.snapshot, served.position
    return {
        "digest": snapshot.root.hex(),
        "epoch": position.epoch,
        "sequence": position.sequence,
        "counts": {
            "hosts": len(snapshot.hosts),
            "backends": len(snapshot.backends),
            "certificates": len(snapshot.certificates),
            "server_names": len(snapshot.server_names),
        },
        "backends": {
            name: msgspec.to_builtins(redacted_backend(backend))
            for name, backend in islice(snapshot.backends.items(), limit)
        },
        # The names alone: neither chain nor key is anybody's business here.
        "certificates": list(islice(snapshot.certificates, limit)),
        "server_names": {
            name: chosen.certificate
            for name, chosen in islice(snapshot.server_names.items(), limit)
        },
        "hosts": {
            host: [route.name for route in virtual.routes]
            for host, virtual in islice(snapshot.hosts.items(), limit)
        },
    }


def _rows(snapshot: Snapshot, host: str | None) -> Iterator[dict[str, object]]:
    for name in sorted(snapshot.hosts):
        if host is None or name == host:
            for route in snapshot.hosts[name].routes:
                yield _row(snapshot, name, route)


def _row(snapshot: Snapshot, host: str, route: Route) -> dict[str, object]:
    shown = redacted_route(route)
    backends = []
    for weighted in route.backends:
        backend = snapshot.backends.get(weighted.backend)
        backends.append(
            {
                "backend": weighted.backend,
                "weight": weighted.weight,
                "endpoints": 0 if backend is None else len(backend.endpoints),
            }
        )
    return {
        "host": host or "*",
        "route": route.name,
        "match": msgspec.to_builtins(shown.match),
        "filters": msgspec.to_builtins(shown.filters),
        "backends": backends,
    }
