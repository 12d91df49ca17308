"""Both sessions of the stream, played against each other without I/O."""

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fairway_snapshot.filters import FILTER_NAMES, StripPrefix
from fairway_snapshot.model import (
    Backend,
    BackendId,
    Certificate,
    CertificateId,
    Endpoint,
    HostPattern,
    PathKind,
    PathMatch,
    Route,
    RouteMatch,
    Section,
    VirtualHost,
)
from fairway_snapshot.protocol import (
    CHUNK_BYTES,
    START,
    Ack,
    Commit,
    CommitRefused,
    Hello,
    Message,
    Nack,
    Nodes,
    Offer,
    Position,
    ProtocolError,
    PublisherSession,
    SnapshotHistory,
    SubscriberSession,
    decode,
    encode,
)
from fairway_snapshot.secret import SecretBytes
from fairway_snapshot.tree import EMPTY, Edit, Snapshot, snapshot_of


def snapshot(*ports: int) -> Snapshot:
    return snapshot_of(
        backends={
            BackendId(f"shop/b{at}:80"): Backend(endpoints=(Endpoint(host="10.0.0.1", port=port),))
            for at, port in enumerate(ports)
        }
    )


def stripping() -> Snapshot:
    match = RouteMatch(path=PathMatch(kind=PathKind.PREFIX, value="/"))
    route = Route(name="a/b/0", match=match, filters=(StripPrefix(prefix="/a"),))
    return snapshot_of(hosts={HostPattern("shop.example"): VirtualHost(routes=(route,))})


def publisher() -> PublisherSession:
    return PublisherSession(SnapshotHistory(limit=64))


def subscriber(held: Snapshot = EMPTY, position: Position = START) -> SubscriberSession:
    return SubscriberSession(instance="pod-1", version="1", snapshot=held, position=position)


def take(session: SubscriberSession, messages: list[Message]) -> Ack | Nack | None:
    """Give the subscriber what was sent, by way of its bytes, and accept what comes of it."""
    answer: Ack | Nack | None = None
    for message in messages:
        try:
            offer = session.receive(decode(encode(message)))
        except CommitRefused as refused:
            answer = refused.nack
        else:
            answer = session.accept(offer) if offer is not None else None
    return answer


def commit_of(messages: list[Message]) -> Commit:
    commit = messages[-1]
    assert isinstance(commit, Commit)
    return commit


def test_a_new_subscriber_is_sent_everything() -> None:
    sender, reader = publisher(), subscriber()
    assert sender.publish(snapshot(1, 2), 1, 1) == []

    answer = take(reader, sender.receive(reader.hello()))

    assert reader.snapshot == snapshot(1, 2)
    assert answer == Ack(epoch=1, sequence=1, root=snapshot(1, 2).root)
    assert sender.receive(answer) == []
    assert sender.acked == reader.position == Position(1, 1)
    assert sender.root == reader.snapshot.root


def test_a_subscriber_that_has_the_root_is_sent_a_commit_only() -> None:
    for sender in (publisher(), publisher()):
        sender.publish(snapshot(1), 1, 5)
        reader = subscriber(snapshot(1), Position(1, 3))

        sent = sender.receive(reader.hello())

        assert sent == [Commit(epoch=1, sequence=5, root=snapshot(1).root)]
        take(reader, sent)
        assert reader.position == (1, 5)


def test_a_reconnecting_subscriber_is_sent_only_what_it_lacks() -> None:
    history = SnapshotHistory(limit=64)
    old = snapshot(*range(1, 5001))
    new = old.evolve([Edit(Section.BACKENDS, "shop/b7:80", Backend(endpoints=()))])
    PublisherSession(history).publish(old, 1, 1)
    reader = subscriber(old, Position(1, 1))
    sender = PublisherSession(history)
    sender.publish(new, 1, 2)

    sent = sender.receive(reader.hello())

    assert sum(len(encode(message)) for message in sent) < 6_000
    take(reader, sent)
    assert reader.snapshot == new


def test_a_root_that_is_forgotten_costs_everything_and_no_more() -> None:
    history = SnapshotHistory(limit=2)
    for sequence, ports in enumerate([(1,), (2,), (3,)], start=1):
        PublisherSession(history).publish(snapshot(*ports), 1, sequence)
    sender = PublisherSession(history)
    sender.publish(snapshot(3, 3), 1, 4)
    reader = subscriber(snapshot(1), Position(1, 1))

    take(reader, sender.receive(reader.hello()))

    assert history.get(snapshot(1).root) is None
    assert reader.snapshot == snapshot(3, 3)


def test_one_update_is_in_flight_and_the_newest_follows() -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())
    first = sender.publish(snapshot(1), 1, 1)
    assert sender.publish(snapshot(2), 1, 2) == []
    assert sender.publish(snapshot(3), 1, 3) == []

    answer = take(reader, first)
    assert answer is not None
    second = sender.receive(answer)

    assert commit_of(second).sequence == 3
    take(reader, second)
    assert reader.snapshot == snapshot(3)


def test_a_refused_root_is_not_sent_again_until_another_one_has_been() -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())
    offer = offered(reader, sender.publish(snapshot(1), 1, 1))
    sender.receive(reader.refuse(offer, "no certificate fits"))

    assert refusal_of(sender) == (Position(1, 1), "no certificate fits")
    assert reader.snapshot == EMPTY
    assert sender.publish(snapshot(1), 1, 2) == []
    answer = take(reader, sender.publish(snapshot(2), 1, 3))
    assert answer is not None
    sender.receive(answer)
    assert refusal_of(sender) is None
    assert commit_of(sender.publish(snapshot(1), 1, 4)).root == snapshot(1).root


def refusal_of(sender: PublisherSession) -> tuple[Position, str] | None:
    return sender.refused


def offered(reader: SubscriberSession, messages: list[Message]) -> Offer:
    offers = [reader.receive(message) for message in messages]
    assert offers[-1] is not None
    return offers[-1]


def test_a_filter_that_the_subscriber_does_not_know_is_not_sent() -> None:
    sender = publisher()
    filters = tuple(name for name in FILTER_NAMES if name != "strip-prefix")
    reader = SubscriberSession(instance="old", version="0", filters=filters)
    sender.receive(reader.hello())

    assert sender.publish(stripping(), 1, 1) == []

    assert sender.refused is not None
    assert sender.refused[1] == "the subscriber does not know the filter strip-prefix"
    assert commit_of(sender.publish(snapshot(1), 1, 2)).sequence == 2


def test_a_stale_commit_is_refused() -> None:
    reader = subscriber(snapshot(1), Position(2, 1))
    node = EMPTY.node.blob()

    for position in (Position(1, 9), Position(2, 1)):
        reader.receive(Nodes(blobs=(node,)))
        with pytest.raises(CommitRefused, match="stale") as refused:
            reader.receive(Commit(epoch=position[0], sequence=position[1], root=EMPTY.root))
        assert refused.value.nack.root == EMPTY.root
        assert (reader.snapshot, reader.position) == (snapshot(1), (2, 1))


def test_a_publisher_waits_until_it_is_later_than_its_subscriber() -> None:
    sender, reader = publisher(), subscriber(snapshot(1), Position(2, 7))
    sender.publish(snapshot(2), 2, 7)

    assert sender.receive(reader.hello()) == []

    assert sender.refused is not None
    assert "which is later" in sender.refused[1]
    take(reader, sender.publish(snapshot(2), 2, 8))
    assert reader.snapshot == snapshot(2)


def test_the_same_root_at_an_older_position_is_agreed_to_and_changes_nothing() -> None:
    sender, reader = publisher(), subscriber(snapshot(1), Position(2, 7))
    sender.publish(snapshot(1), 2, 3)

    answer = take(reader, sender.receive(reader.hello()))

    assert answer == Ack(epoch=2, sequence=3, root=snapshot(1).root)
    assert reader.position == (2, 7)


def test_an_epoch_is_later_than_any_sequence() -> None:
    sender, reader = publisher(), subscriber(snapshot(1), Position(1, 1_000_000))
    sender.publish(snapshot(2), 2, 1)

    take(reader, sender.receive(reader.hello()))

    assert reader.position == (2, 1)


def certificates(*sizes: int) -> Snapshot:
    return snapshot_of(
        certificates={
            CertificateId(f"shop/tls-{at}"): Certificate(
                chain=bytes([at]) * size, key=SecretBytes(b"key")
            )
            for at, size in enumerate(sizes)
        }
    )


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([300_000] * 12, id="many that share messages"),
        pytest.param([5_000_000], id="one over many messages"),
        pytest.param([10, CHUNK_BYTES - 200, 10, 2_000_000, 10], id="all sizes"),
        pytest.param([CHUNK_BYTES - extra for extra in range(40, 140, 5)], id="at the edge"),
    ],
)
def test_no_message_is_over_the_limit(sizes: list[int]) -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())

    sent = sender.publish(certificates(*sizes), 1, 1)
    take(reader, sent)

    assert max(len(encode(message)) for message in sent) <= CHUNK_BYTES
    assert reader.snapshot == certificates(*sizes)


def test_a_node_that_is_not_whole_is_refused() -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())
    *nodes, commit = sender.publish(certificates(3_000_000), 1, 1)

    answer = take(reader, [nodes[0], commit])

    assert isinstance(answer, Nack)
    assert "not whole" in answer.reason


def test_a_lost_connection_leaves_nothing_half_done() -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())
    lost = sender.publish(certificates(3_000_000), 1, 1)
    reader.receive(lost[0])

    again = PublisherSession(SnapshotHistory(limit=8))
    again.publish(snapshot(1), 1, 2)
    take(reader, again.receive(reader.hello()))

    assert reader.snapshot == snapshot(1)


def test_a_second_hello_begins_anew() -> None:
    sender, reader = publisher(), subscriber()
    sender.receive(reader.hello())
    sender.publish(snapshot(1), 1, 1)
    sender.publish(snapshot(2), 1, 2)

    answer = take(reader, sender.receive(reader.hello()))

    assert reader.snapshot == snapshot(2)
    assert answer is not None
    assert sender.receive(answer) == []
    assert sender.acked == (1, 2)


def test_a_tampered_node_is_refused_and_the_old_snapshot_kept() -> None:
    sender, reader = publisher(), subscriber(snapshot(1), Position(1, 1))
    sender.publish(snapshot(2, 3), 1, 2)
    nodes, commit = sender.receive(reader.hello())
    assert isinstance(nodes, Nodes)
    broken = Nodes(blobs=(nodes.blobs[0][:-1] + b"\xff", *nodes.blobs[1:]))

    answer = take(reader, [broken, commit])

    assert isinstance(answer, Nack)
    assert "missing" in answer.reason
    assert (reader.snapshot, reader.position) == (snapshot(1), (1, 1))
    assert sender.receive(answer) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xff", id="noise"),
        pytest.param(msgspec.msgpack.encode({"type": "reset"}), id="an unknown message"),
        pytest.param(msgspec.msgpack.encode({"type": "ack", "epoch": 1}), id="fields missing"),
        pytest.param(msgspec.msgpack.encode({"type": "nodes", "blobs": [1]}), id="wrong type"),
    ],
)
def test_what_is_not_a_message_ends_the_stream(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a message of the stream"):
        decode(data)


def test_a_field_of_a_later_version_does_not_end_the_stream() -> None:
    hello = subscriber().hello()
    later = {**msgspec.to_builtins(hello), "type": "hello", "root": hello.root, "zone": "a"}

    assert decode(msgspec.msgpack.encode(later)) == hello


def test_each_side_keeps_to_its_part() -> None:
    commit = Commit(epoch=1, sequence=1, root=EMPTY.root)
    ack = Ack(epoch=1, sequence=1, root=EMPTY.root)

    with pytest.raises(ProtocolError, match="does not publish"):
        publisher().receive(commit)
    with pytest.raises(ProtocolError, match="not outstanding"):
        publisher().receive(ack)
    with pytest.raises(ProtocolError, match="does not subscribe"):
        subscriber().receive(ack)
    with pytest.raises(ProtocolError, match="not outstanding"):
        subscriber().accept(Offer(EMPTY, Position(1, 1), EMPTY))


def test_a_commit_before_the_last_one_is_answered_ends_the_stream() -> None:
    reader = subscriber()
    reader.receive(Commit(epoch=1, sequence=1, root=EMPTY.root))

    with pytest.raises(ProtocolError, match="not answered"):
        reader.receive(Commit(epoch=1, sequence=2, root=EMPTY.root))


def test_the_position_before_everything_is_not_published_at() -> None:
    with pytest.raises(ValueError, match="not a position to publish at"):
        publisher().publish(EMPTY, 0, 0)


class Stream(RuleBasedStateMachine):
    """Publishes, answers, refusals, losses and restarts in any order end at the newest snapshot."""

    @initialize()
    def begin(self) -> None:
        self.history = SnapshotHistory(limit=4)
        self.newest: Snapshot | None = None
        self.position = Position(1, 0)
        self.reader = subscriber()
        self.connect()

    def connect(self) -> None:
        self.sender = PublisherSession(self.history)
        self.down: list[Message] = []
        self.up: list[Message] = [self.reader.hello()]
        if self.newest is not None:
            self.down += self.sender.publish(self.newest, *self.position)

    @rule(ports=st.lists(st.integers(1, 4), max_size=30))
    def publish(self, ports: list[int]) -> None:
        self.newest = snapshot(*ports)
        self.position = Position(self.position.epoch, self.position.sequence + 1)
        self.down += self.sender.publish(self.newest, *self.position)

    @rule()
    def restart_the_publisher(self) -> None:
        self.history = SnapshotHistory(limit=4)
        self.position = Position(self.position.epoch + 1, 1)
        self.connect()

    @rule()
    def lose_the_connection(self) -> None:
        self.connect()

    @precondition(lambda self: self.up)
    @rule()
    def carry_up(self) -> None:
        self.down += self.sender.receive(decode(encode(self.up.pop(0))))

    @precondition(lambda self: self.down)
    @rule(refused=st.booleans())
    def carry_down(self, *, refused: bool) -> None:
        before = self.reader.snapshot
        offer = self.reader.receive(decode(encode(self.down.pop(0))))
        assert self.reader.snapshot is before
        if offer is None:
            return
        answer = self.reader.refuse(offer, "no") if refused else self.reader.accept(offer)
        self.up.append(answer)

    @invariant()
    def at_most_one_update_is_under_way(self) -> None:
        assert sum(isinstance(message, Commit) for message in self.down) <= 1

    def teardown(self) -> None:
        """Once nothing is refused or lost any more, one more publish is enough."""
        if not hasattr(self, "reader"):
            return
        self.publish([9])
        while self.up or self.down:
            if self.up:
                self.carry_up()
            if self.down:
                self.carry_down(refused=False)
        assert self.reader.snapshot == self.newest
        assert self.reader.position == self.position == self.sender.acked
        assert isinstance(self.sender.subscriber, Hello)


TestStream = Stream.TestCase
TestStream.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
