import asyncio
import socket

import pytest

from fairway_dataplane.link import (
    FRAME_LIMIT_BYTES,
    Downward,
    Open,
    Scrape,
    Scraped,
    Upward,
    link_to_supervisor,
    link_to_worker,
)
from fairway_dataplane.tally import Tally
from fairway_snapshot.protocol import Nodes

PATIENCE_SECONDS = 30.0


def pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)  # noqa: FBT003 - the socket module's signature
    return ends


async def test_messages_arrive_whole_and_in_order_whatever_their_size() -> None:
    ours, theirs = pair()
    down: list[Downward] = []
    up: asyncio.Queue[Upward] = asyncio.Queue()
    closed = asyncio.Event()
    supervisor = link_to_worker(up.put_nowait, lambda: None)
    worker = link_to_supervisor(down.append, closed.set)
    await supervisor.connect(ours)
    await worker.connect(theirs)
    sent: list[Downward] = [
        Open(slot=1),
        Nodes(blobs=(b"x" * 1_000_000, b"")),
        Scrape(id=7, connections=0),
    ]

    for message in sent:
        supervisor.send(message)
    tally = Tally(requests=3)
    answer = Scraped(id=7, counts=tally.packed(), connections=({"client": "10.0.0.1"},))
    worker.send(answer)

    assert await asyncio.wait_for(up.get(), PATIENCE_SECONDS) == answer
    supervisor.close()
    await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
    assert down == sent


@pytest.mark.parametrize(
    "nonsense",
    [
        pytest.param(b"\x00\x00\x00\x01\xc1", id="not msgpack"),
        pytest.param((FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"), id="an absurd length"),
    ],
)
async def test_a_peer_that_is_not_understood_is_left(nonsense: bytes) -> None:
    ours, theirs = pair()
    loop = asyncio.get_running_loop()
    told: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    closed = asyncio.Event()
    link = link_to_supervisor(lambda _: None, closed.set)
    await link.connect(ours)

    theirs.send(nonsense)

    await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
    link.send(Scraped(id=1, counts=b"", connections=()))  # lost, and harmless
    assert len(told) == 1
    theirs.close()
