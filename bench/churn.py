"""
Changes while a contestant is loaded: ten endpoints and one route a second.

The backend has two endpoints of which one is replaced by another each time, as
in a rollout that never ends; and beside the host that is asked for there is
one that gets a new name each second.
"""

import socket
import threading
import time
from collections.abc import Callable
from typing import Self

from bench.backend import ADDRESSES
from bench.peers import Served
from bench.workloads import HOST

INTERVAL_SECONDS = 0.1
ROUTE_EVERY = 10
"""One change of the route for so many of the endpoints."""

SETTLE_SECONDS = 5.0
"""After the load the last change must be served within this time."""


class Churn:
    """A thread that changes what is served, as long as the block lasts."""

    def __init__(self, served: Served, change: Callable[[Served], None]) -> None:
        self._served = served
        self._change = change
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="churn")
        self._number = int(served.hosts[-1].partition(".")[0].removeprefix("edit"))
        self.changes = 0
        self.failed = False
        """Whether the contestant could not be told of a change."""

    @staticmethod
    def host(number: int) -> str:
        """Return the name that the changing route has after so many changes."""
        return f"edit{number}.{HOST}"

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def is_served(self, port: int) -> bool:
        """Wait until the last name of the route answers, and the one before does not."""
        limit = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < limit:
            now, before = self.host(self._number), self.host(self._number - 1)
            if _status(port, now) == 200 and _status(port, before) != 200:
                return True
            time.sleep(0.05)
        return False

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += INTERVAL_SECONDS
            other = ADDRESSES[1 + self.changes % (len(ADDRESSES) - 1)]
            hosts = self._served.hosts
            if self.changes % ROUTE_EVERY == 0:
                self._number += 1
                hosts = (*hosts[:-1], self.host(self._number))
            self._served = Served(hosts, (ADDRESSES[0], other))
            try:
                self._change(self._served)
            except OSError:
                self.failed = True
                return
            self.changes += 1


def _status(port: int, host: str) -> int:
    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as link:
            link.sendall(f"GET /128 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = link.recv(64)
    except OSError:
        return 0
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
