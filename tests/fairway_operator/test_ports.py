"""Listening at every address, whatever family a cluster is of."""

import socket

import pytest

from fairway_operator.ports import listen


def loopbacks() -> list[str]:
    """The addresses at which this machine reaches itself."""
    found = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.create_server((address, 0), family=family):
                found.append(address)
        except OSError:
            continue
    return found


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=30).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_address_is_one_of_each_family(host: str) -> None:
    with listen(host, 0) as listening:
        port = listening.getsockname()[1]

        assert [each for each in loopbacks() if answers(each, port)] == loopbacks()


def test_one_address_is_no_other() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]

        assert [each for each in loopbacks() if answers(each, port)] == ["127.0.0.1"]


def test_a_port_is_not_taken_twice() -> None:
    with (
        listen("0.0.0.0", 0) as listening,
        pytest.raises(OSError, match="Address already in use"),
    ):
        listen("127.0.0.1", listening.getsockname()[1])
