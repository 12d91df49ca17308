"""
Health checks: each endpoint is asked now and then whether it is well.

A check is a GET over a connection of its own, opened as any other to its
backend, so it sees what a request would. The checks of a backend are woken by
the coarse clock: waiting for the next one costs neither task nor timer. What
they find goes to the :class:`~fairway_dataplane.upstream.health.Judge`, which
bars nobody if it would have to bar too many.
"""

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fairway_dataplane.clock import LOOK_SECONDS, NEVER, Clock
from fairway_dataplane.exchange import DirectResponse, Exchange
from fairway_dataplane.tally import count
from fairway_dataplane.upstream.announcement import Ends
from fairway_dataplane.upstream.health import Endpoint, Judge
from fairway_snapshot.model import HealthCheck

if TYPE_CHECKING:
    import asyncio

    from fairway_dataplane.errors import ProxyError
    from fairway_dataplane.tally import BackendTally
    from fairway_dataplane.upstream.backend_task import BackendTask
    from fairway_dataplane.upstream.connector import Connector

_JITTER = 0.1
"""Share of the interval by which one may be longer or shorter, so that they drift apart."""

_BODY_BYTES = 64 * 1024
"""Of an answer to a check; the status is known then, and the rest of no interest."""


class _Checked:
    """One endpoint and what its checks have found."""

    __slots__ = ("check", "due_at", "endpoint", "failed", "passed")

    def __init__(self, endpoint: Endpoint, due_at: float) -> None:
        self.endpoint = endpoint
        self.due_at = due_at
        self.check: Check | None = None
        self.passed = 0
        self.failed = 0


class Checks:
    """The checks of one backend; watched by the clock while there are any."""

    __slots__ = (
        "_checked", "_clock", "_connector", "_judge", "_server_name", "_spec", "_tally", "_tls",
        "deadline", "slot",
    )  # fmt: skip

    def __init__(
        self, connector: "Connector", clock: Clock, judge: Judge, tally: "BackendTally"
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._judge = judge
        self._tally = tally
        self._spec: HealthCheck | None = None
        self._tls = False
        self._server_name: str | None = None
        self._checked: dict[Endpoint, _Checked] = {}
        self.deadline = NEVER
        self.slot = 0

    def keep(
        self,
        endpoints: Iterable[Endpoint],
        spec: HealthCheck | None,
        *,
        tls: bool,
        server_name: str | None,
    ) -> None:
        """
        Check these from now on; None checks nobody, and holds nothing against anybody.

        A new endpoint is taken for well, for Kubernetes calls it ready; its
        first check comes at a random time within the interval.
        """
        before, self._checked = self._checked, {}
        if spec != self._spec:
            self._stop(before)
            before = {}
        was_watched, self._spec = self._spec is not None, spec
        self._tls, self._server_name = tls, server_name
        if spec is None:
            if was_watched:
                self.deadline = NEVER
                self._clock.forget(self)
            return
        now = self._clock.now
        for endpoint in endpoints:
            checked = before.pop(endpoint, None)
            self._checked[endpoint] = checked or _Checked(endpoint, now + _below(spec))
        self._stop(before)
        if not was_watched:
            self._clock.watch(self)
        self._await_next()

    def expire(self, now: float) -> None:
        """Begin the checks that are due."""
        spec = self._spec
        assert spec is not None  # it is watched
        for checked in self._checked.values():
            if checked.due_at <= now:
                jitter = 1.0 - _JITTER + 2 * _JITTER * random.random()  # noqa: S311 - no secret
                checked.due_at = now + spec.interval_seconds * jitter
                if checked.check is None:
                    checked.check = Check(self._connector, self._clock, spec, checked.endpoint)
                    checked.check.begin(self._note, tls=self._tls, server_name=self._server_name)
        self._await_next()

    def _await_next(self) -> None:
        due = min((checked.due_at for checked in self._checked.values()), default=NEVER)
        self.deadline = due
        if due - self._clock.now < LOOK_SECONDS:
            self._clock.hasten(self)

    def _note(self, endpoint: Endpoint, *, passed: bool) -> None:
        """Count a check that is over; enough of a kind in a row are a verdict."""
        spec, checked = self._spec, self._checked.get(endpoint)
        if spec is None or checked is None:
            return
        checked.check = None
        count(self._tally.checks, "passed" if passed else "failed")
        now = self._clock.now
        if passed:
            checked.passed, checked.failed = checked.passed + 1, 0
            if endpoint.unwell and checked.passed >= spec.healthy:
                self._judge.note_health(endpoint, now, unwell=False)
        else:
            checked.passed, checked.failed = 0, checked.failed + 1
            if not endpoint.unwell and checked.failed >= spec.unhealthy:
                self._judge.note_health(endpoint, now, unwell=True)

    def _stop(self, gone: dict[Endpoint, _Checked]) -> None:
        for endpoint, checked in gone.items():
            if checked.check is not None:
                checked.check.stop()
            if endpoint.unwell:
                self._judge.note_health(endpoint, self._clock.now, unwell=False)


class Check:
    """One request to one endpoint: the sink of its answer, and the owner of its exchange."""

    __slots__ = (
        "_begun_at", "_clock", "_connector", "_endpoint", "_exchange", "_own", "_received", "_spec",
        "_tell",
    )  # fmt: skip

    def __init__(
        self, connector: "Connector", clock: Clock, spec: HealthCheck, endpoint: Endpoint
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._spec = spec
        self._endpoint = endpoint
        # A stand-in keeps its connection: a check is no load that a balancer should see.
        self._own = Endpoint(endpoint.host, endpoint.port, endpoint.tally, 0)
        self._own.proxy_protocol = endpoint.proxy_protocol
        self._tell: Callable[..., None] | None = None
        self._exchange: Exchange | None = None
        self._begun_at = clock.now
        self._received = 0

    def begin(self, tell: Callable[..., None], *, tls: bool, server_name: str | None) -> None:
        """Ask; ``tell`` gets the endpoint and whether it ``passed``, once, unless stopped."""
        self._tell = tell
        self._connector.open(
            self._own,
            tls=tls,
            server_name=server_name,
            seconds=self._spec.timeout_seconds,
            done=self._connected,
        )

    def stop(self) -> None:
        """Give up, and tell nobody."""
        self._tell = None
        self._close()

    def _connected(self, attempt: "asyncio.Task[BackendTask]") -> None:
        if attempt.cancelled() or attempt.exception() is not None:
            self._verdict(passed=False)
            return
        task = attempt.result()
        if self._tell is None or not task.is_usable():
            task.close()
            self._verdict(passed=False)
            return
        spec, endpoint = self._spec, self._endpoint
        exchange = self._exchange = Exchange(self)
        exchange.owner = self
        exchange.method = b"GET"
        exchange.accepts_verbatim = True
        exchange.accepts_chunked = False
        exchange.request_complete = True
        head = b"GET %b HTTP/1.1\r\nhost: %b\r\nuser-agent: fairway-health-check\r\n" % (
            spec.path.encode(),
            (spec.host or endpoint.name).encode(),
        )
        left = max(0.0, self._begun_at + spec.timeout_seconds - self._clock.now)
        self._own.active += 1
        task.send(exchange, head + b"accept: */*\r\nconnection: close\r\n\r\n", left, left)

    def _verdict(self, *, passed: bool) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(self._endpoint, passed=passed)

    def _close(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.upstream is not None:
            exchange.upstream.abort()

    # As ResponseSink, whose arguments are more than a check needs.

    def start(self, exchange: Exchange, data: bytes) -> None:
        """Judge by the status; the body is read to its end, so that the backend is not cut off."""
        status = exchange.status
        self._verdict(passed=any(low <= status <= high for low, high in self._spec.statuses))
        self.body(data)

    def body(self, data: bytes | memoryview) -> None:
        """Drop it, within reason."""
        self._received += len(data)
        if self._received > _BODY_BYTES:
            self._close()

    def end(self) -> None:
        """Be over."""
        self._exchange = None

    def fail(self, error: "ProxyError") -> None:  # noqa: ARG002
        """Have failed, unless the status was there already."""
        self._exchange = None
        self._verdict(passed=False)

    def interim(self, exchange: Exchange, status_line: bytes, fields: bytes) -> None:
        """Do nothing: an interim response is no answer."""

    def switch(self, exchange: Exchange, data: bytes) -> None:  # noqa: ARG002
        """Refuse: no upgrade was asked for."""
        raise RuntimeError("a check was upgraded")

    def respond(self, exchange: Exchange, response: DirectResponse) -> None:  # noqa: ARG002
        """Refuse: no filter sees a check."""
        raise RuntimeError("a check was answered here")

    def wants_body(self) -> None:
        """Do nothing: there is none."""

    def ends(self) -> Ends:
        """Refuse: a check speaks for itself."""
        raise RuntimeError("a check has no client")

    def pause(self) -> None:
        """Do nothing: the request is one write."""

    def resume(self) -> None:
        """Do nothing."""

    # As ExchangeOwner.

    def failed(self, exchange: Exchange, error: "ProxyError") -> None:  # noqa: ARG002
        """Have failed; the next check tries again."""
        self.fail(error)

    def disliked(self, exchange: Exchange) -> bool:  # noqa: ARG002
        """Let every answer pass."""
        return False

    def connected(self, exchange: Exchange, task: "BackendTask") -> None:  # noqa: ARG002
        """Refuse: a check is never raced."""
        raise RuntimeError("a check was raced")

    def crashed(self, exchange: Exchange, bug: Exception) -> None:  # noqa: ARG002
        """Have failed, and let the loop report the bug."""
        self._verdict(passed=False)
        raise bug


def _below(spec: HealthCheck) -> float:
    return random.random() * spec.interval_seconds  # noqa: S311 - who guesses it gains nothing
