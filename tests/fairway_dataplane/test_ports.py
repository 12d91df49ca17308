import socket

import pytest

from fairway_dataplane.ports import PortTakenError, bind_alone, bind_pairs, turn_away


def test_all_workers_share_one_free_port_and_nobody_listens_yet() -> None:
    pairs = bind_pairs("127.0.0.1", http_port=0, https_port=0, count=3)

    (port,) = {pair.http.getsockname()[1] for pair in pairs}
    assert len({pair.https.getsockname()[1] for pair in pairs}) == 1
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    pairs[1].listen()
    socket.create_connection(("127.0.0.1", port)).close()
    for pair in pairs:
        pair.close()


def test_a_second_data_plane_may_not_join_although_its_sockets_could() -> None:
    (first,) = bind_pairs("127.0.0.1", http_port=0, https_port=0, count=1)
    first.listen()
    port = first.http.getsockname()[1]

    with pytest.raises(PortTakenError, match=rf"^cannot bind 127\.0\.0\.1:{port}: address already"):
        bind_pairs("127.0.0.1", http_port=port, https_port=0, count=1)
    first.close()


@pytest.mark.parametrize("family", ["::1", "::"])
def test_ipv6_is_shown_in_brackets(family: str) -> None:
    taken = bind_alone(family, 0)
    port = taken.getsockname()[1]

    with pytest.raises(PortTakenError, match=rf"^cannot bind \[{family}\]:{port}: "):
        bind_alone(family, port)
    taken.close()


def test_connections_that_are_over_do_not_keep_the_port_taken() -> None:
    alone = bind_alone("127.0.0.1", 0)
    port = alone.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    alone.setblocking(True)  # noqa: FBT003 - the socket module's signature
    accepted, _ = alone.accept()
    accepted.close()  # the side that closes first keeps the port in TIME_WAIT
    client.close()
    alone.close()

    bind_alone("127.0.0.1", port).close()


def test_a_door_that_turns_away_keeps_its_queue_and_takes_nobody_new() -> None:
    door = bind_alone("127.0.0.1", 0)
    address = door.getsockname()
    queued = socket.create_connection(address)

    turn_away(door)
    with pytest.raises(TimeoutError):
        socket.create_connection(address, timeout=0.2)

    accepted, peer = door.accept()
    assert peer == queued.getsockname()
    with pytest.raises(BlockingIOError):
        door.accept()
    for each in (accepted, queued, door):
        each.close()
