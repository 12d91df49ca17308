"""
The stream: its messages, and both of its sessions without I/O.

A session is fed what arrived and returns what to send; who reads and writes,
and when to give up, is decided elsewhere. The same two sessions run between
operator and supervisor and between supervisor and worker.

A publisher has one update in flight for each subscriber; what is published
meanwhile is coalesced to the newest. A subscriber holds a whole, verified
snapshot or the one before, never a part, and takes only what is later in the
order of (epoch, sequence) than what it has.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec

from fairway_snapshot.codec import SnapshotRefused
from fairway_snapshot.diff import changes, missing_blobs
from fairway_snapshot.digest import Digest
from fairway_snapshot.filters import FILTER_NAMES, filter_name
from fairway_snapshot.model import VirtualHost
from fairway_snapshot.steps import finished
from fairway_snapshot.tree import EMPTY, Snapshot, assemble_in_steps

CHUNK_BYTES: Final = 128 * 1024
"""No encoded message is larger: a worker reads one while its requests wait."""

OFFER_LIMIT_BYTES: Final = 512 * 1024 * 1024
"""A subscriber that is sent more than this before a commit ends the stream."""

_ENVELOPE_BYTES: Final = 64
_BLOB_HEADER_BYTES: Final = 5
_ROOM_BYTES: Final = CHUNK_BYTES - _ENVELOPE_BYTES


class ProtocolError(Exception):
    """The peer broke the rules of the stream, which should be closed and opened again."""


METHOD: Final = "/fairway.stream.v1.Snapshots/Subscribe"
"""The one gRPC call of the stream, bidirectional; its messages are :func:`encode`d ones."""


class Position(NamedTuple):
    """Where a snapshot stands in the order of all that were published."""

    epoch: int
    sequence: int


START: Final = Position(0, 0)
"""Before everything; no snapshot is published here."""


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """A subscriber says who it is, which filters it can read, and what it has."""

    instance: str
    version: str
    filters: tuple[str, ...]
    root: Digest
    epoch: int
    sequence: int


class Nodes(msgspec.Struct, frozen=True, kw_only=True, tag="nodes", omit_defaults=True):
    """Encoded nodes that the subscriber lacks, for the commit that follows."""

    blobs: tuple[bytes, ...]
    unfinished: bool = False
    """The last blob goes on as the first of the next message."""


class Commit(msgspec.Struct, frozen=True, kw_only=True, tag="commit"):
    """All nodes of this root have been sent."""

    epoch: int
    sequence: int
    root: Digest


class Ack(msgspec.Struct, frozen=True, kw_only=True, tag="ack"):
    """The subscriber serves this root."""

    epoch: int
    sequence: int
    root: Digest


class Nack(msgspec.Struct, frozen=True, kw_only=True, tag="nack"):
    """The subscriber keeps what it had."""

    epoch: int
    sequence: int
    root: Digest
    reason: str


Message: TypeAlias = Hello | Nodes | Commit | Ack | Nack


def encode(message: Message) -> bytes:
    """Return the bytes of a message, at most :data:`CHUNK_BYTES` for what a session made."""
    return _encode(message)


def decode(data: bytes) -> Message:
    """
    Return the message.

    Raises :class:`ProtocolError` for anything else. Unknown fields are ignored:
    what a message must not lose in them is inside the nodes, where they are refused.
    """
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ProtocolError(f"not a message of the stream: {error}") from error


class SnapshotHistory:
    """
    The snapshots published lately, by root, so that a subscriber can resume from one.

    One history serves all sessions. Snapshots share their nodes, so one more costs
    little more than what changed in it.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._by_root: dict[Digest, Snapshot] = {EMPTY.root: EMPTY}

    def add(self, snapshot: Snapshot) -> None:
        """Remember a snapshot as the newest, and forget the oldest over the limit."""
        self._by_root.pop(snapshot.root, None)
        self._by_root[snapshot.root] = snapshot
        while len(self._by_root) > self._limit:
            del self._by_root[next(iter(self._by_root))]

    def get(self, root: Digest) -> Snapshot | None:
        """Return the snapshot of a root, None if it is not remembered."""
        return self._by_root.get(root)


@dataclass(frozen=True, slots=True)
class _Update:
    snapshot: Snapshot
    position: Position


class PublisherSession:
    """
    One subscriber, as its publisher sees it.

    A root that was refused is not sent again until another one has been, or
    until the subscriber says hello again.
    """

    def __init__(self, history: SnapshotHistory) -> None:
        self.subscriber: Hello | None = None
        self.acked: Position | None = None
        self.refused: tuple[Position, str] | None = None
        self._history = history
        self._held = EMPTY
        self._held_position = START
        self._newest: _Update | None = None
        self._in_flight: _Update | None = None
        self._settled = START
        self._refused_root: Digest | None = None

    @property
    def root(self) -> Digest | None:
        """The root that the subscriber is known to serve."""
        return None if self.acked is None else self._held.root

    def publish(self, snapshot: Snapshot, epoch: int, sequence: int) -> list[Message]:
        """
        Take the newest snapshot; return what to send now.

        Nothing is sent before the hello, while an answer is outstanding, or
        when the subscriber has this or a later one. A position that is not
        later than the one published before is ignored; one that is not later
        than :data:`START` raises ValueError.
        """
        position = Position(epoch, sequence)
        if position <= START:
            raise ValueError(f"{tuple(position)} is not a position to publish at")
        if self._newest is None or position > self._newest.position:
            self._history.add(snapshot)
            self._newest = _Update(snapshot, position)
        return self._advance()

    def receive(self, message: Message) -> list[Message]:
        """Take a message of the subscriber; return what to send. Raises :class:`ProtocolError`."""
        match message:
            case Hello():
                self._greet(message)
            case Ack():
                update = self._answered(message)
                self._held = update.snapshot
                self._held_position = self.acked = update.position
                self.refused = self._refused_root = None
            case Nack():
                self._refuse(self._answered(message), message.reason)
            case Nodes() | Commit():
                raise ProtocolError("a subscriber does not publish")
        return self._advance()

    def _greet(self, hello: Hello) -> None:
        self.subscriber = hello
        self.acked = self.refused = None
        self._held = self._history.get(hello.root) or EMPTY
        self._held_position = Position(hello.epoch, hello.sequence)
        self._in_flight = self._refused_root = None
        self._settled = START

    def _answered(self, answer: Ack | Nack) -> _Update:
        update = self._in_flight
        position = Position(answer.epoch, answer.sequence)
        if update is None or (update.position, update.snapshot.root) != (position, answer.root):
            raise ProtocolError(f"an answer to {position}, which is not outstanding")
        self._in_flight = None
        return update

    def _refuse(self, update: _Update, reason: str) -> None:
        self.refused = (update.position, reason)
        self._refused_root = update.snapshot.root

    def _advance(self) -> list[Message]:
        update = self._newest
        if self.subscriber is None or self._in_flight is not None or update is None:
            return []
        if update.position <= self._settled or not self._wants(self.subscriber, update):
            return []
        self._settled = update.position
        self._in_flight = update
        epoch, sequence = update.position
        commit = Commit(epoch=epoch, sequence=sequence, root=update.snapshot.root)
        # The subscriber's own root is not always one that is remembered here.
        if self.acked is None and self.subscriber.root == commit.root:
            return [commit]
        return [*_chunks(missing_blobs(self._held, update.snapshot)), commit]

    def _wants(self, subscriber: Hello, update: _Update) -> bool:
        """Say whether to send the update; note why not, where the reason is the subscriber's."""
        root = update.snapshot.root
        if root == self._refused_root:
            return False
        if update.position <= self._held_position and root != subscriber.root:
            held = tuple(self._held_position)
            self.refused = (update.position, f"the subscriber holds {held}, which is later")
            return False
        # What it holds, it can read: only what changed may ask for something new.
        for name in _new_filters(self._held, update.snapshot):
            if name not in subscriber.filters:
                self._refuse(update, f"the subscriber does not know the filter {name}")
                return False
        return True


@dataclass(frozen=True, slots=True)
class Offer:
    """A whole, verified snapshot, to be accepted or refused."""

    snapshot: Snapshot
    position: Position
    previous: Snapshot
    """What is served until it is accepted."""


class CommitRefused(SnapshotRefused):
    """A commit that cannot be taken; ``nack`` is the answer to send."""

    def __init__(self, commit: Commit, reason: str) -> None:
        super().__init__(reason)
        self.nack = Nack(
            epoch=commit.epoch, sequence=commit.sequence, root=commit.root, reason=reason
        )


class SubscriberSession:
    """One publisher, as its subscriber sees it; outlives connections."""

    def __init__(
        self,
        *,
        instance: str,
        version: str,
        snapshot: Snapshot = EMPTY,
        position: Position = START,
        filters: tuple[str, ...] = FILTER_NAMES,
    ) -> None:
        self.snapshot = snapshot
        self.position = position
        self._instance = instance
        self._version = version
        self._filters = filters
        self._blobs: list[bytes] = []
        self._part: list[bytes] = []
        self._received_bytes = 0
        self._offer: Offer | None = None

    def hello(self) -> Hello:
        """Begin a connection: forget what the one before left half done."""
        self._forget()
        self._offer = None
        return Hello(
            instance=self._instance,
            version=self._version,
            filters=self._filters,
            root=self.snapshot.root,
            epoch=self.position.epoch,
            sequence=self.position.sequence,
        )

    def receive(self, message: Message) -> Offer | None:
        """
        Take a message of the publisher; return an offer once a snapshot is whole.

        Raises :class:`CommitRefused`, with the answer to send, for a snapshot
        that cannot be verified or read or that is not later than the one held;
        the session stays as it was and goes on. Raises :class:`ProtocolError`
        when the connection should be closed.
        """
        match message:
            case Nodes():
                self._collect(message)
                return None
            case Commit():
                return finished(self.commit_in_steps(message))
            case Hello() | Ack() | Nack():
                raise ProtocolError("a publisher does not subscribe")

    def commit_in_steps(self, commit: Commit) -> Generator[None, None, Offer]:
        """
        Do as :meth:`receive` with a commit, and stop often, for a loop that serves meanwhile.

        A publisher sends nothing more until it is answered, so nothing comes in between.
        """
        if self._offer is not None:
            raise ProtocolError("a commit while another one is not answered")
        blobs, unfinished = self._blobs, self._part
        self._forget()
        position = Position(commit.epoch, commit.sequence)
        if position <= self.position and commit.root != self.snapshot.root:
            raise CommitRefused(commit, f"stale: {tuple(self.position)} is held already")
        if unfinished:
            raise CommitRefused(commit, "the last node is not whole")
        try:
            snapshot = yield from assemble_in_steps(commit.root, _each(blobs), self.snapshot)
        except SnapshotRefused as refusal:
            raise CommitRefused(commit, refusal.reason) from refusal
        self._offer = Offer(snapshot, position, self.snapshot)
        return self._offer

    def accept(self, offer: Offer) -> Ack:
        """Serve the offer from now on; return the answer to send."""
        self._conclude(offer)
        self.snapshot = offer.snapshot
        self.position = max(self.position, offer.position)
        epoch, sequence = offer.position
        return Ack(epoch=epoch, sequence=sequence, root=offer.snapshot.root)

    def refuse(self, offer: Offer, reason: str) -> Nack:
        """Keep what is served; return the answer to send."""
        self._conclude(offer)
        epoch, sequence = offer.position
        return Nack(epoch=epoch, sequence=sequence, root=offer.snapshot.root, reason=reason)

    def _collect(self, message: Nodes) -> None:
        blobs = message.blobs
        self._received_bytes += sum(map(len, blobs)) + len(blobs) * _BLOB_HEADER_BYTES
        if self._received_bytes > OFFER_LIMIT_BYTES:
            self._forget()
            raise ProtocolError(f"more than {OFFER_LIMIT_BYTES} bytes before a commit")
        if message.unfinished and len(blobs) == 1:
            self._part.extend(blobs)  # the middle of a long one
            return
        if self._part and blobs:
            blobs = (b"".join((*self._part, blobs[0])), *blobs[1:])
            self._part.clear()
        if message.unfinished:
            self._part.extend(blobs[-1:])
            blobs = blobs[:-1]
        self._blobs.extend(blobs)

    def _conclude(self, offer: Offer) -> None:
        if offer is not self._offer:
            raise ProtocolError("this offer is not outstanding")
        self._offer = None

    def _forget(self) -> None:
        self._blobs, self._part, self._received_bytes = [], [], 0


def _each(blobs: list[bytes]) -> Iterator[bytes]:
    """Yield blobs and let go of each."""
    blobs.reverse()
    while blobs:
        yield blobs.pop()


def _chunks(blobs: list[bytes]) -> Iterator[Nodes]:
    """Pack blobs into messages; one that is too large for the rest of a message is split."""
    packed: list[bytes] = []
    room = _ROOM_BYTES
    for blob in blobs:
        rest = blob
        while len(rest) + _BLOB_HEADER_BYTES > room:
            if len(blob) > _ROOM_BYTES // 2 and room > _BLOB_HEADER_BYTES:
                cut = room - _BLOB_HEADER_BYTES
                yield Nodes(blobs=(*packed, rest[:cut]), unfinished=True)
                rest = rest[cut:]
            else:
                yield Nodes(blobs=tuple(packed))
            packed, room = [], _ROOM_BYTES
        packed.append(rest)
        room -= len(rest) + _BLOB_HEADER_BYTES
    if packed:
        yield Nodes(blobs=tuple(packed))


def _new_filters(old: Snapshot, new: Snapshot) -> Iterator[str]:
    for change in changes(old, new):
        if isinstance(change.after, VirtualHost):
            for route in change.after.routes:
                for spec in route.filters:
                    yield filter_name(spec)


_encode = msgspec.msgpack.Encoder().encode
_DECODER: Final[msgspec.msgpack.Decoder[Message]] = msgspec.msgpack.Decoder(Message)
