"""
The decision about each request: which route, which backend, which connection.

``forward`` reads the current table once and never looks again. Everything is
decided synchronously; what cannot be decided yet (a connection that is being
opened) goes on in a callback of the upstream side.

A request is sent again only where RFC 9110 section 9.2.2 allows it: if no byte
of it was sent, or if its method is idempotent, no byte of an answer was passed
on and its body is still at hand; and never so often that retries become a
storm of their own.
"""

from bisect import bisect_left
from collections.abc import Callable
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING

from fairway_dataplane.clock import Clock
from fairway_dataplane.errors import ProxyError, Reason, Retry, Side
from fairway_dataplane.exchange import CHUNKED, NO_BODY, DirectResponse, Exchange
from fairway_dataplane.limits import Limits
from fairway_dataplane.policy import IDEMPOTENT, METHODS
from fairway_dataplane.table import RouteEntry, Tables
from fairway_dataplane.tally import DURATION_SECONDS, MATCH_SECONDS, RouteTally, Tally, count

if TYPE_CHECKING:
    from fairway_dataplane.upstream.backend_task import BackendTask

_MATCH_SAMPLE = 63
"""The time of one match in 64 is taken; a mask for the count of requests."""

_HERE = DirectResponse(204)

_NOT_IMPLEMENTED = 501
"""Statuses above it, and nothing less, may tell of an endpoint that cannot serve."""


class Proxy:
    """Forward exchanges; one per worker."""

    __slots__ = ("_clock", "_limits", "_on_bug", "_on_finished", "_tables", "_tally")

    def __init__(  # noqa: PLR0913 - each belongs to another owner
        self,
        *,
        tables: Tables,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        on_finished: Callable[[Exchange], None] | None,
        on_bug: Callable[[str, BaseException], None],
    ) -> None:
        """
        Take what outlives requests.

        ``on_finished`` is the access log, or None; ``on_bug`` takes the request
        id and what was raised.
        """
        self._tables = tables
        self._clock = clock
        self._limits = limits
        self._tally = tally
        self._on_finished = on_finished
        self._on_bug = on_bug

    # Called by the downstream side.

    def forward(self, exchange: Exchange) -> None:  # noqa: C901 - one line, decided in order
        """Answer the exchange through its sink, now or later."""
        tally = self._tally
        tally.requests += 1
        exchange.owner = self
        if tally.requests & _MATCH_SAMPLE:
            route = self._tables.current.match(exchange)
        else:
            route = self._match_and_measure(exchange)
        if route is None:
            self._refuse(exchange, Reason.NO_ROUTE)
            return
        exchange.route = route
        if exchange.encoded_slash and not route.allow_encoded_slash:
            self._refuse(exchange, Reason.BAD_TARGET)  # row 63
            return
        if exchange.body_length != NO_BODY and not self._admit_body(exchange, route):
            return
        if exchange.ends_here:
            exchange.sink.respond(exchange, _HERE)
            return
        chain = route.chain
        if chain is not None:
            exchange.sent_path = exchange.sent_path or exchange.path
            response = chain(exchange)
            if response is not None:
                exchange.sink.respond(exchange, response)
                return
        backend = route.backend
        if backend is None:
            if route.split is None:
                self._refuse(exchange, Reason.NO_ENDPOINTS)
                return
            backend = route.split.choose()
        exchange.backend = backend
        exchange.retry_codes = route.retry_codes
        task = backend.checkout(exchange, route.connect_seconds)
        if task is not None:
            self.connected(exchange, task)
        elif exchange.upstream is None:
            self._refuse(exchange, backend.refusal())

    def finished(self, exchange: Exchange) -> None:
        """Count an exchange that is over; called once by its sink."""
        route = exchange.route
        if route is not None:
            if exchange.status != 200 or exchange.method != b"GET":
                _count_answer(route.tally, exchange)
            seconds = monotonic() - exchange.started
            page, at = route.page, route.at
            page.cells[at] += seconds
            bucket = bisect_left(DURATION_SECONDS, seconds)
            page.cells[at + 1 + bucket] += 1.0
            upstream_seconds = exchange.upstream_seconds
            if upstream_seconds:
                backend = exchange.backend
                assert backend is not None  # it was sent
                durations = backend.tally.durations
                page, at = durations.page, durations.at
                page.cells[at] += upstream_seconds
                bucket = bisect_left(DURATION_SECONDS, upstream_seconds)
                page.cells[at + 1 + bucket] += 1.0
                if exchange.status > _NOT_IMPLEMENTED or exchange.reason or backend.attentive:
                    backend.judge(exchange)
            elif exchange.attempts:
                # It was sent, and never answered.
                assert exchange.backend is not None
                exchange.backend.judge(exchange)
        if exchange.reason:
            count(self._tally.terminations, exchange.reason)
        if self._on_finished is not None:
            self._on_finished(exchange)

    # Called by the upstream side, as ExchangeOwner.

    def connected(self, exchange: Exchange, task: "BackendTask") -> None:
        """Send the request."""
        route, backend = exchange.route, exchange.backend
        assert route is not None
        assert backend is not None
        exchange.attempts += 1
        backend.tally.requests += 1
        length = exchange.body_length
        if length == NO_BODY and not exchange.upgrade:
            framing = b""
        elif length >= 0:
            framing = b"\r\ncontent-length: %d" % length
        elif length == CHUNKED:
            framing = b"\r\ntransfer-encoding: chunked"
        else:
            framing = b"\r\nconnection: upgrade\r\nupgrade: " + exchange.upgrade
        head = b"".join((
            exchange.method, b" ", exchange.path, exchange.query, b" HTTP/1.1\r\nhost: ",
            exchange.authority or exchange.endpoint.encode(), exchange.fields, framing,
            exchange.forwarded, b"\r\nx-request-id: ", exchange.request_id, b"\r\n\r\n",
        ))  # fmt: skip
        task.send(exchange, head, route.backend_request_seconds, route.idle_seconds)

    def failed(self, exchange: Exchange, error: ProxyError) -> None:
        """Try again where that is allowed; fail the sink otherwise."""
        backend = exchange.backend
        if backend is not None:
            count(backend.tally.errors, error.reason.value)
            if error.reason is not Reason.UPSTREAM_CONNECT:
                # Failed connections are remembered where they fail.
                backend.note_failure(exchange.endpoint)
                # Who resets one connection is about to reset the next one, too.
                backend.avoid(exchange, exchange.endpoint)
        allowed = error.retry is Retry.SAFE or (
            error.retry is Retry.IF_IDEMPOTENT and exchange.method in IDEMPOTENT
        )
        if not (allowed and self._retry(exchange)):
            exchange.sink.fail(error)

    def disliked(self, exchange: Exchange) -> bool:
        """Try again because of the status; False to let the answer pass."""
        endpoint, backend = exchange.endpoint, exchange.backend
        if backend is None or exchange.method not in IDEMPOTENT:
            return False
        tried = exchange.tried
        backend.avoid(exchange, endpoint)
        if not self._retry(exchange):
            exchange.tried = tried
            return False
        backend.note_answer(endpoint, exchange.status)
        return True

    def crashed(self, exchange: Exchange, bug: Exception) -> None:
        """End an exchange that met an exception nobody expected."""
        self.note_bug(exchange.request_id, bug)
        if exchange.upstream is not None:
            exchange.upstream.abort()
        exchange.sink.fail(ProxyError(Reason.INTERNAL_ERROR, side=Side.INTERNAL))

    def note_bug(self, request_id: bytes, bug: Exception) -> None:
        """Count and report an exception nobody expected."""
        self._tally.bugs += 1
        self._on_bug(request_id.decode(), bug)

    def _match_and_measure(self, exchange: Exchange) -> RouteEntry | None:
        before = monotonic()
        route = self._tables.current.match(exchange)
        self._tally.match.observe(MATCH_SECONDS, monotonic() - before)
        return route

    def _admit_body(self, exchange: Exchange, route: RouteEntry) -> bool:
        limit = exchange.body_limit = route.max_body_bytes
        if limit and max(exchange.body_length, exchange.bytes_in) > limit:
            self._refuse(exchange, Reason.BODY_TOO_LARGE)
            return False
        return True

    def _refuse(self, exchange: Exchange, reason: Reason) -> None:
        exchange.sink.fail(ProxyError(reason, side=Side.DOWNSTREAM))

    def _retry(self, exchange: Exchange) -> bool:
        """Send the request on a new connection, if that is allowed."""
        route, backend = exchange.route, exchange.backend
        if route is None or backend is None or exchange.attempts > max(1, route.retry_attempts):
            return False
        if exchange.body_sent:
            return False
        if not backend.retry(exchange, route.connect_seconds, route.retry_budget):
            return False
        if not exchange.request_complete:
            # Who is asked now wants what is kept first.
            exchange.sink.pause()
        return True


def _count_answer(tally: RouteTally, exchange: Exchange) -> None:
    """Count an answer other than the usual one, :data:`~fairway_dataplane.tally.USUAL`."""
    label = _LABELS[exchange.method].get(exchange.status)
    count(tally.others, label or f"{exchange.method.decode()} {exchange.status}")


_LABELS: dict[bytes, dict[int, str]] = {
    method: {status.value: f"{method.decode()} {status.value}" for status in HTTPStatus}
    for method in METHODS
}
