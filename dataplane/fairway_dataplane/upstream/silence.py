"""
Endpoints that vanish without a word, told by what they do not acknowledge.

The kernel of a backend acknowledges a request at once, however long its program
takes to answer. If nothing is acknowledged, the address swallows packets: its
pod is gone, or its node has lost its power. TCP alone would go on trying for a
quarter of an hour; with a limit the connection is lost within seconds, and a
request that may be sent again goes elsewhere. Where nothing is left to
acknowledge (the request has arrived, or nobody uses the connection), the other
end is probed.

The one rule: the short limit is only for what fits into any receive buffer.
Linux counts against it also the time in which a peer acknowledges and has no
room for more (tcp(7), TCP_USER_TIMEOUT), and a program may read a large body
more slowly than that.
"""

import socket

SILENCE_SECONDS = 6.0
"""Long enough for five transmissions, or three probes, to be lost one after the other."""

SMALL_BYTES = 16384
"""A body up to this size fits, with its head, into the buffer of any peer."""

IDLE_SECONDS = 3
PROBE_SECONDS = 1
_PROBES = 3


def notice_silence(connection: socket.socket) -> None:
    """Have the kernel end a connection whose other end acknowledges nothing."""
    wait_for_room(connection, SILENCE_SECONDS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def wait_for_room(connection: socket.socket, seconds: float) -> None:
    """Give the other end so long to acknowledge, and to make room for what is sent."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
