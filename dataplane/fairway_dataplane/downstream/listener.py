"""
Accepting: listening sockets, the connections that came from them, and their end.

A listener owns every connection it accepted until that is closed; nobody else
counts them.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from fairway_dataplane.clock import Clock
from fairway_dataplane.policy import Limits
from fairway_dataplane.proxy import Proxy
from fairway_dataplane.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What a backend is told about the client."""

    trusted: tuple[IPv4Network | IPv6Network, ...] = field(default=())
    """Proxies whose X-Forwarded-* and Forwarded are believed and appended to."""

    forwarded: bool = False
    """Send Forwarded (RFC 7239) too."""

    via: bool = True
    """Send Via, as RFC 9110 section 7.6.3 wants from a gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What a drain ended."""

    finished: int
    """Connections whose last answer was complete."""
    aborted: int
    """Connections cut off at the limit."""


class Listener:
    """The client connections of one worker, from all of its sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        proxy: Proxy,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        forwarding: Forwarding,
    ) -> None:
        raise NotImplementedError

    async def accept(
        self,
        sock: socket.socket,
        wrap: Callable[[asyncio.Protocol], asyncio.Protocol] | None = None,
    ) -> None:
        """
        Accept on a listening socket from now on.

        ``wrap`` puts the TLS layer around the protocol of one connection; None
        is plain HTTP.
        """
        raise NotImplementedError

    def stop_accepting(self, sock: socket.socket | None = None) -> None:
        """Accept no more on one socket, or on all. Sockets stay open: they are the supervisor's."""
        raise NotImplementedError

    async def drain(self, limit_seconds: float) -> DrainReport:
        """
        Stop accepting, say ``connection: close`` on last answers, close what is idle.

        Exchanges in flight have ``limit_seconds`` to finish; then they are cut off.
        """
        raise NotImplementedError

    def connections(self) -> list[dict[str, object]]:
        """Describe each open connection, for the debug page."""
        raise NotImplementedError
