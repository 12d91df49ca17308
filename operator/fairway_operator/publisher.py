"""
The gRPC service that data planes subscribe to.

One bidirectional call for each data plane, :data:`METHOD`, whose messages are
the bytes of :mod:`fairway_snapshot.protocol`; what to send is decided by one
``PublisherSession`` for each call. ``publish`` never waits: each call has a task
of its own that sends at the pace of its peer, and a subscriber has one update
in flight at most, so a slow one costs the others nothing.

Positions are made to grow for each subscriber. It may come from another
replica, or from this one before a restart, with a position that is later than
ours; its stream then goes on above what it said in its hello, and nobody
else's does (docs/adr/0008-stream-order.md).

The one rule: both ends show a certificate of our authority, and only one for
the role of a data plane may subscribe, only one of an operator report. There
is no port without TLS.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import structlog

from fairway_operator import relay
from fairway_operator.authority import Credentials, Role
from fairway_operator.relay import Ledger, Receipt
from fairway_snapshot.digest import Digest, short
from fairway_snapshot.protocol import (
    METHOD,
    Ack,
    Hello,
    Message,
    Nack,
    Position,
    ProtocolError,
    PublisherSession,
    SnapshotHistory,
    decode,
    encode,
)
from fairway_snapshot.tree import Snapshot

log = structlog.get_logger(__name__)


HELLO_SECONDS = 10.0
"""A call that has not said hello by then is ended."""

HISTORY = 64
"""How many snapshots a subscriber can resume from."""

LATEST_SEQUENCE = 1 << 62
"""A hello beyond this would leave no room to go on; it is refused."""

_OPTIONS = (
    # A data plane that vanished without a word is noticed in half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Two processes on one port would each have half of the subscribers.
    ("grpc.so_reuseport", 0),
    # What subscribers send is small.
    ("grpc.max_receive_message_length", 64 * 1024),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """What is known of one connected data plane."""

    instance: str
    version: str
    peer: str
    connected_at: float
    """Wall clock, seconds since the epoch."""
    root: Digest | None
    """What it is known to serve."""
    refused_reason: str
    """Why it keeps that instead of the newest; empty when it does not."""


_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


@dataclass(slots=True, eq=False)
class _Call:
    """One connected subscriber."""

    hello: Hello
    peer: str
    session: PublisherSession
    connected_at: float
    last: Position
    """The latest position that this subscriber has or was sent."""
    outgoing: list[Message] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def offer(self, snapshot: Snapshot, position: Position) -> None:
        """Have the newest snapshot sent, under a position that this subscriber takes."""
        epoch, sequence = max(position, Position(self.last.epoch, self.last.sequence + 1))
        self.last = Position(epoch, sequence)
        self.send(self.session.publish(snapshot, epoch, sequence))

    def end(self) -> None:
        """Have the call end in good order."""
        self.ended = True
        self.news.set()

    def send(self, messages: list[Message]) -> None:
        """Have these sent."""
        self.outgoing.extend(messages)
        if messages:
            self.news.set()


class Publisher:
    """Serves the newest snapshot to every subscriber."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        max_subscribers: int = 10_000,
        on_receipt: Callable[[Receipt], None] = lambda _receipt: None,
        on_own_receipt: Callable[[Receipt], None] = lambda _receipt: None,
    ) -> None:
        """
        ``on_receipt`` is called when a data plane came, acknowledged, refused or left.

        That is also so for one that another replica reports; ``on_own_receipt`` is
        called for those alone that are connected here.
        """
        self.port = 0
        """Where it listens; 0 until it does."""
        self._credentials = credentials
        self._max_subscribers = max_subscribers
        self._ledger = Ledger(on_receipt)
        self._on_own_receipt = on_own_receipt
        self._history = SnapshotHistory(limit=HISTORY)
        self._calls: dict[str, _Call] = {}
        self._newest: tuple[Snapshot, Position] | None = None
        self._server: grpc.aio.Server | None = None
        self._stopping = asyncio.Event()

    def __repr__(self) -> str:
        """Say how many subscribers there are."""
        return f"Publisher(subscribers={len(self._calls)})"

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (for port 0). Raises OSError when the port is taken."""
        if self._credentials is None:
            raise RuntimeError("a publisher without credentials cannot start")
        server = grpc.aio.server(options=_OPTIONS)
        service, _, subscribe = METHOD.strip("/").partition("/")
        _, _, report = relay.METHOD.strip("/").partition("/")
        handlers = {
            subscribe: grpc.stream_stream_rpc_method_handler(self._subscribe),
            report: grpc.stream_unary_rpc_method_handler(self._report),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        tls = grpc.dynamic_ssl_server_credentials(
            _configuration(self._credentials),
            self._newest_configuration,
            True,  # noqa: FBT003 - the client certificate is required
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_secure_port(address, tls)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address}: {error}") from error
        await server.start()
        self._server, self.port = server, bound
        log.info("publisher_started", address=address, port=bound)
        return bound

    async def stop(self, *, grace_seconds: float) -> None:
        """End all calls, so that data planes go elsewhere; what does not end in time is cut."""
        if self._server is None:
            return
        server, self._server = self._server, None
        self._stopping.set()
        for call in self._calls.values():
            call.end()
        await server.stop(grace_seconds)

    def publish(self, snapshot: Snapshot, position: Position) -> None:
        """Make this the snapshot that every subscriber should have; never waits."""
        self._newest = (snapshot, position)
        self._history.add(snapshot)
        for call in self._calls.values():
            call.offer(snapshot, position)

    def renew_credentials(self, credentials: Credentials) -> None:
        """Use these for new connections; established ones go on."""
        self._credentials = credentials

    def receipts(self) -> list[Receipt]:
        """Return what is known of each data plane that is connected here, as receipts."""
        return [
            Receipt(instance=name, root=call.session.root or call.hello.root)
            for name, call in self._calls.items()
        ]

    def subscribers(self) -> Sequence[Subscriber]:
        """Return the connected data planes, in the order in which they came."""
        return [
            Subscriber(
                instance=call.hello.instance,
                version=call.hello.version,
                peer=call.peer,
                connected_at=call.connected_at,
                root=call.session.root,
                refused_reason=call.session.refused[1] if call.session.refused else "",
            )
            for call in self._calls.values()
        ]

    def _newest_configuration(self) -> grpc.ServerCertificateConfiguration:
        # Called for each handshake, by a thread of grpc: one attribute is read, once.
        assert self._credentials is not None
        return _configuration(self._credentials)

    async def _subscribe(self, requests: AsyncIterator[bytes], context: _Context) -> None:
        """Serve one call; its end, however it comes, is the end of the subscriber."""
        role = _role(context)
        if role is not Role.DATAPLANE:
            await _refuse(requests, context, "this is for data planes")
        if len(self._calls) >= self._max_subscribers:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many subscribers")
        try:
            call = await self._greet(requests, context)
            try:
                await self._converse(call, requests, context)
            finally:
                self._forget(call)
        except ProtocolError as error:
            log.warning("subscriber_broke_protocol", peer=context.peer(), reason=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _report(self, requests: AsyncIterator[bytes], context: _Context) -> bytes:
        """Take what another replica says of its data planes."""
        if _role(context) is not Role.OPERATOR:
            await _refuse(requests, context, "this is for operators")
        receiving = asyncio.create_task(relay.receive_reports(requests, self._ledger))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((receiving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
        except ProtocolError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            receiving.cancel()
            stopping.cancel()
            await asyncio.gather(receiving, stopping, return_exceptions=True)
        return b""

    async def _greet(self, requests: AsyncIterator[bytes], context: _Context) -> _Call:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = decode(await anext(requests))
        except (TimeoutError, StopAsyncIteration) as error:
            raise ProtocolError("no hello") from error
        if not isinstance(hello, Hello):
            raise ProtocolError("the first message is not a hello")
        if max(hello.epoch, hello.sequence) >= LATEST_SEQUENCE:
            raise ProtocolError("a position that leaves no room for another")
        call = _Call(
            hello=hello,
            peer=context.peer(),
            session=PublisherSession(self._history),
            connected_at=time.time(),
            last=Position(hello.epoch, hello.sequence),
        )
        previous = self._calls.get(hello.instance)
        if previous is not None:
            # The data plane is back before its old connection was found dead.
            previous.end()
        self._calls[hello.instance] = call
        log.info("subscriber_joined", instance=hello.instance, digest=short(hello.root))
        call.session.receive(hello)
        self._note(Receipt(instance=hello.instance, root=hello.root))
        if self._newest is not None:
            call.offer(*self._newest)
        return call

    async def _converse(
        self, call: _Call, requests: AsyncIterator[bytes], context: _Context
    ) -> None:
        listening = asyncio.create_task(self._listen(call, requests))
        listening.add_done_callback(lambda _: call.news.set())
        try:
            while not listening.done() and not call.ended:
                await call.news.wait()
                call.news.clear()
                messages, call.outgoing = call.outgoing, []
                for message in messages:
                    await context.write(encode(message))
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, call: _Call, requests: AsyncIterator[bytes]) -> None:
        async for data in requests:
            message = decode(data)
            if isinstance(message, Hello):
                raise ProtocolError("a second hello")
            messages = call.session.receive(message)
            self._tell(call, message)
            call.send(messages)

    def _tell(self, call: _Call, message: Message) -> None:
        instance = call.hello.instance
        match message:
            case Ack():
                self._note(Receipt(instance=instance, root=message.root))
            case Nack():
                log.warning(
                    "snapshot_refused",
                    instance=instance,
                    digest=short(message.root),
                    reason=message.reason,
                )
                self._note(Receipt(instance=instance, root=message.root, reason=message.reason))
            case _:
                pass

    def _forget(self, call: _Call) -> None:
        instance = call.hello.instance
        if self._calls.get(instance) is call:
            del self._calls[instance]
            log.info("subscriber_left", instance=instance)
            self._note(Receipt(instance=instance, root=None))

    def _note(self, receipt: Receipt) -> None:
        self._ledger.note(self, receipt)
        self._on_own_receipt(receipt)


def _configuration(credentials: Credentials) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credentials.key.reveal(), credentials.chain)], root_certificates=credentials.trusted
    )


async def _refuse(requests: AsyncIterator[bytes], context: _Context, reason: str) -> None:
    """
    Refuse a caller with a certificate for something else.

    Its first message is read before: a refusal that overtakes it resets the
    stream, and the caller may then see the reset and not the status.
    """
    with contextlib.suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(HELLO_SECONDS):
            await anext(requests)
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)


def _role(context: _Context) -> Role | None:
    """Return the role that the peer's certificate names; gRPC has verified the certificate."""
    names = context.auth_context().get("x509_subject_alternative_name", ())
    return next((role for role in Role if role.uri.encode() in names), None)
