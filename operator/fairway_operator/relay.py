"""
What data planes told one replica, told to the leader.

Data planes are spread over the replicas, and only the leader writes status; so
each follower keeps one call open to the leader, :data:`METHOD`, and passes its
receipts on. It begins with one receipt for each data plane it serves. Digests
are equal on all replicas, so a receipt means the same everywhere.

The one rule: the relay is about status and nothing else. When it fails, the
count in a status is late, and no data plane notices.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeAlias

import grpc
import msgspec
import structlog

from fairway_operator.authority import OPERATOR_NAME, Credentials
from fairway_snapshot.digest import Digest
from fairway_snapshot.protocol import ProtocolError

log = structlog.get_logger(__name__)

METHOD = "/fairway.stream.v1.Snapshots/Report"
"""Full name of the call; the leader's publisher serves it."""

BACKOFF_SECONDS = (0.2, 10.0)
"""First and longest pause after a broken call; doubled in between, and jittered."""


class RelayBrokenError(Exception):
    """The leader has ended the call."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """News of one subscriber; a data plane that left has neither root nor reason."""

    instance: str
    root: Digest | None
    """What it serves, or what it has refused."""
    reason: str = ""
    """Why it refused ``root``; empty for an acknowledgement."""


class Ledger:
    """
    Who reported which data plane last.

    A data plane that moves from one replica to another is first reported by the
    new one and then missed by the old one, or the other way round; it has left
    only when the one who reported it last says so.
    """

    def __init__(self, tell: Callable[[Receipt], None]) -> None:
        self._tell = tell
        self._reporters: dict[str, object] = {}

    def note(self, reporter: object, receipt: Receipt) -> None:
        """Pass a receipt on, unless it is the farewell to somebody who is elsewhere by now."""
        if receipt.root is not None:
            self._reporters[receipt.instance] = reporter
        elif self._reporters.get(receipt.instance) is not reporter:
            return
        else:
            del self._reporters[receipt.instance]
        self._tell(receipt)

    def forget(self, reporter: object) -> None:
        """Note that nothing more will come from this reporter."""
        mine = [name for name, each in self._reporters.items() if each is reporter]
        for instance in mine:
            self.note(reporter, Receipt(instance=instance, root=None))


class Relay:
    """The follower's side."""

    def __init__(
        self, *, leader: Callable[[], str], present: Callable[[], Iterable[Receipt]]
    ) -> None:
        """
        ``leader`` returns the address to report to, empty when that is us or nobody.

        ``present`` returns a receipt for each data plane that is connected here.
        """
        self._leader = leader
        self._present = present
        self._credentials: Credentials | None = None
        self._queue: asyncio.Queue[Receipt] = asyncio.Queue()
        self._changed = asyncio.Event()

    def use(self, credentials: Credentials) -> None:
        """Show these from now on, in a new call."""
        self._credentials = credentials
        self._changed.set()

    def add(self, receipt: Receipt) -> None:
        """Pass this on, if there is anybody to pass it to."""
        if self._leader():
            self._queue.put_nowait(receipt)

    def leader_changed(self) -> None:
        """Look again whom to report to."""
        self._changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        pause = BACKOFF_SECONDS[0]
        while True:
            self._changed.clear()
            address = self._leader()
            if not address or self._credentials is None:
                await self._changed.wait()
                continue
            try:
                await self._report(address, self._credentials)
                pause = BACKOFF_SECONDS[0]
            except (RelayBrokenError, grpc.aio.AioRpcError) as error:
                log.info("relay_broken", leader=address, reason=_reason(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause = min(pause * 2, BACKOFF_SECONDS[1])

    async def _report(self, address: str, credentials: Credentials) -> None:
        """Keep one call open until the leader changes; raise when it breaks."""
        tls = grpc.ssl_channel_credentials(
            credentials.trusted, credentials.key.reveal(), credentials.chain
        )
        options = [
            ("grpc.ssl_target_name_override", OPERATOR_NAME),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ]
        async with grpc.aio.secure_channel(address, tls, options=options) as channel:
            call = _open(channel)
            self._queue = asyncio.Queue()
            for receipt in self._present():
                self._queue.put_nowait(receipt)
            sending = asyncio.create_task(self._send(call))
            ending = asyncio.create_task(call.code())
            changing = asyncio.create_task(self._changed.wait())
            tasks = (sending, ending, changing)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
                if ending.done():
                    raise RelayBrokenError(ending.result().name)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, call: "_Call") -> None:
        while True:
            receipt = await self._queue.get()
            try:
                await call.write(encode_receipt(receipt))
            except asyncio.InvalidStateError as error:
                # So grpc says that the call has ended, to a write that comes before its status.
                raise RelayBrokenError("the call has ended") from error


async def receive_reports(requests: AsyncIterator[bytes], ledger: Ledger) -> None:
    """Take the receipts of one follower until its call ends; the leader's side."""
    reporter = object()
    try:
        async for data in requests:
            ledger.note(reporter, decode_receipt(data))
    finally:
        ledger.forget(reporter)


def encode_receipt(receipt: Receipt) -> bytes:
    """Return the bytes of a receipt."""
    return msgspec.msgpack.encode(receipt)


def decode_receipt(data: bytes) -> Receipt:
    """Return the receipt. Raises ProtocolError."""
    try:
        return msgspec.msgpack.decode(data, type=Receipt)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"not a receipt: {error}") from error


def _reason(error: RelayBrokenError | grpc.aio.AioRpcError) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)


_Call: TypeAlias = "grpc.aio.StreamUnaryCall[bytes, bytes]"


def _open(channel: grpc.aio.Channel) -> _Call:
    # The stubs do not know that everything but the name may be left out.
    return channel.stream_unary(METHOD)()  # type: ignore[call-arg]
