"""
The listening sockets: made once by the supervisor, inherited by every worker.

Each worker has a socket of its own on each port (``SO_REUSEPORT``), and the
kernel spreads connections over them. Because the supervisor keeps them, the
queue of a worker that dies stays where it is until somebody accepts again.

Ports are taken at once, so that a taken one is reported at once, but nobody
listens before there is something to serve: until then a client is refused and
may go elsewhere, where a queue would have kept it waiting.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import Literal, TypeAlias

Scheme: TypeAlias = Literal["http", "https"]

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel cuts it to ``net.core.somaxconn``."""


_SO_ATTACH_FILTER = 26
"""socket(7); Python has no name for it."""

_BPF_RETURN = 0x06
"""``BPF_RET | BPF_K``: pass so many bytes of the packet on, here none."""


class PortTakenError(Exception):
    """An address cannot be bound; the message is one line for the person who started us."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sockets of one worker."""

    http: socket.socket
    https: socket.socket

    def listen(self) -> None:
        """Let the kernel complete connections."""
        self.http.listen(BACKLOG)
        self.https.listen(BACKLOG)

    def close(self) -> None:
        """Give up the supervisor's hold; what a worker inherited stays open."""
        self.http.close()
        self.https.close()


def bind_pairs(address: str, *, http_port: int, https_port: int, count: int) -> tuple[Pair, ...]:
    """
    Bind ``count`` sockets on each port; port 0 takes one free port for all.

    Raises PortTakenError.
    """
    http = _bind_group(address, http_port, count)
    https = _bind_group(address, https_port, count)
    return tuple(Pair(*sockets) for sockets in zip(http, https, strict=True))


def bind_alone(address: str, port: int) -> socket.socket:
    """Bind a port that nobody may share, and listen. Raises PortTakenError."""
    alone = _bind(address, port, shared=False)
    alone.listen(128)
    return alone


def turn_away(listening: socket.socket) -> None:
    """
    Have the kernel ignore new connections, so that a queue can be emptied for good.

    Whoever comes now sends its SYN again in a second and is refused then, which
    it may take elsewhere; a connection that the last close finds in the queue
    would have been reset after its client believed it open.
    """
    accept_no_packet = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0), 8)
    program = struct.pack("HL", 1, ctypes.addressof(accept_no_packet))
    # Not every kernel that looks like Linux has socket filters; it was an improvement only.
    with contextlib.suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _bind_group(address: str, port: int, count: int) -> list[socket.socket]:
    # SO_REUSEPORT would let a second data plane of the same user join in and take
    # half of the connections, so ask first whether anybody listens here.
    _bind(address, port, shared=False).close()
    group: list[socket.socket] = []
    for _ in range(count):
        try:
            member = _bind(address, port, shared=True)
        except PortTakenError:
            for bound in group:
                bound.close()
            raise
        group.append(member)
        port = member.getsockname()[1]
    return group


def _bind(address: str, port: int, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        # Without it, connections that are over (TIME_WAIT) would keep the port taken for a minute.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        raise _taken(address, port, error) from error
    return bound


def _taken(address: str, port: int, error: OSError) -> PortTakenError:
    assert error.errno is not None
    reason = os.strerror(error.errno).lower()
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "; stop the other program or choose another port"
    elif error.errno == errno.EACCES:
        hint = "; ports below 1024 need a privilege, choose a higher one"
    shown = f"[{address}]" if ":" in address else address
    return PortTakenError(f"cannot bind {shown}:{port}: {reason}{hint}")
