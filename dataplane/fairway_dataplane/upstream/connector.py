"""
Opening connections: the only part of forwarding that waits.

An exchange without a kept connection starts a race: one endpoint is tried, and
if it has not answered shortly, another beside it. The first to connect serves
the exchange; the others become idle. Endpoints that come while a race is on
join it: in a rollout, those it began with may all be gone. A race stands in for
the connection until there is one, so giving the exchange up is the same call in
both.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from fairway_dataplane.clock import Clock
from fairway_dataplane.errors import ProxyError, Reason, Side
from fairway_dataplane.exchange import Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.tls.client import TlsClientProtocol
from fairway_dataplane.upstream.announcement import Announcement, announce
from fairway_dataplane.upstream.backend_task import BackendTask
from fairway_dataplane.upstream.health import Endpoint
from fairway_dataplane.upstream.silence import notice_silence

AT_ONCE = 3
"""Endpoints tried beside each other for one exchange; a lost node takes several at once."""

ATTEMPTS = 10
"""Endpoints tried for one exchange before it fails: who refuses costs next to nothing."""


class Connector:
    """Opens connections for one worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: Limits,
        client_context: Callable[[str | None], ssl.SSLContext],
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.limits = limits
        self._client_context = client_context
        self._attempts: set[asyncio.Task[BackendTask]] = set()

    def open(  # noqa: PLR0913 - what differs between a check and a request
        self,
        endpoint: Endpoint,
        *,
        tls: bool,
        server_name: str | None,
        seconds: float,
        done: Callable[[asyncio.Task[BackendTask]], None],
        exchange: Exchange | None = None,
    ) -> None:
        """
        Try one endpoint for ``seconds``; ``done`` gets the task with its outcome.

        ``exchange`` is the one that the connection is for; None for one of our own.
        It raises OSError, TimeoutError or ssl.SSLError if there is no connection.
        """
        header = b""
        if endpoint.proxy_protocol:
            ends = None if exchange is None else exchange.sink.ends()
            header = announce(endpoint.proxy_protocol, ends)
        attempt = self.loop.create_task(
            self._open(endpoint, tls=tls, server_name=server_name, seconds=seconds, header=header)
        )
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempts.discard)
        attempt.add_done_callback(done)

    def close(self) -> None:
        """Give up every attempt."""
        for attempt in tuple(self._attempts):
            attempt.cancel()

    async def _open(
        self,
        endpoint: Endpoint,
        *,
        tls: bool,
        server_name: str | None,
        seconds: float,
        header: bytes,
    ) -> BackendTask:
        task = BackendTask(endpoint, self.clock, self.limits)
        made: asyncio.Future[None] = self.loop.create_future()
        task.tell_when_made(made)
        # It has a protocol's methods and not its class: a compiled class has no base in Python.
        protocol = cast("asyncio.Protocol", task)
        if tls:
            layer = TlsClientProtocol(
                protocol,
                context=self._client_context(server_name),
                server_name=server_name,
                clock=self.clock,
                limits=self.limits,
                failed=partial(_fail, made),
            )
            protocol = cast("asyncio.Protocol", layer)
        if header:
            protocol = Announcement(protocol, header)
        transport: asyncio.BaseTransport | None = None
        try:
            async with asyncio.timeout(seconds):
                transport = await self._connect(protocol, endpoint)
                if not transport.is_closing():
                    notice_silence(transport.get_extra_info("socket"))
                await made
        except BaseException:
            if transport is not None:
                transport.close()
            if made.done() and not made.cancelled():
                made.exception()
            raise
        return task

    async def _connect(
        self, protocol: asyncio.Protocol, endpoint: Endpoint
    ) -> asyncio.BaseTransport:
        """Connect to the first address of an endpoint that does not refuse."""
        refusal: OSError | None = None
        for host in await self._addresses(endpoint):
            try:
                transport, _ = await self.loop.create_connection(
                    lambda: protocol, host, endpoint.port
                )
            except OSError as error:
                # A name may have addresses of a family that leads nowhere from here.
                refusal = error
            else:
                return transport
        raise refusal or ConnectionError("the name leads to no address that may be used")

    async def _addresses(self, endpoint: Endpoint) -> list[str]:
        """Return what to connect to; a name must not lead back to this machine."""
        try:
            return [str(ipaddress.ip_address(endpoint.host))]
        except ValueError:
            pass
        found = await self.loop.getaddrinfo(endpoint.host, endpoint.port, type=1)
        addresses = [str(entry[4][0]) for entry in found]
        if self.limits.allow_loopback_names:
            return addresses
        return [text for text in addresses if not _is_local(text.partition("%")[0])]


def _is_local(text: str) -> bool:
    """Tell whether an address is this machine, or its metadata service; also written as IPv6."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    judged = mapped or address
    return judged.is_loopback or judged.is_link_local or judged.is_unspecified


class RacedBackend(Protocol):
    """What a race needs of a backend."""

    tls: bool
    server_name: str | None
    waiting: int
    """Exchanges that wait for a connection."""

    def choose(self, exchange: Exchange) -> Endpoint | None:
        """Return an endpoint to try next that was not tried yet, None without any."""


class Race:
    """The connection attempts of one exchange, in place of its connection."""

    __slots__ = (
        "_attempts", "_backend", "_connector", "_ends_at", "_exchange", "_open", "_seconds",
        "_timer",
    )  # fmt: skip

    def __init__(
        self, connector: Connector, backend: RacedBackend, exchange: Exchange, seconds: float
    ) -> None:
        self._connector = connector
        self._backend = backend
        self._exchange: Exchange | None = exchange
        self._seconds = seconds
        self._ends_at = connector.loop.time() + seconds
        self._attempts = 0
        self._open = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, endpoint: Endpoint) -> None:
        """Try the first endpoint."""
        assert self._exchange is not None
        self._exchange.upstream = self
        self._backend.waiting += 1
        self._wait()
        self._try(endpoint)

    def abort(self) -> None:
        """Give the exchange up; a connection that comes after all becomes idle."""
        self._leave()

    def send_body(self, data: bytes | memoryview) -> None:  # noqa: ARG002 - see UpstreamStream
        """Refuse: the body is not asked for before there is a connection."""
        raise RuntimeError("body for a connection that is not there")

    def end_body(self) -> None:
        """Do nothing: the exchange knows that its request is complete."""

    def pause(self) -> None:
        """Do nothing: there is no response to read."""

    def resume(self) -> None:
        """Do nothing."""

    def _try(self, endpoint: Endpoint) -> None:
        assert self._exchange is not None
        self._attempts += 1
        self._open += 1
        endpoint.opening += 1
        self._exchange.tried += (endpoint,)
        self._exchange.endpoint = endpoint.name
        self._connector.open(
            endpoint,
            tls=self._backend.tls,
            server_name=self._backend.server_name,
            seconds=self._seconds,
            done=partial(self._done, endpoint),
            exchange=self._exchange,
        )

    def _wait(self) -> None:
        """Give what is tried its time to connect alone."""
        self._timer = self._connector.loop.call_later(
            self._connector.limits.connect_race_seconds, self._on_timer
        )

    def _on_timer(self) -> None:
        self._try_another()
        if self._exchange is not None and self._may_try():
            self._wait()

    def _try_another(self) -> None:
        exchange = self._exchange
        if exchange is None or self._open >= AT_ONCE or not self._may_try():
            return
        endpoint = self._backend.choose(exchange)
        if endpoint is not None:
            self._try(endpoint)

    def _may_try(self) -> bool:
        """Tell whether a further attempt is left; none begins after the time of the first."""
        return self._attempts < ATTEMPTS and self._connector.loop.time() < self._ends_at

    def _done(self, endpoint: Endpoint, attempt: "asyncio.Task[BackendTask]") -> None:
        self._open -= 1
        endpoint.opening -= 1
        exchange = self._exchange
        error: BaseException | None = asyncio.CancelledError()
        if not attempt.cancelled():
            error = attempt.exception()
        if error is None:
            endpoint.note_success(self._connector.clock.now)
            endpoint.tally.connects += 1
            self._hand_over(endpoint, attempt.result())
            return
        endpoint.note_failure(self._connector.clock.now)
        endpoint.tally.connect_failures += 1
        if exchange is None:
            return
        self._try_another()
        if not self._open:
            self._leave()
            exchange.owner.failed(
                exchange,
                ProxyError(
                    Reason.UPSTREAM_CONNECT,
                    side=Side.UPSTREAM,
                    detail=f"{endpoint.name}: {type(error).__name__}",
                ),
            )

    def _hand_over(self, endpoint: Endpoint, task: BackendTask) -> None:
        exchange = self._exchange
        if exchange is None:
            task.keep()
            return
        if not task.is_usable():
            error = ProxyError(Reason.UPSTREAM_RESET, side=Side.UPSTREAM, detail=endpoint.name)
            self._leave()
            exchange.owner.failed(exchange, error)
            return
        self._leave()
        endpoint.active += 1
        endpoint.tally.hand_overs += 1
        exchange.endpoint = endpoint.name
        try:
            exchange.owner.connected(exchange, task)
        except Exception as bug:  # noqa: BLE001 - a bug in one exchange ends that one only
            exchange.owner.crashed(exchange, bug)

    def _leave(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            self._backend.waiting -= 1
            if exchange.upstream is self:
                exchange.upstream = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _fail(made: "asyncio.Future[None]", error: Exception) -> None:
    if not made.done():
        made.set_exception(error)
