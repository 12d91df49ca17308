"""
Everything that forwards in one worker, put together.

The one place that knows all parts of the request path. A new snapshot is built
beside the old one and takes its place by assignments that cannot fail: what
could be refused has been refused before the first of them.
"""

import asyncio
import ipaddress
import resource
import select
import socket
import sys
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import structlog

from fairway_dataplane.accesslog import AccessLog
from fairway_dataplane.clock import Clock
from fairway_dataplane.config import DataplaneConfig
from fairway_dataplane.downstream.listener import DrainReport, Forwarding, Listener
from fairway_dataplane.downstream.overload import Memory, Overload
from fairway_dataplane.limits import Limits
from fairway_dataplane.link import Door
from fairway_dataplane.ports import turn_away
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.slices import Slices, let_go
from fairway_dataplane.table import Tables, build_table_in_steps
from fairway_dataplane.tally import Tally
from fairway_dataplane.tls.certificates import self_signed
from fairway_dataplane.tls.client import ClientContexts
from fairway_dataplane.tls.contexts import (
    BuiltContexts,
    CurrentContexts,
    build_contexts_in_steps,
    no_contexts,
)
from fairway_dataplane.tls.server import TlsServerProtocol
from fairway_dataplane.tls.tickets import TicketKeys
from fairway_dataplane.upstream.pool import Upstreams
from fairway_snapshot.diff import Change, changes
from fairway_snapshot.digest import short
from fairway_snapshot.model import Backend, BackendId, CertificateId, Section
from fairway_snapshot.protocol import Offer

CLIENTS_PER_DESCRIPTOR = 0.4
"""Each client may need a second descriptor for its backend, and some are ours."""

FORGET_SECONDS = 60.0
"""Counters of routes and backends that are gone stay for so long, to be scraped once more."""

SWEEP_TURNS = 20_000
"""Turns of the loop to empty the queues in; they hold a few thousand connections at most."""

COUNTED_AT_ONCE = 32
"""Routes or backends whose counters are read before others have their turn."""

FALLBACK_SECONDS = 365 * 86400.0
"""Life of the self-signed certificate, which nobody trusts anyway."""

_log = structlog.get_logger("fairway.worker")


class Traffic:
    """What one worker forwards with."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: DataplaneConfig,
        doors: Sequence[Door],
        tickets: TicketKeys,
    ) -> None:
        limits = _within_descriptors(config.limits)
        self.tally = Tally()
        self.slices = Slices()
        """For what this worker does beside serving."""
        self._loop = loop
        self._limits = limits
        self._clock = Clock(loop)
        self._doors = {
            (door.slot, door.scheme): socket.socket(fileno=door.descriptor) for door in doors
        }
        fallback = self_signed((), now=time.time(), valid_seconds=FALLBACK_SECONDS)
        built = BuiltContexts(tickets, _note_refused)
        self._contexts = CurrentContexts(
            no_contexts(fallback, built, strict=config.strict_server_names)
        )
        self._clock.watch(tickets)
        self._upstreams = Upstreams(
            loop,
            self._clock,
            limits,
            self.tally,
            ClientContexts(config.backend_authorities or None),
        )
        self._tables = Tables()
        self._backends: Collection[BackendId] = ()
        self._leftovers: list[list[Any]] = []
        self._turn = 0
        """Odd while a snapshot is applied."""
        settings = config.access_log
        self._access_log = AccessLog(loop, self._clock, settings, sys.stdout.fileno())
        self._forgetting: asyncio.Task[None] | None = None
        self._proxy = Proxy(
            tables=self._tables,
            clock=self._clock,
            limits=limits,
            tally=self.tally,
            on_finished=None if settings.format == "off" else self._access_log.record,
            on_bug=self._note_bug,
        )
        self._listener = Listener(
            loop, self._proxy, self._clock, limits, self.tally, _forwarding(config)
        )
        self._overload = Overload(self._listener, Memory(limits), self._note_overload)
        self._overload.start()
        self._clock.start()

    async def apply(self, offer: Offer) -> int:
        """
        Serve an offer; return how many leaves of the snapshot it changed.

        What takes long is done in slices, and requests are served between them.
        Whatever is raised, what was served before is served on.
        """
        self._turn += 1
        try:
            return await self._apply(offer)
        finally:
            self._turn += 1

    async def _apply(self, offer: Offer) -> int:
        found = await self.slices.run(_by_section(changes(offer.previous, offer.snapshot)))
        hosts, backends = found[Section.HOSTS], found[Section.BACKENDS]
        certified = found[Section.CERTIFICATES] + found[Section.SERVER_NAMES]
        contexts = await self.slices.run(build_contexts_in_steps(self._contexts.current, certified))
        table = await self.slices.run(
            build_table_in_steps(
                self._tables.current,
                hosts,
                upstreams=self._upstreams,
                limits=self._limits,
                tally=self.tally,
            )
        )
        gone = await self.slices.run(self._update_backends(backends))
        before = self._tables.swap(table)
        self._leftovers.append([self._contexts.swap(contexts), *before.parts()])
        self._backends = offer.snapshot.backends
        self._access_log.snapshot = short(offer.snapshot.root)
        await self.slices.run(self._close_backends(gone))
        if gone or hosts:
            self._forget_soon()
        self._leftovers += hosts, backends, certified
        return len(hosts) + len(backends) + len(certified)

    async def tidy(self) -> None:
        """Let go of what was served before the last offer."""
        await self.slices.run(let_go(self._leftovers))

    async def open(self, slot: int) -> None:
        """Accept on the doors of a slot."""
        await self._listener.accept(self._doors[slot, "http"])
        await self._listener.accept(self._doors[slot, "https"], self._wrap)

    async def shut(self, slot: int) -> None:
        """Accept no more on the doors of a slot; its own worker does."""
        for scheme in ("http", "https"):
            self._listener.stop_accepting(self._doors[slot, scheme])

    async def drain(self, limit_seconds: float, *, closing: bool) -> DrainReport:
        """
        Finish what there is.

        With ``closing``, take what waits at every door first: the last process
        that closes a door resets whatever is still queued there.
        """
        if closing:
            await self._sweep()
        self._overload.stop()
        self._listener.stop_accepting()
        for door in self._doors.values():
            door.close()
        report = await self._listener.drain(limit_seconds)
        self._upstreams.close()
        self._access_log.close()
        self._clock.stop()
        if self._forgetting is not None:
            self._forgetting.cancel()
        return report

    def counted_in_parts(self) -> Iterator[bytes]:
        """
        Read all gauges, and yield the counters of a few routes and backends at a time.

        At the end, the rest of the tally is up to date as well.
        """
        tally = self.tally
        names = list(tally.routes)
        for at in range(0, len(names), COUNTED_AT_ONCE):
            yield tally.packed_rows(routes=names[at : at + COUNTED_AT_ONCE])
        names = list(tally.backends)
        for at in range(0, len(names), COUNTED_AT_ONCE):
            some = names[at : at + COUNTED_AT_ONCE]
            self._upstreams.measure(some)
            yield tally.packed_rows(backends=some)
        tally.connections_arriving = len(self._listener.arrivals)
        tally.log_lines_dropped = self._access_log.dropped

    def connections(self, limit: int) -> tuple[dict[str, object], ...]:
        """Describe so many open connections."""
        return tuple(self._listener.connections(limit))

    def backends(self, limit: int, name: str) -> Iterator[dict[str, object]]:
        """Describe so many backends, or that with this name, and how their endpoints stand."""
        return self._upstreams.describe(limit, name)

    def _update_backends(self, found: Iterable[Change]) -> Generator[None, None, list[BackendId]]:
        """Give backends their new endpoints; return those that are gone."""
        gone: list[BackendId] = []
        for change in found:
            if isinstance(change.after, Backend):
                self._upstreams.update(BackendId(change.key), change.after)
            else:
                gone.append(BackendId(change.key))
            yield
        return gone

    def _close_backends(self, gone: Iterable[BackendId]) -> Generator[None, None, None]:
        for name in gone:
            self._upstreams.update(name, None)
            yield

    async def _sweep(self) -> None:
        """Accept what waits at every door, our own and our neighbours'."""
        listening = {
            at: door
            for at, door in self._doors.items()
            if door.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        }
        for door in listening.values():
            turn_away(door)
        for (_, scheme), door in listening.items():
            await self._listener.accept(door, self._wrap if scheme == "https" else None)
        queued = select.poll()
        for door in listening.values():
            queued.register(door, select.POLLIN)
        # Each turn of the loop accepts at every door; out of descriptors, it never ends.
        for _ in range(SWEEP_TURNS):
            if not queued.poll(0):
                break
            await asyncio.sleep(0)

    def _forget_soon(self) -> None:
        """Drop the counters of what is gone, but seldom: it looks at every route."""
        if self._forgetting is None or self._forgetting.done():
            self._forgetting = self._loop.create_task(self._forget())

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_SECONDS)
            if await self.slices.run(self._forget_in_steps()):
                return

    def _forget_in_steps(self) -> Generator[None, None, bool]:
        """Forget what is gone; give up if a table is built meanwhile, that may name it again."""
        turn = self._turn
        if turn % 2:
            return False
        routes: set[str] = set()
        used: set[str] = set()
        for backend in self._backends:
            used.add(backend)
            yield
        for _, route in self._tables.current.routes():
            routes.add(route.name)
            # A route may name a backend that the snapshot lacks: it is answered with 503.
            used.update(part.backend for part in route.backends)
            yield
        for name in (*self.tally.routes, *self.tally.backends):
            if self._turn != turn:
                return False
            if name not in routes:
                self.tally.routes.pop(name, None)
            if name not in used:
                self.tally.backends.pop(name, None)
                self._upstreams.forget(BackendId(name))
            yield
        return True

    def _wrap(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        layer = TlsServerProtocol(
            inner,
            contexts=self._contexts,
            clock=self._clock,
            limits=self._limits,
            handshakes=self.tally.handshakes,
            arrivals=self._listener.arrivals,
        )
        # It has a protocol's methods and not its class: a compiled class has no base in Python.
        return cast("asyncio.Protocol", layer)

    def _note_overload(self, resource: str, short: bool, figures: dict[str, int]) -> None:  # noqa: FBT001 - see Tell
        if short:
            _log.warning("overload_began", resource=resource, **figures)
        else:
            _log.info("overload_ended", resource=resource, **figures)

    def _note_bug(self, request_id: str, error: BaseException) -> None:
        _log.error("exchange_bug", request_id=request_id, exc_info=error)


def _note_refused(certificate: CertificateId, reason: str) -> None:
    _log.warning("certificate_refused", certificate=certificate, reason=reason)


def _by_section(found: Iterable[Change]) -> Generator[None, None, dict[Section, list[Change]]]:
    parts: dict[Section, list[Change]] = {section: [] for section in Section}
    for change in found:
        parts[change.section].append(change)
        yield
    return parts


def _forwarding(config: DataplaneConfig) -> Forwarding:
    return Forwarding(
        trusted=tuple(ipaddress.ip_network(network) for network in config.trusted_networks),
        introducers=tuple(
            ipaddress.ip_network(network) for network in config.proxy_protocol_networks
        ),
        forwarded=config.send_forwarded,
        via=config.send_via,
    )


def _within_descriptors(limits: Limits) -> Limits:
    """Return the limits with no more connections than this process has descriptors for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=min(limits.connections, int(soft * CLIENTS_PER_DESCRIPTOR)))
