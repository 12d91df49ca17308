"""The stream over real sockets and real mutual TLS."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import structlog

from fairway_operator import relay
from fairway_operator.authority import (
    OPERATOR_NAME,
    Authority,
    Credentials,
    Lifetimes,
    Role,
    create_authority,
)
from fairway_operator.publisher import LATEST_SEQUENCE, Publisher
from fairway_operator.relay import Receipt, Relay
from fairway_snapshot.model import Backend, BackendId, Endpoint, Section
from fairway_snapshot.protocol import (
    METHOD,
    START,
    Commit,
    Hello,
    Position,
    SubscriberSession,
    decode,
    encode,
)
from fairway_snapshot.tree import EMPTY, Edit, Snapshot, snapshot_of

LIFETIMES = Lifetimes()
PATIENCE_SECONDS = 60.0
"""No test waits longer for something that must happen; a machine may be busy or slow."""

END = grpc.aio.EOF  # type: ignore[attr-defined] # unknown to the stubs
NAMES = (OPERATOR_NAME, "localhost", "127.0.0.1")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create_authority(now=now(), lifetimes=LIFETIMES)


class Receipts(list[Receipt]):
    """All receipts, and a way to wait for what they bring about."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def add(self, receipt: Receipt) -> None:
        self.append(receipt)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def acked(self, snapshot: Snapshot) -> None:
        await self.until(
            lambda: any(each.root == snapshot.root and not each.reason for each in self)
        )


@pytest.fixture
def receipts() -> Receipts:
    return Receipts()


@pytest.fixture
async def publisher(authority: Authority, receipts: Receipts) -> AsyncIterator[Publisher]:
    publisher = Publisher(operator_of(authority), max_subscribers=3, on_receipt=receipts.add)
    await publisher.start("127.0.0.1", 0)
    yield publisher
    await publisher.stop(grace_seconds=0)


def operator_of(authority: Authority) -> Credentials:
    return authority.issue(Role.OPERATOR, NAMES, now=now(), lifetimes=LIFETIMES)


def dataplane_of(authority: Authority) -> Credentials:
    return authority.issue(Role.DATAPLANE, now=now(), lifetimes=LIFETIMES)


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        credentials.trusted, credentials.key.reveal(), credentials.chain
    )


def backends(count: int, port: int = 80) -> Snapshot:
    return snapshot_of(
        backends={
            BackendId(f"shop/s{number}:80"): Backend(
                endpoints=(Endpoint(host=f"10.0.{number // 250}.{number % 250}", port=port),)
            )
            for number in range(count)
        }
    )


def with_backend(snapshot: Snapshot, name: str) -> Snapshot:
    backend = Backend(endpoints=(Endpoint(host="10.9.9.9", port=80),))
    return snapshot.evolve([Edit(Section.BACKENDS, BackendId(name), backend)])


class Connection:
    """A data plane's side of the stream."""

    def __init__(
        self, session: SubscriberSession, call: "grpc.aio.StreamStreamCall[bytes, bytes]"
    ) -> None:
        self.session = session
        self.call = call
        self.received_bytes = 0

    async def take(self, *, refuse: str = "") -> Snapshot:
        """Read up to the next commit and answer it."""
        while True:
            data = await asyncio.wait_for(self.call.read(), timeout=PATIENCE_SECONDS)
            assert isinstance(data, bytes)
            self.received_bytes += len(data)
            offer = self.session.receive(decode(data))
            if offer is not None:
                break
        answer = self.session.refuse(offer, refuse) if refuse else self.session.accept(offer)
        await self.call.write(encode(answer))
        return offer.snapshot


@asynccontextmanager
async def connected(
    publisher: Publisher,
    credentials: Credentials | None,
    session: SubscriberSession | None = None,
) -> AsyncIterator[Connection]:
    session = session or SubscriberSession(instance="dp-1", version="1")
    target = f"localhost:{publisher.port}"
    # Each its own connection: the library would share one of the same options.
    options = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        channel = grpc.aio.insecure_channel(target, options=options)
    else:
        channel = grpc.aio.secure_channel(target, channel_credentials(credentials), options=options)
    async with channel:
        call = open_call(channel)
        with suppress(grpc.aio.AioRpcError):  # the next read tells of it again
            await call.write(encode(session.hello()))
        yield Connection(session, call)
        call.cancel()


def open_call(channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[bytes, bytes]":
    # The stubs do not know that everything but the name may be left out.
    return channel.stream_stream(METHOD)()  # type: ignore[call-arg]


async def refused_status(connection: Connection) -> grpc.StatusCode:
    """Read to the end of a call that ends badly; return how."""
    with suppress(grpc.aio.AioRpcError):
        while await asyncio.wait_for(connection.call.read(), timeout=PATIENCE_SECONDS) is not END:
            continue
    return await asyncio.wait_for(connection.call.code(), timeout=PATIENCE_SECONDS)


async def test_a_subscriber_gets_what_was_published_before_and_what_comes(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    first, second = backends(10), backends(11)
    publisher.publish(first, Position(1, 1))
    async with connected(publisher, dataplane_of(authority)) as connection:
        assert (await connection.take()).root == first.root
        publisher.publish(second, Position(1, 2))
        assert (await connection.take()).root == second.root
        await receipts.acked(second)

        subscriber = publisher.subscribers()[0]
        assert (subscriber.instance, subscriber.root) == ("dp-1", second.root)
    await receipts.until(lambda: not publisher.subscribers())
    assert receipts[-1] == Receipt(instance="dp-1", root=None)


async def test_resuming_costs_what_changed_and_not_what_there_is(
    publisher: Publisher, authority: Authority
) -> None:
    before = backends(2000)
    after = with_backend(before, "shop/new:80")
    publisher.publish(before, Position(1, 1))
    session = SubscriberSession(instance="dp-1", version="1")
    async with connected(publisher, dataplane_of(authority), session) as connection:
        await connection.take()
        full_bytes = connection.received_bytes
    publisher.publish(after, Position(1, 2))

    async with connected(publisher, dataplane_of(authority), session) as connection:
        assert (await connection.take()).root == after.root
        resumed_bytes = connection.received_bytes

    assert full_bytes > 50_000
    assert resumed_bytes < 4_000


async def test_nothing_but_a_commit_is_sent_to_who_has_it_all(
    publisher: Publisher, authority: Authority
) -> None:
    snapshot = backends(500)
    session = SubscriberSession(
        instance="dp-1", version="1", snapshot=snapshot, position=Position(1, 1)
    )
    publisher.publish(snapshot, Position(1, 1))

    async with connected(publisher, dataplane_of(authority), session) as connection:
        await connection.take()

    assert connection.received_bytes < 100


async def test_a_refusal_is_kept_with_its_reason_until_another_snapshot_comes(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    bad, good = backends(1), backends(2)
    publisher.publish(bad, Position(1, 1))
    async with connected(publisher, dataplane_of(authority)) as connection:
        await connection.take(refuse="no memory left")
        await receipts.until(lambda: bool(publisher.subscribers()[0].refused_reason))
        assert publisher.subscribers()[0].refused_reason == "no memory left"
        assert Receipt(instance="dp-1", root=bad.root, reason="no memory left") in receipts

        publisher.publish(good, Position(1, 2))
        await connection.take()
        await receipts.acked(good)
        assert publisher.subscribers()[0].refused_reason == ""


async def test_a_subscriber_from_elsewhere_goes_on_above_its_own_position(
    publisher: Publisher, authority: Authority
) -> None:
    """Another replica was at (7, 900); this one is at (2, 1) and has the newer snapshot."""
    session = SubscriberSession(
        instance="dp-1", version="1", snapshot=backends(3), position=Position(7, 900)
    )
    publisher.publish(backends(4), Position(2, 1))
    async with connected(publisher, dataplane_of(authority), session) as connection:
        await connection.take()
        assert session.position == Position(7, 901)
        publisher.publish(backends(5), Position(2, 2))
        assert (await connection.take()).root == backends(5).root

    assert session.position == Position(7, 902)


async def test_one_subscriber_with_an_odd_position_does_not_move_the_others(
    publisher: Publisher, authority: Authority
) -> None:
    odd = SubscriberSession(instance="odd", version="1", position=Position(1, 1 << 40))
    plain = SubscriberSession(instance="plain", version="1")
    publisher.publish(backends(1), Position(1, 1))
    async with (
        connected(publisher, dataplane_of(authority), odd) as first,
        connected(publisher, dataplane_of(authority), plain) as second,
    ):
        await first.take()
        await second.take()

    assert plain.position == Position(1, 1)


async def test_a_position_that_leaves_no_room_is_refused(
    publisher: Publisher, authority: Authority
) -> None:
    session = SubscriberSession(instance="a", version="1", position=Position(0, LATEST_SEQUENCE))
    async with connected(publisher, dataplane_of(authority), session) as connection:
        assert await refused_status(connection) is grpc.StatusCode.INVALID_ARGUMENT


async def test_without_tls_there_is_no_stream(publisher: Publisher) -> None:
    async with connected(publisher, None) as connection:
        assert await refused_status(connection) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_refused(
    publisher: Publisher, authority: Authority
) -> None:
    stranger = dataplane_of(create_authority(now=now(), lifetimes=LIFETIMES))
    forged = Credentials(chain=stranger.chain, key=stranger.key, trusted=authority.trusted)
    async with connected(publisher, forged) as connection:
        assert await refused_status(connection) is grpc.StatusCode.UNAVAILABLE


async def test_no_certificate_at_all_is_refused(publisher: Publisher, authority: Authority) -> None:
    anonymous = grpc.ssl_channel_credentials(authority.trusted)
    async with grpc.aio.secure_channel(f"localhost:{publisher.port}", anonymous) as channel:
        connection = Connection(SubscriberSession(instance="a", version="1"), open_call(channel))
        assert await refused_status(connection) is grpc.StatusCode.UNAVAILABLE


async def test_an_operator_may_not_subscribe(publisher: Publisher, authority: Authority) -> None:
    """Two certificates of one authority, and still only one of them is for this."""
    operator = operator_of(authority)
    async with connected(publisher, operator) as connection:
        assert await refused_status(connection) is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((), id="as it is issued"),
        pytest.param(NAMES, id="and with the names of an operator"),
    ],
)
async def test_a_data_plane_cannot_pass_for_an_operator(
    authority: Authority, names: tuple[str, ...]
) -> None:
    """Whoever gets a data plane's certificate can read snapshots, and send them to nobody."""
    stolen = authority.issue(Role.DATAPLANE, names, now=now(), lifetimes=LIFETIMES)
    impostor = Publisher(stolen)
    await impostor.start("127.0.0.1", 0)
    try:
        async with connected(impostor, dataplane_of(authority)) as connection:
            assert await refused_status(connection) is grpc.StatusCode.UNAVAILABLE
    finally:
        await impostor.stop(grace_seconds=0)


async def test_an_expired_certificate_is_refused(
    publisher: Publisher, authority: Authority
) -> None:
    past = now() - timedelta(days=31)
    expired = authority.issue(Role.DATAPLANE, now=past, lifetimes=LIFETIMES)
    async with connected(publisher, expired) as connection:
        assert await refused_status(connection) is grpc.StatusCode.UNAVAILABLE


async def test_a_new_authority_is_used_without_a_restart_and_without_breaking_a_stream(
    publisher: Publisher, authority: Authority
) -> None:
    publisher.publish(backends(1), Position(1, 1))
    other = create_authority(now=now(), lifetimes=LIFETIMES)
    async with connected(publisher, dataplane_of(authority)) as old:
        await old.take()
        publisher.renew_credentials(operator_of(other))

        session = SubscriberSession(instance="dp-2", version="1")
        async with connected(publisher, dataplane_of(other), session) as new:
            await new.take()
        publisher.publish(backends(2), Position(1, 2))
        assert (await old.take()).root == backends(2).root
    async with connected(publisher, dataplane_of(authority)) as late:
        assert await refused_status(late) is grpc.StatusCode.UNAVAILABLE


async def test_a_subscriber_that_does_not_read_holds_up_nobody(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    asleep = SubscriberSession(instance="asleep", version="1")
    async with (
        connected(publisher, dataplane_of(authority), asleep),
        connected(publisher, dataplane_of(authority)) as awake,
    ):
        await receipts.until(lambda: len(publisher.subscribers()) == 2)
        for number in range(1, 6):
            publisher.publish(backends(3000, port=number), Position(1, number))
            assert (await awake.take()).root == backends(3000, port=number).root


async def test_a_data_plane_that_comes_back_replaces_its_old_connection(
    publisher: Publisher, authority: Authority
) -> None:
    publisher.publish(backends(1), Position(1, 1))
    async with connected(publisher, dataplane_of(authority)) as old:
        await old.take()
        async with connected(publisher, dataplane_of(authority)) as new:
            await new.take()
            assert await asyncio.wait_for(old.call.read(), timeout=PATIENCE_SECONDS) is END
            assert len(publisher.subscribers()) == 1


async def test_there_is_a_limit_to_subscribers(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    credentials = dataplane_of(authority)
    sessions = [SubscriberSession(instance=f"dp-{number}", version="1") for number in range(4)]
    async with (
        connected(publisher, credentials, sessions[0]),
        connected(publisher, credentials, sessions[1]),
        connected(publisher, credentials, sessions[2]),
    ):
        await receipts.until(lambda: len(publisher.subscribers()) == 3)
        async with connected(publisher, credentials, sessions[3]) as fourth:
            assert await refused_status(fourth) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff\xff", id="not a message"),
        pytest.param(encode(Commit(epoch=1, sequence=1, root=EMPTY.root)), id="a commit"),
        pytest.param(
            encode(
                Hello(instance="x", version="", filters=(), root=EMPTY.root, epoch=0, sequence=0)
            ),
            id="a second hello",
        ),
    ],
)
async def test_who_breaks_the_protocol_is_told_so(
    publisher: Publisher, authority: Authority, receipts: Receipts, message: bytes
) -> None:
    async with connected(publisher, dataplane_of(authority)) as connection:
        await receipts.until(lambda: len(publisher.subscribers()) == 1)
        await connection.call.write(message)
        assert await refused_status(connection) is grpc.StatusCode.INVALID_ARGUMENT
    await receipts.until(lambda: not publisher.subscribers())


async def test_a_taken_port_is_an_error(publisher: Publisher, authority: Authority) -> None:
    with pytest.raises(OSError, match="cannot listen"):
        await Publisher(operator_of(authority)).start("127.0.0.1", publisher.port)


def test_the_start_is_before_every_position() -> None:
    assert Position(1, 1) > START


class Follower:
    """Another replica, with a relay to the first."""

    def __init__(self, credentials: Credentials) -> None:
        self.leader = ""
        self.publisher = Publisher(credentials, on_own_receipt=self._pass_on)
        self.relay = Relay(leader=lambda: self.leader, present=self.publisher.receipts)
        self.relay.use(credentials)

    def _pass_on(self, receipt: Receipt) -> None:
        self.relay.add(receipt)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Follower"]:
        await self.publisher.start("127.0.0.1", 0)
        task = asyncio.create_task(self.relay.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.publisher.stop(grace_seconds=0)

    def follow(self, port: int) -> None:
        self.leader = f"127.0.0.1:{port}"
        self.relay.leader_changed()


async def test_the_leader_hears_of_data_planes_at_other_replicas(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    first, second = backends(1), backends(2)
    async with Follower(operator_of(authority)).running() as follower:
        follower.publisher.publish(first, Position(1, 1))
        async with connected(follower.publisher, dataplane_of(authority)) as connection:
            await connection.take()
            follower.follow(publisher.port)
            await receipts.acked(first)

            follower.publisher.publish(second, Position(1, 2))
            await connection.take()
            await receipts.acked(second)
            assert publisher.subscribers() == []
        await receipts.until(lambda: receipts[-1] == Receipt(instance="dp-1", root=None))


async def test_data_planes_of_a_replica_that_died_are_not_waited_for(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    async with Follower(operator_of(authority)).running() as follower:
        follower.follow(publisher.port)
        async with connected(follower.publisher, dataplane_of(authority)):
            await receipts.until(lambda: len(receipts) > 0)
            follower.leader = ""
            follower.relay.leader_changed()
            await receipts.until(lambda: receipts[-1].root is None)


async def test_a_data_plane_that_moved_here_has_not_left(
    publisher: Publisher, authority: Authority, receipts: Receipts
) -> None:
    async with Follower(operator_of(authority)).running() as follower:
        follower.follow(publisher.port)
        async with connected(follower.publisher, dataplane_of(authority)):
            await receipts.until(lambda: len(receipts) > 0)
            publisher.publish(backends(1), Position(1, 1))
            async with connected(publisher, dataplane_of(authority)) as connection:
                await connection.take()
                await receipts.acked(backends(1))
                # The old connection goes after the new one came.
                await follower.publisher.stop(grace_seconds=0)
                publisher.publish(backends(2), Position(1, 2))
                await connection.take()
                await receipts.acked(backends(2))

                assert all(receipt.root is not None for receipt in receipts)


async def test_news_that_come_as_the_leader_goes_break_the_call_and_nothing_else(
    authority: Authority, receipts: Receipts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data planes that the leader sends away come here at that very moment."""
    original = relay._open

    def watched(channel: grpc.aio.Channel) -> object:
        call = original(channel)
        call.add_done_callback(
            lambda _: follower.relay.add(Receipt(instance="dp-1", root=EMPTY.root))
        )
        return call

    monkeypatch.setattr(relay, "_open", watched)
    old, new = (Publisher(operator_of(authority), on_receipt=receipts.add) for _ in range(2))
    await old.start("127.0.0.1", 0)
    await new.start("127.0.0.1", 0)
    async with Follower(operator_of(authority)).running() as follower:
        follower.follow(old.port)
        follower.relay.add(Receipt(instance="dp-0", root=EMPTY.root))
        async with connected(follower.publisher, dataplane_of(authority)):
            await receipts.until(lambda: len(receipts) > 0)
            await old.stop(grace_seconds=0)
            await receipts.until(lambda: receipts[-1].root is None)  # the old leader's own end
            receipts.clear()
            follower.follow(new.port)

            await receipts.until(lambda: len(receipts) > 0)
    await new.stop(grace_seconds=0)


async def test_a_data_plane_may_not_report(publisher: Publisher, authority: Authority) -> None:
    forger = Relay(
        leader=lambda: f"127.0.0.1:{publisher.port}",
        present=lambda: [Receipt(instance="forged", root=EMPTY.root)],
    )
    forger.use(dataplane_of(authority))
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(forger.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not logs:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert "PERMISSION_DENIED" in logs[0]["reason"]
