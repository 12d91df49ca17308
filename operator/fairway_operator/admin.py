"""
The operator's admin port: health, metrics, and what is going on, for reading only.

Health says that the process works; readiness that this replica has compiled a
complete World and serves the stream. A replica that is not ready is not asked
by data planes that look for one, and says why.

The one rule: no secret is ever shown, not even one that an author wrote into a
header, and nothing can be changed from here.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec
from aiohttp import web

from fairway_operator.metrics import OperatorMetrics, Parts
from fairway_operator.ports import listen
from fairway_operator.resync import ListState
from fairway_snapshot.model import Certificate
from fairway_snapshot.redaction import REDACTED, redacted_backend, redacted_host
from fairway_snapshot.secret import SecretBytes
from fairway_snapshot.tree import Snapshot

LIST_LIMIT = 1_000
LARGEST_LIST_LIMIT = 100_000

Payload = dict[str, Any] | list[Any]


class AdminServer:
    """Serves the admin port."""

    def __init__(
        self, parts: Parts, metrics: OperatorMetrics, *, waiting_for: Callable[[], list[str]]
    ) -> None:
        """``waiting_for`` returns what is missing before this replica is ready."""
        self._parts = parts
        self._metrics = metrics
        self._waiting_for = waiting_for
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port. Raises OSError when it is taken."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics_text),
                web.get("/debug/snapshot", self._snapshot),
                web.get("/debug/routes", self._routes),
                web.get("/debug/subscribers", self._subscribers),
                web.get("/debug/findings", self._findings),
                web.get("/debug/outbox", self._outbox),
                web.get("/debug/lists", self._lists),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listen(host, port)).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        missing = self._waiting_for()
        if missing:
            return web.Response(
                status=503, text="".join(f"waiting for {what}\n" for what in missing)
            )
        degraded = [
            f"degraded: {kind} is {status.state}: {status.message}\n"
            for kind, status in self._parts.resync.kinds.items()
            if status.state in (ListState.DENIED, ListState.FAILED)
        ]
        return web.Response(text="ok\n" + "".join(degraded))

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _snapshot(self, request: web.Request) -> web.Response:
        limit = _limit(request)
        compilation = self._parts.reconciler.compilation
        if compilation is None:
            return _json({})
        return _json(
            {
                "root": compilation.snapshot.root.hex(),
                "position": list(self._parts.reconciler.position),
                **show_snapshot(compilation.snapshot, limit),
            }
        )

    async def _routes(self, _: web.Request) -> web.Response:
        compilation = self._parts.reconciler.compilation
        return _json(
            [
                {
                    "object": str(ref),
                    "hosts": list(serving.hosts),
                    "routes": list(serving.routes),
                    "generation": serving.generation,
                    "served_generation": serving.served_generation,
                    "standing": serving.standing,
                }
                for ref, serving in (compilation.serving if compilation else {}).items()
            ]
        )

    async def _subscribers(self, _: web.Request) -> web.Response:
        return _json(
            [
                {
                    "instance": each.instance,
                    "version": each.version,
                    "peer": each.peer,
                    "connected_at": each.connected_at,
                    "root": each.root.hex() if each.root else None,
                    "refused_reason": each.refused_reason,
                }
                for each in self._parts.publisher.subscribers()
            ]
        )

    async def _findings(self, _: web.Request) -> web.Response:
        compilation = self._parts.reconciler.compilation
        findings = compilation.findings if compilation else {}
        return _json({str(ref): msgspec.to_builtins(found) for ref, found in findings.items()})

    async def _outbox(self, _: web.Request) -> web.Response:
        outbox, lease = self._parts.outbox, self._parts.lease
        return _json(
            {
                "leading": lease.leading,
                "holder": lease.holder,
                "epoch": lease.epoch,
                "pace": outbox.pace,
                "superseded": outbox.counters.superseded,
                "outcomes": outbox.counters.outcomes,
                "pending": [
                    {"object": str(key.ref), "effect": key.name, "failures": failures}
                    for key, failures in outbox.pending()
                ],
                "history": [
                    {
                        "object": str(key.ref),
                        "effect": key.name,
                        "attempts": [
                            {
                                "at": attempt.at,
                                "outcome": attempt.outcome,
                                "message": attempt.message,
                                "seconds": attempt.seconds,
                            }
                            for attempt in attempts
                        ],
                    }
                    for key, attempts in outbox.history().items()
                ],
            }
        )

    async def _lists(self, _: web.Request) -> web.Response:
        resync = self._parts.resync
        return _json(
            {
                kind.value: {
                    "state": status.state,
                    "message": status.message,
                    "age_seconds": resync.age_seconds(kind),
                    "known": len(self._parts.inbox.known(kind)),
                    "watch_restarts": self._parts.watch_restarts().get(kind, 0),
                    "watch_lists": self._parts.watch_lists().get(kind, 0),
                }
                for kind, status in resync.kinds.items()
            }
        )


def show_snapshot(snapshot: Snapshot, limit: int) -> dict[str, Any]:
    """Return so many leaves of each section, without keys and without values of headers."""
    return {
        "counts": {
            "hosts": len(snapshot.hosts),
            "backends": len(snapshot.backends),
            "certificates": len(snapshot.certificates),
            "server_names": len(snapshot.server_names),
        },
        "hosts": {
            host: msgspec.to_builtins(redacted_host(virtual_host))
            for host, virtual_host in _some(snapshot.hosts, limit)
        },
        "backends": {
            name: msgspec.to_builtins(redacted_backend(backend))
            for name, backend in _some(snapshot.backends, limit)
        },
        "certificates": {
            name: _show_certificate(certificate)
            for name, certificate in _some(snapshot.certificates, limit)
        },
        "server_names": {
            name: msgspec.to_builtins(leaf) for name, leaf in _some(snapshot.server_names, limit)
        },
    }


def _some(section: Any, limit: int) -> list[tuple[str, Any]]:
    """Return some leaves, sorted; which ones is nobody's choice."""
    return sorted(islice(section.items(), limit), key=lambda pair: pair[0])


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(LIST_LIMIT))
    # Its length first: Python takes no number of thousands of digits.
    if not text.isdecimal() or len(text) > 6 or int(text) > LARGEST_LIST_LIMIT:
        raise web.HTTPBadRequest(text=f"limit: write a number up to {LARGEST_LIST_LIMIT}\n")
    return int(text)


def _show_certificate(certificate: Certificate) -> Payload:
    return {"chain": certificate.chain.decode("ascii", errors="replace"), "key": REDACTED}


def _json(payload: Payload) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(payload, enc_hook=_redact), content_type="application/json"
    )


def _redact(value: object) -> str:
    if isinstance(value, SecretBytes):
        return REDACTED
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")
