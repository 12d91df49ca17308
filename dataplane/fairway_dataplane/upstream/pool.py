"""
Backends as one worker sees them: endpoints, and the connections kept to them.

A connection has one owner: an exchange between checkout and checkin, its
endpoint in between. Both are synchronous; only connecting waits.
"""

import asyncio
import ssl
from collections.abc import Callable

from fairway_dataplane.clock import Clock
from fairway_dataplane.policy import Limits
from fairway_dataplane.tally import BackendTally, Tally
from fairway_snapshot.model import Backend as BackendLeaf
from fairway_snapshot.model import BackendId


class Backend:
    """One backend, alive: it outlives tables, and its endpoints are replaced in place."""

    id: str
    tally: BackendTally

    def update(self, leaf: BackendLeaf) -> None:
        """
        Take another set of endpoints.

        Those that are gone get no new request; what is in flight finishes, and
        their idle connections close.
        """
        raise NotImplementedError


class Upstreams:
    """All backends of one worker, by id."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        limits: Limits,
        tally: Tally,
        client_context: Callable[[str | None], ssl.SSLContext],
    ) -> None:
        """``client_context`` makes the TLS client context for a server name to verify, or None."""

    def backend(self, name: BackendId) -> Backend:
        """Return a backend; one that is not known has no endpoints until :meth:`update`."""
        raise NotImplementedError

    def update(self, name: BackendId, leaf: BackendLeaf | None) -> None:
        """Take the leaf of a new snapshot; None removes the backend."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every idle connection; those in use close when they are handed back."""
        raise NotImplementedError
